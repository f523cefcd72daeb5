"""Contact sheets: many episodes on a page, each a small map with its id, success, nDTW and instruction."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from vln_clip.connectivity import NavTables
from vln_clip.errors import InputError
from vln_clip.files import write_drawn
from vln_clip.tasks.metrics import NDTW, SUCCESS_RATE
from vln_clip.viewer.figure import picture_kind
from vln_clip.viewer.lettering import Letters, default_font, draw_lines, find_font, line_height, open_font, wrap
from vln_clip.viewer.maps import INK, NODE, REFERENCE, agent_style, draw_walks, mark_goal, mark_start
from vln_clip.viewer.panels import fill_room, new_figure
from vln_clip.viewer.traces import Trace
from vln_clip.viewer.walks import Walks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf")
MOST_EPISODES = 200
_CELL_IN, _GAP_IN, _HEAD_IN = (1.86, 2.15), 0.1, 0.36
_PAGE_COLUMNS, _PAGE_ROWS, _MOST_COLUMNS = 4, 5, 10  # a page of a PDF fits A4; a PNG is one picture
_TITLE_PT, _ID_PT, _TEXT_PT, _TEXT_LINES = 9.0, 6.5, 5.5, 2
_DPI = 130
_REACHED, _MISSED, _HIDDEN = "✓", "✗", "?"


def draw_sheet(
    groups: Sequence[Sequence[Trace]], graph: NavTables, path: Path, title: str = "", font: Path | None = None
) -> None:
    """Draw a contact sheet: one picture as PNG, pages of 20 episodes as PDF.

    Args:
        groups: per episode the traces of its agents, 1 to 200 episodes.
        graph: holds the buildings.
        path: file to write, atomically: ``.png`` or ``.pdf``.
        title: above every page; the number of episodes by default.
        font: for instructions, where it has their letters (``--font``).

    Raises:
        InputError: another ending, no or too many episodes, or the file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_pdf import PdfPages

    kind = picture_kind(path, FORMATS, "--sheet")
    if not 1 <= len(groups) <= MOST_EPISODES:
        raise InputError(
            f"--sheet must hold 1 to {MOST_EPISODES} episodes, got {len(groups)}; choose fewer with --limit"
        )
    title = title or f"{len(groups)} episode{'s' if len(groups) > 1 else ''}"
    columns, rows = _shape(len(groups), kind)
    names = list(dict.fromkeys(trace.agent for traces in groups for trace in traces))

    def write_pdf(file: BinaryIO) -> None:
        with PdfPages(file, metadata={"CreationDate": None}) as pages:
            for first in range(0, len(groups), columns * rows):
                part = groups[first : first + columns * rows]
                pages.savefig(_make_page(part, graph, names, (columns, rows), title, font))

    def write_png(file: BinaryIO) -> None:
        _make_page(groups, graph, names, (columns, rows), title, font).savefig(file, format="png", dpi=_DPI)

    with mpl.rc_context({"pdf.fonttype": 42}):
        write_drawn(path, write_pdf if kind == "pdf" else write_png)


def _shape(count: int, kind: str) -> tuple[int, int]:
    """Return columns and rows of a page: full pages for a PDF, about a square for a PNG."""
    most = _PAGE_COLUMNS if kind == "pdf" else max(_PAGE_COLUMNS, min(_MOST_COLUMNS, math.ceil(math.sqrt(1.2 * count))))
    columns = min(count, most)
    rows = math.ceil(count / columns)
    return columns, min(rows, _PAGE_ROWS) if kind == "pdf" else rows


