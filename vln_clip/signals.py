"""SIGTERM and SIGINT (Ctrl-C) while a run is trained: the first lets it end in order, the second kills at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

AGAIN_S = 0.05
EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: the same command later goes on; schedulers can tell it from failures
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def ask_again_after_import(number: int, frame: FrameType | None) -> bool:
    """Return whether a signal came in the midst of an import; it is sent again a moment later then.

    What a handler raises there leaves half a module behind, and ends the process where C++ is being initialized.
    """
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    if frame is None:
        return False
    timer = threading.Timer(AGAIN_S, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()
    return True


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C raise ``KeyboardInterrupt`` in this block as everywhere, but never in the midst of an import."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not ask_again_after_import(number, frame):
            raise KeyboardInterrupt

    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
        if not self._deferred and ask_again_after_import(number, frame):
            return
        self.requested = name
        if not self._deferred:
            raise StopRequestedError(name)
        # Not through the logger: the signal may have come in the middle of one of its writes.
        os.write(2, f"{name}: saving after this step; once more kills at once\n".encode())
