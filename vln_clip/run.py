"""A run's folder: whose it is, its configuration, metrics, events and where its checkpoints lie."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Generic, cast

import torch

from vln_clip import __version__, files
from vln_clip.errors import InputError
from vln_clip.events import Events, Sights
from vln_clip.lock import FolderLock
from vln_clip.log import logger
from vln_clip.ranks import ALONE, Ranks
from vln_clip.reading import loads, read_bytes, read_json
from vln_clip.run_config import ConfigT, RunConfig, changed_fields, filled
from vln_clip.signals import StopRequests

LAST = "last"
CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"
EVENTS = "events"
# Settings that don't change what is trained: they may be others when a run goes on.
FREE_SETTINGS = ("name", "runs", "device", "simulator", "cross_check", "save_every_min", "max_gradient_norm_factor")


class Run(Generic[ConfigT]):
    """The folder ``runs/<name>``: configuration, metrics, TensorBoard events, checkpoints, results.

    While it is open and not finished no other process can open it. Of several ranks the first one opens it and
    writes there; for the others it is a name.

    Attributes:
        ranks: who train together.
        stops: the signals that end the run in order; they are handled within ``with run.stops``.

    Raises:
        InputError: it was trained with another configuration, another process has it, or it cannot be written to.
    """

    def __init__(self, config: ConfigT, ranks: Ranks = ALONE) -> None:
        self.config, self.folder, self.ranks = config, config.runs / config.run_name, ranks
        self.stops = StopRequests()
        self._events = Events(self.folder / EVENTS)
        self._lock = None
        if not ranks.is_main:
            return
        if not self.results_file.is_file():
            self._lock = FolderLock(self.folder)
        try:
            self._configure()
        except InputError:
            self.close()
            raise

    def _configure(self) -> None:
        """Compare the configuration with the saved one, or save it; remove what a killed process was writing."""
        config = self.config
        if self._lock is not None:
            files.remove_temporaries(self.folder.rglob(files.TEMPORARY), idle_s=0.0)
        saved = self.folder / "config.json"
        ours = json.loads(json.dumps(config.to_json()))
        if saved.is_file() and (
            (self.folder / CHECKPOINTS).is_dir() or self.results_file.is_file()
        ):  # else nothing was trained yet
            try:
                theirs = filled(cast(dict[str, Any], read_json(saved)), type(config)().to_json())
                free = {key: ours[key] for key in FREE_SETTINGS if key in ours}
                differences = changed_fields(ours, theirs | free)
            except ValueError as error:
                raise InputError(
                    f"{saved} must be a run's configuration, but can't be read: {error}; bring it back, or remove it "
                    "and go on with the flags that the run began with"
                ) from None
            if differences:
                raise InputError(
                    f"{self.folder} holds a run of another configuration: {'; '.join(differences[:4])}; "
                    "give this one another --name, or remove that folder"
                )
        else:
            files.save_json(saved, ours)

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

        Raises:
            InputError: the disk is full, or the folder cannot be written to.
        """
        if not self.ranks.is_main:
            return
        line = {"stage": stage, "iteration": iteration} | {name: _rounded(value) for name, value in values.items()}
        files.append_line(self.folder / METRICS, json.dumps(line))
        try:
            self._events.write(stage, iteration, values | clock, seen)
        except OSError as error:
            raise InputError(
                f"{self.folder} cannot be written to: {error.strerror or error}; when it can, the same command goes "
                "on from the last checkpoint"
            ) from None

    def forget_after(self, stage: str, iteration: int) -> None:
        """Drop metrics of a stage beyond an iteration: they are about to be computed again."""
        if not self.ranks.is_main:
            return
        self._events.go_on_after(stage, iteration)
        path = self.folder / METRICS
        if path.is_file():
            found = read_bytes(path).decode(errors="replace")  # a power failure may leave anything at the end
            kept = "".join(f"{line}\n" for line in found.splitlines() if line and not _is_later(line, stage, iteration))
            if kept != found:
                files.write_atomically(path, lambda temporary: temporary.write_text(kept))

    def close(self) -> None:
        """Let other processes have the folder."""
        if self._lock is not None:
            self._lock.release()


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
        raise InputError(
            f"every line of {METRICS} must be an object with stage and iteration, got {line[:60]!r}; remove it"
        )
    return bool(row.get("stage") == stage and row["iteration"] > iteration)


def describe_start(config: RunConfig, device: torch.device, features: str) -> None:
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
