"""Prediction files: reading, matching with a split's episodes, checking the walks.

Every discrete format in circulation is read, told by content: R2R's ``{"instr_id", "trajectory"}`` with elements
``[viewpoint, heading, elevation]``, ``[viewpoint]`` or the viewpoint alone, with the several viewpoints of one step
that DUET writes, or with the numbers that CLIP-ViL writes for RxR; and RxR's ``{"instruction_id", "path"}``, guide and
follower files included. As array or as lines, plain or gzipped; other keys are ignored. Nothing here needs goals.
"""

import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vln_clip.errors import InputError
from vln_clip.reading import is_finite
from vln_clip.records import Episode, Pose, Prediction
from vln_clip.tasks.documents import read_document
from vln_clip.tasks.graph import Graph
from vln_clip.tasks.problems import (
    BYTE_ORDER_MARK,
    EMPTY_LINE,
    JUMP,
    UNKNOWN_VIEWPOINT,
    WRONG_START,
    Problem,
    require_none,
)

__all__ = ["JUMP", "check_walks", "match", "pad", "parse_item", "read_placed", "read_predictions", "require_none"]

logger = logging.getLogger(__name__)

HARMLESS = (BYTE_ORDER_MARK, EMPTY_LINE)  # to this reader; a server may refuse them
ANNOTATION_KEYS = {"path_id", "instructions", "path"}


def read_predictions(path: Path) -> list[Prediction]:
    """Read a prediction file of any discrete format; the first malformed item is an error.

    Raises:
        InputError: the message names the file, the item or line and what was expected.
    """
    return [prediction for _, prediction in read_placed(path)]


def read_placed(path: Path) -> list[tuple[str, Prediction]]:
    """Read a prediction file as ``read_predictions`` does, each with its place: ``item 3`` or ``line 4``."""
    document = read_document(path)
    fault = next((problem for problem in document.problems if problem.kind not in HARMLESS), None)
    if fault is not None:
        raise InputError(f"{path}: {fault}")
    return [(place, parse_item(item, f"{path}: {place}")) for place, item in document.items]


def parse_item(item: object, where: str) -> Prediction:
    """Check one item of a prediction file.

    Args:
        item: what JSON held.
        where: file and position, for errors.

    Returns:
        The prediction; heading and elevation are NaN where only viewpoint ids are given.
    """
    if isinstance(item, dict) and "instr_id" in item and "trajectory" in item:
        id_key, path_key = "instr_id", "trajectory"
    elif isinstance(item, dict) and "instruction_id" in item and "path" in item:
        id_key, path_key = "instruction_id", "path"
    else:
        raise InputError(
            f"{where} must be an object with instr_id and trajectory, or instruction_id and path, {found(item)}"
        )
    instr_id, trajectory = item[id_key], item[path_key]
    if isinstance(instr_id, bool) or not isinstance(instr_id, str | int):
        raise InputError(f"{where}: {id_key} must be a string or a number, got {instr_id!r:.80}")
    if not isinstance(trajectory, list):
        raise InputError(f"{where}: {path_key} of {instr_id} must be a list, got {trajectory!r:.80}")
    if not trajectory:
        raise InputError(f"{where}: {path_key} of {instr_id} must hold at least the start, got an empty list")
    poses: list[Pose] = []
    for element in trajectory:
        step = parse_step(element)
        if not step:
            raise InputError(
                f"{where}: elements of the {path_key} of {instr_id} must be [viewpoint, heading, elevation] with "
                f"finite angles in radians, or viewpoint ids, got {element!r:.80}"
            )
        poses += step
    return Prediction(str(instr_id), tuple(poses))


def is_annotation(item: object) -> bool:
    """Return whether an item is a path with its instructions: R2R's data in place of predictions."""
    return isinstance(item, dict) and item.keys() >= ANNOTATION_KEYS


def found(item: object) -> str:
    """Say what an item is that is no prediction."""
    if is_annotation(item):
        return f"but is an annotation (it has {', '.join(sorted(ANNOTATION_KEYS))}): was a data file given?"
    if isinstance(item, dict):
        return f"got the keys {', '.join(repr(key) for key in list(item)[:6]) or '(none)'}"
    return f"got {item!r:.80}"


def parse_step(element: object) -> list[Pose]:
    """Return the poses of one element of a trajectory, none where it is malformed; angles left out are NaN.

    Several viewpoints in one element are the way of one decision: DUET walks back through known places so.
    """
    values: list = element if isinstance(element, list) else [element]
    if values and all(isinstance(value, str) and not _is_number(value) for value in values):
        return [(viewpoint, math.nan, math.nan) for viewpoint in values]
    if len(values) == 3 and isinstance(values[0], str) and is_finite(values[1]) and is_finite(values[2]):
        return [(values[0], float(values[1]), float(values[2]))]
    return []


