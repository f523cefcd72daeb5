"""Viewpoints and the navigation graph of a house: points about 2 m apart, edges by line of sight."""

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from vln_clip.envs.demo.floorplan import FloorPlan, wall_rects
from vln_clip.envs.demo.furniture import Thing

_SPACING_M, _DOOR_SPACING_M, _MAX_EDGE_M, _MIN_ANGLE_RAD = 2.0, 1.6, 4.0, 0.5
_WALL_CLEAR_M, _THING_CLEAR_M = 0.5, 0.25


def blocked(starts: np.ndarray, ends: np.ndarray, rects: np.ndarray) -> np.ndarray:
    """Tell which segments pass through a rectangle.

    Args:
        starts: (N, 2) metres.
        ends: (N, 2) metres.
        rects: (M, 4) x0 y0 x1 y1, metres.

    Returns:
        (N,) bool.
    """
    x, y = starts[:, 0], starts[:, 1]
    over_x, over_y = (1 / np.where(np.abs(step) < 1e-9, 1e-9, step) for step in (ends - starts).T)
    hit = np.zeros(len(starts), dtype=bool)
    for x0, y0, x1, y1 in rects.tolist():  # few rectangles, many segments
        first_x, last_x, first_y, last_y = (x0 - x) * over_x, (x1 - x) * over_x, (y0 - y) * over_y, (y1 - y) * over_y
        enter = np.maximum(np.minimum(first_x, last_x), np.minimum(first_y, last_y))
        leave = np.minimum(np.maximum(first_x, last_x), np.maximum(first_y, last_y))
        hit |= (enter < leave) & (leave > 0) & (enter < 1)
    return hit


def obstacles(plan: FloorPlan, things: list[Thing]) -> np.ndarray:
    """Return the footprints that cannot be walked through, (N, 4) metres."""
    standing = [thing.rect for thing in things if not thing.hung and not thing.flat]
    return np.concatenate([wall_rects(plan), np.array(standing).reshape(-1, 4)])


def place_viewpoints(rng: np.random.Generator, plan: FloorPlan, things: list[Thing]) -> np.ndarray:
    """Place viewpoints in every doorway and over the free floor, (N, 2) metres; doorways come first."""
    chosen = [(door.x, door.y) for door in plan.doors]
    standing = np.array([thing.rect for thing in things if not thing.hung and not thing.flat]).reshape(-1, 4)
    standing = standing + np.array([-1, -1, 1, 1]) * _THING_CLEAR_M
    for room in plan.rooms:
        clear = min(_WALL_CLEAR_M, (min(room.x1 - room.x0, room.y1 - room.y0) - 0.5) / 2)
        xs = np.arange(room.x0 + clear, room.x1 - clear + 1e-9, 0.15)
        ys = np.arange(room.y0 + clear, room.y1 - clear + 1e-9, 0.15)
        spots = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
        beyond, before = spots[:, None] > standing[None, :, :2], spots[:, None] < standing[None, :, 2:]
        inside = np.logical_and(beyond, before).all(axis=-1).any(axis=-1)
        chosen += _spread(rng, spots[~inside], np.array(chosen), len(plan.doors))
    return np.round(np.array(chosen), 4)


def _spread(
    rng: np.random.Generator, spots: np.ndarray, taken: np.ndarray, num_doors: int
) -> list[tuple[float, float]]:
    """Pick spots that keep their distance from each other and from doorways, packing them closely."""
    limits = np.where(np.arange(len(taken)) < num_doors, _DOOR_SPACING_M, _SPACING_M - 0.3)
    if len(spots):
        away = np.linalg.norm(spots[:, None] - taken[None], axis=-1)
        spots = spots[(away > limits).all(axis=1)]
    picked: list[tuple[float, float]] = []
    while len(spots):
        if picked:  # the nearest spot that is still free packs best
            near = np.min([np.hypot(*(spots - spot).T) for spot in picked], axis=0)
            index = int(np.argmin(near + rng.uniform(0, 0.1, len(spots))))
        else:
            index = int(rng.integers(len(spots)))
        spot = spots[index]
        picked.append((float(spot[0]), float(spot[1])))
        spots = spots[np.hypot(*(spots - spot).T) > _SPACING_M]
    return picked


def connect(points: np.ndarray, rects: np.ndarray) -> np.ndarray:
    """Join viewpoints that see each other; of two in nearly one direction only the nearer is joined.

    Args:
        points: (N, 2) metres.
        rects: obstacles, (M, 4) metres.

    Returns:
        (N, N) bool, symmetric.
    """
    num = len(points)
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    rows, columns = np.nonzero(np.triu(apart < _MAX_EDGE_M, 1))
    free = ~blocked(points[rows], points[columns], rects)
    order = np.argsort(apart[rows, columns], kind="stable")
    joined = np.zeros((num, num), dtype=bool)
    bearing = np.arctan2(points[None, :, 0] - points[:, None, 0], points[None, :, 1] - points[:, None, 1])
    for k in order:
        a, b = rows[k], columns[k]
        if free[k] and _is_apart(bearing, joined, a, b) and _is_apart(bearing, joined, b, a):
            joined[a, b] = joined[b, a] = True
    return joined


def _is_apart(bearing: np.ndarray, joined: np.ndarray, start: int, end: int) -> bool:
    """Tell whether no neighbour of ``start`` lies in nearly the direction of ``end``."""
    turn = bearing[start, joined[start]] - bearing[start, end]
    return bool((np.abs((turn + np.pi) % (2 * np.pi) - np.pi) > _MIN_ANGLE_RAD).all())


def shortest_paths(points: np.ndarray, joined: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all distances (N, N) metres, inf where unreachable, and predecessors (N, N)."""
    lengths = np.linalg.norm(points[:, None] - points[None], axis=-1) * joined
    return dijkstra(csr_matrix(lengths), directed=False, return_predecessors=True)


def trace(predecessors: np.ndarray, start: int, goal: int) -> list[int]:
    """Return the shortest path from ``start`` to ``goal``, both included."""
    path = [goal]
    while path[-1] != start:
        path.append(int(predecessors[start, path[-1]]))
    return path[::-1]
