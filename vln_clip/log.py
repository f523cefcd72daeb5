"""Logging, progress bars and the frame of every program. Libraries only get a logger; programs call these."""

import logging
import os
import sys
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from vln_clip.errors import InputError
from vln_clip.signals import interruptible

logger = logging.getLogger("vln_clip")


class _CurrentStderr(logging.Handler):
    """Writes to what ``sys.stderr`` is now, so that lines appear above a running progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        print(self.format(record), file=sys.stderr, flush=True)


def setup(level: int = logging.INFO) -> None:
    """Send the package's log to standard error as plain lines."""
    handler = _CurrentStderr()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


def program(main: Callable[[list[str] | None], None], argv: list[str] | None = None) -> None:
    """Run a program: bad input becomes one sentence on standard error and exit status 2.

    Args:
        main: the program, called with ``argv``.
        argv: command-line words after the program's name; None reads ``sys.argv``.
    """
    setup()
    try:
        with interruptible():
            main(argv)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output (head, a pager) has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to be flushed at exit
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted; a training run goes on from its last checkpoint with the same command", file=sys.stderr)
        raise SystemExit(130) from None


def progress() -> Progress:
    """Return a progress bar with count, elapsed and remaining time; it hides itself without a terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
        console=console,
        disable=not console.is_terminal,
    )
