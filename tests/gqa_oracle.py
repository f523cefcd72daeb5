"""Answers GQA-like questions and judges hypotheses about demo pictures by their words and what the pictures show."""

import re
from collections.abc import Callable

from vln_clip.envs.demo.palette import COLORS, ROOM_TYPES
from vln_clip.envs.demo.pictures.seen import Facts, Seen
from vln_clip.envs.demo.pictures.words import NOUNS, NUMBERS

_NAMES = {word: name for name, noun in NOUNS.items() for word in (noun.one, noun.many)}


def _any(words) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_SLOTS = {
    "N": rf"(?:an? |the |no |any )?(?:{_any(_NAMES)})",
    "C": _any(COLORS),
    "S": "left|right",
    "R": rf"(?:an? |the )?(?:{_any(ROOM_TYPES)})",
    "K": _any(NUMBERS),
}
Rule = tuple[re.Pattern[str], Callable[..., object]]


def _rule(pattern: str, judge: Callable[..., object]) -> Rule:
    """Compile a pattern; <N>, <C>, <S>, <R>, <K> are a thing, a color, a side, a room, a number."""
    return re.compile(re.sub(r"<(\w)>", lambda slot: f"({_SLOTS[slot[1]]})", pattern)), judge


def _name(words: str) -> str:
    return _NAMES[re.sub(r"^(an?|the|no|any) ", "", words)]


def _room(words: str) -> str:
    return re.sub(r"^(an?|the) ", "", words)


def _of(facts: Facts, words: str) -> list[Seen]:
    return [thing for thing in facts.things if thing.name == _name(words)]


def _one(facts: Facts, words: str) -> Seen:
    (thing,) = _of(facts, words)
    assert thing.clear
    return thing


def _is_left(one: Seen, two: Seen) -> bool:
    assert abs(one.center - two.center) > 0.2, "too close to tell"
    return one.center < two.center


def _beside(facts: Facts, name: str, side: str, other: str) -> list[Seen]:
    return [thing for thing in _of(facts, name) if _is_left(thing, _one(facts, other)) == (side == "left")]


def _colors(facts: Facts, name: str) -> set[str | None]:
    return {thing.color for thing in _of(facts, name)}


def _thing_beside(facts: Facts, color: str, side: str, other: str) -> str:
    rest = [thing for thing in facts.things if thing.color == color and thing is not _one(facts, other)]
    (found,) = [thing for thing in rest if _is_left(thing, _one(facts, other)) == (side == "left")]
    return found.name


_FURNITURE = {
    "sofa",
    "armchair",
    "bed",
    "table",
    "desk",
    "chair",
    "bench",
    "wardrobe",
    "cabinet",
    "dresser",
    "bookshelf",
}


def _furniture(facts: Facts, color: str) -> str:
    (found,) = [thing for thing in facts.things if thing.color == color and thing.name != "doorway"]
    assert found.name in _FURNITURE
    return found.name


def _option(facts: Facts, side: str, other: str, first: str, second: str) -> str:
    found = [_name(name) for name in (first, second) if _of(facts, name) and _beside(facts, name, side, other)]
    assert len(found) == 1
    return found[0]


def _near(facts: Facts, one: str, two: str) -> str:
    return min((_one(facts, one), _one(facts, two)), key=lambda thing: thing.distance_m).name


def _place(facts: Facts, name: str) -> str:
    return str(_one(facts, name).place)


def _only(things: list[Seen]) -> Seen:
    (thing,) = things
    return thing


def _side(facts: Facts, name: str, other: str) -> str:
    return "left" if _is_left(_one(facts, name), _one(facts, other)) else "right"


def _exists(facts: Facts, words: str) -> bool:
    color = next((color for color in COLORS if words.startswith(f"{color} ")), None)
    things = _of(facts, words.removeprefix(f"{color} "))
    return any(thing.color == color for thing in things) if color else bool(things)


