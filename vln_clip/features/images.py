"""Image files that features are made from: found in folders, checked before the work, read as RGB.

The key of an image is its file name without the ending, as in COCO (``COCO_val2014_000000393267``).
"""

import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from vln_clip.errors import InputError
from vln_clip.limits import MAX_IMAGE_PIXELS

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
_FORMATS = ("JPEG", "PNG", "WEBP")
_TAIL_BYTES = 1 << 10
# What Pillow raises where a picture is damaged.
_PICTURE_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, ZeroDivisionError,
    AttributeError, NotImplementedError, MemoryError, struct.error, zlib.error,
    Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip
_ADVICE = "replace it or remove it from the folder"


@dataclass(frozen=True)
class ImageFile:
    """One image.

    Attributes:
        key: file name without its ending.
        path: the file.
        size_bytes: its size.
    """

    key: str
    path: Path
    size_bytes: int


def list_images(places: Sequence[Path], what: str = "--images") -> list[ImageFile]:
    """List the images in folders, their sub-folders included; files may be given, too.

    Args:
        places: folders and files.
        what: they are called in messages.

    Returns:
        Images by key.

    Raises:
        InputError: a place does not exist or has no image, or two images have one key.
    """
    found: dict[str, ImageFile] = {}
    for place in places:
        paths = [place] if place.is_file() else sorted(_walk(place, what))
        for path in paths:
            image = ImageFile(path.stem, path, path.stat().st_size)
            other = found.setdefault(image.key, image)
            if other.path.resolve() != path.resolve():
                raise InputError(
                    f"images must differ in their names without endings, which are their keys, got {other.path} and "
                    f"{path}; rename or remove one"
                )
        if not paths:
            raise InputError(f"{what} must be folders with {', '.join(EXTENSIONS)} files, got {place} without any")
    return [found[key] for key in sorted(found)]


def _walk(folder: Path, what: str) -> list[Path]:
    """Return the image files in a folder; links are followed, hidden files left out."""
    if not folder.is_dir():
        raise InputError(f"{what} must be folders or image files, got {folder} which does not exist")
    paths, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        paths += [Path(place, name) for name in names if name.lower().endswith(EXTENSIONS) and name[0] != "."]
    return paths


def check_images(
    images: Sequence[ImageFile], min_side_px: int, on_progress: Callable[[int], None] = lambda done: None
) -> None:
    """Read the head and the end of every image file, and those whole that do not end as complete ones do.

    Args:
        images: what to check.
        min_side_px: shortest side that the encoder can make something of.
        on_progress: called with the number of images done.

    Raises:
        InputError: the first bad file, with the number of others.
    """
    bad = []
    with ThreadPoolExecutor(8) as pool:
        for done, problem in enumerate(pool.map(lambda image: _problem(image, min_side_px), images), 1):
            bad += [problem] if problem else []
            on_progress(done)
    if bad:
        others = f" (and {len(bad) - 1:,} other bad files of {len(images):,})" if len(bad) > 1 else ""
        raise InputError(f"{bad[0]}{others}")


def _problem(image: ImageFile, min_side_px: int) -> InputError | None:
    """Return what is wrong with an image, as far as can be told without decoding every one."""
    try:
        with image.path.open("rb") as stream:
            head = stream.read(16)
            stream.seek(max(image.size_bytes - _TAIL_BYTES, 0))
            tail = stream.read(_TAIL_BYTES)
        picture = _open(image.path, image.path)
        with picture:
            if min(picture.size) < min_side_px:
                raise InputError(
                    f"image {image.key} must be at least {min_side_px} pixels high and wide for this encoder, got "
                    f"{picture.width}x{picture.height} in {image.path}; {_ADVICE}"
                )
        if not _ends_well(head, tail, image.size_bytes):
            read_rgb(image.path)
    except OSError as error:
        return _unreadable(image.path, error)
    except InputError as error:
        return error
    return None


def _ends_well(head: bytes, tail: bytes, size_bytes: int) -> bool:
    """Return whether a file has the end of its format; many complete files of other programs do not, either."""
    if head.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in tail
    if head.startswith(b"\x89PNG"):
        return b"IEND" in tail
    return head.startswith(b"RIFF") and int.from_bytes(head[4:8], "little") + 8 <= size_bytes


def read_rgb(path: Path, exif: bool = False) -> Image.Image:
    """Read a picture of any mode (gray, palette, CMYK, with alpha, 16 bits) as RGB.

    Args:
        path: a JPEG, PNG or WebP file, whatever its ending.
        exif: whether to turn it as its EXIF data says.

    Raises:
        InputError: the file is missing, truncated or no picture.
    """
    with opened_picture(path, path) as image:
        return to_rgb(ImageOps.exif_transpose(image) if exif else image)


@contextmanager
def opened_picture(source: Path | BinaryIO, name: object) -> Iterator[Image.Image]:
    """Open a picture, of which only the head is read at first.

    Args:
        source: a JPEG, PNG or WebP file, or its content.
        name: of the file, or of what its content is from.

    Raises:
        InputError: it is missing, truncated or no picture; also where that is found out while it is used.
    """
    try:
        with _open(source, name) as image:
            yield image
    except InputError:
        raise
    except _PICTURE_ERRORS as error:
        raise _unreadable(name, error) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to RGB."""
    image.load()
    image.info.pop("transparency", None)  # it is dropped, with a warning where it belongs to a palette
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def _open(source: Path | BinaryIO, name: object) -> Image.Image:
    """Open a picture; nothing but its head is read."""
    try:
        image = Image.open(source, formats=_FORMATS)
    except _PICTURE_ERRORS as error:
        raise _unreadable(name, error) from error
    if image.width * image.height > MAX_IMAGE_PIXELS:
        image.close()
        raise InputError(
            f"an image must have at most {MAX_IMAGE_PIXELS:,} pixels, got {image.width}x{image.height} in {name}"
        )
    return image


def _unreadable(path: object, error: BaseException) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"image {path} must exist, got no such file; put it back and run the same command again")
    reason = (str(error).split(chr(10))[0] or type(error).__name__)[:160]
    return InputError(f"an image must be a complete JPEG, PNG or WebP file, got {path} ({reason}); {_ADVICE}")
