"""What an observer sees from a viewpoint, by plane geometry: how much of each thing in which view."""

from dataclasses import dataclass

import numpy as np

from vln_clip.envs.demo.floorplan import wall_rects
from vln_clip.envs.demo.graph import blocked
from vln_clip.envs.demo.house import CAMERA_M, House
from vln_clip.envs.demo.palette import COLORS
from vln_clip.records import HEADING_STEP_RAD, NUM_HEADINGS

_HALF_VIEW_RAD, _TAN_VERTICAL = 0.65, 0.577
_AHEAD_RAD = 0.25  # where the weight has fallen to 1/e: neighbouring views overlap by more than half
_TALL_M = 1.3
_NEAREST_M = 0.45


@dataclass(frozen=True)
class Sight:
    """Apparent sizes, about steradians; those in views are weighted, 1 straight ahead and less beside.

    Attributes:
        in_view: (N viewpoints, 12 headings, O things), level views, weighted.
        around: (N, O), all directions and elevations.
        color_in_view: (N, 12, number of colors).
        color_around: (N, number of colors).
        color_of: index into ``palette.COLORS`` of each thing, -1 where it has none, (O,).
    """

    in_view: np.ndarray
    around: np.ndarray
    color_in_view: np.ndarray
    color_around: np.ndarray
    color_of: np.ndarray


def observe(house: House) -> Sight:
    """Measure what every viewpoint of a house sees."""
    things = house.things
    spots = np.array([_sample(thing.rect) for thing in things])  # (O, 9, 2)
    num, count = len(house.points), len(things)
    starts = np.broadcast_to(house.points[:, None, None], (num, count, 9, 2))
    ends = np.broadcast_to(spots[None], (num, count, 9, 2))
    clear = ~blocked(starts.reshape(-1, 2), ends.reshape(-1, 2), wall_rects(house.plan)).reshape(num, count, 9)
    clear &= ~_behind_tall(house, starts, ends)
    offset = ends - starts
    away = np.linalg.norm(offset, axis=-1)  # (N, O, 9)
    clear &= away > _NEAREST_M
    level, whole = _apparent(house, away)
    bearing = np.arctan2(offset[..., 0], offset[..., 1])
    headings = np.arange(NUM_HEADINGS) * HEADING_STEP_RAD
    turn = (bearing[:, None] - headings[None, :, None, None] + np.pi) % (2 * np.pi) - np.pi
    inside = np.exp(-((turn / _AHEAD_RAD) ** 2)) * (np.abs(turn) < _HALF_VIEW_RAD)  # (N, 12, O, 9)
    in_view = (inside * (level * clear)[:, None]).mean(axis=-1)
    around = (whole * clear).mean(axis=-1)
    names = list(COLORS)
    color_of = np.array([names.index(thing.color) if thing.color else -1 for thing in things])
    one_hot = (color_of[:, None] == np.arange(len(names))).astype(float)
    return Sight(in_view, around, in_view @ one_hot, around @ one_hot, color_of)


def _sample(rect: tuple[float, float, float, float]) -> np.ndarray:
    """Return nine points of a footprint, a little inside its edge, (9, 2)."""
    x0, y0, x1, y1 = rect
    share = np.array([0.08, 0.5, 0.92])
    xs, ys = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
    return np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)


def _behind_tall(house: House, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Tell which lines of sight pass through tall furniture other than the thing looked at, (N, O, 9) bool."""
    hidden = np.zeros(starts.shape[:3], dtype=bool)
    for index, thing in enumerate(house.things):
        if thing.hung or thing.top_m < _TALL_M or thing.name in ("lamp", "plant"):
            continue
        hit = blocked(starts.reshape(-1, 2), ends.reshape(-1, 2), np.array([thing.rect])).reshape(hidden.shape)
        hit[:, index] = False
        hidden |= hit
    return hidden


def _apparent(house: House, away: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return apparent sizes in a level view and over all elevations, (N, O, 9) each.

    Args:
        house: the house.
        away: horizontal distances, (N, O, 9) metres.
    """
    wide = np.array([0.7 * max(t.rect[2] - t.rect[0], t.rect[3] - t.rect[1]) for t in house.things])[None, :, None]
    wide = np.where(np.array([t.name == "doorway" for t in house.things])[None, :, None], 0.6, wide)
    deep = np.array([min(t.rect[2] - t.rect[0], t.rect[3] - t.rect[1]) if t.flat else 0.0 for t in house.things])
    low = (np.array([t.bottom_m for t in house.things])[None, :, None] - CAMERA_M) / away
    high = (np.array([t.top_m for t in house.things])[None, :, None] - CAMERA_M) / away
    high = high + deep[None, :, None] * CAMERA_M / away**2 * 0.5  # things on the floor show their top
    angle = np.clip(wide / away, 0, 1.2)
    seen = np.clip(high, -_TAN_VERTICAL, _TAN_VERTICAL) - np.clip(low, -_TAN_VERTICAL, _TAN_VERTICAL)
    return angle * seen, angle * np.clip(high - low, 0, 2.0)
