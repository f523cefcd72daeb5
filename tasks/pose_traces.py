"""Pose traces of RxR: where annotators looked while they spoke or followed; BERT's features of what they said.

A trace has n snapshots of the camera, and masks for the k viewpoints of the path. The files' world is y-up; the
properties of ``PoseTrace`` give this project's frame. Nothing on the training path needs these files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vln_clip.errors import InputError, unknown_name
from vln_clip.records import NUM_VIEWS
from vln_clip.sources.table import RXR_BUCKET
from vln_clip.tasks.npz import read_npz

FOLDER, GUIDE, FOLLOWER = "RxR", "guide", "follower"
KINDS = (GUIDE, FOLLOWER)
MASK_HEIGHT, MASK_WIDTH = 128, 256
TEXT_WIDTH = 768
ROTATION_TOLERANCE = 1e-3  # of float32 matrices; one written column by column misses it by far

# Of each key of a file: kind of dtype, and shape; letters stand for sizes that must agree.
KIND_NAMES = {"U": "text", "f": "floating point", "b": "bool"}
Layout = Mapping[str, tuple[str, tuple[str | int, ...]]]
SNAPSHOTS: Layout = {
    "pano": ("U", ("n", 1)),
    "time": ("f", ("n", 1)),
    "extrinsic_matrix": ("f", ("n", 16)),
    "intrinsic_matrix": ("f", ("n", 16)),
    "image_mask": ("b", ("k", MASK_HEIGHT, MASK_WIDTH)),
    "feature_weights": ("f", ("k", NUM_VIEWS)),
}
AUDIO: Layout = {"audio_time": ("f", ("n", 1))}
TEXT_MASKS: Layout = {"text_masks": ("b", ("k", "m"))}
FEATURES: Layout = {"tokens": ("U", ("m", 1)), "features": ("f", ("m", TEXT_WIDTH))}


@dataclass(frozen=True)
class PoseTrace:
    """One annotator's way through one path.

    Attributes:
        viewpoints: (n,) str, where each snapshot was taken.
        time_s: (n,) float32.
        audio_time_s: (n,) float32, position in the guide's recording; None for guides, who speak themselves.
        camera_to_world: (n, 4, 4) float32, in the files' y-up world; the camera looks along its -z, its y is up.
        projection: (n, 4, 4) float32, camera to clip coordinates.
        image_masks: (k, 128, 256) bool, what of each viewpoint's equirectangular picture was seen; heading 0 is
            the center column.
        view_weights: (k, 36) float32, share of each view of the panorama.
        text_masks: (k, m) bool, which of the m word pieces belong to each viewpoint; None where a follower's file
            has none.
    """

    viewpoints: np.ndarray
    time_s: np.ndarray
    audio_time_s: np.ndarray | None
    camera_to_world: np.ndarray
    projection: np.ndarray
    image_masks: np.ndarray
    view_weights: np.ndarray
    text_masks: np.ndarray | None

    @property
    def position_m(self) -> np.ndarray:
        """Return the camera's positions in the z-up world of the connectivity files, (n, 3) float32."""
        return _z_up(self.camera_to_world[:, :3, 3])

    @property
    def heading_rad(self) -> np.ndarray:
        """Return the camera's headings, (n,) float32 in [0, 2π]; of no meaning straight up or down."""
        x, y, _ = self._direction.T
        return np.arctan2(x, y) % np.float32(2 * np.pi)

    @property
    def elevation_rad(self) -> np.ndarray:
        """Return the camera's elevations, (n,) float32, up positive."""
        x, y, z = self._direction.T
        return np.arctan2(z, np.hypot(x, y))

    @property
    def _direction(self) -> np.ndarray:
        """Return where the camera looks in the z-up world, (n, 3)."""
        return _z_up(-self.camera_to_world[:, :3, 2])


@dataclass(frozen=True)
class TextFeatures:
    """Word pieces of one instruction.

    Attributes:
        tokens: the m pieces; a piece that goes on with a word begins with ``##``.
        features: (m, 768) float32, the last layer of the multilingual BERT that cut them.
    """

    tokens: tuple[str, ...]
    features: np.ndarray


def pose_trace_file(data: Path, split: str, kind: str, item_id: int | str) -> Path:
    """Return where a pose trace lies: ``<data>/RxR/pose_traces/rxr_<split>/000012_guide_pose_trace.npz``.

    Args:
        data: data folder.
        split: name.
        kind: ``"guide"`` or ``"follower"``.
        item_id: instruction_id of a guide, demonstration_id of a follower.
    """
    if kind not in KINDS:
        raise unknown_name("kind of pose trace", kind, KINDS)
    return data / FOLDER / "pose_traces" / f"rxr_{split}" / f"{_number(item_id)}_{kind}_pose_trace.npz"


