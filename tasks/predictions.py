"""Prediction files: reading, matching with a split's episodes, checking the walks.

A file is a JSON list of ``{"instr_id", "trajectory": [[viewpoint, heading, elevation], ...]}``, plain or gzipped;
other keys are ignored. Nothing here needs goals, so test splits are checked by the same code.
"""

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vln_clip.errors import InputError
from vln_clip.records import Episode, Pose, Prediction
from vln_clip.tasks.files import is_finite, parse_json, read_bytes
from vln_clip.tasks.graph import Graph

logger = logging.getLogger(__name__)

MALFORMED, DUPLICATE, UNKNOWN, MISSING = "malformed items", "duplicate ids", "unknown ids", "missing ids"
WRONG_START, UNKNOWN_VIEWPOINT, JUMP = "wrong starts", "unknown viewpoints", "jumps"


@dataclass(frozen=True)
class Problem:
    """Something wrong with one prediction: its kind (a constant above) and a sentence that names the instruction."""

    kind: str
    message: str


def read_predictions(path: Path) -> list[Prediction]:
    """Read a prediction file; the first malformed item is an error.

    Raises:
        InputError: the message names the file, the item and what was expected.
    """
    return [parse_item(item, f"{path}: item {position}") for position, item in enumerate(read_items(path))]


def read_items(path: Path) -> list:
    """Return the items of a prediction file, unchecked but for being in a list."""
    items = parse_json(read_bytes(path), path)
    if not isinstance(items, list):
        raise InputError(f"file {path} must be a JSON list of predictions, got {type(items).__name__}")
    return items


def parse_item(item: object, where: str) -> Prediction:
    """Check one item of a prediction file.

    Args:
        item: what JSON held.
        where: file and position, for errors.

    Returns:
        The prediction; heading and elevation are NaN where only viewpoint ids are given.
    """
    if not isinstance(item, dict) or "instr_id" not in item or "trajectory" not in item:
        raise InputError(f"{where} must be an object with instr_id and trajectory, got {item!r:.80}")
    instr_id, trajectory = item["instr_id"], item["trajectory"]
    if isinstance(instr_id, bool) or not isinstance(instr_id, str | int):
        raise InputError(f"{where}: instr_id must be a string or a number, got {instr_id!r:.80}")
    if not isinstance(trajectory, list):
        raise InputError(f"{where}: trajectory of {instr_id} must be a list, got {trajectory!r:.80}")
    if not trajectory:
        raise InputError(f"{where}: trajectory of {instr_id} must hold at least the start, got an empty list")
    return Prediction(str(instr_id), tuple(_pose(element, instr_id, where) for element in trajectory))


def _pose(element: object, instr_id: str | int, where: str) -> Pose:
    """Check one element of a trajectory: a viewpoint id, alone or with two angles."""
    values: list = element if isinstance(element, list) else [element]
    if len(values) in (1, 3) and isinstance(values[0], str):
        if len(values) == 1:
            return values[0], math.nan, math.nan
        heading, elevation = values[1:]
        if is_finite(heading) and is_finite(elevation):
            return values[0], float(heading), float(elevation)
    raise InputError(
        f"{where}: elements of the trajectory of {instr_id} must be [viewpoint, heading, elevation] with finite "
        f"angles in radians, or a viewpoint id, got {element!r:.80}"
    )


def match(
    predictions: Sequence[Prediction], episodes: Sequence[Episode], allow_missing: bool = False
) -> tuple[list[Prediction], list[Episode]]:
    """Pair predictions with episodes, in the order of the episodes.

    Of predictions with the same id the first counts, ids of no episode are ignored; both are logged.

    Raises:
        InputError: an episode has no prediction (unless ``allow_missing``), or none has one.
    """
    by_id: dict[str, Prediction] = {}
    for prediction in predictions:
        by_id.setdefault(prediction.instr_id, prediction)
    if len(by_id) < len(predictions):
        logger.warning("ignored %d predictions whose instr_id came before", len(predictions) - len(by_id))
    paired = [(by_id[e.instr_id], e) for e in episodes if e.instr_id in by_id]
    if len(paired) < len(by_id):
        logger.warning("ignored %d predictions for instructions outside the split", len(by_id) - len(paired))
    if not paired or (len(paired) < len(episodes) and not allow_missing):
        missing = [episode.instr_id for episode in episodes if episode.instr_id not in by_id]
        raise InputError(
            f"predictions must cover all {len(episodes)} instructions of the split, got {len(missing)} without one, "
            f"e.g. {', '.join(missing[:3])}; is it the right split?"
        )
    return [prediction for prediction, _ in paired], [episode for _, episode in paired]


def check_walks(
    predictions: Sequence[Prediction], episodes: Sequence[Episode], graph: Graph
) -> tuple[list[list[int]], list[Problem]]:
    """Check that each trajectory starts where its episode does and moves along edges.

    Args:
        predictions: one per episode.
        episodes: what they answer.
        graph: navigation graphs.

    Returns:
        Viewpoint indices of each trajectory with consecutive repeats collapsed (cut before an unknown viewpoint),
        and at most one problem of each kind per trajectory.
    """
    walks, problems = [], []
    for prediction, episode in zip(predictions, episodes, strict=True):
        walk, problem = _walk(prediction, episode, graph)
        walks.append(walk)
        problems += problem
    padded = pad(walks)
    starts, ends = padded[:, :-1], padded[:, 1:]
    wrong = ends >= 0  # (N, T - 1)
    wrong[wrong] = ~graph.is_edge(starts[wrong], ends[wrong])
    for row in np.flatnonzero(wrong.any(1)).tolist():
        hop = int(wrong[row].argmax())
        a, b = (graph.viewpoint_id(walks[row][k]) for k in (hop, hop + 1))
        problems.append(
            Problem(
                JUMP,
                f"every hop of a trajectory must be an edge of the navigation graph, got a jump in "
                f"{episodes[row].instr_id} from {a} to {b} (scan {episodes[row].scan})",
            )
        )
    return walks, problems


def _walk(prediction: Prediction, episode: Episode, graph: Graph) -> tuple[list[int], list[Problem]]:
    """Return the viewpoint indices of one trajectory and what is wrong with its ids."""
    walk: list[int] = []
    problems = []
    previous = None
    start = prediction.trajectory[0][0]
    if start != episode.start:
        message = f"trajectory of {episode.instr_id} must start at viewpoint {episode.start}, got {start}"
        problems.append(Problem(WRONG_START, message))
    for viewpoint, _, _ in prediction.trajectory:
        if viewpoint == previous:
            continue
        previous = viewpoint
        try:
            walk.append(graph.index(episode.scan, viewpoint))
        except InputError as error:
            message = f"trajectory of {episode.instr_id}: viewpoint {viewpoint!r} of scan {episode.scan}: {error}"
            return walk, [*problems, Problem(UNKNOWN_VIEWPOINT, message)]
    return walk, problems


def pad(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Return rows of indices as one (N, T) int64 array padded with -1."""
    lengths = np.array([len(row) for row in rows], np.int64)
    padded = np.full((len(rows), max(1, lengths.max(initial=0))), -1, np.int64)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = [index for row in rows for index in row]
    return padded


def require_none(problems: Sequence[Problem]) -> None:
    """Raise the first problem as an ``InputError`` that also counts them all."""
    if problems:
        counts = Counter(problem.kind for problem in problems)
        rest = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        raise InputError(f"{problems[0].message}" + (f" (in all: {rest})" if len(problems) > 1 else ""))
