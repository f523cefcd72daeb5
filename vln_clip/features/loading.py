"""Preparing pictures for an encoder ahead of it: in threads of this process, or in worker processes."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vln_clip.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], num_threads: int, single: bool = False
) -> Iterator[Result]:
    """Yield the results of some work in the order of the items; threads run a little ahead.

    ``single`` lets every thread's tensor operations run in that thread alone.
    """
    threads_before = torch.get_num_threads()
    prepare = (lambda: torch.set_num_threads(1)) if single else None
    try:
        with ThreadPoolExecutor(num_threads, initializer=prepare) as pool:
            waiting: deque[Future[Result]] = deque()
            coming = iter(items)
            waiting.extend(pool.submit(work, item) for item in itertools.islice(coming, 2 * num_threads))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in itertools.islice(coming, 1))
                yield result
    finally:
        if single:
            torch.set_num_threads(threads_before)  # the setting leaks into threads that start later


def in_processes(
    work: Callable[[Item], Tensor], items: Sequence[Item], num_workers: int, pin_memory: bool = False
) -> Iterator[Tensor]:
    """Yield the results of some work in the order of the items; worker processes run a little ahead.

    Args:
        work: makes a CPU tensor; must be picklable where processes are not forked.
        items: what to work on.
        num_workers: processes; each computes on one core.
        pin_memory: whether tensors come in page-locked memory, for copies to a GPU.

    Raises:
        InputError: one that ``work`` raised, or a process was killed.
    """
    loader: DataLoader[Tensor | InputError] = DataLoader(
        _Tasks(work, items), batch_size=None, num_workers=num_workers, pin_memory=pin_memory, prefetch_factor=2
    )
    try:
        for result in loader:
            if isinstance(result, InputError):
                raise result
            yield result
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            f"worker processes must stay alive, got: {str(error).strip().splitlines()[0]}; memory or /dev/shm may be "
            "full, take fewer --workers (0 reads pictures in this process)"
        ) from error


class _Tasks(Dataset[Tensor | InputError], Generic[Item]):
    """One item after the other; bad input travels back as a value, so that its one sentence stays one."""

    def __init__(self, work: Callable[[Item], Tensor], items: Sequence[Item]):
        self.work, self.items = work, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Tensor | InputError:
        try:
            return self.work(self.items[index])
        except InputError as error:
            return error