def _is_number(text: str) -> bool:
    """Return whether a string is an angle in quotes; viewpoint ids of Matterport3D have 32 digits, some only 0-9."""
    try:
        float(text)
    except ValueError:
        return False
    return len(text) < 30


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
        missing = [episode for episode in episodes if episode.instr_id not in by_id]
        there, absent = {e.language for _, e in paired}, {e.language for e in missing}
        one = f"nothing is there in {', '.join(sorted(absent))}: --language scores a single language"
        raise InputError(
            f"predictions must cover all {len(episodes)} instructions of the split, got {len(missing)} without one, "
            f"e.g. {', '.join(e.instr_id for e in missing[:3])}; "
            f"{one if there and there.isdisjoint(absent) else 'are split and language right?'}"
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
        Viewpoint indices of each trajectory with consecutive repeats collapsed (-1 for an unknown viewpoint), and
        every problem found; its ``row`` is the position of the prediction.
    """
    scans = sorted({episode.scan for episode in episodes})
    walks, problems = [], []
    for row, (prediction, episode) in enumerate(zip(predictions, episodes, strict=True)):
        walk, found = _walk(prediction, episode, scans, graph)
        walks.append(walk)
        problems += [Problem(kind, message, row=row) for kind, message in found]
    padded = pad(walks)
    starts, ends = padded[:, :-1], padded[:, 1:]
    wrong = (starts >= 0) & (ends >= 0)  # (N, T - 1)
    wrong[wrong] = ~graph.is_edge(starts[wrong], ends[wrong])
    lengths_m = graph.distance_m(starts[wrong], ends[wrong])
    for (row, hop), length_m in zip(np.argwhere(wrong).tolist(), lengths_m.tolist(), strict=True):
        a, b = (graph.viewpoint_id(walks[row][k]) for k in (hop, hop + 1))
        message = (
            f"every hop of a trajectory must be an edge of the navigation graph, got a jump in "
            f"{episodes[row].instr_id} from {a} to {b} (scan {episodes[row].scan}, move {hop + 1}, {_length(length_m)})"
        )
        problems.append(Problem(JUMP, message, row=row))
    return walks, problems


def _length(length_m: float) -> str:
    """Say how long a hop along the graph is."""
    return f"{length_m:.1f} m along the graph" if math.isfinite(length_m) else "no way between them"


def _walk(
    prediction: Prediction, episode: Episode, scans: Iterable[str], graph: Graph
) -> tuple[list[int], list[tuple[str, str]]]:
    """Return the viewpoint indices of one trajectory, and kind and message of what is wrong with its ids."""
    walk: list[int] = []
    problems = []
    name = episode.instr_id
    first, last = prediction.trajectory[0][0], prediction.trajectory[-1][0]
    if first != episode.start:
        hint = "; it ends there: is it reversed?" if last == episode.start else ""
        if _has(graph, episode.scan, first) and _has(graph, episode.scan, episode.start):
            ends = (np.array([graph.index(episode.scan, viewpoint)]) for viewpoint in (episode.start, first))
            hint = hint or ("; the two are neighbors: was the start left out?" if graph.is_edge(*ends)[0] else "")
        message = f"trajectory of {name} must start at viewpoint {episode.start}, got {first}{hint}"
        problems.append((WRONG_START, message))
    previous = None
    for viewpoint, _, _ in prediction.trajectory:
        if viewpoint == previous:
            continue
        previous = viewpoint
        try:
            walk.append(graph.index(episode.scan, viewpoint))
        except InputError:
            walk.append(-1)
            elsewhere = [scan for scan in scans if _has(graph, scan, viewpoint)]
            hint = f"; it is of scan {elsewhere[0]}: is this another instruction's?" if elsewhere else ""
            where = f"scan {episode.scan}"
            message = f"trajectory of {name}: viewpoint {viewpoint!r} is not in the graph of {where}{hint}"
            problems.append((UNKNOWN_VIEWPOINT, message))
    return walk, problems


def _has(graph: Graph, scan: str, viewpoint: str) -> bool:
    """Return whether a scan has a viewpoint."""
    try:
        graph.index(scan, viewpoint)
    except InputError:
        return False
    return True


def pad(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Return rows of indices as one (N, T) int64 array padded with -1."""
    lengths = np.array([len(row) for row in rows], np.int64)
    padded = np.full((len(rows), max(1, lengths.max(initial=0))), -1, np.int64)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = [index for row in rows for index in row]
    return padded
