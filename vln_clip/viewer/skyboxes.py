"""Where first person views come from: faces and rotations of skyboxes by global viewpoint."""

import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from torch import Tensor

from vln_clip.connectivity import NavTables
from vln_clip.features.extraction import Panorama
from vln_clip.viewer.faces import load_faces
from vln_clip.viewer.panoramas import SkyboxFinder

_CACHED = 3  # a move shows two; faces of 1024 pixels take 19 MB


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
