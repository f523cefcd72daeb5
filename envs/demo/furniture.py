"""Furnishing: which thing stands where, in which color, and the solids it is made of."""

import colorsys
from dataclasses import dataclass

import numpy as np

from vln_clip.envs.demo.designs import BOX, DESIGNS, Design
from vln_clip.envs.demo.floorplan import (
    CEILING_M,
    DOOR_HEIGHT_M,
    DOOR_M,
    FRAME_M,
    TUCK_M,
    WALL_M,
    FloorPlan,
    Rect,
    Room,
)
from vln_clip.envs.demo.palette import COLORS, NEUTRALS, PLAIN, ROOM_TYPES, WALL

_DOOR_CLEAR_M = 1.0


@dataclass(frozen=True)
class Solid:
    """An axis-aligned box, or the upright cylinder or ellipsoid inscribed in it; metres, RGB 0..255."""

    shape: int
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    rgb: tuple[int, int, int]
    material: int = PLAIN


@dataclass(frozen=True)
class Thing:
    """Something that an instruction can name: a piece of furniture or a doorway.

    Attributes:
        name: noun; ``doorway`` for doors.
        color: color word, None where it has none.
        room: index of its room, -1 for doorways.
        rect: footprint.
        bottom_m: lowest point.
        top_m: highest point.
        solids: what the renderer draws.
        hung: takes no floor.
        flat: can be walked over.
    """

    name: str
    color: str | None
    room: int
    rect: Rect
    bottom_m: float
    top_m: float
    solids: tuple[Solid, ...]
    hung: bool = False
    flat: bool = False


def furnish(rng: np.random.Generator, plan: FloorPlan) -> list[Thing]:
    """Put furniture into every room and frames around the doors."""
    things = [_door_frame(rng, plan, index) for index in range(len(plan.doors))]
    for index, room in enumerate(plan.rooms):
        wanted = ROOM_TYPES[room.kind].furniture
        limit = int(np.clip(room.area_m2 / 2.0, 5, 9))
        placed: list[Thing] = []
        used = [door.color for door in plan.doors if index in door.rooms]
        for name in [*wanted[:3], *(wanted[3:][i] for i in rng.permutation(len(wanted) - 3))]:
            if len(placed) >= limit:
                break
            thing = _place(rng, plan, index, name, placed, _pick_color(rng, DESIGNS[name], used))
            if thing:
                placed.append(thing)
                used += [thing.color] if thing.color else []
        things += placed
    return things


def _pick_color(rng: np.random.Generator, design: Design, used: list[str]) -> str | None:
    """Draw the thing's color, preferring colors that nothing in the room has."""
    if not design.colored:
        return None
    if design.fixed_color:
        return design.fixed_color
    fewest = min(used.count(name) for name in COLORS)
    free = [name for name in COLORS if used.count(name) == fewest]
    return free[rng.integers(len(free))]


def _place(
    rng: np.random.Generator, plan: FloorPlan, index: int, name: str, placed: list[Thing], color: str | None
) -> Thing | None:
    """Try to find a free place for a thing; None where the room is full."""
    room, design = plan.rooms[index], DESIGNS[name]
    free_standing = design.center and min(room.x1 - room.x0, room.y1 - room.y0) > 4.4
    for _ in range(14):
        if design.flat or free_standing:
            turn = int(rng.integers(2)) * 3
            anchor = _center_anchor(rng, room, design, turn)
        else:
            turn = int(rng.integers(4))
            if design.outer and not _is_outer(plan, room, turn):
                continue
            anchor = _wall_anchor(rng, room, design, turn)
        if anchor is None:
            continue
        rect = _turned((-design.width_m / 2, 0.0, design.width_m / 2, design.depth_m), anchor, turn)
        if not _collides(plan, room, design, rect, placed):
            return _build(rng, name, design, color, index, anchor, turn)
    return None


def _is_outer(plan: FloorPlan, room: Room, turn: int) -> bool:
    """Tell whether the wall that ``turn`` names (south, east, north, west) is an outer wall of the house."""
    if turn in (0, 3):
        return (room.y0 if turn == 0 else room.x0) == 0
    if turn == 1:
        return room.x1 == max(other.x1 for other in plan.rooms)
    return room.y1 == max(other.y1 for other in plan.rooms)


def _center_anchor(rng: np.random.Generator, room: Room, design: Design, turn: int) -> tuple[float, float] | None:
    """Draw where the back of a thing lies that stands about the middle of the room."""
    wide, deep = (design.width_m, design.depth_m)[:: -1 if turn else 1]
    if min(room.x1 - room.x0 - wide, room.y1 - room.y0 - deep) < 0.3:
        return None
    cx = (room.x0 + room.x1) / 2 + rng.uniform(-0.3, 0.3)
    cy = (room.y0 + room.y1) / 2 + rng.uniform(-0.3, 0.3)
    return (cx - wide / 2, cy) if turn else (cx, cy - deep / 2)


def _wall_anchor(rng: np.random.Generator, room: Room, design: Design, turn: int) -> tuple[float, float] | None:
    """Draw where the back of a thing touches the wall that ``turn`` names: south, east, north, west."""
    inner, half = WALL_M / 2 + 0.005, design.width_m / 2 + 0.12
    along = (room.x0, room.x1) if turn % 2 == 0 else (room.y0, room.y1)
    if along[1] - along[0] < 2 * half:
        return None
    at = rng.uniform(along[0] + half, along[1] - half)
    return [(at, room.y0 + inner), (room.x1 - inner, at), (at, room.y1 - inner), (room.x0 + inner, at)][turn]


