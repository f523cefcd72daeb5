"""Atomic writes: a reader sees the old file or the whole new one, never half of it."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Write a JSON file atomically."""
    text = json.dumps(value, indent=indent, ensure_ascii=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def save_safetensors(
    path: Path, arrays: Mapping[str, np.ndarray] | Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write arrays (all numpy or all torch) to a safetensors file atomically."""
    if all(isinstance(value, np.ndarray) for value in arrays.values()):
        arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
        write_atomically(path, lambda temporary: safetensors.numpy.save_file(arrays, temporary, metadata))
    else:
        tensors = {name: torch.as_tensor(value).contiguous() for name, value in arrays.items()}
        write_atomically(path, lambda temporary: safetensors.torch.save_file(tensors, temporary, metadata))
