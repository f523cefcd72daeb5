"""Frames of the Habitat simulator and of Matterport3D: positions, headings, rotations (specification 12.1).

Matterport's world, which this project uses everywhere, is z up; heading 0 looks along +y and grows clockwise. Habitat's
is y up; an agent looks along -z and its heading, a yaw about +y, grows counter-clockwise. Metres and radians.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

TURN_RAD = 2 * math.pi
UNIT_TOLERANCE = 1e-3  # of the length of a quaternion
LEVEL_TOLERANCE = 1e-6  # a horizontal part of the view direction below this has no heading


def to_habitat(position_m: ArrayLike) -> np.ndarray:
    """Turn Matterport's positions (…, 3) into Habitat's: (x, y, z) becomes (x, z, -y)."""
    x, y, z = np.moveaxis(np.asarray(position_m, np.float64), -1, 0)
    return np.stack([x, z, -y], -1)


def to_matterport(position_m: ArrayLike) -> np.ndarray:
    """Turn Habitat's positions (…, 3) into Matterport's: (x, y, z) becomes (x, -z, y)."""
    x, y, z = np.moveaxis(np.asarray(position_m, np.float64), -1, 0)
    return np.stack([x, -z, y], -1)


def to_habitat_heading(heading_rad: ArrayLike) -> np.ndarray:
    """Turn Matterport's headings into Habitat's in (-π, π], as its agents report them."""
    wrapped = -((np.asarray(heading_rad, np.float64) + math.pi) % TURN_RAD - math.pi)  # (-π, π]
    return wrapped + 0.0  # no negative zero


def to_matterport_heading(heading_rad: ArrayLike) -> np.ndarray:
    """Turn Habitat's headings into Matterport's in [0, 2π)."""
    wrapped = -np.asarray(heading_rad, np.float64) % TURN_RAD
    return np.where(wrapped >= TURN_RAD, 0.0, wrapped)  # -1e-17 % 2π rounds to 2π


def heading_of_rotation(rotation: Sequence[float]) -> float:
    """Return Matterport's heading, [0, 2π), of a Habitat rotation: where the agent's -z axis points, seen from above.

    Args:
        rotation: unit quaternion [x, y, z, w].

    Raises:
        ValueError: not a unit quaternion, or one that looks straight up or down.
    """
    x, y, z, w = (float(value) for value in rotation)
    length = math.sqrt(x * x + y * y + z * z + w * w)
    if not abs(length - 1) <= UNIT_TOLERANCE:
        raise ValueError(
            f"rotation must be a unit quaternion [x, y, z, w], got {list(rotation)!r} of length {length:g}"
        )
    # The third column of the rotation matrix, negated: the image of (0, 0, -1).
    east, south = -2 * (x * z + w * y), -(1 - 2 * (x * x + y * y))
    if math.hypot(east, south) < LEVEL_TOLERANCE:
        raise ValueError(f"rotation must look somewhere else than straight up or down, got {list(rotation)!r}")
    return float(to_matterport_heading(-math.atan2(east, -south)))


def rotation_of_heading(heading_rad: float) -> list[float]:
    """Return the Habitat rotation [x, y, z, w] of an upright agent with one of Matterport's headings."""
    half = float(to_habitat_heading(heading_rad)) / 2
    return [0.0, math.sin(half), 0.0, math.cos(half)]
