"""Learning curves of several runs: read from their ``metrics.jsonl``, grouped by configuration, averaged over seeds."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from vln_clip.config import TrainConfig
from vln_clip.errors import InputError, unknown_name
from vln_clip.reading import loads, read_bytes, read_json
from vln_clip.run import CHECKPOINTS, FREE_SETTINGS, LAST, METRICS
from vln_clip.run_config import filled

SEED = "seed"
PLAIN = (SEED, "dataset", "features")  # settings by which runs are compared
SAME_CURVE = (SEED, *FREE_SETTINGS)  # runs that differ in nothing else are one curve
CONFIDENCE = 0.95
LARGEST = 1e15  # of iterations and of numbers over them
CHOSEN_BY = ("val_unseen/success_rate", "val_unseen/bleu")  # best checkpoints: of followers, of the speaker
MOST_NAMED = 3  # settings in a label; runs that differ in more are called by their name
Row = dict[str, float]


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """What a run has logged so far.

    Attributes:
        folder: of the run.
        settings: its configuration, flat.
        stages: numbers by stage, one row per validation in the order of iterations.
        data: hashes of the annotation files, by split; empty before the first checkpoint.
    """

    folder: Path
    settings: dict[str, Any]
    stages: dict[str, list[Row]]
    data: dict[str, str]

    def best_iteration(self, stage: str) -> int | None:
        """Return where the checkpoint chosen on val_unseen is from; None where nothing was chosen."""
        rows = self.stages.get(stage, [])
        key = next((key for key in CHOSEN_BY if any(key in row for row in rows)), None)
        if key is None:
            return None
        return int(max((row for row in rows if key in row), key=lambda row: row[key])["iteration"])  # first of equals


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that make one curve: the same configuration, other seeds."""

    label: str
    runs: Sequence[TrainedRun]


@dataclass(frozen=True, eq=False)
class Curve:
    """One number of one stage over the iterations, of R runs.

    Attributes:
        label: which runs.
        stage: of training.
        key: as in ``metrics.jsonl``, e.g. ``val_unseen/spl`` or ``loss/imitation``.
        iterations: (n,) int64, those that all runs have.
        values: (R, n).
        best: (R,) iterations of the best checkpoints, -1 where there is none.
    """

    label: str
    stage: str
    key: str
    iterations: np.ndarray
    values: np.ndarray
    best: np.ndarray

    @property
    def split(self) -> str:
        """Return the split, or the kind of number (``loss``)."""
        return self.key.rpartition("/")[0]

    @property
    def metric(self) -> str:
        """Return the name of the number within its split."""
        return self.key.rpartition("/")[2]

    @cached_property
    def mean(self) -> np.ndarray:
        """Return the mean over runs, (n,)."""
        return self.values.mean(0)

    @property
    def half_width(self) -> np.ndarray:
        """Return half of the t-interval of the mean at each iteration, (n,)."""
        return half_width(self.values)

    def smoothed(self, window: int) -> "Curve":
        """Return the curve with every value replaced by the mean over neighboring ones; shorter at the ends."""
        ones, reach = np.ones(window), window // 2
        counts = np.convolve(np.ones(len(self.iterations)), ones)[reach : reach + len(self.iterations)]
        sums = [np.convolve(row, ones)[reach : reach + len(row)] for row in self.values]
        return Curve(self.label, self.stage, self.key, self.iterations, np.stack(sums) / counts, self.best)


def half_width(values: np.ndarray) -> np.ndarray:
    """Return half of the 95 % t-interval of the mean over the first axis; NaN for a single value."""
    count = len(values)
    if count < 2:
        return np.full(values.shape[1:], np.nan)
    from scipy.special import stdtrit  # the t distribution; scipy.stats takes a second to load

    quantile = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2))
    return quantile * values.std(0, ddof=1) / np.sqrt(count)


