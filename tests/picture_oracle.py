"""Answers questions about demo pictures from what they show, by the words of the questions alone."""

import re

from vln_clip.envs.demo.palette import COLORS
from vln_clip.envs.demo.pictures.seen import Facts
from vln_clip.envs.demo.pictures.words import NOUNS


def answer(text: str, facts: Facts) -> str:
    """Answer a question from what the picture shows, by its words alone."""
    words = text.lower().rstrip("?")
    things = facts.clear
    nouns = {word: name for name, noun in NOUNS.items() for word in (noun.one, noun.many)}
    named = [nouns[word] for word in re.findall("|".join(sorted(nouns, key=len, reverse=True)), words)]
    color = next((color for color in COLORS if re.search(rf"\b{color}\b", words)), None)
    if re.match(r"(what|which|where).*room|is this|does this look|.*picture taken", words) and not named:
        rooms = re.search(r"(?:an?) (.*)$", words)
        return str(facts.room) if words[0] == "w" else "yes" if rooms and rooms[1] == facts.room else "no"
    if "floor" in words:
        return str(facts.floor)
    if words.startswith("how many"):
        return str(sum(thing.color == color if color else thing.name == named[0] for thing in things))
    if re.search("closer|nearer", words):
        return min((thing for thing in things if thing.name in named), key=lambda thing: thing.distance_m).name
    side = re.search(r"(left|right) (?:of|side)|on the (left|right)$|(left|right) of", words)
    if len(named) == 2:
        one, other = (next(thing for thing in things if thing.name == name) for name in named)
        return "yes" if (one.center < other.center) == ("left of" in words or "to the left" in words) else "no"
    fits = [t for t in things if (not named or t.name == named[0]) and (not color or t.color == color)]
    if "color" in words and words[0] == "w" and named:
        place = side and (side[1] or side[2])
        return str(next(t for t in things if t.name == named[0] and (not place or t.place == place)).color)
    if words.startswith("where") or "in the middle or" in words:
        return str(fits[0].place)
    if words[0] == "w":
        return fits[0].name
    if side:
        return "yes" if fits[0].place == (side[1] or side[2]) else "no"
    if color and not named:
        return "yes" if any(thing.color == color for thing in facts.things) else "no"
    return "yes" if fits else "no"
