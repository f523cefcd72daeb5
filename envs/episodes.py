"""Episodes compiled into index tensors, and the samplers that draw mini-batches from them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vln_clip.connectivity import NavTables
from vln_clip.envs.navigation import snap_view
from vln_clip.records import Batch, Episode


@dataclass(frozen=True, eq=False)
class EpisodeTable:
    """A split as tensors on one device; N episodes.

    Attributes:
        tokens: (N, L) int64, padded with 0; L = 1 where there is no instruction (unlabelled paths).
        length: (N,) int64 real tokens, at least 1.
        viewpoint: (N,) int64 start.
        view: (N,) int64 start view.
        goal: (N,) int64, -1 where hidden.
        reference: (N, R) int64 numpy reference paths, padded with -1; R is 0 where they are hidden.
        episodes: the records in order; empty for unlabelled paths.
    """

    tokens: Tensor
    length: Tensor
    viewpoint: Tensor
    view: Tensor
    goal: Tensor
    reference: np.ndarray
    episodes: tuple[Episode, ...] = ()

    @classmethod
    def compile(
        cls,
        episodes: Sequence[Episode],
        tables: NavTables,
        tokens: np.ndarray,
        length: np.ndarray,
        device: torch.device | str = "cpu",
    ) -> "EpisodeTable":
        """Compile records and their encoded instructions, tokens (N, L) and length (N,).

        Raises:
            InputError: an episode names a viewpoint that the graphs lack.
        """
        start = [tables.index(e.scan, e.start) for e in episodes]
        paths = {e.path: [tables.index(e.scan, v) for v in e.path] for e in episodes if e.path}
        rows = [paths[e.path] if e.path else [] for e in episodes]
        reference = np.full((len(rows), max(map(len, rows), default=0)), -1, dtype=np.int64)
        for i, row in enumerate(rows):
            reference[i, : len(row)] = row
        goal = [row[-1] if row else -1 for row in rows]
        heading = torch.tensor([e.heading_rad for e in episodes], dtype=torch.float64)
        columns = (tokens, length, start, snap_view(heading), goal)
        tensors = [torch.as_tensor(column, dtype=torch.int64).to(device) for column in columns]
        return cls(tensors[0], tensors[1], tensors[2], tensors[3], tensors[4], reference, tuple(episodes))

    def __len__(self) -> int:
        return len(self.viewpoint)

    @property
    def has_goals(self) -> bool:
        """Return whether every goal is known: test splits have none."""
        return bool((self.goal >= 0).all())

    @cached_property
    def guide(self) -> Tensor | None:
        """Return the reference paths on the device; None where they are hidden."""
        if not self.reference.shape[1]:
            return None
        return torch.as_tensor(self.reference, device=self.viewpoint.device)

    def batch(self, rows: Tensor) -> Batch:
        """Return the episodes at rows (B,) int64."""
        rows = rows.to(self.viewpoint.device)
        length = self.length[rows]
        tokens = self.tokens[rows, : int(length.max())]
        guide = None if self.guide is None else self.guide[rows]
        return Batch(rows, tokens, length, self.viewpoint[rows], self.view[rows], self.goal[rows], guide)


class ShuffledSampler:
    """Consecutive slices of a shuffled list, the reference's rule (specification §4).

    When fewer than a batch remain the whole list is shuffled anew and the missing items are taken from its
    head, so an epoch's end mixes with the next one's start.

    Args:
        size: number of items.
        batch_size: items per batch; a list smaller than that is repeated.
        seed: of the order.
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        if size < 1:
            raise ValueError("a sampler needs at least one item")
        self.batch_size = batch_size
        self.generator = torch.Generator().manual_seed(seed)
        self.order = torch.randperm(size, generator=self.generator)
        self.cursor = 0

    def next(self) -> Tensor:
        """Return the next batch of item numbers (batch_size,) int64."""
        batch = self.order[self.cursor : self.cursor + self.batch_size]
        self.cursor += len(batch)
        while len(batch) < self.batch_size:
            self.order = self.order[torch.randperm(len(self.order), generator=self.generator)]
            self.cursor = min(self.batch_size - len(batch), len(self.order))
            batch = torch.cat([batch, self.order[: self.cursor]])
        return batch

    def state(self) -> dict[str, Tensor]:
        """Return what ``restore`` needs to go on with the same batches; cheap enough for every step."""
        return {
            "order": self.order,  # never changed in place
            "cursor": torch.tensor(self.cursor),
            "generator": self.generator.get_state(),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on where ``state`` was taken."""
        self.order, self.cursor = state["order"].clone(), int(state["cursor"])
        self.generator.set_state(state["generator"])


def in_order(size: int, batch_size: int, length: Tensor | None = None) -> Iterator[Tensor]:
    """Yield every item number once; by descending ``length`` (N,) where given, so that batches are even."""
    order = torch.arange(size) if length is None else length.cpu().argsort(descending=True, stable=True)
    yield from order.split(batch_size)
