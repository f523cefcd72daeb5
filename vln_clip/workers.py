"""Worker processes that end with the process that they work for, however that one ends."""

import os
import threading
import time

POLL_S = 0.5


def end_with_parent(parent: int) -> None:
    """Watch that the parent lives; for the ``initializer`` of a pool of processes.

    Nobody tells the workers of a killed process to stop, and forked ones hold each other's pipes open: they would
    wait for work for ever.

    Args:
        parent: process number of who made the pool.
    """
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_S)
    os._exit(1)
