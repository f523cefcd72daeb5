"""The processes that train one model together: which share of the work is whose, and what they tell each other.

``accelerate launch`` (or torchrun) starts them on one machine or many. Every process, a rank, draws the same
joint batch and takes its rows; losses are sums over rows divided by quantities of the joint batch, so that the
sum of all gradients is that of one process with the joint batch. A program started by itself is the only rank,
and nothing here costs it anything.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from vln_clip.errors import InputError, JointError, LostRankError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those of its run; every method that says "all" must be called by all of them alike.

    Attributes:
        rank: number of this process, from 0.
        world: number of processes.
        local_rank: number of this process on its machine.
        device: where this process computes; None where the user chooses.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    device: str | None = None

    @property
    def is_main(self) -> bool:
        """Return whether this process writes files and speaks."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """Return this rank's rows of a joint batch (B,); those of all ranks are all of them, each once."""
        return rows if self.world == 1 else rows[self.rank :: self.world]

    def deal(self, items: Sequence[T]) -> Sequence[T]:
        """Return every item that is this rank's to do."""
        return items if self.world == 1 else items[self.rank :: self.world]

    def gather_dealt(self, results: Sequence[T]) -> list[T]:
        """Put what all ranks made of dealt items back into the items' order, on all ranks."""
        if self.world == 1:
            return list(results)
        hands = self.gather(list(results))
        return [hands[i % self.world][i // self.world] for i in range(sum(map(len, hands)))]

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of the tensors of all ranks, one shape, on all of them."""
        if self.world == 1:
            return values
        from accelerate.utils import reduce

        with _collective():
            return reduce(values, "sum")

    def largest(self, value: int) -> int:
        """Return the largest of the numbers of all ranks."""
        return value if self.world == 1 else max(self.gather(value))

    def any(self, *flags: bool) -> list[bool]:
        """Return of each flag whether it is set on one of all ranks."""
        if self.world == 1:
            return list(flags)
        return [count > 0 for count in self.sum(torch.tensor(flags, dtype=torch.float32, device=self.device)).tolist()]

    def sum_gradients(self, model: nn.Module) -> None:
        """Replace every gradient by the sum over all ranks: one message, the same bits everywhere."""
        if self.world == 1:
            return
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        total = self.sum(torch.cat([grad.flatten() for grad in grads]))
        for grad, summed in zip(grads, total.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(summed.view_as(grad))

    def average_buffers(self, model: nn.Module) -> None:
        """Replace running statistics (of batch norms) by their mean over all ranks, so that all have one model."""
        if self.world == 1:
            return
        buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        if buffers:
            total = self.sum(torch.cat([buffer.flatten() for buffer in buffers])) / self.world
            for buffer, mean in zip(buffers, total.split([buffer.numel() for buffer in buffers]), strict=True):
                buffer.copy_(mean.view_as(buffer))

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in their order, on all of them."""
        if self.world == 1:
            return [value]
        from accelerate.utils import gather_object

        with _collective():
            return list(gather_object([value]))

    def from_main(self, work: Callable[[], T]) -> T:
        """Let rank 0 work and give the result, or its ``InputError``, to all ranks."""
        if self.world == 1:
            return work()
        from accelerate.utils import broadcast_object_list

        box: list[Any] = [None, None]
        if self.is_main:
            try:
                box[0] = work()
            except InputError as error:
                box[1] = str(error)
        with _collective():
            broadcast_object_list(box)
        if box[1] is not None:
            raise JointError(box[1])
        return box[0]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let the ``InputError`` of one rank be raised on all ranks at the end of this block."""
        if self.world == 1:
            yield
            return
        found = None
        try:
            yield
        except InputError as error:
            found = str(error)
        errors = [error for error in self.gather(found) if error is not None]
        if errors:
            raise JointError(errors[0])

    def first_here(self, work: Callable[[], T]) -> T:
        """Work on the first rank of each machine, then on all others: these find in the cache what it has made."""
        if self.world == 1:
            return work()
        result: list[T] = []
        for turn in (self.local_rank == 0, self.local_rank != 0):
            with self.together():
                if turn:
                    result.append(work())
        return result[0]

    def require_rows(self, flag: str, batch_size: int) -> None:
        """Check that every rank gets a row of a joint batch."""
        if batch_size < self.world:
            raise InputError(
                f"{flag} must be at least the number of processes, {self.world}, got {batch_size}: it is the joint "
                "batch that they share; launch fewer (--num_processes), or raise it"
            )

    def generator(self, seed: int, device: torch.device) -> torch.Generator:
        """Return a generator of this rank's own; alone it draws what one with this seed draws."""
        own = seed if self.world == 1 else derived_seed(seed, self.rank + 1)
        return torch.Generator(device).manual_seed(own)


ALONE = Ranks()


def fetch(numbers: dict[str, Tensor], ranks: Ranks = ALONE) -> dict[str, float]:
    """Bring scalars, summed over ranks, from the device, all at once: each fetch waits for the device."""
    values = ranks.sum(torch.stack([number.detach() for number in numbers.values()]))
    return dict(zip(numbers, values.tolist(), strict=True))


@contextmanager
def _collective() -> Iterator[None]:
    """Turn what a backend raises when a peer has died into one exception."""
    try:
        yield
    except RuntimeError as error:
        raise LostRankError(f"another process of this run is gone ({str(error).splitlines()[0][:200]})") from error


def derived_seed(seed: int, number: int) -> int:
    """Return another seed for each number, from 0 to 2**32 - 1."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint32)[0])
