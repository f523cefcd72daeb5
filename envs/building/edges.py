"""Which viewpoints are joined: near each other, on about one level, and with a free line of sight where depth tells."""

import difflib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vln_clip.envs.building.frames import equirectangular_position
from vln_clip.envs.building.panoramas import read_depth
from vln_clip.envs.building.poses import PanoramaPose, clean_id, csv_rows
from vln_clip.errors import InputError


@dataclass(frozen=True)
class EdgeRules:
    """When two viewpoints are joined; all rules must hold.

    Attributes:
        max_distance_m: longest edge (Matterport3D: mean 2.3 m, longest 16.8 m).
        max_rise_m: largest difference in height, for stairs.
        nearest: an edge must lead to one of the so many nearest viewpoints of either end; None for any.
        margin_m: how much shorter than the distance a depth reading may be.
    """

    max_distance_m: float = 4.0
    max_rise_m: float = 1.5
    nearest: int | None = None
    margin_m: float = 0.25

    def __post_init__(self) -> None:
        for flag, value in (("--max-distance", self.max_distance_m), ("--max-rise", self.max_rise_m)):
            if not value > 0:
                raise InputError(f"{flag} must be more than 0 metres, got {value}")
        if not self.margin_m >= 0:
            raise InputError(f"--margin must be at least 0 metres, got {self.margin_m}")
        if self.nearest is not None and self.nearest < 1:
            raise InputError(f"--nearest must be at least 1, got {self.nearest}")


def connect(position_m: np.ndarray, rules: EdgeRules, visible: np.ndarray | None = None) -> np.ndarray:
    """Join viewpoints.

    Args:
        position_m: (N, 3).
        rules: see ``EdgeRules``.
        visible: (N, N) bool, symmetric; None where no depth is known.

    Returns:
        (N, N) bool, symmetric, False on the diagonal.
    """
    apart = np.linalg.norm(position_m[:, None] - position_m[None], axis=-1)
    rise = np.abs(position_m[:, None, 2] - position_m[None, :, 2])
    allowed = (apart <= rules.max_distance_m) & (rise <= rules.max_rise_m)
    if visible is not None:
        allowed &= visible
    np.fill_diagonal(allowed, False)
    if rules.nearest is not None:
        rank = np.where(allowed, apart, np.inf).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
        near = allowed & (rank < rules.nearest)
        allowed = near | near.T
    return allowed


def sight_lines(
    poses: Sequence[PanoramaPose],
    depth_files: Sequence[Path],
    unit_m: float,
    margin_m: float,
    workers: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Tell which viewpoints see each other, by the depth images of both.

    Args:
        poses: N of them.
        depth_files: equirectangular depth of each, taken as the panorama was.
        unit_m: metres per unit.
        margin_m: how much shorter than the distance a reading may be.
        workers: threads.
        on_progress: called with (images read, images).

    Returns:
        (N, N) bool, symmetric, True on the diagonal.
    """
    position_m = np.stack([pose.position_m for pose in poses])

    def row(index: int) -> np.ndarray:
        depth_m = read_depth(depth_files[index], unit_m)
        return _reaches(depth_m, (position_m - position_m[index]) @ poses[index].rotation, margin_m)

    free = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for count, reached in enumerate(pool.map(row, range(len(poses))), start=1):
            free.append(reached)
            if on_progress:
                on_progress(count, len(poses))
    seen = np.stack(free)
    return seen & seen.T


def _reaches(depth_m: np.ndarray, offsets_m: np.ndarray, margin_m: float) -> np.ndarray:
    """Tell to which points the view is free, (N,) bool.

    The median of the known readings in 3 x 3 pixels decides, so that a single bad one doesn't; where none is
    known the view counts as blocked.

    Args:
        depth_m: (H, W), see ``read_depth``.
        offsets_m: (N, 3) points in the panorama's camera axes.
        margin_m: see ``sight_lines``.
    """
    height_px, width_px = depth_m.shape
    distance_m = np.linalg.norm(offsets_m, axis=1)
    place = equirectangular_position(offsets_m)
    column = np.floor(place[:, 0] * width_px).astype(int)
    row = np.floor(place[:, 1] * height_px).astype(int)
    around = np.arange(-1, 2)
    rows = np.clip(row[:, None, None] + around[:, None], 0, height_px - 1)
    columns = (column[:, None, None] + around[None, :]) % width_px
    readings = np.sort(depth_m[rows, columns].reshape(len(offsets_m), -1), axis=1)  # NaN goes last
    known = (~np.isnan(readings)).sum(axis=1)
    middle = readings[np.arange(len(readings)), np.maximum(known - 1, 0) // 2]
    return (distance_m < 1e-6) | ((known > 0) & (middle >= distance_m - margin_m))


def read_corrections(path: Path, poses: Sequence[PanoramaPose], edges: np.ndarray) -> np.ndarray:
    """Apply a table of corrections, ``a, b, edge`` with edge 1 (join) or 0 (part), to (N, N) edges.

    Raises:
        InputError: a column, a viewpoint or a value is wrong; the message names the line.
    """
    index = {pose.viewpoint_id: number for number, pose in enumerate(poses)}
    corrected = edges.copy()
    for origin, row in csv_rows(path):
        if not {"a", "b", "edge"} <= set(row):
            raise InputError(f"{origin} must have the columns a, b and edge, it has {', '.join(row)}")
        ends = [clean_id(row["a"]), clean_id(row["b"])]
        for name in ends:
            if name not in index:
                near = difflib.get_close_matches(name, index, n=1)
                raise InputError(f"{origin} must name viewpoints, got {name!r}{f'; {near[0]!r}?' if near else ''}")
        if row["edge"] not in ("0", "1") or ends[0] == ends[1]:
            raise InputError(f"{origin} must be two different viewpoints and 1 or 0, got {', '.join(row.values())}")
        i, j = index[ends[0]], index[ends[1]]
        corrected[i, j] = corrected[j, i] = row["edge"] == "1"
    return corrected
