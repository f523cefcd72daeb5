"""The English sentences of the R2R files around the landmarks of a path."""

import numpy as np

from vln_clip.envs.demo.house import House
from vln_clip.envs.demo.landmarks import Guide, Step, choose, entered_room, left_room

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
        thing = choose(rng, step, variant)
        clauses.append(_clause(rng, house, step, thing, onwards=thing == last))
        last = thing
    stop = guide.stops[int(rng.integers(min(len(guide.stops), 1 + (variant > 0))))]
    room = house.room_kind(guide.path[-1])
    templates = _STOP_ROOM if rng.random() < 0.25 else _STOP
    clauses.append(_pick(rng, templates).format(_noun(rng, house, stop), room))
    return _join(rng, clauses)


def _clause(rng: np.random.Generator, house: House, step: Step, index: int, onwards: bool) -> str:
    """Write the clause of one step; ``onwards`` where its landmark, other than a doorway, still leads on."""
    thing = house.things[index]
    if thing.name == "doorway":
        return _pick(rng, _TO_DOOR if step.end == index else _TOWARDS_DOOR).format(thing.color)
    noun = _noun(rng, house, index)
    entered, left = entered_room(house, step), left_room(house, step)
    if entered and rng.random() < 0.6:
        return _pick(rng, _ENTER).format(noun, entered)
    if left and rng.random() < 0.4:
        return _pick(rng, _OUT).format(noun, left)
    return _pick(rng, _ONWARDS if onwards else _TO_THING).format(noun)


def mention(rng: np.random.Generator, name: str, color: str, room: str | None) -> str:
    """Write a clause of an instruction about one thing.

    Args:
        rng: source of the wording.
        name: of the thing.
        color: of the thing.
        room: kind of the room that it stands in, None where none is to be named.
    """
    if name == "doorway":
        return _pick(rng, _TO_DOOR + _TOWARDS_DOOR).format(color)
    templates = _TO_THING + _ONWARDS + _STOP + ((_ENTER + _OUT + _STOP_ROOM) if room else ())
    return _pick(rng, templates).format(_colored(rng, name, color), room)


def _noun(rng: np.random.Generator, house: House, index: int) -> str:
    """Name a thing of a house with its color."""
    thing = house.things[index]
    return _colored(rng, thing.name, thing.color)


def _colored(rng: np.random.Generator, name: str, color: str | None) -> str:
    word = _pick(rng, _SYNONYMS.get(name, (name,)))
    return word.format(color) if "{0}" in word else f"{color} {word}"


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _join(rng: np.random.Generator, clauses: list[str]) -> str:
    """Join clauses to sentences that begin with a capital and end with a full stop."""
    text = clauses[0]
    for index, clause in enumerate(clauses[1:], start=2):
        joiner = _pick(rng, _LAST_JOINERS if index == len(clauses) else _JOINERS)
        text += joiner + (clause if joiner != ". " else clause[0].upper() + clause[1:])
    return text[0].upper() + text[1:] + "."
