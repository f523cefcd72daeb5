"""Draws learning curves: a panel per number, a color, line style and band per group of runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vln_clip.curves import Curve
from vln_clip.files import write_drawn
from vln_clip.tables import COLUMNS
from vln_clip.viewer.maps import AGENT_COLORS, AGENT_STYLES, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH_IN, _PANEL_IN, _LEGEND_ROW_IN, _DPI = 7.0, 2.1, 0.19, 200
_MOST_COLUMNS = 3
_GRID, _BAND, _FAINT = "#dfe3e7", 0.18, "#6f7a85"
# Text stays text, and files of equal content are equal.
_STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "svg.fonttype": "none",
    "svg.hashsalt": "vln_clip",
    "pdf.fonttype": 42,
}
_METADATA: dict[str, dict[str, str | None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}


def draw_curves(path: Path, panels: Sequence[Sequence[Curve]], num_splits: int, title: str, window: int) -> None:
    """Draw learning curves into a file.

    Args:
        path: ``.png``, ``.svg`` or ``.pdf``; written atomically.
        panels: curves of each panel, all of one key; panels of the splits of one metric follow each other.
        num_splits: how many do.
        title: what was trained, on what.
        window: number of validations in each running mean; 1 does not smooth.
    """
    from matplotlib import rc_context  # a second to import, only for pictures

    with rc_context(_STYLE):
        figure = make_figure(panels, num_splits, title, window)
        kind = path.suffix.lower()[1:]
        write_drawn(path, lambda file: figure.savefig(file, format=kind, dpi=_DPI, metadata=_METADATA[kind]))


def make_figure(panels: Sequence[Sequence[Curve]], num_splits: int, title: str, window: int) -> "Figure":
    """Lay out panels and legend; arguments as for ``draw_curves``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(num_splits if num_splits > 1 else _MOST_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    names = list(dict.fromkeys((curve.label, curve.stage) for panel in panels for curve in panel))
    stages = len({stage for _, stage in names}) > 1
    handles = _legend(panels, names, stages, window)
    legend_columns = 2 if len(handles) > 1 else 1
    legend_in = (-(-len(handles) // legend_columns)) * _LEGEND_ROW_IN + 0.15
    height = rows * _PANEL_IN + legend_in + 0.3
    layout = ConstrainedLayoutEngine(rect=(0, legend_in / height, 1, 1 - legend_in / height))
    figure = Figure(figsize=(_WIDTH_IN, height), layout=layout)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey="row" if num_splits > 1 else False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for number, (axis, curves) in enumerate(zip(axes.flat, panels, strict=False)):
        _draw_panel(axis, curves, names, window)
        _name_panel(axis, curves[0], first=number < columns, left=number % columns == 0, grid=num_splits > 1)
        if number + columns >= len(panels):
            axis.set_xlabel("iteration")
            axis.tick_params(labelbottom=True)
    for axis, curves in zip(axes.flat, panels, strict=False):  # that ends autoscaling, also of panels beside
        _keep_possible(axis, curves[0])
    figure.suptitle(title, fontsize=9, fontweight="bold")
    look: dict[str, Any] = {"loc": "lower center", "ncols": legend_columns, "frameon": False, "handlelength": 2.6}
    figure.legend(handles=handles, **look)
    return figure


def _style(number: int) -> tuple[str, Any]:
    """Return color and line style of a curve."""
    count = len(AGENT_COLORS)
    return AGENT_COLORS[number % count], AGENT_STYLES[(number + number // count) % len(AGENT_STYLES)]


def _draw_panel(axis: "Axes", curves: Sequence[Curve], names: Sequence[tuple[str, str]], window: int) -> None:
    """Draw the curves of one number."""
    from matplotlib.ticker import MaxNLocator

    for curve in curves:
        color, line = _style(names.index((curve.label, curve.stage)))
        shown, factor = curve.smoothed(window), scale(curve)
        x, mean = curve.iterations, factor * shown.mean
        single = len(x) == 1  # no line to see
        axis.plot(x, mean, color=color, linestyle=line, linewidth=1.5, marker="o" if single else "", markersize=3)
        if len(shown.values) > 1:
            half = factor * shown.half_width
            axis.fill_between(x, mean - half, mean + half, color=color, alpha=_BAND, linewidth=0)
        for values, best in zip(factor * shown.values, curve.best, strict=True):
            at = np.flatnonzero(x == best)
            axis.plot(x[at], values[at], **_best_mark(color))
    axis.grid(color=_GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))


def _keep_possible(axis: "Axes", curve: Curve) -> None:
    """Cut a panel off where the values of a metric end: intervals of few seeds go beyond, the metric can't."""
    if curve.metric not in COLUMNS:
        return
    low, high = axis.get_ylim()
    margin = 0.02 * (high - low)
    most = scale(curve) if scale(curve) > 1 else np.inf
    axis.set_ylim(max(low, -margin), min(high, most + margin))


def _best_mark(color: str) -> dict[str, Any]:
    return {"marker": "D", "markersize": 4.5, "color": color, "markeredgecolor": "white", "linestyle": "none"} | {
        "markeredgewidth": 0.7,
        "zorder": 5,
    }


def _name_panel(axis: "Axes", curve: Curve, first: bool, left: bool, grid: bool) -> None:
    """Say what a panel shows: in a grid of metrics by splits at the edges, else above each."""
    if grid and curve.metric in COLUMNS:
        if first:
            axis.set_title(curve.split)
        if left:
            axis.set_ylabel(quantity(curve))
    else:
        name = curve.key if quantity(curve) == curve.metric else f"{curve.split}, {quantity(curve)}"
        axis.set_title(name)


def quantity(curve: Curve) -> str:
    """Return what a number is called, with its unit where it is known."""
    return COLUMNS[curve.metric][0] if curve.metric in COLUMNS else curve.metric


def scale(curve: Curve) -> float:
    """Return by what a number is multiplied to be shown."""
    return COLUMNS[curve.metric][1] if curve.metric in COLUMNS else 1.0


def _legend(
    panels: Sequence[Sequence[Curve]], names: Sequence[tuple[str, str]], stages: bool, window: int
) -> list[Any]:
    """Return what the legend explains: every curve with its number of runs, the band, the mark."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    largest = 1
    for number, (label, stage) in enumerate(names):
        counts = {len(c.values) for panel in panels for c in panel if (c.label, c.stage) == (label, stage)}
        largest = max(largest, *counts)
        said = f"{label}, {stage}" if stages else label
        runs = f"n = {'/'.join(map(str, sorted(counts)))}"
        color, line = _style(number)
        handles.append(Line2D([], [], color=color, linestyle=line, linewidth=1.5, label=f"{said} ({runs})"))
    if largest > 1:
        handles.append(Patch(color=_FAINT, alpha=2 * _BAND, label="mean over n runs, 95 % t-interval"))
    if any((curve.best >= 0).any() for panel in panels for curve in panel):
        of_each = " of each run" if largest > 1 else ""
        label = f"best checkpoint{of_each} (by val_unseen)"
        handles.append(Line2D([], [], label=label, **_best_mark(INK)))
    if window > 1:
        handles.append(Line2D([], [], linestyle="none", label=f"running means over {window} validations"))
    return handles