def _make_page(
    groups: Sequence[Sequence[Trace]],
    graph: NavTables,
    names: Sequence[str],
    shape: tuple[int, int],
    title: str,
    font: Path | None,
) -> "Figure":
    """Lay out cells row by row under the title and the legend."""
    columns, rows = shape
    step = np.array(_CELL_IN) + _GAP_IN
    legend = _legend_rows(names, columns * float(step[0]) * 72)
    head_in = _HEAD_IN + (len(legend) - 1) * 0.16 + 0.16
    width, height = columns * float(step[0]) + _GAP_IN, rows * float(step[1]) + head_in + _GAP_IN
    figure = new_figure(width, height, _DPI)
    figure.text(_GAP_IN / width, 1 - 0.15 / height, title, fontsize=_TITLE_PT, weight="bold", va="center")
    axis = figure.add_axes((_GAP_IN / width, 1 - head_in / height, 1 - 2 * _GAP_IN / width, (head_in - 0.26) / height))
    _draw_legend(axis, legend, ((width - 2 * _GAP_IN) * 72, (head_in - 0.26) * 72))
    for number, traces in enumerate(groups):
        left = _GAP_IN + (number % columns) * float(step[0])
        bottom = height - head_in - _GAP_IN - (number // columns) * float(step[1]) - _CELL_IN[1]
        _draw_cell(figure, (left, bottom), Walks(traces, graph, names), font)
    return figure


def _draw_cell(figure: "Figure", corner: tuple[float, float], walks: Walks, font: Path | None) -> None:
    """Draw an episode into the cell whose lower left corner is given in inches."""
    size = figure.get_size_inches()
    (width, height), (left, bottom) = _CELL_IN, corner
    text_in, line_in = (_TEXT_LINES * line_height(_TEXT_PT) + 3) / 72, 1.5 * _ID_PT / 72
    metres_per_pt, boxes = fill_room(walks, np.array([width, height - text_in - line_in]))
    for floor, (x, y, w, h) in boxes.items():
        place = ((left + x) / size[0], (bottom + text_in + y) / size[1], w / size[0], h / size[1])
        draw_walks(figure.add_axes(place), walks, floor, metres_per_pt, detail=False)
    axis = figure.add_axes((left / size[0], bottom / size[1], width / size[0], height / size[1]))
    axis.set_axis_off()
    axis.patch.set_alpha(0)
    axis.set_xlim(0, width * 72)
    axis.set_ylim(0, height * 72)
    top = height * 72 - 0.5 * _ID_PT
    axis.text(0, top, walks.traces[0].episode.instr_id, fontsize=_ID_PT, va="center", weight="bold", color=INK)
    _draw_scores(axis, walks, width * 72, top)
    text = walks.traces[0].episode.instruction
    file = find_font(text, font)
    if file:
        lines = _first_lines(text, file, width * 72)
        draw_lines(axis, lines, file, _TEXT_PT, (0.0, text_in * 72 - 2))


def _draw_scores(axis: "Axes", walks: Walks, right: float, y: float) -> None:
    """Write success and nDTW of every agent in its color, the last one at the right edge."""
    letters = open_font(default_font(), _ID_PT)
    for number, trace in reversed(list(zip(walks.numbers, walks.traces, strict=True))):
        metrics = trace.metrics
        text = (
            _HIDDEN
            if metrics is None
            else f"{_REACHED if metrics[SUCCESS_RATE] else _MISSED} {100 * metrics[NDTW]:.0f}"
        )
        axis.text(right, y, text, fontsize=_ID_PT, va="center", ha="right", color=agent_style(number)[0])
        right -= letters.getlength(text) + 7


def _first_lines(text: str, file: Path, width: float) -> list[str]:
    """Return what of a text fits under a map, with dots where there is more."""
    letters = Letters(file, _TEXT_PT)
    lines = wrap(text, letters, width)
    if len(lines) <= _TEXT_LINES:
        return lines
    last = lines[_TEXT_LINES - 1]
    while last and letters.getlength(f"{last} …") > width:
        last = last[: last.rfind(" ")] if " " in last else last[:-1]
    return [*lines[: _TEXT_LINES - 1], f"{last} …"]


def _legend_rows(names: Sequence[str], width_pt: float) -> list[list[tuple[str, str]]]:
    """Return kind and text of the legend's entries, row by row."""
    entries = [(str(number), name) for number, name in enumerate(names)]
    entries += [("start", "start"), ("goal", "goal"), ("band", "reference path")]
    entries.append(("", f"{_REACHED} success, {_MISSED} failure, nDTW %"))
    rows: list[list[tuple[str, str]]] = [[]]
    for entry in entries:
        if rows[-1] and sum(map(_entry_width, [*rows[-1], entry])) > width_pt:
            rows.append([])
        rows[-1].append(entry)
    return rows


def _entry_width(entry: tuple[str, str]) -> float:
    return (18 if entry[0] else 0) + open_font(default_font(), _ID_PT).getlength(entry[1]) + 10


def _draw_legend(axis: "Axes", rows: Sequence[Sequence[tuple[str, str]]], size_pt: tuple[float, float]) -> None:
    """Draw samples and texts on axes of a size in points."""
    axis.set_axis_off()
    axis.set_xlim(0, size_pt[0])
    axis.set_ylim(0, size_pt[1])
    for number, row in enumerate(rows):
        x, y = 0.0, size_pt[1] - 6 - 11.5 * number
        for kind, text in row:
            if kind == "start":
                mark_start(axis, (x + 8, y), 0.7)
            elif kind == "goal":
                mark_goal(axis, (x + 8, y), 0.8)
            elif kind == "band":
                axis.plot([x + 2, x + 13], [y, y], color=REFERENCE, linewidth=5, solid_capstyle="round")
            elif kind:
                color, style, mark = agent_style(int(kind))
                axis.plot([x, x + 12], [y, y], color=color, linestyle=style, linewidth=1.5)
                axis.plot(x + 13, y, mark, color=color, markersize=3.5)
            axis.text(x + (18 if kind else 0), y, text, fontsize=_ID_PT, va="center_baseline", color=INK)
            x += _entry_width((kind, text))
    axis.axhline(0, color=NODE, linewidth=0.5)
