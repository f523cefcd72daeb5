"""Traces of one episode laid out on the floors of their building: what maps draw."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vln_clip.connectivity import NavTables
from vln_clip.envs.building.map import find_floors, heights_text
from vln_clip.records import SUCCESS_RADIUS_M
from vln_clip.viewer.traces import Trace

_MARGIN_M, _LEAST_M, _BAND = 1.3, 8.0, 0.07


@dataclass(frozen=True, eq=False)
class Walks:
    """Traces of one episode laid out on the floors of their building.

    Attributes:
        traces: one per agent, all of one episode.
        graph: holds the episode's building.
        names: of all agents of a document, so that each keeps its color where another has no walk; by default those
            of the traces.
    """

    traces: Sequence[Trace]
    graph: NavTables
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        ids = {trace.episode.instr_id for trace in self.traces}
        if len(ids) != 1:
            raise ValueError(f"traces must be of one episode, got {sorted(ids)}")

    @property
    def numbers(self) -> list[int]:
        """Return the number of the agent of each trace, which stands for its color, line and mark."""
        if not self.names:
            return list(range(len(self.traces)))
        return [self.names.index(trace.agent) for trace in self.traces]

    @property
    def scan(self) -> str:
        """Return the building."""
        return self.traces[0].episode.scan

    @cached_property
    def members(self) -> np.ndarray:
        """Return the global viewpoints of the building, (n,)."""
        return self.graph.viewpoints(self.scan)

    @cached_property
    def floor(self) -> dict[int, int]:
        """Return the floor of every viewpoint of the building, 0 the lowest."""
        floors = find_floors(self.graph.position[self.members, 2])
        return dict(zip(self.members.tolist(), floors.tolist(), strict=True))

    @cached_property
    def reference(self) -> np.ndarray:
        """Return the reference path, (R,); empty where the goal is hidden."""
        path = self.traces[0].episode.path or ()
        return np.array([self.graph.index(self.scan, viewpoint) for viewpoint in path], dtype=np.int64)

    @cached_property
    def touched(self) -> np.ndarray:
        """Return the viewpoints of walks and reference."""
        return np.unique(np.concatenate([self.reference, *(trace.viewpoints for trace in self.traces)]))

    @cached_property
    def floors(self) -> list[int]:
        """Return the floors that are drawn: those that walks or reference touch, the lowest first."""
        return sorted({self.floor[viewpoint] for viewpoint in self.touched.tolist()})

    @cached_property
    def window(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and largest x and y that are drawn, (2,) each, the same on all floors."""
        place = self.graph.position[self.touched, :2]
        low, high = place.min(0), place.max(0)
        if len(self.reference):
            goal = self.graph.position[self.reference[-1], :2]
            low, high = np.minimum(low, goal - SUCCESS_RADIUS_M), np.maximum(high, goal + SUCCESS_RADIUS_M)
        low, high = low - _MARGIN_M, high + _MARGIN_M
        lacking = np.maximum(_LEAST_M - (high - low), 0) / 2
        low, high = low - lacking, high + lacking
        low[1] -= _BAND * (high - low).max()  # a free band for scale bar and north arrow
        return low, high


def floor_title(walks: Walks, floor: int) -> str:
    """Say which floor it is and how high; an empty text where the building has one floor."""
    here = [viewpoint for viewpoint, level in walks.floor.items() if level == floor]
    if len(here) == len(walks.floor):
        return ""
    return f"floor {floor + 1}: {heights_text(walks.graph.position[here, 2])}"
