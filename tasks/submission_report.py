"""What a check of a submission found, as text for people and as data for programs."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vln_clip.tasks.problems import Problem, count_kinds

NUM_SHOWN = 200  # problems on lines of their own
NUM_SHOWN_OF_KIND = 40  # so that one kind leaves room for the others


@dataclass(frozen=True)
class Report:
    """What a check of a submission found.

    Attributes:
        file: the submission.
        num_instructions: instructions of the split.
        num_predictions: items in the file.
        problems: everything that a server would refuse, or not score as meant; empty for a valid file.
        warnings: what a server takes but may not be meant.
        asked: what ``num_instructions`` counts, in words.
    """

    file: Path
    num_instructions: int
    num_predictions: int
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()
    asked: str = "instructions"

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of problems of each kind."""
        return count_kinds(self.problems)

    @property
    def verdict(self) -> str:
        """Return the first line of the report."""
        size = f"{self.num_predictions} predictions for {self.num_instructions} {self.asked}"
        if not self.problems:
            return f"{self.file}: valid, {size}"
        counts = ", ".join(f"{kind}: {count}" for kind, count in self.counts.items())
        return f"{self.file}: not valid, {size}; {counts}"

    def lines(self, everything: bool = False) -> list[str]:
        """Return the report as lines: the verdict, then one per problem and warning.

        Args:
            everything: no limit, and every member of a problem that sums up several on a line of its own.
        """
        shown: Counter[str] = Counter()
        left: Counter[str] = Counter()
        told = []
        for problem in self.problems:
            if everything or (shown[problem.kind] < NUM_SHOWN_OF_KIND and shown.total() < NUM_SHOWN):
                shown[problem.kind] += 1
                told += _lines("error", problem, everything)
            else:
                left[problem.kind] += problem.count
        told += [f"  … and {count} more {kind} (--all prints them)" for kind, count in left.items()]
        for warning in self.warnings:
            told += _lines("warning", warning, everything)
        return [self.verdict, *told]

    def __str__(self) -> str:
        """Return the lines with the limit on their number."""
        return "\n".join(self.lines())

    def to_json(self) -> dict[str, Any]:
        """Return the whole report for a JSON file."""
        sizes = {f"num_{self.asked}": self.num_instructions, "num_predictions": self.num_predictions}
        found = {name: [asdict(p) for p in getattr(self, name)] for name in ("problems", "warnings")}
        return {"file": str(self.file), "valid": not self.problems, **sizes, "counts": self.counts, **found}


def _lines(word: str, problem: Problem, everything: bool) -> list[str]:
    """Return one problem as text."""
    members = [f"    {member}" for member in problem.members] if everything else []
    return [f"  {word}: {problem}", *members]
