"""Reading arrays of ``.npz`` archives that others made: what a header claims is checked before memory is taken."""

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from vln_clip.errors import InputError
from vln_clip.limits import MAX_TRACE_BYTES

SUFFIX = ".npy"
LAST_CHARACTER = 0x10FFFF
HALVES = (0xD800, 0xDFFF)
DAMAGED = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error)
NO_HEADER = (SyntaxError, TypeError, KeyError, MemoryError, OverflowError, tokenize.TokenError)


def read_npz(file: Path, wanted: Iterable[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Read some arrays of an archive; nothing pickled is loaded.

    Returns:
        Those of the wanted arrays that are there, and the names of all.

    Raises:
        FileNotFoundError: no such file.
        InputError: no archive, a damaged one, or arrays that are too large or no plain ones.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name.removesuffix(SUFFIX) for name in archive.namelist()]
            arrays = {}
            for name in wanted:
                if name in names:
                    with archive.open(name + SUFFIX) as stream:
                        arrays[name] = _read_array(stream, name)
    except FileNotFoundError:
        raise
    except (*DAMAGED, KeyError) as error:
        raise InputError(f"file {file} must be a whole .npz archive of plain arrays, but: {error!s:.200}") from None
    return arrays, names


def _read_array(stream: IO[bytes], name: str) -> np.ndarray:
    """Read one array; ``ValueError`` tells what is wrong with it."""
    version = npy.read_magic(stream)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"array {name!r} is of version {version}, only 1.0 and 2.0 are read")
    try:
        shape, by_columns, dtype = readers[version](stream)
    except NO_HEADER:
        raise ValueError(f"the header of array {name!r} is damaged") from None
    num_bytes = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or not 0 <= num_bytes <= MAX_TRACE_BYTES or not dtype.itemsize:
        raise ValueError(f"array {name!r} claims to be {dtype} of shape {shape}, {num_bytes:,} bytes")
    content = bytearray()
    while len(content) < num_bytes and (part := stream.read(min(1 << 20, num_bytes - len(content)))):
        content += part  # as much as is there, however much is claimed
    if len(content) < num_bytes:
        raise ValueError(f"array {name!r} must have {num_bytes:,} bytes, got {len(content):,}")
    array: np.ndarray = np.frombuffer(content, dtype).reshape(shape, order="F" if by_columns else "C")
    if dtype.kind == "U":
        _check_characters(np.frombuffer(content, np.dtype(np.uint32).newbyteorder(dtype.byteorder)), name)
    return array


def _check_characters(codes: np.ndarray, name: str) -> None:
    """Check that numbers are those of characters; numpy itself looks only when a text is used."""
    if ((codes > LAST_CHARACTER) | ((codes >= HALVES[0]) & (codes <= HALVES[1]))).any():
        raise ValueError(f"texts of array {name!r} hold what is no character")
