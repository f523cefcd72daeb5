"""Region features in LXMERT's TSV files: boxes that a detector found in each image, and a vector of each.

Ten tab-separated columns without a header row: image id, height, width, object ids, object confidences, attribute ids,
attribute confidences, number of boxes, boxes, features; arrays are base64 of little-endian int64 and float32.
"""

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vln_clip.errors import InputError
from vln_clip.limits import MAX_FEATURE_WIDTH, MAX_LINE_BYTES

_COLUMNS = 10
_MAX_BOXES = 1000
_MAX_SIDE_PX = 1 << 20


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of one image, n of them.

    Attributes:
        key: image id, as the file has it.
        size_px: height and width of the image.
        boxes: (n, 4) float32, left, top, right, bottom in pixels.
        features: (n, D) float32.
        object_ids: (n,) int64.
        object_confidences: (n,) float32.
        attribute_ids: (n,) int64.
        attribute_confidences: (n,) float32.
    """

    key: str
    size_px: tuple[int, int]
    boxes: np.ndarray
    features: np.ndarray
    object_ids: np.ndarray
    object_confidences: np.ndarray
    attribute_ids: np.ndarray
    attribute_confidences: np.ndarray


@dataclass(frozen=True, eq=False)
class RegionBatch:
    """The regions of B images, padded to N with zeros.

    Attributes:
        features: (B, N, D) float32.
        boxes: (B, N, 4) float32, in shares of the image's width and height.
        mask: (B, N) bool, True for real regions.
    """

    features: Tensor
    boxes: Tensor
    mask: Tensor


def read_regions(path: Path) -> Iterator[Regions]:
    """Yield the images of a TSV file, one at a time.

    Raises:
        InputError: a line is truncated or damaged; the message has its number.
    """
    for number, _, line in _lines(path):
        yield _parse(f"{path} line {number}", line)


class RegionFile:
    """A TSV file, read image by image in any order; it is scanned once for the places of its lines.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._places: dict[str, int] = {}
        for number, place, line in _lines(path):
            key = _key(f"{path} line {number}", line)
            if self._places.setdefault(key, place) != place:
                raise InputError(f"{path} must have each image once, got {key} again in line {number}")
        if not self._places:
            raise InputError(f"{path} must hold the regions of at least one image, got none")

    @property
    def image_keys(self) -> tuple[str, ...]:
        """Return image ids in file order."""
        return tuple(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __getitem__(self, key: str) -> Regions:
        """Return the regions of one image; an unknown one is an ``InputError``."""
        if key not in self._places:
            raise InputError(f"image {key} must have regions, got none in {self.path} ({len(self._places):,} images)")
        with self.path.open("rb") as stream:
            stream.seek(self._places[key])
            return _parse(f"{self.path}, image {key}", stream.readline(MAX_LINE_BYTES))

    def read(self, keys: Sequence[str]) -> RegionBatch:
        """Return the regions of some images as one padded batch.

        Raises:
            InputError: an image is not there, or widths differ.
        """
        found = [self[key] for key in keys]
        widths = sorted({regions.features.shape[1] for regions in found})
        if len(widths) > 1:
            raise InputError(f"regions of {self.path} must have one width, got {' and '.join(map(str, widths))}")
        B, N = len(found), max((len(regions.boxes) for regions in found), default=0)
        batch = RegionBatch(
            torch.zeros(B, N, *(widths or [0])), torch.zeros(B, N, 4), torch.zeros(B, N, dtype=torch.bool)
        )
        for row, regions in enumerate(found):
            n, (height, width) = len(regions.boxes), regions.size_px
            batch.features[row, :n] = torch.from_numpy(regions.features)
            sides = np.array([width, height, width, height], np.float32)
            batch.boxes[row, :n] = torch.from_numpy(regions.boxes / sides)
            batch.mask[row, :n] = True
        return batch


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield number, place and content of each line."""
    try:
        with path.open("rb") as stream:
            place, number = 0, 0
            while line := stream.readline(MAX_LINE_BYTES):
                number += 1
                if len(line) == MAX_LINE_BYTES:
                    raise InputError(f"{path} line {number} must have less than {MAX_LINE_BYTES:,} bytes, got more")
                yield number, place, line
                place += len(line)
    except FileNotFoundError:
        raise InputError(f"file of regions {path} must exist, got no such file") from None
    except OSError as error:
        raise InputError(f"file of regions {path} cannot be read: {error.strerror or error}") from error


def _key(where: str, line: bytes) -> str:
    key, tab, _ = line[:1000].partition(b"\t")
    try:
        if tab and key:
            return key.decode()
    except UnicodeDecodeError:
        pass
    raise InputError(f"{where} must start with an image id and a tab, got {line[:40]!r}")


def _parse(where: str, line: bytes) -> Regions:
    cells = line.rstrip(b"\r\n").split(b"\t")
    if len(cells) != _COLUMNS:
        raise InputError(
            f"{where} must have {_COLUMNS} tab-separated columns, got {len(cells)}; the file may be truncated, fetch "
            "it again"
        )
    height, width = (_whole(where, name, cells[i], _MAX_SIDE_PX) for i, name in ((1, "height"), (2, "width")))
    count = _whole(where, "number of boxes", cells[7], _MAX_BOXES)
    features = _array(where, "features", cells[9], "<f4", (count, -1))
    if features.shape[1] > MAX_FEATURE_WIDTH:
        raise InputError(
            f"{where}: features must have at most {MAX_FEATURE_WIDTH:,} columns, got {features.shape[1]:,}"
        )
    flat = [
        _array(where, name, cells[i], dtype, (count,))
        for i, name, dtype in (
            (3, "object ids", "<i8"),
            (4, "object confidences", "<f4"),
            (5, "attribute ids", "<i8"),
            (6, "attribute confidences", "<f4"),
        )
    ]
    boxes = _array(where, "boxes", cells[8], "<f4", (count, 4))
    return Regions(_key(where, line), (height, width), boxes, features, *flat)


def _whole(where: str, name: str, cell: bytes, most: int) -> int:
    number = int(cell) if cell.isdigit() and len(cell) < 10 else 0
    if not 1 <= number <= most:
        raise InputError(f"{where}: {name} must be 1 to {most:,}, got {cell[:20]!r}")
    return number


def _array(where: str, name: str, cell: bytes, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Decode one array; -1 in its shape is any positive number."""
    try:
        data = np.frombuffer(bytearray(base64.b64decode(cell, validate=True)), np.uint8)
        array = data.view(dtype).reshape(shape)
    except (binascii.Error, ValueError) as error:
        raise InputError(
            f"{where}: {name} must be base64 of {dtype[1:]} numbers of shape {shape}, got {len(cell)} characters "
            f"({error}); the line may be truncated, fetch the file again"
        ) from None
    if not array.size or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        raise InputError(f"{where}: {name} must be finite numbers, got {'others' if array.size else 'none'}")
    return array
