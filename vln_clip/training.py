"""The loop that every training stage goes through: learn, validate, save, go on after a stop."""

import time
from collections.abc import Mapping
from typing import Any

from rich.progress import Progress as Bar
from torch import Tensor

from vln_clip import checkpoint
from vln_clip.divergence import DivergedError
from vln_clip.errors import InputError
from vln_clip.events import Sights
from vln_clip.log import logger, progress
from vln_clip.run import LAST, Run
from vln_clip.snapshots import Progress, Snapshots
from vln_clip.stage import Stage

DIVERGED = "diverged"
MOST_IDS = 4  # of a batch in a message


def run_stage(run: Run[Any], stage: Stage) -> None:
    """Train a stage to its end, from its last checkpoint where there is one.

    Raises:
        StopRequestedError: a signal came; all is saved.
        InputError: the stage diverged, or something cannot be read or written.
    """
    with run.stops.deferred():  # an exception in the middle of reading would look like damage
        _run_stage(run, stage)


def _run_stage(run: Run[Any], stage: Stage) -> None:
    """Restore and train; signals are deferred."""
    snapshots = Snapshots(run, stage)
    done = snapshots.restore()
    run.stops.check()
    if done.iteration >= stage.iters and not done.since:
        logger.info("%s: already trained for %d iterations", stage.name, done.iteration)
        return
    parameters = sum(p.numel() for p in stage.model.parameters())
    start = f"from iteration {done.iteration}" if done.iteration else "from the start"
    logger.info("%s: %d parameters, %d iterations, %s", stage.name, parameters, stage.iters, start)
    with progress() as bar:
        _Training(run, stage, snapshots, done, bar).run()


class _Training:
    """A stage being trained: how far it is, and what the clock says (which goes into no file that is compared)."""

    def __init__(self, run: Run[Any], stage: Stage, snapshots: Snapshots, done: Progress, bar: Bar) -> None:
        self.run_, self.stage, self.snapshots, self.done, self.bar = run, stage, snapshots, done, bar
        self.task = bar.add_task(stage.name, total=stage.iters, completed=done.iteration, status="")
        self.saved_s = time.monotonic()
        self._start_clock()

    def _start_clock(self) -> None:
        self.timed_steps, self.learning_s, self.begun_s = 0, 0.0, time.perf_counter()

    def run(self) -> None:
        """Learn and validate in turns; a stop may have come between the two."""
        stops, ranks = self.run_.stops, self.run_.ranks
        while self.done.since or self.done.iteration < self.stage.iters:
            if self.done.since and self._validation_is_due():
                self._validate()
                stop, late = *ranks.any(stops.requested is not None), False
            else:
                self._learn()
                stop, late = ranks.any(stops.requested is not None, ranks.is_main and self._is_late())
                if stop or (late and not self._validation_is_due()):
                    self._save()
            if stop:
                stops.requested = stops.requested or "a signal to another process"
                stops.check()

    def _validation_is_due(self) -> bool:
        return self.done.iteration % self.stage.eval_every == 0 or self.done.iteration >= self.stage.iters

    def _is_late(self) -> bool:
        return time.monotonic() - self.saved_s > 60 * self.run_.config.save_every_min

    def _save(self) -> None:
        self.snapshots.save(self.done)
        self.saved_s = time.monotonic()

    def _learn(self) -> None:
        """Take one step."""
        before, begun_s = self.stage.random_state(), time.perf_counter()
        self.stage.set_learning_rate(self.done.iteration)
        try:
            numbers = self.stage.learn()  # fetches its numbers, and so waits for the device
        except DivergedError as error:
            raise InputError(_report(self.run_, self.stage, self.done.iteration, before, str(error))) from None
        self.learning_s += time.perf_counter() - begun_s
        self.timed_steps += 1
        self.done.add(numbers)
        self.bar.update(self.task, completed=self.done.iteration)

    def _validate(self) -> None:
        """Validate, log and save; a stop in between saves what was learned, and the validation is done again."""
        stage, done, alone = self.stage, self.done, self.run_.ranks.world == 1
        begun_s = time.perf_counter()
        try:
            with self.run_.stops.deferred(not alone):  # one rank must not leave the others waiting
                found = stage.validate()
                seen = stage.look() if self.run_.ranks.is_main else Sights()
        except BaseException:  # libraries turn what a signal raises in their midst into errors of their own
            if self.run_.stops.requested is not None and alone:
                self._save()
                self.run_.stops.check()
            raise
        self._require_scores(found)
        ended_s = time.perf_counter()
        values = {name: total / done.since for name, total in done.sums.items()}
        values["optimizer/learning_rate"] = stage.optimizer.param_groups[0]["lr"]
        values |= {f"{split}/{metric}": v for split, row in found.items() for metric, v in row.items()}
        clock = {"clock/validation_s": ended_s - begun_s}
        if self.timed_steps:
            clock["clock/iterations_per_s"] = self.timed_steps / self.learning_s
            clock["clock/iterations_per_s_with_validation"] = self.timed_steps / (ended_s - self.begun_s)
        with self.run_.ranks.together():
            self.run_.log(stage.name, done.iteration, values, clock, seen)
        done.validated(found, stage.best)
        self._save()
        status = _status(stage, found)
        self.bar.update(self.task, status=status)
        speed = f"{clock.get('clock/iterations_per_s', 0):.3g} iterations/s"
        logger.info("%s %d/%d  %s  %s", stage.name, done.iteration, stage.iters, status, speed)
        self._start_clock()

    def _require_scores(self, found: dict[str, dict[str, float]]) -> None:
        """Check that what selects checkpoints are numbers; else nothing of the validation is kept."""
        stage, iteration = self.stage, self.done.iteration
        try:
            stage.watch.checked({f"{b.split}/{b.metric}": found[b.split][b.metric] for b in stage.best})
        except DivergedError as error:
            last = self.run_.checkpoint(stage.name, LAST)
            raise InputError(
                f"{stage.name} diverged: {error} in the validation after iteration {iteration}, of which nothing is "
                f"kept; {last} is the last checkpoint before it, if there is one; give another --name and a lower "
                "learning rate"
            ) from None


