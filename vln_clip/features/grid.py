"""Grid features: maps of vectors, (36, C, h, w) of a panorama or (C, h, w) of an image, in a folder of files.

``NAME.grid/`` holds one safetensors file per scan (or other share of the data) and ``index.json`` with the keys of
each; files are memory-mapped and opened when a key of theirs is asked for. Maps are too large for one file and for
being copied: the folder is filled under another name and gets its own when it is complete.
"""

import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vln_clip.errors import InputError
from vln_clip.features.buffers import Buffers
from vln_clip.features.store import GRID_FORMAT, StoreHeader, read_tensors
from vln_clip.files import save_json
from vln_clip.reading import read_json

GRID_SUFFIX = ".grid"
_INDEX = "index.json"
_MAX_OPEN_FILES = 128  # systems allow 1,024 or 256 a process
_MAX_NAME_BYTES = 255  # of a file, on any disk
_BYTES_PER_THREAD = 1 << 24  # threads do not pay for less


class GridReader(Protocol):
    """Where grids of images come from: a store, files of other programs, or an encoder at work.

    Attributes:
        header: how the grids come about; ``encoder`` is empty where that is unknown.
        shape: C, h and w.
        image_keys: stems of the images' file names.
    """

    @property
    def header(self) -> StoreHeader: ...  # noqa: D102

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102

    @property
    def image_keys(self) -> Sequence[str]: ...  # noqa: D102

    def __contains__(self, key: object) -> bool: ...

    def read(self, keys: Sequence[str]) -> Tensor:
        """Return the grids of some images, (B, C, h, w) in the stored dtype; a key may come twice.

        Raises:
            InputError: an image has no grid, or its file is damaged.
        """
        ...


def check_keys(grids: GridReader, keys: Iterable[str], wanted_by: str) -> None:
    """Raise ``InputError`` unless there is a grid for every image that annotations name.

    Args:
        grids: what is there.
        keys: image keys, in any order and number.
        wanted_by: file or split that names them, for the message.
    """
    wanted = dict.fromkeys(keys)
    lacking = [key for key in wanted if key not in grids]
    if lacking:
        raise InputError(
            f"every image of {wanted_by} must have grid features, got {len(lacking):,} of {len(wanted):,} without in "
            f"{grids.header.source or grids.header.encoder}, e.g. {lacking[0]}; extract their folder too, or leave "
            "them out of the annotations"
        )


