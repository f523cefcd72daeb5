"""Telugu: colors stand before their noun and never change; the noun's stem carries case endings and postpositions.

Forms of a thing: ``thing`` (nominative, and accusative, which is the same for things without life) and ``thing_of``
(genitive, before postpositions). Form of a room: ``room``,
the stem before the endings of place.
"""

from dataclasses import dataclass

from vln_clip.envs.demo.languages.clauses import Kind
from vln_clip.envs.demo.languages.grammar import Forms, Grammar


@dataclass(frozen=True)
class _Noun:
    """A noun in the nominative and the genitive."""

    nominative: str
    genitive: str


def _noun(word: str) -> _Noun:
    """Return a noun whose genitive is its nominative, as that of most singular things."""
    return _Noun(word, word)


def _plural(word: str) -> _Noun:
    """Return a plural noun in -లు: its genitive ends in -ల."""
    return _Noun(word, word.removesuffix("ు"))


_COLORS = {
    "red": ("ఎర్ర", "ఎరుపు రంగు"),
    "orange": ("నారింజ రంగు",),
    "yellow": ("పసుపు రంగు",),
    "green": ("ఆకుపచ్చ", "ఆకుపచ్చ రంగు"),
    "turquoise": ("టర్కాయిస్ రంగు",),
    "blue": ("నీలం రంగు",),
    "purple": ("ఊదా రంగు",),
    "pink": ("గులాబీ రంగు",),
    "black": ("నల్ల", "నలుపు రంగు"),
}
_NOUNS = {
    "doorway": (_noun("తలుపు"), _noun("ద్వారం")),
    "sofa": (_noun("సోఫా"),),
    "armchair": (_noun("చేతుల కుర్చీ"),),
    "bed": (_noun("మంచం"),),
    "table": (_noun("బల్ల"),),
    "desk": (_noun("రాత బల్ల"),),
    "chair": (_noun("కుర్చీ"),),
    "bench": (_noun("బెంచీ"),),
    "wardrobe": (_noun("బట్టల బీరువా"),),
    "cabinet": (_noun("అల్మారా"),),
    "dresser": (_noun("సొరుగుల అల్మారా"),),
    "bookshelf": (_noun("పుస్తకాల అల్మారా"),),
    "fridge": (_noun("ఫ్రిజ్"),),
    "counter": (_noun("కౌంటర్"),),
    "bathtub": (_noun("స్నానపు తొట్టి"),),
    "sink": (_noun("సింక్"),),
    "lamp": (_noun("ల్యాంప్"),),
    "plant": (_noun("మొక్క"),),
    "piano": (_noun("పియానో"),),
    "toy box": (_noun("బొమ్మల పెట్టె"),),
    "rug": (_noun("తివాచీ"),),
    "curtain": (_plural("పరదాలు"), _noun("పరదాలు గల కిటికీ")),
    "painting": (_noun("చిత్రపటం"),),
    "mirror": (_noun("అద్దం"),),
}
_ROOMS = {
    "hallway": "నడవ",
    "living room": "హాలు",
    "kitchen": "వంటగది",
    "bedroom": "పడకగది",
    "bathroom": "స్నానాల గది",
    "dining room": "భోజనాల గది",
    "office": "ఆఫీసు",
    "library": "గ్రంథాలయం",
    "playroom": "ఆటల గది",
}
_WORDINGS = {
    Kind.START_ROOM: ("మీరు {room}లో నిలబడి ఉన్నారు", "{room} నుండి బయలుదేరండి"),
    Kind.START_DOOR: ("మీరు {thing_of} దగ్గర నిలబడి ఉన్నారు", "{thing_of} దగ్గర నుండి బయలుదేరండి"),
    Kind.THROUGH_DOOR: ("{thing_of} గుండా వెళ్ళండి", "{thing} దాటి వెళ్ళండి"),
    Kind.TO_DOOR: ("{thing_of} వైపు నడవండి", "{thing_of} దగ్గరకు వెళ్ళండి"),
    Kind.TO_THING: (
        "{thing_of} వైపు నడవండి",
        "{thing_of} దగ్గరకు వెళ్ళండి",
        "{thing} ఉన్న వైపు వెళ్ళండి",
    ),
    Kind.ONWARDS: ("{thing_of} వైపు నడుస్తూ ఉండండి", "{thing_of} వైపు ముందుకు సాగండి"),
    Kind.ENTER: (
        "{room}లోకి వెళ్ళి {thing_of} వైపు నడవండి",
        "{room}లోకి ప్రవేశించి {thing_of} దగ్గరకు వెళ్ళండి",
    ),
    Kind.LEAVE: (
        "{room} నుండి బయటకు వచ్చి {thing_of} వైపు నడవండి",
        "{room} నుండి బయటకు వచ్చి {thing_of} దగ్గరకు వెళ్ళండి",
    ),
    Kind.STOP: ("{thing_of} పక్కన ఆగండి", "{thing_of} దగ్గర ఆగండి", "{thing} ఉన్న చోట ఆగండి"),
    Kind.STOP_IN_ROOM: ("{room}లో {thing_of} పక్కన ఆగండి",),
}


def _things(name: str, color: str) -> list[Forms]:
    """Return the forms of every noun for a thing, in every word for its color."""
    return [
        {"thing": f"{word} {noun.nominative}", "thing_of": f"{word} {noun.genitive}"}
        for noun in _NOUNS[name]
        for word in _COLORS[color]
    ]


_ROOM_FORMS = {kind: ({"room": word},) for kind, word in _ROOMS.items()}
TELUGU = Grammar(_WORDINGS, _things, _ROOM_FORMS, (", తర్వాత ", ". "), (". చివరగా ", ". "), ".")
