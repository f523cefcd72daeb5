"""The sentences of hypotheses: which labels a form can have, its share and its phrases; and stories, always neutral.

A sentence must not give its label away. Sentences about the picture are entailments as often as contradictions.
Sentences about a thing in a room of the house are, with the very same words, as often one as the other as neutral:
the picture may show the room, or another one.
"""

from dataclasses import dataclass

ENTAILMENT, NEUTRAL, CONTRADICTION = "entailment", "neutral", "contradiction"
LABELS = (ENTAILMENT, NEUTRAL, CONTRADICTION)
POLAR, OPEN, STORY = "polar", "open", "story"


@dataclass(frozen=True)
class Form:
    """One form of hypotheses.

    Attributes:
        domain: ``polar`` is entailment or contradiction, ``open`` any of the three, ``story`` always neutral.
        share: of the hypotheses.
        phrases: of the sentence.
    """

    domain: str
    share: float
    phrases: tuple[str, ...]


HYPOTHESIS_FORMS: dict[str, Form] = {
    "exists": Form(POLAR, 0.06, ("There {is} {a} in the picture.", "{a} can be seen.", "The picture shows {a}.")),
    "missing": Form(POLAR, 0.04, ("There {is} no {noun} in the picture.", "The picture does not show any {many}.")),
    "exists_color": Form(
        POLAR, 0.05, ("There {is} {a_color} in the picture.", "{a_color} can be seen.", "The {noun} {is} {color}.")
    ),
    "place": Form(
        POLAR,
        0.04,
        ("The {noun} {is} on the {place} of the picture.", "On the {place} side there {is} {a}."),
    ),
    "beside": Form(
        POLAR, 0.04, ("The {noun} {is} to the {side} of the {other}.", "There {is} {a} {side} of the {other}.")
    ),
    "count": Form(
        POLAR, 0.04, ("There are {number} {many} in the picture.", "{number} {many} can be seen in the picture.")
    ),
    "room": Form(POLAR, 0.03, ("This is {a_room}.", "The picture was taken in {a_room}.")),
    "nearer": Form(POLAR, 0.01, ("The {noun} is nearer than the {other}.",)),
    "color_in_room": Form(
        OPEN,
        0.26,
        (
            "The {noun} in the {room} {is} {color}.",
            "In this house, the {noun} in the {room} {is} {color}.",
            "The color of the {noun} in the {room} is {color}.",
            "In the {room}, the {noun} {is} {color}.",
        ),
    ),
    "not_color_in_room": Form(
        OPEN,
        0.08,
        ("The {noun} in the {room} {is} not {color}.", "In this house, the {noun} in the {room} {is} not {color}."),
    ),
    "either_in_room": Form(
        OPEN,
        0.08,
        (
            "The {noun} in the {room} {is} {color} or {other_color}.",
            "In this house, the {noun} in the {room} {is} either {color} or {other_color}.",
        ),
    ),
    "room_of": Form(
        OPEN,
        0.12,
        (
            "In this house, the {color} {noun} {is} in the {room}.",
            "The {color} {noun} of this house {is} in the {room}.",
            "The {color} {noun} {is} in the {room} of the house.",
        ),
    ),
    "story": Form(STORY, 0.09, ("{story}",)),
    "next_thing": Form(STORY, 0.03, ("There {is} {a} in the next room.", "The next room has {a} in it.")),
    "next_room": Form(STORY, 0.03, ("The next room is {a_room}.", "Behind the camera is the door to {a_room}.")),
}

# What no picture shows or rules out: what was, what is inside, whose it is.
_ANY = (
    "The {thing} {was} a present.",
    "The {thing} {was} bought last year.",
    "The {thing} {is} older than the house.",
    "Somebody cleaned the {thing} this morning.",
    "The owner wants to sell the {thing}.",
)
_SEAT = ("Somebody sat on the {thing} an hour ago.", "A guest will sit on the {thing} tonight.")
_CHEST = ("The {thing} {is} full of clothes.", "The {thing} {is} empty inside.")
_STORIES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("sofa", "armchair", "chair", "bench"), _SEAT),
    **dict.fromkeys(("wardrobe", "dresser", "cabinet"), _CHEST),
    "bed": ("Two children slept in the {thing} last night.",),
    "table": ("The family had breakfast at the {thing}.",),
    "desk": ("Somebody wrote a letter at the {thing} yesterday.",),
    "fridge": ("There is milk in the {thing}.", "The {thing} is empty inside."),
    "stove": ("Somebody cooked soup on the {thing} yesterday.",),
    "bathtub": ("Somebody takes a bath in the {thing} every day.",),
    "piano": ("The {thing} is out of tune.",),
    "toy box": ("The {thing} is full of dolls.",),
    "television": ("The children watched the {thing} last night.",),
    "painting": ("The owner of the house made the {thing}.",),
    "clock": ("The {thing} is five minutes late.",),
}
ROOM_STORIES = (
    "Somebody reads in this {room} every evening.",
    "The owner wants to paint the {room} next year.",
    "A cat is asleep behind the camera.",
)


def stories_of(name: str) -> tuple[str, ...]:
    """Return the stories that can be told of a thing."""
    return _STORIES.get(name, ()) + _ANY
