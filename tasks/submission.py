"""Leaderboard submissions of R2R: writing one, and checking one before it is uploaded.

The format is that of prediction files (specification 8.3): every instruction once, the start pose included.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vln_clip.errors import InputError
from vln_clip.files import save_json
from vln_clip.records import Episode, Prediction
from vln_clip.tasks.graph import Graph
from vln_clip.tasks.predictions import (
    DUPLICATE,
    MALFORMED,
    MISSING,
    UNKNOWN,
    Problem,
    check_walks,
    parse_item,
    read_items,
    require_none,
)

NUM_NAMED = 3


@dataclass(frozen=True)
class Report:
    """What a check of a submission found.

    Attributes:
        file: the submission.
        num_instructions: instructions of the split.
        num_predictions: items in the file.
        problems: everything that is wrong, grouped by kind; empty for a valid file.
        num_without_angles: items with viewpoint ids only; servers are reported to accept them.
    """

    file: Path
    num_instructions: int
    num_predictions: int
    problems: tuple[Problem, ...]
    num_without_angles: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of problems of each kind."""
        return dict(Counter(problem.kind for problem in self.problems))

    def __str__(self) -> str:
        """Return the finding as lines of text: counts, and the first few problems of each kind."""
        size = f"{self.num_predictions} predictions for {self.num_instructions} instructions"
        lines = [f"{self.file}: {'not valid' if self.problems else 'valid'}, {size}"]
        for kind, count in self.counts.items():
            lines.append(f"  {kind}: {count}")
            named = [problem.message for problem in self.problems if problem.kind == kind][:NUM_NAMED]
            lines += [f"    {message}" for message in named]
        if self.num_without_angles:
            lines.append(f"  note: {self.num_without_angles} trajectories hold viewpoint ids without angles")
        return "\n".join(lines)

    def require_valid(self) -> None:
        """Raise ``InputError`` unless the submission is valid."""
        if self.problems:
            try:
                require_none(self.problems)
            except InputError as error:
                raise InputError(f"submission {self.file} is not valid: {error}") from None


def write_submission(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write a submission, atomically; gzipped where the name ends in ``.gz``.

    Raises:
        ValueError: two predictions with one id, an empty trajectory, or an angle that is not finite.
    """
    ids = Counter(prediction.instr_id for prediction in predictions)
    twice = [instr_id for instr_id, count in ids.items() if count > 1]
    if twice:
        raise ValueError(f"instr_id must be unique in a submission, got {twice[0]} {ids[twice[0]]} times")
    items = []
    for prediction in predictions:
        if not prediction.trajectory:
            raise ValueError(f"trajectory of {prediction.instr_id} must hold at least the start, got an empty one")
        poses = [
            [viewpoint, float(heading), float(elevation)] for viewpoint, heading, elevation in prediction.trajectory
        ]
        items.append({"instr_id": prediction.instr_id, "trajectory": poses})
    save_json(path, items, indent=None)


def validate_submission(path: Path, episodes: Sequence[Episode], graph: Graph) -> Report:
    """Check a submission: every id once, every trajectory from the right start along edges. Needs no goals.

    Args:
        path: submission, ``.json`` or ``.json.gz``.
        episodes: every instruction of the split.
        graph: navigation graphs of its scans.

    Returns:
        The report, which holds every problem of the file's items.

    Raises:
        InputError: the file as a whole is missing, truncated, not JSON or not a list.
    """
    items = read_items(path)
    by_id = {episode.instr_id: episode for episode in episodes}
    chosen: dict[str, Prediction] = {}
    broken: set[str] = set()
    problems: list[Problem] = []
    for position, item in enumerate(items):
        try:
            prediction = parse_item(item, f"item {position}")
        except InputError as error:
            problems.append(Problem(MALFORMED, str(error)))
            broken.add(str(item.get("instr_id")) if isinstance(item, dict) else "")
            continue
        if prediction.instr_id not in by_id:
            problems.append(Problem(UNKNOWN, f"item {position}: instr_id {prediction.instr_id} is not in the split"))
        elif prediction.instr_id in chosen:
            problems.append(Problem(DUPLICATE, f"item {position}: instr_id {prediction.instr_id} came before"))
        else:
            chosen[prediction.instr_id] = prediction
    absent = [instr_id for instr_id in by_id if instr_id not in chosen and instr_id not in broken]
    problems += [Problem(MISSING, f"instr_id {instr_id} has no prediction") for instr_id in absent]
    walked = [by_id[instr_id] for instr_id in chosen]
    problems += check_walks(list(chosen.values()), walked, graph)[1]
    # NaN is what parse_item gives for an angle that the file does not hold.
    bare = sum(any(heading != heading for _, heading, _ in p.trajectory) for p in chosen.values())
    return Report(path, len(by_id), len(items), tuple(problems), bare)
