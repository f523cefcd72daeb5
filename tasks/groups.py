"""What the instructions of a split are grouped by when scores are broken down: language, path length, building."""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from vln_clip.errors import unknown_name
from vln_clip.records import Episode
from vln_clip.tasks.graph import Graph
from vln_clip.tasks.predictions import pad

# Length in metres, not in steps: R2R sampled paths of 4 to 6 edges, so steps hardly vary there, and how long an edge
# is differs between buildings. The edges spread R2R (5 to 22 m) over six bins and RxR and R4R over all of them.
LENGTH_EDGES_M = (0.0, 5.0, 7.5, 10.0, 12.5, 15.0, 20.0, 30.0)


def group_keys(by: str, episodes: Sequence[Episode], graph: Graph) -> list[str]:
    """Return the group of each episode.

    Args:
        by: ``language``, ``length`` (of the reference path, in metres) or ``scan``.
        episodes: with known paths where ``by`` is ``length``.
        graph: gives distances.

    Raises:
        InputError: ``by`` is none of the three.
    """
    if by not in GROUPS:
        raise unknown_name("--by", by, GROUPS)
    return GROUPS[by](episodes, graph)


def reference_length_m(episodes: Sequence[Episode], graph: Graph) -> np.ndarray:
    """Return the length of each reference path, (N,) metres along its edges."""
    paths = pad([[graph.index(e.scan, viewpoint) for viewpoint in e.path or ()] for e in episodes])
    is_hop = paths[:, 1:] >= 0  # (N, R - 1)
    hop_m = np.zeros(is_hop.shape)
    hop_m[is_hop] = graph.distance_m(paths[:, :-1][is_hop], paths[:, 1:][is_hop])
    return hop_m.sum(1)


def natural(key: str) -> list[str | float]:
    """Return what to sort a group by: numbers inside a name count as numbers, so that 10 m comes after 5 m."""
    parts = re.split(r"(\d+(?:\.\d+)?)", key)
    return [float(part) if k % 2 else part for k, part in enumerate(parts)]


def _languages(episodes: Sequence[Episode], graph: Graph) -> list[str]:
    return [episode.language for episode in episodes]


def _scans(episodes: Sequence[Episode], graph: Graph) -> list[str]:
    return [episode.scan for episode in episodes]


def _lengths(episodes: Sequence[Episode], graph: Graph) -> list[str]:
    """Return the bin of each reference path; a length on an edge belongs to the longer bin."""
    edges = LENGTH_EDGES_M
    labels = [f"{low:g}–{high:g} m" for low, high in pairwise(edges)]
    labels.append(f"{edges[-1]:g} m or more")
    bins = np.digitize(reference_length_m(episodes, graph), edges[1:])
    return [labels[index] for index in bins.tolist()]


GROUPS: dict[str, Callable[[Sequence[Episode], Graph], list[str]]] = {
    "language": _languages,
    "length": _lengths,
    "scan": _scans,
}
