"""Navigation metrics of R2R and RxR (specification 8), over whole batches of trajectories at once.

Trajectories and references are global viewpoint indices in arrays padded with -1. DTW is computed on the sequence
of viewpoints with consecutive duplicates collapsed, so that turning in place costs nothing; only ``steps`` counts
the repeats. On trajectories without repeats all values are those of the R2R and RxR evaluators.
"""

from collections.abc import Sequence

import numpy as np

from vln_clip.errors import InputError
from vln_clip.records import SUCCESS_RADIUS_M, Episode, Prediction
from vln_clip.tasks.graph import Graph
from vln_clip.tasks.predictions import JUMP, check_walks, match, pad, require_none

NAV_ERROR, ORACLE_ERROR, STEPS, LENGTHS = "nav_error", "oracle_error", "steps", "lengths"
SUCCESS_RATE, ORACLE_RATE, SPL = "success_rate", "oracle_rate", "spl"
NDTW, SDTW, CLS, DTW = "ndtw", "sdtw", "cls", "dtw"
METRICS = (NAV_ERROR, ORACLE_ERROR, STEPS, LENGTHS, SUCCESS_RATE, ORACLE_RATE, SPL, NDTW, SDTW, CLS, DTW)
NUM_INSTRUCTIONS = "num_instructions"
BLOCK_ROWS = 4096  # scored at once: bounds the memory of the (N, T, R) distances, R4R's training split has 233,532 rows
SHORTEST_LENGTH_M = 0.01  # guards SPL where start and goal coincide, as EnvDrop does

Scores = dict[str, np.ndarray]


def score_predictions(
    predictions: Sequence[Prediction],
    episodes: Sequence[Episode],
    graph: Graph,
    *,
    allow_missing: bool = False,
    allow_jumps: bool = False,
) -> tuple[list[str], Scores]:
    """Match predictions to episodes, check them and score them.

    Args:
        predictions: as read; of doubles the first counts, unknown ids are ignored.
        episodes: of the split, with paths on the graph.
        graph: navigation graphs.
        allow_missing: score what is there instead of refusing an incomplete file (training subsets).
        allow_jumps: score hops between viewpoints that are no neighbours by their distance, as EnvDrop's evaluator
            does; MatterSim's, and the test server, refuse them.

    Returns:
        Instruction ids in the order of the episodes, and one (N,) array per metric.
    """
    hidden = next((episode for episode in episodes if episode.path is None), None)
    if hidden is not None:
        raise InputError(
            f"split must have goals to be scored, but episode {hidden.instr_id} hides its own; "
            "validate the file with vln-clip submit and upload it to the test server"
        )
    predictions, episodes = match(predictions, episodes, allow_missing)
    walks, problems = check_walks(predictions, episodes, graph)
    require_none([problem for problem in problems if not (allow_jumps and problem.kind == JUMP)])
    return [episode.instr_id for episode in episodes], score_checked(predictions, walks, episodes, graph)


def score_checked(
    predictions: Sequence[Prediction], walks: Sequence[Sequence[int]], episodes: Sequence[Episode], graph: Graph
) -> Scores:
    """Score predictions that were checked.

    Args:
        predictions: one per episode.
        walks: their viewpoint indices, as ``check_walks`` returns them.
        episodes: with goals.
        graph: gives distances.

    Returns:
        One (N,) array per metric.
    """
    reference = pad([[graph.index(e.scan, viewpoint) for viewpoint in e.path or ()] for e in episodes])
    steps = np.array([len(prediction.trajectory) - 1 for prediction in predictions])
    return score_indices(pad(walks), steps, reference, graph, [episode.instr_id for episode in episodes])


def score_indices(
    trajectory: np.ndarray, steps: np.ndarray, reference: np.ndarray, graph: Graph, names: Sequence[str] | None = None
) -> Scores:
    """Score trajectories given as viewpoint indices.

    Args:
        trajectory: (N, T) int64, padded at the end with -1, at least the start; repeats allowed.
        steps: (N,) sub-actions taken; the arrays need not hold the poses of turns.
        reference: (N, R) int64, padded at the end with -1, at least one viewpoint.
        graph: gives distances.
        names: what to call the rows in errors; by default their numbers.

    Returns:
        One (N,) float64 array per metric; rates are 0 or 1. Empty input gives empty arrays.

    Raises:
        InputError: a trajectory and its reference lie in different parts of the graph; a mean over an infinite
            error would say nothing, and no agent that walks edges can get there.
    """
    if not trajectory.size:
        return {name: np.zeros(len(trajectory)) for name in METRICS}
    parts = []
    for begin in range(0, len(trajectory), BLOCK_ROWS):
        rows = slice(begin, begin + BLOCK_ROWS)
        parts.append(_score_block(trajectory[rows], steps[rows], reference[rows], graph))
    scores = {name: np.concatenate([part[name] for part in parts]) for name in METRICS}
    _require_finite(scores, names)
    return scores


