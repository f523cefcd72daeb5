"""A run's folder, and the loop that every training stage goes through: learn, validate, save, go on after a stop."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from vln_clip import __version__, checkpoint, files
from vln_clip.config import TrainConfig, changed_fields, filled
from vln_clip.errors import InputError
from vln_clip.events import Events, Sights
from vln_clip.log import logger, progress
from vln_clip.reading import loads, read_json, read_text

LAST = "last"
CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"
EVENTS = "events"
PLACES = ("runs", "device", "simulator", "cross_check")  # not what is trained: they may change on the way


class Sampler(Protocol):
    """A source of batches that can be put back where it was."""

    def state(self) -> dict[str, Tensor]: ...  # noqa: D102
    def restore(self, state: dict[str, Tensor]) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class Best:
    """Which validation score a best checkpoint maximizes: ``scores[split][metric] * sign``."""

    folder: str
    split: str
    metric: str
    sign: float = 1.0


@dataclass
class Stage:
    """One model being trained.

    Attributes:
        name: folder of its checkpoints.
        model: its weights are saved.
        optimizer: of the model.
        learn: takes one optimizer step and returns numbers to log.
        validate: returns ``{split: {metric: value}}``.
        best: checkpoints to keep.
        iters: optimizer steps in all.
        eval_every: steps between validations.
        samplers: what draws the batches.
        generator: source of dropout and sampling.
        header: JSON values that every checkpoint of the stage carries.
        look: called after a validation, returns what is to be looked at.
    """

    name: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    learn: Callable[[], dict[str, float]]
    validate: Callable[[], dict[str, dict[str, float]]]
    best: list[Best]
    iters: int
    eval_every: int
    samplers: Mapping[str, Sampler]
    generator: torch.Generator
    header: dict[str, Any] = field(default_factory=dict)
    look: Callable[[], Sights] = Sights


class Run:
    """The folder ``runs/<name>``: configuration, metrics, TensorBoard events, checkpoints, results.

    Opening it with another configuration than it was trained with is an ``InputError``.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.folder = config, config.runs / config.run_name
        saved = self.folder / "config.json"
        ours = json.loads(json.dumps(config.to_json()))
        if saved.is_file() and (
            (self.folder / CHECKPOINTS).is_dir() or self.results_file.is_file()
        ):  # else nothing was trained yet
            try:
                theirs = filled(cast(dict[str, Any], read_json(saved)), TrainConfig().to_json())
                same_places = {key: ours[key] for key in PLACES}
                differences = changed_fields(ours, theirs | same_places)
            except ValueError as error:
                raise InputError(f"{saved} must be a run's configuration, but can't be read: {error}") from None
            if differences:
                raise InputError(
                    f"{self.folder} holds a run of another configuration: {'; '.join(differences[:4])}; "
                    "give this one another --name, or remove that folder"
                )
        else:
            files.save_json(saved, ours)
        self._events = Events(self.folder / EVENTS)

    @property
    def results_file(self) -> Path:
        """Return where the results go; its presence means that the run is finished."""
        return self.folder / "results.json"

    def checkpoint(self, stage: str, which: str) -> Path:
        """Return the folder of a checkpoint."""
        return self.folder / CHECKPOINTS / stage / which

    def log(self, stage: str, iteration: int, values: dict[str, float], clock: dict[str, float], seen: Sights) -> None:
        """Append numbers to ``metrics.jsonl`` and TensorBoard; there also what the clock says, and pictures.

        A deterministic run that was stopped and went on has the same ``metrics.jsonl`` as one that was not.
        """
        line = {"stage": stage, "iteration": iteration} | {name: _rounded(value) for name, value in values.items()}
        with (self.folder / METRICS).open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._events.write(stage, iteration, values | clock, seen)

    def forget_after(self, stage: str, iteration: int) -> None:
        """Drop metrics of a stage beyond an iteration: they are about to be computed again."""
        self._events.go_on_after(stage, iteration)
        path = self.folder / METRICS
        if path.is_file():
            lines = [line for line in read_text(path).splitlines() if line]
            kept = [line for line in lines if not _is_later(line, stage, iteration)]
            if len(kept) < len(lines):
                files.write_atomically(path, lambda temporary: temporary.write_text("".join(f"{k}\n" for k in kept)))

    def close(self) -> None:
        """Flush what is buffered."""
        self._events.close()


def _rounded(value: float) -> float:
    """Round to six decimals, and below 1 to six digits: learning rates and gradients may be small."""
    return float(f"{value:.6g}") if abs(value) < 1 else round(value, 6)


def _is_later(line: str, stage: str, iteration: int) -> bool:
    """Return whether a line of metrics is of a stage beyond an iteration, or was cut off by a crash."""
    try:
        row = loads(line)
    except (ValueError, RecursionError):
        return True
    if not isinstance(row, dict) or type(row.get("iteration")) is not int:
        raise InputError(f"every line of {METRICS} must be an object with stage and iteration, got {line[:60]!r}")
    return bool(row.get("stage") == stage and row["iteration"] > iteration)


def describe_start(config: TrainConfig, device: torch.device, features: str) -> None:
    """Log what a stranger needs to know to repeat the run."""
    logger.info("command: %s", " ".join(sys.argv))
    versions = f"vln_clip {__version__}{_commit()}, torch {torch.__version__}"
    logger.info("%s, device %s, seed %d", versions, device, config.seed)
    logger.info("config: %s", json.dumps(config.to_json()))
    logger.info("features: %s", features)


