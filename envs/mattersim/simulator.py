"""The simulator of the MatterSim API: episodes, actions, states."""

import contextlib
import copy
import math
import operator
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vln_clip.connectivity.graphs import read_scans
from vln_clip.envs.mattersim.camera import Camera
from vln_clip.envs.mattersim.settings import Settings
from vln_clip.envs.mattersim.state import SimState
from vln_clip.envs.mattersim.visibility import HEADINGS_RAD, LEVELS_RAD, Scan, find_scan, find_sweep
from vln_clip.errors import InputError, unknown_name
from vln_clip.paths import data_dir
from vln_clip.records import ELEVATION_STEP_RAD, HEADING_STEP_RAD, NUM_HEADINGS

TURN_RAD = 2 * math.pi
# newRandomEpisode draws its heading from an engine that is seeded anew at every call: it is always this one.
RANDOM_HEADING_RAD = 0.8264762952590881


class Simulator(Settings):
    """One simulator for a batch of agents; see the package for the two generations of its API."""

    def __init__(self) -> None:
        super().__init__()
        self._states: list[SimState] = []
        self._camera: Camera | None = None
        self.resetTimers()

    def _field_of_view(self, setter: str) -> None:
        super()._field_of_view(setter)
        for state in self._states:
            if state._scan is not None:
                state._sweep = find_sweep(state._scan, self._min_cos)

    def initialize(self) -> None:
        """Begin, with the batched API."""
        self._begin("batch")

    def init(self) -> None:
        """Begin, with the older API of one agent."""
        self._begin("single")

    def _begin(self, generation: str) -> None:
        if self._generation is not None:
            return
        old = generation == "single"
        if old:
            self._batch_size = 1
        if self._rendering:
            size = None if self._preloading else max(1, self._cache_size)
            folder = self._dataset or _first(Path("data/v1/scans"), data_dir() / "scans", data_dir() / "v1/scans")
            self._camera = Camera(
                folder, self._width, self._height, self._vfov, size, self._depth, "faces" if old else "strip"
            )
        blank = None if old and not self._rendering else np.zeros((self._height, self._width, 3), np.uint8)
        flat = None if blank is None else np.zeros((self._height, self._width), np.uint16)
        self._states = [SimState(blank, flat) for _ in range(self._batch_size)]
        graphs = self._nav_graph or _first(Path("connectivity/scans.txt"), data_dir() / "connectivity/scans.txt").parent
        self._graphs = graphs
        self._random = random.Random(self._seed)
        self._scan_names: frozenset[str] | None = None
        self._field_of_view("")
        self._generation = generation

    def close(self) -> None:
        """End; settings count again, and the simulator may be initialised anew."""
        self._generation, self._states, self._camera = None, [], None

    def resetTimers(self) -> None:
        """Forget the times that ``timingInfo`` tells."""
        self._num_actions, self._elapsed_s = 0, 0.0

    def timingInfo(self) -> str:
        """Return how many actions were taken and how long they took."""
        return f"{self._num_actions} actions in {self._elapsed_s:.3f} s"

    def newEpisode(self, scanId: Any, viewpointId: Any = None, heading: Any = 0.0, elevation: Any = 0.0) -> None:
        """Start at a pose; lists of the batch's size, or one of each in the older API.

        Args:
            scanId: building.
            viewpointId: start; empty or absent in the older API: a random one.
            heading: radians; snapped to 30 degrees in the discretised simulator.
            elevation: radians; likewise, else clamped to the limits.

        Raises:
            ValueError: unknown or excluded viewpoint, missing files.
            IndexError: unknown building or too short a list (batched API).
            TypeError: no list (batched API).
        """
        if self._generation is None:
            self._begin("single" if isinstance(scanId, str) else "batch")
        if self._generation == "single":
            if not isinstance(scanId, str):
                raise TypeError(f"newEpisode takes one scanId after init(), got {type(scanId).__name__}")
            columns: list[Sequence[Any]] = [[scanId], [viewpointId or ""], [heading], [elevation]]
        else:
            names = ("scanId", "viewpointId", "heading", "elevation")
            given = (scanId, viewpointId, heading, elevation)
            columns = [_as_list(column, name, self._batch_size) for column, name in zip(given, names, strict=True)]
        starts = []
        for name, viewpoint_id, turn, tilt in list(zip(*columns, strict=False))[: self._batch_size]:
            scan = self._find_scan(name)
            place = self._find_viewpoint(scan, name, viewpoint_id)
            starts.append((scan, place, _number(turn, "heading"), _number(tilt, "elevation")))
        with self._all_or_none():
            for state, start in zip(self._states, starts, strict=True):
                self._start(state, *start)

    def newRandomEpisode(self, scanId: Any) -> None:
        """Start at a random viewpoint, always with the same heading, as the simulator does."""
        if self._generation is None:
            self._begin("single" if isinstance(scanId, str) else "batch")
        names = [scanId] if self._generation == "single" else _as_list(scanId, "scanId", self._batch_size)
        scans = [self._find_scan(name) for name in names[: self._batch_size]]
        places = [self._find_viewpoint(scan, scan.graph.scan, "") for scan in scans]
        with self._all_or_none():
            for state, scan, place in zip(self._states, scans, places, strict=True):
                self._start(state, scan, place, RANDOM_HEADING_RAD, 0.0)

    def _find_scan(self, name: str) -> Scan:
        if self._generation == "batch":
            if not isinstance(name, str):
                raise TypeError(f"scanId must be a list of strings, got one of {type(name).__name__}")
            if self._scan_names is None:
                self._scan_names = frozenset(read_scans(self._graphs))
            if name not in self._scan_names:
                raise IndexError(str(unknown_name("scan", name, sorted(self._scan_names))))
        return find_scan(self._graphs, name)

    def _find_viewpoint(self, scan: Scan, name: str, viewpoint_id: str) -> int:
        if not scan.ids:
            raise RuntimeError(f"scan {name} has no viewpoint to start at: all are excluded")
        if viewpoint_id == "":
            return self._random.randrange(len(scan.ids))
        if not isinstance(viewpoint_id, str):
            raise TypeError(f"viewpointId must be a string, got {type(viewpoint_id).__name__}")
        if viewpoint_id in scan.graph.excluded_ids:
            raise InputError(f"viewpoint {viewpoint_id} is excluded from the connectivity graph of scan {name}")
        if viewpoint_id not in scan.row:
            raise InputError(f"Could not find viewpointId {viewpoint_id}: scan {name} has no such viewpoint")
        return scan.row[viewpoint_id]

    def _start(self, state: SimState, scan: Scan, place: int, heading: float, elevation: float) -> None:
        state.scanId, state.step = scan.graph.scan, 0
        state._scan, state._place = scan, place
        heading = _wrap(heading)
        if self._discretized:
            state._sweep = find_sweep(scan, self._min_cos)
            state._turn, state._level = _snap_heading(heading), _snap_elevation(elevation)
        else:
            state.heading, state.elevation = heading, self._clamp(elevation)
        self._look(state)

    def _clamp(self, elevation: float) -> float:
        return max(self._min_elevation, min(self._max_elevation, elevation))

    def getState(self) -> Any:
        """Return the live states of the batch, or a copy of the one state in the older API."""
        if self._generation == "batch":
            return list(self._states)
        return copy.copy(self._states[0]) if self._states else SimState(None, None)

    def makeAction(self, index: Any, heading: Any, elevation: Any) -> None:
        """Move to a navigable location, then turn and tilt; lists of the batch's size, or one of each.

        Args:
            index: of the current ``navigableLocations``; 0 stays.
            heading: radians to the right; only the sign counts in the discretised simulator.
            elevation: radians upwards; likewise.

        Raises:
            ValueError: no such location; nobody has moved.
            IndexError: too short a list (batched API).
            TypeError: no list or a negative index (batched API).
            RuntimeError: no episode was begun.
        """
        started_s = time.perf_counter()
        if self._generation is None or (self._generation == "single" and self._states[0].location is None):
            raise RuntimeError("newEpisode must be called before makeAction")
        if self._generation == "single":
            index, heading, elevation = (index,), (heading,), (elevation,)
        else:
            index = _as_list(index, "index", self._batch_size)
            heading = _as_list(heading, "heading", self._batch_size)
            elevation = _as_list(elevation, "elevation", self._batch_size)
        for k, state in enumerate(self._states):
            if not 0 <= operator.index(index[k]) < len(state._locations):
                self._refuse(index[k], k)
        _check_angles(heading, elevation)
        act = self._step if self._discretized else self._move
        moves = zip(self._states, index, heading, elevation, strict=False)  # surplus entries are left alone
        if self._camera is None:
            for move in moves:
                act(*move)
        else:
            with self._pictures_or_nothing():
                for move in moves:
                    act(*move)
        self._num_actions += len(self._states)
        self._elapsed_s += time.perf_counter() - started_s

    @contextlib.contextmanager
    def _pictures_or_nothing(self) -> Iterator[None]:
        """Put every state back where a picture that is missing or damaged stops one of the batch."""
        before = [copy.copy(state) for state in self._states]
        try:
            yield
        except InputError:
            for state, old in zip(self._states, before, strict=True):
                state.become(old)
            raise

    def _all_or_none(self) -> contextlib.AbstractContextManager[None]:
        """Guard an action of the batch; without pictures nothing can go wrong on the way."""
        return contextlib.nullcontext() if self._camera is None else self._pictures_or_nothing()

    def _refuse(self, index: int, k: int) -> None:
        """Raise what an index raises that is none of the navigable locations."""
        if index < 0 and self._generation == "batch":
            raise TypeError(f"index must be a list of integers from 0 on, got {index} in environment {k}")
        count = len(self._states[k]._locations)
        raise ValueError(
            f"Invalid action index: {index} in environment {k} of {self._batch_size}, which has {count} locations"
        )

    def _step(self, state: SimState, index: int, heading: float, elevation: float) -> None:
        """Act in the discretised simulator."""
        if index:
            state._place = state._scan.row[state._locations[index].viewpointId]
        state.step += 1
        if heading:
            state._turn = (state._turn + (1 if heading > 0 else -1)) % NUM_HEADINGS
        if elevation:
            state._level = max(0, min(2, state._level + (1 if elevation > 0 else -1)))
        self._look(state)

    def _move(self, state: SimState, index: int, heading: float, elevation: float) -> None:
        """Act in the continuous simulator."""
        state._place = state._scan.row[state._locations[index].viewpointId]
        state.step += 1
        state.heading = _wrap(state.heading + float(heading))
        state.elevation = self._clamp(state.elevation + float(elevation))
        self._look(state)

    def _look(self, state: SimState) -> None:
        """Bring a state up to date with its pose."""
        if self._discretized:
            view = state._level * NUM_HEADINGS + state._turn
            state.viewIndex, state.heading, state.elevation = view, HEADINGS_RAD[state._turn], LEVELS_RAD[state._level]
            state._locations = state._sweep.locations(state._place, view)
        else:
            state._locations = state._scan.locations(state._place, state.heading, state.elevation, self._min_cos)
        state.location = state._locations[0]
        if self._camera is not None:
            rotation = state._scan.graph.rotation[state._place]
            viewpoint_id = state.location.viewpointId
            pose = (state.heading, state.elevation)
            state._rgb, depth = self._camera.shoot(state.scanId, viewpoint_id, rotation, *pose)
            if depth is not None:
                state._depth = depth


