"""Pictures out of skybox faces: perspective views and their depth as the Matterport3D simulator draws them, panoramas.

Geometry of the reference simulator in closed form (peteanderson80/Matterport3DSimulator@589d091): bilinear
filter, clamp to edge, faces not blended over their seams. Images are RGB; the simulator itself hands out BGR.
Views of faces in main memory are drawn by OpenCV (``warp.py``), everything else with torch (``cubemap.py``).
"""

import functools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from vln_clip.envs.cubemap import axis_cosines, pixel_matrices, pixel_rays, sample_colors, sample_ranges, stack_faces
from vln_clip.envs.skybox import NUM_FACES, load_skybox, load_skybox_depth
from vln_clip.envs.warp import Patch, draw_ranges, draw_views, opencv, plan_views
from vln_clip.records import (
    NUM_VIEWS,
    VIEW_HEIGHT_PX,
    VIEW_VFOV_RAD,
    VIEW_WIDTH_PX,
    view_elevation_rad,
    view_heading_rad,
)

__all__ = [
    "load_skybox",
    "load_skybox_depth",
    "panorama_views",
    "render_depth",
    "render_equirectangular",
    "render_views",
]

# Plans for more pixels than this are not kept: their masks take up to a byte per pixel.
_MAX_PLANNED_PX = 1_500_000
# Views are drawn in portions of so many pixels: for OpenCV because of the masks, for torch because of its temporary
# arrays (some 60 bytes per pixel), on the CPU so few that they stay in the processor's cache.
_OPENCV_PORTION_PX = 16_000_000
_DEVICE_PORTION_PX = 4_000_000
_CPU_TORCH_PORTION_PX = 160_000
_MAX_EDGE_PX = 32_767  # OpenCV counts pixels in 16 bits


def render_views(
    faces: Tensor,
    rotation: np.ndarray | Tensor,
    headings_rad: Sequence[float],
    elevations_rad: Sequence[float],
    width_px: int = VIEW_WIDTH_PX,
    height_px: int = VIEW_HEIGHT_PX,
    vfov_rad: float = VIEW_VFOV_RAD,
) -> Tensor:
    """Render perspective views of one panorama.

    Args:
        faces: cube faces, (6, S, S, 3) uint8 RGB; the work is done on their device.
        rotation: upper-left 3x3 of ``pose`` (skybox camera to world).
        headings_rad: headings of the view centers, V of them, clockwise from +y.
        elevations_rad: elevations of the view centers, V of them, up positive.
        width_px: width of a view.
        height_px: height of a view; pixels are square.
        vfov_rad: vertical field of view.

    Returns:
        Views, (V, H, W, 3) uint8 RGB, top row first.
    """
    _check_faces(faces, (3,), torch.uint8)
    matrices = _matrices(rotation, headings_rad, elevations_rad, width_px, height_px, vfov_rad)
    views = faces.new_empty((len(matrices), height_px, width_px, 3))
    if faces.device.type != "cpu" or not opencv():
        texture = stack_faces(faces)
        for place, rays in _rays(matrices, width_px, height_px, faces.device):
            views[place] = sample_colors(texture, rays)
        return views
    source = np.ascontiguousarray(faces.numpy())
    for place, plan in _plans(matrices, width_px, height_px, faces.shape[1]):
        draw_views(source, plan, views.numpy()[place])
    return views


def panorama_views(
    faces: Tensor,
    rotation: np.ndarray | Tensor,
    width_px: int = VIEW_WIDTH_PX,
    height_px: int = VIEW_HEIGHT_PX,
    vfov_rad: float = VIEW_VFOV_RAD,
) -> Tensor:
    """Render the 36 views of a panorama in view order, (36, H, W, 3) uint8 RGB."""
    headings = [view_heading_rad(view) for view in range(NUM_VIEWS)]
    elevations = [view_elevation_rad(view) for view in range(NUM_VIEWS)]
    return render_views(faces, rotation, headings, elevations, width_px, height_px, vfov_rad)


def render_depth(
    depth_faces: Tensor,
    rotation: np.ndarray | Tensor,
    headings_rad: Sequence[float],
    elevations_rad: Sequence[float],
    width_px: int = VIEW_WIDTH_PX,
    height_px: int = VIEW_HEIGHT_PX,
    vfov_rad: float = VIEW_VFOV_RAD,
) -> Tensor:
    """Render the depth of perspective views of one panorama.

    Unlike the reference simulator, which most likely passes depth through an 8-bit frame buffer, nothing is rounded
    to coarser steps than the stored ones.

    Args:
        depth_faces: ranges along the ray, (6, S, S) uint16, 0.25 mm per unit, 0 where nothing was measured.
        rotation: upper-left 3x3 of ``pose`` (skybox camera to world).
        headings_rad: headings of the view centers, V of them, clockwise from +y.
        elevations_rad: elevations of the view centers, V of them, up positive.
        width_px: width of a view.
        height_px: height of a view; pixels are square.
        vfov_rad: vertical field of view.

    Returns:
        Distances from the camera's plane (not along the ray), (V, H, W) uint16, 0.25 mm per unit, 0 where nothing
        was measured. The nearest texel is taken; ranges are not interpolated.
    """
    _check_faces(depth_faces, (), torch.uint16)
    matrices = _matrices(rotation, headings_rad, elevations_rad, width_px, height_px, vfov_rad)
    depth = depth_faces.new_empty((len(matrices), height_px, width_px))
    cosines = axis_cosines(width_px, height_px, vfov_rad)
    if depth_faces.device.type != "cpu" or not opencv():
        ranges, factor = depth_faces.to(torch.int32), torch.from_numpy(cosines).to(depth_faces.device)
        for place, rays in _rays(matrices, width_px, height_px, depth_faces.device):
            depth[place] = (sample_ranges(ranges, rays) * factor).round_().to(torch.int32).to(torch.uint16)
        return depth
    source = np.ascontiguousarray(depth_faces.numpy())
    for place, plan in _plans(matrices, width_px, height_px, source.shape[1]):
        draw_ranges(source, plan, depth.numpy()[place])
    for view in depth.numpy():
        view[:] = np.rint(view * cosines)
    return depth


