"""Reading the public pre-processed labels: ``cocotalk.json`` and ``cocotalk_label.h5`` (specification 3.1)."""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from vln_clip.errors import InputError
from vln_clip.features.formats import open_hdf5
from vln_clip.reading import read_json
from vln_clip.tasks.captioning.files import KARPATHY_SPLITS, RESTVAL, TRAIN
from vln_clip.tasks.captioning.table import MAX_WORDS, CaptionTable
from vln_clip.tasks.captioning.vocabulary import END, CaptionVocabulary

COLUMNS = ("labels", "label_start_ix", "label_end_ix")
MAX_LABELS = 1 << 27  # numbers; COCO has 10 million
# What h5py raises where a file is damaged.
_HDF5_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError)


def read_labels(
    info: Path, labels: Path, split: str, train_only: bool = False
) -> tuple[CaptionVocabulary, CaptionTable]:
    """Read vocabulary and captions of a split.

    Args:
        info: ``cocotalk.json``.
        labels: ``cocotalk_label.h5``; needs h5py.
        split: one of Karpathy's; ``train`` includes ``restval`` unless ``train_only``.
        train_only: see there.

    Raises:
        InputError: a missing or malformed file, or two files that do not fit together.
    """
    vocabulary = CaptionVocabulary.read(info)
    images = _images(info)
    rows, start, end = _columns(labels)
    _check(labels, info, len(images), rows, start, end, vocabulary)
    wanted = {TRAIN, RESTVAL} if split == TRAIN and not train_only else {split}
    chosen = [number for number, (_, _, own) in enumerate(images) if own in wanted and end[number] >= start[number]]
    if not chosen:
        there = sorted({own for _, _, own in images})
        raise InputError(f"file {info} must have captioned images of split {split!r}, got only {', '.join(there)}")
    picked = np.array(chosen)
    table = CaptionTable(
        tuple(images[number][0] for number in chosen),
        torch.tensor([images[number][1] for number in chosen]),
        torch.from_numpy(rows.astype(np.int32)),
        torch.from_numpy(start[picked] - 1),
        torch.from_numpy(end[picked] - start[picked] + 1),
    )
    return vocabulary, table


def _images(path: Path) -> list[tuple[str, int, str]]:
    """Return key, id and split of every picture of ``cocotalk.json``."""
    content = read_json(path)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not images:
        raise InputError(f"file {path} must be a JSON object with a list 'images' that is not empty")
    return [_image(f"{path}: images {number}", item) for number, item in enumerate(images)]


def _image(where: str, item: object) -> tuple[str, int, str]:
    if not isinstance(item, dict):
        raise InputError(f"{where} must be an object, got {item!r:.60}")
    name, image_id, split = item.get("file_path"), item.get("id"), item.get("split")
    key = PurePosixPath(name).stem if isinstance(name, str) else ""
    if not key or not key.isprintable():
        raise InputError(f"{where}: file_path must be the name of an image file, got {name!r:.60}")
    if type(image_id) is not int or not 0 <= image_id < 1 << 63:
        raise InputError(f"{where}: id must be a whole number from 0 to 2^63, got {image_id!r:.40}")
    if split not in KARPATHY_SPLITS:
        raise InputError(f"{where}: split must be one of {', '.join(KARPATHY_SPLITS)}, got {split!r:.40}")
    return key, image_id, split


def _columns(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the label rows and the first and last caption of each image, counted from 1; int64."""
    if not path.is_file():
        raise InputError(f"file {path} does not exist")
    with open_hdf5(path, "r") as file:
        try:
            labels, start, end = (_column(file, name) for name in COLUMNS)
        except _HDF5_ERRORS as error:
            raise InputError(f"{path} must hold whole numbers in {', '.join(COLUMNS)}, but: {error!s:.200}") from None
    return labels, start, end


def _column(file: Any, name: str) -> np.ndarray:
    """Return a data set as int64; what is wrong with it raises what that raises."""
    found = file[name]
    if found.dtype.kind not in "iu" or found.size > MAX_LABELS:
        raise ValueError(f"{name} is {found.dtype} of shape {found.shape}")
    return np.asarray(found[()]).astype(np.int64)


def _check(
    labels: Path,
    info: Path,
    num_images: int,
    rows: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    vocabulary: CaptionVocabulary,
) -> None:
    """Check that columns fit each other, the pictures and the vocabulary."""
    if rows.ndim != 2 or rows.shape[1] != MAX_WORDS or not len(rows):
        raise InputError(f"{labels}: labels must be rows of {MAX_WORDS} numbers, got shape {rows.shape}")
    if start.shape != (num_images,) or end.shape != (num_images,):
        raise InputError(
            f"{labels} must have label_start_ix and label_end_ix for the {num_images:,} images of {info}, "
            f"got shapes {start.shape} and {end.shape}"
        )
    if (start < 1).any() or (end < start - 1).any() or (end > len(rows)).any():
        raise InputError(f"{labels}: label_start_ix and label_end_ix must lie between 1 and {len(rows):,}, in order")
    if (rows < 0).any() or (rows >= vocabulary.size).any():
        raise InputError(f"{labels}: labels must be from 0 to {vocabulary.size - 1}, the words of {info}")
    ended = rows == END
    if (ended[:, :-1] & ~ended[:, 1:]).any() or ended[:, 0].any():
        raise InputError(f"{labels}: labels must be words followed by 0 alone, and at least one word")
