"""Making folders of generated data: they appear when they are complete, and houses are drawn in processes."""

import multiprocessing
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from vln_clip.errors import InputError
from vln_clip.files import unwritable
from vln_clip.workers import end_with_parent

Progress = Callable[[int, int], None]
R = TypeVar("R")


@contextmanager
def draft_of(folder: Path, is_complete: Callable[[Path], bool], what: str) -> Iterator[Path]:
    """Give a draft folder beside ``folder`` that takes its place at the end, unless the block raises.

    Args:
        folder: where the draft shall stand; where a complete one appears meanwhile, that one stays.
        is_complete: tells whether a complete one stands somewhere.
        what: is being made, for messages.

    Raises:
        InputError: the folder cannot be written to, the disk is full, or a process that draws was killed.
    """
    try:
        with _draft(folder, is_complete) as draft:
            yield draft
    except OSError as error:
        raise unwritable(folder, error.strerror or error, what) from None
    except BrokenProcessPool:
        raise InputError(
            f"{what} {folder} cannot be built: a process that draws its pictures was killed (out of memory?); "
            "give the same command where there is more memory, or with fewer CPUs (taskset)"
        ) from None


@contextmanager
def _draft(folder: Path, is_complete: Callable[[Path], bool]) -> Iterator[Path]:
    """Make the draft folder and put it in place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        yield draft
        draft.chmod(0o755)
        if hasattr(os, "sync"):
            os.sync()  # a power failure must not leave the folder's name with empty pictures
        try:
            draft.rename(folder)
        except OSError:
            if not is_complete(folder):
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def run_jobs(
    work: Callable[..., R], jobs: Sequence[tuple], workers: int | None, on_progress: Progress | None
) -> list[R]:
    """Run jobs, in processes where there is more than one worker, and return what they return in their order.

    Args:
        work: called with each job's arguments; a function of a module.
        jobs: arguments.
        workers: processes; None takes the CPUs of this process.
        on_progress: called with (jobs done, jobs).
    """
    workers = min(workers or _num_cpus(), len(jobs))
    if workers <= 1:
        return _count((work(*job) for job in jobs), len(jobs), on_progress)
    # Forked processes start at once; drawing needs neither torch nor a device.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
        with ProcessPoolExecutor(workers, context, end_with_parent, (os.getpid(),)) as pool:
            futures = [pool.submit(work, *job) for job in jobs]
            try:
                return _count((future.result() for future in futures), len(jobs), on_progress)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _count(results: Iterable[R], total: int, on_progress: Progress | None) -> list[R]:
    """Collect the results and report progress."""
    found = []
    for result in results:
        found.append(result)
        if on_progress:
            on_progress(len(found), total)
    return found


def _num_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
