"""Questions that a picture's facts answer beyond doubt: candidates of every form, of which ``balance`` picks some."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vln_clip.envs.demo.palette import COLORS
from vln_clip.envs.demo.pictures.certain import (
    LARGE,
    another,
    colored,
    doubtful,
    nearer,
    side_of,
    single,
    words_for,
)
from vln_clip.envs.demo.pictures.seen import Facts
from vln_clip.envs.demo.pictures.words import FIXED_COLOR, NOUNS, NUMBERS, ROOMS, with_article

_ASK_SEED = 1_000_039

_PHRASES: dict[str, tuple[str, ...]] = {
    "presence": (
        "{Is} there {a}?",
        "{Is} there {a} in the picture?",
        "{Is} there {a} here?",
        "Can you see {a}?",
        "Do you see {a} in this picture?",
    ),
    "is_color": ("{Is} the {noun} {color}?", "{Is} the color of the {noun} {color}?", "{Is} there {a_color}?"),
    "any_color": ("Is there anything {color}?", "Is there {a_color} object?", "Is anything {color} in the picture?"),
    "is_room": ("Is this {a}?", "Is this picture taken in {a}?", "Does this look like {a}?"),
    "is_place": ("{Is} the {noun} on the {place}?", "{Is} the {noun} on the {place} side of the picture?"),
    "beside": ("{Is} the {noun} to the {side} of the {other}?", "{Is} the {noun} {side} of the {other}?"),
    "count": (
        "How many {many} are there?",
        "How many {many} can you see?",
        "How many {many} are in the picture?",
        "How many {many} are visible?",
    ),
    "count_color": ("How many {color} things are there?", "How many things are {color}?"),
    "color": (
        "What color {is} the {noun}?",
        "What is the color of the {noun}?",
        "What color {is} the {noun} in the picture?",
        "Which color {is} the {noun}?",
    ),
    "color_at": ("What color {is} the {noun} on the {place}?", "What is the color of the {noun} on the {place}?"),
    "where": (
        "Where {is} the {noun}?",
        "Where in the picture {is} the {noun}?",
        "{Is} the {noun} on the left, in the middle or on the right?",
    ),
    "where_color": ("Where is the {color} thing?", "Where in the picture is the {color} object?"),
    "room": (
        "What room is this?",
        "What room is shown?",
        "Which room is this?",
        "What kind of room is this?",
        "What type of room is in the picture?",
    ),
    "floor": ("What is the floor made of?", "What kind of floor is this?", "What type of flooring is there?"),
    "what": ("What is the {color} thing?", "What is the {color} object?", "What {color} object is this?"),
    "closer": ("Which is closer, the {noun} or the {other}?", "What is nearer, the {noun} or the {other}?"),
}
FORMS = tuple(_PHRASES)


@dataclass(frozen=True)
class Candidate:
    """A question that could be asked.

    Attributes:
        image_id: picture.
        form: one of ``FORMS``.
        topic: what it is about; answers are balanced for each form and topic.
        text: the question.
        answer: the true answer.
        domain: what kind of word the answer is: yes_no, number, color, place, room, floor or noun.
    """

    image_id: int
    form: str
    topic: str
    text: str
    answer: str
    domain: str

    @property
    def answer_type(self) -> str:
        """Return the answer type of VQA v2."""
        return {"yes_no": "yes/no", "number": "number"}.get(self.domain, "other")


def candidates(seed: int, facts: Facts) -> list[Candidate]:
    """Return the questions that a picture answers, in random phrasing; the same seed gives the same ones."""
    rng = np.random.default_rng([seed, facts.image_id, _ASK_SEED])
    makers = (_about_presence, _about_counts, _about_colors, _about_objects, _about_places, _about_pairs, _about_room)
    return [candidate for make in makers for candidate in make(rng, facts)]


def _ask(
    rng: np.random.Generator, facts: Facts, form: str, topic: str, answer: str, domain: str, **words: str
) -> Candidate:
    """Phrase a question."""
    phrases = _PHRASES[form]
    text = phrases[int(rng.integers(len(phrases)))].format(**words)
    return Candidate(facts.image_id, form, topic, text[0].upper() + text[1:], answer, domain)


def _about_presence(rng: np.random.Generator, facts: Facts) -> Iterator[Candidate]:
    seen, clear = {thing.name for thing in facts.things}, {thing.name for thing in facts.clear}
    for name in NOUNS:
        if name in clear:
            yield _ask(rng, facts, "presence", name, "yes", "yes_no", **words_for(name))
        elif name not in seen and not doubtful(facts, name):
            yield _ask(rng, facts, "presence", name, "no", "yes_no", **words_for(name))


def _about_counts(rng: np.random.Generator, facts: Facts) -> Iterator[Candidate]:
    for name, noun in NOUNS.items():
        found = [thing for thing in facts.things if thing.name == name]
        if noun.mass or len(found) >= len(NUMBERS) or not all(thing.clear for thing in found):
            continue
        if not doubtful(facts, name):
            yield _ask(rng, facts, "count", name, str(len(found)), "number", **words_for(name))
    for color, found in colored(facts).items():
        if all(thing.clear and thing.name != "curtain" for thing in found):
            yield _ask(rng, facts, "count_color", color, str(len(found)), "number", color=color)


def _about_colors(rng: np.random.Generator, facts: Facts) -> Iterator[Candidate]:
    for thing in single(facts):
        if thing.color is None or thing.name in FIXED_COLOR:
            continue
        words = words_for(thing.name)
        yield _ask(rng, facts, "color", thing.name, thing.color, "color", **words)
        wrong = another(rng, tuple(COLORS), thing.color)
        for color, answer in ((thing.color, "yes"), (wrong, "no")):
            a_color = NOUNS[thing.name].with_article(color)
            yield _ask(rng, facts, "is_color", thing.name, answer, "yes_no", color=color, a_color=a_color, **words)
    for place in ("left", "right"):
        for name in {thing.name: None for thing in facts.clear}:  # in the order of size
            same = [thing for thing in facts.things if thing.name == name]
            there = [thing for thing in same if thing.place == place]
            sure = all(thing.place for thing in same) and len(same) > 1 and len(there) == 1
            if sure and there[0].clear and there[0].color and name not in FIXED_COLOR and not doubtful(facts, name):
                yield _ask(rng, facts, "color_at", name, there[0].color, "color", place=place, **words_for(name))


def _about_objects(rng: np.random.Generator, facts: Facts) -> Iterator[Candidate]:
    for color, found in colored(facts).items():
        if not found:
            yield _ask(rng, facts, "any_color", color, "no", "yes_no", color=color, a_color=with_article(color))
        elif found[0].share >= LARGE:
            yield _ask(rng, facts, "any_color", color, "yes", "yes_no", color=color, a_color=with_article(color))
            if len(found) == 1 and found[0].clear:
                if found[0].place:
                    yield _ask(rng, facts, "where_color", color, found[0].place, "place", color=color)
                if found[0].name != "doorway":
                    yield _ask(rng, facts, "what", color, found[0].name, "noun", color=color)


def _about_places(rng: np.random.Generator, facts: Facts) -> Iterator[Candidate]:
    for thing in single(facts):
        if not thing.place:
            continue
        words = words_for(thing.name)
        yield _ask(rng, facts, "where", thing.name, thing.place, "place", **words)
        if thing.place != "middle":
            wrong = another(rng, ("left", "right"), thing.place)
            place, answer = ((thing.place, "yes"), (wrong, "no"))[int(rng.integers(2))]
            yield _ask(rng, facts, "is_place", thing.name, answer, "yes_no", place=place, **words)


def _about_pairs(rng: np.random.Generator, facts: Facts) -> Iterator[Candidate]:
    things = [thing for thing in single(facts) if not NOUNS[thing.name].mass]
    for index, thing in enumerate(things):
        for other in things[index + 1 :]:
            one, two = (thing, other)[:: 1 if rng.random() < 0.5 else -1]
            words = {**words_for(one.name), "other": NOUNS[two.name].one}
            lies = side_of(one, two)
            if lies:
                side = ("left", "right")[int(rng.integers(2))]
                answer = "yes" if lies == side else "no"
                yield _ask(rng, facts, "beside", one.name, answer, "yes_no", side=side, **words)
            near = nearer(one, two)
            if near:
                yield _ask(rng, facts, "closer", " ".join(sorted((one.name, two.name))), near.name, "noun", **words)


def _about_room(rng: np.random.Generator, facts: Facts) -> Iterator[Candidate]:
    if facts.room is None:
        return
    yield _ask(rng, facts, "room", "room", facts.room, "room")
    wrong = another(rng, ROOMS, facts.room)
    for room, answer in ((facts.room, "yes"), (wrong, "no")):
        yield _ask(rng, facts, "is_room", room, answer, "yes_no", a=with_article(room))
    if facts.floor:
        yield _ask(rng, facts, "floor", "floor", facts.floor, "floor")
