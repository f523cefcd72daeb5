"""The table of poses: one row per panorama, CSV or JSON.

Columns: ``image`` (file name) and/or ``viewpoint`` (id); ``x_m``, ``y_m``, ``z_m`` of the camera; the heading of the
panorama's middle as ``heading_deg`` or ``heading_rad``, optionally ``pitch_*`` and ``roll_*``, or in place of
these a quaternion ``qw``, ``qx``, ``qy``, ``qz`` (camera axes x right, y down, z forward to world); optionally
``camera_height_m`` over the floor.
"""

import csv
import logging
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vln_clip.envs.building.frames import heading_of, quaternion_rotation, tilted_rotation
from vln_clip.errors import InputError
from vln_clip.reading import read_json, read_text

logger = logging.getLogger(__name__)

POSITION = ("x_m", "y_m", "z_m")
QUATERNION = ("qw", "qx", "qy", "qz")
ANGLES = ("heading", "pitch", "roll")
HEIGHT = "camera_height_m"
KNOWN = ("image", "viewpoint", *POSITION, *(f"{name}_{unit}" for name in ANGLES for unit in ("deg", "rad")))
KNOWN = (*KNOWN, *QUATERNION, HEIGHT)
_MAX_TURNS_RAD = 4 * math.pi  # a heading beyond two turns is most likely in degrees


@dataclass(frozen=True, eq=False)
class PanoramaPose:
    """Where one panorama was taken.

    Attributes:
        viewpoint_id: letters, digits and hyphens.
        image: name of the image file as given; the ending may be missing.
        position_m: (3,) float64, world.
        rotation: (3, 3) float64, the panorama's camera axes to world.
        camera_height_m: over the floor.
        origin: file and row, for messages.
    """

    viewpoint_id: str
    image: str
    position_m: np.ndarray
    rotation: np.ndarray
    camera_height_m: float
    origin: str

    @property
    def heading_rad(self) -> float:
        """Return the heading of the panorama's middle."""
        return heading_of(self.rotation)


def read_poses(path: Path, camera_height_m: float = 1.5) -> list[PanoramaPose]:
    """Read a table of poses.

    Args:
        path: ``.csv`` (comma, semicolon or tab; first row names the columns) or ``.json`` (array of objects).
        camera_height_m: where the table has no ``camera_height_m``.

    Raises:
        InputError: the file, a column or a cell is not as it should be; the message names the place.
    """
    if not path.is_file():
        raise InputError(f"--poses must be a .csv or .json file, got {path} which does not exist")
    rows = list(_json_rows(path) if path.suffix.lower() == ".json" else csv_rows(path))
    if not rows:
        raise InputError(f"{path} must have at least one pose, got none")
    unused = sorted({str(name) for _, row in rows for name in row} - set(KNOWN))
    if unused:
        logger.warning("%s: columns not used: %s (known: %s)", path, ", ".join(unused), ", ".join(KNOWN))
    poses = [_parse(origin, row, camera_height_m) for origin, row in rows]
    _check_ids(path, poses)
    return poses


def clean_id(name: str) -> str:
    """Return a viewpoint id made from a name: underscores, dots and spaces become hyphens.

    Keys of feature files are ``<scan>_<viewpoint id>`` and are split at the last underscore.
    """
    return re.sub(r"[_. ]+", "-", name.strip())


def csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place and cells of every row of a CSV file whose first row names the columns."""
    text = read_text(path)
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    try:
        reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
        rows = [(f"{path} line {reader.line_num}", row) for row in reader]
    except csv.Error as error:  # a cell without end, as behind a quotation mark that nothing closes
        raise InputError(f"{path} line {reader.reader.line_num} must be a row of short cells, got {error}") from error
    for origin, row in rows:
        if None in row or None in row.values():
            raise InputError(f"{origin} must have {len(reader.fieldnames)} cells as the first row, got another number")
        yield origin, {name: value.strip() for name, value in row.items()}


def _json_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path} must be a JSON array of objects, one per panorama, got something else")
    for number, row in enumerate(rows):
        yield f"{path} entry {number}", row


def _parse(origin: str, row: Mapping[str, Any], camera_height_m: float) -> PanoramaPose:
    """Make a pose of one row."""
    image, name = str(row.get("image", "")).strip(), str(row.get("viewpoint", "")).strip()
    if not image and not name:
        raise InputError(f"{origin} must name the panorama in a column image or viewpoint, it has {', '.join(row)}")
    viewpoint_id = clean_id(name or Path(image).stem)
    if not re.fullmatch(r"[A-Za-z0-9-]+", viewpoint_id):
        raise InputError(f"{origin}: a viewpoint id must be letters, digits and -, got {name or image!r}; rename it")
    position = np.array([_number(origin, row, column) for column in POSITION])
    has_height = row.get(HEIGHT, "") not in ("", None)
    height = _number(origin, row, HEIGHT) if has_height else camera_height_m
    return PanoramaPose(viewpoint_id, image or name, position, _rotation(origin, row), height, origin)


def _rotation(origin: str, row: Mapping[str, Any]) -> np.ndarray:
    """Return the rotation that a row gives as angles or as a quaternion."""
    given = [name for name in QUATERNION if name in row]
    angles = [name for name in KNOWN if name in row and name.partition("_")[0] in ANGLES]
    if given:
        if len(given) < len(QUATERNION) or angles:
            raise InputError(f"{origin} must have qw, qx, qy, qz or angles, got {', '.join([*given, *angles])}")
        quaternion = np.array([_number(origin, row, name) for name in QUATERNION])
        length = float(np.linalg.norm(quaternion))
        if abs(length - 1) > 1e-2:
            raise InputError(f"{origin}: the quaternion must have the length 1, got {length:.4f}")
        return quaternion_rotation(*(quaternion / length).tolist())
    heading = _angle(origin, row, "heading")
    if heading is None:
        raise InputError(f"{origin} must have a column heading_deg or heading_rad (or qw, qx, qy, qz)")
    return tilted_rotation(heading, _angle(origin, row, "pitch") or 0.0, _angle(origin, row, "roll") or 0.0)


def _angle(origin: str, row: Mapping[str, Any], name: str) -> float | None:
    """Return an angle in radians, None where the row has no such column."""
    present = [unit for unit in ("deg", "rad") if f"{name}_{unit}" in row]
    if len(present) > 1:
        raise InputError(f"{origin} must have {name}_deg or {name}_rad, got both")
    if not present:
        return None
    value = _number(origin, row, f"{name}_{present[0]}")
    if present[0] == "deg":
        return math.radians(value)
    if abs(value) > _MAX_TURNS_RAD:
        raise InputError(f"{origin}: {name}_rad must be radians, got {value:g}; degrees belong in {name}_deg")
    return value


def _number(origin: str, row: Mapping[str, Any], column: str) -> float:
    """Return a finite number of a row."""
    if column not in row:
        raise InputError(f"{origin} must have the column {column}, it has {', '.join(row)}")
    cell = row[column]
    try:
        value = math.nan if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{origin}: {column} must be a number, got {cell!r:.80}")
    return value


def _check_ids(path: Path, poses: list[PanoramaPose]) -> None:
    """Check that ids differ, and say where they are not the names given."""
    seen: dict[str, str] = {}
    for pose in poses:
        if pose.viewpoint_id in seen:
            before = seen[pose.viewpoint_id]
            raise InputError(
                f"{pose.origin}: viewpoint ids must differ, got {pose.viewpoint_id!r} again (before: {before})"
            )
        seen[pose.viewpoint_id] = pose.origin
    changed = [pose for pose in poses if "_" in Path(pose.image).stem and "_" not in pose.viewpoint_id]
    if changed:
        logger.info("viewpoint ids have - in place of _: %s becomes %s", changed[0].image, changed[0].viewpoint_id)