def _turned(rect: Rect, anchor: tuple[float, float], turn: int) -> Rect:
    """Rotate a footprint by quarter turns (0: y points north, 1: west, 2: south, 3: east) and move it."""
    (x0, y0, x1, y1), (ax, ay) = rect, anchor
    if turn == 0:
        return ax + x0, ay + y0, ax + x1, ay + y1
    if turn == 1:
        return ax - y1, ay + x0, ax - y0, ay + x1
    if turn == 2:
        return ax - x1, ay - y1, ax - x0, ay - y0
    return ax + y0, ay - x1, ax + y1, ay - x0


def _build(
    rng: np.random.Generator,
    name: str,
    design: Design,
    color: str | None,
    room: int,
    anchor: tuple[float, float],
    turn: int,
) -> Thing:
    """Turn a design into solids at its place."""
    main = _vary(rng, COLORS[color]) if color else NEUTRALS["cream"]
    light = _lighter(main)
    solids = []
    for shape, x0, y0, z0, x1, y1, z1, paint, material in design.pieces:
        rect = _turned((x0, y0, x1, y1), anchor, turn)
        rgb = main if paint == "main" else light if paint == "light" else NEUTRALS[paint]
        solids.append(Solid(shape, (rect[0], rect[1], z0), (rect[2], rect[3], z1), rgb, material))
    rect = _turned((-design.width_m / 2, 0.0, design.width_m / 2, design.depth_m), anchor, turn)
    return Thing(name, color, room, rect, design.bottom_m, design.top_m, tuple(solids), design.hung, design.flat)


def _vary(rng: np.random.Generator, rgb: tuple[int, int, int]) -> tuple[int, int, int]:
    """Vary a named color a little."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in rgb))
    hue, lightness = hue + rng.uniform(-0.012, 0.012), lightness * rng.uniform(0.92, 1.08)
    return _to_rgb(colorsys.hls_to_rgb(hue % 1.0, min(lightness, 1.0), saturation))


def _lighter(rgb: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return a lighter color of the same hue."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in rgb))
    return _to_rgb(colorsys.hls_to_rgb(hue, min(lightness * 1.12 + 0.03, 0.9), saturation))


def _to_rgb(unit: tuple[float, float, float]) -> tuple[int, int, int]:
    red, green, blue = (round(255 * channel) for channel in unit)
    return red, green, blue


def _overlap(a: Rect, b: Rect, gap: float = 0.0) -> bool:
    return a[0] < b[2] + gap and b[0] < a[2] + gap and a[1] < b[3] + gap and b[1] < a[3] + gap


def _collides(plan: FloorPlan, room: Room, design: Design, rect: Rect, placed: list[Thing]) -> bool:
    """Tell whether a thing blocks a door or stands in another one (rugs only avoid rugs)."""
    for door in plan.doors:
        wide, deep = (DOOR_M / 2 + FRAME_M, _DOOR_CLEAR_M)[:: 1 if door.along_x else -1]
        if not design.flat and _overlap(rect, (door.x - wide, door.y - deep, door.x + wide, door.y + deep)):
            return True
    for other in placed:
        if design.flat != other.flat:
            continue
        apart = design.bottom_m > other.top_m or other.bottom_m > design.top_m
        if not apart and _overlap(rect, other.rect, 0.05 if design.hung or other.hung else 0.12):
            return True
    x0, y0, x1, y1 = rect
    return x0 < room.x0 or y0 < room.y0 or x1 > room.x1 or y1 > room.y1


def _door_frame(rng: np.random.Generator, plan: FloorPlan, index: int) -> Thing:
    """Build the colored frame of a doorway, with the panel above it and the wall over that."""
    door = plan.doors[index]
    thick, inner, outer = WALL_M / 2 + 0.05, DOOR_M / 2, DOOR_M / 2 + FRAME_M
    rgb = _vary(rng, COLORS[door.color])
    pieces = [
        (-outer, -inner, 0.0, DOOR_HEIGHT_M + 0.3, thick, rgb, PLAIN),
        (inner, outer, 0.0, DOOR_HEIGHT_M + 0.3, thick, rgb, PLAIN),
        (-inner, inner, DOOR_HEIGHT_M, DOOR_HEIGHT_M + 0.3, thick, rgb, PLAIN),
        (-inner - TUCK_M, inner + TUCK_M, DOOR_HEIGHT_M + 0.3, CEILING_M, WALL_M / 2, NEUTRALS["cream"], WALL),
    ]
    solids = []
    for start, end, bottom, top, half, color, material in pieces:
        x0, y0, x1, y1 = (start, -half, end, half) if door.along_x else (-half, start, half, end)
        low, high = (door.x + x0, door.y + y0, bottom), (door.x + x1, door.y + y1, top)
        solids.append(Solid(BOX, low, high, color, material))
    wide, deep = (outer, thick)[:: 1 if door.along_x else -1]
    rect = (door.x - wide, door.y - deep, door.x + wide, door.y + deep)
    return Thing("doorway", door.color, -1, rect, 0.0, DOOR_HEIGHT_M + 0.3, tuple(solids), hung=True)
