"""What can be wrong with a prediction file: the kinds, and one record for each finding."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vln_clip.errors import InputError

FILE, BYTE_ORDER_MARK, EMPTY_LINE = "faults of the file", "byte order marks", "empty lines"
OTHER_FORMAT, MALFORMED, WRONG_TYPE = "items of another format", "malformed items", "ids of the wrong type"
DUPLICATE, UNKNOWN, MISSING = "duplicate ids", "unknown ids", "missing ids"
EMPTY, NESTED, BARE = "empty trajectories", "steps with several viewpoints", "steps that are no lists"
WRONG_START, UNKNOWN_VIEWPOINT, JUMP = "wrong starts", "unknown viewpoints", "jumps"
NOT_FINITE = "angles that are no finite numbers"
# Warnings: a server takes such a file, but it may not be what was meant.
PACKED, LARGE, CONSTANT, DEGREES = "packed files", "large files", "NaN and Infinity", "angles in degrees"
NO_ANGLES, UNSORTED, REPEATED = "angles left out", "unsorted ids", "repeated viewpoints"
LONG, STILL, TELEPORT = "long trajectories", "agents that do not move", "teleports"


@dataclass(frozen=True)
class Problem:
    """Something wrong with a prediction file.

    Attributes:
        kind: a constant above.
        message: a sentence.
        place: where in the file, e.g. ``item 3`` (counted from 0) or ``line 4``; empty for the whole file.
        members: what a message about several things sums up: ids or places.
        row: position of the prediction in the list that was checked; -1 for the whole file.
    """

    kind: str
    message: str
    place: str = ""
    members: tuple[str, ...] = ()
    row: int = -1

    @property
    def count(self) -> int:
        """Return how many things are wrong."""
        return max(1, len(self.members))

    def __str__(self) -> str:
        """Return place and message."""
        return f"{self.place}: {self.message}" if self.place else self.message


def count_kinds(problems: Sequence[Problem]) -> dict[str, int]:
    """Return the number of problems of each kind."""
    counts: Counter[str] = Counter()
    for problem in problems:
        counts[problem.kind] += problem.count
    return dict(counts)


def name_counts(problems: Sequence[Problem]) -> str:
    """Return the number of problems of each kind as text."""
    return ", ".join(f"{count} {kind}" for kind, count in count_kinds(problems).items())


def require_none(problems: Sequence[Problem]) -> None:
    """Raise the first problem as an ``InputError`` that also counts them all."""
    if problems:
        many = sum(problem.count for problem in problems) > 1
        raise InputError(f"{problems[0]}" + (f" (in all: {name_counts(problems)})" if many else ""))
