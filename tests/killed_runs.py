"""Trains on the toy world in forked children that are killed, until a run is done: ``tests/test_unkillable.py``.

Run as a program of its own, so that what is forked has no threads: ``python -m tests.killed_runs PLAN.json``.
"""

import contextlib
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

WRITES = ("replace", "rename", "link", "unlink")  # of os: every step by which files come to be


def kill_at(number: int, after: bool) -> None:
    """Let this process die before or after its write of a number, counted over renames, links and appended lines."""
    from vln_clip import files

    counted = 0

    def counting(write):
        def wrapped(*args, **options):
            nonlocal counted
            counted += 1
            if counted == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return write(*args, **options)
            finally:
                if counted == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        return wrapped

    for name in WRITES:
        setattr(os, name, counting(getattr(os, name)))
    files.append_line = counting(files.append_line)
    files.sync = counting(files.sync)  # between a whole temporary file and its rename


def start(argv: list[str], log: Path, point: tuple[int, bool] | None = None, main=None) -> int:
    """Fork a child that trains, or runs another program; return its process id."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        from vln_clip import train
        from vln_clip.log import program

        with log.open("a") as stream, contextlib.redirect_stderr(stream), contextlib.redirect_stdout(stream):
            if point is not None:
                kill_at(*point)
            try:
                program(main or train.main, argv)
                status = 0
            except SystemExit as stopped:
                status = int(stopped.code or 0)
    finally:
        os._exit(status)


def wait(child: int) -> int:
    """Return how a child ended: its exit status, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def contents(folder):
    """Return every file of a run by name, but those that say when and where it was trained."""
    found = (path for path in folder.rglob("*") if path.is_file() and "events" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.name != ".lock"}


def assert_same(ours, theirs):
    """Compare two run folders, bit for bit; but for the flags if one was in another place."""
    ours, theirs = contents(ours), contents(theirs)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name] and name != "config.json"] == []


def main() -> None:
    """Follow a plan and print all ends.

    It is ``{argv, log, points: [[write, after], …], times: [[seconds, signal], …], program}``; the program is a module
    with a ``main``, training by default.
    """
    plan = json.loads(Path(sys.argv[1]).read_text())
    argv, log, ends = plan["argv"], Path(plan["log"]), []
    program = importlib.import_module(plan.get("program", "vln_clip.train")).main
    for point in plan.get("points", []):
        ends.append(wait(start(argv, log, (point[0], bool(point[1])), program)))
    for delay_s, number in plan.get("times", []):
        child = start(argv, log, None, program)
        time.sleep(delay_s)
        os.kill(child, number)
        ends.append(wait(child))
    ends.append(wait(start(argv, log, None, program)))
    print(json.dumps(ends))


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    main()
