"""English as spoken in the United States and in India: the same sentences, a few other nouns.

Form of a thing: ``thing``, its noun with its color. Form of a room: ``room``.
"""

from collections.abc import Mapping, Sequence

from vln_clip.envs.demo.languages.clauses import Kind
from vln_clip.envs.demo.languages.grammar import Forms, Grammar
from vln_clip.envs.demo.palette import ROOM_TYPES

_Nouns = Mapping[str, Sequence[str]]
_WORDINGS = {
    Kind.START_ROOM: ("you are standing in the {room}", "you start in the {room}"),
    Kind.START_DOOR: ("you are standing at the {thing}", "you start at the {thing}"),
    Kind.THROUGH_DOOR: ("go through the {thing}", "walk through the {thing}"),
    Kind.TO_DOOR: ("walk towards the {thing}", "go to the {thing}"),
    Kind.TO_THING: ("walk towards the {thing}", "go to the {thing}"),
    Kind.ONWARDS: ("keep walking towards the {thing}", "continue to the {thing}"),
    Kind.ENTER: ("enter the {room} and go to the {thing}", "walk into the {room} towards the {thing}"),
    Kind.LEAVE: ("leave the {room} and go to the {thing}", "walk out of the {room} towards the {thing}"),
    Kind.STOP: ("stop next to the {thing}", "wait by the {thing}"),
    Kind.STOP_IN_ROOM: ("stop in the {room} next to the {thing}",),
}
# Nouns in both countries, then those of one; where a thing stands in no table, its name is the noun.
_BOTH: _Nouns = {
    "doorway": ("doorway", "door"),
    "painting": ("painting", "picture"),
    "curtain": ("curtains", "window with {color} curtains"),
    "armchair": ("armchair",),
}
_UNITED_STATES: _Nouns = {
    "sofa": ("couch",),
    "cabinet": ("cabinet",),
    "bookshelf": ("bookcase",),
    "rug": ("rug",),
    "plant": ("potted plant",),
    "fridge": ("refrigerator",),
    "lamp": ("floor lamp",),
}
_INDIA: _Nouns = {
    "sofa": ("sofa",),
    "cabinet": ("cupboard",),
    "bookshelf": ("bookshelf",),
    "rug": ("carpet",),
    "plant": ("plant",),
    "fridge": ("fridge",),
    "lamp": ("lamp",),
}


def _grammar(nouns: _Nouns) -> Grammar:
    def things(name: str, color: str) -> list[Forms]:
        words = nouns.get(name, (name,))
        return [{"thing": word.format(color=color) if "{" in word else f"{color} {word}"} for word in words]

    rooms = {kind: ({"room": kind},) for kind in ROOM_TYPES}
    return Grammar(_WORDINGS, things, rooms, (", then ", ". "), (", and ", ". Finally, "), ".")


UNITED_STATES, INDIA = _grammar({**_BOTH, **_UNITED_STATES}), _grammar({**_BOTH, **_INDIA})
