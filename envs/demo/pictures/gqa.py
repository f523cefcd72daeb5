"""Questions in the manner of GQA that a picture's facts answer beyond doubt, with their full answers and reasoning."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vln_clip.envs.demo.palette import COLORS
from vln_clip.envs.demo.pictures.asking import Candidate
from vln_clip.envs.demo.pictures.certain import LARGE, absent, another, colored, doubtful, nearer, side_of, single
from vln_clip.envs.demo.pictures.certain import words_for as noun_words
from vln_clip.envs.demo.pictures.gqa_forms import GQA_FORMS
from vln_clip.envs.demo.pictures.seen import Facts, Seen
from vln_clip.envs.demo.pictures.words import FIXED_COLOR, NOUNS, ROOMS, with_article

_GQA_SEED = 1_000_151
_SIDES = ("left", "right")
_FURNITURE = (
    *("sofa", "armchair", "bed", "table", "desk", "chair", "bench"),
    *("wardrobe", "cabinet", "dresser", "bookshelf"),
)


@dataclass(frozen=True)
class GqaCandidate(Candidate):
    """A question with what GQA tells of it.

    Attributes:
        full_answer: a sentence.
        fact: what must be known to answer it; questions about one fact of a picture have answers that agree.
        steps: of reasoning, ``operation: argument``, joined by semicolons.
    """

    full_answer: str
    fact: str
    steps: str


def gqa_candidates(seed: int, facts: Facts) -> list[GqaCandidate]:
    """Return the questions that a picture answers, in random phrasing; the same seed gives the same ones."""
    rng = np.random.default_rng([seed, facts.image_id, _GQA_SEED])
    makers = (_exist, _colors, _places, _pairs, _beside, _colors_beside, _furniture, _objects_beside, _room, _two)
    return [candidate for make in makers for candidate in make(rng, facts)]


def _ask(
    rng: np.random.Generator,
    facts: Facts,
    form: str,
    topic: str,
    answer: str,
    domain: str,
    fact: str = "",
    **words: str,
) -> GqaCandidate:
    """Phrase a question and its answer."""
    kind = GQA_FORMS[form]
    words["answer"] = answer
    text = kind.phrases[int(rng.integers(len(kind.phrases)))].format(**words)
    sentence = kind.sentence if isinstance(kind.sentence, str) else kind.sentence[answer]
    full, steps = sentence.format(**words), kind.steps.format(**words)
    return GqaCandidate(
        facts.image_id, form, topic, text[0].upper() + text[1:], answer, domain, full[0].upper() + full[1:], fact, steps
    )


def _words(name: str, color: str | None = None) -> dict[str, str]:
    """Return the words for a thing, and for it in a color."""
    noun = NOUNS[name]
    more = {"a_color": noun.with_article(color), "color": color} if color else {}
    return {**noun_words(name), "Does": "Do" if noun.mass else "Does", **more}


def _options(rng: np.random.Generator, right: str, wrong: str) -> dict[str, str]:
    """Return two options in random order."""
    first, second = (right, wrong) if rng.random() < 0.5 else (wrong, right)
    return {"first": first, "second": second}


def _exist(rng: np.random.Generator, facts: Facts) -> Iterator[GqaCandidate]:
    clear = {thing.name for thing in facts.clear}
    for name in NOUNS:
        if name in clear or absent(facts, name):
            answer = "yes" if name in clear else "no"
            yield _ask(rng, facts, "exist", name, answer, "yes_no", f"is there {name}", **_words(name))
    for name in sorted(clear):
        same = [thing for thing in facts.things if thing.name == name]
        if name in FIXED_COLOR or not all(thing.clear and thing.color for thing in same) or doubtful(facts, name):
            continue
        colors = sorted({str(thing.color) for thing in same})
        true, wrong = another(rng, tuple(colors)), another(rng, tuple(COLORS), *colors)
        for color, answer in ((true, "yes"), (wrong, "no")):
            yield _ask(rng, facts, "exist_color", name, answer, "yes_no", **_words(name, color))


def _colors(rng: np.random.Generator, facts: Facts) -> Iterator[GqaCandidate]:
    for thing in single(facts):
        if thing.color is None or thing.name in FIXED_COLOR:
            continue
        name, true, fact = thing.name, thing.color, f"color of {thing.name}"
        wrong = another(rng, tuple(COLORS), true)
        yield _ask(rng, facts, "query_color", name, true, "color", fact, **_words(name))
        for color, answer in ((true, "yes"), (wrong, "no")):
            yield _ask(rng, facts, "verify_color", name, answer, "yes_no", fact, truth=true, **_words(name, color))
        options, pair = _options(rng, true, wrong), " ".join(sorted((true, wrong)))
        yield _ask(rng, facts, "choose_color", pair, true, "choice", fact, **options, **_words(name))
        if thing.place in _SIDES:
            color = (true, wrong)[int(rng.integers(2))]
            place = thing.place if color != true or rng.random() < 0.67 else another(rng, _SIDES, thing.place)
            answer = "yes" if (color, place) == (true, thing.place) else "no"
            told = {**_words(name, color), "place": place, "truth": true, "true_place": thing.place}
            yield _ask(rng, facts, "color_and_place", name, answer, "yes_no", **told)


def _places(rng: np.random.Generator, facts: Facts) -> Iterator[GqaCandidate]:
    for thing in single(facts):
        if thing.place not in _SIDES:
            continue
        name, true, fact = thing.name, str(thing.place), f"place of {thing.name}"
        wrong = another(rng, _SIDES, true)
        yield _ask(rng, facts, "query_place", name, true, "choice", fact, **_words(name))
        yield _ask(rng, facts, "choose_place", name, true, "choice", fact, **_options(rng, true, wrong), **_words(name))
        place, answer = ((true, "yes"), (wrong, "no"))[int(rng.integers(2))]
        yield _ask(rng, facts, "verify_place", name, answer, "yes_no", fact, place=place, truth=true, **_words(name))


def _pairs(rng: np.random.Generator, facts: Facts) -> Iterator[GqaCandidate]:
    things = [thing for thing in single(facts) if not NOUNS[thing.name].mass]
    for pair in itertools.combinations(things, 2):
        one, two = pair[:: 1 if rng.random() < 0.5 else -1]
        words = {**_words(one.name), "other": two.name}
        true, near = side_of(one, two), nearer(one, two)
        both = " and ".join(sorted((one.name, two.name)))
        if true:
            side, fact = another(rng, _SIDES), f"side of {both}"
            answer = "yes" if side == true else "no"
            told = {**words, "side": side, "truth": true}
            yield _ask(rng, facts, "verify_beside", one.name, answer, "yes_no", fact, **told)
            options = _options(rng, *_SIDES)
            yield _ask(rng, facts, "choose_beside", one.name, true, "choice", fact, **options, **words)
        if near:
            yield _ask(rng, facts, "compare_near", both, near.name, "choice", f"nearer of {both}", **words)
        if one.color and two.color and not {one.name, two.name} & set(FIXED_COLOR):
            same, told = one.color == two.color, {**words, "truth": one.color, "other_truth": two.color}
            fact = f"same color of {both}"
            yield _ask(rng, facts, "same_color", "same", "yes" if same else "no", "yes_no", fact, **told)
            yield _ask(rng, facts, "different_color", "same", "no" if same else "yes", "yes_no", fact, **told)


def _beside(rng: np.random.Generator, facts: Facts) -> Iterator[GqaCandidate]:
    """Ask what is on one side of a thing that stands alone."""
    for other in single(facts):
        for name in NOUNS:
            same = [thing for thing in facts.things if thing.name == name]
            if name == other.name or doubtful(facts, name) or (not same and rng.random() < 0.9):
                continue
            sides = [side_of(thing, other) for thing in same]
            if None in sides or not all(thing.clear for thing in same):
                continue
            side = another(rng, _SIDES)
            told = {**_words(name), "side": side, "other": NOUNS[other.name].one}
            yield _ask(rng, facts, "exist_beside", name, "yes" if side in sides else "no", "yes_no", **told)


def _colors_beside(rng: np.random.Generator, facts: Facts) -> Iterator[GqaCandidate]:
    """Ask for the color of one of several things of a name: of the one beside something else."""
    for other in single(facts):
        for name in sorted({thing.name for thing in facts.clear} - {other.name, *FIXED_COLOR}):
            same = [thing for thing in facts.things if thing.name == name]
            sides = [side_of(thing, other) for thing in same]
            if len(same) < 2 or None in sides or NOUNS[name].mass or doubtful(facts, name):
                continue
            told = {**_words(name), "other": NOUNS[other.name].one}
            for side in _SIDES:
                thing = same[sides.index(side)] if sides.count(side) == 1 else None
                if thing and thing.clear and thing.color:
                    yield _ask(rng, facts, "query_color_beside", name, thing.color, "color", side=side, **told)


def _objects_beside(rng: np.random.Generator, facts: Facts) -> Iterator[GqaCandidate]:
    alone = [thing for thing in single(facts) if not NOUNS[thing.name].mass]
    missing = tuple(name for name, noun in NOUNS.items() if not noun.mass and absent(facts, name))
    for other in single(facts):
        for color, found in colored(facts).items():
            rest = [thing for thing in found if thing is not other]
            sides = [side_of(thing, other) for thing in rest]
            for side in _SIDES:
                if None in sides or sides.count(side) != 1:
                    continue
                thing, noun = rest[sides.index(side)], NOUNS[rest[sides.index(side)].name]
                if thing.clear and thing.share >= LARGE and thing.name != "doorway" and not noun.mass:
                    told = {"a_answer": noun.with_article(), "color": color, "side": side}
                    told["other"] = NOUNS[other.name].one
                    yield _ask(rng, facts, "query_beside", color, thing.name, "noun", **told)
        for thing in alone:
            side_there = side_of(thing, other)
            if side_there and missing:
                yield _which_beside(rng, facts, (thing.name, another(rng, missing)), side_there, other)


def _which_beside(
    rng: np.random.Generator, facts: Facts, names: tuple[str, str], side: str, other: Seen
) -> GqaCandidate:
    """Ask which of two is beside a thing; the first is, the second is not seen."""
    options = _options(rng, *names)
    told = {f"a_{key}": NOUNS[name].with_article() for key, name in options.items()} | options
    told |= {"side": side, "other": NOUNS[other.name].one}
    return _ask(rng, facts, "choose_object", " ".join(sorted(names)), names[0], "choice", **told)


def _furniture(rng: np.random.Generator, facts: Facts) -> Iterator[GqaCandidate]:
    for color, found in colored(facts).items():
        things = [thing for thing in found if thing.name != "doorway"]
        if len(things) == 1 and things[0].clear and things[0].share >= LARGE and things[0].name in _FURNITURE:
            name = things[0].name
            yield _ask(rng, facts, "query_furniture", color, name, "noun", f"furniture in {color}", color=color)


def _room(rng: np.random.Generator, facts: Facts) -> Iterator[GqaCandidate]:
    if facts.room is None:
        return
    true, wrong = facts.room, another(rng, ROOMS, facts.room)
    a_true = with_article(true)
    yield _ask(rng, facts, "query_room", "room", true, "room", "room", a_room=a_true)
    for room, answer in ((true, "yes"), (wrong, "no")):
        told = {"room": room, "a_room": with_article(room), "a_truth": a_true}
        yield _ask(rng, facts, "verify_room", room, answer, "yes_no", "room", **told)
    options = _options(rng, true, wrong)
    told = {f"a_{key}": with_article(room) for key, room in options.items()} | options
    pair = " ".join(sorted((true, wrong)))
    yield _ask(rng, facts, "choose_room", pair, true, "choice", "room", a_room=a_true, **told)


def _two(rng: np.random.Generator, facts: Facts) -> Iterator[GqaCandidate]:
    """Ask for two things at once."""
    there = sorted({thing.name for thing in facts.clear})
    missing = [name for name in NOUNS if absent(facts, name)]
    drawn = {name: another(rng, tuple(missing), name) for name in there} if missing else {}
    pairs = list(zip(there, rng.permutation(there).tolist(), strict=True))
    pairs += [(one, two) if rng.random() < 0.5 else (two, one) for one, two in drawn.items()]
    if len(missing) > 1:
        pairs += [(name, another(rng, tuple(missing), name)) for name in rng.permutation(missing)[:3].tolist()]
    for one, two in pairs:
        if one == two:
            continue
        seen = [name for name in (one, two) if name in there]
        told = {**_words(one), "other": NOUNS[two].one, "b": NOUNS[two].with_article(), "other_many": NOUNS[two].many}
        if len(seen) == 1:
            lone, gone = NOUNS[seen[0]], NOUNS[two if seen[0] == one else one]
            told |= {"a_lone": lone.with_article(), "lone_is": lone.verb, "missing": gone.one}
        if seen:
            yield _ask(rng, facts, "both", one, "yes" if len(seen) == 2 else "no", "yes_no", **told)
        if len(seen) < 2:
            yield _ask(rng, facts, "either", one, "yes" if seen else "no", "yes_no", **told)
