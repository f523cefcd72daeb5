"""Equirectangular pictures of viewpoints, drawn from skyboxes: as many and as wide as a page has room for."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vln_clip.envs.render import load_skybox, render_equirectangular

QUALITY = 80  # of JPEG


@dataclass(frozen=True)
class Panoramas:
    """Pictures of a page.

    Attributes:
        width_px: of each; the height is half of it.
        pictures: JPEG files, in the order of ``viewpoints``.
        viewpoints: global viewpoints.
    """

    width_px: int
    pictures: tuple[bytes, ...]
    viewpoints: tuple[int, ...]


def panorama_jpeg(folder: Path, viewpoint_id: str, rotation: np.ndarray, width_px: int) -> bytes:
    """Draw the panorama of a viewpoint.

    Args:
        folder: with its skybox files.
        viewpoint_id: its id.
        rotation: (3, 3), skybox camera to world.
        width_px: width, even; the height is half of it.

    Returns:
        A JPEG file: heading 0 (+y) in the middle, headings increasing to the right, straight up at the upper edge.

    Raises:
        InputError: its skybox files are missing or damaged.
    """
    faces = load_skybox(folder, viewpoint_id)
    return to_jpeg(render_equirectangular(faces, rotation, width_px).numpy())


def to_jpeg(picture: np.ndarray) -> bytes:
    """Return a picture, (H, W, 3) uint8 RGB, as JPEG file."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=QUALITY, optimize=True, progressive=True)
    return out.getvalue()
