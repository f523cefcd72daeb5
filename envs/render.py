"""Perspective views out of skybox cube faces, as the Matterport3D simulator draws them.

Geometry of the reference simulator in closed form (peteanderson80/Matterport3DSimulator@589d091): bilinear
filter, clamp to edge, faces not blended over their seams. Images are RGB; the simulator itself hands out BGR.
"""

import functools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vln_clip.errors import InputError
from vln_clip.records import (
    NUM_VIEWS,
    VIEW_HEIGHT_PX,
    VIEW_VFOV_RAD,
    VIEW_WIDTH_PX,
    view_elevation_rad,
    view_heading_rad,
)

NUM_FACES = 6
# Grids larger than this are computed chunk by chunk and not kept (2 floats per pixel).
_MAX_CACHED_PX = 1_500_000
_CHUNK_PX = 1_000_000
_ADVICE = "download the skybox images of this scan again"


def load_skybox(folder: Path, viewpoint_id: str, size_px: int | None = None) -> Tensor:
    """Load the six cube faces of a viewpoint.

    Args:
        folder: ``scans/<scan>/matterport_skybox_images``; the six files ``<id>_skybox{0..5}_sami.jpg`` are
            preferred, the strip ``<id>_skybox_small.jpg`` is taken where none of them exists.
        viewpoint_id: 32 hexadecimal digits.
        size_px: edge to which each face is area-resampled; None keeps the stored size.

    Returns:
        Faces 0..5 (up, back, left, forward, right, down), (6, S, S, 3) uint8 RGB.

    Raises:
        InputError: a file is missing, half-written or of the wrong shape.
    """
    files = [folder / f"{viewpoint_id}_skybox{face}_sami.jpg" for face in range(NUM_FACES)]
    strip = folder / f"{viewpoint_id}_skybox_small.jpg"
    present = [file for file in files if file.exists()]
    if present or not strip.exists():
        missing = [file.name for file in files if file not in present]
        if missing:
            raise InputError(f"skybox files must all exist in {folder}, got no {missing[0]}; {_ADVICE}")
        faces = [_open_face(file) for file in files]
        sizes = {face.size for face in faces}
        if len(sizes) > 1:
            raise InputError(f"skybox faces must have one size, got {sorted(sizes)} for {files[0]}; {_ADVICE}")
    else:
        faces = _split_strip(strip)
    if size_px is not None:
        faces = [
            face if face.size == (size_px, size_px) else face.resize((size_px,) * 2, Image.Resampling.BOX)
            for face in faces
        ]
    return torch.from_numpy(np.stack([np.asarray(face) for face in faces]))  # (6, S, S, 3)


def _open_image(file: Path) -> Image.Image:
    """Read one RGB image completely."""
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except OSError as error:
        raise InputError(f"skybox image must be a complete JPEG, got {file} ({error}); {_ADVICE}") from error


def _open_face(file: Path) -> Image.Image:
    """Read one face and check that it is square."""
    image = _open_image(file)
    if image.width != image.height:
        raise InputError(f"skybox face must be square, got {image.width}x{image.height} in {file}; {_ADVICE}")
    return image


def _split_strip(file: Path) -> list[Image.Image]:
    """Read the merged strip and cut it into its six faces."""
    image = _open_image(file)
    size = image.height
    if image.width != NUM_FACES * size:
        raise InputError(
            f"skybox strip must hold six square faces side by side, got {image.width}x{size} in {file}; {_ADVICE}"
        )
    return [image.crop((face * size, 0, (face + 1) * size, size)) for face in range(NUM_FACES)]


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
    if faces.ndim != 4 or faces.shape[0] != NUM_FACES or faces.shape[1] != faces.shape[2] or faces.shape[3] != 3:
        raise ValueError(f"faces must be (6, S, S, 3), got {tuple(faces.shape)}")
    if len(headings_rad) != len(elevations_rad):
        raise ValueError(f"headings and elevations must pair up, got {len(headings_rad)} and {len(elevations_rad)}")
    rows = tuple(float(x) for x in np.asarray(rotation, dtype=np.float64).reshape(9))
    views = tuple(zip(map(float, headings_rad), map(float, elevations_rad), strict=True))
    texture = _stack_faces(faces)
    cached = len(views) * width_px * height_px <= _MAX_CACHED_PX
    chunk = len(views) if cached else max(1, _CHUNK_PX // (width_px * height_px))
    make_grid = _cached_grid if cached else _sampling_grid
    pieces = []
    for first in range(0, len(views), max(chunk, 1)):
        part = views[first : first + chunk]
        grid = make_grid(rows, part, width_px, height_px, vfov_rad, faces.shape[1], str(faces.device))  # (v, H, W, 2)
        source = texture.expand(len(part), -1, -1, -1)
        image = F.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=False)
        pieces.append(image.round_().to(torch.uint8).permute(0, 2, 3, 1))  # (v, H, W, 3)
    if not pieces:
        return faces.new_zeros((0, height_px, width_px, 3))
    return torch.cat(pieces).contiguous()


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


