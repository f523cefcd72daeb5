"""Writing ``<scan>_connectivity.json`` and ``scans.txt`` in the public format."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vln_clip.connectivity.graphs import SUFFIX, read_scans
from vln_clip.envs.building.poses import PanoramaPose
from vln_clip.envs.building.skybox import skybox_rotation
from vln_clip.errors import InputError
from vln_clip.files import save_json, write_atomically
from vln_clip.reading import read_json

_SAME_PLACE_M = 0.1  # corrected poses stay nearer, cameras of two buildings do not


def check_scan_name(scan: str) -> None:
    """Raise ``InputError`` unless a scan id can be part of file names and feature keys."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", scan):
        raise InputError(f"--scan must be letters, digits, - and _, got {scan!r}; give the building such a name")


def check_replaceable(folder: Path, scan: str, poses: Sequence[PanoramaPose]) -> None:
    """Refuse to write over the graph of another building.

    Cameras number their pictures, so that ids of two buildings agree by chance: the same building is one whose ids
    mostly are there still, and mostly where they were.

    Args:
        folder: ``connectivity``.
        scan: id of the building.
        poses: of the new graph.

    Raises:
        InputError: a graph of this name is there, and of another building or damaged.
    """
    path = folder / f"{scan}{SUFFIX}"
    if not path.is_file():
        return
    before, after = _positions(path), {pose.viewpoint_id: pose.position_m for pose in poses}
    shared = [name for name in before if name in after]
    moved = [name for name in shared if np.linalg.norm(before[name] - after[name]) > _SAME_PLACE_M]
    if len(shared) * 2 < len(before):
        found = f"{len(before) - len(shared)} of its {len(before)} viewpoints are not among the poses"
    elif len(moved) * 2 > len(shared):
        found = f"{len(moved)} of its {len(shared)} viewpoints of the same id lie elsewhere, first {moved[0]}"
    else:
        return
    raise InputError(
        f"{path} holds another building: {found}; choose another --scan or --out, or give --overwrite if it is to go"
    )


def _positions(path: Path) -> dict[str, np.ndarray]:
    """Return the position of each viewpoint of a connectivity file, (3,) in metres."""
    try:
        rows: Any = read_json(path)
        return {str(row["image_id"]): np.array([row["pose"][i] for i in (3, 7, 11)], float) for row in rows}
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise InputError(
            f"{path} must be a connectivity file to be built again, got damaged content; choose another --scan or "
            "--out, or give --overwrite if it is to go"
        ) from error


def graph_rows(poses: Sequence[PanoramaPose], edges: np.ndarray, visible: np.ndarray) -> list[dict[str, object]]:
    """Return the objects of a connectivity file.

    Args:
        poses: N of them.
        edges: (N, N) bool.
        visible: (N, N) bool; its diagonal is written as False, as in the public files.
    """
    seen = visible & ~np.eye(len(poses), dtype=bool)
    rows: list[dict[str, object]] = []
    for index, pose in enumerate(poses):
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = skybox_rotation(pose), pose.position_m
        rows.append(
            {
                "image_id": pose.viewpoint_id,
                "pose": (matrix + 0.0).ravel().tolist(),
                "included": True,
                "visible": seen[index].tolist(),
                "unobstructed": edges[index].tolist(),
                "height": pose.camera_height_m,
            }
        )
    return rows


def write_graph(
    folder: Path, scan: str, poses: Sequence[PanoramaPose], edges: np.ndarray, visible: np.ndarray | None = None
) -> Path:
    """Write the graph of a scan and add the scan to ``scans.txt``.

    Args:
        folder: ``connectivity``.
        scan: id of the building.
        poses: N of them.
        edges: (N, N) bool, symmetric.
        visible: (N, N) bool; None where it is not known: as the edges.

    Returns:
        The connectivity file.
    """
    path = folder / f"{scan}{SUFFIX}"
    save_json(path, graph_rows(poses, edges, edges if visible is None else visible), indent=None)
    listed = folder / "scans.txt"
    scans = read_scans(folder) if listed.is_file() else []
    if scan not in scans:
        content = "".join(f"{name}\n" for name in [*scans, scan])
        write_atomically(listed, lambda temporary: temporary.write_text(content))
    return path
