"""State-factored best-first search for walks that a follower finds likely (specification §5.4).

A state is a pose of the world: a viewpoint and the view along which it was entered; stopping at a viewpoint is one
state more, however it was entered. Of all ways into a state only the likeliest is kept, with its recurrent memory.
What the body walks meanwhile: ``exploration.py``.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from vln_clip.envs.navigation import Navigation
from vln_clip.envs.search_states import Frontier, States, Tree
from vln_clip.records import Batch, Observation

MAX_EXPANSIONS = 300  # per episode, the reference's


class Searcher(Protocol):
    """A policy that can go on from any state it was in; see ``vln_clip.agents.follower``.

    Its states have ``select`` (keep some episodes), ``memory`` (B, W), and ``with_memory`` to put one of elsewhere in.
    """

    def start(self, tokens: Tensor, length: Tensor, generator: Any = None, noise: Tensor | None = None) -> Any: ...  # noqa: D102
    def step(self, obs: Observation, state: Any) -> tuple[Any, Tensor, Tensor]: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class Candidates:
    """What a search found for B episodes: up to K walks each, in the order in which they were finished.

    Attributes:
        viewpoint: (B, K, T) int64, start first, padded with -1.
        view: (B, K, T) int64 likewise.
        log_prob: (B, K) float64, sum over the decisions, the stop included; -inf where there are fewer than K walks.
        num_decisions: (B, K) int64, moves and the stop; 0 where there is no walk.
        expanded: (B, E) int64, viewpoints in the order in which their states were expanded, padded with -1.
    """

    viewpoint: Tensor
    view: Tensor
    log_prob: Tensor
    num_decisions: Tensor
    expanded: Tensor

    @property
    def mask(self) -> Tensor:
        """Return (B, K) bool, True for walks."""
        return self.num_decisions > 0


@torch.no_grad()
def search(
    world: Navigation, agent: Searcher, batch: Batch, beam_size: int, max_expansions: int = MAX_EXPANSIONS
) -> Candidates:
    """Expand the likeliest open state of every unfinished episode at once, until K walks have stopped in each.

    An open stop state that is the likeliest is finished; that costs no step of the agent. Scores only fall along a
    walk, so a state that has been expanded is never reached with a better score. When its expansions are spent an
    episode finishes the stops it has seen, likeliest first, up to K.

    Args:
        world: where to search.
        agent: in evaluation mode.
        batch: starts and instructions; nothing privileged is read.
        beam_size: K, walks per episode.
        max_expansions: most expanded states per episode.
    """
    if min(beam_size, max_expansions) < 1:
        raise ValueError(f"beam_size and max_expansions must be at least 1, got {beam_size} and {max_expansions}")
    state = agent.start(batch.tokens, batch.length)
    frontier, tree = Frontier(world, batch), Tree(state.memory)
    finished = _Finished(len(batch.viewpoint), batch.viewpoint.device)
    rows = torch.arange(len(batch.viewpoint), device=batch.viewpoint.device)  # whose text `state` holds
    for expansion in range(max_expansions + 1):
        if expansion == max_expansions:
            frontier.close_moves()
        found = _pop(frontier, finished, rows, beam_size)
        if not len(found.row):
            break
        if len(found.row) < len(rows):
            state = state.select(torch.searchsorted(rows, found.row))
            rows = found.row
        here, looking = frontier.place(found)
        obs = world.observe(here, looking)
        after, logits, _ = agent.step(obs, state.with_memory(tree.memory(found.parent)))
        nodes = tree.add(found, here, looking, after.memory)
        frontier.push(world, found, nodes, here, logits.log_softmax(1).double(), obs.stop)
    return _collect(tree, finished, len(batch.viewpoint), beam_size)


@dataclass
class _Finished:
    """Stop states in the order in which they were finished."""

    num_rows: int
    device: torch.device
    parts: list[States] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.count = torch.zeros(self.num_rows, dtype=torch.int64, device=self.device)

    def add(self, states: States) -> None:
        """Add at most one stop per row."""
        self.parts.append(states)
        self.count[states.row] += 1


def _pop(frontier: Frontier, finished: _Finished, rows: Tensor, beam_size: int) -> States:
    """Take the next state to expand of every row that needs more walks and has open states; finish stops on the way."""
    found = []
    rows = rows[finished.count[rows] < beam_size]
    while True:
        states = frontier.pop(rows)
        states = states[states.score > -torch.inf]
        stops = frontier.is_stop(states.number)
        found.append(states[~stops])
        finished.add(states[stops])
        rows = states.row[stops]
        rows = rows[finished.count[rows] < beam_size]
        if not len(rows):
            break
    row, number, score, parent = (
        torch.cat([getattr(part, name) for part in found]) for name in ("row", "number", "score", "parent")
    )
    return States(row, number, score, parent)[row.argsort()]


def _collect(tree: Tree, finished: _Finished, num_rows: int, beam_size: int) -> Candidates:
    """Arrange the finished walks by episode."""
    row, score, node = (
        torch.cat([getattr(part, name) for part in finished.parts]) for name in ("row", "score", "parent")
    )
    order = row.argsort(stable=True)
    row, score, node = row[order], score[order], node[order]
    rank = torch.arange(len(row), device=row.device) - torch.searchsorted(row, row)
    viewpoint, view = tree.walks(node)
    found_viewpoint = viewpoint.new_full((num_rows, beam_size, viewpoint.shape[1]), -1)
    found_view = found_viewpoint.clone()
    found_viewpoint[row, rank], found_view[row, rank] = viewpoint, view
    log_prob = score.new_full((num_rows, beam_size), -torch.inf)
    log_prob[row, rank] = score
    num_decisions = (found_viewpoint >= 0).sum(2)
    return Candidates(found_viewpoint, found_view, log_prob, num_decisions, tree.expanded(num_rows))