def _status(stage: Stage, found: dict[str, dict[str, float]]) -> str:
    """Return the scores that select checkpoints, for people."""
    return "  ".join(f"{best.split} {best.metric} {found[best.split][best.metric]:.3f}" for best in stage.best)


def _report(run: Run[Any], stage: Stage, iteration: int, before: Mapping[str, Tensor], why: str) -> str:
    """Save what repeats a step that was not taken, and return the sentence about it.

    Args:
        run: whose folder it goes into.
        stage: with weights and optimizer as before the step, which the watch has held back.
        iteration: of the last step that was taken.
        before: generator and samplers before the step.
        why: which number is why.
    """
    world = run.ranks.world
    folder = run.folder / DIVERGED / f"{stage.name}_{iteration + 1}"
    drawn = stage.drawn_since(before)
    header: dict[str, Any] = {"stage": stage.name, "iteration": iteration, "why": why, "batches": drawn}
    header |= {"norms": stage.watch.state(), "ranks": world}
    if run.ranks.is_main:
        optimizer = checkpoint.named("optimizer", checkpoint.flatten_optimizer(stage.optimizer))
        checkpoint.save(folder, stage.model, stage.header | header, optimizer | dict(before))
    shown = "; ".join(f"{name}: {_some(ids)}" for name, ids in drawn.items() if ids)
    again = f"{folder} holds the weights"
    if world == 1 and "task" not in stage.header:  # replay knows agents only
        again = f"python -m vln_clip.replay {folder} repeats the step"
    return (
        f"{stage.name} diverged in iteration {iteration + 1}: {why} (batches {shown}); {again}; give another --name "
        "and a lower learning rate"
    )


def _some(ids: list[str]) -> str:
    """Return the first of some ids, and how many there are."""
    return ", ".join(ids[:MOST_IDS]) + (f", … ({len(ids)})" if len(ids) > MOST_IDS else "")
