"""Using trained captioners: scores on a split, and captions of a user's own pictures."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from vln_clip import paths
from vln_clip.caption.data import TEST, CaptionData, find_dataset
from vln_clip.caption.model import NO_IMAGE, load
from vln_clip.caption.scoring import score_split, written
from vln_clip.caption.writing import Writer
from vln_clip.demo_pictures import drawn_pictures
from vln_clip.devices import pick_device
from vln_clip.encoders import check_name, create_encoder
from vln_clip.errors import InputError
from vln_clip.features.images import check_images, list_images
from vln_clip.features.live import ImageGrids
from vln_clip.features.recipes import PRESETS, recipe_for
from vln_clip.image_grids import BLIND
from vln_clip.report import models_table
from vln_clip.tables import print_tables
from vln_clip.tasks.captioning.files import find_file, read_annotations, select
from vln_clip.tasks.captioning.models.recipes import WritingConfig
from vln_clip.tasks.captioning.results import read_results
from vln_clip.tasks.captioning.vocabulary import CaptionVocabulary
from vln_clip.trained import find_stages

PROG = "python -m vln_clip.caption"
MOST_AT_ONCE = 32


@dataclass(frozen=True)
class Evaluate:
    """Score the captioners of a run, or a result file, on a split with public captions."""

    checkpoint: Path | None = None
    """run's folder, or that of one checkpoint"""
    results: Path | None = None
    """COCO result file to score in place of a checkpoint"""
    dataset: str = "auto"
    """of --results: coco, demo"""
    split: str = TEST
    """val or test of Karpathy's"""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto takes a GPU where there is one"""
    writing: Annotated[WritingConfig, tyro.conf.arg(name="")] = field(default_factory=WritingConfig)


@dataclass(frozen=True)
class Caption:
    """Write captions of image files."""

    images: tyro.conf.Positional[tuple[Path, ...]]
    """files, or folders with their sub-folders"""
    checkpoint: Path
    """run's folder, or that of one checkpoint"""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto takes a GPU where there is one"""
    writing: Annotated[WritingConfig, tyro.conf.arg(name="")] = field(default_factory=WritingConfig)


def evaluate(argv: list[str]) -> None:
    """Run ``evaluate``."""
    config = tyro.cli(Evaluate, args=argv, prog=f"{PROG} evaluate")
    if (config.checkpoint is None) == (config.results is None):
        found = "none" if config.checkpoint is None else "both"
        raise InputError(f"one of --checkpoint and --results must be given, got {found}")
    rows: dict[str, dict[str, Any]] = {}
    if config.results is not None:
        dataset = find_dataset(config.dataset)
        folder = drawn_pictures() if dataset == "demo" else paths.data_dir()
        images = select(read_annotations(find_file(folder, config.split), config.split), config.split)
        references = {image.image_id: image.captions for image in images}
        rows[config.results.stem] = score_split(read_results(config.results), references)
    else:
        assert config.checkpoint is not None
        for name, folder in find_stages(config.checkpoint).items():
            rows[name] = _score(folder, config)
    title = f"{config.results or config.checkpoint}: {config.split}"
    print_tables([models_table(title, {config.split: rows})])


def _score(folder: Path, config: Evaluate) -> dict[str, Any]:
    """Score one captioner."""
    model, settings, info = load(folder, pick_device(config.device))
    vocabulary = CaptionVocabulary(info["words"])
    data = CaptionData(settings, next(model.parameters()).device, vocabulary)
    sees = info["features_wanted"] != BLIND
    captions = written(Writer(model, vocabulary, config.writing), data, config.split, sees)
    return score_split(captions, data.references(config.split)) | {"features": info["features"]}


def caption(argv: list[str]) -> None:
    """Run ``caption``: print one line per picture."""
    config = tyro.cli(Caption, args=argv, prog=f"{PROG} caption")
    stages = find_stages(config.checkpoint)
    name = next((name for name in reversed(stages) if not name.startswith(NO_IMAGE)), None)
    if name is None:
        raise InputError(f"--checkpoint must hold a captioner that sees, got {config.checkpoint} with {list(stages)}")
    model, _, info = load(stages[name], pick_device(config.device))
    images = list_images(config.images)
    grids = _grids(info, images, next(model.parameters()).device)
    writer = Writer(model, CaptionVocabulary(info["words"]), config.writing)
    keys = [image.key for image in images]
    for start in range(0, len(keys), MOST_AT_ONCE):
        part = keys[start : start + MOST_AT_ONCE]
        texts = writer.vocabulary.decode(writer.write(grids.read(part)).tolist())
        for image, text in zip(images[start : start + MOST_AT_ONCE], texts, strict=True):
            print(f"{image.path}: {text}")


def _grids(info: dict[str, Any], images: Any, device: torch.device) -> ImageGrids:
    """Return the grids of pictures, made as those that the captioner was trained on; pictures are turned upright."""
    noted = info["grid"]
    try:
        check_name(noted["encoder"])
    except (KeyError, InputError):
        raise InputError(
            "captions of one's own pictures need the encoder that the captioner was trained with, but its features "
            f"({info['features']}) do not say which it was; train on features made by python -m vln_clip.extract"
        ) from None
    encoder = create_encoder(noted["encoder"], True, device)
    preset = noted["preset"] if noted["preset"] in PRESETS else None
    recipe = replace(recipe_for(encoder, preset, tuple(noted["image_size_px"])), exif=True)
    check_images(images, encoder.min_side_px)
    return ImageGrids(encoder, images, recipe)
