"""One optimizer step of a model that learns from rows of a table: what VQA, captioning and pre-training share.

The next batch is read (grid features from the disk, images) in a thread of its own while the model learns from
this one; where the sampler stands is only moved on when a batch is used, so that a stop in between loses nothing.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from vln_clip.divergence import Watch
from vln_clip.ranks import ALONE, Ranks, fetch
from vln_clip.stage import Sampler

Data = TypeVar("Data")
GRADIENT_NORM = "optimizer/gradient_norm"


@dataclass(frozen=True)
class LossSum:
    """What a model lost on the rows of this rank.

    Attributes:
        total: sum over rows (or words), scalar; of several objectives (K,), each summed over what it is about.
        count: how many, of the same shape; the loss is the total of all ranks divided by the count of all ranks,
            that of several objectives the sum of theirs. Where there is nothing to count the total must be 0.
        shown: other sums to log, of the same shape, divided alike.
        objectives: K names, for the log; none of a single one.
    """

    total: Tensor
    count: Tensor
    shown: Mapping[str, Tensor] = field(default_factory=dict)
    objectives: tuple[str, ...] = ()

    def means(self, count: Tensor) -> dict[str, Tensor]:
        """Return the loss and what is shown, divided by the count of all ranks; for the log."""
        sums = {"loss": self.total} | {name: value.float() for name, value in self.shown.items()}
        if not self.objectives:
            return {name: value / count for name, value in sums.items()}
        found = {"loss": (self.total / count).sum()}
        for name, values in sums.items():
            found |= {f"{name}/{which}": v for which, v in zip(self.objectives, values / count, strict=True)}
        return found


@dataclass(frozen=True)
class Clip:
    """How gradients are clipped: by their norm, each by its value, or not at all."""

    norm: float | None = None
    value: float | None = None

    def __call__(self, model: nn.Module) -> Tensor:
        """Clip the gradients of a model and return their norm before."""
        parameters = [p for p in model.parameters() if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(parameters, torch.inf if self.norm is None else self.norm)
        if self.value is not None:
            nn.utils.clip_grad_value_(parameters, self.value)
        return norm


class ReadAhead(Generic[Data]):
    """Rows of a sampler with what ``load`` makes of them, the next ones being loaded already.

    Args:
        sampler: of the joint batches; it stands where the batches that were used end.
        load: called with this rank's rows in another thread.
        ranks: who share the batches.
    """

    def __init__(self, sampler: Sampler, load: Callable[[Tensor], Data], ranks: Ranks = ALONE) -> None:
        self._sampler, self._load, self._ranks = sampler, load, ranks
        self._pool = ThreadPoolExecutor(1, "read_ahead")
        self._coming: tuple[Tensor, Future[Data]] | None = None

    def next(self) -> tuple[Tensor, Data]:
        """Return this rank's rows of the next joint batch, (b,) int64, and what was loaded for them."""
        rows = self._ranks.share(self._sampler.next())
        if self._coming is not None and torch.equal(self._coming[0], rows):
            data = self._coming[1].result()
        else:  # the first batch, or the sampler was put somewhere else
            data = self._load(rows)
        before = self._sampler.state()
        following = self._ranks.share(self._sampler.next())
        self._sampler.restore(before)
        self._coming = following, self._pool.submit(self._load, following)
        return rows, data


@dataclass
class SupervisedLearner(Generic[Data]):
    """Learns from one batch per call.

    Attributes:
        model: in training mode while it learns.
        optimizer: of the model.
        batches: what to learn from.
        loss: of rows and their data; draws dropout from a generator of its own.
        clip: of gradients.
        mean: whether the loss is the total by the count; else the total itself, which is logged by the count too.
        watch: looks at numbers before the step is taken.
        ranks: who learn together.
        accumulation: batches per step, whose mean losses are averaged.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    batches: ReadAhead[Data]
    loss: Callable[[Tensor, Data], LossSum]
    clip: Clip = Clip()
    watch: Watch = field(default_factory=Watch)
    ranks: Ranks = ALONE
    mean: bool = True
    accumulation: int = 1

    def __call__(self) -> dict[str, float]:
        """Take one optimizer step and return the numbers to log."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        numbers: dict[str, Tensor] = {}
        for _ in range(self.accumulation):
            for name, value in self._accumulate().items():
                numbers[name] = numbers.get(name, 0) + value.detach() / self.accumulation
        self.ranks.sum_gradients(self.model)
        found = self.watch.checked(fetch(numbers, self.ranks))
        found |= self.watch.checked_norms(fetch({GRADIENT_NORM: self.clip(self.model)}))
        self.optimizer.step()
        self.ranks.average_buffers(self.model)
        return found

    def _accumulate(self) -> dict[str, Tensor]:
        """Add the gradients of a batch; return this rank's part of the numbers to log."""
        lost = self.loss(*self.batches.next())
        # Counts are often made on the CPU, where NCCL, which serves several GPUs, sums nothing.
        count = self.ranks.sum(lost.count.detach().to(lost.total.device, torch.float32, copy=True)).clamp(min=1)
        total = lost.total / count if self.mean else lost.total
        (total.sum() / self.accumulation).backward()
        return lost.means(count)
