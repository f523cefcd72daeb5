"""The navigation world with candidates and moves taken from a MatterSim module, the real one where it is built.

For those who want the reference in the loop, and for finding out whether our tables and a simulator agree. It
sweeps the 36 views of every viewpoint once, as EnvDrop does, and drives every move action by action: slow.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vln_clip.connectivity import NavTables
from vln_clip.envs.navigation import Bank, Navigation, direction_features
from vln_clip.errors import InputError
from vln_clip.records import (
    NUM_HEADINGS,
    NUM_VIEWS,
    VIEW_HEIGHT_PX,
    VIEW_VFOV_RAD,
    VIEW_WIDTH_PX,
    view_elevation_rad,
    view_heading_rad,
)
from vln_clip.sources.table import SIMULATOR_REPOSITORY

TOLERANCE_RAD = 1e-6  # the simulator's horizontal angles are float32
TOLERANCE_M = 1e-4  # and so are its positions


class SimulatorMismatchError(InputError):
    """A simulator and our tables disagree; the message names the first difference."""


def import_simulator() -> ModuleType:
    """Import the module ``MatterSim``.

    Raises:
        InputError: it cannot be imported here.
    """
    try:
        return importlib.import_module("MatterSim")
    except ImportError as error:
        raise InputError(
            "--simulator mattersim and --cross-check need the module MatterSim, which can't be imported here "
            f"({error}); build {SIMULATOR_REPOSITORY} for this Python and put its "
            "build folder on PYTHONPATH, or leave them out: the compiled tables give the same states"
        ) from None


class Seen(NamedTuple):
    """A neighbor in the view that shows it best: absolute bearing and elevation, distance."""

    view: int
    bearing_rad: float
    elevation_rad: float
    distance_m: float


class Driver:
    """One agent in a MatterSim module of either generation, discretised and without pictures.

    Args:
        module: with the class ``Simulator``.
        graphs: folder of the connectivity files.
    """

    def __init__(self, module: ModuleType, graphs: Path) -> None:
        self.sim = module.Simulator()
        self.sim.setNavGraphPath(str(graphs))
        self.sim.setRenderingEnabled(False)
        self.sim.setDiscretizedViewingAngles(True)
        self.sim.setCameraResolution(VIEW_WIDTH_PX, VIEW_HEIGHT_PX)
        self.sim.setCameraVFOV(VIEW_VFOV_RAD)
        self.batched = hasattr(self.sim, "initialize")
        if self.batched:
            self.sim.setBatchSize(1)
            self.sim.initialize()
        else:
            self.sim.init()

    def place(self, scan: str, viewpoint_id: str, view: int) -> Any:
        """Start at a pose and return the state."""
        start = (scan, viewpoint_id, view_heading_rad(view), view_elevation_rad(view))
        try:
            self.sim.newEpisode(*([x] for x in start)) if self.batched else self.sim.newEpisode(*start)
        except (ValueError, IndexError, RuntimeError) as error:
            raise SimulatorMismatchError(
                f"scan {scan}, {viewpoint_id}: the simulator does not start there ({error}); does it read the same "
                "connectivity folder?"
            ) from None
        return self._state()

    def act(self, index: int, right: int = 0, up: int = 0) -> Any:
        """Move to a location, turn and tilt by one step or none, and return the state."""
        action = (index, float(right), float(up))
        self.sim.makeAction(*([x] for x in action)) if self.batched else self.sim.makeAction(*action)
        return self._state()

    def _state(self) -> Any:
        return self.sim.getState()[0] if self.batched else self.sim.getState()

    def sweep(self, scan: str, viewpoint_id: str) -> dict[str, Seen]:
        """Look along all views; return how each neighbor is seen, in EnvDrop's order."""
        state = self.place(scan, viewpoint_id, 0)
        found: dict[str, Seen] = {}
        nearest: dict[str, float] = {}
        for view in range(NUM_VIEWS):
            if view:
                state = self.act(0, right=1, up=int(view % NUM_HEADINGS == 0))
            for location in state.navigableLocations[1:]:
                angle = np.hypot(location.rel_heading, location.rel_elevation)
                name = location.viewpointId
                if angle < nearest.get(name, np.inf):
                    nearest[name] = angle
                    bearing, elevation = state.heading + location.rel_heading, state.elevation + location.rel_elevation
                    found[name] = Seen(state.viewIndex, bearing, elevation, location.rel_distance)
        return found

    def go(self, scan: str, viewpoint_id: str, view: int, target: str, target_view: int) -> Any:
        """Tilt, turn right and move to a neighbor; return the state. None where the neighbor is not listed there."""
        state = self.place(scan, viewpoint_id, view)
        tilts = target_view // NUM_HEADINGS - state.viewIndex // NUM_HEADINGS
        for _ in range(abs(tilts)):
            state = self.act(0, up=1 if tilts > 0 else -1)
        for _ in range((target_view - state.viewIndex) % NUM_HEADINGS):
            state = self.act(0, right=1)
        if state.viewIndex != target_view:
            raise SimulatorMismatchError(
                f"scan {scan}, {viewpoint_id}: tilting and turning from view {view} to {target_view} ends at view "
                f"{state.viewIndex} of the simulator"
            )
        names = [location.viewpointId for location in state.navigableLocations]
        return self.act(names.index(target)) if target in names[1:] else None