def render_equirectangular(faces: Tensor, rotation: np.ndarray | Tensor, width_px: int = 2048) -> Tensor:
    """Unroll a panorama.

    Args:
        faces: cube faces, (6, S, S, 3) uint8 RGB; the work is done on their device.
        rotation: upper-left 3x3 of ``pose`` (skybox camera to world).
        width_px: width of the picture, even.

    Returns:
        (W / 2, W, 3) uint8 RGB: heading 0 (+y) in the middle, headings increasing to the right, elevation from
        +90 degrees at the upper edge to -90 at the lower one.
    """
    _check_faces(faces, (3,), torch.uint8)
    if width_px < 2 or width_px % 2:
        raise ValueError(f"width_px must be even and positive, got {width_px}")
    height_px = width_px // 2
    heading = (torch.arange(width_px, dtype=torch.float64) + 0.5) * (2 * math.pi / width_px) - math.pi
    elevation = math.pi / 2 - (torch.arange(height_px, dtype=torch.float64)[:, None] + 0.5) * (math.pi / height_px)
    texture, picture = stack_faces(faces), faces.new_empty((height_px, width_px, 3))
    to_camera = torch.from_numpy(_as_rotation(rotation).T.copy())
    for rows in _portions(height_px, width_px, _torch_portion_px(faces.device)):
        level, upward = elevation[rows].cos(), elevation[rows].sin()
        world = torch.stack([heading.sin() * level, heading.cos() * level, upward.expand(-1, width_px)])  # (3, h, W)
        rays = torch.einsum("cw,whx->chx", to_camera, world).float().to(faces.device)
        picture[rows] = sample_colors(texture, rays[:, None])[0]
    return picture


def _check_faces(faces: Tensor, channels: tuple[int, ...], dtype: torch.dtype) -> None:
    size = faces.shape[1] if faces.ndim > 1 else 0
    if tuple(faces.shape) != (NUM_FACES, size, size, *channels) or not size:
        wanted = ", ".join(["6", "S", "S", *map(str, channels)])
        raise ValueError(f"faces must be ({wanted}), got {tuple(faces.shape)}")
    if faces.dtype != dtype:
        raise TypeError(f"faces must be {dtype}, got {faces.dtype}")


def _as_rotation(rotation: np.ndarray | Tensor) -> np.ndarray:
    return np.asarray(rotation, dtype=np.float64).reshape(3, 3)


def _matrices(
    rotation: np.ndarray | Tensor,
    headings_rad: Sequence[float],
    elevations_rad: Sequence[float],
    width_px: int,
    height_px: int,
    vfov_rad: float,
) -> np.ndarray:
    """Check the poses and sizes of views and return ``pixel_matrices``."""
    if len(headings_rad) != len(elevations_rad):
        raise ValueError(f"headings and elevations must pair up, got {len(headings_rad)} and {len(elevations_rad)}")
    if not (1 <= width_px <= _MAX_EDGE_PX and 1 <= height_px <= _MAX_EDGE_PX):
        raise ValueError(f"width_px and height_px must be 1 to {_MAX_EDGE_PX}, got {width_px} and {height_px}")
    if not 0 < vfov_rad < math.pi:
        raise ValueError(f"vfov_rad must be between 0 and pi, got {vfov_rad}")
    return pixel_matrices(_as_rotation(rotation), headings_rad, elevations_rad, width_px, height_px, vfov_rad)


def _portions(count: int, each_px: int, portion_px: int) -> Iterator[slice]:
    """Cut views (or rows of a picture) into portions of at least one."""
    step = max(1, portion_px // each_px)
    return (slice(first, min(first + step, count)) for first in range(0, count, step))


def _rays(matrices: np.ndarray, width_px: int, height_px: int, device: torch.device) -> Iterator[tuple[slice, Tensor]]:
    """Return portions of views with the rays of their pixels, (3, v, H, W) float32."""
    for place in _portions(len(matrices), width_px * height_px, _torch_portion_px(device)):
        yield place, pixel_rays(matrices[place], width_px, height_px, device)


def _plans(matrices: np.ndarray, width_px: int, height_px: int, size_px: int) -> Iterator[tuple[slice, list[Patch]]]:
    """Return portions of views with their patches."""
    for place in _portions(len(matrices), width_px * height_px, _OPENCV_PORTION_PX):
        part = matrices[place]
        kept = len(part) * width_px * height_px <= _MAX_PLANNED_PX
        make_plan = _kept_plan if kept else _kept_plan.__wrapped__
        yield place, make_plan(part.tobytes(), width_px, height_px, size_px)


def _torch_portion_px(device: torch.device) -> int:
    return _CPU_TORCH_PORTION_PX if device.type == "cpu" else _DEVICE_PORTION_PX


@functools.lru_cache(maxsize=4)
def _kept_plan(matrices: bytes, width_px: int, height_px: int, size_px: int) -> list[Patch]:
    """Return ``plan_views``: poses repeat where viewpoints share a rotation or one is drawn again."""
    return plan_views(np.frombuffer(matrices).reshape(-1, 3, 3), width_px, height_px, size_px)
