"""Grids in the files that others publish, read by image key (specs/vl_tasks.md 6.8).

One file per image: Pythia's ``.npy`` (1, h, w, C), MCAN's ``.pth`` (1, h, w, C) or (1, C, h, w), the captioning
``.npz`` with ``feat`` (h, w, C), and vectors beside them, ``.npy`` (D,). Or one HDF5 file with a data set per image. In
which order the axes come is told by the shape: channels are more than rows or columns of cells. Files are called by the
image's file name, or by its COCO number in a folder that may be called like its split.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vln_clip.errors import InputError
from vln_clip.features.arrays import SUFFIXES, read_array
from vln_clip.features.formats import HDF5_ERRORS, hdf5_keys, open_hdf5
from vln_clip.features.store import StoreHeader
from vln_clip.limits import MAX_ARRAY_BYTES

_COCO = re.compile(r"COCO_(\w+)_(\d{12})")
Place = tuple[str, str]  # folder, and stem


class _Names:
    """Finds an image among places that are called by its key or by its COCO number."""

    def __init__(self, path: Path, places: Iterable[Place]):
        self._path = path
        self._by_stem: dict[str, list[Place]] = {}
        for place in places:
            self._by_stem.setdefault(place[1], []).append(place)

    def __len__(self) -> int:
        return len(self._by_stem)

    @property
    def first(self) -> Place:
        """Return one place."""
        return min(self._by_stem[min(self._by_stem)])

    @property
    def stems(self) -> tuple[str, ...]:
        """Return all names, sorted."""
        return tuple(sorted(self._by_stem))

    def find(self, key: str) -> Place | None:
        """Return where an image is, None where it is not.

        Raises:
            InputError: it is in several places.
        """
        found, split = self._by_stem.get(key, []), None
        match = _COCO.fullmatch(key)
        if not found and match:
            split, number = match[1], match[2]
            found = self._by_stem.get(str(int(number)), []) or self._by_stem.get(number, [])
        named = [place for place in found if Path(place[0]).name == split]
        found = named or found
        if len(found) > 1:
            folders = " and ".join(sorted(place[0] for place in found)[:2])
            raise InputError(f"image {key} must have one file of features in {self._path}, got some in {folders}")
        return found[0] if found else None


class FileGrids:
    """Grids in files of other programs, read like a ``GridStore``.

    Attributes:
        path: folder or HDF5 file.
        header: nothing but the source: such files do not say how they came about.
    """

    def __init__(self, path: Path, places: Iterable[Place], load: Callable[[Place], Tensor]):
        self.path, self.header = path, StoreHeader("", pooling="none, grid", source=path.name)
        self._names, self._load = _Names(path, places), load
        if not len(self._names):
            raise InputError(f"{path} must hold the grid features of at least one image, got none")

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Return C, h and w of the first image; ``read`` wants all to be so."""
        return tuple(self._grid(self._names.first).shape)

    @property
    def image_keys(self) -> tuple[str, ...]:
        """Return the names of all files, which may be COCO numbers."""
        return self._names.stems

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._names.find(key) is not None

    def read(self, keys: Sequence[str]) -> Tensor:
        """Return the grids of some images, (B, C, h, w); see ``GridReader``."""
        grids = [self._grid(self._find(key)) for key in keys]
        for key, grid in zip(keys, grids, strict=True):
            if tuple(grid.shape) != self.shape:
                raise InputError(
                    f"grids must have one shape to be put into a batch, got {self.shape} and {tuple(grid.shape)} of "
                    f"{key} in {self.path}"
                )
        return torch.stack(grids) if grids else torch.empty(0, *self.shape)

    def vectors(self, keys: Sequence[str]) -> Tensor:
        """Return the vectors of some images, (B, D), of a folder of them."""
        found = [self._load(self._find(key)).flatten() for key in keys]
        if len({len(vector) for vector in found}) > 1:
            raise InputError(f"vectors in {self.path} must have one width, got {sorted({len(v) for v in found})}")
        return torch.stack(found) if found else torch.empty(0, 0)

    def _grid(self, place: Place) -> Tensor:
        array = self._load(place)
        try:
            return as_grid(array)
        except ValueError as error:
            raise InputError(f"features of {place[1]} in {self.path} must be a grid, got {error}") from None

    def _find(self, key: str) -> Place:
        place = self._names.find(key)
        if place is None:
            raise InputError(f"image {key} must have features, got none in {self.path} ({len(self._names):,} images)")
        return place


def as_grid(array: Tensor) -> Tensor:
    """Bring features of an image into the order (C, h, w).

    Args:
        array: (1, h, w, C), (1, C, h, w), either of them without the 1, or (n, C) for n cells in a row.

    Raises:
        ValueError: another number of axes, or it cannot be told which one is that of the channels.
    """
    shape = tuple(array.shape)
    if array.ndim == 4 and shape[0] == 1:
        array = array[0]
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3:
        raise ValueError(f"shape {shape}")
    first, middle, last = array.shape
    if last > max(first, middle):
        return array.permute(2, 0, 1).contiguous()
    if first > max(middle, last):
        return array.contiguous()
    raise ValueError(f"shape {shape}, in which channels are not more than rows and columns")


def open_folder(path: Path) -> FileGrids:
    """Open a folder with one file per image, sub-folders included.

    Raises:
        InputError: there are none, or files of several kinds.
    """
    files: dict[Place, Path] = {}
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in SUFFIXES and file.name[0] != ".":
            files[str(file.parent), file.stem] = file
    kinds = sorted({file.suffix.lower() for file in files.values()})
    if len(kinds) > 1:
        raise InputError(f"{path} must hold feature files of one kind, got {' and '.join(kinds)}")
    return FileGrids(path, files, lambda place: read_array(files[place]))


def open_hdf5_grids(path: Path) -> FileGrids:
    """Open an HDF5 file with a data set per image; h5py must be installed.

    Raises:
        InputError: it is damaged, or h5py is missing.
    """
    archive = open_hdf5(path, "r")
    keys = hdf5_keys(path, archive)
    return FileGrids(path, ((path.stem, key) for key in keys), lambda place: _hdf5_array(path, archive, place[1]))


def _hdf5_array(path: Path, archive: Any, key: str) -> Tensor:
    try:
        data = archive[key]
        shape, dtype = tuple(getattr(data, "shape", ())), getattr(data, "dtype", np.dtype(object))
        fits = dtype.kind == "f" and 0 < np.prod(shape, dtype=float) * dtype.itemsize <= MAX_ARRAY_BYTES
        array = np.asarray(data[()]) if fits and shape else None
    except HDF5_ERRORS as error:
        raise InputError(f"{path}: {key!r} cannot be read ({error}); fetch or write the file again") from error
    if array is None:
        raise InputError(f"{path}: {key!r} must be floats of at most {MAX_ARRAY_BYTES:,} bytes, got {dtype} {shape}")
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
