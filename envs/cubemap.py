"""Geometry of a cube map: which face a direction meets and where, and colors and depths read there with torch.

The closed form of the Matterport3D simulator (peteanderson80/Matterport3DSimulator@589d091). Directions are in the
frame of the skybox camera: x right, y down, z forward (the middle of face 3). Texture coordinates s (right) and t
(down) of a face run from -1 to 1.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vln_clip.envs.skybox import NUM_FACES

# Per face: normal, direction of s, direction of t, as signed axes of the camera frame; s = (s . u) / (normal . u).
FACE_AXES = np.array(
    [
        [[0, -1, 0], [-1, 0, 0], [0, 0, -1]],
        [[0, 0, -1], [-1, 0, 0], [0, 1, 0]],
        [[-1, 0, 0], [0, 0, 1], [0, 1, 0]],
        [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
        [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
        [[0, 1, 0], [-1, 0, 0], [0, 0, 1]],
    ],
    dtype=np.float64,
)  # (6, 3, 3)


def pixel_matrices(
    rotation: np.ndarray,
    headings_rad: Sequence[float],
    elevations_rad: Sequence[float],
    width_px: int,
    height_px: int,
    vfov_rad: float,
) -> np.ndarray:
    """Return per view the matrix from (column, row, 1) of a pixel center to its ray.

    Args:
        rotation: (3, 3) skybox camera to world.
        headings_rad: headings of the view centers, clockwise from +y.
        elevations_rad: elevations of the view centers, up positive.
        width_px: width of a view.
        height_px: height of a view; pixels are square.
        vfov_rad: vertical field of view.

    Returns:
        (V, 3, 3) float64; rays are in the camera frame and have length 1 along the optical axis.
    """
    heading, elevation = np.asarray(headings_rad, np.float64), np.asarray(elevations_rad, np.float64)
    sin_h, cos_h, sin_e, cos_e = np.sin(heading), np.cos(heading), np.sin(elevation), np.cos(elevation)
    forward = np.stack([sin_h * cos_e, cos_h * cos_e, sin_e], axis=-1)  # (V, 3)
    right = np.stack([cos_h, -sin_h, np.zeros_like(sin_h)], axis=-1)
    down = np.stack([sin_h * sin_e, cos_h * sin_e, -cos_e], axis=-1)  # forward x right
    pixel = 2 * math.tan(vfov_rad / 2) / height_px
    corner = forward + pixel * (right * (1 - width_px) / 2 + down * (1 - height_px) / 2)  # center of pixel (0, 0)
    return rotation.T @ np.stack([pixel * right, pixel * down, corner], axis=-1)


def pixel_rays(matrices: np.ndarray, width_px: int, height_px: int, device: torch.device) -> Tensor:
    """Return the ray of every pixel, (3, V, H, W) float32, from ``pixel_matrices``."""
    steps = torch.from_numpy(matrices).permute(2, 1, 0)[..., None, None]  # (3, 3, V, 1, 1), first axis column, row, 1
    columns = torch.arange(width_px, dtype=torch.float64)
    rows = torch.arange(height_px, dtype=torch.float64)[:, None]
    along, down = (steps[0] * columns).float(), (steps[1] * rows + steps[2]).float()  # (3, V, 1, W), (3, V, H, 1)
    return along.to(device) + down.to(device)


def axis_cosines(width_px: int, height_px: int, vfov_rad: float) -> np.ndarray:
    """Return the cosine of the angle between the ray of every pixel and the optical axis, (H, W) float32."""
    pixel = 2 * math.tan(vfov_rad / 2) / height_px
    across = (np.arange(width_px) - (width_px - 1) / 2) * pixel
    down = (np.arange(height_px) - (height_px - 1) / 2) * pixel
    return (1 / np.sqrt(1 + across**2 + down[:, None] ** 2)).astype(np.float32)


def meet_faces(rays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find where rays meet the cube.

    Args:
        rays: (3, ...) float, any length but 0.

    Returns:
        Number of the face, s and t, each (...) and of the type of the rays.
    """
    x, y, z = rays
    size_x, size_y, size_z = rays.abs()
    on_x = (size_x >= size_y) & (size_x >= size_z)
    on_y = (size_y >= size_z) & ~on_x
    inverse = torch.where(on_x, x, torch.where(on_y, y, z)).reciprocal_()
    positive = inverse > 0
    s = torch.where(on_x, -z, x) * inverse
    s = torch.where(on_y, -x * inverse.abs(), s)
    t = torch.where(on_y, z * inverse, y * inverse.abs())
    numbers = rays.new_tensor([[2, 0, 1], [4, 5, 3]])  # negative and positive x, y, z
    below, above = (torch.where(on_x, row[0], torch.where(on_y, row[1], row[2])) for row in numbers)
    return torch.where(positive, above, below), s, t


def stack_faces(faces: Tensor) -> Tensor:
    """Stack color faces into one texture, each with a copied border so that filtering clamps to its edge.

    Args:
        faces: (6, S, S, 3) uint8.

    Returns:
        (1, 3, 6(S+2), S+2) float32, channels last in memory.
    """
    planes = F.pad(faces.permute(0, 3, 1, 2).float(), (1, 1, 1, 1), mode="replicate")  # (6, 3, S+2, S+2)
    stacked = planes.permute(0, 2, 3, 1).reshape(1, -1, planes.shape[-1], 3)
    return stacked.permute(0, 3, 1, 2)


def sample_colors(texture: Tensor, rays: Tensor) -> Tensor:
    """Read colors with bilinear filtering.

    Args:
        texture: of ``stack_faces``.
        rays: (3, V, H, W) float32 on the same device.

    Returns:
        (V, H, W, 3) uint8.
    """
    face, s, t = meet_faces(rays)
    padded = texture.shape[-1]
    scale = (padded - 2) / padded
    # Coordinates of grid_sample without aligned corners: -1 and 1 are the outer edges of the texture.
    grid = torch.stack([s * scale, (t * scale + 1 + 2 * face) / NUM_FACES - 1], dim=-1)  # (V, H, W, 2)
    source = texture.expand(grid.shape[0], -1, -1, -1)
    image = F.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return image.permute(0, 2, 3, 1).round_().to(torch.uint8)


def sample_ranges(depth_faces: Tensor, rays: Tensor) -> Tensor:
    """Read depth faces at the nearest texel.

    Args:
        depth_faces: (6, S, S) int32.
        rays: (3, V, H, W) float32 on the same device.

    Returns:
        Stored values, (V, H, W) int32.
    """
    size = depth_faces.shape[-1]
    face, s, t = meet_faces(rays)
    column = ((s + 1) * (size / 2)).long().clamp_(0, size - 1)
    row = ((t + 1) * (size / 2)).long().clamp_(0, size - 1)
    return depth_faces.flatten()[(face.long() * size + row) * size + column]
