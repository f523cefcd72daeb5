"""Floor plans: a rectangle cut into rooms, doors between them, and the walls that remain."""

from dataclasses import dataclass

import numpy as np

from vln_clip.envs.demo.palette import COLORS

CEILING_M = 2.6
WALL_M = 0.14
DOOR_M = 1.1
DOOR_HEIGHT_M = 2.1
FRAME_M = 0.2
TUCK_M = 0.06  # how far walls end inside door frames
_MIN_SIDE_M, _MAX_SIDE_M, _MAX_AREA_M2 = 3.3, 5.6, 22.0

Rect = tuple[float, float, float, float]


@dataclass(frozen=True)
class Room:
    """A rectangular room, metres; ``kind`` is a key of ``palette.ROOM_TYPES``."""

    kind: str
    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def area_m2(self) -> float:
        """Return the floor area."""
        return (self.x1 - self.x0) * (self.y1 - self.y0)


@dataclass(frozen=True)
class Door:
    """An opening between two rooms (indices); ``along_x`` where the wall runs along x."""

    rooms: tuple[int, int]
    x: float
    y: float
    along_x: bool
    color: str


@dataclass(frozen=True)
class FloorPlan:
    """Rooms and doors of one house."""

    rooms: tuple[Room, ...]
    doors: tuple[Door, ...]


def make_plan(rng: np.random.Generator) -> FloorPlan | None:
    """Draw a floor plan; None where the drawn one has no way to connect its rooms."""
    width, depth = rng.uniform(12.0, 15.0), rng.uniform(10.5, 13.0)
    hall, rects = None, []
    if rng.random() < 0.6:
        wide = rng.uniform(2.0, 2.3)
        start = rng.uniform(0.38, 0.48) * depth
        hall = (0.0, start, width, start + wide)
        rects = [*_split(rng, (0.0, 0.0, width, start)), *_split(rng, (0.0, start + wide, width, depth))]
    else:
        rects = _split(rng, (0.0, 0.0, width, depth))
    if rng.random() < 0.5:  # let halls run along y as well
        rects = [(y0, x0, y1, x1) for x0, y0, x1, y1 in rects]
        hall = hall and (hall[1], hall[0], hall[3], hall[2])
    kinds = _draw_kinds(rng, rects)
    rooms = [Room(kind, *rect) for kind, rect in zip(kinds, rects, strict=True)]
    if hall:
        rooms.append(Room("hallway", *hall))
    doors = _make_doors(rng, rooms)
    return FloorPlan(tuple(rooms), tuple(doors)) if doors else None


def _split(rng: np.random.Generator, rect: Rect) -> list[Rect]:
    """Cut a rectangle into rooms."""
    x0, y0, x1, y1 = rect
    sides = (x1 - x0, y1 - y0)
    axis = int(sides[1] > sides[0])
    if sides[axis] < 2 * _MIN_SIDE_M or (sides[axis] < _MAX_SIDE_M and sides[0] * sides[1] < _MAX_AREA_M2):
        return [rect]
    cut = rng.uniform(_MIN_SIDE_M, sides[axis] - _MIN_SIDE_M)
    if axis == 0:
        return [*_split(rng, (x0, y0, x0 + cut, y1)), *_split(rng, (x0 + cut, y0, x1, y1))]
    return [*_split(rng, (x0, y0, x1, y0 + cut)), *_split(rng, (x0, y0 + cut, x1, y1))]


def _draw_kinds(rng: np.random.Generator, rects: list[Rect]) -> list[str]:
    """Give every room a kind: the largest is the living room, the smallest the bathroom."""
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in rects]
    order = np.argsort(areas)
    rest = ["kitchen", "bedroom", "dining room", "office", "library", "playroom"]
    drawn = [rest[i] for i in rng.permutation(len(rest))]
    while len(drawn) < len(rects):
        drawn.append("bedroom")
    kinds = [""] * len(rects)
    kinds[order[-1]], kinds[order[0]] = "living room", "bathroom"
    for index in order[1:-1]:
        kinds[index] = drawn.pop(0)
    return kinds


