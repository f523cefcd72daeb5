"""Checks a scan of a data folder: its graph, its poses and its skyboxes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from vln_clip.connectivity.graphs import ScanGraph, graph_path, load_graph, read_scans
from vln_clip.envs.render import load_skybox
from vln_clip.errors import InputError
from vln_clip.reading import read_json

_TILT_LIMIT = 0.5  # of the skybox's y axis from world -z, as a sine; Matterport3D's stay below 0.41
_NEAR_M = 0.05
_SHOWN = 5


@dataclass
class ScanReport:
    """What was found in a scan.

    Attributes:
        scan: id.
        graph: included viewpoints.
        problems: what keeps programs from working.
        notes: what is allowed but may be an oversight.
        face_px: edges of the skybox faces found.
    """

    scan: str
    graph: ScanGraph
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    face_px: set[int] = field(default_factory=set)

    def summary(self) -> str:
        """Return one line: viewpoints, edges and their lengths, components, skyboxes."""
        graph, edges = self.graph, self.graph.edges
        start, end = np.nonzero(np.triu(edges))
        lengths = np.linalg.norm(graph.position[start] - graph.position[end], axis=1)
        count = len(np.unique(graph.components()))
        text = f"{self.scan}: {len(graph.viewpoint_ids)} viewpoints, {len(lengths)} edges"
        if len(lengths):
            text += f" of {lengths.min():.2f} to {lengths.max():.2f} m (mean {lengths.mean():.2f})"
        text += f", at most {edges.sum(1).max(initial=0)} per viewpoint, {count} component{'s' if count > 1 else ''}"
        sizes = ", ".join(f"{px}x{px}" for px in sorted(self.face_px))
        return f"{text}, skybox faces {sizes}" if sizes else text


def skybox_folder(data: Path, scan: str) -> Path:
    """Return where a scan's skyboxes are, or would be: under ``scans`` or, where that is absent, ``v1/scans``."""
    folders = [data / root / scan / "matterport_skybox_images" for root in ("scans", "v1/scans")]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def check_scan(
    data: Path, scan: str, images: bool = True, workers: int = 1, on_progress: Callable[[int, int], None] | None = None
) -> ScanReport:
    """Check a scan.

    Args:
        data: folder with ``connectivity`` and ``scans``.
        scan: id.
        images: also read every skybox completely.
        workers: threads that read images.
        on_progress: called with (viewpoints read, viewpoints).

    Raises:
        InputError: the graph cannot be loaded at all; everything else is reported.
    """
    path = graph_path(data / "connectivity", scan)
    report = ScanReport(scan, load_graph(path, scan))
    _check_fields(report, cast(list[dict[str, Any]], read_json(path)))  # as load_graph has found
    if scan not in read_scans(data / "connectivity"):
        report.problems.append(f"scans.txt does not list {scan}, so no program reads it")
    report.notes += graph_notes(report.graph)
    if images:
        _check_skyboxes(report, skybox_folder(data, scan), workers, on_progress)
    return report


def graph_notes(graph: ScanGraph) -> list[str]:
    """Say what is unusual in a graph: viewpoints without an edge, components, viewpoints in one place, tilt."""
    notes, ids = [], graph.viewpoint_ids
    isolated = [ids[i] for i in np.nonzero(~graph.edges.any(axis=1))[0]]
    if isolated:
        notes.append(f"{len(isolated)} isolated viewpoints, which no path reaches: {_some(isolated)}")
    sizes = np.sort(np.bincount(graph.components()))[::-1]
    count = len(sizes)
    if count - len(isolated) > 1:
        parts = ", ".join(str(size) for size in sizes[sizes > 1])
        notes.append(f"disconnected: parts of {parts} viewpoints; no path leads from one to another")
    apart = np.linalg.norm(graph.position[:, None] - graph.position[None], axis=-1)
    close = [f"{ids[i]} and {ids[j]}" for i, j in np.argwhere(np.triu(apart < _NEAR_M, 1)).tolist()]
    if close:
        notes.append(f"{len(close)} pairs of viewpoints less than {100 * _NEAR_M:.0f} cm apart: {_some(close)}")
    tilted = [ids[i] for i in np.nonzero(np.hypot(*graph.rotation[:, :2, 1].T) > _TILT_LIMIT)[0]]
    if tilted:
        notes.append(f"{len(tilted)} skyboxes are not upright: {_some(tilted)}")
    return notes


def _check_fields(report: ScanReport, rows: list[dict[str, Any]]) -> None:
    """Check the two fields that the loader does not read, for programs that do."""
    wrong = []
    for row in rows:
        visible, height = row.get("visible"), row.get("height")
        flags = isinstance(visible, list) and len(visible) == len(rows) and all(isinstance(x, bool) for x in visible)
        if not flags:
            wrong.append(f"visible of {row['image_id']} must be {len(rows)} booleans")
        if isinstance(height, bool) or not isinstance(height, (int, float)):
            wrong.append(f"height of {row['image_id']} must be a number, got {height!r}")
    report.problems += [f"connectivity file: {_some(wrong)}"] if wrong else []


def _check_skyboxes(
    report: ScanReport, folder: Path, workers: int, on_progress: Callable[[int, int], None] | None
) -> None:
    """Read every skybox, and look for files of unknown viewpoints."""
    ids = report.graph.viewpoint_ids
    if not folder.is_dir():
        report.problems.append(f"no skyboxes: {folder} does not exist")
        return

    def read(viewpoint_id: str) -> int | str:
        try:
            return int(load_skybox(folder, viewpoint_id).shape[1])
        except InputError as error:
            return str(error)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        for count, found in enumerate(pool.map(read, ids), start=1):
            if isinstance(found, int):
                report.face_px.add(found)
            else:
                report.problems.append(found)
            if on_progress:
                on_progress(count, len(ids))
    known = set(ids)
    strange = sorted({file.name.partition("_skybox")[0] for file in folder.glob("*_skybox*.jpg")} - known)
    if strange:
        report.notes.append(f"skyboxes of {len(strange)} viewpoints that the graph doesn't include: {_some(strange)}")


def _some(names: list[str]) -> str:
    """Name a few of many."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
