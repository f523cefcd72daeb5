"""Readers and writers of the public feature formats, and conversion between them.

TSV (EnvDrop, CLIP-ViL): no header row; tab-separated scan, viewpoint, image width, image height, vertical
field of view, base64 of a little-endian float32 (36, D) array. HDF5 (HAMT, DUET): data sets
``<scan>_<viewpoint id>`` of (36, D). All are read row by row. How features came about stands in the header of a
store, in an attribute of an HDF5 file, and beside a TSV file in ``FILE.tsv.json``; other programs ignore the two.
"""

import base64
import binascii
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from vln_clip.errors import InputError
from vln_clip.features.grid import GRID_SUFFIX
from vln_clip.features.store import StoreHeader, numpy_rows, open_store, write_store
from vln_clip.files import save_json, write_atomically
from vln_clip.limits import MAX_FEATURE_WIDTH, MAX_LINE_BYTES
from vln_clip.reading import check_ratio, read_json
from vln_clip.records import NUM_VIEWS, VIEW_HEIGHT_PX, VIEW_WIDTH_PX

STORE_SUFFIX = ".safetensors"
TSV_SUFFIXES, HDF5_SUFFIXES = (".tsv", ".tsv.gz"), (".hdf5", ".h5")
SUFFIXES = (STORE_SUFFIX, *TSV_SUFFIXES, *HDF5_SUFFIXES)
_TSV_COLUMNS = 6
_VFOV_DEG = 60
_HDF5_HEADER = "vln_clip.header"
# What h5py raises where a file is damaged; ValueError holds errors of Unicode, RuntimeError what is not implemented.
HDF5_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError)

Rows = Iterable[tuple[str, np.ndarray]]


def format_of(path: Path) -> str:
    """Return ``store``, ``tsv`` or ``hdf5`` by a file's name."""
    name = path.name.lower()
    for kind, suffixes in (("store", (STORE_SUFFIX,)), ("tsv", TSV_SUFFIXES), ("hdf5", HDF5_SUFFIXES)):
        if name.endswith(suffixes):
            return kind
    if name.endswith(GRID_SUFFIX):
        raise InputError(
            f"{path} is a folder of grid features, where a file of pooled features is expected; "
            "the command inspect shows what the folder holds and checks its files"
        )
    raise InputError(f"a feature file must end in {', '.join(SUFFIXES)}, got {str(path)!r}")


def is_gzip(path: Path) -> bool:
    """Return whether a file is gzipped, by its name."""
    return path.name.lower().endswith(".gz")


def check_exists(path: Path) -> None:
    """Raise ``InputError`` unless there is a file."""
    if not path.is_file():
        raise InputError(f"feature file must exist, got {path} which does not")


def stem_of(path: Path) -> str:
    """Return a feature file's name without its ending."""
    return next(path.name[: -len(suffix)] for suffix in SUFFIXES[::-1] if path.name.lower().endswith(suffix))


def read_rows(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield key and (36, D) array of each viewpoint of a feature file, one at a time."""
    kind = format_of(path)
    check_exists(path)
    if kind == "store":
        yield from numpy_rows(open_store(path))
    else:
        yield from (read_tsv if kind == "tsv" else read_hdf5)(path)


def read_tsv(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the rows of a TSV file, float32; see the module for the format.

    Raises:
        InputError: a row is truncated or has another number of columns; the message names the line.
    """
    width: int | None = None
    opener = cast(Callable[..., IO[bytes]], gzip.open if is_gzip(path) else open)
    with opener(path, "rb") as stream:
        for number, line in enumerate(_lines(path, stream), 1):
            key, array = parse_tsv_line(f"{path} line {number}", line, width)
            width = array.shape[1]
            yield key, array


def parse_tsv_line(where: str, line: bytes, width: int | None = None) -> tuple[str, np.ndarray]:
    """Return key and (36, D) float32 array of one line; ``width`` is the D of the lines before, where it is known."""
    columns = line.rstrip(b"\r\n").split(b"\t")
    if len(columns) != _TSV_COLUMNS:
        raise InputError(
            f"{where} must have {_TSV_COLUMNS} tab-separated columns, got {len(columns)}; "
            "the file may be truncated, fetch or write it again"
        )
    return tsv_key(where, columns), _decode(where, columns[5], width)


def tsv_key(where: str, columns: Sequence[bytes]) -> str:
    """Return ``<scan>_<viewpoint id>`` of the first two columns of a line."""
    try:
        return f"{columns[0].decode()}_{columns[1].decode()}"
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where} must start with scan and viewpoint in UTF-8, got {columns[0][:20]!r} and {columns[1][:40]!r}; "
            "the file may be damaged, fetch or write it again"
        ) from error


