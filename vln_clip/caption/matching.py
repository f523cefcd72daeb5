"""What an encoder with a text tower makes of captions: how well they find their images, and CLIPScore of written ones.

Two verbs, because they take different things: ``retrieve`` rates the encoder on what people wrote, ``score`` rates a
result file with the encoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from torch import Tensor

from vln_clip import files, log, paths
from vln_clip.caption.data import TEST, find_dataset
from vln_clip.demo_pictures import COCO_FOLDERS, drawn_pictures
from vln_clip.errors import InputError
from vln_clip.features.matching import Matcher, MatchingConfig, drawn, find_images
from vln_clip.report import add_rows, models_table, read_rows
from vln_clip.run_config import require
from vln_clip.tables import print_tables
from vln_clip.tasks.captioning.files import find_file, read_annotations, select
from vln_clip.tasks.captioning.records import CaptionedImage
from vln_clip.tasks.captioning.results import read_results
from vln_clip.tasks.captioning.retrieval import (
    SCORE_PREFIX,
    clip_scores,
    image_index,
    reference_clip_scores,
    retrieval_recalls,
)

PROG = "python -m vln_clip.caption"
CAPTIONS_PER_IMAGE = 5  # the first ones, as in the published numbers; some images have more
CLIP_SCORE, REF_CLIP_SCORE = "CLIPScore", "RefCLIPScore"


@dataclass(frozen=True)
class RetrieveConfig(MatchingConfig):
    """Let captions find their images and images their captions: R@1, R@5 and R@10 of an encoder."""

    dataset: str = "auto"
    """coco, demo; auto takes COCO where $VLN_CLIP_DATA holds it, else the demo's pictures"""
    split: str = TEST
    """val or test of Karpathy's"""
    limit: int | None = None
    """most images, drawn with --seed; by default all. Fewer are easier: compare equal numbers only"""
    seed: int = 0
    """of the draw"""
    prefix: str = ""
    """words before every caption, e.g. 'a photo of '"""
    out: Path | None = None
    """results.json to write the row into; other rows in it stay"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.limit is None or self.limit > 0, "limit", "positive", self.limit)


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(MatchingConfig):
    """Score written captions by how near they are to their images (CLIPScore) and to people's, too (RefCLIPScore)."""

    results: Path
    """COCO result file"""
    dataset: str = "auto"
    """coco, demo; auto takes COCO where $VLN_CLIP_DATA holds it, else the demo's pictures"""
    split: str = TEST
    """val or test of Karpathy's"""
    prefix: str = SCORE_PREFIX
    """words before every caption; published scores have the default"""
    details: Path | None = None
    """JSON file to write the scores of every caption into"""
    out: Path | None = None
    """results.json to write the row into; other rows in it stay"""


def retrieve(argv: list[str]) -> None:
    """Run ``retrieve``."""
    config = tyro.cli(RetrieveConfig, args=argv, prog=f"{PROG} retrieve")
    matcher = _begin(config, config.out)
    folder, everything = _read(config.dataset, config.split)
    images = [everything[i] for i in drawn(len(everything), config.limit, config.seed)]
    texts = [config.prefix + text for image in images for text in image.captions[:CAPTIONS_PER_IMAGE]]
    of = image_index([len(image.captions[:CAPTIONS_PER_IMAGE]) for image in images]).to(matcher.device)
    seen = _see(matcher, folder, images)
    recalls = retrieval_recalls(seen, matcher.encode_texts(texts), of)
    row = recalls | _origin(matcher) | {"num_images": len(images), "num_captions": len(texts), "seed": config.seed}
    drawn_from = "" if len(images) == len(everything) else f" of {len(everything):,}, drawn with seed {config.seed}"
    title = f"{config.split}: retrieval among {len(images):,} images{drawn_from} and {len(texts):,} captions"
    _show(title, config.split, {f"retrieval_{_row_name(matcher)}": row}, config.out)


