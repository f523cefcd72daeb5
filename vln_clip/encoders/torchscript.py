"""The tensors of a TorchScript archive, read as data: loading such an archive the usual way runs code that is in it.

An archive is a zip file: ``data.pkl`` is a pickle of modules, ``data/N`` are the bytes of tensors, not compressed, and
``code/`` tells which attributes of a module are parameters and buffers.
"""

import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vln_clip.limits import MAX_CODE_BYTES

_CLASS = re.compile(r"class (\w+)\(Module\):\s+__parameters__ = \[(.*?)\]\s+__buffers__ = \[(.*?)\]", re.DOTALL)
_STORAGES = {
    "FloatStorage": torch.float32, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64, "LongStorage": torch.int64, "IntStorage": torch.int32, "BoolStorage": torch.bool,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
}  # fmt: skip


class _Module:
    """Stands for any class of an archive; holds attributes and does nothing."""

    kind = ""


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Return parameters and buffers by the names that the module's state dict gives them.

    Raises:
        ValueError: compressed members, or sizes that do not agree.
        Exception: whatever else a damaged archive leads to.
    """
    with zipfile.ZipFile(path) as archive:
        check_members(archive, path)
        folder = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
        with archive.open(f"{folder}data.pkl") as stream:
            root = _Unpickler(stream, archive, f"{folder}data/").load()
        return dict(_tensors(root, _state_names(archive, f"{folder}code/"), ""))


def check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """Raise ``ValueError`` for an archive that would unpack to far more than its size; PyTorch packs only code."""
    plain, packed = 0, 0
    for member in archive.infolist():
        if member.compress_type == zipfile.ZIP_STORED:
            plain += member.file_size
        else:
            packed += member.file_size
    if plain > path.stat().st_size or packed > MAX_CODE_BYTES:
        raise ValueError(f"its members claim {plain + packed:,} bytes")


class _Unpickler(pickle.Unpickler):
    """Builds tensors, lists and stand-ins; everything else that a pickle may name is refused."""

    def __init__(self, stream: Any, archive: zipfile.ZipFile, folder: str):
        super().__init__(stream)
        self._archive, self._folder = archive, folder
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name."""
        if module.partition(".")[0] == "__torch__":
            return type(name, (_Module,), {"kind": f"{module}.{name}"})
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch.jit._pickle" and name.startswith(("build_", "restore_")):
            return _first
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is neither tensor nor module")

    def persistent_load(self, pid: Any) -> Tensor:
        """Return the values of a storage, flat."""
        kind, dtype, key, _, numel = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"it refers to {kind!r:.40} in place of a storage")
        if key not in self._storages:
            content = bytearray(self._archive.read(f"{self._folder}{key}"))
            self._storages[key] = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        if len(self._storages[key]) != numel:
            raise ValueError(f"storage {key} must have {numel} values, got {len(self._storages[key])}")
        return self._storages[key]


def _rebuild(storage: Tensor, offset: int, size: tuple, stride: tuple, *_: object) -> Tensor:
    """Return a tensor on a storage; views that leave it are refused by torch."""
    return storage.as_strided(size, stride, offset)


def _first(value: object, *_: object) -> object:
    """Return a list whose type alone the archive restores."""
    return value


def _state_names(archive: zipfile.ZipFile, folder: str) -> dict[str, set[str]]:
    """Return which attributes of each class belong to the state."""
    found = {}
    for name in archive.namelist():
        if name.startswith(folder) and name.endswith(".py"):
            module = name.removeprefix(folder).removesuffix(".py").replace("/", ".")
            for kind, *names in _CLASS.findall(archive.read(name).decode()):
                found[f"{module}.{kind}"] = set(re.findall(r'"(.*?)"', "".join(names)))
    return found


def _tensors(module: _Module, names: dict[str, set[str]], prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the state of a module and of those in it."""
    for name, value in vars(module).items():
        if isinstance(value, _Module):
            yield from _tensors(value, names, f"{prefix}{name}.")
        elif isinstance(value, Tensor) and name in names.get(module.kind, ()):
            yield prefix + name, value
