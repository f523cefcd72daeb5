"""Lets an agent walk a whole split, scores the walks and writes them as simulator trajectories."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vln_clip.envs.episodes import EpisodeTable
from vln_clip.envs.navigation import Navigation
from vln_clip.ranks import ALONE, Ranks
from vln_clip.records import NUM_HEADINGS, Pose, Prediction, view_elevation_rad, view_heading_rad
from vln_clip.rollout import SHORTEST, Agent, Feedback, greedy, roll_out, teacher_forced
from vln_clip.sampler import in_order
from vln_clip.tasks.metrics import Scores, score_indices, summarize

EVALUATION_BATCH = 512  # evaluation keeps no gradients: larger batches than training, for speed alone
EVALUATION_TOKENS = EVALUATION_BATCH * 40  # most of a batch: long instructions walk in smaller ones, for memory alone


@dataclass(frozen=True, eq=False)
class Walks:
    """What an agent did on N episodes.

    Attributes:
        rows: (N,) int64, rows of the split.
        viewpoint: (N, T) int64, start first, padded with -1.
        view: (N, T) int64 likewise.
        num_actions: (N,) int64, simulator actions.
    """

    rows: np.ndarray
    viewpoint: np.ndarray
    view: np.ndarray
    num_actions: np.ndarray


@torch.no_grad()
def walk_split(
    world: Navigation,
    agent: Agent,
    table: EpisodeTable,
    max_steps: int,
    *,
    feedback: Feedback = greedy,
    rows: Tensor | None = None,
    batch_size: int = EVALUATION_BATCH,
    ranks: Ranks = ALONE,
) -> Walks:
    """Walk every episode of a split, or those at ``rows``, once. Dropout is off; nothing privileged is used
    unless ``feedback`` follows the teacher. Several ranks walk whole batches each, the same that one would: all
    of them return all walks.
    """  # noqa: D205
    chosen = torch.arange(len(table)) if rows is None else rows.cpu()
    lengths = table.length.cpu()[chosen]
    walks: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for part in ranks.deal(list(in_order(len(chosen), batch_size, lengths, EVALUATION_TOKENS))):
        batch = table.batch(chosen[part])
        teacher = SHORTEST if feedback is teacher_forced else None
        record = roll_out(world, agent, batch, feedback, max_steps, teacher=teacher)
        walks.append((chosen[part], record.viewpoint.cpu(), record.view.cpu(), record.num_actions.cpu()))
    walks = ranks.gather_dealt(walks)
    order = torch.cat([part[0] for part in walks]).argsort().numpy()
    longest = max(part[1].shape[1] for part in walks)
    columns = []
    for column in range(4):
        parts = [part[column] for part in walks]
        if parts[0].dim() == 2:
            parts = [torch.nn.functional.pad(part, (0, longest - part.shape[1]), value=-1) for part in parts]
        columns.append(torch.cat(parts).numpy()[order])
    return Walks(columns[0], columns[1], columns[2], columns[3])


def walk_scores(world: Navigation, table: EpisodeTable, walks: Walks) -> Scores:
    """Return every metric of every walk, in the order of the walks; the split must have goals."""
    return score_indices(walks.viewpoint, walks.num_actions, table.reference(walks.rows), world.tables)


def score_walks(world: Navigation, table: EpisodeTable, walks: Walks) -> dict[str, float]:
    """Return the mean of every metric; the split must have goals."""
    return summarize(walk_scores(world, table, walks))


def predictions(world: Navigation, table: EpisodeTable, walks: Walks) -> list[Prediction]:
    """Write walks as simulator trajectories, turns in place included."""
    found = []
    for row, viewpoint, view in zip(walks.rows, walks.viewpoint, walks.view, strict=True):
        count = int((viewpoint >= 0).sum())
        poses = tuple(simulator_poses(world, viewpoint[:count].tolist(), view[:count].tolist()))
        found.append(Prediction(table.episodes[row].instr_id, poses))
    return found


def simulator_poses(world: Navigation, viewpoints: list[int], views: list[int]) -> Iterator[Pose]:
    """Yield every pose of the simulator on a walk: tilts, then right turns, then the move (specification §4)."""

    def pose(viewpoint: int, view: int) -> Pose:
        return world.tables.viewpoint_ids[viewpoint], view_heading_rad(view), view_elevation_rad(view)

    here, view = viewpoints[0], views[0]
    yield pose(here, view)
    for there, target in zip(viewpoints[1:], views[1:], strict=True):
        while view // NUM_HEADINGS != target // NUM_HEADINGS:
            view += NUM_HEADINGS if view < target else -NUM_HEADINGS
            yield pose(here, view)
        while view != target:
            level = view // NUM_HEADINGS
            view = level * NUM_HEADINGS + (view + 1) % NUM_HEADINGS
            yield pose(here, view)
        here = there
        yield pose(here, view)
