"""How a program becomes one of the processes of ``accelerate launch``: it joins the others, and one speaks for all."""

import io
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from vln_clip.errors import InputError, JointError, LostRankError
from vln_clip.log import logger
from vln_clip.run_config import RunConfig
from vln_clip.signals import EXIT_STATUS

if TYPE_CHECKING:
    from vln_clip.ranks import Ranks

Settings = TypeVar("Settings", bound=RunConfig)
PATIENCE = timedelta(days=30)  # one builds a world or extracts features while the others wait
HEARING_S = 3.0  # a rank waits so long before it tells of what rank 0 may tell too


def run_launched(read: Callable[[], Settings], work: Callable[[Settings, "Ranks"], object]) -> None:
    """Read the command line and work, in as many processes as were launched; one of them speaks for all."""
    with one_voice():
        with muted_elsewhere():
            settings = read()
        with launched(settings.device) as ranks:
            work(settings, ranks)


@contextmanager
def launched(device: str) -> Iterator["Ranks"]:
    """Join the processes that ``accelerate launch`` started; a program started by itself is the only one.

    Args:
        device: ``--device``: auto, cpu or cuda; each process takes a GPU of its own where there are enough, else
            they share.

    Raises:
        InputError: one GPU is named for several processes.
    """
    from vln_clip.ranks import ALONE, Ranks  # not before the command line has been read

    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield ALONE
        return
    import torch
    from accelerate import PartialState

    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device must be auto, cpu or cuda where several processes are launched, got {device!r}")
    gpus = 0 if device == "cpu" else torch.cuda.device_count()
    if device == "cuda" and not gpus:
        raise InputError("--device must be auto or cpu on a machine without a GPU, got 'cuda'")
    crowded = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > gpus > 0
    backend = {"backend": "gloo"} if crowded else {}  # NCCL takes one process per GPU
    state = PartialState(cpu=not gpus, timeout=PATIENCE, **backend, **_fresh_store())
    try:
        yield Ranks(state.process_index, state.num_processes, state.local_process_index, str(state.device))
    finally:
        state.destroy_process_group()


def _fresh_store() -> dict[str, Any]:
    """Return where restarted processes of one machine find each other: under names of their own.

    The launcher's store outlives them, and with its static rendezvous still holds the addresses of the dead. With
    several machines only ``--rdzv_backend c10d`` can restart, which makes a store for each attempt.
    """
    attempt, machines = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")), os.environ.get("GROUP_WORLD_SIZE")
    if attempt == 0 or machines != "1" or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return {}
    from torch.distributed import PrefixStore, TCPStore

    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return {"store": PrefixStore(f"attempt_{attempt}", store), "rank": rank, "world_size": world}


@contextmanager
def one_voice() -> Iterator[None]:
    """Let one process of all speak: rank 0, and another one only of an error that it alone knows.

    Every process ends with the status that it would end with alone; the others wait a moment with that, because
    launchers kill all of them when one ends with an error.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    try:
        if rank:
            logger.setLevel(logging.CRITICAL)
        yield
    except LostRankError as error:
        logger.error("%s; the same command goes on with what was saved", error)
        raise SystemExit(EXIT_STATUS) from None
    except JointError:
        if rank == 0:
            raise
        time.sleep(HEARING_S)
        raise SystemExit(2) from None
    except InputError as error:
        if rank == 0:
            raise
        time.sleep(HEARING_S)
        raise InputError(f"{error} (told by process {rank} of {world})") from None
    except SystemExit:
        if rank:
            time.sleep(HEARING_S)
        raise


@contextmanager
def muted_elsewhere() -> Iterator[None]:
    """Let only rank 0 print, for what every rank finds alike: a wrong flag, the list of all."""
    if int(os.environ.get("RANK", "0")) == 0:
        yield
        return
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield
