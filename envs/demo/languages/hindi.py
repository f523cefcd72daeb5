"""Hindi: colors agree with their noun in gender, number and case; postpositions govern the oblique case.

Forms of a thing: ``thing`` (direct case), ``thing_oblique``, and ``is``, the copula that agrees in number. Form of
a room: ``room_oblique``.
"""

from dataclasses import dataclass

from vln_clip.envs.demo.languages.clauses import Kind
from vln_clip.envs.demo.languages.grammar import Forms, Grammar


@dataclass(frozen=True)
class _Color:
    """A color word: masculine singular in the direct case, the other masculine forms, feminine."""

    masculine: str
    oblique: str
    feminine: str


@dataclass(frozen=True)
class _Noun:
    """A noun with the place of its color.

    Attributes:
        direct: direct case.
        oblique: oblique case.
        feminine: gender.
        plural: number.
        color: form of its color in all cases where it agrees with another noun of the phrase; None where it agrees
            with this one.
    """

    direct: str
    oblique: str
    feminine: bool = False
    plural: bool = False
    color: str | None = None


def _declined(stem: str) -> _Color:
    return _Color(stem + "ा", stem + "े", stem + "ी")


def _fixed(word: str) -> _Color:
    return _Color(word, word, word)


def _masculine(direct: str, oblique: str | None = None) -> _Noun:
    return _Noun(direct, oblique or direct)


def _feminine(word: str) -> _Noun:
    return _Noun(word, word, feminine=True)


_COLORS = {
    "red": _fixed("लाल"),
    "orange": _fixed("नारंगी"),
    "yellow": _declined("पील"),
    "green": _declined("हर"),
    "turquoise": _fixed("फ़िरोज़ी"),
    "blue": _declined("नील"),
    "purple": _fixed("बैंगनी"),
    "pink": _fixed("गुलाबी"),
    "black": _declined("काल"),
}
_NOUNS = {
    "doorway": (_masculine("{color} दरवाज़ा", "{color} दरवाज़े"),),
    "sofa": (_masculine("{color} सोफ़ा", "{color} सोफ़े"),),
    "armchair": (_feminine("{color} आरामकुर्सी"),),
    "bed": (_masculine("{color} बिस्तर"), _masculine("{color} पलंग")),
    "table": (_feminine("{color} मेज़"),),
    "desk": (_feminine("पढ़ने की {color} मेज़"),),
    "chair": (_feminine("{color} कुर्सी"),),
    "bench": (_feminine("{color} बेंच"),),
    "wardrobe": (_feminine("कपड़ों की {color} अलमारी"),),
    "cabinet": (_feminine("{color} अलमारी"),),
    "dresser": (_feminine("दराज़ों वाली {color} अलमारी"),),
    "bookshelf": (_feminine("किताबों की {color} अलमारी"),),
    "fridge": (_masculine("{color} फ़्रिज"),),
    "counter": (_masculine("{color} काउंटर"),),
    "bathtub": (_masculine("{color} बाथटब"),),
    "sink": (_masculine("{color} सिंक"),),
    "lamp": (_masculine("{color} लैंप"),),
    "plant": (_masculine("{color} पौधा", "{color} पौधे"),),
    "piano": (_masculine("{color} पियानो"),),
    "toy box": (_masculine("खिलौनों का {color} बक्सा", "खिलौनों के {color} बक्से"),),
    "rug": (_masculine("{color} कालीन"),),
    "curtain": (
        _Noun("{color} पर्दे", "{color} पर्दों", plural=True),
        _Noun("{color} पर्दों वाली खिड़की", "{color} पर्दों वाली खिड़की", feminine=True, color="oblique"),
    ),
    "painting": (_feminine("{color} तस्वीर"),),
    "mirror": (_masculine("{color} आईना", "{color} आईने"),),
}
_ROOMS = {
    "hallway": "गलियारे",
    # Not बैठक alone: that is also a meeting.
    "living room": "बैठने के कमरे",
    "kitchen": "रसोई",
    "bedroom": "सोने के कमरे",
    "bathroom": "बाथरूम",
    "dining room": "खाने के कमरे",
    "office": "दफ़्तर",
    "library": "पुस्तकालय",
    "playroom": "खेलने के कमरे",
}
_WORDINGS = {
    Kind.START_ROOM: ("आप {room_oblique} में खड़े हैं", "आप अभी {room_oblique} में हैं"),
    Kind.START_DOOR: ("आप {thing_oblique} पर खड़े हैं", "आप अभी {thing_oblique} पर हैं"),
    Kind.THROUGH_DOOR: ("{thing_oblique} से होकर जाइए", "{thing_oblique} से गुज़रिए"),
    Kind.TO_DOOR: ("{thing_oblique} की ओर चलिए", "{thing_oblique} तक जाइए"),
    Kind.TO_THING: (
        "{thing_oblique} की ओर चलिए",
        "{thing_oblique} के पास जाइए",
        "जिधर {thing} {is}, उधर जाइए",
    ),
    Kind.ONWARDS: ("{thing_oblique} की ओर चलते रहिए", "{thing_oblique} की तरफ़ आगे बढ़िए"),
    Kind.ENTER: (
        "{room_oblique} में जाकर {thing_oblique} की ओर चलिए",
        "{room_oblique} में प्रवेश करके {thing_oblique} के पास जाइए",
    ),
    Kind.LEAVE: (
        "{room_oblique} से निकलकर {thing_oblique} की ओर चलिए",
        "{room_oblique} से बाहर निकलकर {thing_oblique} के पास जाइए",
    ),
    Kind.STOP: (
        "{thing_oblique} के पास रुकिए",
        "{thing_oblique} की बगल में रुकिए",
        "जहाँ {thing} {is}, वहाँ रुकिए",
    ),
    Kind.STOP_IN_ROOM: ("{room_oblique} में {thing_oblique} के पास रुकिए",),
}


def _things(name: str, color: str) -> list[Forms]:
    """Return the inflected forms of every noun for a thing."""
    return [_inflect(noun, _COLORS[color]) for noun in _NOUNS[name]]


def _inflect(noun: _Noun, color: _Color) -> Forms:
    oblique = color.feminine if noun.feminine else color.oblique
    direct = oblique if noun.feminine or noun.plural else color.masculine
    if noun.color:
        direct = oblique = getattr(color, noun.color)
    return {
        "thing": noun.direct.format(color=direct),
        "thing_oblique": noun.oblique.format(color=oblique),
        "is": "हैं" if noun.plural else "है",
    }


_ROOM_FORMS = {kind: ({"room_oblique": word},) for kind, word in _ROOMS.items()}
HINDI = Grammar(_WORDINGS, _things, _ROOM_FORMS, (", फिर ", "। "), (" और ", "। अंत में "), "।")
