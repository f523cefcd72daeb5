"""State-factored best-first search for walks that a follower finds likely (specification §5.4).

A state is a pose of the world: a viewpoint and the view along which it was entered; stopping at a viewpoint is one
state more, however it was entered. Of all ways into a state only the likeliest is kept, with its recurrent memory.
What the body walks meanwhile: ``exploration.py``.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from vln_clip.envs.navigation import Navigation
from vln_clip.records import NUM_VIEWS, Batch, Observation

MAX_EXPANSIONS = 300  # per episode, the reference's
STOP_VIEW = NUM_VIEWS  # stands in for the view in the number of a stop state
PER_VIEWPOINT = NUM_VIEWS + 1  # states of a viewpoint


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
    frontier, tree = _Frontier(world, batch), _Tree(state.memory)
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


@dataclass(frozen=True, eq=False)
class _States:
    """States taken from the frontier: batch rows, numbers, scores and the tree nodes they come from, (b,) each."""

    row: Tensor
    number: Tensor
    score: Tensor
    parent: Tensor

    def __getitem__(self, kept: Tensor) -> "_States":
        return _States(self.row[kept], self.number[kept], self.score[kept], self.parent[kept])


class _Frontier:
    """The open states of B episodes as dense tables over all S states of a building; the last one is the start."""

    def __init__(self, world: Navigation, batch: Batch) -> None:
        scan = world.scan[batch.viewpoint]
        self.first = torch.searchsorted(world.scan, scan)  # (B,) where the building's viewpoints begin
        num_viewpoints = int((torch.searchsorted(world.scan, scan, right=True) - self.first).max())
        B, self.start = len(scan), num_viewpoints * PER_VIEWPOINT
        self.start_place = batch.viewpoint, batch.view
        self.score = torch.full((B, self.start + 1), -torch.inf, dtype=torch.float64, device=scan.device)
        self.closed = torch.zeros_like(self.score, dtype=torch.bool)
        self.parent = torch.zeros_like(self.score, dtype=torch.int64)
        self.score[:, self.start] = 0
        self.parent[:, self.start] = torch.arange(B, device=scan.device)  # the roots of the tree

    def pop(self, rows: Tensor) -> _States:
        """Close the likeliest open state of each row (b,); its score is -inf where none is open."""
        score, number = self.score[rows].max(1)
        self.score[rows, number] = -torch.inf
        self.closed[rows, number] = True
        return _States(rows, number, score, self.parent[rows, number])

    def is_stop(self, number: Tensor) -> Tensor:
        """Say which states are stops; the start, a multiple of the states per viewpoint, is none."""
        return number % PER_VIEWPOINT == STOP_VIEW

    def place(self, states: _States) -> tuple[Tensor, Tensor]:
        """Return viewpoint and view of states that are no stops."""
        at_start = states.number == self.start
        start, view = (place[states.row] for place in self.start_place)
        viewpoint = self.first[states.row] + states.number // PER_VIEWPOINT
        return torch.where(at_start, start, viewpoint), torch.where(at_start, view, states.number % PER_VIEWPOINT)

    def push(
        self, world: Navigation, states: _States, nodes: Tensor, here: Tensor, log_prob: Tensor, stop: Tensor
    ) -> None:
        """Open what follows expanded states where it is new or likelier than before.

        Args:
            world: where moves lead.
            states: that were expanded.
            nodes: (b,) their places in the tree.
            here: (b,) their viewpoints.
            log_prob: (b, K) of moves, stop and padding (-inf).
            stop: (b,) column of the stop.
        """
        columns = torch.arange(log_prob.shape[1], device=here.device)
        row, first = states.row[:, None], self.first[states.row][:, None]
        neighbor = pad(world.neighbor[here], (0, 1))[:, : len(columns)]
        move = (neighbor - first) * PER_VIEWPOINT + world.candidate_view[here, : len(columns)]
        stay = (here[:, None] - first) * PER_VIEWPOINT + STOP_VIEW
        # Padding points at the start, which is closed: it changes nothing.
        number = torch.where(columns < stop[:, None], move, torch.where(columns == stop[:, None], stay, self.start))
        old, score = self.score[row, number], states.score[:, None] + log_prob
        better = (score > old) & ~self.closed[row, number]
        self.score[row, number] = torch.where(better, score, old)
        self.parent[row, number] = torch.where(better, nodes[:, None], self.parent[row, number])

    def close_moves(self) -> None:
        """Leave only the stops open."""
        numbers = torch.arange(self.start + 1, device=self.score.device)
        self.score[:, ~self.is_stop(numbers)] = -torch.inf


class _Tree:
    """The expanded states: place and parent; below them one root per episode.

    Memories lie in one buffer that doubles when it is full, so that any can be gathered by index.
    """

    def __init__(self, memory: Tensor) -> None:
        self.size, device = len(memory), memory.device
        self._memory = memory
        nowhere = torch.full((self.size,), -1, dtype=torch.int64, device=device)
        self.viewpoint, self.view, self.parents = [nowhere], [nowhere], [nowhere]
        self.rows: list[Tensor] = []  # of each expansion

    def memory(self, nodes: Tensor) -> Tensor:
        """Return memories (b, W)."""
        return self._memory[nodes]

    def add(self, states: _States, here: Tensor, looking: Tensor, memory: Tensor) -> Tensor:
        """Add expanded states with the memory they left; return their nodes (b,)."""
        nodes = self.size + torch.arange(len(here), device=here.device)
        self.size += len(here)
        if self.size > len(self._memory):
            grown = self._memory.new_empty(max(self.size, 2 * len(self._memory)), self._memory.shape[1])
            grown[: len(self._memory)] = self._memory
            self._memory = grown
        self._memory[nodes] = memory
        self.rows.append(states.row)
        for column, values in ((self.viewpoint, here), (self.view, looking), (self.parents, states.parent)):
            column.append(values)
        return nodes

    def walks(self, node: Tensor) -> tuple[Tensor, Tensor]:
        """Return the places on the way to nodes (M,): viewpoint and view (M, T), start first, padded with -1."""
        viewpoint, view, parent = (torch.cat(column) for column in (self.viewpoint, self.view, self.parents))
        steps = []
        while bool((parent[node] >= 0).any()):
            steps.append((viewpoint[node], view[node]))  # -1 at the roots
            node = torch.where(parent[node] >= 0, parent[node], node)
        columns = (torch.stack(column[::-1], 1) for column in zip(*steps, strict=True))
        found_viewpoint, found_view = (align_left(column) for column in columns)
        return found_viewpoint, found_view

    def expanded(self, num_rows: int) -> Tensor:
        """Return the viewpoints of each episode's expansions (B, E), padded with -1; each round expands one."""
        found = torch.full((num_rows, len(self.rows)), -1, dtype=torch.int64, device=self._memory.device)
        for e, (rows, here) in enumerate(zip(self.rows, self.viewpoint[1:], strict=True)):
            found[rows, e] = here
        return found


@dataclass
class _Finished:
    """Stop states in the order in which they were finished."""

    num_rows: int
    device: torch.device
    parts: list[_States] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.count = torch.zeros(self.num_rows, dtype=torch.int64, device=self.device)

    def add(self, states: _States) -> None:
        """Add at most one stop per row."""
        self.parts.append(states)
        self.count[states.row] += 1


def _pop(frontier: _Frontier, finished: _Finished, rows: Tensor, beam_size: int) -> _States:
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
    return _States(row, number, score, parent)[row.argsort()]


def _collect(tree: _Tree, finished: _Finished, num_rows: int, beam_size: int) -> Candidates:
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


def align_left(indices: Tensor) -> Tensor:
    """Move the entries of each row that are -1 behind the others, which keep their order: (B, T) -> (B, T')."""
    absent = indices < 0
    order = absent.to(torch.uint8).argsort(dim=1, stable=True)
    return indices.gather(1, order)[:, : int((~absent).sum(1).max())]