def _lines(path: Path, stream: IO[bytes]) -> Iterator[bytes]:
    """Yield lines; a gzip file that ends early is bad input."""
    size_bytes = path.stat().st_size
    num_read = 0
    try:
        while line := stream.readline(MAX_LINE_BYTES):
            num_read += len(line)
            if len(line) == MAX_LINE_BYTES:
                raise InputError(f"{path} must have lines of less than {MAX_LINE_BYTES:,} bytes, got a longer one")
            if is_gzip(path):
                check_ratio(num_read, size_bytes, path)
            yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} must be a complete gzip file, got one that ends early or is damaged") from error


def _decode(where: str, cell: bytes, width: int | None) -> np.ndarray:
    """Decode one features cell to (36, D) float32; ``width`` is the D of the rows before."""
    unit = NUM_VIEWS * 4
    expected = f"{NUM_VIEWS} x {width} float32 = {unit * width} bytes" if width else f"a multiple of {unit} bytes"
    truncated = "the row may be truncated, fetch or write the file again"
    try:
        data = base64.b64decode(cell, validate=True)
    except binascii.Error as error:
        have = len(cell) * 3 // 4
        found = f"about {have} bytes ({error})"
        raise InputError(f"{where}: features must be base64 of {expected}, got {found}; {truncated}") from error
    if (len(data) != unit * width) if width else (len(data) % unit or not data):
        raise InputError(f"{where}: features must be {expected}, got {len(data)} bytes; {truncated}")
    return np.frombuffer(data, "<f4").reshape(NUM_VIEWS, -1)


def write_tsv(path: Path, rows: Rows) -> None:
    """Write a TSV file (gzipped where the name ends in .gz), atomically."""
    opener = cast(Callable[..., IO[bytes]], gzip.open if is_gzip(path) else open)

    def write(temporary: Path) -> None:
        with opener(temporary, "wb") as stream:
            for key, features in rows:
                scan, _, viewpoint_id = key.rpartition("_")
                cell = base64.b64encode(np.ascontiguousarray(features, "<f4").tobytes())
                fields = (scan, viewpoint_id, VIEW_WIDTH_PX, VIEW_HEIGHT_PX, _VFOV_DEG)
                stream.write("".join(f"{value}\t" for value in fields).encode() + cell + b"\n")

    write_atomically(path, write)


