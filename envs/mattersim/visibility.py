"""What the Matterport3D simulator lists as navigable from a pose, scan by scan, in its arithmetic.

Positions and directions are float32 and the horizontal angle is a float32 arctangent, as in the simulator
(peteanderson80/Matterport3DSimulator@589d091), so that order and visibility are the recorded ones.
"""

import functools
import math
from bisect import bisect_left
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vln_clip.connectivity.graphs import ScanGraph, graph_path, load_graph
from vln_clip.records import ELEVATION_STEP_RAD, HEADING_STEP_RAD, NUM_HEADINGS, NUM_VIEWS

LEVELS_RAD = (-ELEVATION_STEP_RAD, 0.0, ELEVATION_STEP_RAD)
HEADINGS_RAD = tuple(step * HEADING_STEP_RAD for step in range(NUM_HEADINGS))


class ViewPoint(NamedTuple):
    """A viewpoint as seen from a pose.

    Attributes:
        viewpointId: 32 hexadecimal digits.
        ix: row in the connectivity file.
        x: world position in metres, likewise y and z.
        rel_heading: radians to the right of the camera's heading.
        rel_elevation: radians above the camera's elevation.
        rel_distance: metres.
    """

    viewpointId: str  # noqa: N815 - names of the MatterSim API
    ix: int
    x: float
    y: float
    z: float
    rel_heading: float
    rel_elevation: float
    rel_distance: float

    @property
    def point(self) -> list[float]:
        """Return [x, y, z], the older API's spelling."""
        return [self.x, self.y, self.z]


Locations = tuple[ViewPoint, ...]


