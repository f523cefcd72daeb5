"""Skybox files of Matterport3D: six cube faces or a strip of six, in color (JPEG) and as depth (16-bit PNG).

Faces are numbered 0..5: up, back, left, forward, right, down; 1, 2, 3, 4 go around the horizon turning right, 0 and
5 are oriented to face 1. What is drawn from them is in ``render.py``.
"""

import struct
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vln_clip.errors import InputError
from vln_clip.limits import MAX_SKYBOX_PIXELS

NUM_FACES = 6
# Others, such as PostScript, would be handed to programs outside, whatever the file is called.
_FORMATS = ("JPEG", "PNG", "WEBP")
# What Pillow raises where a file is damaged: of some PNG files SyntaxError, of chunks ValueError and struct.error.
PICTURE_ERRORS = (
    OSError, SyntaxError, ValueError, IndexError, KeyError, TypeError, EOFError, OverflowError, MemoryError,
    struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip
_ADVICE = "download the skybox images of this scan again"


def load_skybox(
    folder: Path, viewpoint_id: str, size_px: int | None = None, prefer: Literal["faces", "strip"] = "faces"
) -> Tensor:
    """Load the six cube faces of a viewpoint.

    The older generation of the reference simulator reads the six full-size faces, the newer one the strip, in which
    they are reduced to half the size: where both exist the two draw slightly different pictures.

    Args:
        folder: ``scans/<scan>/matterport_skybox_images`` with the six files ``<id>_skybox{0..5}_sami.jpg`` or the
            strip ``<id>_skybox_small.jpg``.
        viewpoint_id: 32 hexadecimal digits.
        size_px: edge to which each face is area-resampled; None keeps the stored size.
        prefer: what to read where both exist.

    Returns:
        Faces 0..5 (up, back, left, forward, right, down), (6, S, S, 3) uint8 RGB.

    Raises:
        InputError: a file is missing, half-written or of the wrong shape.
    """
    files = [folder / f"{viewpoint_id}_skybox{face}_sami.jpg" for face in range(NUM_FACES)]
    strip = folder / f"{viewpoint_id}_skybox_small.jpg"
    present = [file for file in files if file.exists()]
    if strip.exists() and (prefer == "strip" or not present):
        faces = _split(_open_color(strip), strip)
    else:
        missing = [file.name for file in files if file not in present]
        if missing:
            raise InputError(f"skybox files must all exist in {folder}, got no {missing[0]}; {_ADVICE}")
        faces = [_open_face(file) for file in files]
        sizes = {face.size for face in faces}
        if len(sizes) > 1:
            raise InputError(f"skybox faces must have one size, got {sorted(sizes)} for {files[0]}; {_ADVICE}")
    if size_px is not None:
        faces = [
            face if face.size == (size_px, size_px) else face.resize((size_px,) * 2, Image.Resampling.BOX)
            for face in faces
        ]
    return torch.from_numpy(np.stack([np.asarray(face) for face in faces]))  # (6, S, S, 3)


def load_skybox_depth(folder: Path, viewpoint_id: str) -> Tensor:
    """Load the distances from the camera that were measured at a viewpoint.

    Args:
        folder: ``scans/<scan>/matterport_skybox_images`` with ``<id>_skybox_depth_small.png``.
        viewpoint_id: 32 hexadecimal digits.

    Returns:
        Ranges of faces 0..5 along the ray, (6, S, S) uint16, 0.25 mm per unit, 0 where nothing was measured.

    Raises:
        InputError: the file is missing, half-written, not 16 bits deep or of the wrong shape.
    """
    strip = folder / f"{viewpoint_id}_skybox_depth_small.png"
    if not strip.exists():
        raise InputError(f"skybox depth must exist, got no {strip}; make it from the depth images of this scan")
    image = _open_complete(strip, "skybox depth", "PNG")
    # Older Pillow opens 16-bit gray images as 32-bit ones.
    if not image.mode.startswith("I"):
        raise InputError(
            f"skybox depth must be a 16-bit gray PNG (0.25 mm per unit), got {image.mode} pixels in {strip}; "
            "make it again without converting to 8 bits"
        )
    return torch.from_numpy(np.stack([np.asarray(face).astype(np.uint16) for face in _split(image, strip)]))


def _open_complete(file: Path, what: str, kind: str) -> Image.Image:
    """Read one image completely, in the mode in which it is stored."""
    try:
        with Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > MAX_SKYBOX_PIXELS:
                raise InputError(
                    f"{what} must have at most {MAX_SKYBOX_PIXELS:,} pixels, got {image.width}x{image.height} in {file}"
                )
            image.load()
            return image
    except InputError:
        raise
    except PICTURE_ERRORS as error:
        raise InputError(f"{what} must be a complete {kind}, got {file} ({error}); {_ADVICE}") from error


def _open_color(file: Path) -> Image.Image:
    return _open_complete(file, "skybox image", "JPEG").convert("RGB")


def _open_face(file: Path) -> Image.Image:
    """Read one face and check that it is square."""
    image = _open_color(file)
    if image.width != image.height:
        raise InputError(f"skybox face must be square, got {image.width}x{image.height} in {file}; {_ADVICE}")
    return image


def _split(image: Image.Image, file: Path) -> list[Image.Image]:
    """Cut a strip into its six faces."""
    size = image.height
    if image.width != NUM_FACES * size:
        raise InputError(
            f"skybox strip must hold six square faces side by side, got {image.width}x{size} in {file}; {_ADVICE}"
        )
    return [image.crop((face * size, 0, (face + 1) * size, size)) for face in range(NUM_FACES)]
