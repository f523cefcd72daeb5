"""What tasks need of a navigation graph; ``vln_clip.connectivity.NavTables`` provides it.

Tasks never import the graph's own package, so scoring and loading work with anything that has these methods.
"""

from typing import Protocol

import numpy as np


class Graph(Protocol):
    """Viewpoints of the loaded scans as global integers, with distances in metres along the graph."""

    def index(self, scan: str, viewpoint_id: str) -> int:
        """Return the global index of a viewpoint; ``InputError`` where scan or viewpoint is unknown."""

    def viewpoint_id(self, index: int) -> str:
        """Return the viewpoint id behind a global index."""

    def distance_m(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return graph distances of index arrays that broadcast; inf where there is no way."""

    def is_edge(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return whether two viewpoints are neighbours, as a boolean array."""

    def shortest_path(self, a: int, b: int) -> list[int]:
        """Return the viewpoints of the shortest path from ``a`` to ``b``, both included."""

    def viewpoints(self, scan: str) -> np.ndarray:
        """Return the global indices of a scan's viewpoints, (n,); ``InputError`` where the scan is unknown."""

    def position_m(self, index: np.ndarray) -> np.ndarray:
        """Return camera positions in Matterport's frame, (…, 3), of an array of global indices."""
