"""A small ray-caster: the six skybox faces, or one picture in a free direction, from a point inside a house.

Walls and furniture are boxes, upright cylinders and ellipsoids tested only inside the rectangle that they can
cover on a picture, against a depth buffer, nearest first; floor and ceiling are planes. Shading is in ``shading``.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vln_clip.envs.demo.designs import BOX, CYLINDER
from vln_clip.envs.demo.floorplan import CEILING_M, wall_rects
from vln_clip.envs.demo.graph import blocked
from vln_clip.envs.demo.house import CAMERA_M, House
from vln_clip.envs.demo.palette import WALL
from vln_clip.envs.demo.shading import CEILING_ID, FLOOR_ID, Surfaces, shade

_NEAR_M = 0.02
_NOT_ZERO = np.float32(1e-7)  # rays are divided by
# Axes of each face in world coordinates: to the right in the image, down in the image, forward.
# The local frame of every pose is x-right, y-down, z-forward with forward = +y; faces are up, back, left,
# forward, right, down as the skybox numbers them.
_FACES = np.array(
    [
        [[-1, 0, 0], [0, -1, 0], [0, 0, 1]],
        [[-1, 0, 0], [0, 0, -1], [0, -1, 0]],
        [[0, 1, 0], [0, 0, -1], [-1, 0, 0]],
        [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
        [[0, -1, 0], [0, 0, -1], [1, 0, 0]],
        [[-1, 0, 0], [0, 1, 0], [0, 0, -1]],
    ],
    dtype=np.float32,
)
_EDGES = np.array([(a, b) for a in range(8) for b in range(a + 1, 8) if bin(a ^ b).count("1") == 1])


@dataclass(frozen=True)
class Scene:
    """Everything that can be hit in a house, as arrays over its N solids."""

    house: House
    walls: np.ndarray  # (M, 4) footprints of walls
    rooms: np.ndarray  # (N,) room of each solid, -1 where it belongs to none
    things: np.ndarray  # (N,) thing of the house that each solid is part of, -1 for walls
    surfaces: Surfaces


@dataclass(frozen=True)
class Cast:
    """What the rays of one picture meet first.

    Attributes:
        eye: where the rays start, (3,) float32 metres.
        rays: directions, (H, W, 3) float32, 1 along the direction of view.
        depth_m: distances along the direction of view, (H, W) float32.
        hit: solid that each ray meets, or FLOOR_ID or CEILING_ID, (H, W) int32.
    """

    eye: np.ndarray
    rays: np.ndarray
    depth_m: np.ndarray
    hit: np.ndarray

    @cached_property
    def points(self) -> np.ndarray:
        """Return where the rays end, (H, W, 3) metres."""
        return self.eye + self.rays * self.depth_m[..., None]


def make_scene(house: House) -> Scene:
    """Collect the solids of a house."""
    walls = wall_rects(house.plan)
    shapes, lows, highs, colors, materials, rooms, things = [], [], [], [], [], [], []
    for x0, y0, x1, y1 in walls:
        shapes.append(BOX)
        lows.append((x0, y0, 0.0))
        highs.append((x1, y1, CEILING_M))
        colors.append((230, 230, 230))
        materials.append(WALL)
        rooms.append(-1)
        things.append(-1)
    for index, thing in enumerate(house.things):
        for solid in thing.solids:
            shapes.append(solid.shape)
            lows.append(solid.low)
            highs.append(solid.high)
            colors.append(solid.rgb)
            materials.append(solid.material)
            rooms.append(thing.room)
            things.append(index)
    low, high = np.array(lows, dtype=np.float32), np.array(highs, dtype=np.float32)
    surfaces = Surfaces(
        plan=house.plan,
        shapes=np.array(shapes),
        centers=(low + high) / 2,
        halves=(high - low) / 2,
        rgb=np.array(colors, dtype=np.float32) / 255,
        materials=np.array(materials),
    )
    return Scene(house, walls, np.array(rooms), np.array(things), surfaces)


def render_skybox(scene: Scene, index: int, face_px: int) -> np.ndarray:
    """Draw the six faces around a viewpoint.

    Args:
        scene: the house.
        index: viewpoint.
        face_px: edge S of a face, even.

    Returns:
        (6, S, S, 3) uint8 RGB.
    """
    eye, rays, depth, hit = _cast(scene, index, face_px)
    points = eye + rays * depth[..., None]
    return shade(scene.surfaces, points.reshape(-1, 3), hit.reshape(-1), eye).reshape(6, face_px, face_px, 3)


def skybox_range(scene: Scene, index: int, face_px: int) -> np.ndarray:
    """Measure the six faces around a viewpoint: distances from the eye, (6, S, S) float32 metres."""
    _, rays, depth, _ = _cast(scene, index, face_px)
    return depth * np.linalg.norm(rays, axis=-1)


def cast_picture(scene: Scene, solids: np.ndarray, eye: np.ndarray, axes: np.ndarray, size_px: tuple[int, int]) -> Cast:
    """Cast the rays of one picture.

    Args:
        scene: the house.
        solids: indices of what can be hit, from ``solids_around`` the eye.
        eye: a point inside the house, ``CAMERA_M`` over the floor, (3,) float32 metres.
        axes: rows right, down and forward in world coordinates, (3, 3) float32, at right angles; forward has length 1,
            the others the tangents of half the field of view.
        size_px: height and width, even.
    """
    right, down, forward = axes
    down_ramp, right_ramp = ((2 * np.arange(px, dtype=np.float32) + 1) / px - 1 for px in size_px)
    rays = right_ramp[None, :, None] * right + down_ramp[:, None, None] * down + forward
    rays[rays == 0] = _NOT_ZERO
    upward = rays[..., 2]
    depth = np.where(upward > 0, CEILING_M - CAMERA_M, -CAMERA_M) / upward
    hit = np.where(upward > 0, CEILING_ID, FLOOR_ID).astype(np.int32)
    cast = Cast(eye, rays, depth.astype(np.float32), hit)
    _draw_solids(scene.surfaces, solids, axes, cast)
    return cast


def shade_picture(scene: Scene, cast: Cast) -> np.ndarray:
    """Color what the rays of a picture meet, (H, W, 3) uint8 RGB."""
    rgb = shade(scene.surfaces, cast.points.reshape(-1, 3), cast.hit.reshape(-1), cast.eye)
    return rgb.reshape(*cast.hit.shape, 3)


def _cast(scene: Scene, index: int, face_px: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cast the rays of a skybox.

    Returns:
        The eye (3,); rays (6, S, S, 3); how far along each ray the first surface is, (6, S, S); what it is, (6, S, S).
    """
    eye = np.array([*scene.house.points[index], CAMERA_M], dtype=np.float32)
    solids = solids_around(scene, eye)
    faces = [cast_picture(scene, solids, eye, axes, (face_px, face_px)) for axes in _FACES]
    rays, depth, hit = (np.stack([getattr(face, name) for face in faces]) for name in ("rays", "depth_m", "hit"))
    return eye, rays, depth, hit


