"""Figures of walks for papers: the map of the floors they touch, a legend with scores, the instruction below."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vln_clip.connectivity import NavTables
from vln_clip.errors import InputError
from vln_clip.files import write_atomically
from vln_clip.viewer.footer import draw_footer, footer_height_pt, plan_footer
from vln_clip.viewer.maps import Walks, draw_walks, floor_title
from vln_clip.viewer.traces import Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
# Files of equal content are equal: no dates in them, and fixed names inside.
_METADATA: dict[str, dict[str, str | None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
_DPI = 300
_WIDTH_IN, _MAP_HEIGHT_IN, _GAP_IN, _EDGE_IN = 7.0, 5.2, 0.12, 0.06  # two columns of a paper
_LARGEST_SCALE = 0.36  # inches per metre: short walks need no large picture
_LEAST_WIDTH_IN = 3.4
_TITLE_PT, _FLOOR_PT = 9.0, 7.0


@dataclass(frozen=True)
class _Grid:
    """How panels are arranged: columns, rows and inches per metre."""

    columns: int
    rows: int
    scale: float


def draw_figure(
    traces: Sequence[Trace], graph: NavTables, path: Path, title: str = "", font: Path | None = None
) -> None:
    """Draw walks of one episode into a file for a paper. Files of equal content are equal byte by byte.

    Args:
        traces: of one episode, one per agent.
        graph: holds the episode's building.
        path: file to write, atomically: ``.png``, ``.svg`` or ``.pdf``.
        title: above the picture; building and episode by default.
        font: for the instruction, where it has its letters (``--font``).

    Raises:
        InputError: another ending, or the file cannot be written.
    """
    import matplotlib as mpl  # a second to import, only for pictures

    kind = picture_kind(path, FORMATS, "--map")
    with mpl.rc_context({"svg.hashsalt": "vln_clip", "svg.fonttype": "none", "pdf.fonttype": 42}):
        figure = _make_figure(Walks(traces, graph), title, font)
        save = functools.partial(figure.savefig, format=kind, dpi=_DPI, metadata=_METADATA[kind])
        write_atomically(path, save)


def picture_kind(path: Path, endings: Sequence[str], flag: str) -> str:
    """Return the kind of file that a path's ending asks for, without the dot; another one is an ``InputError``."""
    ending = path.suffix.lower()
    if ending not in endings:
        raise InputError(f"{flag} must name a file that ends in {', '.join(endings)}, got {path}")
    return ending[1:]


def map_array(traces: Sequence[Trace], graph: NavTables, size_px: int | tuple[int, int]) -> np.ndarray:
    """Draw a small map without text: graph, reference as pale band, walks, start, goal and circle of success.

    Args:
        traces: of one episode, one per agent.
        graph: holds the episode's building.
        size_px: edge of a square picture, or width and height.

    Returns:
        (H, W, 3) uint8 RGB; floors that walks or reference touch are side by side.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    width, height = (size_px, size_px) if isinstance(size_px, int) else size_px
    walks = Walks(traces, graph)
    dpi = 100.0
    figure = _new_figure(width / dpi, height / dpi, dpi)
    room = np.array([width, height]) / dpi
    grid = _arrange(walks, room, gap_in=0.03)
    for panel, floor in enumerate(walks.floors):
        column, row = panel % grid.columns, panel // grid.columns
        cell = room / (grid.columns, grid.rows)
        left, bottom = column * cell[0], room[1] - (row + 1) * cell[1]
        inside = (left + 0.01, bottom + 0.01, cell[0] - 0.02, cell[1] - 0.02)
        axis = figure.add_axes(tuple(np.array(inside) / np.tile(room, 2)))
        draw_walks(axis, walks, floor, 1 / (72 * grid.scale), detail=False)
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _make_figure(walks: Walks, title: str, font: Path | None) -> "Figure":
    """Lay out title, panels and what is below them, in inches from the top."""
    size_m = walks.window[1] - walks.window[0]
    several = bool(floor_title(walks, walks.floors[0]))
    heading_in = 1.5 * _FLOOR_PT / 72 if several else 0.0
    grid = _arrange(walks, np.array([_WIDTH_IN, _MAP_HEIGHT_IN]), _GAP_IN, heading_in, _LARGEST_SCALE)
    panel = size_m * grid.scale
    maps_in = grid.columns * panel[0] + (grid.columns - 1) * _GAP_IN
    width = max(maps_in, _LEAST_WIDTH_IN) + 2 * _EDGE_IN
    footer = plan_footer(walks, (width - 2 * _EDGE_IN) * 72, font)
    title_in, footer_in = 1.9 * _TITLE_PT / 72, footer_height_pt(footer) / 72
    height = title_in + grid.rows * (panel[1] + heading_in + _GAP_IN) + footer_in + _EDGE_IN
    figure = _new_figure(width, height, _DPI)
    episode = walks.traces[0].episode
    text = title or f"{episode.scan}, episode {episode.instr_id}"
    figure.text(_EDGE_IN / width, 1 - 0.65 * title_in / height, text, fontsize=_TITLE_PT, va="center", weight="bold")
    for number, floor in enumerate(walks.floors):
        column, row = number % grid.columns, number // grid.columns
        left = (width - maps_in) / 2 + column * (panel[0] + _GAP_IN)
        bottom = height - title_in - (row + 1) * (panel[1] + heading_in) - row * _GAP_IN
        axis = figure.add_axes((left / width, bottom / height, panel[0] / width, panel[1] / height))
        if several:
            axis.set_title(floor_title(walks, floor), fontsize=_FLOOR_PT, pad=3)
        draw_walks(axis, walks, floor, 1 / (72 * grid.scale))
    box = (_EDGE_IN / width, _EDGE_IN / height, 1 - 2 * _EDGE_IN / width, footer_in / height)
    draw_footer(figure.add_axes(box), footer)
    return figure


def _new_figure(width_in: float, height_in: float, dpi: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def _arrange(
    walks: Walks, room_in: np.ndarray, gap_in: float, heading_in: float = 0.0, largest: float = math.inf
) -> _Grid:
    """Choose the number of columns that lets the panels be largest; the fewest rows of equal ones."""
    count, size_m = len(walks.floors), walks.window[1] - walks.window[0]
    grids = []
    for columns in range(count, 0, -1):
        rows = math.ceil(count / columns)
        free = room_in - np.array([(columns - 1) * gap_in, (rows - 1) * gap_in + rows * heading_in])
        grids.append(_Grid(columns, rows, min(float((free / (columns, rows) / size_m).min()), largest)))
    return max(grids, key=lambda grid: grid.scale)
