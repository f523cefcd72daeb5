"""Models of a VQA run: built for its data, saved with what they need to be used again, and loaded."""

from pathlib import Path
from typing import Any

import torch

from vln_clip import checkpoint
from vln_clip.errors import InputError
from vln_clip.image_grids import BLIND, describe_grids, features_used, require_alike
from vln_clip.tasks.vqa.models import VqaModel, build_vqa_model
from vln_clip.tasks.vqa.vocabulary import AnswerVocabulary
from vln_clip.tasks.vqa.words import QuestionVocabulary
from vln_clip.token_reader import reader_of
from vln_clip.vqa.config import VqaConfig, settings_of
from vln_clip.vqa.data import VqaData

QUESTION_ONLY = "question_only"
BEST, LAST = "best_val", "last"


def build(config: VqaConfig, data: VqaData, seed: int) -> VqaModel:
    """Build a model with fresh weights; one without images has the width of the others and does not use it."""
    reader = data.reader
    sizes = config.sizes | {"word_width": data.word_width}
    num_words = len(data.words) if reader is None else None
    tower = None if reader is None else reader.own_tower()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_vqa_model(
            config.model, num_words, data.grid_width, len(data.answers), data.vectors, text_tower=tower, **sizes
        )
    return model.to(data.device)


def header(config: VqaConfig, data: VqaData, sees: bool) -> dict[str, Any]:
    """Return what a checkpoint must know to be used again."""
    grids = data.grids if sees else None
    return {
        "task": "vqa",
        "dataset": config.dataset,
        "features": features_used(grids),
        "features_wanted": config.features if sees else "none",
        "feature_width": data.grid_width,
        "data": {"questions": data.words.digest, "answers": len(data.answers)},
        "grid": describe_grids(grids),
        "word_width": data.word_width,
        "style": data.words.style,
        "words": list(data.words.words[data.words.num_special :]),
        "answers": list(data.answers.answers),
        "config": config.to_json(),
        "seed": config.seed,
    } | ({} if data.reader is None else {"text_encoder": data.reader.to_json()})


def load(folder: Path, device: torch.device) -> tuple[VqaModel, VqaData, dict[str, Any]]:
    """Load a model with the data that it was trained on.

    Args:
        folder: of a checkpoint: ``runs/NAME/checkpoints/STAGE/best_val``.
        device: where it goes.

    Returns:
        The model in evaluation mode, the data with its vocabularies, and the header.

    Raises:
        InputError: no such checkpoint, one of another task, or one that was trained on other grids.
    """
    saved = checkpoint.load(folder)
    info = saved.header
    if info.get("task") != "vqa":
        raise InputError(f"{folder} must be a checkpoint of python -m vln_clip.vqa, got one of another program")
    config = settings_of(info["config"])
    words = QuestionVocabulary(info["words"], info["style"])
    reader = reader_of(info.get("text_encoder"), config.text, device, folder)
    data = VqaData(config, device, words, AnswerVocabulary(info["answers"]), reader)
    sizes = config.sizes | {"word_width": info["word_width"]}
    num_words = len(words) if reader is None else None
    tower = None if reader is None else reader.own_tower()
    model = build_vqa_model(
        config.model, num_words, info["feature_width"], len(data.answers), None, text_tower=tower, **sizes
    )
    checkpoint.restore_weights(model, saved.weights, folder)
    if info["features_wanted"] != BLIND:
        require_alike(data.grids, info["grid"], folder)
    return model.to(device).eval(), data, info
