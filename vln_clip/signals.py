"""SIGTERM and SIGINT (Ctrl-C) while a run is trained: the first lets it end in order, the second kills at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: the same command later goes on; schedulers can tell it from failures
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequestedError(KeyboardInterrupt):
    """The first signal: raised at once, or by whoever deferred it when all is saved."""


class StopRequests:
    """Handles the signals inside a ``with`` block, and puts the old handlers back after it.

    Attributes:
        requested: name of the first signal, None before.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._deferred = False
        self._process = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequests":
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():  # Python gives no other thread handlers
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    @contextmanager
    def deferred(self, wanted: bool = True) -> Iterator[None]:
        """Let a signal only set ``requested`` in this block; with ``wanted=False`` raise it again, as elsewhere."""
        before, self._deferred = self._deferred, wanted
        try:
            if not wanted:
                self.check()
            yield
        finally:
            self._deferred = before

    def check(self) -> None:
        """Raise ``StopRequestedError`` where a signal has come."""
        if self.requested is not None:
            raise StopRequestedError(self.requested)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.requested is not None or os.getpid() != self._process:  # forked workers have nothing to save
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.requested = name
        if not self._deferred:
            raise StopRequestedError(name)
        # Not through the logger: the signal may have come in the middle of one of its writes.
        os.write(2, f"{name}: saving after this step; once more kills at once\n".encode())
