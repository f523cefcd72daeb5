"""Using trained captioners: scores on a split, and captions of a user's own pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from vln_clip import checkpoint, log, paths
from vln_clip.caption.data import TEST, VAL, CaptionData, find_dataset
from vln_clip.caption.model import NO_IMAGE, load
from vln_clip.caption.scoring import score_split, written
from vln_clip.caption.writing import Writer
from vln_clip.demo_pictures import drawn_pictures
from vln_clip.devices import pick_device
from vln_clip.encoders import check_name, create_encoder
from vln_clip.errors import InputError
from vln_clip.features.images import ImageFile, check_images, list_images
from vln_clip.features.live import ImageGrids
from vln_clip.features.recipes import PRESETS, recipe_for
from vln_clip.image_grids import BLIND, describe_grids, require_alike
from vln_clip.report import models_table
from vln_clip.tables import print_tables
from vln_clip.tasks.captioning.files import find_file, read_annotations, select
from vln_clip.tasks.captioning.metrics import CIDER
from vln_clip.tasks.captioning.models.recipes import WritingConfig
from vln_clip.tasks.captioning.records import CaptionedImage
from vln_clip.tasks.captioning.results import read_results, validate_results, write_results
from vln_clip.tasks.captioning.vocabulary import CaptionVocabulary
from vln_clip.trained import find_stages

PROG = "python -m vln_clip.caption"
MOST_AT_ONCE = 32


@dataclass(frozen=True)
class Evaluate:
    """Score the captioners of a run, or a result file, on a split with public captions; or check a result file."""

    checkpoint: Path | None = None
    """run's folder, or that of one checkpoint"""
    results: Path | None = None
    """COCO result file to score in place of a checkpoint"""
    validate: Path | None = None
    """COCO result file to check in place of scoring: one caption for every image of the split"""
    dataset: str = "auto"
    """of --results and --validate: coco, demo"""
    split: str = TEST
    """val or test of Karpathy's"""
    out: Path | None = None
    """also write the captions of the best captioner into this COCO result file"""
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
    given = [name for name in ("checkpoint", "results", "validate") if getattr(config, name) is not None]
    if len(given) != 1:
        found = ", ".join(f"--{name}" for name in given) or "none"
        raise InputError(f"one of --checkpoint, --results and --validate must be given, got {found}")
    if config.out is not None and config.checkpoint is None:
        raise InputError(f"--out writes what a checkpoint says about images, got it with --{given[0]}")
    if config.validate is not None:
        _validate(config, config.validate)
        return
    rows: dict[str, dict[str, Any]] = {}
    if config.results is not None:
        references = {image.image_id: image.captions for image in _images(config)}
        rows[config.results.stem] = score_split(read_results(config.results), references)
    else:
        assert config.checkpoint is not None
        stages = find_stages(config.checkpoint)
        best = _best(stages)
        for name, folder in stages.items():
            captions, rows[name] = _score(folder, config)
            if config.out is not None and name == best:
                write_results(config.out, captions)
                log.logger.info("%d captions of %s: %s", len(captions), name, config.out)
    title = f"{config.results or config.checkpoint}: {config.split}"
    print_tables([models_table(title, {config.split: rows})])


def _images(config: Evaluate) -> list[CaptionedImage]:
    """Return the captioned images of a split."""
    folder = drawn_pictures() if find_dataset(config.dataset) == "demo" else paths.data_dir()
    return select(read_annotations(find_file(folder, config.split), config.split), config.split)


def _validate(config: Evaluate, path: Path) -> None:
    """Check a result file; exit status 2 where something is wrong with it."""
    problems, warnings = validate_results(path, [image.image_id for image in _images(config)])
    for problem in (*problems, *warnings):
        print(f"{problem.place or path}: {'' if problem in problems else 'warning: '}{problem.message}")
    if problems:
        raise SystemExit(2)
    print(f"{path}: valid, {len(read_results(path))} captions of {config.split}")


def _best(stages: Mapping[str, Path]) -> str:
    """Return the stage of the best captioner that sees, by its score on the validation split; the earlier of equals."""
    scores = {}
    for name, folder in stages.items():
        header = checkpoint.load(folder).header
        scores[name] = (not name.startswith(NO_IMAGE), header.get("scores", {}).get(VAL, {}).get(CIDER, 0.0))
    return max(scores, key=scores.__getitem__)


def _score(folder: Path, config: Evaluate) -> tuple[dict[int, str], dict[str, Any]]:
    """Return captions and scores of one captioner."""
    model, settings, info = load(folder, pick_device(config.device))
    vocabulary = CaptionVocabulary(info["words"])
    data = CaptionData(settings, next(model.parameters()).device, vocabulary)
    sees = info["features_wanted"] != BLIND
    if sees:
        require_alike(data.grids, info["grid"], folder)
    captions = written(Writer(model, vocabulary, config.writing), data, config.split, sees)
    return captions, score_split(captions, data.references(config.split)) | {"features": info["features"]}


def caption(argv: list[str]) -> None:
    """Run ``caption``: print one line per picture."""
    config = tyro.cli(Caption, args=argv, prog=f"{PROG} caption")
    if not config.images:
        raise InputError(f"give at least one image file or folder: {PROG} caption IMAGE --checkpoint runs/NAME")
    stages = find_stages(config.checkpoint)
    name = _best(stages)
    if name.startswith(NO_IMAGE):
        raise InputError(f"--checkpoint must hold a captioner that sees, got {config.checkpoint} with {list(stages)}")
    model, _, info = load(stages[name], pick_device(config.device))
    # Keyed by the whole path: pictures of two folders may have one name.
    listed = [image for place in config.images for image in list_images([place], "pictures")]
    images = [replace(image, key=str(image.path)) for image in listed]
    grids = _grids(info, images, next(model.parameters()).device)
    writer = Writer(model, CaptionVocabulary(info["words"]), config.writing)
    for start in range(0, len(images), MOST_AT_ONCE):
        keys = [image.key for image in images[start : start + MOST_AT_ONCE]]
        texts = writer.vocabulary.decode(writer.write(grids.read(keys)).tolist())
        for key, text in zip(keys, texts, strict=True):
            print(f"{key}: {text}")


def _grids(info: dict[str, Any], images: Sequence[ImageFile], device: torch.device) -> ImageGrids:
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
    interpolation: Any = "bilinear" if "bilinear" in noted["resize"] else "bicubic"
    recipe = replace(recipe_for(encoder, preset, tuple(noted["image_size_px"]), interpolation), exif=True)
    check_images(images, encoder.min_side_px)
    grids = ImageGrids(encoder, images, recipe)
    here = describe_grids(grids)
    for key in ("weights", "resize", "layer"):
        if here[key] != noted[key]:
            raise InputError(
                f"pictures must be seen as those that the captioner was trained on, but its grids were made with "
                f"{key} {noted[key]!r}, and here it would be {here[key]!r}; train on features of the encoder's own "
                "weights and of a preset"
            )
    return grids
