"""Arrays in files of other programs (``.npy``, ``.npz``, ``.pth``), read within bounds; nothing is ever unpickled."""

import io
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from vln_clip.encoders.torchscript import check_members
from vln_clip.errors import InputError
from vln_clip.limits import MAX_ARRAY_BYTES

# What numpy and zipfile raise where a file is damaged; ValueError holds errors of Unicode.
_ERRORS = (
    OSError, ValueError, KeyError, IndexError, TypeError, EOFError, OverflowError, MemoryError, RecursionError,
    SyntaxError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile, tokenize.TokenError,
)  # fmt: skip
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_array(path: Path) -> Tensor:
    """Read the one array of floats in a file, of any shape.

    Args:
        path: ``.npy``; ``.npz`` with the array ``feat`` or one array only; ``.pth`` or ``.pt`` with a tensor or a
            dictionary of one.

    Raises:
        InputError: the file is missing, damaged, too large or holds something else.
    """
    try:
        found = _READERS[path.suffix.lower()](path)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"feature file {path} must exist, got no such file") from None
    except Exception as error:  # torch's reader of pickles fails on damaged ones in every way that Python knows
        if path.suffix.lower() in (".npy", ".npz") and not isinstance(error, _ERRORS):
            raise
        reason = str(error).strip().split("\n")[0][:160]
        raise InputError(
            f"feature file {path} must hold one array of floats, got {type(error).__name__}: {reason}; fetch or write "
            "it again"
        ) from error
    if found.dtype not in _FLOATS or not found.numel():
        raise InputError(f"feature file {path} must hold floats, got {found.dtype} of shape {tuple(found.shape)}")
    return found


def _read_npy(path: Path) -> Tensor:
    with path.open("rb") as stream:
        return _parse_npy(stream, path.stat().st_size)


def _read_npz(path: Path) -> Tensor:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        name = "feat.npy" if "feat.npy" in names else names[0] if len(names) == 1 else None
        if name is None:
            raise ValueError(f"arrays {', '.join(names)[:80] or 'none'} instead of feat")
        size = archive.getinfo(name).file_size
        with archive.open(name) as stream:
            return _parse_npy(stream, size)


def _parse_npy(stream: IO[bytes], size_bytes: int) -> Tensor:
    """Parse the numpy format; what the head says is believed only where the size agrees."""
    if size_bytes > MAX_ARRAY_BYTES:
        raise ValueError(f"{size_bytes:,} bytes where {MAX_ARRAY_BYTES:,} are the most")
    content = io.BytesIO(stream.read(size_bytes))
    version = np.lib.format.read_magic(content)
    read_head: Callable[..., tuple[tuple[int, ...], bool, np.dtype]]
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the format")
    read_head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read_head(content)
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise ValueError(f"values of type {dtype}")
    count = 1
    for side in shape:
        count *= side
    data = content.getbuffer()[content.tell() :]
    if any(side < 0 for side in shape) or count * dtype.itemsize != len(data):
        raise ValueError(f"{len(data):,} bytes for shape {shape} of {dtype}")
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")
    return torch.from_numpy(np.ascontiguousarray(array, dtype.newbyteorder("=")).copy())


def _read_pth(path: Path) -> Tensor:
    size_bytes = path.stat().st_size
    if size_bytes > MAX_ARRAY_BYTES:
        raise ValueError(f"{size_bytes:,} bytes where {MAX_ARRAY_BYTES:,} are the most")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            check_members(archive, path)
    found: Any = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(found, dict):
        tensors = [value for value in found.values() if isinstance(value, Tensor) and value.ndim > 1]
        found = tensors[0] if len(tensors) == 1 else found
    if not isinstance(found, Tensor) or found.layout != torch.strided or found.is_quantized:
        raise ValueError(f"{type(found).__name__} instead of one tensor")
    if found.numel() * found.element_size() > size_bytes:  # a view that repeats a few values
        raise ValueError(f"shape {tuple(found.shape)} from {size_bytes:,} bytes")
    return found.detach().contiguous()


_READERS: dict[str, Callable[[Path], Tensor]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".pth": _read_pth,
    ".pt": _read_pth,
}
SUFFIXES = tuple(_READERS)
