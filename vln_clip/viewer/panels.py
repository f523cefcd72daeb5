"""Arranges the floors of a map as panels."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vln_clip.viewer.maps import Walks

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Grid:
    """How panels are arranged: columns, rows and inches per metre."""

    columns: int
    rows: int
    scale: float


def new_figure(width_in: float, height_in: float, dpi: float) -> "Figure":
    """Return an empty figure that is drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def arrange(
    walks: Walks, room_in: np.ndarray, gap_in: float, heading_in: float = 0.0, largest: float = math.inf
) -> Grid:
    """Choose the number of columns that lets the panels be largest; the fewest rows of equal ones."""
    count, size_m = len(walks.floors), walks.window[1] - walks.window[0]
    grids = []
    for columns in range(count, 0, -1):
        rows = math.ceil(count / columns)
        free = room_in - np.array([(columns - 1) * gap_in, (rows - 1) * gap_in + rows * heading_in])
        grids.append(Grid(columns, rows, min(float((free / (columns, rows) / size_m).min()), largest)))
    return max(grids, key=lambda grid: grid.scale)


def fill_room(walks: Walks, room_in: np.ndarray) -> tuple[float, dict[int, tuple[float, float, float, float]]]:
    """Divide a rectangle among the floors of a small map.

    Args:
        walks: what will be drawn.
        room_in: (2,) width and height, inches.

    Returns:
        Metres per point, and left, bottom, width and height of each floor's axes in inches.
    """
    grid = arrange(walks, room_in, gap_in=0.03)
    cell, rim = room_in / (grid.columns, grid.rows), 0.01
    boxes = {}
    for panel, floor in enumerate(walks.floors):
        left, bottom = (panel % grid.columns) * cell[0], room_in[1] - (panel // grid.columns + 1) * cell[1]
        boxes[floor] = (float(left) + rim, float(bottom) + rim, float(cell[0]) - 2 * rim, float(cell[1]) - 2 * rim)
    return 1 / (72 * grid.scale), boxes
