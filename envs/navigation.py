"""Batched navigation on index tensors: the discretised simulator's semantics without a simulator.

A place is ``(viewpoint, view)``. Every method works on whole batches, on the device of the tables.
"""

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vln_clip.connectivity import NavTables
from vln_clip.records import (
    ELEVATION_STEP_RAD,
    HEADING_STEP_RAD,
    NUM_HEADINGS,
    NUM_VIEWS,
    SUCCESS_RADIUS_M,
    Batch,
    Observation,
    Walk,
)

ANGLES = 4  # sin and cos of heading and elevation


class Bank(Protocol):
    """Features aligned with the tables; see ``vln_clip.features.FeatureBank``."""

    name: str
    width: int

    def views(self, index: Tensor) -> Tensor:
        """Return (B, V, D) features of viewpoints (B,)."""
        ...


def snap_view(heading_rad: Tensor) -> Tensor:
    """Return the view at the horizon that a start heading snaps to: half a step rounds away from zero, (B,)."""
    wrapped = torch.remainder(heading_rad.double(), 2 * math.pi)
    return NUM_HEADINGS + torch.floor(wrapped / HEADING_STEP_RAD + 0.5).long() % NUM_HEADINGS


class Navigation:
    """The navigation world on one device.

    Args:
        tables: compiled graphs.
        bank: features aligned with the tables' viewpoints.
        device: where everything lives.
        stop_reward: for stopping within 3 m of the goal, negative elsewhere.
        progress_reward: for a move that shortens the way, negative for one that lengthens it.
    """

    def __init__(
        self,
        tables: NavTables,
        bank: Bank,
        device: torch.device | str = "cpu",
        *,
        stop_reward: float = 2.0,
        progress_reward: float = 1.0,
    ) -> None:
        self.tables, self.bank, self.device = tables, bank, torch.device(device)
        self.stop_reward, self.progress_reward = stop_reward, progress_reward
        # A GPU shows as many columns as any viewpoint of the world has: to ask for fewer is to wait for it.
        self.all_columns = self.device.type != "cpu"

        def tensor(array: object, dtype: torch.dtype) -> Tensor:
            return torch.as_tensor(array, dtype=dtype, device=self.device)

        self.degree = tensor(tables.degree, torch.int64)
        self.neighbor = tensor(tables.neighbor, torch.int64)
        self.candidate_view = torch.nn.functional.pad(tensor(tables.view, torch.int64), (0, 1))  # stop: shows nothing
        self.scan = tensor(tables.scan_index, torch.int64)
        self.pair_row = tensor(tables.pair_row, torch.int64)
        self.pair_distance = tensor(tables.pair_distance_m, torch.float64)
        self.pair_next = tensor(tables.pair_next, torch.int32)
        view = torch.arange(NUM_VIEWS, device=self.device, dtype=torch.float64)
        heading = (view % NUM_HEADINGS) * HEADING_STEP_RAD
        elevation = (view.div(NUM_HEADINGS, rounding_mode="floor") - 1) * ELEVATION_STEP_RAD
        base = view[:NUM_HEADINGS, None] * HEADING_STEP_RAD
        self.own_angles = angle_features(heading, elevation)  # (36, 4)
        self.view_angles = angle_features(heading - base, elevation.expand(NUM_HEADINGS, -1))  # (12, 36, 4)
        self.directions = self._directions(tables.bearing_rad, tables.elevation_rad)
        self.turns = _turns().to(self.device)

    def _directions(self, bearing_rad: np.ndarray, elevation_rad: np.ndarray) -> Tensor:
        """Return sin and cos of bearing and elevation of the candidates, (N, K + 1, 4) float64; stop and padding 0."""
        angles = [
            torch.as_tensor(part, dtype=torch.float64, device=self.device) for part in (bearing_rad, elevation_rad)
        ]
        found = torch.nn.functional.pad(direction_features(*angles), (0, 0, 0, 1))
        columns = torch.arange(found.shape[1], device=self.device)
        return found.masked_fill_((columns >= self.degree[:, None])[..., None], 0)

    def observe(self, viewpoint: Tensor, view: Tensor) -> Observation:
        """Return what is seen from B places, viewpoint (B,) and view (B,)."""
        degree = self.degree[viewpoint]
        K = self.candidate_view.shape[1] if self.all_columns else int(degree.max()) + 1
        columns = torch.arange(K, device=self.device)
        base = view % NUM_HEADINGS
        views = self.bank.views(viewpoint)  # (B, V, D)
        directions = self.directions.index_select(0, viewpoint)[:, :K]  # (B, K, 4)
        return Observation(
            views,
            self.view_angles.index_select(0, base),
            self._shown(views, viewpoint, columns < degree[:, None]),
            relative_angles(directions, self.turns[base]),
            columns <= degree[:, None],
            degree,
            self.own_angles[view],
        )

    def _shown(self, views: Tensor, viewpoint: Tensor, move: Tensor) -> Tensor:
        """Return the features of the views (B, V, D) that show the candidates; zero where ``move`` (B, K) is False."""
        B, K = move.shape
        if views.shape[2] == 0:
            return views.new_zeros(B, K, 0)
        shown = self.candidate_view[viewpoint, :K]
        candidates = views[torch.arange(B, device=self.device)[:, None], shown]  # (B, K, D)
        return candidates.masked_fill_(~move[..., None], 0)

    def step(self, viewpoint: Tensor, view: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Move along candidate ``action`` (B,); stopping (the degree or more) stays. Return the new place.

        After a move the agent looks along the view that showed the candidate, as the simulator does.
        """
        moves = action < self.degree[viewpoint]
        column = torch.where(moves, action, 0)
        return (
            torch.where(moves, self.neighbor[viewpoint, column], viewpoint),
            torch.where(moves, self.candidate_view[viewpoint, column], view),
        )

    def distance_m(self, viewpoint: Tensor, goal: Tensor) -> Tensor:
        """Return shortest path lengths (B,) float64, inf where unreachable."""
        same = self.scan[viewpoint] == self.scan[goal]
        entry = torch.where(same, self.pair_row[viewpoint] + goal, 0)
        return self.pair_distance[entry].masked_fill(~same, torch.inf)

    def teacher(self, viewpoint: Tensor, goal: Tensor) -> Tensor:
        """Return the candidate on the shortest path to the goal (B,); the stop index at the goal.

        Raises:
            ValueError: a goal is hidden (-1) or unreachable: there is no teacher for test splits.
        """
        same = (self.scan[viewpoint] == self.scan[goal]) & (goal >= 0)
        hop = self.pair_next[torch.where(same, self.pair_row[viewpoint] + goal, 0)].masked_fill(~same, -1).long()
        if bool((hop < 0).any()):  # the only wait for the device here
            if bool((goal < 0).any()):
                raise ValueError("there is no teacher where the goal is hidden (test splits)")
            raise ValueError("the goal can't be reached from a viewpoint of the batch")
        return self._leading_to(viewpoint, hop)

    def guide(self, viewpoint: Tensor, path: Tensor, step: int) -> Tensor:
        """Return the candidate that follows an annotated path (B,); the stop index at its end.

        Args:
            viewpoint: (B,) where the walkers are: on the path, ``step`` hops from its start, or at its end.
            path: (B, R) viewpoints, padded at the end with -1.
            step: hops taken.

        Raises:
            ValueError: a walker has left its path; only walks that follow their teacher have a guide.
        """
        ahead = torch.nn.functional.pad(path[:, step : step + 2], (0, max(0, step + 2 - path.shape[1])), value=-1)
        if bool(((ahead[:, 0] >= 0) & (ahead[:, 0] != viewpoint)).any()):
            raise ValueError("a guide must only be asked on its own path; sampled walks have the shortest way back")
        return self.towards(viewpoint, torch.where(ahead[:, 1] < 0, viewpoint, ahead[:, 1]))

    def towards(self, viewpoint: Tensor, neighbor: Tensor) -> Tensor:
        """Return the candidate that leads to a neighbor (B,); the stop index where that is the viewpoint itself."""
        reached = (self.neighbor[viewpoint] == neighbor[:, None]).any(1) | (viewpoint == neighbor)
        assert bool(reached.all()), "only neighbors can be gone to"
        return self._leading_to(viewpoint, neighbor)

    def _leading_to(self, viewpoint: Tensor, neighbor: Tensor) -> Tensor:
        """Return the candidate that leads to a neighbor (B,) as ``towards`` does, without asking whether one does."""
        found = self.neighbor[viewpoint] == neighbor[:, None]  # (B, K)
        return torch.where(viewpoint == neighbor, self.degree[viewpoint], found.to(torch.uint8).argmax(1))

    def reward(self, before_m: Tensor, after_m: Tensor, stopped: Tensor) -> Tensor:
        """Return EnvDrop's reward: ± ``stop_reward`` by success at stop, ± ``progress_reward`` by progress.

        Args:
            before_m: distance to the goal before the decision, any shape.
            after_m: and after it.
            stopped: bool, the decision was to stop.

        Returns:
            float32. A move that leaves the distance exactly equal gets 0 (the reference raises there, B13).
        """
        success = torch.where(after_m < SUCCESS_RADIUS_M, self.stop_reward, -self.stop_reward)
        # Compared, not subtracted: where the goal is out of reach both are inf.
        progress = (after_m < before_m).float() - (after_m > before_m).float()
        return torch.where(stopped, success, self.progress_reward * progress).float()

    def walk(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Follow the annotated path where the batch has it, else the shortest one, from start to goal.

        Returns:
            viewpoint (B, T) and view (B, T), which stay at the goal, and action (B, T), the stop index there.
        """
        if batch.guide is not None:
            return self._walk_guide(batch, batch.guide)
        viewpoint, view = batch.viewpoint, batch.view
        steps = []
        while True:
            action = self.teacher(viewpoint, batch.goal)
            steps.append((viewpoint, view, action))
            if bool((viewpoint == batch.goal).all()):
                break
            viewpoint, view = self.step(viewpoint, view, action)
        columns = [torch.stack(column, 1) for column in zip(*steps, strict=True)]
        return columns[0], columns[1], columns[2]

    def _walk_guide(self, batch: Batch, guide: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the walks along annotated paths (B, R) as ``walk`` does, all steps at once."""
        length = (guide >= 0).sum(1)
        guide = guide[:, : int(length.max())]
        viewpoint = torch.where(guide >= 0, guide, guide.gather(1, length[:, None] - 1))  # stays at the goal
        B, T = viewpoint.shape
        following = torch.cat([viewpoint[:, 1:], viewpoint[:, -1:]], 1)
        action = self.towards(viewpoint.flatten(), following.flatten()).unflatten(0, (B, T))
        # A walker looks along the view that showed where it stands; at the goal it goes on looking so.
        shown = self.candidate_view[viewpoint, action]
        last = (length - 2).clamp(min=0)[:, None]
        shown = torch.where(torch.arange(T, device=self.device) < length[:, None] - 1, shown, shown.gather(1, last))
        view = torch.cat([batch.view[:, None], shown[:, :-1]], 1)
        return viewpoint, torch.where((length == 1)[:, None], batch.view[:, None], view), action

    def observe_walk(self, batch: Batch, rows: Tensor | None = None) -> Walk:
        """Return what the speaker sees along the paths of a batch (specification §6.1).

        Args:
            batch: B episodes.
            rows: (b,) which of them; None for all. Theirs are as long as the longest walk of the batch too.
        """
        viewpoint, view, action = self.walk(batch)
        if rows is not None:
            viewpoint, view, action = viewpoint[rows], view[rows], action[rows]
        B, T = viewpoint.shape
        obs = self.observe(viewpoint.flatten(), view.flatten())
        chosen = (torch.arange(B * T, device=self.device), action.flatten())
        length = (action != self.degree[viewpoint]).sum(1) + 1
        parts = (obs.views, obs.view_angles, obs.candidates[chosen], obs.candidate_angles[chosen])
        views, view_angles, actions, action_angles = (part.unflatten(0, (B, T)) for part in parts)
        return Walk(views, view_angles, actions, action_angles, length)

    def num_actions(self, view: Tensor, viewpoint: Tensor, action: Tensor) -> Tensor:
        """Return how many simulator actions a move takes (B,): tilts, right turns, one step; 0 for stop."""
        moves = action < self.degree[viewpoint]
        target = self.candidate_view[viewpoint, torch.where(moves, action, 0)]
        tilts = (target // NUM_HEADINGS - view // NUM_HEADINGS).abs()
        turns = (target - view) % NUM_HEADINGS
        return torch.where(moves, tilts + turns + 1, 0)


def angle_features(heading_rad: Tensor, elevation_rad: Tensor) -> Tensor:
    """Return [sin h, cos h, sin e, cos e] (…, 4) float32 (specification §3.3)."""
    return direction_features(heading_rad, elevation_rad).float()


def direction_features(heading_rad: Tensor, elevation_rad: Tensor) -> Tensor:
    """Return [sin h, cos h, sin e, cos e] (…, 4) in the type of the angles."""
    return torch.stack((heading_rad.sin(), heading_rad.cos(), elevation_rad.sin(), elevation_rad.cos()), -1)


def relative_angles(directions: Tensor, turns: Tensor) -> Tensor:
    """Return what ``directions`` (B, K, 4) float64 are for agents turned by ``turns`` (B, 4, 4), float32.

    A table of all twelve headings would take half a gigabyte for a thousand buildings.
    """
    return torch.bmm(directions, turns).float()


def _turns() -> Tensor:
    """Return what ``direction_features`` are multiplied with, one matrix for each base heading, (12, 4, 4) float64."""
    base = torch.arange(NUM_HEADINGS, dtype=torch.float64) * HEADING_STEP_RAD
    turns = torch.eye(ANGLES, dtype=torch.float64).repeat(NUM_HEADINGS, 1, 1)
    # sin(h - b) = sin h cos b - cos h sin b; cos(h - b) = sin h sin b + cos h cos b
    turns[:, 0, 0] = turns[:, 1, 1] = base.cos()
    turns[:, 1, 0], turns[:, 0, 1] = -base.sin(), base.sin()
    return turns
