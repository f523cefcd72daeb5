"""Landmarks: which thing names each step of a path, and what stands beside its goal.

A landmark for a step is a thing whose color shows in the view towards the next viewpoint and little in the
views towards the other candidates, so that the words tell the ways apart for somebody who sees.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vln_clip.envs.demo.house import House
from vln_clip.envs.demo.sight import Sight, observe
from vln_clip.records import HEADING_STEP_RAD, NUM_HEADINGS

_LEAST_SEEN = 0.03
_STOP_REACH_M = 2.6
_UNNAMED = ("rug",)  # too flat to be seen in a level view: only stops are named after them


@dataclass(frozen=True)
class Step:
    """Landmarks of one step, best first: (thing index, margin in 0..1)."""

    start: int
    end: int
    choices: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Guide:
    """A path with the landmarks of its steps and those beside its goal, best first."""

    path: tuple[int, ...]
    steps: tuple[Step, ...]
    stops: tuple[int, ...]

    @property
    def clarity(self) -> float:
        """Return the margin of its least clear step; 0 where a step or the goal has no landmark."""
        if not self.stops or any(not step.choices for step in self.steps):
            return 0.0
        return min(step.choices[0][1] for step in self.steps)


@dataclass(frozen=True)
class Clues:
    """Landmarks of a whole house.

    Attributes:
        steps: of every transition, by (start, end).
        stops: beside every viewpoint, best first.
    """

    steps: dict[tuple[int, int], Step]
    stops: tuple[tuple[int, ...], ...]

    def guide(self, path: Sequence[int]) -> Guide:
        """Return a path with its landmarks."""
        return Guide(tuple(path), tuple(self.steps[pair] for pair in itertools.pairwise(path)), self.stops[path[-1]])


def find_clues(house: House) -> Clues:
    """Find the landmarks of every transition and viewpoint of a house."""
    sight = observe(house)
    pairs = [(start, end) for start, end in np.argwhere(house.joined).tolist()]
    steps = {(start, end): landmarks(house, sight, start, end) for start, end in pairs}
    return Clues(steps, tuple(stop_landmarks(house, sight, goal) for goal in range(len(house.points))))


def view_heading(house: House, start: int, end: int) -> int:
    """Return the heading step of the view that looks from one viewpoint to another."""
    dx, dy = house.points[end] - house.points[start]
    return round(float(np.arctan2(dx, dy)) / HEADING_STEP_RAD) % NUM_HEADINGS


def landmarks(house: House, sight: Sight, start: int, end: int) -> Step:
    """Find the landmarks that tell the way to a neighbour apart from the ways to the others."""
    others = [view_heading(house, start, int(j)) for j in np.nonzero(house.joined[start])[0] if j != end]
    ahead = view_heading(house, start, end)
    own, color = sight.in_view[start, ahead], sight.color_in_view[start]
    found = []
    for index, thing in enumerate(house.things):
        paint = sight.color_of[index]
        if paint < 0 or thing.name in _UNNAMED or own[index] < _LEAST_SEEN:
            continue
        if thing.name == "doorway" and not _leads_through(house, index, start, end):
            continue
        elsewhere = max((color[k, paint] for k in others if k != ahead), default=0.0)
        elsewhere = max(elsewhere, own[index] * (ahead in others))
        margin = (color[ahead, paint] - elsewhere) / (color[ahead, paint] + 0.02)
        size = min(own[index] / 0.12, 1.0)
        found.append((index, float(margin * size**0.5)))
    found.sort(key=lambda item: -item[1])
    return Step(start, end, tuple(item for item in found if item[1] > 0))


def _leads_through(house: House, index: int, start: int, end: int) -> bool:
    """Tell whether a step goes to a doorway or towards it; doorways are the first things and viewpoints."""
    if end == index:
        return True
    offset, step = house.points[index] - house.points[start], house.points[end] - house.points[start]
    length = float(np.linalg.norm(step))
    along = float(offset @ step) / length
    aside = abs(float(offset[0] * step[1] - offset[1] * step[0])) / length
    return index != start and along > length and aside < 0.8


def stop_landmarks(house: House, sight: Sight, goal: int) -> tuple[int, ...]:
    """Find the things beside a viewpoint that its neighbours show less of, best first."""
    found = []
    near = np.nonzero(house.joined[goal])[0]
    for index, thing in enumerate(house.things):
        x0, y0, x1, y1 = thing.rect
        x, y = house.points[goal]
        gap = np.hypot(max(x0 - x, 0, x - x1), max(y0 - y, 0, y - y1))
        paint = sight.color_of[index]
        if paint < 0 or gap > _STOP_REACH_M or sight.around[goal, index] < 0.06:
            continue
        here = sight.color_around[goal, paint]
        there = float(np.mean(sight.color_around[near, paint])) if len(near) else 0.0
        found.append((index, float(sight.around[goal, index] * here / (here + there + 0.02))))
    found.sort(key=lambda item: -item[1])
    return tuple(index for index, _ in found[:3])


def choose(rng: np.random.Generator, step: Step, variant: int) -> int:
    """Take the best landmark of a step, or in later variants sometimes one that is nearly as good."""
    close = [index for index, margin in step.choices[:3] if margin > 0.85 * step.choices[0][1]]
    if variant == 0 or len(close) == 1:
        return step.choices[0][0]
    return close[int(rng.integers(len(close)))]


def entered_room(house: House, step: Step) -> str | None:
    """Return the kind of room that a step out of a doorway leads into; None for other steps."""
    if step.start >= len(house.plan.doors) or step.end < len(house.plan.doors):
        return None
    return house.room_kind(step.end)


def left_room(house: House, step: Step) -> str | None:
    """Return the kind of room that a step into a doorway leaves; None for other steps."""
    return entered_room(house, Step(step.end, step.start, ()))
