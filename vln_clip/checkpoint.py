"""Checkpoints: one safetensors file with weights (and, to go on, optimizer, generators, samplers) and a JSON header.

The header lies in the file's metadata, so that both are replaced in one step; ``checkpoint.json`` beside it
is a copy for people. A checksum there tells flipped bits. Nothing is ever unpickled.
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from vln_clip import __version__, files
from vln_clip.errors import InputError
from vln_clip.reading import loads

FILE = "checkpoint.safetensors"
HEADER_FILE = "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        header: JSON values: stage, iteration, config, features, vocabulary, scores, …
        weights: of the model.
        state: tensors needed to go on training; empty in best checkpoints.
    """

    header: dict[str, Any]
    weights: dict[str, Tensor]
    state: dict[str, Tensor]


def save(folder: Path, model: nn.Module, header: dict[str, Any], state: dict[str, Tensor] | None = None) -> None:
    """Write a checkpoint folder; an older one is replaced in one step."""
    header = header | {"vln_clip": __version__, "torch": torch.__version__}
    tensors = {f"weights.{name}": value.detach().cpu() for name, value in model.state_dict().items()}
    tensors |= {f"state.{name}": value.detach().cpu() for name, value in (state or {}).items()}
    # One entry: those of safetensors come in any order, and equal checkpoints shall be equal files.
    metadata = {"checkpoint": json.dumps(header | {"crc32": _checksum(header, tensors)})}
    files.save_safetensors(folder / FILE, tensors, metadata)
    files.save_json(folder / HEADER_FILE, header)


def _checksum(header: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """Return a checksum of all that a checkpoint says."""
    total = zlib.crc32(json.dumps(header).encode())
    for name, value in sorted(tensors.items()):
        total = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), total)
        total = zlib.crc32(value.contiguous().reshape(-1).view(torch.uint8).numpy().data, total)
    return f"{total:08x}"


def repair_copy(folder: Path, header: dict[str, Any]) -> None:
    """Write ``checkpoint.json`` where a stop came between it and the checkpoint."""
    path = folder / HEADER_FILE
    try:
        if json.loads(path.read_text(encoding="utf-8")) == header:
            return
    except (OSError, ValueError):
        pass  # not there, or cut off
    files.save_json(path, header)


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        InputError: it is absent, damaged or no checkpoint.
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError(f"{folder} must be a checkpoint folder, but {FILE} is not there; train first or name another")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = loads((file.metadata() or {})["checkpoint"])
            if not isinstance(header, dict):
                raise ValueError("its header is no object")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        checksum = header.pop("crc32", None)  # older ones have none
        if checksum not in (None, _checksum(header, tensors)):
            raise ValueError("its checksum is another; it was damaged after it was written")
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "state": {}}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            parts[kind][rest] = value
    except (safetensors.SafetensorError, KeyError, ValueError, RecursionError, OSError) as error:
        raise InputError(f"{path} must be a checkpoint of this package, but can't be read: {error!s:.200}") from None
    return Checkpoint(header, parts["weights"], parts["state"])


def restore_weights(model: nn.Module, weights: dict[str, Tensor], source: Path) -> None:
    """Load weights into a model; other names or shapes are an ``InputError`` naming the first."""
    own = model.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        if name not in own or name not in weights:
            where = "the checkpoint" if name not in weights else "this configuration"
            raise InputError(f"{source} is of another configuration: {where} has no {name}")
        if own[name].shape != weights[name].shape:
            found, wanted = tuple(weights[name].shape), tuple(own[name].shape)
            raise InputError(f"{source} is of another configuration: {name} is {found} there and {wanted} here")
    model.load_state_dict(weights)


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's state as named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{key}": torch.as_tensor(value) for i, entry in state.items() for key, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what ``flatten_optimizer`` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def section(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the entries below ``name.`` without that prefix."""
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


def named(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put entries below ``name.``."""
    return {f"{name}.{key}": value for key, value in tensors.items()}
