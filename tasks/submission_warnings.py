"""What a server takes, but what may not be meant: each kind is told once, with the places it concerns."""

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

from vln_clip.records import Prediction
from vln_clip.tasks.documents import LINES, Document
from vln_clip.tasks.problems import DEGREES, LARGE, LONG, NO_ANGLES, REPEATED, STILL, UNSORTED, Problem

LARGE_BYTES = 64 * 2**20  # R2R's test split with every turn in place is below 10 MB
MANY_MOVES = 100  # agents of the field stop after 15 to 35 decisions
TURN_RAD, TOLERANCE_RAD = 2 * math.pi, 0.01


def find_warnings(document: Document, walks: Mapping[str, Prediction], layout: str) -> list[Problem]:
    """Return the warnings about a submission.

    Args:
        document: the file.
        walks: its readable predictions by place.
        layout: what its format has; RxR's lines hold no angles and should be sorted.
    """
    rxr = layout == LINES
    checks: list[tuple[str, Callable[[Prediction], bool], str]] = [
        (LONG, lambda walk: _num_moves(walk) > MANY_MOVES, f"trajectories have more than {MANY_MOVES} moves"),
    ]
    if rxr:
        checks.append((REPEATED, _repeats, "paths name a viewpoint twice in a row: leave turns in place out"))
    else:
        checks.append((DEGREES, _in_degrees, "trajectories have headings beyond 2π or elevations beyond π/2: degrees?"))
        checks.append(
            (
                NO_ANGLES,
                _without_angles,
                "trajectories hold viewpoints without angles, which R2R's server is said to accept",
            )
        )
    found = [
        about(kind, [place for place, walk in walks.items() if is_odd(walk)], text) for kind, is_odd, text in checks
    ]
    still = [place for place, walk in walks.items() if _num_moves(walk) == 0]
    if 2 * len(still) > len(walks):
        found.append(about(STILL, still, f"of {len(walks)} trajectories never leave the start: did the agent walk?"))
    if rxr:
        numbers = [(place, int(walk.instr_id)) for place, walk in walks.items() if walk.instr_id.isdecimal()]
        found.append(unsorted_warning(numbers))
    if document.num_bytes > LARGE_BYTES:
        size = f"the file has {document.num_bytes / 2**20:.0f} MB: a server may refuse it; leave turns in place out"
        found.append(Problem(LARGE, size))
    return [problem for problem in found if problem is not None]


def unsorted_warning(numbers: Iterable[tuple[str, int]]) -> Problem | None:
    """Return the warning about ids of RxR, given with their places, that are smaller than the one before."""
    late = [here[0] for before, here in pairwise(numbers) if here[1] < before[1]]
    return about(UNSORTED, late, "lines come after a larger instruction_id: sort the file")


def about(kind: str, places: list[str], text: str) -> Problem | None:
    """Return the warning about some places, None where there is none."""
    return Problem(kind, f"{len(places)} {text} (first: {places[0]})", members=tuple(places)) if places else None


def _num_moves(walk: Prediction) -> int:
    """Return the number of moves, turns in place not counted."""
    poses = walk.trajectory
    return sum(a[0] != b[0] for a, b in pairwise(poses))


def _repeats(walk: Prediction) -> bool:
    return _num_moves(walk) < len(walk.trajectory) - 1


def _in_degrees(walk: Prediction) -> bool:
    return any(
        abs(heading) > TURN_RAD + TOLERANCE_RAD or abs(elevation) > math.pi / 2 + TOLERANCE_RAD
        for _, heading, elevation in walk.trajectory
    )


def _without_angles(walk: Prediction) -> bool:
    return any(heading != heading for _, heading, _ in walk.trajectory)
