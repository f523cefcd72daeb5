"""How clauses become sentences: wordings with places for the inflected forms that a language's tables give."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from vln_clip.envs.demo.languages.clauses import Clause, Kind

# Inflected forms by the names that the wordings of the language use, such as {thing} or {thing_oblique}.
Forms = Mapping[str, str]
_MAX_DRAWS = 100
Option = TypeVar("Option")


@dataclass(frozen=True)
class Grammar:
    """One language, or one way to speak it.

    Attributes:
        wordings: sentences of each kind of clause, without their end.
        things: returns the alternatives for a thing, given its noun and its color word in English.
        rooms: alternatives for each kind of room.
        joiners: between two clauses; one that begins with the full stop begins a sentence.
        last_joiners: before the last clause.
        full_stop: sign that ends a sentence.
    """

    wordings: Mapping[Kind, Sequence[str]]
    things: Callable[[str, str], Sequence[Forms]]
    rooms: Mapping[str, Sequence[Forms]]
    joiners: Sequence[str]
    last_joiners: Sequence[str]
    full_stop: str

    def say(self, rng: np.random.Generator, clauses: Sequence[Clause]) -> str:
        """Write an instruction, in Unicode's normal form C.

        Args:
            rng: source of the wording.
            clauses: what it says.
        """
        text = ""
        for index, clause in enumerate(clauses):
            text += self._clause(rng, clause)
            if index + 1 == len(clauses):
                text += self.full_stop
            elif clause.kind.is_start:
                text += self.full_stop + " "
            else:
                text += _pick(rng, self.last_joiners if index + 2 == len(clauses) else self.joiners)
        # Only scripts that have capitals change.
        text = re.sub(rf"(^|{re.escape(self.full_stop)} )(\w)", lambda found: found[1] + found[2].upper(), text)
        return unicodedata.normalize("NFC", text)

    def say_differently(
        self, rng: np.random.Generator, draw: Callable[[int], Sequence[Clause]], count: int
    ) -> tuple[str, ...]:
        """Write several different instructions.

        Args:
            rng: source of the wording.
            draw: chooses what the k-th one says, anew at each call.
            count: how many.

        Raises:
            RuntimeError: the language has too few wordings.
        """
        texts: list[str] = []
        for _ in range(_MAX_DRAWS):
            if len(texts) == count:
                return tuple(texts)
            text = self.say(rng, draw(len(texts)))
            if text not in texts:
                texts.append(text)
        raise RuntimeError(f"{count} different instructions must be found in {_MAX_DRAWS} draws, got {texts}")

    def _clause(self, rng: np.random.Generator, clause: Clause) -> str:
        """Write one clause, without its end."""
        forms: dict[str, str] = {}
        if clause.room is not None:
            forms |= _pick(rng, self.rooms[clause.room])
        if clause.thing is not None:
            assert clause.thing.color is not None, clause.thing.name  # landmarks have colors
            forms |= _pick(rng, self.things(clause.thing.name, clause.thing.color))
        return _pick(rng, self.wordings[clause.kind]).format_map(forms)


def _pick(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    return options[int(rng.integers(len(options)))]
