"""Feature stores: one safetensors file per encoder and data set, opened by memory-mapping.

Tensors: ``features`` (N, 36, D) float16 and ``viewpoints``, the N keys ``<scan>_<viewpoint id>`` as bytes of
lines. The header says how the features came about. Files appear under their name only when complete.
"""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vln_clip.errors import InputError
from vln_clip.reading import loads
from vln_clip.records import NUM_VIEWS

FORMAT = "vln_clip.features/1"
GRID_FORMAT = "vln_clip.grid/1"
_HEADER_BYTES = 1 << 14  # room kept in front of the tensors, filled in at the end
_DTYPES = {"float16": (np.float16, "F16"), "float32": (np.float32, "F32")}


@dataclass(frozen=True)
class StoreHeader:
    """How features came about; an empty string means unknown.

    Attributes:
        encoder: registry name, or the name of the file they were converted from.
        weights: origin of the weights and the first digits of their SHA-256.
        pooling: how a view became one vector.
        projection: the space of that vector.
        normalization: ``none`` or ``l2``.
        channel_order: ``rgb`` or ``bgr``, as fed to the encoder.
        render_size_px: width and height of the rendered views.
        image_size_px: height and width that the encoder saw, (0, 0) for the rendered size.
        resize: resize and crop rule.
        precision: type in which the encoder computed.
        renderer: what drew the views, and where.
        source: data set or file.
        pictures: digest of the skyboxes and camera rotations (``features.pictures``).
        stand_in_for: encoder that these features stand in for.
        preset: name of the recipe by which image files were encoded, ``own`` for another one; empty for views.
        exif: ``applied`` where image files were turned as their EXIF data says, ``ignored`` where not.
        layer: where in a ViT the map was taken; empty for the last map of another network.
        channels: mean and standard deviation that were taken off the input's channels.
        libraries: versions of the libraries used.
    """

    encoder: str
    weights: str = ""
    pooling: str = ""
    projection: str = ""
    normalization: str = ""
    channel_order: str = ""
    render_size_px: tuple[int, int] = (0, 0)
    image_size_px: tuple[int, int] = (0, 0)
    resize: str = ""
    precision: str = ""
    renderer: str = ""
    source: str = ""
    pictures: str = ""
    stand_in_for: str = ""
    preset: str = ""
    exif: str = ""
    layer: str = ""
    channels: str = ""
    libraries: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return all fields as JSON."""
        return json.dumps(asdict(self))

    def differences(self, other: "StoreHeader") -> list[str]:
        """Return in words where another header differs, field by field."""
        pairs = [(item.name, getattr(self, item.name), getattr(other, item.name)) for item in fields(self)]
        return [f"{name} {own!r} instead of {wanted!r}" for name, own, wanted in pairs if own != wanted]

    @classmethod
    def from_json(cls, text: str) -> "StoreHeader":
        """Read what ``json.dumps(asdict(header))`` wrote; unknown fields of newer versions are left out.

        Raises:
            ValueError: it is something else.
        """
        content = loads(text)
        if not isinstance(content, dict) or "encoder" not in content:
            raise ValueError("no header of features")
        known = {item.name: item.type for item in fields(cls)}
        values = {key: value for key, value in content.items() if key in known}
        wrong = [key for key, value in values.items() if known[key] is str and not isinstance(value, str)]
        for key in ("render_size_px", "image_size_px"):
            size = values.get(key, (0, 0))
            wrong += [] if isinstance(size, list | tuple) and len(size) == 2 else [key]
            values[key] = size
        wrong += [] if isinstance(values.get("libraries", {}), dict) else ["libraries"]
        if wrong:
            raise ValueError(f"{wrong[0]} is of another type")
        return cls(**values | {key: tuple(values[key]) for key in ("render_size_px", "image_size_px")})


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that features depend on."""
    found = {}
    for name in ("vln-clip", "torch", "open_clip_torch", "timm", "numpy", "Pillow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True, eq=False)
class FeatureStore:
    """An open store.

    Attributes:
        path: the file.
        header: how the features came about.
        features: (N, 36, D), memory-mapped: rows are read when they are used.
        keys: N keys ``<scan>_<viewpoint id>``.
    """

    path: Path
    header: StoreHeader
    features: Tensor
    keys: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return the encoder that really made the features."""
        return self.header.encoder

    @property
    def width(self) -> int:
        """Return D."""
        return int(self.features.shape[2])

    @cached_property
    def rows(self) -> dict[str, int]:
        """Return the row of each key."""
        return {key: row for row, key in enumerate(self.keys)}

    @cached_property
    def fingerprint(self) -> str:
        """Return a hash of the keys and of the features of some 16 viewpoints: told at once, with a large file too."""
        digest = hashlib.sha256("\n".join(self.keys).encode())
        few = self.features[:: max(1, len(self.keys) // 16)]
        digest.update(few.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def standing_in_for(self, name: str) -> "FeatureStore":
        """Return the same store, marked as standing in for another encoder's features."""
        return replace(self, header=replace(self.header, stand_in_for=name))


def open_store(path: Path) -> FeatureStore:
    """Open a store without reading its features.

    Raises:
        InputError: the file is missing, damaged or no feature store.
    """
    header, features, keys = read_tensors(path, FORMAT)
    if features.ndim != 3 or features.shape[1] != NUM_VIEWS:
        raise InputError(f"feature store must hold (N, {NUM_VIEWS}, D), got {tuple(features.shape)} in {path}")
    return FeatureStore(path, header, features, keys)


def read_tensors(path: Path, format_: str) -> tuple[StoreHeader, Tensor, tuple[str, ...]]:
    """Open a file of ``StoreWriter``: header, features (N, ...) memory-mapped, and N keys.

    Raises:
        InputError: the file is missing, damaged or of another format.
    """
    if not path.is_file():
        raise InputError(f"feature store must exist, got {path} which does not")
    try:
        with safe_open(path, framework="pt") as archive:
            metadata = archive.metadata() or {}
            if metadata.get("format") != format_:
                raise InputError(f"feature store must have the format {format_}, got {path} with other tensors")
            features = archive.get_tensor("features")
            lines = archive.get_tensor("viewpoints")
    except (SafetensorError, OSError) as error:
        raise InputError(f"feature store must be complete, got {path} which cannot be read ({error!s:.200})") from error
    if not features.ndim or features.dtype not in (torch.float16, torch.float32, torch.float64):
        found = f"{features.dtype} of shape {tuple(features.shape)}".removeprefix("torch.")
        raise InputError(f"feature store must hold float16 or float32 features, got {found} in {path}")
    keys, header = _parse_keys(path, lines), _parse_header(path, metadata)
    if len(keys) != features.shape[0]:
        found = f"{tuple(features.shape)} with {len(keys)} keys"
        raise InputError(f"feature store must hold as many keys as rows, got {found} in {path}")
    return header, features, keys


def _parse_header(path: Path, metadata: dict[str, str]) -> StoreHeader:
    try:
        return StoreHeader.from_json(metadata["header"])
    except (KeyError, ValueError, RecursionError) as error:
        found = "none" if isinstance(error, KeyError) else f"a damaged one ({error})"
        raise InputError(
            f"feature store must have the header that says how the features came about, got {found} in {path}; "
            "write the file again"
        ) from error


def _parse_keys(path: Path, lines: Tensor) -> tuple[str, ...]:
    try:
        text = lines.numpy().tobytes().decode() if lines.dtype == torch.uint8 else None
    except UnicodeDecodeError:
        text = None
    if text is None:
        raise InputError(f"feature store must hold its viewpoints as UTF-8 text, got other bytes in {path}")
    return tuple(text.split("\n")) if text else ()


class StoreWriter:
    """Write a store row by row; memory stays at one row. The file appears on a clean exit of the context.

    Args:
        path: file to write.
        header: how the features come about.
        dtype: ``float16`` or ``float32``.
        grid: rows are maps of one shape, (36, C, h, w) of a panorama or (C, h, w) of an image, not (36, D).
    """

    def __init__(self, path: Path, header: StoreHeader, dtype: str = "float16", grid: bool = False):
        if dtype not in _DTYPES:
            raise InputError(f"dtype of a feature store must be one of {', '.join(_DTYPES)}, got {dtype!r}")
        self.path, self.header, self.grid = path, header, grid
        self.numpy_dtype, self.tag = _DTYPES[dtype]
        self.keys: list[str] = []
        self.row_shape: tuple[int, ...] | None = None

    def __enter__(self) -> "StoreWriter":
        with cannot_write(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(".tmp", f".{self.path.name}.", self.path.parent)
            self.temporary = Path(name)
            self.stream = os.fdopen(handle, "wb")
            self.stream.write(b"\0" * _HEADER_BYTES)
        return self

    def add(self, key: str, features: np.ndarray | Tensor) -> None:
        """Append one viewpoint (or image).

        Args:
            key: ``<scan>_<viewpoint id>``.
            features: (36, D), or a map; any float type.
        """
        array = features.detach().cpu().numpy() if isinstance(features, Tensor) else features
        self.row_shape = self._first_shape(array.shape) if self.row_shape is None else self.row_shape
        if array.shape != self.row_shape:
            raise InputError(
                f"features of {key} must be {self.row_shape}, got {array.shape}; "
                "all viewpoints of a store have one width and shape"
            )
        with np.errstate(over="ignore"):
            row = np.ascontiguousarray(array, self.numpy_dtype)
        if not np.isfinite(row).all():
            raise InputError(f"features of {key} must be finite in {row.dtype}, got values that are not")
        with cannot_write(self.path):
            self.stream.write(row.tobytes())
        self.keys.append(key)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with cannot_write(self.path):
                    self._finish()
                    self.stream.flush()
                    os.fsync(self.stream.fileno())  # a name never stands for bytes that are still on their way
                    self.stream.close()
                    _publish(self.temporary, self.path)
        finally:
            with suppress(OSError):  # a full disk refuses the rest of the buffer once more
                self.stream.close()
            self.temporary.unlink(missing_ok=True)

    def _first_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.grid:
            return shape
        return (NUM_VIEWS, shape[-1] if shape else 0)

    def _finish(self) -> None:
        """Append the keys, then fill in the header in front of the tensors (safetensors pads with spaces)."""
        if len(set(self.keys)) != len(self.keys):
            twice = next(key for key in self.keys if self.keys.count(key) > 1)
            raise InputError(f"viewpoints of a feature store must differ, got {twice} twice")
        lines = "\n".join(self.keys).encode()
        shape = [len(self.keys), *(self.row_shape or (NUM_VIEWS, 0))]
        size = math.prod(shape) * np.dtype(self.numpy_dtype).itemsize
        self.stream.write(lines)
        text = json.dumps(
            {
                "__metadata__": {"format": GRID_FORMAT if self.grid else FORMAT, "header": self.header.to_json()},
                "features": {"dtype": self.tag, "shape": shape, "data_offsets": [0, size]},
                "viewpoints": {"dtype": "U8", "shape": [len(lines)], "data_offsets": [size, size + len(lines)]},
            }
        ).encode()
        room = _HEADER_BYTES - 8
        assert len(text) <= room, len(text)
        self.stream.seek(0)
        self.stream.write(room.to_bytes(8, "little") + text.ljust(room))


@contextmanager
def cannot_write(path: Path) -> Iterator[None]:
    """Turn a full disk, a missing permission and the like into one sentence about ``path``."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"feature file {path} cannot be written: {error.strerror or error}; finished files are kept, make room "
            "and run the same command again"
        ) from error


def _publish(temporary: Path, path: Path) -> None:
    """Give a complete temporary file its name and the permissions that new files have here."""
    mask = os.umask(0)
    os.umask(mask)
    temporary.chmod(0o666 & ~mask)
    temporary.replace(path)


def write_store(
    path: Path, header: StoreHeader, rows: Iterable[tuple[str, np.ndarray]], dtype: str = "float16"
) -> None:
    """Write a store from an iterable of keys and (36, D) arrays."""
    with StoreWriter(path, header, dtype) as writer:
        for key, features in rows:
            writer.add(key, features)


def numpy_rows(store: FeatureStore) -> Iterable[tuple[str, np.ndarray]]:
    """Yield keys and (36, D) arrays of an open store."""
    for key, row in zip(store.keys, torch.unbind(store.features), strict=True):
        yield key, row.numpy()
