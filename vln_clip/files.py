"""Atomic writes: a reader sees the old file or the whole new one, never half of it."""

import gzip
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from vln_clip.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place.

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"file {path} cannot be written: {error.strerror or error}") from None


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
