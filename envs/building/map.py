"""Draws the map of a scan: viewpoints with ids, edges, north arrow and scale bar, one panel per floor."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vln_clip.connectivity.graphs import ScanGraph
from vln_clip.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FLOOR_HEIGHT_M = 2.2  # floors are at least so far apart
_SAME_FLOOR_M = 0.5
_MIN_FLOOR_SHARE = 0.08
_INCHES_PER_EDGE, _MIN_INCHES, _MAX_INCHES = 0.8, 4.0, 22.0
_MARGIN_M, _BAND = 1.0, 0.05
_ID_LETTERS = 8  # ids up to this long are written out
_NODE, _ISLAND, _ISOLATED = "#1f5fa8", "#e08214", "#c51b2f"


def draw_map(graph: ScanGraph, path: Path, title: str = "") -> None:
    """Draw the map of a scan into a PNG file.

    Viewpoints of the largest component are blue, those of others orange, those without an edge red.

    Args:
        graph: included viewpoints.
        path: file to write, atomically.
        title: above the picture; the scan's id by default.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # a second to import, only for pictures
    from matplotlib.figure import Figure

    floors = find_floors(graph.position[:, 2])
    count = int(floors.max()) + 1
    low, high = graph.position[:, :2].min(0) - _MARGIN_M, graph.position[:, :2].max(0) + _MARGIN_M
    low[1] -= _BAND * (high - low).max()  # a free band for scale bar and north arrow
    width, height = _panel_inches(graph, high - low)
    figure = Figure(figsize=(count * width + 0.3, height + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, count, squeeze=False)[0]
    labels = short_ids(graph.viewpoint_ids)
    for floor, axis in enumerate(axes):
        _draw_floor(axis, graph, floors, floor, labels)
        axis.set_xlim(low[0], high[0])
        axis.set_ylim(low[1], high[1])
        draw_furniture(axis, low, high)
    figure.suptitle(title or f"{graph.scan}: {len(graph.viewpoint_ids)} viewpoints, {graph.edges.sum() // 2} edges")
    write_atomically(path, functools.partial(figure.savefig, format="png", dpi=130))


def heights_text(height_m: np.ndarray) -> str:
    """Say at which heights cameras are, (N,) metres; one number where they agree."""
    low, high = f"{height_m.min():.1f}", f"{height_m.max():.1f}"
    return f"cameras at {low} m" if low == high else f"cameras at {low} to {high} m"


def find_floors(height_m: np.ndarray) -> np.ndarray:
    """Return the floor of every viewpoint, (N,) int64, 0 the lowest.

    Heights at which many viewpoints lie are floors, the most frequent first, as long as they are 2.2 m from those
    found before; the others (stairs) count to the nearest floor.

    Args:
        height_m: (N,) heights of the cameras.
    """
    levels: list[float] = []
    free = np.ones(len(height_m), dtype=bool)
    near = np.abs(height_m[:, None] - height_m[None]) <= _SAME_FLOOR_M
    while free.any():
        crowd = np.where(free, (near & free[None]).sum(axis=1), 0)
        best = int(crowd.argmax())
        if levels and crowd[best] < max(2, _MIN_FLOOR_SHARE * len(height_m)):
            break
        levels.append(float(height_m[near[best] & free].mean()))
        free &= np.abs(height_m - levels[-1]) >= FLOOR_HEIGHT_M
    return np.abs(height_m[:, None] - np.sort(levels)[None]).argmin(axis=1)


def bare_axes(axis: "Axes") -> None:
    """Make axes a map's: one scale in both directions, no ticks, a faint frame."""
    axis.set_aspect("equal")
    axis.set_xticks([])
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set_color("#d0d5da")


def draw_furniture(axis: "Axes", low: np.ndarray, high: np.ndarray) -> None:
    """Draw north arrow (+y, heading 0) and scale bar into the lowest part of a map.

    Args:
        axis: to draw on.
        low: (2,) smallest x and y of the axes, metres.
        high: (2,) largest ones.
    """
    width_m, height_m = (high - low).tolist()
    length_m = max((step for step in (0.5, 1, 2, 5, 10, 20, 50) if step <= width_m / 4), default=0.5)
    x, y = low[0] + 0.03 * width_m, low[1] + 0.02 * height_m
    axis.plot([x, x + length_m], [y, y], color="black", linewidth=2.5, solid_capstyle="butt", zorder=3)
    axis.annotate(f"{length_m:g} m", (x + length_m / 2, y), (0, 3), textcoords="offset points", fontsize=7, ha="center")
    tail = (high[0] - 0.04 * width_m, y)
    arrow = {"arrowstyle": "<|-", "color": "black", "linewidth": 1.2}
    axis.annotate("", tail, (0, 24), textcoords="offset points", arrowprops=arrow)
    axis.annotate("N", tail, (-5, 8), textcoords="offset points", fontsize=8, ha="right")


def short_ids(ids: tuple[str, ...]) -> list[str]:
    """Shorten long ids to as many first letters as tell them apart, at least four."""
    if max(map(len, ids)) <= _ID_LETTERS:
        return list(ids)
    length = next(n for n in range(4, max(map(len, ids)) + 1) if len({name[:n] for name in ids}) == len(set(ids)))
    if length > _ID_LETTERS:  # numbered names differ at their end
        return [name if len(name) <= _ID_LETTERS else f"…{name[-_ID_LETTERS:]}" for name in ids]
    return [name[:length] for name in ids]


def _panel_inches(graph: ScanGraph, size_m: np.ndarray) -> tuple[float, float]:
    """Return a panel's width and height that leave room for the labels of neighbouring viewpoints."""
    apart = np.linalg.norm(graph.position[:, None] - graph.position[None], axis=-1)
    lengths = apart[graph.edges]
    scale = _INCHES_PER_EDGE / max(float(np.median(lengths)) if len(lengths) else 2.0, 0.2)
    longest = float(size_m.max())
    scale = min(max(scale, _MIN_INCHES / longest), _MAX_INCHES / longest)
    return max(float(size_m[0]) * scale, _MIN_INCHES / 2), max(float(size_m[1]) * scale, _MIN_INCHES / 2)


def _draw_floor(axis: "Axes", graph: ScanGraph, floors: np.ndarray, floor: int, labels: list[str]) -> None:
    """Draw the viewpoints of a floor and their edges; edges to another floor are dashed and say where to."""
    place = graph.position[:, :2]
    here = floors == floor
    for i, j in np.argwhere(np.triu(graph.edges)).tolist():
        if here[i] and here[j]:
            axis.plot(*place[[i, j]].T, color="#9aa5b1", linewidth=1.2, zorder=1)
        elif here[i] or here[j]:
            other = j if here[i] else i
            axis.plot(*place[[i, j]].T, color="#9aa5b1", linewidth=1.2, linestyle=(0, (3, 2)), zorder=1)
            where = f"{'↑' if floors[other] > floor else '↓'} {labels[other]}"
            axis.annotate(where, place[other], fontsize=6, color="#6b7785", ha="center", va="center", zorder=2)
    colors = np.array(_node_colors(graph), dtype=object)
    axis.scatter(place[here, 0], place[here, 1], s=26, c=colors[here].tolist(), zorder=3, linewidths=0)
    for index in np.nonzero(here)[0].tolist():
        axis.annotate(labels[index], place[index], (3, 3), textcoords="offset points", fontsize=6.5, zorder=4)
    axis.set_title(f"floor {floor + 1}: {heights_text(graph.position[here, 2])}", fontsize=9)
    bare_axes(axis)


def _node_colors(graph: ScanGraph) -> list[str]:
    component = graph.components()
    largest = np.bincount(component).argmax()
    degree = graph.edges.sum(axis=1)
    return [
        _ISOLATED if not degree[i] and len(degree) > 1 else _NODE if component[i] == largest else _ISLAND
        for i in range(len(degree))
    ]
