"""What a state-factored search keeps: the open states of every episode, and the tree of those it has expanded.

The search itself: ``search.py``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from vln_clip.envs.navigation import Navigation
from vln_clip.records import NUM_VIEWS, Batch

STOP_VIEW = NUM_VIEWS  # stands in for the view in the number of a stop state
PER_VIEWPOINT = NUM_VIEWS + 1  # states of a viewpoint


@dataclass(frozen=True, eq=False)
class States:
    """States taken from the frontier: batch rows, numbers, scores and the tree nodes they come from, (b,) each."""

    row: Tensor
    number: Tensor
    score: Tensor
    parent: Tensor

    def __getitem__(self, kept: Tensor) -> "States":
        return States(self.row[kept], self.number[kept], self.score[kept], self.parent[kept])


class Frontier:
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

    def pop(self, rows: Tensor) -> States:
        """Close the likeliest open state of each row (b,); its score is -inf where none is open."""
        score, number = self.score[rows].max(1)
        self.score[rows, number] = -torch.inf
        self.closed[rows, number] = True
        return States(rows, number, score, self.parent[rows, number])

    def is_stop(self, number: Tensor) -> Tensor:
        """Say which states are stops; the start, a multiple of the states per viewpoint, is none."""
        return number % PER_VIEWPOINT == STOP_VIEW

    def place(self, states: States) -> tuple[Tensor, Tensor]:
        """Return viewpoint and view of states that are no stops."""
        at_start = states.number == self.start
        start, view = (place[states.row] for place in self.start_place)
        viewpoint = self.first[states.row] + states.number // PER_VIEWPOINT
        return torch.where(at_start, start, viewpoint), torch.where(at_start, view, states.number % PER_VIEWPOINT)

    def push(
        self, world: Navigation, states: States, nodes: Tensor, here: Tensor, log_prob: Tensor, stop: Tensor
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


class Tree:
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

    def add(self, states: States, here: Tensor, looking: Tensor, memory: Tensor) -> Tensor:
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


def align_left(indices: Tensor) -> Tensor:
    """Move the entries of each row that are -1 behind the others, which keep their order: (B, T) -> (B, T')."""
    absent = indices < 0
    order = absent.to(torch.uint8).argsort(dim=1, stable=True)
    return indices.gather(1, order)[:, : int((~absent).sum(1).max())]