class SimulatedNavigation(Navigation):
    """The navigation world as a simulator shows it.

    Args:
        driver: the simulator.
        tables: indices and distances; candidates come from the simulator.
        bank: features aligned with the tables' viewpoints.
        device: where tensors live.
        cross_check: compare every viewpoint and every move with the tables.
        rewards: as for ``Navigation``.

    Raises:
        SimulatorMismatchError: (when stepped or observed, with ``cross_check``) at the first difference.
    """

    def __init__(
        self,
        driver: Driver,
        tables: NavTables,
        bank: Bank,
        device: torch.device | str = "cpu",
        *,
        cross_check: bool = False,
        **rewards: float,
    ) -> None:
        super().__init__(tables, bank, device, **rewards)
        self.driver, self.cross_check = driver, cross_check
        self.num_swept = self.num_moves = 0
        # New tensors: those of ``Navigation`` share their memory with the tables.
        self.degree, self.candidate_view = torch.zeros_like(self.degree), torch.zeros_like(self.candidate_view)
        self.neighbor = torch.full_like(self.neighbor, -1)
        self.directions = torch.zeros_like(self.directions)
        self._swept = torch.zeros(len(tables.keys), dtype=torch.bool, device=self.device)

    def observe(self, viewpoint: Tensor, view: Tensor) -> Any:  # noqa: D102
        self._sweep(viewpoint)
        return super().observe(viewpoint, view)

    def towards(self, viewpoint: Tensor, neighbor: Tensor) -> Tensor:  # noqa: D102
        self._sweep(viewpoint)
        return super().towards(viewpoint, neighbor)

    def num_actions(self, view: Tensor, viewpoint: Tensor, action: Tensor) -> Tensor:  # noqa: D102
        self._sweep(viewpoint)
        return super().num_actions(view, viewpoint, action)

    def step(self, viewpoint: Tensor, view: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Move along candidate ``action`` (B,) in the simulator; see ``Navigation.step``."""
        self._sweep(viewpoint)
        expected = super().step(viewpoint, view, action)
        new_viewpoint, new_view = viewpoint.clone(), view.clone()
        for b in (action < self.degree[viewpoint]).nonzero().squeeze(1).tolist():
            here, looking, chosen = int(viewpoint[b]), int(view[b]), int(action[b])
            (scan, name), (_, target) = self.tables.keys[here], self.tables.keys[int(self.neighbor[here, chosen])]
            sub_actions = int(super().num_actions(view[b : b + 1], viewpoint[b : b + 1], action[b : b + 1]))
            state = self.driver.go(scan, name, looking, target, int(self.candidate_view[here, chosen]))
            self.num_moves += 1
            if state is None:
                raise SimulatorMismatchError(
                    f"scan {scan}, {name}: {target} is not navigable from the view that shows it"
                )
            new_viewpoint[b] = self.tables.index(scan, state.location.viewpointId)
            new_view[b] = state.viewIndex
            if self.cross_check:
                found = (int(new_viewpoint[b]), state.viewIndex, state.step)
                ours = (int(expected[0][b]), int(expected[1][b]), sub_actions)
                self._compare(f"scan {scan}, {name}, view {looking}, to {target}: place, view, actions", ours, found)
        return new_viewpoint, new_view

    def _sweep(self, viewpoint: Tensor) -> None:
        """Ask the simulator for the candidates of viewpoints that are new, (B,)."""
        for here in viewpoint[~self._swept[viewpoint]].unique().tolist():
            scan, name = self.tables.keys[here]
            found = self.driver.sweep(scan, name)
            if self.cross_check:
                self._compare_candidates(here, found)
            self._enter(here, found)
            self._swept[here] = True
            self.num_swept += 1

    def _enter(self, here: int, found: dict[str, Seen]) -> None:
        """Enter what the simulator showed at a viewpoint into the tables of this world."""
        (scan, name), count, most = self.tables.keys[here], len(found), self.neighbor.shape[1]
        if count > most:
            raise SimulatorMismatchError(
                f"scan {scan}, {name}: the simulator lists {count} neighbors, the tables at most {most}"
            )
        self.degree[here] = count
        if count == 0:
            return
        columns = zip(*found.values(), strict=True)
        shown, bearing, elevation, _ = (torch.tensor(column, device=self.device) for column in columns)
        self.neighbor[here, :count] = torch.tensor([self.tables.index(scan, other) for other in found])
        self.candidate_view[here, :count] = shown
        self.directions[here, :count] = direction_features(bearing.double(), elevation.double())

    def _compare_candidates(self, here: int, found: dict[str, Seen]) -> None:
        """Compare a sweep with the compiled row of a viewpoint."""
        tables, (scan, name) = self.tables, self.tables.keys[here]
        count = int(tables.degree[here])
        ours = [tables.viewpoint_ids[i] for i in tables.neighbor[here, :count]]
        self._compare(f"scan {scan}, {name}: neighbors in order", ours, list(found))
        for k, (other, seen) in enumerate(found.items()):
            where = f"scan {scan}, {name} to {other}"
            self._compare(f"{where}: best view", int(tables.view[here, k]), seen.view)
            turn = float(np.angle(np.exp(1j * (tables.bearing_rad[here, k] - seen.bearing_rad))))
            tilt = float(tables.elevation_rad[here, k]) - seen.elevation_rad
            toward = tables.position[tables.neighbor[here, k]] - tables.position[here]
            farther_m = float(np.linalg.norm(toward)) - seen.distance_m
            for kind, off, unit in (("bearing", turn, "rad"), ("elevation", tilt, "rad"), ("distance", farther_m, "m")):
                if abs(off) > (TOLERANCE_RAD if unit == "rad" else TOLERANCE_M):
                    raise SimulatorMismatchError(f"{where}: {kind} differs by {off:.2e} {unit}")

    @staticmethod
    def _compare(what: str, ours: object, found: object) -> None:
        if ours != found:
            raise SimulatorMismatchError(f"first difference, {what}: the tables say {ours}, the simulator {found}")
