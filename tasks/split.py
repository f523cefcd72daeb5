"""A split as read, its subsets, and the placing of its paths on the navigation graph.

Reading and placing are two steps, so that a program can first read which scans a split needs, then load just their
graphs. The data sets and their readers stand in ``tasks/datasets.py``.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np

from vln_clip.errors import InputError
from vln_clip.records import Episode
from vln_clip.tasks.continuous import ContinuousSplit
from vln_clip.tasks.continuous_graph import match_to_graph
from vln_clip.tasks.graph import Graph

T = TypeVar("T")
OWN_VERSION = "own"  # of a file that has no public counterpart


@dataclass(frozen=True)
class Split:
    """A split as read.

    Attributes:
        episodes: one per instruction, in the file's order (``@N``: in the drawn order).
        file: where it was read from.
        sha256: hash of the unpacked file, to be written into a run's files.
        version: which public version that is (``r2r_files.version_of``).
        goal_hidden: the file holds starts only, as test splits do; every ``Episode.path`` is None.
        continuous: where the file holds positions in place of viewpoints; ``place_on_graph`` finds those.
        places: where in the file the first episode of each path stands, by ``path_id``: ``line 4`` or ``item 3``.
    """

    episodes: Sequence[Episode]
    file: Path
    sha256: str
    version: str
    goal_hidden: bool
    continuous: ContinuousSplit | None = None
    places: Mapping[str, str] = field(default_factory=dict, repr=False)

    def place(self, path_id: str) -> str:
        """Return file and place of a path for messages."""
        place = f"{self.places[path_id]} (path_id {path_id})" if path_id in self.places else f"path_id {path_id}"
        return f"{self.file}: {place}"

    @property
    def scans(self) -> list[str]:
        """Return the scans used, sorted."""
        return sorted({episode.scan for episode in self.episodes})


def split_name(split: str) -> tuple[str, int | None]:
    """Split ``name@N`` into name and N; a file that exists wins, its name may hold an ``@``."""
    if "/" in split and Path(split).is_file():
        return split, None
    name, at, number = split.rpartition("@")
    if not at or "/" in number:
        return split, None
    if not number.isdecimal() or int(number) == 0:
        raise InputError(f"split must be NAME or NAME@N with N a number of paths above 0, got {split!r}")
    return name, int(number)


def subset(paths: list[T], number: int | None) -> list[T]:
    """Draw the reference's subset: Python's shuffle with seed 0, over paths, then the first N (specification 2.1)."""
    if number is None:
        return paths
    drawn = list(paths)
    random.Random(0).shuffle(drawn)
    return drawn[:number]


def place_on_graph(split: Split, graph: Graph, fill_in: bool = False) -> Split:
    """Check that every viewpoint exists and every hop is an edge.

    Positions of continuous environments become the viewpoints next to them.

    Args:
        split: as read.
        graph: navigation graphs of its scans.
        fill_in: expand paths that hold only start and goal to the shortest path between them, as files of unlabelled
            paths for back-translation mean it. An annotated path of two that are no neighbors has lost its middle.

    Raises:
        InputError: unknown scan or viewpoint, a hop that is no edge, a goal out of reach.
    """
    if split.continuous is not None:
        return replace(split, episodes=match_to_graph(split.continuous, graph))
    routes = {e.path_id: (e.scan, e.path or (e.start,)) for e in split.episodes}
    indices = {path_id: _indices(split.place(path_id), *route, graph) for path_id, route in routes.items()}
    paths = {}
    for path_id in _with_gaps(indices, graph):
        scan, path = routes[path_id]
        if len(path) > 2 or not fill_in:
            raise InputError(
                f"{split.place(path_id)}: consecutive viewpoints of a path must be neighbours in the navigation graph "
                f"of scan {scan} (start and goal alone are filled in for --aug-paths only), got {path!r}"
            )
        start, goal = indices[path_id]
        if not np.isfinite(graph.distance_m(np.array(start), np.array(goal))):
            raise InputError(
                f"{split.place(path_id)}: goal {path[1]!r} cannot be reached from start {path[0]!r} in the "
                f"navigation graph of scan {scan}"
            )
        paths[path_id] = tuple(graph.viewpoint_id(index) for index in graph.shortest_path(start, goal))
    placed = [replace(e, path=paths[e.path_id]) if e.path_id in paths else e for e in split.episodes]
    return replace(split, episodes=placed)


def _indices(place: str, scan: str, path: tuple[str, ...], graph: Graph) -> list[int]:
    """Return the global indices of a path; ``place`` names it in the error."""
    indices = []
    for viewpoint in path:
        try:
            indices.append(graph.index(scan, viewpoint))
        except InputError as error:
            raise InputError(f"{place}: viewpoint {viewpoint!r} of scan {scan!r}: {error}") from None
    return indices


def _with_gaps(indices: dict[str, list[int]], graph: Graph) -> list[str]:
    """Return the ids of the paths with a hop that is no edge."""
    hops = [(path_id, a, b) for path_id, path in indices.items() for a, b in pairwise(path)]
    if not hops:
        return []
    starts, ends = np.array([hop[1:] for hop in hops]).T
    return list(dict.fromkeys(hops[k][0] for k in np.flatnonzero(~graph.is_edge(starts, ends))))