def _stack_faces(faces: Tensor) -> Tensor:
    """Stack the faces into one texture, each with a copied border so that filtering clamps to its edge."""
    planes = F.pad(faces.permute(0, 3, 1, 2).float(), (1, 1, 1, 1), mode="replicate")  # (6, 3, S+2, S+2)
    return planes.transpose(0, 1).reshape(1, 3, -1, planes.shape[-1])  # (1, 3, 6(S+2), S+2)


def _sampling_grid(
    rotation: tuple[float, ...],
    views: tuple[tuple[float, float], ...],
    width_px: int,
    height_px: int,
    vfov_rad: float,
    size_px: int,
    device: str,
) -> Tensor:
    """Compute where each pixel of each view reads the texture of ``_stack_faces``.

    Args:
        rotation: 3x3 camera-to-world rotation, row-major.
        views: (heading_rad, elevation_rad) of each view.
        width_px: width of a view.
        height_px: height of a view.
        vfov_rad: vertical field of view.
        size_px: edge S of a face.
        device: device of the result.

    Returns:
        Coordinates for ``grid_sample`` without aligned corners, (V, H, W, 2) float32.
    """
    rays = _world_rays(views, width_px, height_px, vfov_rad)  # (V, H, W, 3)
    u_x, u_y, u_z = (rays @ torch.tensor(rotation, dtype=torch.float64).reshape(3, 3)).unbind(-1)
    magnitude = torch.stack([u_x.abs(), u_y.abs(), u_z.abs()])
    largest, axis = magnitude.max(dim=0)
    positive = torch.stack([u_x, u_y, u_z]).gather(0, axis[None])[0] > 0
    on_x, on_y = axis == 0, axis == 1
    # Rows of the table in specification order: face 3, 1 (z), 4, 2 (x), 5, 0 (y).
    face = torch.where(
        on_x, torch.where(positive, 4, 2), torch.where(on_y, torch.where(positive, 5, 0), torch.where(positive, 3, 1))
    )
    sign = torch.where(positive, 1.0, -1.0).double()
    across = torch.where(on_x, -sign * u_z, torch.where(on_y, -u_x, sign * u_x)) / largest
    down = torch.where(on_y, sign * u_z, u_y) / largest
    column_px = (across + 1) / 2 * size_px + 1  # in the padded texture
    row_px = (down + 1) / 2 * size_px + 1 + face * (size_px + 2)
    padded = size_px + 2
    grid = torch.stack([column_px * 2 / padded - 1, row_px * 2 / (NUM_FACES * padded) - 1], dim=-1)
    return grid.float().to(device)


_cached_grid = functools.lru_cache(maxsize=4)(_sampling_grid)


def _world_rays(views: tuple[tuple[float, float], ...], width_px: int, height_px: int, vfov_rad: float) -> Tensor:
    """Return the world ray of every pixel, (V, H, W, 3) float64, not normalized."""
    tangent = math.tan(vfov_rad / 2)
    columns = (2 * (torch.arange(width_px, dtype=torch.float64) + 0.5) / width_px - 1) * width_px / height_px * tangent
    rows = (1 - 2 * (torch.arange(height_px, dtype=torch.float64) + 0.5) / height_px) * tangent
    angles = torch.tensor(views, dtype=torch.float64)  # (V, 2)
    sin_h, cos_h, sin_e, cos_e = angles[:, 0].sin(), angles[:, 0].cos(), angles[:, 1].sin(), angles[:, 1].cos()
    forward = torch.stack([sin_h * cos_e, cos_h * cos_e, sin_e], dim=-1)  # (V, 3)
    right = torch.stack([cos_h, -sin_h, torch.zeros_like(sin_h)], dim=-1)
    up = torch.linalg.cross(right, forward)
    return (
        forward[:, None, None]
        + columns[None, None, :, None] * right[:, None, None]
        + rows[None, :, None, None] * up[:, None, None]
    )
