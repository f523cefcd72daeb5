"""Atomic writes: a reader sees the old file or the whole new one, never half of it, also after a power failure."""

import contextlib
import errno
import gzip
import io
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from vln_clip.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

TEMPORARY = ".*.tmp"  # names of what is being written
UNUSED_S = 90 * 86_400.0  # what can be made again is kept so long after its last use
ABANDONED_S = 86_400.0  # what was not written to for a day has no writer any more, on whatever machine it was


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place.

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """
    # Machines that share a disk may have equal process numbers, those of containers mostly have.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error.strerror or error) from None
    except SafetensorError as error:  # of its writer, which has no error numbers
        raise unwritable(path, error) from None


def unwritable(path: Path, why: object, what: str = "file") -> InputError:
    """Build the error for a path that cannot be written to."""
    return InputError(
        f"{what} {path} cannot be written: {why}; make room there or let it be written to, then give the same command"
    )


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk: a rename must not get there before its content."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of file systems that have nothing to wait for
            raise
    finally:
        os.close(handle)


def append_line(path: Path, line: str) -> None:
    """Append a line and wait until it is on the disk.

    Raises:
        InputError: the file cannot be written to, or the disk is full.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise unwritable(path, error.strerror or error) from None


def keep(path: Path, other: Path) -> None:
    """Give a file a second name, atomically; on disks that know one name only, a copy."""

    def link(temporary: Path) -> None:
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)

    write_atomically(other, link)


def remove_temporaries(found: Iterable[Path], idle_s: float = ABANDONED_S) -> None:
    """Remove what killed processes were writing: of some ``TEMPORARY`` paths those not written to for ``idle_s``."""
    for path in list(found):
        try:
            if time.time() - path.stat().st_mtime < idle_s:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError:  # another process was faster, it was finished just now, or it is not ours to remove
            continue


def mark_used(path: Path) -> None:
    """Note that a file of the cache was used just now, for ``remove_unused``; others' caches stay as they are."""
    with contextlib.suppress(OSError):
        os.utime(path)


def remove_unused(folder: Path) -> None:
    """Remove what nobody marked as used for ``UNUSED_S``; a process that has it mapped keeps it until its end."""
    if folder.is_dir():
        remove_temporaries(folder.glob("[!.]*"), UNUSED_S)


def write_drawn(path: Path, draw: Callable[[BinaryIO], object]) -> None:
    """Let ``draw`` fill a file in memory, then write that atomically.

    For what fails on a full disk with other errors than ``OSError``, as matplotlib does where it writes PDF.
    """
    drawn = io.BytesIO()
    draw(drawn)
    write_atomically(path, lambda temporary: temporary.write_bytes(drawn.getvalue()))


def save_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Write a JSON file atomically; gzipped where its name ends in ``.gz``. NaN and infinity raise ``ValueError``."""
    _save_text(path, json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def save_json_lines(path: Path, values: Iterable[Any]) -> None:
    """Write one JSON value per line, atomically; gzip and numbers as for ``save_json``."""
    _save_text(path, "".join(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n" for value in values))


def _save_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    content = gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode()
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def save_safetensors(
    path: Path, arrays: "Mapping[str, np.ndarray] | Mapping[str, Tensor]", metadata: dict[str, str] | None = None
) -> None:
    """Write arrays (all numpy or all torch) to a safetensors file atomically."""
    if all(isinstance(value, np.ndarray) for value in arrays.values()):
        arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
        write_atomically(path, lambda temporary: _save_tensors(save_file, arrays, temporary, metadata))
    else:
        import safetensors.torch  # with it comes PyTorch, a second to load; worlds alone don't need it
        import torch

        tensors = {name: torch.as_tensor(value).contiguous() for name, value in arrays.items()}
        save = safetensors.torch.save_file
        write_atomically(path, lambda temporary: _save_tensors(save, tensors, temporary, metadata))


def _save_tensors(save: Callable[..., None], tensors: Any, path: Path, metadata: dict[str, str] | None) -> None:
    """Save; a full disk is an ``OSError``, as it is elsewhere."""
    try:
        save(tensors, path, metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from None
