"""Reads and checks ``<scan>_connectivity.json``, and shows a scan as a networkx graph.

Format and frame: an array with one object per panorama, ``pose`` a row-major 4×4 camera-to-world matrix,
metres, z up. Only ``included`` viewpoints and transitions between them are kept.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vln_clip.errors import InputError, suggestion, unknown_name
from vln_clip.limits import MAX_COORDINATE_M
from vln_clip.reading import is_finite, read_json, read_text

if TYPE_CHECKING:
    import networkx as nx

SUFFIX = "_connectivity.json"
MAX_NAME_CHARS = 128  # names of files have at most 255 bytes, and endings come after these
WHERE_TO_GET = (
    "copy the connectivity folder of the Matterport3DSimulator repository there (vln-clip data get connectivity/ "
    "fetches it), or set VLN_CLIP_DATA to the folder that has it"
)


@dataclass(frozen=True, eq=False)
class ScanGraph:
    """The included viewpoints of one scan.

    Attributes:
        scan: id of the building.
        viewpoint_ids: n ids in file order.
        position: (n, 3) float64, metres, world frame.
        rotation: (n, 3, 3) float64, camera (x right, y down, z forward) to world.
        edges: (n, n) bool, symmetric, False on the diagonal.
        rows: n rows in the file, in which excluded viewpoints count.
        excluded_ids: viewpoints that the file excludes.
    """

    scan: str
    viewpoint_ids: tuple[str, ...]
    position: np.ndarray
    rotation: np.ndarray
    edges: np.ndarray
    rows: tuple[int, ...]
    excluded_ids: tuple[str, ...]

    def to_networkx(self) -> "nx.Graph":
        """Return the graph used for planning: viewpoints with a neighbour, ``weight`` in metres."""
        import networkx as nx  # takes a sixth of a second to load, and worlds don't need it

        graph: nx.Graph = nx.Graph(scan=self.scan)
        for i, j in zip(*np.nonzero(np.triu(self.edges)), strict=True):
            weight = float(np.linalg.norm(self.position[i] - self.position[j]))
            graph.add_edge(self.viewpoint_ids[i], self.viewpoint_ids[j], weight=weight)
        for i in np.nonzero(self.edges.any(1))[0]:
            graph.nodes[self.viewpoint_ids[i]]["position"] = self.position[i]
        return graph

    def components(self) -> np.ndarray:
        """Return which connected component each viewpoint is in, (N,), numbered from 0."""
        from scipy.sparse.csgraph import connected_components  # a sixth of a second to load

        found: np.ndarray = connected_components(self.edges, directed=False)[1]
        return found


def read_scans(folder: Path) -> list[str]:
    """Return the scan ids listed in ``scans.txt``."""
    path = folder / "scans.txt"
    if not path.is_file():
        raise InputError(f"{path} is missing; {WHERE_TO_GET}")
    scans = read_text(path).split()
    strange = next((scan for scan in scans if not is_name(scan)), None)
    if strange is not None:
        raise InputError(f"{path} must list the names of scans, which can be names of files, got {strange!r:.80}")
    return scans


def is_name(text: str) -> bool:
    """Return whether a text can name a scan or a viewpoint: as names of files, as lines, and as keys of features."""
    return 0 < len(text) <= MAX_NAME_CHARS and text.isprintable() and not re.search(r"[/\\]|\.\.", text)


def graph_path(folder: Path, scan: str) -> Path:
    """Return the connectivity file of a scan; an absent one is an ``InputError`` with a suggestion."""
    path = folder / f"{scan}{SUFFIX}"
    if path.is_file():
        return path
    known = sorted(p.name.removesuffix(SUFFIX) for p in folder.glob(f"*{SUFFIX}"))
    if not known:
        raise InputError(f"{path} is missing; {WHERE_TO_GET}")
    if len(known) > 10:
        hint = suggestion(scan, known) or f"; {WHERE_TO_GET}"
        raise InputError(f"{path} is missing: {scan!r} is none of the {len(known)} scans in {folder}{hint}")
    raise InputError(f"{path} is missing; {unknown_name('scan', scan, known)}")


def load_graphs(folder: Path, scans: Sequence[str] | None = None) -> list[ScanGraph]:
    """Read the graphs of some scans, all of ``scans.txt`` by default.

    Raises:
        InputError: a file is missing or malformed; the message names file, place and rule.
    """
    return [load_graph(graph_path(folder, scan), scan) for scan in (read_scans(folder) if scans is None else scans)]


def load_graph(path: Path, scan: str) -> ScanGraph:
    """Read and check the connectivity file of one scan."""
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path} must be a JSON array with at least one viewpoint, got {type(rows).__name__}")
    for i, row in enumerate(rows):
        _check_row(path, i, row, len(rows))
    ids = [row["image_id"] for row in rows]
    if len(set(ids)) != len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise InputError(f"{path}: every image_id must occur once, but {twice!r} occurs {ids.count(twice)} times")
    included = np.array([row["included"] for row in rows])
    pose = np.array([row["pose"] for row in rows], dtype=np.float64).reshape(-1, 4, 4)[included]
    edges = np.array([row["unobstructed"] for row in rows])[np.ix_(included, included)]
    kept = [name for name, keep in zip(ids, included, strict=True) if keep]
    _check_poses(path, kept, pose)
    _check_edges(path, kept, edges)
    excluded = tuple(name for name, keep in zip(ids, included, strict=True) if not keep)
    rows_kept = tuple(np.nonzero(included)[0].tolist())
    return ScanGraph(scan, tuple(kept), pose[:, :3, 3].copy(), pose[:, :3, :3].copy(), edges, rows_kept, excluded)


def _check_row(path: Path, i: int, row: Any, n: int) -> None:
    """Check the fields of the object ``i`` of ``n``."""
    if not isinstance(row, dict):
        raise InputError(f"{path}: entry {i} must be an object, got {type(row).__name__}")
    for field in ("image_id", "pose", "included", "unobstructed"):
        if field not in row:
            raise InputError(f"{path}: entry {i} must have the field {field!r}, it has {', '.join(sorted(row))}")
    if not isinstance(row["image_id"], str) or not is_name(row["image_id"]):
        raise InputError(
            f"{path}: image_id of entry {i} must be a non-empty string, got {row['image_id']!r:.80}; "
            f"it names files, so that it must have at most {MAX_NAME_CHARS} printable characters without slashes"
        )
    name = row["image_id"]
    if not isinstance(row["included"], bool):
        raise InputError(f"{path}: included of {name} must be true or false, got {row['included']!r:.80}")
    pose = row["pose"]
    if not isinstance(pose, list) or len(pose) != 16 or not all(type(x) is float or is_finite(x) for x in pose):
        found = f"{len(pose)} entries" if isinstance(pose, list) else f"{pose!r:.80}"
        raise InputError(f"{path}: pose of {name} must be 16 numbers (row-major 4x4), got {found}")
    flags = row["unobstructed"]
    if not isinstance(flags, list) or len(flags) != n or not all(isinstance(x, bool) for x in flags):
        found = f"{len(flags)} entries" if isinstance(flags, list) else f"{flags!r:.80}"
        raise InputError(f"{path}: unobstructed of {name} must be {n} booleans, one per viewpoint, got {found}")


def _check_poses(path: Path, ids: list[str], pose: np.ndarray) -> None:
    """Check that every pose is finite with a proper rotation (orthonormal within 1e-3, determinant +1)."""
    finite = (np.abs(pose) <= MAX_COORDINATE_M).all((1, 2))  # NaN is not
    rotation = np.where(finite[:, None, None], pose[:, :3, :3], 0)
    orthonormal = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max((1, 2), initial=0) < 1e-3
    proper = orthonormal & (np.linalg.det(rotation) > 0)
    bad = np.nonzero(~(finite & proper))[0]
    if bad.size:
        raise InputError(
            f"{path}: pose of {ids[bad[0]]} must be finite with a proper rotation (orthonormal, determinant +1) and "
            f"within {MAX_COORDINATE_M:g} m, got {pose[bad[0], :3].round(3).tolist()} ({bad.size} such viewpoints)"
        )


def _check_edges(path: Path, ids: list[str], edges: np.ndarray) -> None:
    """Check that transitions between included viewpoints are symmetric and never to oneself."""
    one_way = np.argwhere(edges != edges.T)
    if one_way.size:
        i, j = one_way[0]
        raise InputError(
            f"{path}: unobstructed must be symmetric between included viewpoints, but {ids[i]} -> {ids[j]} is "
            f"{bool(edges[i, j])} and back is {bool(edges[j, i])}"
        )
    if edges.diagonal().any():
        own = ids[int(np.nonzero(edges.diagonal())[0][0])]
        raise InputError(f"{path}: unobstructed of {own} must be false for itself, got true")
