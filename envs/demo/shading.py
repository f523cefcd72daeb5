"""Colors of what rays hit: procedural materials, a lamp in every room, darker corners."""

from dataclasses import dataclass

import numpy as np

from vln_clip.envs.demo import palette as p
from vln_clip.envs.demo.designs import BOX, CYLINDER
from vln_clip.envs.demo.floorplan import CEILING_M, FloorPlan

FLOOR_ID, CEILING_ID = -1, -2
_LAMP_M = 2.2


@dataclass(frozen=True)
class Surfaces:
    """Surfaces of a house as arrays over its N solids.

    Attributes:
        plan: its rooms.
        shapes: BOX, CYLINDER or ELLIPSOID, (N,).
        centers: (N, 3) metres.
        halves: half extents, (N, 3) metres.
        rgb: (N, 3) in 0..1.
        materials: (N,) of ``palette``.
    """

    plan: FloorPlan
    shapes: np.ndarray
    centers: np.ndarray
    halves: np.ndarray
    rgb: np.ndarray
    materials: np.ndarray


def shade(surfaces: Surfaces, points: np.ndarray, hit: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """Color the points that rays hit.

    Args:
        surfaces: the house.
        points: (P, 3) metres.
        hit: index of the solid at each point, or FLOOR_ID or CEILING_ID, (P,).
        eye: where the rays start, (3,).

    Returns:
        (P, 3) uint8 RGB.
    """
    normals = _normals(surfaces, points, hit)
    rooms = rooms_at(surfaces.plan, points[:, :2] + 0.12 * normals[:, :2])
    material = np.where(hit >= 0, surfaces.materials[hit], -1)
    color = surfaces.rgb[hit].copy()
    for room_index, room in enumerate(surfaces.plan.rooms):
        look = p.ROOM_TYPES[room.kind]
        here = rooms == room_index
        floor = np.nonzero(here & (hit == FLOOR_ID))[0]
        color[floor] = _floor(look, points[floor])
        wall = np.nonzero(here & (material == p.WALL))[0]
        color[wall] = _wall(look, points[wall])
    color[hit == CEILING_ID] = 0.93
    for kind, paint in ((p.WOOD, _grain), (p.BOOKS, _books), (p.PICTURE, _picture), (p.FABRIC, _cloth)):
        chosen = np.nonzero(material == kind)[0]
        color[chosen] = paint(color[chosen], points[chosen])
    leaves = np.nonzero(material == p.LEAVES)[0]
    color[leaves] = _leaves(color[leaves], points[leaves])
    lit = color * _light(surfaces.plan, points, normals, rooms, hit, eye)[:, None]
    glow = material == p.GLOW
    lit[glow] = color[glow] + (points[glow, 2:] - 1.2) * 0.14
    return (np.clip(lit, 0, 1) * 255 + 0.5).astype(np.uint8)


def _normals(surfaces: Surfaces, points: np.ndarray, hit: np.ndarray) -> np.ndarray:
    """Return the outward normal at each point, (P, 3)."""
    local = (points - surfaces.centers[hit]) / surfaces.halves[hit]
    axis = np.abs(local).argmax(axis=1)
    box = np.zeros_like(points)
    rows = np.arange(len(points))
    box[rows, axis] = np.sign(local[rows, axis])
    shape = surfaces.shapes[hit]
    round_ = local / surfaces.halves[hit]
    round_[shape == CYLINDER, 2] = 0
    round_ /= np.linalg.norm(round_, axis=1, keepdims=True) + 1e-9
    cap = (shape == CYLINDER) & (np.abs(local[:, 2]) > 0.999)
    normals = np.where(((shape == BOX) | cap)[:, None], box, round_)
    normals[cap] = [0, 0, 1]
    normals[hit == FLOOR_ID] = [0, 0, 1]
    normals[hit == CEILING_ID] = [0, 0, -1]
    return normals.astype(np.float32)


def rooms_at(plan: FloorPlan, spots: np.ndarray) -> np.ndarray:
    """Return the room of each spot, (P,); the last room where a spot lies in none."""
    rooms = np.full(len(spots), len(plan.rooms) - 1)
    for index, room in enumerate(plan.rooms):
        x, y = spots[:, 0], spots[:, 1]
        rooms[(x >= room.x0) & (x < room.x1) & (y >= room.y0) & (y < room.y1)] = index
    return rooms


def _light(
    plan: FloorPlan, points: np.ndarray, normals: np.ndarray, rooms: np.ndarray, hit: np.ndarray, eye: np.ndarray
) -> np.ndarray:
    """Return the brightness at each point: ambient light, the room's lamp, corners, distance."""
    lamps = np.array([((r.x0 + r.x1) / 2, (r.y0 + r.y1) / 2, _LAMP_M) for r in plan.rooms], dtype=np.float32)
    toward = lamps[rooms] - points
    away = np.linalg.norm(toward, axis=1) + 1e-6
    facing = np.clip((toward * normals).sum(axis=1) / away, 0, 1)
    side = 0.04 * np.abs(normals[:, 0]) - 0.03 * np.abs(normals[:, 1])  # so that edges of boxes show
    light = 0.62 + side + 0.46 * facing / (1 + 0.05 * away * away)
    light += np.where(hit == CEILING_ID, 0.24, 0.0)
    edges = np.array([(r.x0, r.x1, r.y0, r.y1) for r in plan.rooms], dtype=np.float32)[rooms]
    x, y, z = points.T
    to_wall = np.minimum(np.minimum(x - edges[:, 0], edges[:, 1] - x), np.minimum(y - edges[:, 2], edges[:, 3] - y))
    flat = np.abs(normals[:, 2]) > 0.5
    corner = np.where(flat & (hit < 0), to_wall - 0.07, np.minimum(z, CEILING_M - z))
    light *= 1 - 0.3 * np.exp(-np.clip(corner, 0, None) / 0.16)
    return light * (1 - 0.012 * np.clip(np.linalg.norm(points - eye, axis=1), 0, 15))


def _noise(*parts: np.ndarray) -> np.ndarray:
    """Hash coordinates to [0, 1)."""
    mixed = sum(part.astype(np.float64) * scale for part, scale in zip(parts, (12.9898, 78.233, 37.719), strict=False))
    wave = np.sin(mixed) * 43758.5453
    return (wave - np.floor(wave)).astype(np.float32)


def _mix(look: p.RoomType, share: np.ndarray) -> np.ndarray:
    """Blend the two floor colors of a room."""
    first, second = (np.array(rgb, dtype=np.float32) / 255 for rgb in look.floor_rgb)
    return first + (second - first) * share[:, None]


def _floor(look: p.RoomType, points: np.ndarray) -> np.ndarray:
    """Color points of a floor, (P, 3)."""
    x, y = points[:, 0], points[:, 1]
    if look.floor == p.PLANKS:
        plank = np.floor(y / 0.18)
        shift = _noise(plank) * 1.4
        board = np.floor((x + shift) / 1.4)
        seam = ((y / 0.18) % 1 < 0.07) | (((x + shift) / 1.4) % 1 < 0.012)
        return (
            _mix(look, _noise(plank, board) + 0.25 * np.sin(40 * y + 3 * np.sin(2 * x)))
            * np.where(seam, 0.7, 1)[:, None]
        )
    if look.floor == p.CHECKER:
        return _mix(look, (np.floor(x / 0.45) + np.floor(y / 0.45)) % 2)
    if look.floor == p.CARPET:
        return _mix(look, _noise(np.floor(x / 0.04), np.floor(y / 0.04)))
    size = 0.3 if look.floor == p.TILES else 0.7
    grout = ((x / size) % 1 < 0.06) | ((y / size) % 1 < 0.06)
    return _mix(look, np.where(grout, 1.0, 0.35 * _noise(np.floor(x / size), np.floor(y / size))))


def _wall(look: p.RoomType, points: np.ndarray) -> np.ndarray:
    """Color points of a wall, (P, 3)."""
    along, z = points[:, 0] + points[:, 1], points[:, 2]
    tone = np.ones(len(points), dtype=np.float32)
    if look.wall == p.STRIPES:
        tone = np.where((along / 0.24) % 1 < 0.5, 1.0, 0.9)
    elif look.wall == p.TILED:
        tone = np.where(((along / 0.3) % 1 < 0.05) | ((z / 0.3) % 1 < 0.05), 0.82, 1.0)
    elif look.wall == p.WAINSCOT:
        tone = np.where(z < 0.95, 0.84, 1.0) * np.where(np.abs(z - 0.95) < 0.03, 0.7, 1.0)
    color = np.array(look.wall_rgb, dtype=np.float32) / 255 * tone[:, None]
    color[z < 0.1] = 0.9  # skirting board
    return color


def _grain(color: np.ndarray, points: np.ndarray) -> np.ndarray:
    return color * (0.94 + 0.08 * np.sin(60 * points[:, 2] + 9 * (points[:, 0] + points[:, 1])))[:, None]


def _books(color: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Turn a box into a row of books in muted colors."""
    book = np.floor((points[:, 0] + points[:, 1]) / 0.055)
    shade_ = np.stack([_noise(book, book + k) for k in (1, 5, 9)], axis=1)
    return 0.5 * color * (0.55 + 0.45 * _noise(book))[:, None] + 0.25 + 0.12 * shade_


def _picture(color: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Paint soft hills in the picture's color."""
    along, z = points[:, 0] + points[:, 1], points[:, 2]
    hill = z - 1.4 - 0.12 * np.sin(3.1 * along) - 0.05 * np.sin(9 * along)
    return np.where((hill < 0)[:, None], color * 0.8, np.clip(color * 1.1 + 0.03, 0, 1))


def _cloth(color: np.ndarray, points: np.ndarray) -> np.ndarray:
    return color * (0.95 + 0.05 * np.sin(38 * (points[:, 0] + points[:, 1])))[:, None]


def _leaves(color: np.ndarray, points: np.ndarray) -> np.ndarray:
    patch = _noise(*(np.floor(points / 0.06).T))
    return color * (0.7 + 0.5 * patch)[:, None]