class Scan:
    """The directed edges of one building, ordered by the viewpoint that they leave.

    Args:
        graph: viewpoints and edges.
    """

    def __init__(self, graph: ScanGraph) -> None:
        self.graph, self.ids = graph, graph.viewpoint_ids
        self.row = {viewpoint_id: i for i, viewpoint_id in enumerate(self.ids)}
        self.position = graph.position.astype(np.float32)
        self.source, self.target = (part.astype(np.int64) for part in np.nonzero(graph.edges))  # (E,) each
        self.start = np.searchsorted(self.source, np.arange(len(self.ids) + 1)).tolist()
        offset = self.position[self.target] - self.position[self.source]  # (E, 3) float32
        self.offset_xy = offset[:, :2]
        self.across_m = np.sqrt((self.offset_xy * self.offset_xy).sum(1))
        self.distance_m = np.sqrt((offset * offset).sum(1)).astype(np.float64)
        self.elevation_rad = np.arctan2(offset[:, 2].astype(np.float64), self.across_m.astype(np.float64))
        self.here = tuple(self._viewpoint(i, 0.0, 0.0, 0.0) for i in range(len(self.ids)))

    def _viewpoint(self, i: int, heading_rad: float, elevation_rad: float, distance_m: float) -> ViewPoint:
        x, y, z = self.position[i].tolist()
        return ViewPoint(self.ids[i], self.graph.rows[i], x, y, z, heading_rad, elevation_rad, distance_m)

    def relative(self, heading_rad: np.ndarray, edges: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return headings relative to cameras, and the cosines that decide on visibility.

        Args:
            heading_rad: (C,) float64 camera headings.
            edges: which edges, E' of them.

        Returns:
            (C, E') float32 each; straight up or down the cosine is NaN, which is never visible.
        """
        angle = math.pi / 2 - heading_rad[:, None]
        c_x, c_y = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        d_x, d_y = self.offset_xy[edges].T
        forward = d_x * c_x + d_y * c_y
        with np.errstate(invalid="ignore"):
            return np.arctan2(d_x * c_y - d_y * c_x, forward), forward / self.across_m[edges]

    def locations(self, i: int, heading_rad: float, elevation_rad: float, min_cos: float) -> Locations:
        """List what is navigable at any pose: the viewpoint itself, then the visible neighbours.

        Args:
            i: viewpoint of the scan.
            heading_rad: of the camera.
            elevation_rad: of the camera.
            min_cos: cosine of half the field of view; -inf where navigation is not restricted to it.
        """
        edges = slice(self.start[i], self.start[i + 1])
        heading, cosine = self.relative(np.array([heading_rad]), edges)
        visible = np.nonzero((cosine[0] >= min_cos) | (min_cos == -math.inf))[0]
        rel_heading = heading[0, visible].astype(np.float64)
        rel_elevation = self.elevation_rad[edges][visible] - elevation_rad
        order = np.argsort(rel_heading**2 + rel_elevation**2, kind="stable")
        return (self.here[i], *(self._seen(edges, visible[j], rel_heading[j], rel_elevation[j]) for j in order))

    def _seen(self, edges: slice, j: int, rel_heading: float, rel_elevation: float) -> ViewPoint:
        """Return the target of edge ``j`` of ``edges`` as seen from a pose."""
        target, distance_m = int(self.target[edges][j]), float(self.distance_m[edges][j])
        return self._viewpoint(target, float(rel_heading), float(rel_elevation), distance_m)


class Sweep:
    """The locations of every viewpoint and view of a scan, for the discretised simulator; built when asked for.

    Args:
        scan: the building.
        min_cos: as in ``Scan.locations``.
    """

    def __init__(self, scan: Scan, min_cos: float) -> None:
        self.scan = scan
        heading, cosine = scan.relative(np.array(HEADINGS_RAD), slice(None))  # (12, E)
        heading = heading.astype(np.float64)
        elevation = scan.elevation_rad - np.array(LEVELS_RAD)[:, None]  # (3, E)
        visible = np.ones(cosine.shape, bool) if min_cos == -math.inf else cosine >= min_cos
        nearness = heading**2 + elevation[:, None] ** 2  # (3, 12, E)
        order = np.lexsort((nearness, np.broadcast_to(scan.source, nearness.shape)), axis=-1)
        shown = np.take_along_axis(np.broadcast_to(visible, order.shape), order, -1).reshape(NUM_VIEWS, -1)
        order = order.reshape(NUM_VIEWS, -1)
        self._edges = [row[keep].tolist() for row, keep in zip(order, shown, strict=True)]
        self._source = [scan.source[row].tolist() for row in self._edges]
        self._heading, self._elevation = heading.tolist(), elevation.tolist()
        self._target, self._distance_m = scan.target.tolist(), scan.distance_m.tolist()
        self._known: list[Locations | None] = [None] * (len(scan.ids) * NUM_VIEWS)

    def locations(self, i: int, view: int) -> Locations:
        """List what is navigable from viewpoint ``i`` with the camera along ``view``."""
        known = self._known[i * NUM_VIEWS + view]
        if known is None:
            known = self._known[i * NUM_VIEWS + view] = self._list(i, view)
        return known

    def _list(self, i: int, view: int) -> Locations:
        level, step = divmod(view, NUM_HEADINGS)
        heading, elevation, here = self._heading[step], self._elevation[level], self.scan.here
        first, last = (bisect_left(self._source[view], key) for key in (i, i + 1))
        found = [here[i]]
        for edge in self._edges[view][first:last]:
            name, ix, x, y, z, *_ = here[self._target[edge]]
            found.append(ViewPoint(name, ix, x, y, z, heading[edge], elevation[edge], self._distance_m[edge]))
        return tuple(found)


@functools.cache
def _read_scan(path: Path, name: str, changed_ns: int) -> Scan:
    return Scan(load_graph(path, name))


@functools.cache
def _sweep(scan: Scan, min_cos: float) -> Sweep:
    return Sweep(scan, min_cos)


def find_scan(folder: Path, name: str) -> Scan:
    """Return a building; every simulator of the process shares it.

    Raises:
        InputError: its connectivity file is missing or malformed.
    """
    path = graph_path(folder, name)
    return _read_scan(path, name, path.stat().st_mtime_ns)


def find_sweep(scan: Scan, min_cos: float) -> Sweep:
    """Return the shared sweep of a building."""
    return _sweep(scan, min_cos)
