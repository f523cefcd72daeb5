"""Captioners of a run: built for its data, saved with what they need to be used again, and loaded."""

from pathlib import Path
from typing import Any

import torch

from vln_clip import checkpoint
from vln_clip.caption.config import CaptionConfig, settings_of
from vln_clip.caption.data import CaptionData
from vln_clip.errors import InputError
from vln_clip.image_grids import describe_grids, features_used
from vln_clip.tasks.captioning.models.recipes import CaptionModelConfig
from vln_clip.tasks.captioning.models.transformer import CaptionTransformer
from vln_clip.tasks.captioning.ngrams import fingerprint
from vln_clip.tasks.captioning.vocabulary import CaptionVocabulary

TRANSFORMER, NO_IMAGE = "transformer", "no_image"
XE_SUFFIX = "_xe"
BEST, LAST = "best_val", "last"


def build(sizes: CaptionModelConfig, vocabulary_size: int, grid_width: int | None, seed: int) -> CaptionTransformer:
    """Build a captioner with fresh weights; ``grid_width=None`` never sees an image."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CaptionTransformer(
            vocabulary_size,
            grid_width,
            width=sizes.width,
            hidden_width=sizes.hidden_width,
            num_layers=sizes.num_layers,
            num_heads=sizes.num_heads,
            dropout_p=sizes.dropout,
            visual_dropout_p=sizes.visual_dropout,
            norm=sizes.norm,
        )


def header(config: CaptionConfig, data: CaptionData, sees: bool) -> dict[str, Any]:
    """Return what a checkpoint must know to be used again."""
    grids = data.grids if sees else None
    return {
        "task": "caption",
        "dataset": config.dataset,
        "features": features_used(grids),
        "features_wanted": config.features if sees else "none",
        "feature_width": data.grid_width if sees else None,
        "data": {"words": fingerprint(data.vocabulary)},
        "grid": describe_grids(grids),
        "words": list(data.vocabulary.words),
        "config": config.to_json(),
        "seed": config.seed,
    }


def load(folder: Path, device: torch.device) -> tuple[CaptionTransformer, CaptionConfig, dict[str, Any]]:
    """Load a captioner.

    Args:
        folder: of a checkpoint: ``runs/NAME/checkpoints/STAGE/best_val``.
        device: where it goes.

    Returns:
        The model in evaluation mode, its configuration, and its header.

    Raises:
        InputError: no such checkpoint, or one of another task.
    """
    saved = checkpoint.load(folder)
    info = saved.header
    if info.get("task") != "caption":
        raise InputError(f"{folder} must be a checkpoint of python -m vln_clip.caption, got one of another program")
    config = settings_of(info["config"])
    vocabulary = CaptionVocabulary(info["words"])
    model = build(config.model, vocabulary.size, info["feature_width"], seed=0)
    checkpoint.restore_weights(model, saved.weights, folder)
    return model.to(device).eval(), config, info
