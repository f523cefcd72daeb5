"""What stands below the maps of a figure: agents with their scores, what the marks mean, the instruction."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vln_clip.records import SUCCESS_RADIUS_M
from vln_clip.tasks.metrics import NAV_ERROR, NDTW, SUCCESS_RATE
from vln_clip.viewer.lettering import Letters, default_font, draw_lines, find_font, line_height, open_font, wrap
from vln_clip.viewer.maps import INK, NEAR, REFERENCE, agent_style, mark_goal, mark_start, was_cut_off
from vln_clip.viewer.traces import Trace
from vln_clip.viewer.walks import Walks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW_PT, _SMALL_PT, _TEXT_PT = 11.0, 7.0, 8.0
_KEY_PT, _SPACE_PT = 24.0, 12.0  # room of a sample, and between entries


@dataclass(frozen=True)
class Key:
    """One entry of the legend: what draws its sample at (x, y) and what is said."""

    draw: "Callable[[Axes, float, float], None]"
    text: str


@dataclass(frozen=True)
class Footer:
    """What is drawn below the maps.

    Attributes:
        width_pt: of the axes.
        agents: one per agent, each on its row.
        rows: entries of the marks, row by row.
        lines: the instruction, broken; empty where it cannot be drawn.
        font: to draw it with.
    """

    width_pt: float
    agents: tuple[Key, ...]
    rows: tuple[tuple[Key, ...], ...]
    lines: tuple[str, ...]
    font: Path


def plan_footer(walks: Walks, width_pt: float, font: Path | None) -> Footer:
    """Decide what is written and where lines break."""
    agents = tuple(_agent_key(number, trace) for number, trace in enumerate(walks.traces))
    rows: list[list[Key]] = [[]]
    for key in _mark_keys(walks):
        if rows[-1] and sum(map(_width_pt, [*rows[-1], key])) > width_pt + _SPACE_PT:
            rows.append([])
        rows[-1].append(key)
    text = walks.traces[0].episode.instruction
    found = find_font(text, font)
    lines = wrap(text, Letters(found, _TEXT_PT), width_pt) if found else []
    return Footer(width_pt, agents, tuple(map(tuple, rows)), tuple(lines), found or default_font())


def footer_height_pt(footer: Footer) -> float:
    """Return how high the axes must be."""
    keys = len(footer.agents) + len(footer.rows)
    return keys * _ROW_PT + 5 + len(footer.lines) * line_height(_TEXT_PT) + 2


def draw_footer(axis: "Axes", footer: Footer) -> None:
    """Draw onto axes of ``footer.width_pt`` by ``footer_height_pt``, whose unit becomes the point."""
    axis.set_axis_off()
    axis.set_xlim(0, footer.width_pt)
    axis.set_ylim(-footer_height_pt(footer), 0)
    y = -_ROW_PT / 2
    for row in (*((key,) for key in footer.agents), *footer.rows):
        x = 0.0
        for key in row:
            key.draw(axis, x, y)
            axis.text(x + _KEY_PT, y, key.text, fontsize=_SMALL_PT, va="center_baseline", color=INK)
            x += _width_pt(key)
        y -= _ROW_PT
    if footer.lines:
        draw_lines(axis, footer.lines, footer.font, _TEXT_PT, (0.0, y + _ROW_PT / 2 - 5))


def _width_pt(key: Key) -> float:
    return _KEY_PT + open_font(default_font(), _SMALL_PT).getlength(key.text) + _SPACE_PT


def _agent_key(number: int, trace: Trace) -> Key:
    color, style, mark = agent_style(number)

    def draw(axis: "Axes", x: float, y: float) -> None:
        axis.plot([x, x + 15], [y, y], color=color, linestyle=style, linewidth=1.7, clip_on=False)
        face = "white" if was_cut_off(trace) else color
        axis.plot(x + 16, y, mark, color=color, markerfacecolor=face, markersize=5, markeredgewidth=1, clip_on=False)

    return Key(draw, f"{trace.agent}: {score_text(trace)}")


def score_text(trace: Trace) -> str:
    """Write a walk's success, nDTW and navigation error, or why there are none."""
    cut = ", cut off before it stopped" if was_cut_off(trace) else ""
    if trace.metrics is None:
        return f"goal hidden, no scores{cut}"
    metrics = trace.metrics
    return f"SR {metrics[SUCCESS_RATE]:.0f}, nDTW {100 * metrics[NDTW]:.1f} %, NE {metrics[NAV_ERROR]:.2f} m{cut}"


def _mark_keys(walks: Walks) -> list[Key]:
    """Return what explains the marks that the maps hold."""

    def start(axis: "Axes", x: float, y: float) -> None:
        mark_start(axis, (x + 11, y), 0.85)

    def goal(axis: "Axes", x: float, y: float) -> None:
        mark_goal(axis, (x + 11, y), 0.9)

    def band(axis: "Axes", x: float, y: float) -> None:
        axis.plot([x + 3, x + 18], [y, y], color=REFERENCE, linewidth=6, solid_capstyle="round", clip_on=False)

    def circle(axis: "Axes", x: float, y: float) -> None:
        from matplotlib.patches import Circle

        look = {"fill": False, "edgecolor": INK, "linewidth": 0.8, "linestyle": (0, (2.5, 1.6)), "clip_on": False}
        axis.add_patch(Circle((x + 11, y), 4.5, **look))

    def near(axis: "Axes", x: float, y: float) -> None:
        axis.plot(x + 11, y, "o", color=NEAR, markersize=3, markeredgewidth=0, clip_on=False)

    keys = [Key(start, "start")]
    if len(walks.reference):
        keys += [
            Key(goal, "goal"),
            Key(band, "reference path"),
            Key(circle, f"{SUCCESS_RADIUS_M:g} m around the goal"),
            Key(near, f"less than {SUCCESS_RADIUS_M:g} m to walk: success"),
        ]
    return keys
