"""What a prediction file says agents did, as traces: places without decisions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vln_clip.connectivity import NavTables
from vln_clip.errors import InputError
from vln_clip.records import Episode, Prediction
from vln_clip.tasks.metrics import score_checked
from vln_clip.tasks.predictions import JUMP, check_walks, match, require_none
from vln_clip.viewer.traces import Trace


def trace_predictions(
    predictions: Sequence[Prediction], episodes: Sequence[Episode], tables: NavTables, agent: str, path: Path
) -> tuple[list[Trace], list[str]]:
    """Return the traces of a prediction file.

    Args:
        predictions: as read; of doubles the first counts, those for other episodes are left out.
        episodes: of the split; not all must have been answered, and goals may be hidden.
        tables: their graphs.
        agent: its name.
        path: of the file, for messages.

    Returns:
        A trace per answered episode in the order of the episodes, scored where the goals are known; and what a
        viewer must be told: episodes without an answer, hops that are no edges.

    Raises:
        InputError: no episode is answered, or a walk starts elsewhere or has unknown viewpoints.
    """
    try:
        predictions, answered = match(predictions, episodes, allow_missing=True)
        walks, problems = check_walks(predictions, answered, tables)
        require_none([problem for problem in problems if problem.kind != JUMP])
        scores = None
        if all(episode.path is not None for episode in answered):
            scores = score_checked(predictions, walks, answered, tables)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    traces = []
    for row, (prediction, episode, walk) in enumerate(zip(predictions, answered, walks, strict=True)):
        metrics = None if scores is None else {name: float(values[row]) for name, values in scores.items()}
        viewpoints = np.array(walk, np.int64)
        headings, elevations = _looks(prediction, episode, tables.position_m(viewpoints))
        traces.append(Trace(agent, episode, viewpoints, headings, elevations, metrics=metrics))
    notes = []
    if len(answered) < len(episodes):
        notes.append(f"{agent} has no walk for {len(episodes) - len(answered)} of {len(episodes)} instructions")
    jumps = len({problem.row for problem in problems if problem.kind == JUMP})
    if jumps:
        notes.append(f"{agent} jumps between viewpoints that are no neighbors in {jumps} of {len(answered)} walks")
    return traces, notes


def _looks(prediction: Prediction, episode: Episode, position_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return heading and elevation on arrival at each place, (T,) each, of a walk through positions (T, 3).

    Where a file holds viewpoints alone the agent looks ahead the way it came, and at the start as the episode says.
    """
    ids = [viewpoint for viewpoint, _, _ in prediction.trajectory]
    arrivals = [k for k, viewpoint in enumerate(ids) if k == 0 or viewpoint != ids[k - 1]]
    poses = np.array([prediction.trajectory[k][1:] for k in arrivals], np.float64)  # (T, 2)
    toward = np.diff(position_m, axis=0)
    came = np.column_stack([np.arctan2(toward[:, 0], toward[:, 1]), np.zeros(len(toward))])
    usual = np.concatenate([[[episode.heading_rad, 0.0]], came])
    headings, elevations = np.where(np.isfinite(poses), poses, usual).T
    return headings % (2 * np.pi), elevations