def text_features_file(data: Path, split: str, instruction_id: int | str, language: str) -> Path:
    """Return where text features lie: ``<data>/RxR/text_features/rxr_<split>/000012_hi_text_features.npz``."""
    folder = data / FOLDER / "text_features" / f"rxr_{split}"
    return folder / f"{_number(instruction_id)}_{language}_text_features.npz"


def read_pose_trace(file: Path, kind: str) -> PoseTrace:
    """Read a pose trace.

    Args:
        file: archive of arrays; nothing pickled is loaded.
        kind: ``"guide"`` or ``"follower"``.

    Raises:
        InputError: missing or damaged file; a key is missing or has another shape or dtype; times that are not
            finite; an extrinsic matrix that is no rotation and translation.
    """
    if kind not in KINDS:
        raise unknown_name("kind of pose trace", kind, KINDS)
    required = {**SNAPSHOTS, **(AUDIO if kind == FOLLOWER else TEXT_MASKS)}
    arrays = _read_arrays(file, required, optional=TEXT_MASKS)
    for key in ("time", "audio_time", "extrinsic_matrix", "intrinsic_matrix", "feature_weights"):
        if key in arrays and not np.isfinite(arrays[key]).all():
            raise InputError(f"{file}: {key} must be finite, got NaN or infinity")
    n = len(arrays["pano"])
    camera_to_world = arrays["extrinsic_matrix"].reshape(n, 4, 4)
    _check_poses(camera_to_world, file)
    return PoseTrace(
        arrays["pano"][:, 0],
        arrays["time"][:, 0],
        arrays["audio_time"][:, 0] if kind == FOLLOWER else None,
        camera_to_world,
        arrays["intrinsic_matrix"].reshape(n, 4, 4),
        arrays["image_mask"],
        arrays["feature_weights"],
        arrays.get("text_masks"),
    )


def read_text_features(file: Path) -> TextFeatures:
    """Read the word pieces and BERT features of an instruction.

    Raises:
        InputError: missing or damaged file; a key is missing or has another shape or dtype.
    """
    arrays = _read_arrays(file, FEATURES)
    return TextFeatures(tuple(arrays["tokens"][:, 0].tolist()), arrays["features"])


def _number(item_id: int | str) -> str:
    """Return an id with six digits, as file names have it."""
    if not str(item_id).isdecimal():
        raise InputError(f"the id in the name of a pose trace must be a whole number, got {item_id!r}")
    return f"{int(item_id):06d}"


def _z_up(vectors: np.ndarray) -> np.ndarray:
    """Turn (n, 3) vectors of the files' y-up world by +90° about x: (x, y, z) is (x, -z, y) with z up."""
    return np.stack([vectors[:, 0], -vectors[:, 2], vectors[:, 1]], axis=1)


def _check_poses(matrices: np.ndarray, file: Path) -> None:
    """Check that (n, 4, 4) matrices are rotations with translations, row by row."""
    rotations = matrices[:, :3, :3].astype(np.float64)
    error = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2), initial=0)
    error = np.maximum(error, np.abs(matrices[:, 3] - (0, 0, 0, 1)).max(axis=1, initial=0))
    error = np.maximum(error, np.abs(np.linalg.det(rotations) - 1))
    if (error > ROTATION_TOLERANCE).any():
        worst = int(error.argmax())
        raise InputError(
            f"{file}: extrinsic_matrix {worst} must be a rotation and a translation written row by row, "
            f"got {matrices[worst].ravel().tolist()}"
        )


def _read_arrays(file: Path, required: Layout, optional: Layout | None = None) -> dict[str, np.ndarray]:
    """Read the arrays of a file and check their dtypes and shapes."""
    optional = optional or {}
    try:
        arrays, found = read_npz(file, {**required, **optional})
    except FileNotFoundError:
        raise InputError(
            f"file {file} does not exist; pose traces and text features are in the bucket {RXR_BUCKET}"
        ) from None
    missing = [key for key in required if key not in arrays]
    if missing:
        raise InputError(f"{file}: array {missing[0]!r} is missing; found {', '.join(found):.200}")
    sizes: dict[str | int, int] = {}
    for key, array in arrays.items():
        _check_array(f"{file}: array {key!r}", array, *{**required, **optional}[key], sizes)
    return arrays


def _check_array(where: str, array: np.ndarray, kind: str, shape: tuple[str | int, ...], sizes: dict) -> None:
    """Check dtype and shape of an array; ``sizes`` holds what the letters have been so far and learns new ones."""
    if array.ndim == len(shape):
        for axis, size in zip(shape, array.shape, strict=True):
            sizes.setdefault(axis, axis if isinstance(axis, int) else size)
    if array.dtype.kind != kind or array.shape != tuple(sizes.get(axis) for axis in shape):
        known = [f"{axis} = {sizes[axis]}" for axis in shape if isinstance(axis, str) and axis in sizes]
        raise InputError(
            f"{where} must be {KIND_NAMES[kind]} of shape ({', '.join(map(str, shape))})"
            f"{' with ' + ', '.join(known) if known else ''}, got {array.dtype} of shape {array.shape}"
        )
