"""Files of many columns, written part by part and read by mapping them into memory: neither needs memory for them.

They are safetensors files with a text in their metadata. What is mapped costs no memory of its own: the kernel reads
the pages that are touched and drops them when others need the room.
"""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vln_clip import files

TYPES = {
    "F64": np.float64,
    "I64": np.int64,
    "U64": np.uint64,
    "F32": np.float32,
    "I32": np.int32,
    "I16": np.int16,
    "U16": np.uint16,
    "U8": np.uint8,
}
_NAMES = {np.dtype(kind): name for name, kind in TYPES.items()}
MAX_HEADER_BYTES = 1 << 24


class DamagedColumnsError(ValueError):
    """A file of columns is not whole."""


class ColumnWriter:
    """Flat columns that grow part by part, each in a file of its own until they are joined.

    Args:
        folder: for those files, emptied by who made it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, tuple[BinaryIO, np.dtype]] = {}
        self._count: dict[str, int] = {}

    def append(self, name: str, values: np.ndarray) -> None:
        """Add values to the end of a column, (n,)."""
        if name not in self._open:
            self._open[name] = ((self.folder / name).open("wb"), values.dtype)
            self._count[name] = 0
        stream, kind = self._open[name]
        assert (values.ndim, values.dtype) == (1, kind), (name, values.shape, values.dtype)
        stream.write(np.ascontiguousarray(values).data)
        self._count[name] += len(values)

    def count(self, name: str) -> int:
        """Return how many values a column has."""
        return self._count.get(name, 0)

    def taken(self, name: str) -> np.ndarray:
        """Return a column that is not to be joined, mapped and writable."""
        stream, kind = self._open.pop(name)
        stream.close()
        if not self._count[name]:
            return np.zeros(0, kind)
        return np.memmap(self.folder / name, kind, "r+")

    def join(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write all columns into one file."""
        header: dict[str, object] = {"__metadata__": dict(metadata)}
        end = 0
        # The largest items first: every column then begins at a multiple of its item size.
        order = sorted(self._open, key=lambda name: (-self._open[name][1].itemsize, name))
        for name in order:
            stream, kind = self._open[name]
            stream.close()
            size = self._count[name] * kind.itemsize
            header[name] = {"dtype": _NAMES[kind], "shape": [self._count[name]], "data_offsets": [end, end + size]}
            end += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in order:
                with (self.folder / name).open("rb") as column:
                    shutil.copyfileobj(column, file, 1 << 20)
                (self.folder / name).unlink()


def write_columns(path: Path, fill: Callable[[ColumnWriter], Mapping[str, str]]) -> None:
    """Let ``fill`` append columns and return metadata, then put the file in place, atomically.

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """

    def write(temporary: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent) as folder:
            writer = ColumnWriter(Path(folder))
            writer.join(temporary, fill(writer))

    files.write_atomically(path, write)


def map_columns(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Map a safetensors file of the cache and return its arrays and metadata; it counts as used.

    The arrays can be written to, which changes this process' copy of a page and never the file.

    Raises:
        DamagedColumnsError: it is not such a file, or not whole.
        OSError: it cannot be read.
    """
    size = os.path.getsize(path)
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= min(MAX_HEADER_BYTES, size - 8):
                raise DamagedColumnsError(f"{path}: a header of {length} bytes")
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        content = np.memmap(path, np.uint8, "c")[8 + length :]
        found = {name: _array(content, entry) for name, entry in header.items()}
        if sum(array.nbytes for array in found.values()) != len(content):
            raise DamagedColumnsError(f"{path}: {len(content)} bytes of content")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedColumnsError(f"{path}: {error}") from None
    files.mark_used(path)
    return found, metadata


def _array(content: np.ndarray, entry: Mapping) -> np.ndarray:
    """Return one array of the mapped content; what is wrong with its entry raises what that raises."""
    kind, (start, end), shape = np.dtype(TYPES[entry["dtype"]]), entry["data_offsets"], entry["shape"]
    if not 0 <= start <= end <= len(content) or math.prod(shape) * kind.itemsize != end - start:
        raise ValueError(f"an array from {start} to {end}")
    return np.asarray(content[start:end]).view(kind).reshape(shape)
