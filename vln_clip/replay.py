"""``python -m vln_clip.replay FOLDER``: repeats the training step at which a run diverged."""

from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from vln_clip import checkpoint, log, recipe
from vln_clip.config import TrainConfig, from_json
from vln_clip.divergence import DivergedError
from vln_clip.errors import InputError
from vln_clip.job import open_job
from vln_clip.run import Run
from vln_clip.run_config import filled
from vln_clip.stage import Stage
from vln_clip.training import DIVERGED


@dataclass(frozen=True)
class ReplayConfig:
    """Repeat the training step at which a run diverged; nothing of the run is changed."""

    folder: tyro.conf.Positional[Path]
    """what the run named: RUNS/NAME/diverged/STAGE_ITERATION"""
    anomaly: bool = False
    """also say in which operation's backward pass the first nan came up (slow)"""
    max_gradient_norm_factor: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """other than the run's, or with nothing given the run's own"""


def main(argv: list[str] | None = None) -> None:
    """Run the program."""
    config = tyro.cli(ReplayConfig, args=argv, prog="python -m vln_clip.replay")
    folder = config.folder.absolute()
    saved = checkpoint.load(folder)
    if folder.parent.name != DIVERGED or "why" not in saved.header:
        raise InputError(f"{folder} must be what a run saved when it diverged, RUNS/NAME/{DIVERGED}/STAGE_ITERATION")
    if "task" in saved.header:
        raise InputError(
            f"{folder} must be of python -m vln_clip.train to be repeated, got one of {saved.header['task']}; its "
            "weights, optimizer and batches are in there"
        )
    if saved.header.get("ranks", 1) > 1:
        raise InputError(
            f"{folder} is of a step that {saved.header['ranks']} processes took together, which can't be repeated by "
            "one; its weights, optimizer and batches are in there"
        )
    settings = settings_of(saved.header["config"], folder.parents[1])
    if config.max_gradient_norm_factor is not None:
        settings = replace(settings, max_gradient_norm_factor=config.max_gradient_norm_factor)
    run = Run(settings)
    try:
        job = open_job(settings, run)
        stage = recipe.stages(job, recipe.follower_worlds(job))[saved.header["stage"]]()
        stage.restore(saved, folder)
        log.logger.info("the run said: %s", saved.header["why"])
        print("\n".join(repeat(stage, config.anomaly)))
    finally:
        run.close()


def settings_of(values: dict[str, Any], folder: Path) -> TrainConfig:
    """Return the configuration that a checkpoint was saved with, of a run that lies in ``folder`` now."""
    defaults, found = TrainConfig(), dict[str, Any]()
    values = filled(values, defaults.to_json()) | {"runs": str(folder.parent), "name": folder.name}
    for item in fields(defaults):
        default, value = getattr(defaults, item.name), values[item.name]
        found[item.name] = from_json(type(default), value) if is_dataclass(default) else value
    translation = found["back_translation"]
    if translation.aug_paths is not None:
        found["back_translation"] = replace(translation, aug_paths=Path(translation.aug_paths))
    text = found["text"]
    if text.text_weights is not None:
        found["text"] = replace(text, text_weights=Path(text.text_weights))
    for name in ("train", "start"):
        found[name] = None if found[name] is None else Path(found[name])
    return TrainConfig(**(found | {"runs": Path(found["runs"])}))


def repeat(stage: Stage, anomaly: bool) -> list[str]:
    """Take a step and return what is to be said of it."""
    lines = []
    try:
        with torch.autograd.set_detect_anomaly(anomaly):
            numbers = stage.learn()
        lines.append("the step does not diverge here: " + ", ".join(f"{n} {v:.4g}" for n, v in numbers.items()))
    except DivergedError as error:
        lines.append(f"repeated: {error}")
    except RuntimeError as error:
        if not anomaly or "nan values" not in str(error):
            raise
        lines.append(f"repeated: {error}")
    for what, tensors in (
        ("weights", dict(stage.model.named_parameters())),
        ("gradients", {name: p.grad for name, p in stage.model.named_parameters() if p.grad is not None}),
    ):
        bad = [name for name, value in tensors.items() if not bool(value.isfinite().all())]
        lines.append(f"{what} with inf or nan: {', '.join(bad) or 'none'} ({len(bad)} of {len(tensors)})")
    return lines


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


if __name__ == "__main__":
    cli()
