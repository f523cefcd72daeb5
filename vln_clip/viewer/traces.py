"""What is shown of a walk: one agent on one episode, place by place and decision by decision.

A trace of a checkpoint knows its decisions; one from a prediction file knows places only. Pictures are made of traces
and the navigation graph, whoever walked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vln_clip.records import Episode


@dataclass(frozen=True, eq=False)
class Decision:
    """One decision of an agent. K is the number of moves at that place; action K is to stop.

    Attributes:
        candidates: (K,) int64, global viewpoints that can be gone to, in the agent's order.
        probabilities: (K + 1,) float32, stop last.
        action: what was done; K is stop.
        words: (L,) float32 attention over the words of ``Trace.words``; None where the agent has none.
        views: (36,) float32 attention over the views; None likewise.
        saliency: (36, h, w) float32 in [0, 1], what of each view spoke for the action; None where it was not asked for.
        value: the critic's estimate of the return; None where there is none.
        reward: of the decision, the one that the agent was trained by; None where the goal is hidden.
        forced: somebody else chose the action.
    """

    candidates: np.ndarray
    probabilities: np.ndarray
    action: int
    words: np.ndarray | None = None
    views: np.ndarray | None = None
    saliency: np.ndarray | None = None
    value: float | None = None
    reward: float | None = None
    forced: bool = False


@dataclass(frozen=True, eq=False)
class Trace:
    """One agent's way through one episode. T is the number of places, the start included.

    Attributes:
        agent: its name, as in tables.
        episode: the instruction; ``episode.path`` is None where the goal is hidden.
        viewpoints: (T,) int64 global viewpoints in the order they were visited, without turns in place.
        headings_rad: (T,) float64, where the agent looks when it arrives.
        elevations_rad: (T,) float64.
        decisions: T of them, or T - 1 where it was cut off before it stopped; None for walks from files.
        words: the instruction as the agent read it, in reading order; None for walks from files.
        unknown: which of ``words`` the agent had never seen in training.
        metrics: scores of this walk by the names of ``vln_clip.tasks.metrics``; None where the goal is hidden.
    """

    agent: str
    episode: Episode
    viewpoints: np.ndarray
    headings_rad: np.ndarray
    elevations_rad: np.ndarray
    decisions: Sequence[Decision] | None = None
    words: tuple[str, ...] | None = None
    unknown: frozenset[int] = frozenset()
    metrics: dict[str, float] | None = None
