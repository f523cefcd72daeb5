"""What an instruction says, the same in every language: one clause per step, about which thing and which room."""

from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from vln_clip.envs.demo.furniture import Thing
from vln_clip.envs.demo.house import House
from vln_clip.envs.demo.landmarks import Guide, Step, choose, entered_room, left_room

_OPENING_SHARE, _ROOM_SHARE = 0.4, 0.3


class Kind(Enum):
    """Kinds of clauses; each has its wordings in every language."""

    START_ROOM = auto()
    START_DOOR = auto()
    THROUGH_DOOR = auto()
    TO_DOOR = auto()
    TO_THING = auto()
    ONWARDS = auto()
    ENTER = auto()
    LEAVE = auto()
    STOP = auto()
    STOP_IN_ROOM = auto()

    @property
    def is_start(self) -> bool:
        """Tell whether it is a sentence of its own that says where the path begins."""
        return self in (Kind.START_ROOM, Kind.START_DOOR)


@dataclass(frozen=True)
class Clause:
    """One clause.

    Attributes:
        kind: what it tells to do.
        thing: its landmark; None where only a room is named.
        room: kind of room, a key of ``palette.ROOM_TYPES``; None where none is named.
    """

    kind: Kind
    thing: Thing | None = None
    room: str | None = None


def plan_clauses(rng: np.random.Generator, house: House, guide: Guide, variant: int) -> list[Clause]:
    """Choose what an instruction says.

    Args:
        rng: source of the choices.
        house: where the path lies.
        guide: path and landmarks.
        variant: 0 takes the best landmarks, others sometimes the next best.
    """
    clauses = [_start(rng, house, guide.path[0])] if rng.random() < _OPENING_SHARE else []
    last = -1
    for step in guide.steps:
        index = choose(rng, step, variant)
        clauses.append(_step(rng, house, step, index, onwards=index == last))
        last = index
    stop = house.things[guide.stops[int(rng.integers(min(len(guide.stops), 1 + (variant > 0))))]]
    goal = guide.path[-1]
    if goal >= len(house.plan.doors) and rng.random() < _ROOM_SHARE:
        return [*clauses, Clause(Kind.STOP_IN_ROOM, stop, house.room_kind(goal))]
    return [*clauses, Clause(Kind.STOP, stop)]


def _start(rng: np.random.Generator, house: House, viewpoint: int) -> Clause:
    """Say where the path begins."""
    if viewpoint < len(house.plan.doors):
        return Clause(Kind.START_DOOR, house.things[viewpoint])
    return Clause(Kind.START_ROOM, room=house.room_kind(viewpoint))


def _step(rng: np.random.Generator, house: House, step: Step, index: int, onwards: bool) -> Clause:
    """Choose the clause of one step; ``onwards`` where its landmark, other than a doorway, still leads on."""
    thing = house.things[index]
    if thing.name == "doorway":
        return Clause(Kind.THROUGH_DOOR if step.end == index else Kind.TO_DOOR, thing)
    entered, left = entered_room(house, step), left_room(house, step)
    if entered and rng.random() < 0.6:
        return Clause(Kind.ENTER, thing, entered)
    if left and rng.random() < 0.6:
        return Clause(Kind.LEAVE, thing, left)
    return Clause(Kind.ONWARDS if onwards else Kind.TO_THING, thing)
