"""Where panoramas and first person views come from: files, faces and rotations of skyboxes by global viewpoint."""

import functools
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from torch import Tensor

from vln_clip.connectivity import NavTables
from vln_clip.connectivity.graphs import graph_path, load_graph
from vln_clip.extract import find_skybox_folder, has_skybox
from vln_clip.features.extraction import Panorama
from vln_clip.viewer.faces import load_faces

_CACHED = 3  # a move shows two; faces of 1024 pixels take 19 MB


class SkyboxFinder:
    """Finds the skyboxes of viewpoints; a building's files are listed when it is first asked about.

    Args:
        data: data folder.
        tables: its graphs.
    """

    def __init__(self, data: Path, tables: NavTables) -> None:
        self.data, self.tables = data, tables
        self._known: dict[str, dict[int, Panorama]] = {}

    def find(self, viewpoint: int) -> Panorama | None:
        """Return where the skybox of a global viewpoint is and how it is turned, None where there is none."""
        scan = self.tables.scans[self.tables.scan_index[viewpoint]]
        if scan not in self._known:
            self._known[scan] = self._list(scan)
        return self._known[scan].get(viewpoint)

    def _list(self, scan: str) -> dict[int, Panorama]:
        """Return the viewpoints of a building that have a skybox."""
        folder = find_skybox_folder(self.data, scan)
        if folder is None:
            return {}
        names = {entry.name for entry in os.scandir(folder)}
        graph = load_graph(graph_path(self.data / "connectivity", scan), scan)
        return {
            self.tables.index(scan, viewpoint_id): Panorama(scan, viewpoint_id, folder, rotation)
            for viewpoint_id, rotation in zip(graph.viewpoint_ids, graph.rotation, strict=True)
            if has_skybox(viewpoint_id, names)
        }


class Skyboxes:
    """Reads skyboxes of a data folder; the faces of the viewpoints seen last stay in memory.

    Args:
        data: data folder.
        tables: graphs of that folder.
    """

    def __init__(self, data: Path, tables: NavTables) -> None:
        self.data, self.tables = data, tables
        self._finder = SkyboxFinder(data, tables)
        self.faces = functools.lru_cache(_CACHED)(self._faces)

    def lacking(self, viewpoints: Iterable[int]) -> list[str]:
        """Return the ids of those viewpoints that have no skybox."""
        unique = dict.fromkeys(viewpoints)
        return [self.tables.viewpoint_ids[v] for v in unique if self._finder.find(v) is None]

    def rotation(self, viewpoint: int) -> np.ndarray:
        """Return how a skybox is turned, (3, 3), camera to world."""
        return self._find(viewpoint).rotation

    def _faces(self, viewpoint: int) -> Tensor:
        """Load the six faces, (6, S, S, 3) uint8; a damaged file is an ``InputError``."""
        found = self._find(viewpoint)
        return load_faces(found.folder, found.viewpoint_id)

    def _find(self, viewpoint: int) -> Panorama:
        found = self._finder.find(viewpoint)
        assert found is not None, self.tables.viewpoint_ids[viewpoint]
        return found
