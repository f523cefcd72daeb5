"""Hypotheses about a picture that its facts entail, contradict, or leave open: of the kind of SNLI-VE's."""

from collections.abc import Iterator

import numpy as np

from vln_clip.envs.demo.designs import DESIGNS
from vln_clip.envs.demo.palette import COLORS, ROOM_TYPES
from vln_clip.envs.demo.pictures.asking import Candidate
from vln_clip.envs.demo.pictures.certain import absent, another, doubtful, nearer, side_of, single, words_for
from vln_clip.envs.demo.pictures.hypothesis_forms import (
    CONTRADICTION,
    ENTAILMENT,
    HYPOTHESIS_FORMS,
    NEUTRAL,
    ROOM_STORIES,
    stories_of,
)
from vln_clip.envs.demo.pictures.seen import Facts, Seen
from vln_clip.envs.demo.pictures.words import FIXED_COLOR, NOUNS, NUMBERS, ROOMS, with_article

_HYPOTHESES_SEED = 1_000_171
_SIDES = ("left", "right")
_NUM_UNSEEN = 16  # things of other rooms that are spoken of, before some are picked
_NUM_WRONG = 4  # wrong colors of a thing
# What can stand in a room and has a color that is not always the same.
_STANDS: tuple[tuple[str, str], ...] = tuple(
    (name, room)
    for room, kind in ROOM_TYPES.items()
    for name in sorted(set(kind.furniture))
    if DESIGNS[name].colored and name not in FIXED_COLOR
)


def hypotheses(seed: int, facts: Facts) -> list[Candidate]:
    """Return hypotheses about a picture, their labels as answers; the same seed gives the same ones."""
    rng = np.random.default_rng([seed, facts.image_id, _HYPOTHESES_SEED])
    makers = (_existence, _of_colors, _of_places, _of_pairs, _of_counts, _of_room, _elsewhere, _told)
    by_text = {candidate.text: candidate for make in makers for candidate in make(rng, facts)}
    return list(by_text.values())  # "red or blue" may have been drawn for red and for blue


def _say(rng: np.random.Generator, facts: Facts, form: str, topic: str, label: str, **words: str) -> Candidate:
    """Phrase a hypothesis."""
    kind = HYPOTHESIS_FORMS[form]
    text = kind.phrases[int(rng.integers(len(kind.phrases)))].format(**words)
    return Candidate(facts.image_id, form, topic, text[0].upper() + text[1:], label, kind.domain)


def _label(is_true: bool) -> str:
    return ENTAILMENT if is_true else CONTRADICTION


def _existence(rng: np.random.Generator, facts: Facts) -> Iterator[Candidate]:
    clear = {thing.name for thing in facts.clear}
    for name in NOUNS:
        if name in clear or absent(facts, name):
            words = words_for(name)
            yield _say(rng, facts, "exists", name, _label(name in clear), **words)
            yield _say(rng, facts, "missing", name, _label(name not in clear), **words)


def _of_colors(rng: np.random.Generator, facts: Facts) -> Iterator[Candidate]:
    for thing in single(facts):
        if thing.color is None or thing.name in FIXED_COLOR:
            continue
        wrong = [color for color in rng.permutation([*COLORS]).tolist() if color != thing.color][:_NUM_WRONG]
        for color in (thing.color, *wrong):
            words, is_true = {**words_for(thing.name), "color": color}, color == thing.color
            words["a_color"] = NOUNS[thing.name].with_article(color)
            yield _say(rng, facts, "exists_color", f"{thing.name} {color}", _label(is_true), **words)
            if thing.room == facts.room and (thing.name, thing.room) in _STANDS:
                yield from _in_room(rng, facts, thing.name, str(thing.room), color, thing.color)
        if thing.room == facts.room and (thing.name, thing.room) in _STANDS:
            yield from _room_of(rng, facts, thing)


def _in_room(
    rng: np.random.Generator, facts: Facts, name: str, room: str, color: str, truth: str | None
) -> Iterator[Candidate]:
    """Speak of the color of a thing in a room; without ``truth`` the picture does not show it."""
    words, topic = {**words_for(name), "room": room, "color": color}, f"{name} {room} {color}"

    def label(is_true: bool) -> str:
        return NEUTRAL if truth is None else _label(is_true)

    yield _say(rng, facts, "color_in_room", topic, label(color == truth), **words)
    yield _say(rng, facts, "not_color_in_room", topic, label(color != truth), **words)
    other = another(rng, tuple(COLORS), color)
    either = " ".join(sorted((color, other)))
    told = {**words, "other_color": other}
    yield _say(rng, facts, "either_in_room", f"{name} {room} {either}", label(truth in (color, other)), **told)