def read_hdf5(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the data sets of an HDF5 file; see the module for the format."""
    with open_hdf5(path, "r") as archive:
        for key in hdf5_keys(path, archive):
            yield key, hdf5_row(path, archive, key)


def hdf5_keys(path: Path, archive: Any) -> tuple[str, ...]:
    """Return the names in an open HDF5 file; a damaged list of them is an ``InputError``."""
    try:
        keys = tuple(str(key) for key in archive)
        "\n".join(keys).encode()
    except HDF5_ERRORS as error:
        raise InputError(
            f"{path} must list its viewpoints, but: {error!s:.200}; fetch or write the file again"
        ) from None
    return keys


def hdf5_row(path: Path, archive: Any, key: str) -> np.ndarray:
    """Return the features of one viewpoint of an open HDF5 file, (36, D) in the file's dtype.

    Raises:
        InputError: under the key is something else, or the data set is damaged.
    """
    try:
        key.encode()
        data = archive[key]
        shape, dtype = tuple(getattr(data, "shape", ())), getattr(data, "dtype", np.dtype(object))
        fits = len(shape) == 2 and shape[0] == NUM_VIEWS and 0 < shape[1] <= MAX_FEATURE_WIDTH
        array = data[()] if fits and dtype.kind in "fiu" else None
    except HDF5_ERRORS as error:
        raise InputError(f"{path}: {key!r} cannot be read ({error}); fetch or write the file again") from error
    if array is None:
        found = f"{dtype} of shape {shape}" if shape else "a group or a single value"
        raise InputError(
            f"{path}: {key} must be numbers of shape ({NUM_VIEWS}, D), D up to {MAX_FEATURE_WIDTH:,}, got {found}"
        )
    return np.asarray(array)


def write_hdf5(path: Path, rows: Rows, header: StoreHeader | None = None) -> None:
    """Write an HDF5 file, float32 data sets, atomically."""

    def write(temporary: Path) -> None:
        try:
            with open_hdf5(temporary, "w") as archive:
                if header:
                    archive.attrs[_HDF5_HEADER] = header.to_json()
                for key, features in rows:
                    archive.create_dataset(key, data=np.asarray(features, np.float32))
        except RuntimeError as error:  # so h5py tells a full disk where it shows on closing
            raise OSError(str(error)) from error

    write_atomically(path, write)


def convert(source: Path, target: Path, dtype: str = "float16") -> int:
    """Convert a feature file to the format that the target's name asks for.

    Args:
        source: store, TSV or HDF5.
        target: store, TSV or HDF5; replaced where it exists.
        dtype: type inside a store; the public formats hold float32.

    Returns:
        The number of viewpoints.
    """
    count = 0

    def counted() -> Rows:
        nonlocal count
        seen = set()
        for key, features in read_rows(source):
            if key in seen:
                raise InputError(f"{source} must have each viewpoint once, got {key} twice")
            seen.add(key)
            count += 1
            yield key, features
        if not count:
            raise InputError(f"{source} must hold the features of at least one viewpoint, got none")

    format_of(source)
    check_exists(source)
    header = read_header(source) or StoreHeader(stem_of(source))
    if format_of(source) != "store":
        header = replace(header, source=header.source or source.name)
    write_rows(target, header, counted(), dtype)
    return count


def write_rows(path: Path, header: StoreHeader, rows: Rows, dtype: str = "float16") -> None:
    """Write a feature file in the format that its name asks for; ``dtype`` is that of a store, others hold float32."""
    kind = format_of(path)
    if kind == "store":
        write_store(path, header, rows, dtype)
    elif kind == "tsv":
        write_tsv(path, rows)
        write_note(path, header)
    else:
        write_hdf5(path, rows, header)


def write_note(path: Path, header: StoreHeader) -> None:
    """Write the header of a TSV file beside it; the size tells whether it is still the same file."""
    save_json(note_path(path), {"size_bytes": path.stat().st_size, "header": json.loads(header.to_json())})


def note_path(path: Path) -> Path:
    """Return where the header of a TSV file is written."""
    return path.with_name(f"{path.name}.json")


def read_header(path: Path) -> StoreHeader | None:
    """Return how the features of a file came about; None where it does not say."""
    kind = format_of(path)
    if kind == "store":
        return open_store(path).header
    if kind == "hdf5":
        with open_hdf5(path, "r") as archive:
            try:
                text = archive.attrs.get(_HDF5_HEADER)
            except HDF5_ERRORS as error:
                raise InputError(f"{path} must have attributes that can be read, but: {error!s:.200}") from None
        try:
            return StoreHeader.from_json(text) if isinstance(text, str) else None
        except ValueError as error:
            raise InputError(
                f"{path} must have a header in its attribute {_HDF5_HEADER} or no such attribute, got a damaged one "
                f"({error})"
            ) from error
    try:
        note = read_json(note_path(path))
        if isinstance(note, dict) and note["size_bytes"] == path.stat().st_size:
            return StoreHeader.from_json(json.dumps(note["header"]))
    except (ValueError, KeyError):
        pass  # no note of ours
    return None


def require_h5py(path: Path) -> Any:
    """Return the module h5py, which ``path`` needs; raise ``InputError`` where it is missing."""
    try:
        import h5py
    except ImportError as error:
        raise InputError(f"{path} needs the package h5py; run: pip install h5py") from error
    return h5py


def open_hdf5(path: Path, mode: str) -> Any:
    """Open an HDF5 file; a missing h5py or a damaged file is an ``InputError``."""
    h5py = require_h5py(path)
    try:
        return h5py.File(path, mode)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path} must be a complete HDF5 file, got one that cannot be opened ({error})") from error
