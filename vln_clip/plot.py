"""``vln-clip plot RUN…``: learning curves of runs, averaged over seeds; without --out a table of best and last ones."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rich.table
import tyro
from rich.console import Console
from rich.text import Text

from vln_clip import files, log, tables
from vln_clip.curves import Curve, Group, group_runs, half_width, make_curve, read_run
from vln_clip.curves_figure import draw_curves, quantity, scale
from vln_clip.errors import InputError, unknown_name
from vln_clip.viewer.figure import picture_kind

ENDINGS = (".png", ".svg", ".pdf")
TRAINING = ("loss", "aug_loss", "rollout", "aug_rollout", "optimizer")  # numbers of learning, not of a split
FIRST_METRICS = ("success_rate", "spl", "ndtw", "bleu", "loss")  # shown unless others are asked for
FIRST_SPLITS = ("val_unseen", "val_seen")
HIGHER = {"success_rate", "oracle_rate", "spl", "ndtw", "sdtw", "cls", "bleu", "word_accuracy", "reward"}
LOWER = {"nav_error", "oracle_error", "dtw", "loss", "imitation", "value", "word"}


@dataclass(frozen=True)
class PlotConfig:
    """Learning curves of runs from their metrics.jsonl; runs that differ only in their seed are one curve."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """folders of runs, finished or not"""
    metric: tuple[str, ...] = ()
    """success_rate, spl, ndtw, …, loss for all losses, or one number by its name in metrics.jsonl (loss/imitation);
    by default success_rate spl ndtw"""
    split: tuple[str, ...] = ()
    """val_unseen, val_seen, train, of multilingual data sets also val_unseen/hi; by default both validation splits"""
    stage: tuple[str, ...] = ()
    """follower, blind, speaker, back_translated, …; by default the follower"""
    out: Path | None = None
    """draw the curves into this file (.png, .svg, .pdf); without it a table is printed"""
    csv: Path | None = None
    """write mean and 95 % t-interval at every iteration to this file"""
    smooth: int = 1
    """draw running means over so many validations, an odd number"""
    group_by: tuple[str, ...] = ()
    """average over all runs that agree in these settings (e.g. features), whatever else they differ in"""


def main(argv: list[str] | None = None) -> None:
    """Run the program."""
    config = tyro.cli(PlotConfig, args=argv, prog="python -m vln_clip.plot")
    if config.out is not None:
        picture_kind(config.out, ENDINGS, "--out")
    if config.smooth < 1 or config.smooth % 2 == 0:
        raise InputError(f"--smooth must be an odd number of validations, 1 for none, got {config.smooth}")
    if not config.runs:
        raise InputError("vln-clip plot needs the folder of a run, got none; name one or several, e.g. runs/*")
    runs = [read_run(folder) for folder in {path.resolve(): path for path in config.runs}.values()]
    groups = group_runs(runs, config.group_by)
    panels, num_splits = choose_panels(config, groups)
    _tell_incomplete(panels, groups)
    if config.out is None and config.csv is None:
        _print_table(panels)
        log.logger.info("--out curves.png (.svg, .pdf) draws the curves, --csv curves.csv writes their points")
    if config.csv is not None:
        text = as_csv([curve for panel in panels for curve in panel])
        files.write_atomically(config.csv, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        log.logger.info("wrote %s", config.csv)
    if config.out is not None:
        stages = {curve.stage for panel in panels for curve in panel}
        title = ", ".join([runs[0].settings["dataset"], *(stages if len(stages) == 1 else ())])
        draw_curves(config.out, panels, num_splits, title, config.smooth)
        log.logger.info("wrote %s", config.out)


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


def choose_panels(config: PlotConfig, groups: Sequence[Group]) -> tuple[list[list[Curve]], int]:
    """Return the curves of every panel, and how many panels stand side by side as the splits of a metric.

    Raises:
        InputError: a stage, a split or a metric is in no run.
    """
    runs = [run for group in groups for run in group.runs]
    known = list(dict.fromkeys(stage for run in runs for stage in run.stages))
    for stage in config.stage:
        if stage not in known:
            raise unknown_name("--stage", stage, known)
    stages = config.stage or (("follower",) if "follower" in known else tuple(known[:1]))
    rows = [row for run in runs for stage in stages for row in run.stages.get(stage, [])]
    present = [key for key in dict.fromkeys(key for row in rows for key in row) if key != "iteration"]
    keys, num_splits = choose_keys(config, present)
    panels = []
    for key in keys:
        found = [make_curve(group, stage, key) for stage in stages for group in groups]
        panels.append([curve for curve in found if curve is not None and len(curve.iterations)])
    panels = [panel for panel in panels if panel]
    if not panels:
        raise InputError("runs of one curve must have an iteration in common, got none: were some just begun?")
    return panels, num_splits


def choose_keys(config: PlotConfig, present: Sequence[str]) -> tuple[list[str], int]:
    """Return the numbers to show, metric by metric, and of how many splits those of a metric are."""
    by_split: dict[str, list[str]] = {}
    for key in present:
        by_split.setdefault(key.rpartition("/")[0], []).append(key.rpartition("/")[2])
    splits = [split for split in by_split if split not in TRAINING]
    for split in config.split:
        if split not in splits:
            raise unknown_name("--split", split, splits)
    shown = config.split or tuple(split for split in FIRST_SPLITS if split in splits) or tuple(splits)
    metrics = list(dict.fromkeys(metric for split in shown for metric in by_split[split]))
    groups = [name for name in by_split if name in TRAINING]
    keys: list[str] = []
    for name in config.metric or [metric for metric in FIRST_METRICS if metric in metrics]:
        if name in present:
            keys.append(name)
        elif name in groups or name in metrics:  # a speaker's loss is both
            keys += [f"{split}/{name}" for split in shown if name in by_split[split]]
            keys += [f"{name}/{number}" for number in by_split[name] if config.metric] if name in groups else []
        else:
            group = [key for key in present if "/" in name and key.startswith(name.partition("/")[0] + "/")]
            raise unknown_name("--metric", name, group or [*metrics, *groups])
    keys = list(dict.fromkeys(keys))
    grid = all(key.rpartition("/")[0] in shown for key in keys) and len(keys) % len(shown) == 0
    return keys, len(shown) if grid else 1


def _tell_incomplete(panels: Sequence[Sequence[Curve]], groups: Sequence[Group]) -> None:
    """Say which runs are not, or not as far as others of their curve, in what is shown."""
    for stage in dict.fromkeys(curve.stage for panel in panels for curve in panel):
        for group in groups:
            rows = {run.folder: run.stages.get(stage, []) for run in group.runs}
            ends = {folder: int(found[-1]["iteration"]) if found else 0 for folder, found in rows.items()}
            for folder, end in ends.items():
                if end < max(ends.values()):
                    what = f"is at iteration {end} of it: the curve ends there" if end else "is left out: it has none"
                    log.logger.warning("%s: %s %s", stage, folder, what)


def as_csv(curves: Sequence[Curve]) -> str:
    """Return one line per curve and iteration, in the units of ``metrics.jsonl``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["curve", "stage", "split", "metric", "iteration", "n", "mean", "low", "high"])
    for curve in curves:
        for x, mean, half in zip(curve.iterations.tolist(), curve.mean, curve.half_width, strict=True):
            ends = ("", "") if np.isnan(half) else (f"{mean - half:.8g}", f"{mean + half:.8g}")
            row = [curve.label, curve.stage, curve.split, curve.metric, x, len(curve.values), f"{mean:.8g}", *ends]
            writer.writerow(row)
    return text.getvalue()