def _room_of(rng: np.random.Generator, facts: Facts, thing: Seen) -> Iterator[Candidate]:
    """Speak of the room of a thing that is seen in its room."""
    for name, room in _STANDS:
        if name == thing.name:
            words = {**words_for(name), "color": str(thing.color), "room": room}
            yield _say(rng, facts, "room_of", f"{name} {thing.color} {room}", _label(room == thing.room), **words)


def _elsewhere(rng: np.random.Generator, facts: Facts) -> Iterator[Candidate]:
    """Speak of things in rooms of which nothing is seen."""
    if facts.room is None:
        return
    seen_rooms = {facts.room, *(thing.room for thing in facts.things)}
    unseen = [(name, room) for name, room in _STANDS if room not in seen_rooms]
    for index in rng.permutation(len(unseen))[:_NUM_UNSEEN]:
        (name, room), color = unseen[index], another(rng, tuple(COLORS))
        yield from _in_room(rng, facts, name, room, color, None)
        if absent(facts, name):
            words = {**words_for(name), "color": color, "room": room}
            yield _say(rng, facts, "room_of", f"{name} {color} {room}", NEUTRAL, **words)


def _of_places(rng: np.random.Generator, facts: Facts) -> Iterator[Candidate]:
    for thing in single(facts):
        if thing.place in _SIDES:
            for place in _SIDES:
                words = {**words_for(thing.name), "place": place}
                yield _say(rng, facts, "place", f"{thing.name} {place}", _label(place == thing.place), **words)


def _of_pairs(rng: np.random.Generator, facts: Facts) -> Iterator[Candidate]:
    things = [thing for thing in single(facts) if not NOUNS[thing.name].mass]
    for one in things:
        for two in things:
            if one is two:
                continue
            side, near = side_of(one, two), nearer(one, two)
            words = {**words_for(one.name), "other": NOUNS[two.name].one}
            if side:
                told = another(rng, _SIDES)
                topic = f"{' '.join(sorted((one.name, two.name)))} {told}"
                yield _say(rng, facts, "beside", topic, _label(side == told), side=told, **words)
            if near:
                topic = " ".join(sorted((one.name, two.name)))
                yield _say(rng, facts, "nearer", topic, _label(near is one), **words)


def _of_counts(rng: np.random.Generator, facts: Facts) -> Iterator[Candidate]:
    for name, noun in NOUNS.items():
        found = [thing for thing in facts.things if thing.name == name]
        if noun.mass or not found or not all(thing.clear for thing in found) or doubtful(facts, name):
            continue
        for count in (2, 3, 4):
            if abs(count - len(found)) <= 1:
                words = {**words_for(name), "number": NUMBERS[count]}
                yield _say(rng, facts, "count", f"{name} {count}", _label(count == len(found)), **words)


def _of_room(rng: np.random.Generator, facts: Facts) -> Iterator[Candidate]:
    if facts.room:
        for room in (facts.room, another(rng, ROOMS, facts.room)):
            yield _say(rng, facts, "room", room, _label(room == facts.room), a_room=with_article(room))


def _told(rng: np.random.Generator, facts: Facts) -> Iterator[Candidate]:
    """Tell what no picture shows: stories of its things, and what is in the next room where no other room is seen."""
    for thing in single(facts):
        if thing.name == "doorway" or thing.color is None:
            continue
        noun, stories = NOUNS[thing.name], stories_of(thing.name)
        index = int(rng.integers(len(stories)))
        words = f"{thing.color} {noun.one}" if rng.random() < 0.5 else noun.one
        story = stories[index].format(thing=words, **{"is": noun.verb, "was": "were" if noun.mass else "was"})
        yield _say(rng, facts, "story", f"{thing.name} {index}", NEUTRAL, story=story)
    if facts.room is None:
        return
    story = another(rng, ROOM_STORIES).format(room=facts.room)
    yield _say(rng, facts, "story", "room", NEUTRAL, story=story)
    if all(thing.room == facts.room for thing in facts.things):  # no doorway either, through which one could look
        name, room = another(rng, tuple(NOUNS), "doorway"), another(rng, ROOMS)
        yield _say(rng, facts, "next_thing", name, NEUTRAL, **words_for(name))
        yield _say(rng, facts, "next_room", room, NEUTRAL, a_room=with_article(room))
