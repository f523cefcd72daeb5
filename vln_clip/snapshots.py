"""The checkpoints of a stage of training: written so that at every moment one of them is whole, and found again.

``last`` is what a run goes on from, saved at every validation and, where those are far apart, between them. It
also says which iterations were best: the best checkpoints follow from it. ``previous`` is the ``last`` of the
validation before, for the day on which ``last`` is damaged.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vln_clip import checkpoint, files
from vln_clip.checkpoint import Checkpoint
from vln_clip.errors import InputError
from vln_clip.log import logger
from vln_clip.run import LAST, Run
from vln_clip.stage import Best, Stage

PREVIOUS, DAMAGED = "previous", "damaged"
SAME = ("features", "features_wanted", "feature_width", "feature_fingerprints", "grid", "data", "unlabelled_paths")


@dataclass
class Progress:
    """How far a stage has come.

    Attributes:
        iteration: optimizer steps taken.
        since: of these since the last validation.
        sums: what those logged, added up.
        scores: of the last validation, ``{split: {metric: value}}``.
        best: best score so far by folder of the checkpoint.
        best_iterations: where it was reached.
    """

    iteration: int = 0
    since: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    best_iterations: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, header: dict[str, Any]) -> "Progress":
        """Return what the header of a last checkpoint says."""
        sums, best_iterations = header.get("sums", {}), header.get("best_iterations", {})  # older ones have none
        since = header.get("since", 0)
        return cls(header["iteration"], since, sums, header["scores"], header["best"], best_iterations)

    def add(self, numbers: dict[str, float]) -> None:
        """Count a step and what it logged."""
        self.iteration, self.since = self.iteration + 1, self.since + 1
        for name, value in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def validated(self, found: dict[str, dict[str, float]], criteria: list[Best]) -> None:
        """Note a validation and what is best now; the first of equals stays."""
        self.since, self.sums, self.scores = 0, {}, found
        for best in criteria:
            value = found[best.split][best.metric] * best.sign
            if value > self.best.get(best.folder, -torch.inf):
                self.best[best.folder], self.best_iterations[best.folder] = value, self.iteration


class Snapshots:
    """Saves and restores one stage of a run."""

    def __init__(self, run: Run[Any], stage: Stage) -> None:
        self._run, self._stage, self._ranks = run, stage, run.ranks
        self._last, self._previous = run.checkpoint(stage.name, LAST), run.checkpoint(stage.name, PREVIOUS)
        self._last_is_validated = False

    def save(self, progress: Progress) -> None:
        """Save the last checkpoint and, at a validation, after it those that are better than all before.

        A kill at any moment leaves the old last checkpoint or the new one, and ``restore`` makes up for the rest.
        All ranks must call it; the first one writes, and all go on when it is done.
        """
        state = self._stage.state()
        with self._ranks.together():
            if self._ranks.is_main:
                self._write(progress, state)

    def _write(self, progress: Progress, state: dict[str, Tensor]) -> None:
        if self._last_is_validated:
            files.keep(self._last / checkpoint.FILE, self._previous / checkpoint.FILE)
        header = self._header(progress) | {
            "since": progress.since,
            "sums": progress.sums,
            "best": progress.best,
            "best_iterations": progress.best_iterations,
            "norms": self._stage.watch.state(),
            "ranks": self._ranks.world,
        }
        checkpoint.save(self._last, self._stage.model, header, state)
        self._last_is_validated = progress.since == 0
        if self._last_is_validated:
            for best in self._stage.best:
                if progress.best_iterations[best.folder] == progress.iteration:
                    self._save_best(best, progress)

    def restore(self) -> Progress:
        """Go on from the last checkpoint, or the one before where it is damaged; else from the start."""
        name = self._stage.name
        saved = self._ranks.from_main(self._find)
        if saved is None:
            self._run.forget_after(name, 0)
            return Progress()
        self._require_same(saved)
        self._compare_ranks(saved.header)
        self._stage.restore(saved, self._last)
        progress = Progress.of(saved.header)
        # A validation that was due when the run was stopped may have been logged by another that was killed.
        self._run.forget_after(name, progress.iteration - bool(progress.since))
        with self._ranks.together():
            if self._ranks.is_main:
                self._complete(progress)
        return progress

    def _compare_ranks(self, header: dict[str, Any]) -> None:
        """Say what changes with the number of processes; refuse it where nothing may change."""
        there, here = header.get("ranks", 1), self._ranks.world
        if there == here:
            return
        if self._run.config.deterministic:
            raise InputError(
                f"{self._last} was trained by {there} processes, here are {here}: what follows would not be equal bit "
                f"for bit; launch {there} (--num_processes), or leave --deterministic out and give another --name"
            )
        logger.info(
            "%s was trained by %d processes and goes on with %d: the same batches, but other dropout and sampling",
            self._last,
            there,
            here,
        )

    def _find(self) -> Checkpoint | None:
        """Read the checkpoint to go on from; None where there is none yet."""
        there = [folder for folder in (self._last, self._previous) if (folder / checkpoint.FILE).is_file()]
        if not there:
            return None
        try:
            saved = checkpoint.load(there[0])
        except InputError as error:
            if there[1:] != [self._previous]:
                raise InputError(
                    f"{error}; there is no earlier one to go on from: bring it back, or remove {self._last.parent} to "
                    "train this stage from its start"
                ) from None
            saved = self._load_previous(error)
            damaged = self._run.checkpoint(self._stage.name, DAMAGED) / checkpoint.FILE
            damaged.parent.mkdir(exist_ok=True)
            (self._last / checkpoint.FILE).replace(damaged)
            logger.warning("%s; going on from the one before, of iteration %d", error, saved.header["iteration"])
            return saved
        if there[0] == self._previous:
            logger.warning("%s is not there; going on from %s", self._last / checkpoint.FILE, self._previous)
            return saved
        self._last_is_validated = saved.header.get("since", 0) == 0
        checkpoint.repair_copy(self._last, saved.header)
        return saved

    def _load_previous(self, damage: InputError) -> Checkpoint:
        """Read the checkpoint before the last one, which is damaged."""
        try:
            return checkpoint.load(self._previous)
        except InputError:
            raise InputError(
                f"{damage}; neither can {self._previous}, the one before: bring one of them back, or remove "
                f"{self._last.parent} to train this stage from its start"
            ) from None

    def _require_same(self, saved: Checkpoint) -> None:
        """Refuse to go on with other features, data or kind of device."""
        header = self._stage.header
        for key in SAME:
            if saved.header.get(key) != header.get(key):
                raise InputError(
                    f"{self._last} was trained with other {key.replace('_', ' ')}: {saved.header.get(key)!r} there, "
                    f"{header.get(key)!r} now; bring the old ones back, or start a new run with another --name"
                )
        if saved.state["generator"].shape != self._stage.generator.get_state().shape:
            raise InputError(
                f"{self._last} was trained on another kind of device; go on there, or name it with --device"
            )

    def _complete(self, progress: Progress) -> None:
        """Write the best checkpoints that a kill came before, and check that the others are sound."""
        for best in self._stage.best:
            iteration = progress.best_iterations.get(best.folder)
            if iteration is None:
                continue
            folder = self._run.checkpoint(self._stage.name, best.folder)
            at_hand = iteration == progress.iteration and progress.since == 0
            try:
                header = checkpoint.load(folder).header
            except InputError as error:
                if not at_hand:
                    again = f"remove {folder.parent} to train this stage anew"
                    raise InputError(f"{error}; bring it back, or {again}") from None
                self._save_best(best, progress)
                continue
            if at_hand and header["iteration"] != iteration:
                self._save_best(best, progress)
            else:
                checkpoint.repair_copy(folder, header)

    def _save_best(self, best: Best, progress: Progress) -> None:
        """Save the model as the best so far."""
        folder = self._run.checkpoint(self._stage.name, best.folder)
        checkpoint.save(folder, self._stage.model, self._header(progress))

    def _header(self, progress: Progress) -> dict[str, Any]:
        """Return what every checkpoint of the stage says."""
        own = {"stage": self._stage.name, "iteration": progress.iteration, "scores": progress.scores}
        return self._stage.header | own
