"""Where first person views come from: skyboxes of a data folder by global viewpoint."""

import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from torch import Tensor

from vln_clip.connectivity import NavTables
from vln_clip.connectivity.graphs import graph_path, load_graph
from vln_clip.envs.skybox import load_skybox

_CACHED = 3  # a move shows two; faces of 1024 pixels take 19 MB


class Skyboxes:
    """Reads faces and camera rotations; the faces of the viewpoints seen last stay in memory.

    Args:
        data: data folder with ``scans`` and ``connectivity``.
        tables: graphs of that folder.
    """

    def __init__(self, data: Path, tables: NavTables) -> None:
        self.data, self.tables = data, tables
        self.faces = functools.lru_cache(_CACHED)(self._faces)
        self._scan_rotations = functools.cache(self._load_rotations)

    def lacking(self, viewpoints: Iterable[int]) -> list[str]:
        """Return the ids of those viewpoints that have no skybox file."""
        return [self.tables.viewpoint_ids[v] for v in dict.fromkeys(viewpoints) if not self._has(v)]

    def rotation(self, viewpoint: int) -> np.ndarray:
        """Return the rotation of a viewpoint's skybox, (3, 3), camera to world."""
        scan, viewpoint_id = self.tables.keys[viewpoint]
        return self._scan_rotations(scan)[viewpoint_id]

    def _has(self, viewpoint: int) -> bool:
        folder, viewpoint_id = self._place(viewpoint)
        return any((folder / f"{viewpoint_id}_skybox{kind}.jpg").is_file() for kind in ("0_sami", "_small"))

    def _faces(self, viewpoint: int) -> Tensor:
        """Load the six faces, (6, S, S, 3) uint8; a damaged file is an ``InputError``."""
        return load_skybox(*self._place(viewpoint))

    def _place(self, viewpoint: int) -> tuple[Path, str]:
        scan, viewpoint_id = self.tables.keys[viewpoint]
        return self.data / "scans" / scan / "matterport_skybox_images", viewpoint_id

    def _load_rotations(self, scan: str) -> dict[str, np.ndarray]:
        graph = load_graph(graph_path(self.data / "connectivity", scan), scan)
        return dict(zip(graph.viewpoint_ids, graph.rotation, strict=True))
