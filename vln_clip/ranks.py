"""The processes that train one model together: which share of the work is whose, and what they tell each other.

``accelerate launch`` (or torchrun) starts them on one machine or many. Every process, a rank, draws the same
joint batch and takes its rows; losses are sums over rows divided by quantities of the joint batch, so that the
sum of all gradients is that of one process with the joint batch. A program started by itself is the only rank,
and nothing here costs it anything.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from vln_clip.errors import InputError

T = TypeVar("T")

PATIENCE = timedelta(days=30)  # one builds a world or extracts features while the others wait
HEARING_S = 3.0  # a rank waits so long before it tells of what rank 0 may tell too


class LostRankError(RuntimeError):
    """Another process of the run is gone; this one can only end, and all go on from the last checkpoint."""


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

    def any(self, flag: bool) -> bool:
        """Return whether a flag is set on one of all ranks."""
        return flag if self.world == 1 else bool(self.sum(torch.tensor(float(flag), device=self.device)))

    def sum_gradients(self, model: nn.Module) -> None:
        """Replace every gradient by the sum over all ranks: one message, the same bits everywhere."""
        if self.world == 1:
            return
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        total = self.sum(torch.cat([grad.flatten() for grad in grads]))
        for grad, summed in zip(grads, total.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(summed.view_as(grad))

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
        return box[0]  # type: ignore[no-any-return]

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

    def generators(self, seed: int, device: torch.device, part: int = 0) -> tuple[torch.Generator, torch.Generator]:
        """Return a generator of this rank's own and one that draws the same on all ranks; alone they are one.

        Args:
            seed: of the generators.
            device: of both.
            part: another number gives the rank's own another stream.
        """
        joint = torch.Generator(device).manual_seed(seed)
        if self.world == 1:
            return joint, joint
        word = np.random.SeedSequence([seed, self.rank + 1, part]).generate_state(1, np.uint32)
        return torch.Generator(device).manual_seed(int(word[0])), joint


ALONE = Ranks()


class JointError(InputError):
    """Bad input that every rank knows of: only rank 0 tells."""


@contextmanager
def _collective() -> Iterator[None]:
    """Turn what a backend raises when a peer has died into one exception."""
    try:
        yield
    except RuntimeError as error:
        raise LostRankError(f"another process of this run is gone ({str(error).splitlines()[0][:200]})") from error


def is_main_process() -> bool:
    """Return whether this process is the first of those launched together, before they know each other."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def launched(device: str) -> Iterator[Ranks]:
    """Join the processes that ``accelerate launch`` started; a program started by itself is the only one.

    Args:
        device: ``--device``: auto, cpu or cuda; each process takes a GPU of its own where there are enough, else
            they share.

    Raises:
        InputError: one GPU is named for several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield ALONE
        return
    from accelerate import PartialState

    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device must be auto, cpu or cuda where several processes are launched, got {device!r}")
    gpus = 0 if device == "cpu" else torch.cuda.device_count()
    if device == "cuda" and not gpus:
        raise InputError("--device must be auto or cpu on a machine without a GPU, got 'cuda'")
    crowded = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > gpus > 0
    backend = {"backend": "gloo"} if crowded else {}  # NCCL takes one process per GPU
    state = PartialState(cpu=not gpus, timeout=PATIENCE, **backend)
    try:
        yield Ranks(state.process_index, state.num_processes, state.local_process_index, str(state.device))
    finally:
        state.destroy_process_group()


@contextmanager
def one_voice(ranks: Ranks = ALONE) -> Iterator[None]:
    """Let rank 0 tell what is wrong, with exit status 2 everywhere; another rank only what it alone knows."""
    try:
        yield
    except JointError:
        if ranks.is_main:
            raise
        _let_rank_0_speak()
        raise SystemExit(2) from None
    except InputError as error:
        if ranks.is_main:
            raise
        _let_rank_0_speak()
        raise InputError(f"{error} (told by process {ranks.rank} of {ranks.world})") from None


def _let_rank_0_speak() -> None:
    """Wait: launchers kill all processes when the first one ends."""
    time.sleep(HEARING_S)
