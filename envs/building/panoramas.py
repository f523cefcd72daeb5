"""Equirectangular images on disk: which file belongs to which pose, reading and checking them."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vln_clip.envs.building.poses import PanoramaPose
from vln_clip.envs.skybox import PICTURE_ERRORS
from vln_clip.errors import InputError

logger = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP")  # whatever a file is called
_SHOWN = 5
# Equirectangular images of large rigs pass Pillow's limit against decompression bombs; these are the user's own.
_MAX_PIXELS = 1 << 30
_LIMIT_LOCK = threading.Lock()


def find_panoramas(folder: Path, poses: Sequence[PanoramaPose], suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """Return the image of every pose; its size is checked, its pixels are not read yet.

    Args:
        folder: with one image per pose.
        poses: whose images to find, by ``image``, with or without ending.
        suffixes: endings that count as images.

    Raises:
        InputError: the folder or an image is missing, cannot be opened, or is not twice as wide as high.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} must be a folder of equirectangular images, got none there")
    files = {file.name: file for file in sorted(folder.iterdir()) if file.suffix.lower() in suffixes}
    stems: dict[str, list[Path]] = {}
    for file in files.values():
        stems.setdefault(file.stem, []).append(file)
    matched = [_match(pose, files, stems) for pose in poses]
    lacking = [pose.image for pose, file in zip(poses, matched, strict=True) if file is None]
    if lacking:
        raise InputError(
            f"every pose must have an image in {folder}, but {len(lacking)} of {len(poses)} have none: "
            f"{_some(lacking)}; the folder has {_some(list(files)) or 'no images'}"
        )
    found = [file for file in matched if file is not None]
    spare = sorted(set(files.values()) - set(found))
    if spare:
        logger.warning("%d images in %s have no pose and are left out: %s", len(spare), folder, _some(spare))
    for file in found:
        image_size(file)
    return found


def image_size(file: Path) -> tuple[int, int]:
    """Return width and height of an equirectangular image, without reading its pixels."""
    with _open(file) as image:
        width_px, height_px = image.size
    if width_px != 2 * height_px:
        raise InputError(
            f"an equirectangular image must be twice as wide as high (360 x 180 degrees), got {width_px}x{height_px} "
            f"in {file}; pad or crop it to 2:1 first"
        )
    return width_px, height_px


def read_panorama(file: Path) -> np.ndarray:
    """Read an equirectangular picture, (H, W, 3) uint8 RGB."""
    try:
        with _open(file) as image:
            return np.asarray(image.convert("RGB"))
    except InputError:
        raise
    except PICTURE_ERRORS as error:
        raise InputError(f"{file} must be a complete image, but its pixels can't be read ({error})") from None


def read_depth(file: Path, unit_m: float) -> np.ndarray:
    """Read an equirectangular depth image.

    Args:
        file: 16-bit gray PNG of distances from the camera (not along its axis); 0 = no reading.
        unit_m: metres per unit.

    Returns:
        (H, W) float32 metres: NaN where nothing was read, inf where the reading is at its limit.
    """
    try:
        with _open(file) as image:
            if image.mode not in ("I;16", "I;16B", "I"):
                raise InputError(f"a depth image must be 16-bit gray, got the mode {image.mode} in {file}")
            units = np.asarray(image).astype(np.int64)
    except InputError:
        raise
    except PICTURE_ERRORS as error:
        raise InputError(f"{file} must be a complete image, but its pixels can't be read ({error})") from None
    depth_m = (units * unit_m).astype(np.float32)
    depth_m[units == 0] = np.nan
    depth_m[units >= np.iinfo(np.uint16).max] = np.inf
    return depth_m


def _match(pose: PanoramaPose, files: dict[str, Path], stems: dict[str, list[Path]]) -> Path | None:
    """Return the image of a pose: of its very name, else of its name without ending, else of its id."""
    if pose.image in files:
        return files[pose.image]
    stem = Path(pose.image).stem if Path(pose.image).suffix.lower() in SUFFIXES else pose.image
    matches = stems.get(stem) or stems.get(pose.viewpoint_id) or []
    if len(matches) > 1:
        names = ", ".join(file.name for file in matches)
        raise InputError(
            f"{pose.origin}: one image must belong to {pose.image!r}, got {names}; name it with its ending"
        )
    return matches[0] if matches else None


def _open(file: Path) -> Image.Image:
    with _LIMIT_LOCK:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, _MAX_PIXELS
        try:
            return _opened(file)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _opened(file: Path) -> Image.Image:
    try:
        return Image.open(file, formats=_FORMATS)
    except Image.DecompressionBombError:
        raise InputError(f"{file} must have at most {2 * _MAX_PIXELS:,} pixels; scale it down first") from None
    except PICTURE_ERRORS as error:
        raise InputError(f"{file} must be an image, but can't be opened ({error!s:.200}); copy it again") from None


def _some(names: Sequence[object]) -> str:
    """Name a few of many."""
    shown = ", ".join(getattr(name, "name", str(name)) for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