def read_run(folder: Path) -> TrainedRun:
    """Read what a run has logged; a run that is being trained is read as far as it is."""
    file = folder / METRICS
    if not file.is_file():
        raise InputError(_no_metrics(folder))
    stages: dict[str, list[Row]] = {}
    lines = read_bytes(file).splitlines()
    for number, line in enumerate(lines, 1):
        try:
            stage, row = _row(loads(line.decode()))
        except (ValueError, KeyError, TypeError, RecursionError):
            if number == len(lines):  # just being written, or cut off by a crash
                continue
            raise InputError(
                f"{file}, line {number}, must be an object with a stage, an iteration and numbers, got "
                f"{line[:60].decode(errors='replace')!r}"
            ) from None
        stages.setdefault(stage, []).append(row)
    if not stages:
        raise InputError(f"{file} must hold the numbers of a validation, but none has come yet; wait for the first")
    headers = _headers(folder, stages)
    return TrainedRun(folder, _settings(folder) | _features_used(headers), stages, _data(headers))


def _row(content: Any) -> tuple[str, Row]:
    """Check a line of metrics; what is wrong with one does not matter, it is shown as a whole."""
    row = dict(content)
    stage, iteration = row.pop("stage"), row["iteration"]
    numbers = all(type(value) in (int, float) and (value != value or abs(value) < LARGEST) for value in row.values())
    if not isinstance(stage, str) or type(iteration) is not int or iteration < 0 or not numbers:
        raise ValueError
    return stage, row


def _no_metrics(folder: Path) -> str:
    """Say why a folder is no run to plot, and which are."""
    inside = sorted(path.parent.name for path in folder.glob(f"*/{METRICS}"))
    if inside:
        named = ", ".join(inside[:8]) + (", …" if len(inside) > 8 else "")
        return f"{folder} must be a run's folder, but holds runs ({named}); name them, e.g. {folder}/*"
    if (folder / "config.json").is_file():
        return f"{folder} has no {METRICS}: the run has not come to its first validation; wait for it, or leave it out"
    beside = sorted(path.parent.name for path in folder.parent.glob(f"*/{METRICS}"))
    hint = f"; runs beside it are {', '.join(beside[:8])}" if beside else ""
    return f"{folder} must be a run's folder with a {METRICS}, but there is none{hint}"


def _settings(folder: Path) -> dict[str, Any]:
    """Return the configuration of a run, flat; settings that came after it have their defaults."""
    file = folder / "config.json"
    defaults = TrainConfig().to_json()
    try:
        saved = filled(cast(dict[str, Any], read_json(file)), defaults)
    except ValueError as error:
        raise InputError(f"{file} must be a run's configuration, but can't be read: {error}") from None
    for name, value in saved.items():
        if name in PLAIN and type(value) is not type(defaults[name]):
            raise InputError(f"{file}: {name} must be a {type(defaults[name]).__name__}, got {value!r:.60}")
    flat: dict[str, Any] = {}
    for name, value in saved.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat


def _headers(folder: Path, stages: Iterable[str]) -> dict[Path, Any]:
    """Return the headers of a run's last checkpoints by file, as far as stages have come to one."""
    headers: dict[Path, Any] = {}
    for stage in stages:
        file = folder / CHECKPOINTS / stage / LAST / "checkpoint.json"
        if file.is_file():
            try:
                header = read_json(file)
            except ValueError as error:
                raise InputError(f"{file} must be a checkpoint's header, but can't be read: {error!r:.200}") from None
            if not isinstance(header, dict) or not isinstance(header.get("features", ""), str):
                raise InputError(f"{file} must be a checkpoint's header, an object with features, got {header!r:.60}")
            headers[file] = header
    return headers


def _features_used(headers: Mapping[Path, Any]) -> dict[str, str]:
    """Return the features that a run really saw, which may have stood in for others; nothing where none are known."""
    used = [header["features"] for header in headers.values() if header.get("features", "none") != "none"]
    return {"features": used[0]} if used else {}


