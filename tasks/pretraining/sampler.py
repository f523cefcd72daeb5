"""Batches of rows that are of one group each: pictures of one orientation have one canvas."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vln_clip.errors import InputError
from vln_clip.ranks import derived_seed

_KEPT_EPOCHS = 2  # reading ahead looks over the end of an epoch and comes back


@dataclass(frozen=True)
class _Epoch:
    """The batches of one epoch (n, batch_size) int32, and the rows carried into and over it (k,) int32."""

    carried: Tensor
    batches: Tensor
    left: Tensor


class GroupedSampler:
    """Shuffled batches of rows of one group each.

    Every epoch has every row once, in a new order. What is left of a group when no whole batch can be made of it
    begins the group's batches of the next epoch: no row is lost, and all batches have one size. A group of fewer
    rows than a batch has one only when enough epochs have come together; a row can be in it more than once.

    Every rank draws the same joint batch and takes its share (``Ranks.share``), which is of one group, too. The order
    depends on seed and epoch alone, so that a state is small.

    Args:
        groups: (N,) int64, of each row, from 0.
        batch_size: rows per joint batch.
        seed: of all orders.
    """

    def __init__(self, groups: Tensor, batch_size: int, seed: int) -> None:
        if not len(groups) or batch_size < 1:
            raise ValueError(f"a sampler needs at least one row and one per batch, got {len(groups)} and {batch_size}")
        self.groups, self.batch_size, self.seed = groups.to(torch.int8), batch_size, seed
        self._about = torch.tensor([batch_size, seed, *torch.bincount(groups.long()).tolist()])
        self._epochs: dict[int, _Epoch] = {}
        self.epoch, self.cursor = 0, 0
        self._now = self._plan(0, torch.zeros(0, dtype=torch.int32))

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def batches_per_epoch(self) -> float:
        """Return how many batches an epoch has on average."""
        return len(self.groups) / self.batch_size

    def next(self) -> Tensor:
        """Return the next batch of rows (batch_size,) int64, all of one group."""
        while self.cursor == len(self._now.batches):
            self.epoch, self.cursor = self.epoch + 1, 0
            self._now = self._plan(self.epoch, self._now.left)
        self.cursor += 1
        return self._now.batches[self.cursor - 1].long()

    def state(self) -> dict[str, Tensor]:
        """Return what ``restore`` needs to go on with the same batches; cheap enough for every step."""
        return {
            "about": self._about,
            "carried": self._now.carried,
            "epoch": torch.tensor(self.epoch),
            "cursor": torch.tensor(self.cursor),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on where ``state`` was taken.

        Raises:
            InputError: that was with other rows, batches or another seed.
        """
        if not torch.equal(state["about"], self._about):
            raise InputError(
                "a run must go on with the batch size, seed and orientations of images (size of batch, seed, rows of "
                f"each) that it began with, {state['about'].tolist()}, got {self._about.tolist()}; bring those data "
                "and flags back, or begin a new run"
            )
        self.epoch, self.cursor = int(state["epoch"]), int(state["cursor"])
        self._now = self._plan(self.epoch, state["carried"].clone())

    def _plan(self, epoch: int, carried: Tensor) -> _Epoch:
        """Return the batches of an epoch; the last ones asked for are kept."""
        kept = self._epochs.pop(epoch, None)
        if kept is None or not torch.equal(kept.carried, carried):
            kept = self._drawn(epoch, carried)
        self._epochs[epoch] = kept
        while len(self._epochs) > _KEPT_EPOCHS:
            del self._epochs[next(iter(self._epochs))]
        return kept

    def _drawn(self, epoch: int, carried: Tensor) -> _Epoch:
        """Draw the batches of an epoch."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, epoch))
        order = torch.cat([carried, torch.randperm(len(self.groups), generator=generator).int()])
        group = self.groups[order]
        batches, left = [], []
        for number in range(int(self.groups.max()) + 1):
            rows = order[group == number]
            num_whole = len(rows) // self.batch_size * self.batch_size
            batches.append(rows[:num_whole].view(-1, self.batch_size))
            left.append(rows[num_whole:])
        joined = torch.cat(batches)
        return _Epoch(carried, joined[torch.randperm(len(joined), generator=generator)], torch.cat(left))


def in_order_by_group(groups: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Yield every row once, (b,) int64 of one group each and in order within it; the last ones can be smaller.

    Args:
        groups: (N,) int64, of each row, from 0.
        batch_size: rows per batch at most.
    """
    for number in torch.unique(groups).tolist():
        yield from (groups == number).nonzero()[:, 0].split(batch_size)
