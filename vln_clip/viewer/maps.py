"""Draws walks of one episode on matplotlib axes: what figures, sheets, videos and TensorBoard have in common."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vln_clip.envs.building.map import bare_axes, draw_furniture
from vln_clip.records import SUCCESS_RADIUS_M
from vln_clip.viewer.lanes import lane_offsets, lane_points
from vln_clip.viewer.traces import Trace
from vln_clip.viewer.walks import Walks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told apart by color-blind readers (Okabe and Ito), by line style and end mark in gray print.
AGENT_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#56b4e9")
AGENT_STYLES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "solid",
    (0, (3.5, 1.6)),
    (0, (1.1, 1.3)),
    (0, (6, 1.5, 1, 1.5)),
    (0, (6, 1.5, 1, 1.5, 1, 1.5)),
    (0, (8, 2.5)),
)
AGENT_MARKS = ("o", "s", "^", "D", "v", "P")
REFERENCE, EDGE, NODE, NEAR, INK = "#f5d28a", "#d3d8dd", "#b4bcc4", "#6f7a85", "#1a1a1a"
_LANE_PT = 2.6
_HEAD = ((0.0, 0.75), (0.62, -0.6), (0.0, -0.25), (-0.62, -0.6), (0.0, 0.75))  # an arrowhead that points up


def draw_walks(
    axis: "Axes", walks: Walks, floor: int, metres_per_pt: float, detail: bool = True, agents: bool = True
) -> None:
    """Draw one floor: graph, reference, walks, start, goal and the circle of success.

    Args:
        axis: to draw on.
        walks: what to draw.
        floor: one of ``walks.floors``.
        metres_per_pt: scale at which the axes will be printed; lines that share an edge lie so far apart that they
            do not touch.
        detail: with step numbers, scale bar and north arrow.
        agents: with the agents' lines and ends.
    """
    low, high = walks.window
    bare_axes(axis)
    axis.set_xlim(low[0], high[0])
    axis.set_ylim(low[1], high[1])
    _draw_graph(axis, walks, floor)
    _draw_reference(axis, walks, floor, detail)
    offsets = lane_offsets([trace.viewpoints for trace in walks.traces])
    for row in range(len(walks.traces) if agents else 0):
        _draw_walk(axis, walks, floor, row, offsets[row], metres_per_pt, detail)
    _draw_ends(axis, walks, floor, detail, agents)
    if detail:
        _draw_numbers(axis, walks, floor, metres_per_pt)
        _clear_corners(axis, walks, metres_per_pt)
        draw_furniture(axis, low, high)
    _draw_stairs(axis, walks, floor, detail)


def _clear_corners(axis: "Axes", walks: Walks, metres_per_pt: float) -> None:
    """Blank the graph, not the walks, below scale bar and north arrow."""
    from matplotlib.patches import Rectangle

    low, high = walks.window
    bar, needle = (0.32 * float(high[0] - low[0]), 22 * metres_per_pt), (32 * metres_per_pt, 40 * metres_per_pt)
    for left, (width, height) in ((float(low[0]), bar), (float(high[0]) - needle[0], needle)):
        axis.add_patch(Rectangle((left, float(low[1])), width, height, facecolor="white", linewidth=0, zorder=2.5))


def agent_style(number: int) -> tuple[str, "str | tuple[int, tuple[float, ...]]", str]:
    """Return color, line style and end mark of an agent."""
    return (
        AGENT_COLORS[number % len(AGENT_COLORS)],
        AGENT_STYLES[number % len(AGENT_STYLES)],
        AGENT_MARKS[number % len(AGENT_MARKS)],
    )


def _draw_graph(axis: "Axes", walks: Walks, floor: int) -> None:
    """Draw viewpoints and edges of a floor; where it counts as arrived, viewpoints are darker."""
    from matplotlib.collections import LineCollection

    graph, members = walks.graph, walks.members
    here = np.array([walks.floor[v] == floor for v in members.tolist()])
    pairs = [
        (int(a), int(b))
        for a in members[here]
        for b in graph.neighbor[a, : graph.degree[a]]
        if a < b or walks.floor[int(b)] != floor
    ]
    level = [(a, b) for a, b in pairs if walks.floor[b] == floor]
    stairs = [(a, b) for a, b in pairs if walks.floor[b] != floor]
    place = graph.position[:, :2]
    for some, style in ((level, "solid"), (stairs, "dotted")):
        lines = place[np.array(some, dtype=np.int64).reshape(-1, 2)]
        axis.add_collection(LineCollection(list(lines), colors=EDGE, linewidths=0.8, linestyles=style, zorder=1))
    shown = members[here]
    color = np.full(len(shown), NODE, dtype=object)
    if len(walks.reference):
        color[graph.distance_m(shown, np.array(walks.reference[-1])) < SUCCESS_RADIUS_M] = NEAR
    axis.scatter(place[shown, 0], place[shown, 1], s=7, c=color.tolist(), linewidths=0, zorder=2)


def _draw_reference(axis: "Axes", walks: Walks, floor: int, detail: bool) -> None:
    """Draw the reference path as a broad pale band under everything else, and the circle around the goal."""
    from matplotlib.patches import Circle

    path, place = walks.reference, walks.graph.position[:, :2]
    for a, b in zip(path[:-1].tolist(), path[1:].tolist(), strict=True):
        if floor in (walks.floor[a], walks.floor[b]):
            width = 7 if detail else 5
            axis.plot(*place[[a, b]].T, color=REFERENCE, linewidth=width, solid_capstyle="round", zorder=1.5)
    if len(path) and walks.floor[int(path[-1])] == floor:
        look = {"fill": False, "edgecolor": INK, "linewidth": 0.8, "linestyle": (0, (4, 3)), "zorder": 3}
        axis.add_patch(Circle(tuple(place[path[-1]]), SUCCESS_RADIUS_M, **look))


def _draw_walk(
    axis: "Axes", walks: Walks, floor: int, row: int, offsets: np.ndarray, metres_per_pt: float, detail: bool
) -> None:
    """Draw the line of one agent with arrowheads, as far as it touches a floor."""
    trace, (color, style, _) = walks.traces[row], agent_style(walks.numbers[row])
    segments = lane_points(walks.graph.position[trace.viewpoints, :2], offsets, _LANE_PT * metres_per_pt)
    levels = [walks.floor[v] for v in trace.viewpoints.tolist()]
    run: list[np.ndarray] = []
    runs = [run]
    for t, segment in enumerate(segments):
        if floor in levels[t : t + 2]:
            run.extend(segment)
            _draw_head(axis, segment, color, metres_per_pt, 7 if detail else 5)
        elif run:
            run = []
            runs.append(run)
    for points in filter(None, runs):
        width = 1.7 if detail else 1.5
        (line,) = axis.plot(*np.array(points).T, color=color, linestyle=style, linewidth=width, zorder=4)
        line.set_dash_capstyle("butt")
        line.set_solid_joinstyle("round")


def _draw_head(axis: "Axes", segment: np.ndarray, color: str, metres_per_pt: float, size_pt: float) -> None:
    """Draw an arrowhead on the middle of a segment, (2, 2), that is long enough for one."""
    from matplotlib.markers import MarkerStyle
    from matplotlib.path import Path as Outline
    from matplotlib.transforms import Affine2D

    x, y = segment[1] - segment[0]
    if np.hypot(x, y) < 1.6 * size_pt * metres_per_pt:
        return
    turned = Affine2D().rotate(np.arctan2(y, x) - np.pi / 2)
    mark = MarkerStyle(Outline(np.array(_HEAD) @ turned.get_matrix()[:2, :2].T))
    middle = segment[0] + 0.55 * (segment[1] - segment[0])
    axis.plot(*middle, marker=mark, markersize=size_pt, color=color, markeredgewidth=0, zorder=4.5)


def _draw_ends(axis: "Axes", walks: Walks, floor: int, detail: bool, agents: bool) -> None:
    """Mark the start, where each agent ended (hollow where it was cut off) and the goal."""
    place = walks.graph.position[:, :2]
    size = 1.0 if detail else 0.8
    for row, trace in reversed(list(enumerate(walks.traces if agents else ()))):
        color, _, mark = agent_style(walks.numbers[row])
        end = int(trace.viewpoints[-1])
        if walks.floor[end] == floor:  # of marks at one place the first agent's lies on top, the smallest
            face, edge = ("white", color) if was_cut_off(trace) else (color, "white")
            below = sum(int(other.viewpoints[-1]) == end for other in walks.traces[:row])
            width = size * (8 + 3.5 * below)
            axis.plot(*place[end], mark, markersize=width, markerfacecolor=face, markeredgecolor=edge, zorder=6)
    start = int(walks.traces[0].viewpoints[0])
    if walks.floor[start] == floor:
        mark_start(axis, place[start].tolist(), size)
    if len(walks.reference) and walks.floor[int(walks.reference[-1])] == floor:
        mark_goal(axis, place[walks.reference[-1]].tolist(), size)


def mark_start(axis: "Axes", place: Sequence[float], size: float = 1.0) -> None:
    """Draw the mark of the start."""
    axis.plot(
        place[0],
        place[1],
        "o",
        markersize=7 * size,
        markerfacecolor="white",
        markeredgecolor=INK,
        markeredgewidth=1.6 * size,
        clip_on=False,
        zorder=6.5,
    )


def mark_goal(axis: "Axes", place: Sequence[float], size: float = 1.0) -> None:
    """Draw the mark of the goal."""
    axis.plot(
        place[0],
        place[1],
        "*",
        markersize=8 * size,
        markerfacecolor=INK,
        markeredgecolor="white",
        markeredgewidth=0.7,
        clip_on=False,
        zorder=7,
    )


def was_cut_off(trace: Trace) -> bool:
    """Tell whether an agent ran out of decisions before it stopped; walks from files don't say."""
    return trace.decisions is not None and len(trace.decisions) < len(trace.viewpoints)