def solids_around(scene: Scene, eye: np.ndarray) -> np.ndarray:
    """Return the indices of the solids that stand in rooms that can be seen from a point (2,) or (3,)."""
    eye = eye[:2]
    seen = {-1}
    for index, room in enumerate(scene.house.plan.rooms):
        xs, ys = np.linspace(room.x0 + 0.1, room.x1 - 0.1, 12), np.linspace(room.y0 + 0.1, room.y1 - 0.1, 12)
        spots = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
        near = room.x0 - 0.6 < eye[0] < room.x1 + 0.6 and room.y0 - 0.6 < eye[1] < room.y1 + 0.6
        if near or not blocked(np.repeat(eye[None], len(spots), axis=0), spots, scene.walls).all():
            seen.add(index)
    return np.nonzero(np.isin(scene.rooms, list(seen)))[0]


def _rectangles(
    low: np.ndarray, high: np.ndarray, axes: np.ndarray, size_px: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels that boxes can cover on a picture, (N, 4) columns and rows, and their nearest depth (N,).

    Args:
        low: lower corners relative to the eye, (N, 3).
        high: upper corners relative to the eye, (N, 3).
        axes: right, down and forward as in ``cast_picture``.
        size_px: height and width of the picture.
    """
    pick = (np.arange(8)[:, None] >> np.arange(3)) & 1  # (8, 3)
    corners = (
        np.where(pick[None] == 1, high[:, None], low[:, None]) @ (axes / (axes**2).sum(axis=1, keepdims=True)).T
    )  # (N, 8, 3)
    a, b = corners[:, _EDGES[:, 0]], corners[:, _EDGES[:, 1]]  # (N, 12, 3)
    gap = b[..., 2] - a[..., 2]
    share = np.clip((_NEAR_M - a[..., 2]) / np.where(np.abs(gap) < 1e-9, 1e-9, gap), 0, 1)[..., None]
    cut = a + share * (b - a)  # where the edge meets the near plane
    ends = np.concatenate([np.where(a[..., 2:] < _NEAR_M, cut, a), np.where(b[..., 2:] < _NEAR_M, cut, b)], axis=1)
    outside = ((a[..., 2] < _NEAR_M) & (b[..., 2] < _NEAR_M))[..., None]
    outside = np.concatenate([outside, outside], axis=1)
    flat = ends[..., :2] / np.maximum(ends[..., 2:], _NEAR_M * 0.5)  # (N, 24, 2)
    first = np.where(outside, np.inf, flat).min(axis=1)
    last = np.where(outside, -np.inf, flat).max(axis=1)
    across = np.array(size_px[::-1])  # columns, then rows
    start = np.clip(np.floor((np.clip(first, -2, 2) + 1) / 2 * across - 0.5), 0, across)
    stop = np.clip(np.ceil((np.clip(last, -2, 2) + 1) / 2 * across + 0.5), 0, across)
    nearest = np.maximum(corners[..., 2].min(axis=1), 0)
    return np.concatenate([start, stop], axis=1).astype(int), nearest


def _draw_solids(surfaces: Surfaces, solids: np.ndarray, axes: np.ndarray, cast: Cast) -> None:
    """Draw solids (indices) into the depth buffer and the hit buffer of a picture."""
    depth, hit, rays = cast.depth_m, cast.hit, cast.rays
    centers, halves = surfaces.centers[solids] - cast.eye, surfaces.halves[solids]
    rects, nearest = _rectangles(centers - halves, centers + halves, axes, depth.shape)
    for k in np.argsort(nearest, kind="stable"):
        x0, y0, x1, y1 = rects[k]
        if x1 <= x0 or y1 <= y0:
            continue
        window = depth[y0:y1, x0:x1]
        if nearest[k] >= window.max():
            continue
        solid = solids[k]
        found = _intersect(surfaces.shapes[solid], centers[k], halves[k], rays[y0:y1, x0:x1])
        closer = found < window
        window[closer] = found[closer]
        hit[y0:y1, x0:x1][closer] = solid


def _intersect(shape: int, center: np.ndarray, half: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Return how far along each ray a solid is entered, inf where it is missed, (H, W).

    Args:
        shape: BOX, CYLINDER or ELLIPSOID.
        center: center relative to the eye, (3,).
        half: half extents, (3,).
        rays: directions, (H, W, 3), no component zero.
    """
    x, y, z = ((rays[..., axis] / half[axis]) for axis in range(3))
    cx, cy, cz = (center / half).tolist()
    if shape == BOX:
        spans = [((c - np.sign(d)) / d, (c + np.sign(d)) / d) for c, d in ((cx, x), (cy, y), (cz, z))]
        enter = np.maximum(np.maximum(spans[0][0], spans[1][0]), spans[2][0])
        leave = np.minimum(np.minimum(spans[0][1], spans[1][1]), spans[2][1])
        return np.where((enter < leave) & (enter > _NEAR_M), enter, np.inf)
    flat = shape == CYLINDER
    square = x * x + y * y + (0 if flat else z * z)
    along = x * cx + y * cy + (0 if flat else z * cz)
    rest = cx * cx + cy * cy + (0 if flat else cz * cz) - 1
    root = np.sqrt(np.maximum(along * along - square * rest, 0))
    missed = along * along < square * rest
    enter, leave = (along - root) / square, (along + root) / square
    if flat:
        sign = np.sign(z)
        enter, leave = np.maximum(enter, (cz - sign) / z), np.minimum(leave, (cz + sign) / z)
    return np.where(missed | (enter >= leave) | (enter <= _NEAR_M), np.inf, enter)
