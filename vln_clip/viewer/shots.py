"""How a walk becomes a film: what the camera sees at every frame, as numbers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vln_clip.connectivity import NavTables
from vln_clip.connectivity.tables import wrap_rad
from vln_clip.viewer.traces import Trace

PLACE_S, LAST_S = 1.6, 2.2  # how long a place is shown, and the last one
_LOOK, _TURN = 0.45, 0.25  # shares of a place's time; the rest is the move
_SETTLE = 0.4  # share of the look in which the camera turns from the way it came to where the agent looks
_FADE = 0.55  # from this share of a move on the next place fades in
_ZOOM = 0.25  # the picture grows by this share on the way
_MOST_TILT_RAD = math.radians(35)


@dataclass(frozen=True)
class Shot:
    """One frame.

    Attributes:
        step: index of the place in the trace.
        viewpoint: where the camera is.
        heading_rad: of the camera.
        elevation_rad: of the camera.
        zoom: 1 at rest, larger on the way to the next place.
        fade: how much of the next place is seen, 0 to 1.
        moved: how far the agent is on its way to the next place, 0 to 1.
        deciding: the agent looks around; nothing has been chosen yet.
    """

    step: int
    viewpoint: int
    heading_rad: float
    elevation_rad: float
    zoom: float = 1.0
    fade: float = 0.0
    moved: float = 0.0
    deciding: bool = True


def shots(trace: Trace, graph: NavTables, fps: float) -> Iterator[Shot]:
    """Return the frames of a walk: at every place a look, a turn to where the agent goes, and the way there."""
    came_rad = float(trace.headings_rad[0])
    for step, here in enumerate(trace.viewpoints.tolist()):
        looks_rad, tilt_rad = float(trace.headings_rad[step]), float(trace.elevations_rad[step])
        if step + 1 == len(trace.viewpoints):
            for k in range(max(2, round(LAST_S * fps))):
                settled = _ease(min(1.0, k / fps / (PLACE_S * _LOOK * _SETTLE)))
                deciding = k < PLACE_S * _LOOK * fps
                yield Shot(step, here, _between(came_rad, looks_rad, settled), tilt_rad, deciding=deciding)
            return
        way = graph.position[trace.viewpoints[step + 1]] - graph.position[here]
        goes_rad, rise_rad = math.atan2(way[0], way[1]), math.atan2(way[2], math.hypot(way[0], way[1]))
        rise_rad = min(max(rise_rad, -_MOST_TILT_RAD), _MOST_TILT_RAD)
        frames = max(3, round(PLACE_S * fps))
        for k in range(frames):
            yield _shot(step, here, k / frames, (came_rad, looks_rad, goes_rad), (tilt_rad, rise_rad))
        came_rad = goes_rad


def count_shots(trace: Trace, fps: float) -> int:
    """Return how many frames ``shots`` gives."""
    return (len(trace.viewpoints) - 1) * max(3, round(PLACE_S * fps)) + max(2, round(LAST_S * fps))


def _shot(
    step: int, here: int, time: float, headings_rad: tuple[float, float, float], tilts_rad: tuple[float, float]
) -> Shot:
    """Return the frame at a share of a place's time; headings are where it came from, looks and goes."""
    came, looks, goes = headings_rad
    level, rise = tilts_rad
    if time < _LOOK:
        settled = _ease(min(1.0, time / (_LOOK * _SETTLE)))
        return Shot(step, here, _between(came, looks, settled), level)
    if time < _LOOK + _TURN:
        turned = _ease((time - _LOOK) / _TURN)
        return Shot(step, here, _between(looks, goes, turned), level + turned * (rise - level), deciding=False)
    moved = (time - _LOOK - _TURN) / (1 - _LOOK - _TURN)
    fade = _ease(max(0.0, (moved - _FADE) / (1 - _FADE)))
    return Shot(step, here, goes, rise * (1 - _ease(moved)), 1 + _ZOOM * moved, fade, _ease(moved), False)


def _between(a_rad: float, b_rad: float, share: float) -> float:
    """Return the heading at a share of the shorter turn from one to another."""
    return a_rad + share * float(wrap_rad(np.array(b_rad - a_rad)))


def _ease(share: float) -> float:
    """Begin and end slowly."""
    return share * share * (3 - 2 * share)
