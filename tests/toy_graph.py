"""A graph small enough to score by hand: one house on a line, a room apart in it, and a second house.

house: a -1 m- b -2 m- c -3 m- d, and z without a door; other: a -1 m- b.
"""

import numpy as np
from scipy.sparse.csgraph import shortest_path

from vln_clip.errors import InputError

KEYS = [("house", name) for name in "abcdz"] + [("other", name) for name in "ab"]
# Along +y, cameras 1.5 m above the floor; z lies 3 m above c, on the next floor.
POSITIONS_M = [(0, 0, 1.5), (0, 1, 1.5), (0, 3, 1.5), (0, 6, 1.5), (0, 3, 4.5), (0, 0, 1.5), (0, 1, 1.5)]
EDGES_M = {(0, 1): 1.0, (1, 2): 2.0, (2, 3): 3.0, (5, 6): 1.0}


class ToyGraph:
    def __init__(self) -> None:
        weights = np.zeros((len(KEYS), len(KEYS)))
        for (a, b), length_m in EDGES_M.items():
            weights[a, b] = weights[b, a] = length_m
        self.edges = weights > 0
        self.distances_m, self.previous = shortest_path(weights, return_predecessors=True)

    def index(self, scan: str, viewpoint_id: str) -> int:
        if (scan, viewpoint_id) not in KEYS:
            raise InputError(f"scan {scan} has no viewpoint {viewpoint_id}")
        return KEYS.index((scan, viewpoint_id))

    def viewpoint_id(self, index: int) -> str:
        return KEYS[index][1]

    def distance_m(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return self.distances_m[a, b]

    def is_edge(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return self.edges[a, b]

    def shortest_path(self, a: int, b: int) -> list[int]:
        path = [b]
        while path[0] != a:
            path.insert(0, int(self.previous[a, path[0]]))
        return path

    def viewpoints(self, scan: str) -> np.ndarray:
        if scan not in ("house", "other"):
            raise InputError(f"unknown scan {scan}")
        return np.array([index for index, key in enumerate(KEYS) if key[0] == scan])

    def position_m(self, index: np.ndarray) -> np.ndarray:
        return np.array(POSITIONS_M, np.float64)[index]
