"""Choosing and drawing the pictures of a house: viewpoints, free headings, a little downwards."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vln_clip.envs.demo.house import CAMERA_M, make_house
from vln_clip.envs.demo.pictures.config import PicturesConfig
from vln_clip.envs.demo.pictures.seen import Facts, read_facts
from vln_clip.envs.demo.raycast import Cast, cast_picture, make_scene, shade_picture, solids_around

_VIEWS_SEED = 1_000_037
_TAN_HALF_WIDTH = 0.8
_DOWN_RAD = (0.14, 0.26)
_APART_RAD = 0.6  # of headings at one viewpoint
_FREE_M = 1.6  # least median distance: no picture of one piece of furniture
_LEAST_THINGS = 2
_TRIES = 6  # per picture


@dataclass(frozen=True)
class Picture:
    """A picture and what it shows; ``rgb`` is (H, W, 3) uint8."""

    facts: Facts
    rgb: np.ndarray


def draw_pictures(config: PicturesConfig, number: int) -> Iterator[Picture]:
    """Draw the pictures of house ``number``; their ids are (number + 1) * 1000 and following."""
    scene = make_scene(make_house(config.seed, number))
    rng = np.random.default_rng([config.seed, number, _VIEWS_SEED])
    size_px = (config.height_px, config.width_px)
    taken: list[tuple[int, float]] = []
    solids: dict[int, np.ndarray] = {}  # by viewpoint
    for _ in range(_TRIES * config.pictures_per_house):
        if len(taken) == config.pictures_per_house:
            return
        viewpoint, heading_rad = int(rng.integers(len(scene.house.points))), float(rng.uniform(0, 2 * np.pi))
        down_rad = float(rng.uniform(*_DOWN_RAD))
        if any(other == viewpoint and _between(heading_rad, turn) < _APART_RAD for other, turn in taken):
            continue
        eye = np.array([*scene.house.points[viewpoint], CAMERA_M], dtype=np.float32)
        if viewpoint not in solids:
            solids[viewpoint] = solids_around(scene, eye)
        axes = camera_axes(heading_rad, down_rad, config.height_px / config.width_px)
        cast = cast_picture(scene, solids[viewpoint], eye, axes, size_px)
        facts = read_facts((number + 1) * 1000 + len(taken), scene, axes, cast)
        if _is_good(facts, cast):
            taken.append((viewpoint, heading_rad))
            yield Picture(facts, shade_picture(scene, cast))


def camera_axes(heading_rad: float, down_rad: float, aspect: float) -> np.ndarray:
    """Return right, down and forward of a camera as ``cast_picture`` takes them, (3, 3) float32.

    Args:
        heading_rad: clockwise from +y.
        down_rad: how far it looks below the horizon.
        aspect: height over width of the picture.
    """
    sin, cos = np.sin(heading_rad), np.cos(heading_rad)
    right = np.array([cos, -sin, 0.0])
    forward = np.array([sin * np.cos(down_rad), cos * np.cos(down_rad), -np.sin(down_rad)])
    down = np.cross(forward, right)
    return np.array([right * _TAN_HALF_WIDTH, down * _TAN_HALF_WIDTH * aspect, forward], dtype=np.float32)


def _between(a_rad: float, b_rad: float) -> float:
    """Return the angle between two headings."""
    return abs((a_rad - b_rad + np.pi) % (2 * np.pi) - np.pi)


def _is_good(facts: Facts, cast: Cast) -> bool:
    """Tell whether there is something to ask and to say about a picture."""
    return len(facts.clear) >= _LEAST_THINGS and float(np.median(cast.depth_m)) >= _FREE_M
