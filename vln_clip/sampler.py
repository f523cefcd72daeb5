"""Which rows of a table come next: shuffled batches for training, ordered ones for evaluation."""

from collections.abc import Iterator

import torch
from torch import Tensor


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


def in_order(
    size: int, batch_size: int, length: Tensor | None = None, most_tokens: int | None = None
) -> Iterator[Tensor]:
    """Yield every item number once; by descending ``length`` (N,) where given, so that batches are even.

    With ``most_tokens`` a batch has no more than that, padding included, or one item alone.
    """
    if length is None:
        yield from torch.arange(size).split(batch_size)
        return
    order = length.cpu().argsort(descending=True, stable=True)
    begin = 0
    while begin < size:
        longest = max(1, int(length[order[begin]]))
        count = batch_size if most_tokens is None else min(batch_size, max(1, most_tokens // longest))
        yield order[begin : begin + count]
        begin += count