def _score_block(trajectory: np.ndarray, steps: np.ndarray, reference: np.ndarray, graph: Graph) -> Scores:
    """Score some rows, as ``score_indices``; what cannot be reached gives infinite scores here."""
    trajectory = collapse(trajectory)
    reference = reference[:, : (reference >= 0).sum(1).max()]  # the longest of these rows, not of the split
    num_visited, num_reference = (trajectory >= 0).sum(1), (reference >= 0).sum(1)  # (N,)
    assert num_visited.all(), "every trajectory must hold its start"
    assert num_reference.all(), "every reference must hold a viewpoint"
    P, R = _repeat_last(trajectory), _repeat_last(reference)
    distance_m = graph.distance_m(P[:, :, None], R[:, None, :])  # (N, T, R)
    length_m, reference_m = _length_m(P, graph), _length_m(R, graph)  # (N,)

    to_goal_m = distance_m[:, :, -1]  # (N, T)
    nav_error, oracle_error = to_goal_m[:, -1], to_goal_m.min(1)
    success = (nav_error < SUCCESS_RADIUS_M).astype(np.float64)
    shortest_m = graph.distance_m(R[:, 0], R[:, -1])
    dtw = _dtw(distance_m, num_visited, num_reference)
    ndtw = np.exp(-dtw / (SUCCESS_RADIUS_M * num_reference))
    return {
        NAV_ERROR: nav_error,
        ORACLE_ERROR: oracle_error,
        STEPS: steps.astype(np.float64),
        LENGTHS: length_m,
        SUCCESS_RATE: success,
        ORACLE_RATE: (oracle_error < SUCCESS_RADIUS_M).astype(np.float64),
        SPL: success * shortest_m / np.maximum(np.maximum(shortest_m, length_m), SHORTEST_LENGTH_M),
        NDTW: ndtw,
        SDTW: ndtw * success,
        CLS: _cls(distance_m, num_reference, length_m, reference_m),
        DTW: dtw,
    }


def summarize(scores: Scores) -> dict[str, float]:
    """Return the mean of every metric over instructions, and ``num_instructions``."""
    num_instructions = len(scores[NAV_ERROR])
    if num_instructions == 0:
        raise InputError("scores must cover at least one instruction, got none")
    return {name: float(scores[name].mean()) for name in METRICS} | {NUM_INSTRUCTIONS: num_instructions}


def collapse(trajectory: np.ndarray) -> np.ndarray:
    """Drop consecutive repeats of a viewpoint from each row.

    Args:
        trajectory: (N, T) int64, padded at the end with -1.

    Returns:
        (N, T') int64, padded at the end with -1.
    """
    keep = trajectory >= 0
    keep[:, 1:] &= trajectory[:, 1:] != trajectory[:, :-1]
    collapsed = np.full((len(trajectory), keep.sum(1).max(initial=0)), -1, np.int64)
    rows, columns = np.nonzero(keep)
    collapsed[rows, (keep.cumsum(1) - 1)[rows, columns]] = trajectory[rows, columns]
    return collapsed


def _repeat_last(indices: np.ndarray) -> np.ndarray:
    """Replace the padding of each row by its last viewpoint: lengths, minima and last columns stay the same."""
    last = np.take_along_axis(indices, (indices >= 0).sum(1)[:, None] - 1, 1)
    return np.where(indices >= 0, indices, last)


def _length_m(path: np.ndarray, graph: Graph) -> np.ndarray:
    """Return the length of each row, (N,) metres, along the graph even where two neighbours are no edge."""
    return graph.distance_m(path[:, :-1], path[:, 1:]).sum(1)


def _require_finite(scores: Scores, names: Sequence[str] | None) -> None:
    """Raise where a row has a distance that does not exist.

    A walk in another part than its goal has an infinite error, one that goes from part to part an infinite length,
    and a reference of two parts an infinite warping cost.
    """
    lost = np.flatnonzero(~np.isfinite(scores[NAV_ERROR] + scores[LENGTHS] + scores[DTW]))
    if len(lost):
        name = f"trajectory {lost[0]}" if names is None else f"the trajectory of {names[lost[0]]}"
        raise InputError(
            f"trajectories must stay in the part of the graph where their reference path lies, got {len(lost)} that "
            f"leave it; the first is {name}"
        )


def _dtw(distance_m: np.ndarray, num_visited: np.ndarray, num_reference: np.ndarray) -> np.ndarray:
    """Return the dynamic-time-warping cost of each trajectory, (N,), loops over cells and not over episodes.

    Args:
        distance_m: (N, T, R).
        num_visited: (N,) real rows of each table.
        num_reference: (N,) real columns of each table.
    """
    N, T, R = distance_m.shape
    cells = np.ascontiguousarray(distance_m.transpose(1, 2, 0))  # (T, R, N)
    table = np.full((T + 1, R + 1, N), np.inf)
    table[0, 0] = 0.0
    for i in range(T):
        for j in range(R):
            cheapest = np.minimum(np.minimum(table[i, j + 1], table[i + 1, j]), table[i, j])
            np.add(cells[i, j], cheapest, out=table[i + 1, j + 1])
    return table[num_visited, num_reference, np.arange(N)]


def _cls(
    distance_m: np.ndarray, num_reference: np.ndarray, length_m: np.ndarray, reference_m: np.ndarray
) -> np.ndarray:
    """Return coverage weighted by length score, (N,); 1 as length score where both lengths are 0."""
    is_reference = np.arange(distance_m.shape[2]) < num_reference[:, None]  # (N, R)
    near = np.exp(-distance_m.min(1) / SUCCESS_RADIUS_M)  # (N, R)
    coverage = (near * is_reference).sum(1) / num_reference
    expected_m = coverage * reference_m
    with np.errstate(invalid="ignore"):  # of infinite lengths, which are refused afterwards
        total_m = expected_m + np.abs(expected_m - length_m)
        return coverage * np.divide(expected_m, total_m, out=np.ones_like(total_m), where=total_m > 0)
