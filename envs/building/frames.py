"""Rotations of panoramas and skyboxes, and where an equirectangular image shows a direction.

Camera axes: x right, y down, z forward; a rotation turns camera into world axes (world: z up, heading 0 = +y,
clockwise). An equirectangular image of (H, W = 2H) pixels looks forward in its middle: the center of column c
lies ``((c + 1/2) / W - 1/2) * 360`` degrees to the right of forward, that of row r has the elevation
``(1/2 - (r + 1/2) / H) * 180`` degrees. Row 0 touches the zenith.
"""

import math

import numpy as np


def level_rotation(heading_rad: float) -> np.ndarray:
    """Return the rotation of an upright camera with this heading, (3, 3) float64."""
    sin, cos = math.sin(heading_rad), math.cos(heading_rad)
    return np.array([[cos, 0.0, sin], [-sin, 0.0, cos], [0.0, -1.0, 0.0]])


def tilted_rotation(heading_rad: float, pitch_rad: float, roll_rad: float) -> np.ndarray:
    """Return the rotation of a camera that is turned, then pitched, then rolled, (3, 3) float64.

    Args:
        heading_rad: clockwise from +y.
        pitch_rad: positive when the camera looks up.
        roll_rad: positive when its right-hand side hangs down.
    """
    sin_p, cos_p, sin_r, cos_r = math.sin(pitch_rad), math.cos(pitch_rad), math.sin(roll_rad), math.cos(roll_rad)
    pitch = np.array([[1.0, 0.0, 0.0], [0.0, cos_p, -sin_p], [0.0, sin_p, cos_p]])
    roll = np.array([[cos_r, -sin_r, 0.0], [sin_r, cos_r, 0.0], [0.0, 0.0, 1.0]])
    return level_rotation(heading_rad) @ pitch @ roll


def quaternion_rotation(w: float, x: float, y: float, z: float) -> np.ndarray:
    """Return the rotation of a unit quaternion, (3, 3) float64."""
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def heading_of(rotation: np.ndarray) -> float:
    """Return the heading of a camera's forward axis in [0, 2π); 0 where it looks straight up or down."""
    forward_x, forward_y = float(rotation[0, 2]), float(rotation[1, 2])
    if math.hypot(forward_x, forward_y) < 1e-9:
        return 0.0
    return math.atan2(forward_x, forward_y) % (2 * math.pi)


def equirectangular_position(rays: np.ndarray) -> np.ndarray:
    """Return where an equirectangular image shows directions.

    Args:
        rays: directions in camera axes, (..., 3), any length.

    Returns:
        (..., 2) shares of width and height, both in [0, 1].
    """
    x, y, z = np.moveaxis(rays, -1, 0)
    across = np.arctan2(x, z) / (2 * np.pi) + 0.5
    down = 0.5 + np.arctan2(y, np.hypot(x, z)) / np.pi
    return np.stack([across, down], axis=-1)


def equirectangular_rays(width_px: int) -> np.ndarray:
    """Return the direction of every pixel's center in camera axes, (W/2, W, 3) float64, unit length."""
    height_px = width_px // 2
    turn = ((np.arange(width_px) + 0.5) / width_px - 0.5) * 2 * np.pi
    elevation = (0.5 - (np.arange(height_px) + 0.5) / height_px) * np.pi
    rays = np.empty((height_px, width_px, 3))
    rays[..., 0] = np.cos(elevation)[:, None] * np.sin(turn)
    rays[..., 1] = -np.sin(elevation)[:, None]
    rays[..., 2] = np.cos(elevation)[:, None] * np.cos(turn)
    return rays


# Axes of each skybox face in camera axes: to the right in the image, down in the image, out of the middle.
# Faces are up, back, left, forward, right, down, numbered 0 to 5 (the Matterport3D simulator's cube map).
FACE_AXES = np.array(
    [
        [[-1, 0, 0], [0, 0, -1], [0, -1, 0]],
        [[-1, 0, 0], [0, 1, 0], [0, 0, -1]],
        [[0, 0, 1], [0, 1, 0], [-1, 0, 0]],
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0, 0, -1], [0, 1, 0], [1, 0, 0]],
        [[-1, 0, 0], [0, 0, 1], [0, 1, 0]],
    ],
    dtype=np.float64,
)


def face_rays(face: int, size_px: int) -> np.ndarray:
    """Return the direction of every pixel's center of a skybox face in camera axes, (S, S, 3) float64."""
    ramp = (2 * np.arange(size_px) + 1) / size_px - 1
    right, down, out = FACE_AXES[face]
    return ramp[None, :, None] * right + ramp[:, None, None] * down + out
