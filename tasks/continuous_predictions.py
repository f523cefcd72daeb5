"""Predictions of continuous environments: what an agent did, and the files that their leaderboards take.

RxR-Habitat takes JSON lines ``{"instruction_id", "path": [[x, y, z], ...]}``, R2R-CE one JSON object
``{episode_id: [{"position", "heading", "stop"}, ...]}`` (specification 12.6). Files are in Habitat's frame, everything
in memory in Matterport's. ``continuous_submission`` checks files before they are uploaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vln_clip.errors import InputError
from vln_clip.files import save_json, save_json_lines
from vln_clip.records import Prediction
from vln_clip.tasks.continuous import ContinuousEpisode
from vln_clip.tasks.graph import Graph
from vln_clip.tasks.habitat import to_habitat, to_habitat_heading

MAX_STEPS = 500  # of both challenges; the initial state is no step


@dataclass(frozen=True, eq=False)
class ContinuousPrediction:
    """What an agent did on one instruction: its initial state and the state after each of its T - 1 steps.

    Attributes:
        instr_id: ``episode_id`` in R2R-CE, ``instruction_id`` in RxR-CE.
        position_m: (T, 3) on the floor, Matterport's frame.
        heading_rad: (T,), Matterport's frame.
        stopped: the last step was the stop action; without it an episode fails, wherever it ends.
    """

    instr_id: str
    position_m: np.ndarray
    heading_rad: np.ndarray
    stopped: bool = True


def from_walk(prediction: Prediction, episode: ContinuousEpisode, graph: Graph) -> ContinuousPrediction:
    """Turn an agent's walk on the graph into positions on the floor, and a stop at its end.

    The walk begins exactly where the episode does. The floor elsewhere is taken to be as far below the cameras as at
    the start: on R2R-CE's val_unseen paths that is right within 0.14 m at nine of ten viewpoints.

    Args:
        prediction: as ``tasks.predictions`` reads it; angles that are not finite stand for the episode's heading.
        episode: what it answers.
        graph: navigation graphs.

    Raises:
        InputError: a viewpoint is unknown.
    """
    index = np.array([graph.index(episode.scan, viewpoint) for viewpoint, _, _ in prediction.trajectory])
    position_m = graph.position_m(index).astype(np.float64)
    position_m[:, 2] -= position_m[0, 2] - episode.start_m[2]
    position_m[index == index[0]] = episode.start_m
    heading_rad = np.array([heading for _, heading, _ in prediction.trajectory], np.float64)
    heading_rad = np.where(np.isfinite(heading_rad), heading_rad, episode.heading_rad)
    heading_rad[0] = episode.heading_rad
    # Stopping is a step of its own, which changes no place.
    return ContinuousPrediction(
        prediction.instr_id, np.append(position_m, position_m[-1:], 0), np.append(heading_rad, heading_rad[-1:])
    )


def write_r2r_ce(path: Path, predictions: Sequence[ContinuousPrediction]) -> None:
    """Write R2R-CE's file, atomically; gzipped where the name ends in ``.gz``.

    Raises:
        InputError: an id twice, a state that is not finite, no state or more than the challenge's steps.
    """
    for prediction in _checked(predictions):
        _check_number(prediction.instr_id, len(prediction.position_m), "states")
    save_json(path, {prediction.instr_id: _states(prediction) for prediction in predictions}, indent=None)


def write_rxr_habitat(path: Path, predictions: Sequence[ContinuousPrediction]) -> None:
    """Write RxR-Habitat's file sorted by instruction, each position that differs from the one before; atomically.

    Raises:
        InputError: as for ``write_r2r_ce`` (turns in place count for nothing), or an id that is no number.
    """
    lines = []
    for prediction in _checked(predictions):
        if not prediction.instr_id.isdecimal():
            raise InputError(f"instruction ids of RxR must be numbers, got {prediction.instr_id!r}")
        positions = without_repeats(prediction).tolist()
        _check_number(prediction.instr_id, len(positions), "positions")
        lines.append({"instruction_id": int(prediction.instr_id), "path": positions})
    save_json_lines(path, sorted(lines, key=lambda line: line["instruction_id"]))


def without_repeats(prediction: ContinuousPrediction) -> np.ndarray:
    """Return the positions that differ from the one before, (n, 3), in Habitat's frame."""
    position_m = to_habitat(prediction.position_m)
    moved = np.append(True, (position_m[1:] != position_m[:-1]).any(1))
    return position_m[moved]


def _states(prediction: ContinuousPrediction) -> list[dict]:
    """Return the states of R2R-CE's file."""
    position_m = to_habitat(prediction.position_m).tolist()
    heading_rad = to_habitat_heading(prediction.heading_rad).tolist()
    states = [
        {"position": position, "heading": heading, "stop": False}
        for position, heading in zip(position_m, heading_rad, strict=True)
    ]
    states[-1]["stop"] = prediction.stopped
    return states


def _check_number(name: str, number: int, what: str) -> None:
    """Refuse more states or positions than an agent may have."""
    if number > MAX_STEPS + 1:
        raise InputError(
            f"{what} of {name} must be the initial one and at most {MAX_STEPS} more, as the challenge allows, "
            f"got {number}"
        )


def _checked(predictions: Sequence[ContinuousPrediction]) -> Sequence[ContinuousPrediction]:
    """Return what was given, or raise for what no agent may hand over."""
    seen = set()
    for prediction in predictions:
        name, num_states = prediction.instr_id, len(prediction.position_m)
        if name in seen:
            raise InputError(f"instr_id must be unique in a submission, got {name} again")
        seen.add(name)
        if prediction.position_m.shape != (num_states, 3) or prediction.heading_rad.shape != (num_states,):
            shapes = prediction.position_m.shape, prediction.heading_rad.shape
            raise ValueError(f"states of {name} must be (T, 3) positions and (T,) headings, got {shapes}")
        if num_states < 1 + prediction.stopped:
            raise InputError(f"states of {name} must be the initial one and those after it, the stop among them")
        if not (np.isfinite(prediction.position_m).all() and np.isfinite(prediction.heading_rad).all()):
            raise InputError(f"states of {name} must be finite numbers")
    return predictions