QUESTION_RULES = [
    _rule(r"(?:is|are) there (?:either )?<N> or <N>.*|do you see <N> or <N>", lambda f, *n: any(_of(f, w) for w in n)),
    _rule(r".* both <N> and <N>(?: in the picture)?", lambda f, a, b: bool(_of(f, a) and _of(f, b))),
    _rule(r"(?:is|are) (?:there )?<N> (?:to the )?<S> of <N>", lambda f, n, s, o: bool(_beside(f, n, s, o))),
    _rule(r"are there any (.*) to the <S> of <N>", lambda f, n, s, o: bool(_beside(f, n, s, o))),
    _rule(r"(?:is|are) there <N> to the <S> of <N>", lambda f, n, s, o: bool(_beside(f, n, s, o))),
    _rule(r"(?:is|are) <N> to the <S> or to the (?:left|right) of <N>", lambda f, n, _, o: _side(f, n, o)),
    _rule(r"(?:are there any|do you see any|is there an?|are there) (\D*?)(?: in .*)?", _exists),
    _rule(r"do you see (?:an? )?(.*)", _exists),
    _rule(r"(?:is|are|do|does) <N> (?:look )?<C>", lambda f, n, c: _one(f, n).color == c),
    _rule(r"is the color of <N> <C>", lambda f, n, c: _one(f, n).color == c),
    _rule(r"(?:is|are) <N> on the <S>(?: side)? of the (?:picture|image)", lambda f, n, s: _place(f, n) == s),
    _rule(r"(?:is it|is the room in the picture|does this place look like) <R>", lambda f, r: f.room == _room(r)),
    _rule(r"(?:what|which) color (?:is|are) <N>(?:, .*)?", lambda f, n: _one(f, n).color),
    _rule(r"what is the color of <N>", lambda f, n: _one(f, n).color),
    _rule(r"(?:is|are) <N> <C> or <C>", lambda f, n, *c: _one(f, n).color),
    _rule(r".* color is <N> (?:that is )?to the <S> of <N>", lambda f, n, s, o: _only(_beside(f, n, s, o)).color),
    _rule(r"what is the <C> (?:thing|object) to the <S> of <N>(?: called)?", _thing_beside),
    _rule(r"(?:what kind of|which piece of) furniture is <C>", _furniture),
    _rule(r"which <C> piece of furniture is shown", _furniture),
    _rule(r"(?:on )?which side.* (?:is|are) <N>(?: on|, the (?:left|right) or the (?:left|right))?", _place),
    _rule(r"(?:is|are) <N> on the (?:left|right) or on the (?:left|right) of the picture", _place),
    _rule(r"(?:which room is it|what room is shown|which place is shown in the picture)", lambda f: f.room),
    _rule(r"(?:what|which of them) is to the <S> of <N>, <N> or <N>", _option),
    _rule(r"(?:is it|which place is it,) <R> or <R>", lambda f, *r: f.room if f.room in map(_room, r) else "?"),
    _rule(
        r"(?:is|are) <N> <C> and on the <S> side of the picture",
        lambda f, n, c, s: (_one(f, n).color, _place(f, n)) == (c, s),
    ),
    _rule(r"(?:do|are) <N> and <N> (?:have )?the same color", lambda f, a, b: _one(f, a).color == _one(f, b).color),
    _rule(r"(?:do|are) <N> and <N> (?:have )?different.*", lambda f, a, b: _one(f, a).color != _one(f, b).color),
    _rule(r"(?:which is closer to the camera|what is nearer), <N> or <N>", _near),
]


def answer_gqa(text: str, facts: Facts) -> str:
    """Answer a question; AssertionError where no rule knows it."""
    found = _first(QUESTION_RULES, text.rstrip("?"), facts)
    return {True: "yes", False: "no"}.get(found, found) if isinstance(found, bool) else str(found)


def _first(rules: list[Rule], text: str, facts: Facts) -> object:
    for pattern, judge in rules:
        match = pattern.fullmatch(text[0].lower() + text[1:])
        if match:
            return judge(facts, *[group for group in match.groups() if group is not None])
    raise AssertionError(text)


def _told_color(facts: Facts, name: str, room: str) -> str | None:
    """Return the color of the thing in a room; None where the picture shows nothing of that room."""
    if facts.room == _room(room):
        thing = _one(facts, name)
        assert thing.room == facts.room
        return thing.color
    assert facts.room
    assert all(thing.room != _room(room) for thing in facts.things)
    return None


