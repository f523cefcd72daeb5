"""Using fine-tuned CLIP-ViL_p models: scores and result files."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from vln_clip import files, log
from vln_clip.devices import pick_device
from vln_clip.errors import InputError
from vln_clip.pretrain.answering import Answerer, result_rows, score
from vln_clip.pretrain.data import require_labels, require_split
from vln_clip.pretrain.job import FIRST, SECOND
from vln_clip.pretrain.model import load
from vln_clip.report import models_table
from vln_clip.tables import print_tables
from vln_clip.trained import find_stages

PROG = "python -m vln_clip.pretrain"


@dataclass(frozen=True)
class Evaluate:
    """Score the fine-tuned models of a run on a split with public answers."""

    checkpoint: Path
    """run's folder, or that of one checkpoint"""
    split: str = "val"
    """val or train of the task"""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto takes a GPU where there is one"""


@dataclass(frozen=True)
class Predict:
    """Write the result file of a split, as the task's server takes it."""

    checkpoint: Path
    """folder of a fine-tuned checkpoint (runs/NAME/checkpoints/TASK/best_val)"""
    split: str = "test"
    """train, val or test of the task"""
    out: Path | None = None
    """file to write; by default TASK_SPLIT_predict.json in the working folder"""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto takes a GPU where there is one"""


def evaluate(argv: list[str]) -> None:
    """Run ``evaluate``."""
    config = tyro.cli(Evaluate, args=argv, prog=f"{PROG} evaluate")
    require_split(config.split)
    rows, device = {}, pick_device(config.device)
    for name, folder in _fine_tuned(config.checkpoint).items():
        model, data, task = load(folder, device)
        require_labels(data, task, config.split)
        labels = Answerer(model, data).labels(task, config.split)
        rows[name] = score(data, task, config.split, labels) | {"features": data.encoder_used()}
    print_tables([models_table(f"{config.checkpoint}: accuracy", {config.split: rows})])


def predict(argv: list[str]) -> None:
    """Run ``predict``."""
    config = tyro.cli(Predict, args=argv, prog=f"{PROG} predict")
    require_split(config.split)
    found = _fine_tuned(config.checkpoint)
    if len(found) > 1:
        raise InputError(
            f"--checkpoint must be that of one task, got {config.checkpoint} with {', '.join(found)}; name one of its "
            "folders, checkpoints/TASK/best_val"
        )
    model, data, task = load(next(iter(found.values())), pick_device(config.device))
    out = config.out or Path(f"{task}_{config.split}_predict.json")
    rows = result_rows(data, task, config.split, Answerer(model, data).labels(task, config.split))
    files.save_json(out, rows, indent=None)
    log.logger.info("%d labels of %s: %s", len(rows), config.split, out)


def _fine_tuned(path: Path) -> dict[str, Path]:
    """Return the fine-tuned checkpoints that a path names."""
    found = {name: folder for name, folder in find_stages(path).items() if name not in (FIRST, SECOND)}
    if not found:
        raise InputError(f"--checkpoint must hold a fine-tuned model, got {path} with pre-trained ones only")
    return found
