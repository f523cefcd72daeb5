"""Where lines of walks run on a map: walks that share an edge run beside one another, as on a map of bus lines."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np


def lane_offsets(walks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Give every walk and direction on an edge a lane of its own.

    Args:
        walks: viewpoints in the order in which they are visited, (T,) each.

    Returns:
        Per walk (T - 1,) offsets to the right of the direction of travel, in widths of a lane. An edge that is walked
        one way by one walk has offset 0; ways there and back lie on their right-hand sides.
    """
    users: dict[tuple[int, int], set[tuple[bool, int]]] = {}
    for number, walk in enumerate(walks):
        for a, b in pairwise(walk.tolist()):
            users.setdefault((min(a, b), max(a, b)), set()).add((a < b, number))
    offsets = []
    for number, walk in enumerate(walks):
        row = []
        for a, b in pairwise(walk.tolist()):
            lanes = sorted(users[min(a, b), max(a, b)], key=_from_left)
            offset = lanes.index((a < b, number)) - (len(lanes) - 1) / 2
            row.append(offset if a < b else -offset)
        offsets.append(np.array(row))
    return offsets


def _from_left(user: tuple[bool, int]) -> tuple[bool, int]:
    """Order lanes as seen along an edge: who comes the other way is on the left; the first walk leftmost in its way."""
    forward, number = user
    return forward, number if forward else -number


def lane_points(places: np.ndarray, offsets: np.ndarray, width: float) -> np.ndarray:
    """Return both ends of every segment of a walk, moved into its lane, (T - 1, 2, 2).

    Args:
        places: (T, 2) positions, x to the right, y up.
        offsets: (T - 1,) of ``lane_offsets``.
        width: of a lane, in the unit of the positions.
    """
    way = np.diff(places, axis=0)  # (T - 1, 2)
    length = np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-9)
    right = np.stack([way[:, 1], -way[:, 0]], axis=1) / length
    moved = (offsets * width)[:, None] * right
    return np.stack([places[:-1] + moved, places[1:] + moved], axis=1)
