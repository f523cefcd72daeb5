"""Instructions: which landmark names each step of a path, and the sentences around it.

A landmark for a step is a thing whose color shows in the view towards the next viewpoint and little in the
views towards the other candidates, so that the words tell the ways apart for somebody who sees.
"""

from dataclasses import dataclass

import numpy as np

from vln_clip.envs.demo.house import House
from vln_clip.envs.demo.sight import Sight
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


# Few wordings, and one clause for every step: a few hundred instructions must be enough to learn to write them.
_TO_DOOR = ("go through the {0} doorway", "walk through the {0} door")
_TOWARDS_DOOR = ("go towards the {0} doorway", "walk to the {0} door")
_TO_THING = ("walk towards the {0}", "go to the {0}")
_ONWARDS = ("keep going to the {0}", "go on towards the {0}")
_ENTER = ("enter the {1} and go to the {0}",)
_OUT = ("leave the {1} towards the {0}",)
_STOP = ("stop next to the {0}", "wait by the {0}")
_STOP_ROOM = ("stop in the {1} near the {0}",)
_JOINERS = (", then ", ". ")
_LAST_JOINERS = (" and ", ". ")
_SYNONYMS = {
    "sofa": ("sofa", "couch"),
    "television": ("television", "tv"),
    "painting": ("painting", "picture"),
    "table": ("table",),
    "bookshelf": ("bookshelf", "bookcase"),
    "cabinet": ("cabinet", "cupboard"),
    "curtain": ("curtains", "window with {0} curtains"),
    "plant": ("plant", "potted plant"),
    "fridge": ("fridge", "refrigerator"),
    "rug": ("rug", "carpet"),
    "lamp": ("lamp", "floor lamp"),
}


def describe(rng: np.random.Generator, house: House, guide: Guide, variant: int) -> str:
    """Write one instruction.

    Args:
        rng: source of the wording.
        house: where the path lies.
        guide: path and landmarks.
        variant: 0 takes the best landmarks, others sometimes the next best.
    """
    clauses: list[str] = []
    last = -1
    for step in guide.steps:
        thing = _choose(rng, step, variant)
        clauses.append(_clause(rng, house, step, thing, onwards=thing == last))
        last = thing
    stop = guide.stops[int(rng.integers(min(len(guide.stops), 1 + (variant > 0))))]
    room = house.plan.rooms[house.room_at(house.points[guide.path[-1]])].kind
    templates = _STOP_ROOM if rng.random() < 0.25 else _STOP
    clauses.append(_pick(rng, templates).format(_noun(rng, house, stop), room))
    return _join(rng, clauses)


def _choose(rng: np.random.Generator, step: Step, variant: int) -> int:
    """Take the best landmark of a step, or in later variants sometimes one that is nearly as good."""
    close = [index for index, margin in step.choices[:3] if margin > 0.85 * step.choices[0][1]]
    if variant == 0 or len(close) == 1:
        return step.choices[0][0]
    return close[int(rng.integers(len(close)))]


def _clause(rng: np.random.Generator, house: House, step: Step, index: int, onwards: bool) -> str:
    """Write the clause of one step; ``onwards`` where its landmark, other than a doorway, still leads on."""
    num_doors = len(house.plan.doors)
    thing = house.things[index]
    if thing.name == "doorway":
        return _pick(rng, _TO_DOOR if step.end == index else _TOWARDS_DOOR).format(thing.color)
    noun = _noun(rng, house, index)
    if step.start < num_doors and step.end >= num_doors and rng.random() < 0.6:
        room = house.plan.rooms[house.room_at(house.points[step.end])].kind
        return _pick(rng, _ENTER).format(noun, room)
    if step.end < num_doors and step.start >= num_doors and rng.random() < 0.4:
        room = house.plan.rooms[house.room_at(house.points[step.start])].kind
        return _pick(rng, _OUT).format(noun, room)
    return _pick(rng, _ONWARDS if onwards else _TO_THING).format(noun)


def _noun(rng: np.random.Generator, house: House, index: int) -> str:
    """Name a thing with its color."""
    thing = house.things[index]
    word = _pick(rng, _SYNONYMS.get(thing.name, (thing.name,)))
    return word.format(thing.color) if "{0}" in word else f"{thing.color} {word}"


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _join(rng: np.random.Generator, clauses: list[str]) -> str:
    """Join clauses to sentences that begin with a capital and end with a full stop."""
    text = clauses[0]
    for index, clause in enumerate(clauses[1:], start=2):
        joiner = _pick(rng, _LAST_JOINERS if index == len(clauses) else _JOINERS)
        text += joiner + (clause if joiner != ". " else clause[0].upper() + clause[1:])
    return text[0].upper() + text[1:] + "."