def _shared_wall(a: Room, b: Room) -> tuple[bool, float, float, float] | None:
    """Return (along_x, line, start, end) of the wall between two rooms, None where they do not touch."""
    for along_x in (True, False):
        a_lo, a_hi, b_lo, b_hi = (a.y0, a.y1, b.y0, b.y1) if along_x else (a.x0, a.x1, b.x0, b.x1)
        start = max(a.x0, b.x0) if along_x else max(a.y0, b.y0)
        end = min(a.x1, b.x1) if along_x else min(a.y1, b.y1)
        for line, other in ((a_hi, b_lo), (a_lo, b_hi)):
            if abs(line - other) < 1e-9 and end - start > 1.9:
                return along_x, line, start, end
    return None


def _make_doors(rng: np.random.Generator, rooms: list[Room]) -> list[Door]:
    """Connect the rooms by a random tree that prefers the hallway, and add a few doors for loops."""
    walls = []
    for i in range(len(rooms)):
        for j in range(i + 1, len(rooms)):
            wall = _shared_wall(rooms[i], rooms[j])
            if wall:
                weight = rng.random() * (0.5 if "hallway" in (rooms[i].kind, rooms[j].kind) else 1.0)
                walls.append((weight, i, j, wall))
    group = list(range(len(rooms)))
    doors: list[Door] = []
    for _, i, j, wall in sorted(walls, key=lambda item: item[0]):
        joins = group[i] != group[j]
        if not joins and rng.random() > 0.45:
            continue
        place = _place_door(rng, wall, doors)
        if place is None:
            continue
        doors.append(Door((i, j), *place, wall[0], _door_color(rng, (i, j), doors)))
        group = [group[i] if g == group[j] else g for g in group]
    return doors if len(set(group)) == 1 else []


def _place_door(
    rng: np.random.Generator, wall: tuple[bool, float, float, float], doors: list[Door]
) -> tuple[float, float] | None:
    """Draw the center of a door at least 1.6 m from all others."""
    along_x, line, start, end = wall
    for _ in range(8):
        at = rng.uniform(start + 0.95, end - 0.95)
        x, y = (at, line) if along_x else (line, at)
        if all(np.hypot(x - door.x, y - door.y) > 1.6 for door in doors):
            return float(x), float(y)
    return None


def _door_color(rng: np.random.Generator, pair: tuple[int, int], doors: list[Door]) -> str:
    """Draw a color that no other door of either room has."""
    taken = {door.color for door in doors if set(door.rooms) & set(pair)}
    free = [name for name in COLORS if name not in taken] or list(COLORS)
    return free[rng.integers(len(free))]


def wall_rects(plan: FloorPlan) -> np.ndarray:
    """Return the solid wall pieces seen from above, door openings left out, (N, 4) metres x0 y0 x1 y1."""
    half = WALL_M / 2
    lines: dict[tuple[bool, float], list[tuple[float, float]]] = {}
    for room in plan.rooms:
        for along_x, line, start, end in (
            (True, room.y0, room.x0, room.x1),
            (True, room.y1, room.x0, room.x1),
            (False, room.x0, room.y0, room.y1),
            (False, room.x1, room.y0, room.y1),
        ):
            lines.setdefault((along_x, round(line, 6)), []).append((start, end))
    rects = []
    for (along_x, line), spans in lines.items():
        gaps = sorted(
            (door.x if along_x else door.y)
            for door in plan.doors
            if door.along_x == along_x and abs((door.y if along_x else door.x) - line) < 1e-5
        )
        for start, end in _merge(spans):
            edges = [start - half]
            for gap in gaps:
                if start < gap < end:
                    edges += [gap - DOOR_M / 2 - TUCK_M, gap + DOOR_M / 2 + TUCK_M]
            edges.append(end + half)
            for low, high in zip(edges[::2], edges[1::2], strict=True):
                rects.append(
                    (low, line - half, high, line + half) if along_x else (line - half, low, line + half, high)
                )
    return np.array(rects)


def _merge(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Unite overlapping intervals."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1] + 1e-6:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
