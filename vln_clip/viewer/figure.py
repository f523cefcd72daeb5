"""Figures of walks for papers: the map of the floors they touch, a legend with scores, the instruction below."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vln_clip.connectivity import NavTables
from vln_clip.errors import InputError
from vln_clip.files import write_drawn
from vln_clip.viewer.footer import draw_footer, footer_height_pt, plan_footer
from vln_clip.viewer.maps import draw_walks
from vln_clip.viewer.panels import arrange, new_figure
from vln_clip.viewer.smallmap import map_array
from vln_clip.viewer.traces import Trace
from vln_clip.viewer.walks import Walks, floor_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_figure", "map_array", "picture_kind"]

FORMATS = (".png", ".svg", ".pdf")
# Files of equal content are equal: no dates in them, and fixed names inside.
_METADATA: dict[str, dict[str, str | None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
_DPI = 300
_WIDTH_IN, _MAP_HEIGHT_IN, _GAP_IN, _EDGE_IN = 7.0, 5.2, 0.12, 0.06  # two columns of a paper
_LARGEST_SCALE = 0.36  # inches per metre: short walks need no large picture
_LEAST_WIDTH_IN = 3.4
_TITLE_PT, _FLOOR_PT = 9.0, 7.0


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
        write_drawn(path, save)


def picture_kind(path: Path, endings: Sequence[str], flag: str) -> str:
    """Return the kind of file that a path's ending asks for, without the dot; another one is an ``InputError``."""
    ending = path.suffix.lower()
    if ending not in endings:
        raise InputError(f"{flag} must name a file that ends in {', '.join(endings)}, got {path}")
    return ending[1:]


def _make_figure(walks: Walks, title: str, font: Path | None) -> "Figure":
    """Lay out title, panels and what is below them, in inches from the top."""
    size_m = walks.window[1] - walks.window[0]
    several = bool(floor_title(walks, walks.floors[0]))
    heading_in = 1.5 * _FLOOR_PT / 72 if several else 0.0
    grid = arrange(walks, np.array([_WIDTH_IN, _MAP_HEIGHT_IN]), _GAP_IN, heading_in, _LARGEST_SCALE)
    panel = size_m * grid.scale
    maps_in = grid.columns * panel[0] + (grid.columns - 1) * _GAP_IN
    width = max(maps_in, _LEAST_WIDTH_IN) + 2 * _EDGE_IN
    footer = plan_footer(walks, (width - 2 * _EDGE_IN) * 72, font)
    title_in, footer_in = 1.9 * _TITLE_PT / 72, footer_height_pt(footer) / 72
    height = title_in + grid.rows * (panel[1] + heading_in + _GAP_IN) + footer_in + _EDGE_IN
    figure = new_figure(width, height, _DPI)
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