@dataclass(frozen=True, eq=False)
class GridStore:
    """An open folder of maps; ``read`` is its fast way, and a ``GridReader`` it is where rows are (C, h, w).

    Attributes:
        path: the folder.
        header: how the maps came about.
        keys: file name to the keys of its rows.
    """

    path: Path
    header: StoreHeader
    keys: dict[str, tuple[str, ...]]

    @cached_property
    def rows(self) -> dict[str, tuple[str, int]]:
        """Return file and row of each key."""
        return {key: (name, row) for name, keys in self.keys.items() for row, key in enumerate(keys)}

    @property
    def image_keys(self) -> tuple[str, ...]:
        """Return all keys in their order."""
        return tuple(self.rows)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of a row."""
        return tuple(self._maps(next(iter(self.keys))).shape[1:]) if self.keys else ()

    @cached_property
    def dtype(self) -> torch.dtype:
        """Return the type of the values."""
        return self._maps(next(iter(self.keys))).dtype

    @cached_property
    def _open(self) -> dict[str, Tensor]:
        return {}

    @cached_property
    def _streams(self) -> dict[str, FileIO]:
        return {}

    @cached_property
    def _starts(self) -> dict[str, int]:
        return {}

    @cached_property
    def _buffers(self) -> Buffers:
        return Buffers()

    def __getstate__(self) -> dict[str, object]:
        """Leave open files behind where another process gets the store."""
        return {"path": self.path, "header": self.header, "keys": self.keys}

    def __contains__(self, key: object) -> bool:
        return key in self.rows

    def __getitem__(self, key: str) -> Tensor:
        """Return the map of a key, memory-mapped: (36, C, h, w) or (C, h, w)."""
        if key not in self.rows:
            raise KeyError(f"{key} has no grid features in {self.path}")
        name, row = self.rows[key]
        return self._maps(name)[row]

    def read(self, keys: Sequence[str]) -> Tensor:
        """Return the maps of some keys in memory of their own, (B, C, h, w) in the stored dtype.

        The memory is used again when the tensor and all its views are gone. Several threads may read at once.

        Raises:
            InputError: a key is not there, or a file is damaged.
        """
        places = [self._place(key) for key in keys]
        order = sorted(range(len(places)), key=places.__getitem__)
        row_bytes = int(np.prod(self.shape)) * self.dtype.itemsize
        raw = self._buffers.take(len(places) * row_bytes)

        def fill(numbers: Sequence[int]) -> None:
            for number in numbers:
                name, row = places[number]
                target = raw.data[number * row_bytes : (number + 1) * row_bytes]
                if hasattr(os, "preadv"):  # without a page fault for every 4 kB, which memory-mapped files cost
                    _read_into(self._stream(name), target, self._start(name) + row * row_bytes)
                else:
                    target[:] = self._maps(name)[row].flatten().view(torch.uint8).numpy().data

        count = min(num_threads(), 1 + raw.nbytes // _BYTES_PER_THREAD)
        if count == 1:
            fill(order)
        else:
            parts = [order[i * len(order) // count : (i + 1) * len(order) // count] for i in range(count)]
            with ThreadPoolExecutor(count) as pool:
                list(pool.map(fill, parts))
        if not raw.nbytes:
            return torch.empty(len(places), *self.shape, dtype=self.dtype)
        return torch.from_numpy(raw).view(self.dtype).view(len(places), *self.shape)

    def check_files(self) -> None:
        """Open every file, without reading its maps.

        Raises:
            InputError: one is damaged, or not the one that the index tells of.
        """
        for name in self.keys:
            self._maps(name)

    def _place(self, key: str) -> tuple[str, int]:
        place = self.rows.get(key)
        if place is None:
            raise InputError(
                f"image {key} must have grid features, got none in {self.path} ({len(self.rows):,} images); extract "
                "its folder too"
            )
        return place

    def _maps(self, name: str) -> Tensor:
        if name not in self._open:
            header, features, keys = read_tensors(self.path / name, GRID_FORMAT)
            header = replace(header, pictures=self.header.pictures, stand_in_for=self.header.stand_in_for)
            if keys != self.keys[name] or header != self.header:
                raise InputError(f"{self.path / name} must be the file that {_INDEX} tells of, got another one")
            first = next(iter(self._open.values()), features)
            if keys and (features.shape[1:] != first.shape[1:] or features.dtype != first.dtype):
                raise InputError(
                    f"maps of {self.path} must have one shape, got {tuple(first.shape[1:])} and, in {name}, "
                    f"{tuple(features.shape[1:])}"
                )
            self._open[name] = features
        return self._open[name]

    def _start(self, name: str) -> int:
        """Return where the maps of a file begin."""
        if name not in self._starts:
            self._maps(name)  # which checks it
            stream = self._stream(name)
            length = int.from_bytes(os.pread(stream.fileno(), 8, 0), "little")
            content = json.loads(os.pread(stream.fileno(), length, 8))
            self._starts[name] = 8 + length + content["features"]["data_offsets"][0]
        return self._starts[name]

    def _stream(self, name: str) -> FileIO:
        """Return an open file; those used last stay open."""
        stream = self._streams.pop(name, None)
        if stream is None:
            try:
                stream = FileIO(self.path / name)
            except OSError as error:
                raise InputError(f"{self.path / name} cannot be read: {error.strerror or error}") from error
        self._streams[name] = stream
        for old in list(self._streams)[:-_MAX_OPEN_FILES]:
            self._streams.pop(old, None)  # it is closed when the last thread that reads it is done
        return stream


def _read_into(stream: FileIO, target: memoryview, start: int) -> None:
    """Fill some memory with a file's content from some place on."""
    while len(target):
        try:
            count = os.preadv(stream.fileno(), [target], start)
        except OSError as error:
            raise InputError(f"{stream.name!s} cannot be read: {error.strerror or error}") from error
        if not count:
            raise InputError(f"{stream.name!s} must be complete, got one that ends early; extract it again")
        target, start = target[count:], start + count


def num_threads() -> int:
    """Return how many threads read or decode at once: one a core, up to eight."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


def write_index(folder: Path, header: StoreHeader, keys: dict[str, tuple[str, ...]]) -> None:
    """Write what a folder of maps holds; the last thing to do."""
    save_json(folder / _INDEX, {"format": GRID_FORMAT, "header": asdict(header), "keys": keys})


def open_grid(path: Path) -> GridStore:
    """Open a folder of maps.

    Raises:
        InputError: it is missing, incomplete or damaged.
    """
    if not (path / _INDEX).is_file():
        raise InputError(f"grid features must be a complete folder NAME{GRID_SUFFIX}, got {path} without {_INDEX}")
    index = read_json(path / _INDEX)
    try:
        keys = _keys(index["keys"])  # type: ignore[index]
        header = StoreHeader.from_json(json.dumps(index["header"]))  # type: ignore[index]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path / _INDEX} must be the index of grid features, got damaged content") from error
    missing = [name for name in keys if not (path / name).is_file()]
    if missing:
        raise InputError(f"grid features must have all files of {_INDEX}, got {path} without {missing[0]}")
    return GridStore(path, header, keys)


def _keys(content: object) -> dict[str, tuple[str, ...]]:
    """Check the keys of each file; a file must lie in the folder itself."""
    if not isinstance(content, dict):
        raise ValueError("keys are no object")
    for name, keys in content.items():
        if Path(name).name != name or "\0" in name or len(name.encode()) > _MAX_NAME_BYTES:
            raise ValueError(f"{name!r:.80} is no name of a file")
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise ValueError(f"keys of {name!r:.80} are no texts")
    return {name: tuple(keys) for name, keys in content.items()}
