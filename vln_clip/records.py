"""Records and conventions that every part shares.

Axes: ``B`` batch, ``L`` instruction tokens, ``T`` steps, ``V`` views (36), ``K`` candidates, ``H`` heads,
``D`` width. A ``*_mask`` is boolean and True means keep.

Frames and units: metres, radians, seconds. World x-y horizontal, z up. Heading 0 looks along +y and grows
clockwise seen from above (turning right is positive), wrapped to [0, 2π]. Elevation 0 is the horizon, up
is positive. A panorama has 36 views, ``view = 12 * level + heading_step``: level 0 looks 30° down, 1 at the
horizon, 2 up 30°; heading steps are 30° (specification: the Matterport3D simulator's discretised mode).
"""

import math
from dataclasses import dataclass

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
    """Return the absolute heading of the centre of a view."""
    return (view % NUM_HEADINGS) * HEADING_STEP_RAD


def view_elevation_rad(view: int) -> float:
    """Return the elevation of the centre of a view."""
    return (view // NUM_HEADINGS - 1) * ELEVATION_STEP_RAD
