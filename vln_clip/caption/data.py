"""What a captioning run reads: captioned images of every split, the vocabulary, image grids; and of which data set."""

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from vln_clip import log, paths
from vln_clip.caption.config import DATASETS, CaptionConfig
from vln_clip.demo_pictures import COCO_FOLDERS, drawn_pictures
from vln_clip.errors import unknown_name
from vln_clip.features.grid import GridReader
from vln_clip.image_grids import DEMO, GridsWanted, find_grids, place_of
from vln_clip.tasks.captioning.files import COCO_FILES, FOLDER, find_file, read_annotations, require_features, select
from vln_clip.tasks.captioning.ngrams import NgramCounts
from vln_clip.tasks.captioning.records import CaptionedImage
from vln_clip.tasks.captioning.table import CaptionTable
from vln_clip.tasks.captioning.vocabulary import CaptionVocabulary

AUTO = "auto"
TRAIN, VAL, TEST = "train", "val", "test"
DEMO_RARE_COUNT = 0  # the demo's few words are all kept


def find_dataset(name: str) -> str:
    """Turn ``auto`` into ``coco`` where the data folder holds it, else ``demo``, and say which."""
    if name not in (AUTO, *DATASETS):
        raise unknown_name("--dataset", name, (AUTO, *DATASETS))
    if name != AUTO:
        return name
    folder = paths.data_dir() / FOLDER
    if (folder / "dataset_coco.json").is_file() or (folder / COCO_FILES["train"]).is_file():
        log.logger.info("data set: coco, found in %s (--dataset demo takes the demo's pictures)", folder)
        return "coco"
    log.logger.info(
        "data set: demo, pictures of the world this package generates (real COCO: put dataset_coco.json into %s)",
        folder.absolute(),
    )
    return "demo"


class CaptionData:
    """Everything that is read, each when it is first asked for.

    Args:
        config: of the run; ``dataset`` is no longer ``auto``.
        device: where tables go.
        vocabulary: of a trained model; None builds it of the captions, of all splits as the reference does.
    """

    def __init__(
        self, config: CaptionConfig, device: torch.device, vocabulary: CaptionVocabulary | None = None
    ) -> None:
        self.config, self.device = config, device
        self.folder = drawn_pictures() if self.is_demo else paths.data_dir()
        self._images: dict[Path, list[CaptionedImage]] = {}
        self._tables: dict[str, CaptionTable] = {}
        self.vocabulary = vocabulary or self._build_vocabulary()

    @property
    def is_demo(self) -> bool:
        """Return whether the pictures are generated."""
        return self.config.dataset == "demo"

    @property
    def splits(self) -> list[str]:
        """Return the splits that are scored."""
        karpathy = self._read(find_file(self.folder, VAL))
        return [split for split in (VAL, TEST) if any(image.split == split for image in karpathy)]

    def images(self, split: str) -> list[CaptionedImage]:
        """Return the captioned images of a split; every one of them has a grid."""
        found = select(self._read(find_file(self.folder, split), split), split, self.config.train_only)
        if self.grids is not None:
            require_features(found, self.grids, place_of(self.grids))
        return found

    def table(self, split: str) -> CaptionTable:
        """Return captions as tensors."""
        if split not in self._tables:
            self._tables[split] = CaptionTable.build(self.images(split), self.vocabulary).to(self.device)
        return self._tables[split]

    def references(self, split: str) -> dict[int, tuple[str, ...]]:
        """Return what people wrote, by image id."""
        return {image.image_id: image.captions for image in self.images(split)}

    @cached_property
    def counts(self) -> NgramCounts:
        """Return the document frequencies of the training captions, for rewards."""
        return NgramCounts.build(self.images(TRAIN), self.vocabulary)

    @cached_property
    def grids(self) -> GridReader | None:
        """Return the grids of the images; None with ``--features none``."""
        preset = DEMO if self.is_demo else "caption"
        return find_grids(GridsWanted(self.config.features, preset, self.folder, COCO_FOLDERS), self.device)

    @property
    def grid_width(self) -> int | None:
        """Return C; None where nothing is seen."""
        return None if self.grids is None else self.grids.shape[0]

    def read_grids(self, table: CaptionTable, rows: Tensor) -> Tensor:
        """Return the grids of images, (B, C, h, w) on the device."""
        assert self.grids is not None, "a data set with features"
        return self.grids.read([table.images[i] for i in rows.tolist()]).to(self.device, non_blocking=True)

    def _read(self, path: Path, split: str = "") -> list[CaptionedImage]:
        if path not in self._images:
            self._images[path] = read_annotations(path, split)
        return self._images[path]

    def _build_vocabulary(self) -> CaptionVocabulary:
        path = find_file(self.folder, TRAIN)
        images = self._read(path, TRAIN)
        if self.is_demo:
            return CaptionVocabulary.build([image for image in images if image.split == TRAIN], DEMO_RARE_COUNT)
        return CaptionVocabulary.build(images)
