"""Widths and heights of images, from their headers; the cache keeps them, so that a file is opened once for it."""

import hashlib
import io
import logging
import os
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path

import numpy as np

from vln_clip.columns import ColumnWriter, DamagedColumnsError, map_columns, write_columns
from vln_clip.errors import InputError
from vln_clip.features.images import opened_picture
from vln_clip.paths import cache_dir
from vln_clip.tasks.pretraining.places import ImagePlaces, Texts, read_part

logger = logging.getLogger(__name__)

FOLDER = "image_sizes"  # of the cache
_HEAD_BYTES = 1 << 16  # of a member of a shard; most have their size within that

# Bytes of the image, time of its file's last change in ns, width, height.
Known = tuple[int, int, int, int]


def read_sizes(places: ImagePlaces, paths: Mapping[int, str], pool: Executor) -> np.ndarray:
    """Return width and height of every image in pixels, (I, 2) int32.

    Args:
        places: of the images.
        paths: file of each row that is in no shard.
        pool: whose threads open files.

    Raises:
        InputError: an image is gone or no picture, or the cache cannot be written to.
    """
    sizes = np.zeros((len(places.keys), 2), np.int32)
    folders: dict[str, list[int]] = defaultdict(list)
    for row, path in paths.items():
        folders[os.path.dirname(path)].append(row)
    for folder, rows in folders.items():
        sizes[rows] = _Container(Path(folder)).sizes({os.path.basename(paths[row]): None for row in rows}, pool)
    for number, shard in enumerate(places.shards):
        inside = np.flatnonzero(places.shard == number)
        members = zip(places.offset[inside].tolist(), places.size_bytes[inside].tolist(), strict=True)
        sizes[inside] = _Container(shard).sizes({str(offset): (offset, size) for offset, size in members}, pool)
    return sizes


class _Container:
    """A folder of images, or a shard, with what the cache knows of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        name = hashlib.sha256(os.path.abspath(path).encode()).hexdigest()[:32]
        self.cache = cache_dir() / FOLDER / f"{name}.safetensors"

    def sizes(self, items: Mapping[str, tuple[int, int] | None], pool: Executor) -> np.ndarray:
        """Return the sizes of some images, (n, 2).

        Args:
            items: name of each in the folder, or offset and bytes in the shard.
            pool: whose threads open files.
        """
        known = self._load()
        stamps = dict(zip(items, pool.map(self._stamp, items, items.values()), strict=True))
        missing = [name for name, stamp in stamps.items() if name not in known or known[name][:2] != stamp]
        if missing:
            found = pool.map(lambda name: self._read(name, items[name]), missing)
            known |= {name: (*stamps[name], *size) for name, size in zip(missing, found, strict=True)}
            write_columns(self.cache, lambda writer: _fill(writer, known))
        return np.array([known[name][2:] for name in items], np.int32).reshape(-1, 2)

    def _load(self) -> dict[str, Known]:
        """Return what the cache has."""
        try:
            columns, _ = map_columns(self.cache)
            names = Texts(columns["name"], columns["name_end"])[:]
            numbers = columns["known"].reshape(-1, 4).tolist()
            return {name: tuple(row) for name, row in zip(names, numbers, strict=True)}
        except FileNotFoundError:
            return {}
        except (DamagedColumnsError, OSError, KeyError, ValueError):  # only a cache
            logger.warning("%s is damaged and is made anew", self.cache)
            return {}

    def _stamp(self, name: str, part: tuple[int, int] | None) -> tuple[int, int]:
        """Return bytes and time of last change of an image."""
        path = self.path / name if part is None else self.path
        try:
            found = path.stat()
        except OSError as error:
            raise InputError(f"file {path} cannot be read: {error.strerror or error}; bring it back") from None
        return (found.st_size if part is None else part[1]), found.st_mtime_ns

    def _read(self, name: str, part: tuple[int, int] | None) -> tuple[int, int]:
        """Return width and height of one image."""
        if part is None:
            with opened_picture(self.path / name, self.path / name) as picture:
                return picture.size
        offset, size_bytes = part
        where = f"{self.path} at byte {offset:,}"
        for length in (min(_HEAD_BYTES, size_bytes), size_bytes):
            try:
                with opened_picture(io.BytesIO(read_part(self.path, offset, length)), where) as picture:
                    return picture.size
            except InputError:
                if length == size_bytes:
                    raise
        raise AssertionError("the whole member was read")


def _fill(writer: ColumnWriter, known: Mapping[str, Known]) -> dict[str, str]:
    """Write what is known of a container."""
    names = [name.encode() for name in known]
    writer.append("name", np.frombuffer(b"".join(names), np.uint8))
    writer.append("name_end", np.cumsum([len(name) for name in names], dtype=np.int64))
    writer.append("known", np.array(list(known.values()), np.int64).ravel())
    return {}