def _print_table(panels: Sequence[Sequence[Curve]]) -> None:
    """Print of every curve the value at the best checkpoint, the best one and the last one, and where."""
    shown = rich.table.Table(title="mean ± half of the 95 % t-interval over n runs, at iteration", title_justify="left")
    for heading in ("", "curve", "n"):
        shown.add_column(heading, justify="right" if heading == "n" else "left", no_wrap=True)
    for heading in ("best checkpoint", "best", "last"):
        shown.add_column(heading, justify="right", no_wrap=True)
        shown.add_column("at", justify="right", no_wrap=True)
    stages = {curve.stage for panel in panels for curve in panel}
    for before, panel in zip([None, *panels[:-1]], panels, strict=True):
        if before is not None and before[0].metric != panel[0].metric:
            shown.add_section()
        for number, curve in enumerate(panel):
            name = curve.key if quantity(curve) == curve.metric else f"{curve.split} {quantity(curve)}"
            label = f"{curve.label}, {curve.stage}" if len(stages) > 1 else curve.label
            cells = [
                cell for where in (curve.best, best_of(curve), curve.iterations[-1:]) for cell in cells_at(curve, where)
            ]
            shown.add_row(*map(Text, ("" if number else name, label, str(len(curve.values)), *cells)))
    console = Console()
    width = Console(width=1000).measure(shown).maximum
    Console(width=max(width, console.width if console.is_terminal else tables.WIDTH)).print(shown)


def best_of(curve: Curve) -> np.ndarray:
    """Return the iteration at which each run is best, (R,); -1 where no direction is better."""
    if curve.metric not in HIGHER | LOWER:
        return np.full(len(curve.values), -1)
    sign = 1 if curve.metric in HIGHER else -1
    return curve.iterations[(sign * curve.values).argmax(1)]


def cells_at(curve: Curve, where: np.ndarray) -> tuple[str, str]:
    """Return the mean of each run's value at an iteration of its own (or the same of all), and which."""
    columns = [np.flatnonzero(curve.iterations == iteration) for iteration in np.broadcast_to(where, len(curve.values))]
    if not all(len(column) for column in columns):
        return tables.MISSING, tables.MISSING
    found = [row[column[0]] for row, column in zip(curve.values, columns, strict=True)]
    values = scale(curve) * np.array(found)
    half, mean = float(half_width(values)), float(values.mean())
    digits = tables.COLUMNS[curve.metric][2] if curve.metric in tables.COLUMNS else 3
    low, high = int(where.min()), int(where.max())
    spread = "" if np.isnan(half) else f" ± {half:.{digits}f}"
    return f"{mean:.{digits}f}{spread}", f"{low:,}" if low == high else f"{low:,}…{high:,}"


if __name__ == "__main__":
    cli()
