"""What ``getState`` hands out."""

import copy
from typing import Any

import numpy as np

from vln_clip.envs.mattersim.visibility import Locations, ViewPoint


class SimState:
    """The state of one agent.

    Attributes:
        scanId: building.
        step: actions since the episode began.
        rgb: (H, W, 3) uint8, BGR; zeros where rendering is off (a ``TypeError`` in the older API, as there).
        depth: (H, W) uint16, 0.25 mm per unit, distance along the optical axis, 0 unknown; zeros where it is off.
        location: the current ``ViewPoint``.
        heading: radians, clockwise from +y, in [0, 2π].
        elevation: radians, up positive.
        viewIndex: 0..35 in the discretised simulator, else 0.
        navigableLocations: a new list of ``ViewPoint``; first the current one, then by angular distance.
    """

    __slots__ = (
        "_depth", "_level", "_locations", "_place", "_rgb", "_scan", "_sweep", "_turn",
        "elevation", "heading", "location", "scanId", "step", "viewIndex",
    )  # fmt: skip

    def __init__(self, rgb: np.ndarray | None, depth: np.ndarray | None) -> None:
        self.scanId, self.step, self.viewIndex = "", 0, 0
        self.heading = self.elevation = 0.0
        self.location: ViewPoint | None = None
        self._locations: Locations = ()
        self._rgb, self._depth = rgb, depth
        self._scan: Any = None
        self._sweep: Any = None
        self._place = self._turn = self._level = 0

    def __copy__(self) -> "SimState":
        """Return a state that later actions leave alone; without the detour of the copy protocol, six times faster."""
        other = object.__new__(SimState)
        other.scanId, other.step, other.viewIndex, other.location = (
            self.scanId,
            self.step,
            self.viewIndex,
            self.location,
        )
        other.heading, other.elevation, other._locations = self.heading, self.elevation, self._locations
        other._rgb, other._depth, other._scan, other._sweep = self._rgb, self._depth, self._scan, self._sweep
        other._place, other._turn, other._level = self._place, self._turn, self._level
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> "SimState":
        """Return a copy; what it refers to never changes."""
        return copy.copy(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what can be seen, not the building behind it."""
        return _rebuild, ({name: getattr(self, name) for name in self.__slots__ if name not in ("_scan", "_sweep")},)

    def become(self, other: "SimState") -> None:
        """Take over everything from another state."""
        for name in self.__slots__:
            setattr(self, name, getattr(other, name))

    @property
    def navigableLocations(self) -> list[ViewPoint]:
        """Return the current viewpoint and what can be moved to from this pose."""
        return list(self._locations)

    @property
    def rgb(self) -> np.ndarray:
        """Return the picture."""
        return self._picture(self._rgb)

    @property
    def depth(self) -> np.ndarray:
        """Return the depth picture."""
        return self._picture(self._depth)

    def _picture(self, picture: np.ndarray | None) -> np.ndarray:
        if picture is None:
            raise TypeError("there is no picture: rendering was switched off with setRenderingEnabled(False)")
        return picture


def _rebuild(values: dict[str, Any]) -> SimState:
    """Return a state of pickled values."""
    state = SimState(None, None)
    for name, value in values.items():
        setattr(state, name, value)
    return state
