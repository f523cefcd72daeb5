"""Navigation graphs compiled into tables: the only world state a batch needs is ``(viewpoint, view)``.

Every included viewpoint of every loaded scan gets one global integer. Candidates follow the closed form of
EnvDrop's 36-view sweep; distances and next hops are all-pairs shortest paths. Built once, cached by content.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vln_clip import files
from vln_clip.columns import DamagedColumnsError, map_columns
from vln_clip.connectivity.graphs import ScanGraph, graph_path, load_graph, read_scans
from vln_clip.errors import InputError
from vln_clip.paths import cache_dir
from vln_clip.reading import read_packed
from vln_clip.records import ELEVATION_STEP_RAD, HEADING_STEP_RAD, NUM_HEADINGS

logger = logging.getLogger(__name__)

MANY_SCANS = 200  # five seconds to read
VERSION = 2  # part of the cache key: raise when the tables' content changes
VISIBLE_RAD = np.deg2rad(40.0)  # half field of view, linear in the aspect ratio (60° · 4/3 / 2): only orders candidates


@dataclass(frozen=True, eq=False)
class NavTables:
    """The compiled navigation world. N viewpoints over all scans, K the largest degree.

    Attributes:
        scans: scan ids in loading order.
        viewpoint_ids: N ids.
        scan_index: (N,) int64, position in ``scans``.
        position: (N, 3) float64, metres.
        degree: (N,) int64, number of candidates.
        neighbor: (N, K) int64 global viewpoint of each candidate, -1 on padding.
        view: (N, K) int64, the view that shows the candidate best, 0 on padding.
        bearing_rad: (N, K) float64, absolute heading towards the candidate in (-π, π].
        elevation_rad: (N, K) float64, absolute.
        pair_row: (N,) int64; distances from ``a`` start at ``pair_row[a]``: entry of ``b`` is ``pair_row[a] + b``.
        pair_distance_m: flat float64, shortest path lengths within each scan, inf where unreachable.
        pair_next: flat int32, next viewpoint on the shortest path, -1 where unreachable, itself at the goal.
    """

    scans: tuple[str, ...]
    viewpoint_ids: tuple[str, ...]
    scan_index: np.ndarray
    position: np.ndarray
    degree: np.ndarray
    neighbor: np.ndarray
    view: np.ndarray
    bearing_rad: np.ndarray
    elevation_rad: np.ndarray
    pair_row: np.ndarray
    pair_distance_m: np.ndarray
    pair_next: np.ndarray

    @classmethod
    def load(cls, folder: Path, scans: Sequence[str] | None = None, cache: bool = True) -> "NavTables":
        """Load the tables of some scans (all of ``scans.txt`` by default) from the cache, building them if absent.

        Raises:
            InputError: a connectivity file is missing or malformed.
        """
        names = tuple(read_scans(folder) if scans is None else scans)
        paths = [graph_path(folder, scan) for scan in names]
        digest = hashlib.sha256(f"{VERSION}\n".encode())
        for scan, path in zip(names, paths, strict=True):
            digest.update(f"{scan} {hashlib.sha256(read_packed(path)).hexdigest()}\n".encode())
        cached = cache_dir() / "tables" / f"{digest.hexdigest()[:32]}.safetensors"
        if cache:
            try:
                return cls._from_arrays(names, map_columns(cached)[0])
            except FileNotFoundError:
                pass
            except (DamagedColumnsError, OSError):  # only a cache
                logger.warning("%s is damaged and is made anew", cached)
        tables = cls.build(_read_graphs(names, paths))
        if cache:
            files.save_safetensors(cached, tables._arrays())
        return tables

    @classmethod
    def build(cls, graphs: Sequence[ScanGraph]) -> "NavTables":
        """Compile graphs into tables."""
        sizes = np.array([len(graph.viewpoint_ids) for graph in graphs], dtype=np.int64)
        first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        pair_first = np.concatenate([[0], np.cumsum(sizes**2)]).astype(np.int64)
        num_candidates = max([int(graph.edges.sum(1).max(initial=0)) for graph in graphs], default=0)
        candidates = [_candidates(graph, num_candidates, first[s]) for s, graph in enumerate(graphs)]
        pairs = [_all_pairs(graph, first[s]) for s, graph in enumerate(graphs)]
        scan_index = np.repeat(np.arange(len(graphs)), sizes)
        local = np.arange(first[-1]) - first[scan_index]
        degree, neighbor, view, bearing_rad, elevation_rad = (np.concatenate(c) for c in zip(*candidates, strict=True))
        return cls(
            tuple(graph.scan for graph in graphs),
            tuple(name for graph in graphs for name in graph.viewpoint_ids),
            scan_index,
            np.concatenate([graph.position for graph in graphs]),
            degree,
            neighbor,
            view,
            bearing_rad,
            elevation_rad,
            pair_first[scan_index] + local * sizes[scan_index] - first[scan_index],
            np.concatenate([distance.ravel() for distance, _ in pairs]),
            np.concatenate([hop.ravel() for _, hop in pairs]),
        )

    @cached_property
    def _lookup(self) -> dict[tuple[str, str], int]:
        names = (self.scans[s] for s in self.scan_index)
        return {key: i for i, key in enumerate(zip(names, self.viewpoint_ids, strict=True))}

    @cached_property
    def digest(self) -> str:
        """Return a hash of which viewpoints there are, in their order, and of the edges between them."""
        digest = hashlib.sha256(repr((self.scans, self.viewpoint_ids)).encode())
        digest.update(self.scan_index.tobytes())
        digest.update(self.neighbor.tobytes())
        return digest.hexdigest()

    def indices(self, keys: Sequence[tuple[str, str]]) -> np.ndarray:
        """Return the global indices of (scan, viewpoint id), (n,) int64, -1 of those that are not there."""
        return np.array([self._lookup.get(key, -1) for key in keys], np.int64)

    @property
    def keys(self) -> list[tuple[str, str]]:
        """Return (scan, viewpoint id) of every global index."""
        return list(self._lookup)

    def index(self, scan: str, viewpoint_id: str) -> int:
        """Return the global index of a viewpoint; an unknown or excluded one is an ``InputError``."""
        found = self._lookup.get((scan, viewpoint_id))
        if found is None:
            if scan not in self.scans:
                raise self._unknown(scan)
            raise InputError(f"scan {scan} has no included viewpoint {viewpoint_id!r}; check its connectivity file")
        return found

    def viewpoint_id(self, index: int) -> str:
        """Return the viewpoint id of a global index."""
        return self.viewpoint_ids[index]

    def viewpoints(self, scan: str) -> np.ndarray:
        """Return the global indices of a scan's viewpoints, (n,); an unknown scan is an ``InputError``."""
        if scan not in self.scans:
            raise self._unknown(scan)
        return np.flatnonzero(self.scan_index == self.scans.index(scan))

    def position_m(self, index: np.ndarray) -> np.ndarray:
        """Return camera positions, (…, 3), of an array of global indices."""
        return self.position[np.asarray(index)]

    def _unknown(self, scan: str) -> InputError:
        return InputError(f"unknown scan {scan!r}: it is not among the {len(self.scans)} loaded scans")

    def _pair(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return flat pair entries and whether both lie in one scan."""
        a, b = np.broadcast_arrays(np.asarray(a), np.asarray(b))
        same = self.scan_index[a] == self.scan_index[b]
        return np.where(same, self.pair_row[a] + b, 0), same

    def distance_m(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return shortest path lengths between global indices, any shape, inf where unreachable."""
        entry, same = self._pair(a, b)
        return np.where(same, self.pair_distance_m[entry], np.inf)

    def next_hop(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the viewpoint after ``a`` on the shortest path to ``b``, -1 where unreachable."""
        entry, same = self._pair(a, b)
        return np.where(same, self.pair_next[entry], -1).astype(np.int64)

    def is_edge(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return whether ``b`` is a navigable neighbour of ``a``."""
        b = np.asarray(b)
        return (self.neighbor[np.asarray(a)] == b[..., None]).any(-1) & (b >= 0)  # padding is -1

    def shortest_path(self, a: int, b: int) -> list[int]:
        """Return the viewpoints from ``a`` to ``b``, both included; unreachable is a ``ValueError``."""
        path = [int(a)]
        while path[-1] != b:
            hop = int(self.next_hop(np.array(path[-1]), np.array(b)))
            if hop < 0:
                raise ValueError(f"no path from {self.viewpoint_ids[a]} to {self.viewpoint_ids[b]}")
            path.append(hop)
        return path

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        ids = "\n".join(self.viewpoint_ids).encode()
        return arrays | {"viewpoint_ids": np.frombuffer(ids, dtype=np.uint8)}

    @classmethod
    def _from_arrays(cls, scans: tuple[str, ...], arrays: dict[str, np.ndarray]) -> "NavTables":
        """Return tables of arrays as ``_arrays`` makes them; others are a ``DamagedColumnsError``."""
        try:
            ids = tuple(arrays.pop("viewpoint_ids").tobytes().decode().split("\n"))
            found = cls(scans=scans, viewpoint_ids=ids, **arrays)
            N, K = len(ids), found.neighbor.shape[-1]
            shapes = {"position": (N, 3), **dict.fromkeys(("scan_index", "degree", "pair_row"), (N,))}
            shapes |= dict.fromkeys(("neighbor", "view", "bearing_rad", "elevation_rad"), (N, K))
            shapes |= dict.fromkeys(("pair_distance_m", "pair_next"), (found.pair_next.size,))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DamagedColumnsError(f"tables: {error}") from None
        wrong = [name for name, shape in shapes.items() if arrays[name].shape != shape]
        if wrong:
            raise DamagedColumnsError(f"tables of other shapes: {', '.join(wrong)}")
        return found


def _read_graphs(names: Sequence[str], paths: Sequence[Path]) -> list[ScanGraph]:
    """Read graphs; of many it is told how far that is."""
    if len(names) < MANY_SCANS:
        return [load_graph(path, scan) for scan, path in zip(names, paths, strict=True)]
    from vln_clip.log import progress

    logger.info("compiling the graphs of %d scans into the cache, once", len(names))
    graphs = []
    with progress() as bar:
        task = bar.add_task("graphs", total=len(names), status="")
        for scan, path in zip(names, paths, strict=True):
            graphs.append(load_graph(path, scan))
            bar.advance(task)
    return graphs


def wrap_rad(angle: np.ndarray) -> np.ndarray:
    """Map angles to [-π, π)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _candidates(graph: ScanGraph, width: int, first: int) -> tuple[np.ndarray, ...]:
    """Compute degree, neighbor, view, bearing and elevation of a scan, padded to ``width``.

    The closed form of EnvDrop's sweep over the 36 views. Order: the step at which a viewpoint is first seen,
    then its angular distance from the center of that view (the simulator sorts what a view shows by it).
    """
    n = len(graph.viewpoint_ids)
    source, target = np.nonzero(graph.edges)
    # The simulator keeps positions in float32; on short edges that moves the bearing by a few microradians.
    position = graph.position.astype(np.float32)
    toward = position[target] - position[source]
    x, y, z = toward.astype(np.float64).T
    bearing, elevation = np.arctan2(x, y), np.arctan2(z, np.hypot(x, y))
    # Of equally near views the sweep keeps the first, as argmin does.
    step = np.abs(_relative_heading_rad(toward)).argmin(1)
    level = np.abs(elevation[:, None] - (np.arange(3) - 1) * ELEVATION_STEP_RAD).argmin(1)
    offset = wrap_rad(bearing[:, None] - np.arange(NUM_HEADINGS) * HEADING_STEP_RAD)  # (E, 12)
    first_seen = (np.abs(offset) <= VISIBLE_RAD).argmax(1)
    angular = np.hypot(offset[np.arange(len(source)), first_seen], elevation + np.pi / 6)
    order = np.lexsort((angular, first_seen, source))
    degree = graph.edges.sum(1)
    column = np.arange(len(source)) - np.repeat(np.cumsum(degree) - degree, degree)
    rows = source[order]

    def padded(values: np.ndarray, fill: int) -> np.ndarray:
        table = np.full((n, width), fill, dtype=values.dtype)
        table[rows, column] = values[order]
        return table

    return (
        degree.astype(np.int64),
        padded(target + first, -1),
        padded(NUM_HEADINGS * level + step, 0),
        padded(bearing, 0),
        padded(elevation, 0),
    )


def _relative_heading_rad(toward: np.ndarray) -> np.ndarray:
    """Return directions (E, 3) relative to the 12 headings as the simulator computes them, (E, 12), all float32."""
    camera_rad = np.pi / 2 - np.arange(NUM_HEADINGS) * HEADING_STEP_RAD
    c_x, c_y = np.cos(camera_rad).astype(np.float32), np.sin(camera_rad).astype(np.float32)
    d_x, d_y = toward[:, :1], toward[:, 1:2]
    return np.arctan2(d_x * c_y - d_y * c_x, d_x * c_x + d_y * c_y)


def _all_pairs(graph: ScanGraph, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute (n, n) shortest path lengths and next hops (global indices, -1 unreachable)."""
    from scipy.sparse.csgraph import dijkstra  # takes a third of a second to load, and cached tables don't need it

    n = len(graph.viewpoint_ids)
    length_m = np.linalg.norm(graph.position[:, None] - graph.position[None], axis=-1)
    distance, predecessor = dijkstra(np.where(graph.edges, length_m, 0), directed=False, return_predecessors=True)
    # Undirected: what comes before `a` on the path from `b` comes after `a` on the path to `b`.
    hop = np.where(predecessor.T >= 0, predecessor.T + first, -1).astype(np.int32)
    hop[np.arange(n), np.arange(n)] = np.arange(n) + first
    return distance, hop