def _first(*paths: Path) -> Path:
    """Return the first path that exists; the first of all, for the message, where none does."""
    return next((path for path in paths if path.exists()), paths[0])


def _as_list(values: Any, name: str, count: int) -> Sequence[Any]:
    """Check an argument of the batched API; surplus entries are left alone."""
    if values.__class__ is not list:
        if isinstance(values, str | bytes) or not hasattr(values, "__getitem__") or not hasattr(values, "__len__"):
            raise TypeError(f"{name} must be a list with one entry per agent of the batch, got {values!r}")
        values = list(values)
    if len(values) < count:
        raise IndexError(f"{name} must have one entry for each of the {count} agents of the batch, got {len(values)}")
    return values


def _number(value: Any, name: str) -> float:
    """Check an angle: a finite number."""
    if value.__class__ is not float:
        if isinstance(value, str | bytes):
            raise TypeError(f"{name} must be a number, got {value!r}")
        value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    return value


def _check_angles(heading: Sequence[Any], elevation: Sequence[Any]) -> None:
    """Check that all are finite numbers. Their sum tells it at once; one by one only to name the wrong one."""
    try:
        if math.isfinite(sum(heading) + sum(elevation)):
            return
    except TypeError:
        pass
    for turn, tilt in zip(heading, elevation, strict=False):
        _number(turn, "heading")
        _number(tilt, "elevation")


def _wrap(heading: float) -> float:
    """Bring a heading into [0, 2π]; 2π itself only comes of rounding."""
    heading = math.fmod(heading, TURN_RAD)
    while heading < 0:
        heading += TURN_RAD
    return heading


def _snap_heading(heading: float) -> int:
    """Return the nearest step of 30 degrees of a wrapped heading; halves go up."""
    steps = heading / HEADING_STEP_RAD
    whole = math.floor(steps)
    return (whole + (steps - whole >= 0.5)) % NUM_HEADINGS


def _snap_elevation(elevation: float) -> int:
    """Return the level, 0 to 2; exactly 15 degrees is the horizon."""
    return 1 + (elevation > ELEVATION_STEP_RAD / 2) - (elevation < -ELEVATION_STEP_RAD / 2)
