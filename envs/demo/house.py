"""One generated house: plan, furniture, viewpoints and graph, deterministic from seed and number."""

import hashlib
from dataclasses import dataclass

import numpy as np

from vln_clip.envs.demo.floorplan import FloorPlan, make_plan
from vln_clip.envs.demo.furniture import Thing, furnish
from vln_clip.envs.demo.graph import connect, obstacles, place_viewpoints, shortest_paths

CAMERA_M = 1.4
MIN_VIEWPOINTS, MAX_VIEWPOINTS, MIN_ROOMS, MAX_DEGREE = 27, 42, 6, 13
_MAX_ATTEMPTS = 200


@dataclass(frozen=True)
class House:
    """A house; arrays are over its N viewpoints, doorways first.

    Attributes:
        number: position in the world, names the scan.
        scan: scan id, 11 characters.
        plan: rooms and doors.
        things: furniture and doorways.
        points: (N, 2) metres; cameras hang ``CAMERA_M`` over the floor.
        viewpoint_ids: 32 hexadecimal digits each.
        joined: (N, N) bool, navigable transitions.
        distances_m: (N, N) along the graph.
        predecessors: (N, N) of the shortest paths.
    """

    number: int
    scan: str
    plan: FloorPlan
    things: tuple[Thing, ...]
    points: np.ndarray
    viewpoint_ids: tuple[str, ...]
    joined: np.ndarray
    distances_m: np.ndarray
    predecessors: np.ndarray

    def room_at(self, point: np.ndarray) -> int:
        """Return the index of the room that holds a point (metres)."""
        for index, room in enumerate(self.plan.rooms):
            if room.x0 <= point[0] <= room.x1 and room.y0 <= point[1] <= room.y1:
                return index
        raise ValueError(f"point must lie in the house, got {point}")

    def room_kind(self, viewpoint: int) -> str:
        """Return the kind of room that holds a viewpoint; a doorway belongs to the first of its rooms."""
        return self.plan.rooms[self.room_at(self.points[viewpoint])].kind


def make_house(seed: int, number: int) -> House:
    """Generate a house; drawings that cannot be walked through are thrown away."""
    for attempt in range(_MAX_ATTEMPTS):
        rng = np.random.default_rng([seed, number, attempt])
        plan = make_plan(rng)
        if plan is None or len(plan.rooms) < MIN_ROOMS:
            continue
        things = furnish(rng, plan)
        points = place_viewpoints(rng, plan, things)
        if not MIN_VIEWPOINTS <= len(points) <= MAX_VIEWPOINTS:
            continue
        joined = connect(points, obstacles(plan, things))
        distances, predecessors = shortest_paths(points, joined)
        if not np.isfinite(distances).all() or joined.sum(axis=1).max() > MAX_DEGREE:
            continue
        ids = tuple(viewpoint_id(seed, number, index) for index in range(len(points)))
        scan = f"demo{number:07d}"
        return House(number, scan, plan, tuple(things), points, ids, joined, distances, predecessors)
    raise RuntimeError(f"no connected house in {_MAX_ATTEMPTS} drawings for seed {seed}, number {number}")


def viewpoint_id(seed: int, number: int, index: int) -> str:
    """Return the id of a viewpoint, 32 hexadecimal digits."""
    return hashlib.sha256(f"vln_clip demo {seed} {number} {index}".encode()).hexdigest()[:32]
