"""What can be said of a picture beyond doubt: which things a word means, where they lie, what could be mistaken."""

import numpy as np

from vln_clip.envs.demo.pictures.seen import Facts, Seen
from vln_clip.envs.demo.pictures.words import BRIGHT, LOOKALIKES, NOUNS, PALE

LARGE = 0.015  # share from which a thing's color strikes the eye
_SIDE_GAP, _DEPTH_RATIO = 0.25, 1.6


def words_for(name: str) -> dict[str, str]:
    """Return the words for a thing in phrases."""
    noun = NOUNS[name]
    return {
        "noun": noun.one,
        "is": noun.verb,
        "Is": noun.verb.capitalize(),
        "a": noun.with_article(),
        "many": noun.many,
    }


def another(rng: np.random.Generator, options: tuple[str, ...], *taken: str | None) -> str:
    """Draw an option that is not taken."""
    free = [option for option in options if option not in taken]
    return free[int(rng.integers(len(free)))]


def doubtful(facts: Facts, name: str) -> bool:
    """Tell whether something is seen that could be taken for a thing of that name."""
    return not LOOKALIKES[name].isdisjoint(facts.names)


def absent(facts: Facts, name: str) -> bool:
    """Tell whether nothing is seen that is, or could be taken for, a thing of that name."""
    return name not in facts.names and not doubtful(facts, name)


def single(facts: Facts) -> list[Seen]:
    """Return the things that "the sofa" can only mean."""
    names = [thing.name for thing in facts.things]
    return [thing for thing in facts.clear if names.count(thing.name) == 1 and not doubtful(facts, thing.name)]


def colored(facts: Facts) -> dict[str, list[Seen]]:
    """Return all things of each color that can be asked about here."""
    pale = PALE.get(facts.room, ()) if facts.room else BRIGHT
    return {color: [thing for thing in facts.things if thing.color == color] for color in BRIGHT if color not in pale}


def side_of(one: Seen, two: Seen) -> str | None:
    """Return on which side of ``two`` the other lies, left or right; None where people would disagree."""
    if abs(one.center - two.center) < _SIDE_GAP or one.place == two.place:
        return None
    return "left" if one.center < two.center else "right"


def nearer(one: Seen, two: Seen) -> Seen | None:
    """Return the thing that is nearer; None where people would disagree, as they do about doorways."""
    near, far = sorted((one, two), key=lambda seen: seen.distance_m)
    if "doorway" in (near.name, far.name) or far.distance_m < _DEPTH_RATIO * near.distance_m:
        return None
    return near
