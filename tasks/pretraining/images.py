"""Batches of images: loose files and members of tar shards, decoded and brought onto the canvas in threads."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vln_clip.errors import InputError
from vln_clip.features.images import opened_picture
from vln_clip.tasks.pretraining.image_sizes import read_sizes
from vln_clip.tasks.pretraining.places import LOOSE, ImagePlaces, find_files, read_part
from vln_clip.tasks.pretraining.vision import NAMES, CanvasSize

KEPT_BYTES = 128 << 20  # where all images of a table fit into it, as a small set's do, each is decoded once


class ImageFiles:
    """The images of a table, read when they are asked for.

    Attributes:
        canvas: that they are brought onto.
        orientation: (I,) int64, ``LANDSCAPE`` or ``PORTRAIT``, of every image.
    """

    def __init__(
        self,
        places: ImagePlaces,
        roots: Sequence[Path],
        canvas: CanvasSize,
        workers: int = 2,
        convert_after_resize: bool = False,
    ) -> None:
        """Find the images and read their sizes, which the cache keeps.

        Args:
            places: of the images, one a row.
            roots: folders of those that are in no shard.
            canvas: that they are brought onto.
            workers: threads that decode.
            convert_after_resize: as the released code does; see ``CanvasSize.fit``.

        Raises:
            InputError: an image is not there, is no picture, or is too thin.
        """
        self.canvas, self.convert_after_resize = canvas, convert_after_resize
        self._places = places
        rows = np.flatnonzero(places.shard == LOOSE)
        paths = find_files([places.keys[row] for row in rows.tolist()], roots) if len(rows) else []
        self._path = dict(zip(rows.tolist(), paths, strict=True))
        self._pool = ThreadPoolExecutor(max(1, workers), "images")
        sizes = read_sizes(places, self._path, self._pool)  # (I, 2)
        self.orientation = torch.from_numpy(self._orientations(sizes))
        size_bytes = 3 * canvas.short_px * canvas.long_px
        keeps = len(self) * size_bytes <= KEPT_BYTES
        self._kept = np.empty((len(self), size_bytes), np.uint8) if keeps else None
        self._is_kept = np.zeros(len(self), bool)

    def __len__(self) -> int:
        return len(self._places.keys)

    def name(self, row: int) -> str:
        """Name an image for messages."""
        return self._path.get(row) or self._places.keys[row]

    def read(self, rows: Tensor) -> Tensor:
        """Return the images at rows (B,) int64: (B, 3, H, W) uint8 on one canvas.

        Raises:
            InputError: an image is damaged or gone, has changed its size, or they are of both orientations.
        """
        numbers = rows.tolist()
        kinds = self.orientation[rows].tolist()
        if len(set(kinds)) > 1:
            other = next(k for k, kind in enumerate(kinds) if kind != kinds[0])
            raise InputError(
                f"images of a batch must be of one orientation, got {NAMES[kinds[0]]} {self.name(numbers[0])} and "
                f"{NAMES[kinds[other]]} {self.name(numbers[other])}; draw batches group by group (GroupedSampler)"
            )
        shape = self.canvas.shape(kinds[0] if kinds else 0)
        if self._kept is not None:
            return torch.from_numpy(self._keep(numbers, shape).reshape(-1, 3, *shape))
        images = np.empty((len(numbers), 3, *shape), np.uint8)
        self._read_all(numbers, images)
        return torch.from_numpy(images)

    def _keep(self, numbers: list[int], shape: tuple[int, int]) -> np.ndarray:
        """Decode those images of some rows that were not asked for before, and return all, (B, 3 H W)."""
        assert self._kept is not None
        new = [row for row in dict.fromkeys(numbers) if not self._is_kept[row]]
        self._read_all(new, [self._kept[row].reshape(3, *shape) for row in new])
        self._is_kept[new] = True
        return self._kept[numbers]

    def _read_all(self, numbers: list[int], images: Sequence[np.ndarray] | np.ndarray) -> None:
        for _ in self._pool.map(self._read, numbers, images):
            pass

    def _read(self, row: int, into: np.ndarray) -> None:
        """Decode one image into (3, H, W)."""
        name = self.name(row)
        with opened_picture(self._source(row), name) as picture:
            kind = self.canvas.orientation(*picture.size)
            if kind != int(self.orientation[row]):
                raise InputError(f"image {name} must not change while it is used, but its size did; start again")
            into[:] = self.canvas.fit(picture, self.convert_after_resize)

    def _source(self, row: int) -> Path | io.BytesIO:
        """Return the file of an image, or its content."""
        if row in self._path:
            return Path(self._path[row])
        places = self._places
        shard, size = places.shards[places.shard[row]], int(places.size_bytes[row])
        return io.BytesIO(read_part(shard, int(places.offset[row]), size))

    def _orientations(self, sizes: np.ndarray) -> np.ndarray:
        """Return the orientation of every image; few sizes are different."""
        different, which = np.unique(sizes, axis=0, return_inverse=True)
        kinds = []
        for number, (width, height) in enumerate(different.tolist()):
            try:
                kinds.append(self.canvas.orientation(width, height))
            except ValueError as error:
                first = int(np.flatnonzero(which.ravel() == number)[0])
                raise InputError(f"image {self.name(first)}: {error}; remove it and its texts") from None
        return np.asarray(kinds, np.int64)[which.ravel()]
