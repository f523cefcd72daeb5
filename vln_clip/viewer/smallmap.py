"""Small maps as arrays: for TensorBoard, contact sheets and beside the picture of a film."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vln_clip.connectivity import NavTables
from vln_clip.viewer.maps import Walks, draw_walks
from vln_clip.viewer.panels import fill_room, new_figure
from vln_clip.viewer.traces import Trace

_DPI = 100.0


@dataclass(frozen=True, eq=False)
class SmallMap:
    """A drawn map and where places of the world are on it.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        panels: of each drawn floor, the pixel of x = 0, y = 0 and pixels per metre: (left, top, scale).
    """

    picture: np.ndarray
    panels: Mapping[int, tuple[float, float, float]]

    def spot(self, place: np.ndarray, floor: int) -> tuple[float, float]:
        """Return the pixel of a position, (2,) or (3,) metres, on the panel of a floor."""
        left, top, scale = self.panels[floor]
        return left + scale * float(place[0]), top - scale * float(place[1])


def map_array(traces: Sequence[Trace], graph: NavTables, size_px: int | tuple[int, int]) -> np.ndarray:
    """Draw a small map without text: graph, reference as pale band, walks, start, goal and circle of success.

    Args:
        traces: of one episode, one per agent.
        graph: holds the episode's building.
        size_px: edge of a square picture, or width and height.

    Returns:
        (H, W, 3) uint8 RGB; floors that walks or reference touch are side by side.
    """
    return small_map(Walks(traces, graph), (size_px, size_px) if isinstance(size_px, int) else size_px).picture


def small_map(walks: Walks, size_px: tuple[int, int], agents: bool = True, dpi: float = _DPI) -> SmallMap:
    """Draw a small map.

    Args:
        walks: what to draw.
        size_px: width and height.
        agents: with the lines of the agents; without them it is the ground for a film.
        dpi: pixels per inch: the larger, the thicker lines and marks are.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    room = np.array(size_px) / dpi  # inches
    figure = new_figure(size_px[0] / dpi, size_px[1] / dpi, dpi)
    metres_per_pt, boxes = fill_room(walks, room)
    axes = {}
    for floor, box in boxes.items():
        axes[floor] = figure.add_axes(tuple((np.array(box) / np.tile(room, 2)).tolist()))
        draw_walks(axes[floor], walks, floor, metres_per_pt, detail=False, agents=agents)
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    panels = {}
    for floor, axis in axes.items():
        (left, bottom), (right, _) = axis.transData.transform([(0, 0), (1, 0)]).tolist()
        panels[floor] = (left, size_px[1] - bottom, right - left)
    return SmallMap(np.asarray(canvas.buffer_rgba())[..., :3].copy(), panels)
