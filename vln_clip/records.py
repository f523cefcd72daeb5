"""Records and conventions that every part shares.

Axes: ``B`` batch, ``L`` instruction tokens, ``T`` steps, ``V`` views (36), ``K`` candidates, ``H`` heads,
``D`` width. A ``*_mask`` is boolean and True means keep.

Frames and units: metres, radians, seconds. World x-y horizontal, z up. Heading 0 looks along +y and grows
clockwise seen from above (turning right is positive), wrapped to [0, 2π]. Elevation 0 is the horizon, up
is positive. A panorama has 36 views, ``view = 12 * level + heading_step``: level 0 looks 30° down, 1 at the
horizon, 2 up 30°; heading steps are 30° (specification: the Matterport3D simulator's discretised mode).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the simulator emulation needs these conventions, but not the second that PyTorch takes to load
    from torch import Tensor

NUM_VIEWS = 36
NUM_HEADINGS = 12
HEADING_STEP_RAD = math.pi / 6
ELEVATION_STEP_RAD = math.pi / 6
SUCCESS_RADIUS_M = 3.0
VIEW_WIDTH_PX, VIEW_HEIGHT_PX, VIEW_VFOV_RAD = 640, 480, math.pi / 3

# One pose of a trajectory as result files hold it: viewpoint id, heading_rad, elevation_rad.
Pose = tuple[str, float, float]


@dataclass(frozen=True)
class Episode:
    """One instruction to follow.

    Attributes:
        instr_id: unique id, ``<path_id>_<k>`` in R2R.
        path_id: id of the path, shared by its instructions.
        scan: building.
        start: viewpoint id of the start.
        heading_rad: start heading as annotated; environments snap it to 30°.
        instruction: the text.
        path: reference viewpoint ids from start to goal; None where the goal is hidden (test splits).
        language: tag such as ``en``.
    """

    instr_id: str
    path_id: str
    scan: str
    start: str
    heading_rad: float
    instruction: str
    path: tuple[str, ...] | None = None
    language: str = "en"

    @property
    def goal(self) -> str | None:
        """Return the viewpoint id of the goal, None where it is hidden."""
        return self.path[-1] if self.path else None


@dataclass(frozen=True)
class Prediction:
    """What an agent did on one instruction: poses from the start on, turns in place included."""

    instr_id: str
    trajectory: tuple[Pose, ...]


def view_heading_rad(view: int) -> float:
    """Return the absolute heading of the center of a view."""
    return (view % NUM_HEADINGS) * HEADING_STEP_RAD


def view_elevation_rad(view: int) -> float:
    """Return the elevation of the center of a view."""
    return (view // NUM_HEADINGS - 1) * ELEVATION_STEP_RAD


@dataclass
class Observation:
    """What a policy may see, for B places. The stop action is a candidate with all-zero features.

    Attributes:
        views: (B, V, D) features of the 36 views, in the store's dtype; D is 0 for the blind store.
        view_angles: (B, V, 4) float32, sin and cos of the heading relative to the agent's, of the elevation.
        candidates: (B, K, D) features of the view that shows each candidate; zero for stop and padding.
        candidate_angles: (B, K, 4) float32, as for the views but with the exact direction; zero likewise.
        candidate_mask: (B, K) bool, True for moves and for stop.
        stop: (B,) int64, index of the stop action: the number of moves.
        own_angles: (B, 4) float32, sin and cos of the agent's absolute heading and elevation.
    """

    views: Tensor
    view_angles: Tensor
    candidates: Tensor
    candidate_angles: Tensor
    candidate_mask: Tensor
    stop: Tensor
    own_angles: Tensor


@dataclass
class Batch:
    """B episodes as index tensors.

    Attributes:
        episode: (B,) int64, row in the data set.
        tokens: (B, L) int64 instruction, padded with 0; or its states (B, L, D) float16 where a frozen text tower has
            read it, padded likewise.
        length: (B,) int64, number of real tokens, at least 1.
        viewpoint: (B,) int64 start.
        view: (B,) int64 start view: the annotated heading snapped to 30°, at the horizon.
        goal: (B,) int64, -1 where it is hidden. Privileged: never part of an observation.
        guide: (B, R) int64 annotated paths, padded at the end with -1; None where there are none. Privileged too.
        joint_size: number of episodes of the joint batch that these are some of; None where they are all of them.
    """

    episode: Tensor
    tokens: Tensor
    length: Tensor
    viewpoint: Tensor
    view: Tensor
    goal: Tensor
    guide: Tensor | None = None
    joint_size: int | None = None

    @property
    def size(self) -> int:
        """Return how many episodes the losses are means of: those of the joint batch."""
        return len(self.goal) if self.joint_size is None else self.joint_size

    def select(self, rows: Tensor) -> Batch:
        """Return the episodes at rows (b,) as a part of this batch, padded as here."""
        return Batch(
            self.episode[rows],
            self.tokens[rows],
            self.length[rows],
            self.viewpoint[rows],
            self.view[rows],
            self.goal[rows],
            None if self.guide is None else self.guide[rows],
            self.size,
        )


@dataclass
class Walk:
    """What the speaker sees of B walks over T viewpoints, the goal included.

    Attributes:
        views: (B, T, V, D) features of the 36 views, in the store's dtype.
        view_angles: (B, T, V, 4) float32, relative to the heading at that point of the walk.
        actions: (B, T, D) features of the chosen candidates; zero at the goal.
        action_angles: (B, T, 4) float32; zero at the goal.
        length: (B,) int64 number of viewpoints. Walks that have ended go on showing the goal.
    """

    views: Tensor
    view_angles: Tensor
    actions: Tensor
    action_angles: Tensor
    length: Tensor

    @property
    def mask(self) -> Tensor:
        """Return (B, T) bool, True for real viewpoints."""
        import torch

        return torch.arange(self.views.shape[1], device=self.length.device) < self.length[:, None]