def _in_colors(facts: Facts, name: str, room: str, *colors: str) -> bool | None:
    told = _told_color(facts, name, room)
    return None if told is None else told in colors


def _not_in_colors(facts: Facts, name: str, room: str, *colors: str) -> bool | None:
    told = _in_colors(facts, name, room, *colors)
    return None if told is None else not told


def _room_of(facts: Facts, color: str, name: str, room: str) -> bool | None:
    if _of(facts, name):
        assert _one(facts, name).color == color
        assert _one(facts, name).room == facts.room
        return facts.room == room
    assert facts.room not in (None, room)
    return None


def _next_room(facts: Facts, *_: str) -> None:
    assert all(thing.room == facts.room for thing in facts.things), "something of another room, or a door to it"


_COLOR_IN = r"(?:in this house, )?<N> in <R> (?:is|are) "
_PAST = (
    r"(?:was|were) (?:a present|bought last year)|(?:is|are) older than the house|is full of clothes|is full of dolls"
)
_STORY = (
    rf"the (?:{_any(COLORS)} )?\D+ (?:{_PAST}|(?:is|are) empty inside|is out of tune|is five minutes late)\.",
    r"(?:somebody|two children|the family|the children|the owner|a guest) \D+\.",
    r"there is milk in the \D+\.|a cat is asleep behind the camera\.",
)
HYPOTHESIS_RULES = [
    *(_rule(pattern, lambda f: None) for pattern in _STORY),
    _rule(r"there (?:is|are) <N> in the next room\.|the next room has <N> in it\.", _next_room),
    _rule(r"the next room is <R>\.|behind the camera is the door to <R>\.", _next_room),
    _rule(_COLOR_IN + r"<C>\.", _in_colors),
    _rule(r"the color of <N> in <R> is <C>\.", _in_colors),
    _rule(r"in <R>, <N> (?:is|are) <C>\.", lambda f, r, n, c: _in_colors(f, n, r, c)),
    _rule(_COLOR_IN + r"(?:either )?<C> or <C>\.", _in_colors),
    _rule(_COLOR_IN + r"not <C>\.", _not_in_colors),
    _rule(r"(?:in this house, )?the <C> <N> (?:of this house )?(?:is|are) in the (.*?)(?: of the house)?\.", _room_of),
    _rule(r"there (?:is|are) no <N> in the picture\.", lambda f, n: not _of(f, n)),
    _rule(r"the picture does not show any (\D*)\.", lambda f, n: not _of(f, n)),
    _rule(r"there (?:is|are) ((?:an? )?<N>) <S> of <N>\.", lambda f, _, n, s, o: bool(_beside(f, n, s, o))),
    _rule(r"there are <K> (\D*) in the picture\.", lambda f, k, n: len(_of(f, n)) == NUMBERS.index(k)),
    _rule(r"<K> (\D*) can be seen in the picture\.", lambda f, k, n: len(_of(f, n)) == NUMBERS.index(k)),
    _rule(r"there (?:is|are) (?:an? )?(\D*) in the picture\.", _exists),
    _rule(r"on the <S> side there (?:is|are) <N>\.", lambda f, s, n: _place(f, n) == s),
    _rule(r"(?:an? )?(\D*) can be seen\.|the picture shows (?:an? )?(\D*)\.", _exists),
    _rule(r"<N> (?:is|are) <C>\.", lambda f, n, c: _one(f, n).color == c),
    _rule(r"<N> (?:is|are) on the <S> of the picture\.", lambda f, n, s: _place(f, n) == s),
    _rule(r"<N> (?:is|are) to the <S> of <N>\.", lambda f, n, s, o: bool(_beside(f, n, s, o))),
    _rule(r"(?:this is|the picture was taken in) <R>\.", lambda f, r: f.room == _room(r)),
    _rule(r"<N> is nearer than <N>\.", lambda f, a, b: _near(f, a, b) == _name(a)),
]


def judge(text: str, facts: Facts) -> str:
    """Judge a hypothesis; AssertionError where no rule knows it."""
    found = _first(HYPOTHESIS_RULES, text, facts)
    return "neutral" if found is None else "entailment" if found else "contradiction"