def _draw_stairs(axis: "Axes", walks: Walks, floor: int, detail: bool) -> None:
    """Say where walks and reference leave a floor."""
    place, (low, high) = walks.graph.position[:, :2], walks.window
    ways = [walks.reference, *(trace.viewpoints for trace in walks.traces)]
    hops = {(a, b) for way in ways for a, b in zip(way[:-1].tolist(), way[1:].tolist(), strict=True)}
    hops |= {(b, a) for a, b in hops}
    for other in sorted({b for a, b in hops if walks.floor[a] == floor != walks.floor[b]}):
        if (place[other] > low).all() and (place[other] < high).all():
            arrow = "↑" if walks.floor[other] > floor else "↓"
            text = f"{arrow} floor {walks.floor[other] + 1}" if detail else arrow
            box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": NODE, "linewidth": 0.5}
            axis.annotate(text, place[other], fontsize=6, color=INK, ha="center", va="center", bbox=box, zorder=8)


def _draw_numbers(axis: "Axes", walks: Walks, floor: int, metres_per_pt: float) -> None:
    """Write at each place in the agent's color at which steps it was there; the start is step 1, as in pages."""
    from vln_clip.viewer.labels import place_labels

    labels, colors, anchors = [], [], []
    for number, trace in zip(walks.numbers, walks.traces, strict=True):
        times: dict[int, list[str]] = {}
        for t, viewpoint in enumerate(trace.viewpoints.tolist()):
            if t and walks.floor[viewpoint] == floor:
                times.setdefault(viewpoint, []).append(str(t + 1))
        labels += [",".join(steps) for steps in times.values()]
        anchors += list(times)
        colors += [agent_style(number)[0]] * len(times)
    place = walks.graph.position[:, :2] / metres_per_pt
    ways = [walks.reference, *(trace.viewpoints for trace in walks.traces)]
    lines = np.concatenate([np.stack([place[way[:-1]], place[way[1:]]], axis=1) for way in ways if len(way)])
    marks = np.concatenate([walks.reference[-1:], *(trace.viewpoints[[0, -1]] for trace in walks.traces)])
    spots = place_labels(place[anchors], [len(label) for label in labels], lines, place[marks])
    for label, color, spot in zip(labels, colors, spots * metres_per_pt, strict=True):
        axis.annotate(label, tuple(spot), fontsize=6, color=color, ha="center", va="center", zorder=8)
