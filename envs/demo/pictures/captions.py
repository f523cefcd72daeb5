"""Captions of a picture, five or more: different things, words and order, all true of its pixels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vln_clip.envs.demo.pictures.seen import Facts, Seen
from vln_clip.envs.demo.pictures.words import NOUNS, NUMBERS, with_article

NUM_CAPTIONS = 5
_CAPTIONS_SEED, _DESCRIPTIONS_SEED = 1_000_099, 1_000_211
_NAME_COLOR = 0.85
_DOORWAY_WEIGHT = 0.3  # people rarely name them
_NEAR_M, _FAR_M = 2.6, 4.0


@dataclass(frozen=True)
class _Teller:
    """One annotator at work on one picture."""

    rng: np.random.Generator
    facts: Facts
    things: tuple[Seen, ...]
    room: str

    def one_of(self, *options: str) -> str:
        return options[int(self.rng.integers(len(options)))]

    def phrase(self, thing: Seen) -> str:
        """Return "a red sofa", mostly with its color."""
        return NOUNS[thing.name].with_article(thing.color if self.rng.random() < _NAME_COLOR else None)

    def largest(self, count: int) -> list[Seen]:
        """Return the most striking things, with some chance."""
        things = self.things
        weights = [thing.share * (_DOORWAY_WEIGHT if thing.name == "doorway" else 1.0) for thing in things]
        order = np.argsort([-weight * self.rng.uniform(0.5, 1.5) for weight in weights])
        return [things[index] for index in order[:count]]


def captions(seed: int, facts: Facts) -> list[str]:
    """Return five different captions; the same seed and picture give the same ones."""
    texts = tell(np.random.default_rng([seed, facts.image_id, _CAPTIONS_SEED]), facts, NUM_CAPTIONS)
    if len(texts) < NUM_CAPTIONS:
        raise RuntimeError(f"picture {facts.image_id} shows too little for {NUM_CAPTIONS} captions")
    return texts


def descriptions(seed: int, facts: Facts, count: int) -> list[str]:
    """Return up to ``count`` different sentences like captions; the same seed and picture give the same ones."""
    return tell(np.random.default_rng([seed, facts.image_id, _DESCRIPTIONS_SEED]), facts, count)


def tell(rng: np.random.Generator, facts: Facts, count: int) -> list[str]:
    """Return up to ``count`` different captions of a picture that shows something clear."""
    inside = tuple(thing for thing in facts.clear if thing.room in (facts.room, None))
    if facts.room and inside:
        teller = _Teller(rng, facts, inside, facts.room)
    else:  # what stands in several rooms stands in the house
        teller = _Teller(rng, facts, facts.clear, "house")
    texts: list[str] = []
    order = list(rng.permutation(len(_WAYS)))
    for index in [*order, *rng.integers(len(_WAYS), size=200)]:
        told = _WAYS[index](teller)
        text = told and told[0].upper() + told[1:]
        if text and text not in texts:
            texts.append(text)
        if len(texts) == count:
            break
    return texts


def _list(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _room_with(teller: _Teller) -> str:
    things = _list([teller.phrase(thing) for thing in teller.largest(2 + int(teller.rng.integers(2)))])
    return f"{with_article(teller.room)} {teller.one_of('with', 'that has')} {things}."


def _things_in(teller: _Teller) -> str:
    things = _list([teller.phrase(thing) for thing in teller.largest(2)])
    return f"{things} {teller.one_of('in', 'inside')} {with_article(teller.room)}."


def _there_is(teller: _Teller) -> str:
    first, *rest = teller.largest(2)
    things = _list([teller.phrase(thing) for thing in (first, *rest)])
    return f"there {NOUNS[first.name].verb} {things} in {teller.one_of('the', 'this')} {teller.room}."


def _view_of(teller: _Teller) -> str | None:
    if not teller.facts.floor or teller.room != teller.facts.room:
        return None
    floor = teller.one_of("floor", "floors") if teller.facts.floor == "wood" else "floor"
    words = f"{teller.facts.floor} {floor}"
    words = words if floor == "floors" else with_article(words)
    return f"{with_article(teller.room)} with {words} and {teller.phrase(teller.largest(1)[0])}."


def _sides(teller: _Teller) -> str | None:
    placed = [thing for thing in teller.largest(4) if thing.place in ("left", "right")]
    first = placed[0] if placed else None
    other = next((thing for thing in placed if first and thing.place != first.place), None)
    if not first:
        return None
    if other:
        return f"{teller.phrase(first)} on the {first.place} and {teller.phrase(other)} on the {other.place}."
    return f"{teller.phrase(first)} on the {first.place} {teller.one_of('side ', '')}of {with_article(teller.room)}."


def _counted(teller: _Teller) -> str | None:
    names = [thing.name for thing in teller.facts.things]
    clear = [thing.name for thing in teller.things]
    for name in clear:
        if 1 < names.count(name) == clear.count(name) < len(NUMBERS) and not NOUNS[name].mass:
            rest = [thing for thing in teller.largest(3) if thing.name != name][:1]
            more = "".join(f" and {teller.phrase(thing)}" for thing in rest)
            return f"{NUMBERS[names.count(name)]} {NOUNS[name].many}{more} in {with_article(teller.room)}."
    return None


def _depth(teller: _Teller) -> str | None:
    things = [thing for thing in teller.largest(4) if thing.name != "doorway"]
    near = next((thing for thing in things if thing.distance_m < _NEAR_M), None)
    far = next((thing for thing in things if thing.distance_m > _FAR_M), None)
    if near is None or far is None:
        return None
    behind = teller.one_of("in the background", "further away")
    return f"{teller.phrase(near)} in {with_article(teller.room)} with {teller.phrase(far)} {behind}."


_WAYS: tuple[Callable[[_Teller], str | None], ...] = (
    _room_with,
    _things_in,
    _there_is,
    _view_of,
    _sides,
    _counted,
    _depth,
)