def _data(headers: Mapping[Path, Any]) -> dict[str, str]:
    """Return the hashes of the annotation files that a run was trained on."""
    for file, header in headers.items():
        try:
            return {split: str(version["sha256"]) for split, version in header["data"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{file} must be a checkpoint's header, but can't be read: {error!r:.200}") from None
    return {}


def group_runs(runs: Sequence[TrainedRun], by: Sequence[str] = ()) -> list[Group]:
    """Group runs that differ only in their seed.

    Args:
        runs: of one data set.
        by: settings to group by in place of all of them; runs that differ elsewhere are then averaged too.

    Raises:
        InputError: runs are of several data sets, a seed comes twice, or a setting is unknown.
    """
    _require_one_dataset(runs)
    names = sorted({name for run in runs for name in run.settings} - set(SAME_CURVE))
    for name in by:
        if name not in names:
            raise unknown_name("--group-by", name, names)
    kept = list(by) or names
    groups: dict[str, list[TrainedRun]] = {}
    for run in runs:
        groups.setdefault(json.dumps([run.settings.get(name) for name in kept]), []).append(run)
    if not by:
        for members in groups.values():
            _require_other_seeds(members)
    varied = [name for name in kept if len({json.dumps(m[0].settings.get(name)) for m in groups.values()}) > 1]
    named = varied or kept[:MOST_NAMED] if by else varied or ["features"]
    return [Group(_label(members[0], named), members) for members in groups.values()]


def _label(run: TrainedRun, named: Sequence[str]) -> str:
    """Name a group by some of its settings."""
    if len(named) > MOST_NAMED:
        return run.folder.resolve().name
    plain = ("features", "language", "dataset")
    words = []
    for name in sorted(named, key=lambda name: (name not in plain, name)):
        value = run.settings.get(name)
        if name in plain:
            words.append("blind" if value == "none" else str(value).rpartition("/")[2])
        elif isinstance(value, bool):
            words.append(f"{'' if value else 'no '}{name.replace('_', ' ')}")
        else:
            words.append(f"{name.replace('_', ' ')} {'default' if value is None else value}")
    return ", ".join(words)


def _require_one_dataset(runs: Sequence[TrainedRun]) -> None:
    """Check that the numbers of runs can be compared."""
    first = runs[0]
    for run in runs[1:]:
        ours, theirs = first.settings["dataset"], run.settings["dataset"]
        if ours != theirs:
            raise InputError(
                f"runs must be of one data set, got {first.folder} of {ours} and {run.folder} of {theirs}; "
                "plot them apart"
            )
        other = [split for split in first.data.keys() & run.data.keys() if first.data[split] != run.data[split]]
        if other:
            raise InputError(
                f"runs must be of the same annotations, but {first.folder} and {run.folder} have other files of "
                f"{', '.join(sorted(other))}; plot them apart"
            )


def _require_other_seeds(runs: Sequence[TrainedRun]) -> None:
    """Check that no run is counted twice."""
    seen: dict[int, TrainedRun] = {}
    for run in runs:
        other = seen.setdefault(run.settings[SEED], run)
        if other is not run:
            raise InputError(
                f"runs of one configuration must have different seeds, got {other.folder} and {run.folder} with "
                f"seed {run.settings[SEED]}; leave one out, or tell what to tell apart with --group-by"
            )


def make_curve(group: Group, stage: str, key: str) -> Curve | None:
    """Return one number of the runs of a group at the iterations that all of them have; None where none has it."""
    found = []
    for run in group.runs:
        values = {int(row["iteration"]): row[key] for row in run.stages.get(stage, []) if key in row}
        if values:
            found.append((values, run.best_iteration(stage)))
    if not found:
        return None
    common = sorted(set.intersection(*(set(values) for values, _ in found)))
    return Curve(
        group.label,
        stage,
        key,
        np.array(common, dtype=np.int64),
        np.array([[values[iteration] for iteration in common] for values, _ in found]).reshape(len(found), -1),
        np.array([-1 if best is None else best for _, best in found]),
    )