def score(argv: list[str]) -> None:
    """Run ``score``."""
    config = tyro.cli(ScoreConfig, args=argv, prog=f"{PROG} score")
    captions = read_results(config.results)
    matcher = _begin(config, config.out)
    folder, everything = _read(config.dataset, config.split)
    images = [image for image in everything if image.image_id in captions]
    if not images:
        raise InputError(
            f"file {config.results} must have captions of images of split {config.split!r}, got {len(captions):,} "
            "captions of others; name their split with --split"
        )
    if len(captions) > len(images):
        log.logger.info("%s: %d captions of other images are left out", config.results, len(captions) - len(images))
    texts = [captions[image.image_id] for image in images]
    direct, joint = score_captions(matcher, _see(matcher, folder, images), images, texts, config.prefix)
    row: dict[str, Any] = {CLIP_SCORE: direct.mean().item(), REF_CLIP_SCORE: joint.mean().item()}
    row |= _origin(matcher) | {"num_images": len(images)}
    if config.details is not None:
        scores = zip(images, texts, direct.tolist(), joint.tolist(), strict=True)
        items = [
            {"image_id": image.image_id, "caption": text, CLIP_SCORE: one, REF_CLIP_SCORE: other}
            for image, text, one, other in scores
        ]
        files.save_json(config.details, items)
        log.logger.info("scores of %d captions: %s", len(items), config.details)
    title = f"{config.results}: CLIPScore of {len(images):,} of {len(everything):,} images of {config.split}"
    _show(title, config.split, {config.results.stem: row}, config.out)


def score_captions(
    matcher: Matcher, seen: Tensor, images: Sequence[CaptionedImage], texts: Sequence[str], prefix: str
) -> tuple[Tensor, Tensor]:
    """Score one caption per image.

    Args:
        matcher: both towers.
        seen: vectors of the images, (N, D) of length 1.
        images: with people's captions.
        texts: the captions, one per image.
        prefix: before every caption, people's too.

    Returns:
        CLIPScore and RefCLIPScore, (N,) float32 each.
    """
    written = matcher.encode_texts([prefix + text for text in texts])
    references = matcher.encode_texts([prefix + text for image in images for text in image.captions])
    of = image_index([len(image.captions) for image in images]).to(matcher.device)
    direct = clip_scores(seen, written)
    return direct, reference_clip_scores(direct, written, references, of)


def _begin(config: MatchingConfig, out: Path | None) -> Matcher:
    """Tell of a bad ``--out`` and of missing weights before anything is read, and return the towers."""
    if out is not None:
        read_rows(out)
    return Matcher.create(config)


def _read(dataset: str, split: str) -> tuple[Path, list[CaptionedImage]]:
    """Return the data folder and the captioned images of a split; those without captions are left out."""
    folder = drawn_pictures() if find_dataset(dataset) == "demo" else paths.data_dir()
    images = [image for image in select(read_annotations(find_file(folder, split), split), split) if image.captions]
    if not images:
        raise InputError(f"split {split!r} must have public captions to compare with, got none; name another --split")
    return folder, images


def _see(matcher: Matcher, folder: Path, images: Sequence[CaptionedImage]) -> Tensor:
    return matcher.encode_images(find_images(folder, COCO_FOLDERS, [image.image for image in images]))


def _origin(matcher: Matcher) -> dict[str, str]:
    return {"features": matcher.label, "weights": matcher.text.weights}


def _row_name(matcher: Matcher) -> str:
    return matcher.label.replace(" ", "_")


def _show(title: str, split: str, rows: dict[str, dict[str, Any]], out: Path | None) -> None:
    """Print rows, and add them to a file where one is wanted."""
    print_tables([models_table(title, {split: rows})])
    if out is not None:
        add_rows(out, split, rows)
        log.logger.info("rows %s of %s: %s", ", ".join(rows), split, out)