def _commit() -> str:
    """Return the commit of a checkout, for the log; nothing for an installed package."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return " at " + subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def run_stage(run: Run, stage: Stage) -> None:
    """Train a stage to its end, from its last checkpoint where there is one."""
    scores = _restore(run, stage)
    iteration = int(scores.pop("iteration", 0))
    if iteration >= stage.iters:
        logger.info("%s: already trained for %d iterations", stage.name, iteration)
        return
    parameters = sum(p.numel() for p in stage.model.parameters())
    start = f"from iteration {iteration}" if iteration else "from the start"
    logger.info("%s: %d parameters, %d iterations, %s", stage.name, parameters, stage.iters, start)
    with progress() as bar:
        task = bar.add_task(stage.name, total=stage.iters, completed=iteration, status="")
        sums: dict[str, float] = {}
        since, learning_s, begun_s = 0, 0.0, time.perf_counter()
        while iteration < stage.iters:
            before_s = time.perf_counter()
            numbers = stage.learn()  # fetches its numbers, and so waits for the device
            learning_s += time.perf_counter() - before_s
            for name, value in numbers.items():
                sums[name] = sums.get(name, 0.0) + value
            iteration, since = iteration + 1, since + 1
            bar.update(task, completed=iteration)
            if iteration % stage.eval_every and iteration < stage.iters:
                continue
            validating_s = time.perf_counter()
            found, seen = stage.validate(), stage.look()
            ended_s = time.perf_counter()
            values = {name: total / since for name, total in sums.items()}
            if not all(isfinite(value) for value in values.values()):
                raise InputError(
                    f"{stage.name} diverged before iteration {iteration}: its losses are no numbers any more; "
                    "give another --name and a lower learning rate"
                )
            values["optimizer/learning_rate"] = stage.optimizer.param_groups[0]["lr"]
            values |= {f"{split}/{metric}": v for split, row in found.items() for metric, v in row.items()}
            clock = {
                "clock/iterations_per_s": since / learning_s,
                "clock/iterations_per_s_with_validation": since / (ended_s - begun_s),
                "clock/validation_s": ended_s - validating_s,
            }
            run.log(stage.name, iteration, values, clock, seen)
            _save(run, stage, iteration, found, scores)
            status = _status(stage, found)
            bar.update(task, status=status)
            speed = f"{clock['clock/iterations_per_s']:.3g} iterations/s"
            logger.info("%s %d/%d  %s  %s", stage.name, iteration, stage.iters, status, speed)
            sums, since, learning_s, begun_s = {}, 0, 0.0, ended_s


def _status(stage: Stage, found: dict[str, dict[str, float]]) -> str:
    """Return the scores that select checkpoints, for people."""
    return "  ".join(f"{best.split} {best.metric} {found[best.split][best.metric]:.3f}" for best in stage.best)


def _save(run: Run, stage: Stage, iteration: int, found: dict[str, dict[str, float]], scores: dict[str, float]) -> None:
    """Save better checkpoints and the last one; ``scores`` holds the best so far and is updated."""
    for best in stage.best:
        value = found[best.split][best.metric] * best.sign
        if value > scores.get(best.folder, -torch.inf):
            scores[best.folder] = value
            header = stage.header | {"stage": stage.name, "iteration": iteration, "scores": found}
            checkpoint.save(run.checkpoint(stage.name, best.folder), stage.model, header)
    state = checkpoint.named("optimizer", checkpoint.flatten_optimizer(stage.optimizer))
    state["generator"] = stage.generator.get_state()
    for name, sampler in stage.samplers.items():
        state |= checkpoint.named(f"sampler_{name}", sampler.state())
    header = stage.header | {"stage": stage.name, "iteration": iteration, "scores": found, "best": scores}
    checkpoint.save(run.checkpoint(stage.name, LAST), stage.model, header, state)


def _restore(run: Run, stage: Stage) -> dict[str, float]:
    """Go on from the last checkpoint where there is one; return the best scores so far and ``iteration``."""
    folder = run.checkpoint(stage.name, LAST)
    if not (folder / checkpoint.FILE).is_file():
        run.forget_after(stage.name, 0)
        return {}
    saved = checkpoint.load(folder)
    for key in ("features", "features_wanted", "feature_width", "feature_fingerprints", "data", "unlabelled_paths"):
        if saved.header.get(key) != stage.header.get(key):
            raise InputError(
                f"{folder} was trained with other {key.replace('_', ' ')}: {saved.header.get(key)!r} there, "
                f"{stage.header.get(key)!r} now; bring the old ones back, or start a new run with another --name"
            )
    if saved.state["generator"].shape != stage.generator.get_state().shape:
        raise InputError(f"{folder} was trained on another kind of device; go on there, or name it with --device")
    checkpoint.restore_weights(stage.model, saved.weights, folder)
    checkpoint.restore_optimizer(stage.optimizer, checkpoint.section(saved.state, "optimizer"))
    stage.generator.set_state(saved.state["generator"])
    for name, sampler in stage.samplers.items():
        sampler.restore(checkpoint.section(saved.state, f"sampler_{name}"))
    iteration = int(saved.header["iteration"])
    run.forget_after(stage.name, iteration)
    return saved.header["best"] | {"iteration": iteration}
