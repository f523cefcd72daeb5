"""Worker processes end with the process that they work for, even where that one is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Two workers, so that one holds the pipe of the other; both have started when the line is printed.
PROGRAM = """
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
from vln_clip.workers import end_with_parent

def number(seconds):
    time.sleep(seconds)
    return os.getpid()

with ProcessPoolExecutor(2, multiprocessing.get_context("fork"), end_with_parent, (os.getpid(),)) as pool:
    print(*pool.map(number, [0.3, 0.3]), flush=True)
    time.sleep(60)
"""


def test_workers_of_a_killed_process_end():
    command = [sys.executable, "-c", PROGRAM]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert parent.stdout is not None
    workers = [int(word) for word in parent.stdout.readline().split()]
    assert len(set(workers)) == 2
    assert all(Path(f"/proc/{worker}").exists() for worker in workers) or sys.platform != "linux"
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(parent.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(parent.pid, signal.SIGKILL)
    raise AssertionError("workers go on waiting")
