"""What can be seen in a picture, read off the solids that its rays meet: the truth behind questions and captions."""

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vln_clip.envs.demo import palette
from vln_clip.envs.demo.house import CAMERA_M
from vln_clip.envs.demo.raycast import Cast, Scene
from vln_clip.envs.demo.shading import CEILING_ID, FLOOR_ID, rooms_at

_TRACE, _CLEAR = 0.0005, 0.008  # shares of the picture: there is something of it; it can be recognized
_WHOLE = 0.4  # least part of its outline that is in the picture and not covered
_ROOM_SHARE, _FLOOR_SHARE = 0.7, 0.06
_LEFT, _MIDDLE, _RIGHT = (0.0, 0.33), (0.42, 0.58), (0.67, 1.0)
_NEAR_PLANE_M = 0.1
_REACH = 2.0  # half pictures from the middle: of a bed that fills the picture it does not matter how much lies below
_SPARSE = 3  # every third pixel tells the room
_FLOORS = {palette.PLANKS: "wood", palette.CARPET: "carpet"}  # the others are tiles


@dataclass(frozen=True)
class Seen:
    """A thing in a picture.

    Attributes:
        name: noun of the design; ``doorway`` for doors.
        color: color word, None where it has none.
        room: kind of the room that it stands in, None for doorways.
        share: of the picture's pixels, 0..1.
        center: where the middle of its pixels lies, 0 left to 1 right.
        place: left, middle, right; None between them, or where it reaches far over.
        distance_m: of the middle of what is seen of it.
        clear: whether enough of it is seen to be named.
    """

    name: str
    color: str | None
    room: str | None
    share: float
    center: float
    place: str | None
    distance_m: float
    clear: bool


@dataclass(frozen=True)
class Facts:
    """What a picture shows.

    Attributes:
        image_id: number of the picture.
        room: kind of the room, None where the picture shows much of others.
        floor: wood, carpet or tile; None where little of it is seen.
        things: all of which a trace is seen, largest first.
    """

    image_id: int
    room: str | None
    floor: str | None
    things: tuple[Seen, ...]

    @property
    def clear(self) -> tuple[Seen, ...]:
        """Return the things that can be named, largest first."""
        return tuple(thing for thing in self.things if thing.clear)

    @cached_property
    def names(self) -> frozenset[str]:
        """Return the nouns of all of which a trace is seen."""
        return frozenset(thing.name for thing in self.things)


def read_facts(image_id: int, scene: Scene, axes: np.ndarray, cast: Cast) -> Facts:
    """Read off what a picture shows.

    Args:
        image_id: its number.
        scene: the house.
        axes: right, down and forward of the camera, as ``cast_picture`` takes them.
        cast: what its rays meet.
    """
    thing_at = np.where(cast.hit >= 0, scene.things[cast.hit], -1).astype(np.int16)  # (H, W)
    order = np.argsort(thing_at, axis=None, kind="stable")
    ends = np.searchsorted(thing_at.ravel(), np.arange(len(scene.house.things) + 1), sorter=order)
    found = [
        _see(scene, index, axes, cast, order[start:end])
        for index, (start, end) in enumerate(itertools.pairwise(ends.tolist()))
        if end - start >= _TRACE * thing_at.size
    ]
    found.sort(key=lambda thing: -thing.share)
    room, floor = _surroundings(scene, cast)
    return Facts(image_id, room, floor, tuple(found))


def _see(scene: Scene, index: int, axes: np.ndarray, cast: Cast, pixels: np.ndarray) -> Seen:
    """Describe one thing; ``pixels`` (P,) are where it is seen, counted row by row."""
    thing = scene.house.things[index]
    size, (rows, columns) = cast.hit.size, np.divmod(pixels, cast.hit.shape[1])
    across = (columns + 0.5) / cast.hit.shape[1]
    share = len(pixels) / size
    low, high, center = float(across.min()), float(across.max()), float(across.mean())
    whole = _outline_area(thing.rect, thing.bottom_m, thing.top_m, axes, cast.eye)
    part = (np.ptp(rows) + 1) * (np.ptp(columns) + 1) / size / whole
    clear = bool(share >= _CLEAR and part >= _WHOLE)
    room = scene.house.plan.rooms[thing.room].kind if thing.room >= 0 else None
    distance_m = float(np.median(np.linalg.norm(cast.points.reshape(-1, 3)[pixels] - cast.eye, axis=1)))
    return Seen(thing.name, thing.color, room, share, center, _place(low, center, high), distance_m, clear)


def _outline_area(
    rect: tuple[float, float, float, float], bottom_m: float, top_m: float, axes: np.ndarray, eye: np.ndarray
) -> float:
    """Return the area of a thing's outline in pictures, cut half a picture beyond the borders."""
    x0, y0, x1, y1 = rect
    corners = np.array([(x, y, z) for x in (x0, x1) for y in (y0, y1) for z in (bottom_m, top_m)]) - eye
    local = corners @ (axes / (axes**2).sum(axis=1, keepdims=True)).T  # (8, 3)
    flat = local[:, :2] / np.maximum(local[:, 2:], _NEAR_PLANE_M)  # -1..1 across the picture
    flat = np.clip(flat, -_REACH, _REACH)
    return float(np.prod(np.ptp(flat, axis=0) / 2))


def _place(low: float, center: float, high: float) -> str | None:
    """Return where something lies that goes from ``low`` to ``high``, 0..1; None where people would disagree."""
    if center <= _LEFT[1] and high < 0.56:
        return "left"
    if center >= _RIGHT[0] and low > 0.44:
        return "right"
    if _MIDDLE[0] <= center <= _MIDDLE[1] and low > 0.18 and high < 0.82:
        return "middle"
    return None


def _surroundings(scene: Scene, cast: Cast) -> tuple[str | None, str | None]:
    """Return the kind of room and of floor, None where they are not clear."""
    plan = scene.house.plan
    hit, points, rays = (pixels[::_SPARSE, ::_SPARSE] for pixels in (cast.hit, cast.points, cast.rays))
    material = np.where(hit >= 0, scene.surfaces.materials[hit], -1)
    shell = (hit == FLOOR_ID) | (hit == CEILING_ID) | (material == palette.WALL)
    inward = points[shell][:, :2] - 0.1 * rays[shell][:, :2]  # walls stand on the border of rooms
    kinds = [room.kind for room in plan.rooms]
    shares = np.bincount(rooms_at(plan, inward), minlength=len(kinds)) / max(len(inward), 1)
    index = int(shares.argmax())
    stands_there = scene.house.room_at(cast.eye[:2]) == index or _in_door(scene, cast)
    if shares[index] < _ROOM_SHARE or not stands_there:
        return None, None
    kind = kinds[index]
    floor = (hit == FLOOR_ID).mean() >= _FLOOR_SHARE
    return kind, _FLOORS.get(palette.ROOM_TYPES[kind].floor, "tile") if floor else None


def _in_door(scene: Scene, cast: Cast) -> bool:
    """Tell whether the camera stands in a doorway, from where it may look into either room."""
    return any(np.hypot(door.x - cast.eye[0], door.y - cast.eye[1]) < CAMERA_M / 2 for door in scene.house.plan.doors)
