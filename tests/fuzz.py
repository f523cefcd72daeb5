"""Lets readers read files that were made to hurt them, and watches.

It works in a process of its own, so that a crash of a C library, a hang and an appetite for memory are findings like
any other.
"""

import io
import json
import os
import pickle
import resource
import signal
import struct
import tempfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from vln_clip.errors import InputError

LIMIT_S = 5.0  # of one content
BOMB_BYTES = 1 << 23
MEMORY_BYTES = 3 << 30  # what a reader may take beyond what the process had
MESSAGE_CHARS = 20_000  # of a sentence that quotes a name as long as mutations have them


class Gadget:
    """What an attacker would pickle: it makes a file when it is loaded."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@dataclass
class Verdict:
    """What a reader made of its mutants: how many it refused and read, and what else happened, with the mutant."""

    refused: int
    read: int
    faults: list[str]


class _SlowError(BaseException):
    pass


def _stop(*_):
    raise _SlowError


def judge(read: Callable[[Path], object], path: Path) -> str | None:
    """Read one file; return None where it was read, "" where it was refused, else what is wrong."""
    signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        read(path)
    except InputError as error:
        message = str(error)
        try:
            message.encode()
        except UnicodeEncodeError:
            return f"message cannot be shown: {message!r:.200}"
        return (
            "" if message and len(message) <= MESSAGE_CHARS else f"message of {len(message)} characters: {message:.200}"
        )
    except _SlowError:
        return f"not finished after {LIMIT_S} s\n{traceback.format_exc(limit=-4)}"
    except BaseException as error:
        return f"{type(error).__name__}: {error!s:.200}\n{traceback.format_exc(limit=-4)}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None


def examine(path: Path, read: Callable[[Path], object], count: int, mutant: Callable[[int], bytes]) -> Verdict:
    """Let a reader read some contents of a file, in a process of its own.

    Args:
        path: where the contents are written, one after the other; those with which something is wrong are kept.
        read: reads the file and uses what it got.
        count: of contents.
        mutant: makes the content of a number.
    """
    rows: list[str | None] = []
    while len(rows) < count:
        with tempfile.TemporaryFile() as progress:
            numbers = range(len(rows), count)
            process = get_context("fork").Process(target=_work, args=(path, read, numbers, mutant, progress))
            process.start()
            _watch(process, progress)
            progress.seek(0)
            rows += [json.loads(line) for line in progress.read().splitlines()]
        if process.exitcode:  # no further than this content; the next process goes on after it
            rows.append(
                f"content {len(rows)}: the process ended with {process.exitcode}, kept as {_keep(path, len(rows))}"
            )
    return Verdict(rows.count(""), rows.count(None), [row for row in rows if row])


def _keep(path: Path, number: int) -> Path:
    """Put a content aside."""
    kept = path.with_name(f"fault_{number}_{path.name}")
    kept.write_bytes(path.read_bytes())
    return kept


def _watch(process, progress) -> None:
    """Wait for a process; one that makes no progress, in C code where no signal is heard, is ended."""
    size, since_s = 0, time.monotonic()
    while process.is_alive():
        process.join(0.05)
        now = os.fstat(progress.fileno()).st_size
        if now > size:
            size, since_s = now, time.monotonic()
        elif time.monotonic() - since_s > 2 * LIMIT_S:
            process.kill()
            process.join()


def _work(path, read, numbers, mutant, progress):
    """Read the contents; one line of findings each."""
    torch.set_num_threads(1)  # the threads that the parent has do not come along: to wait for them takes for ever
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, resource.RLIM_INFINITY))
    with open(os.devnull, "w") as nothing:
        for stream in (1, 2):  # readers and C libraries tell what they think of the files
            os.dup2(nothing.fileno(), stream)
    for number in numbers:
        path.write_bytes(mutant(number))
        found = judge(read, path)
        if found:
            found = f"content {number}, kept as {_keep(path, number)}: {found}"
        progress.write(json.dumps(found).encode() + b"\n")
        progress.flush()


def bombs(folder: Path) -> dict[str, bytes]:
    """Return contents that are made to do harm, by name; a gadget that runs makes ``folder / "harm"``."""
    gadget = pickle.dumps(Gadget(folder / "harm"))
    member = io.BytesIO()
    with zipfile.ZipFile(member, "w") as archive:
        for name in ("archive/data.pkl", "archive/version", "archive/code/x.py", "pano.npy", "x.npy"):
            archive.writestr(name, gadget)
    array = (
        b"\x93NUMPY\x01\x00v\x00"
        + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117)
        + b"\n"
        + gadget
    )
    zeros = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(zeros.compress(b"\n" * (1 << 16)) for _ in range(BOMB_BYTES >> 16)) + zeros.flush()
    spaces = zlib.compressobj(9, zlib.DEFLATED, 31)
    begun = b'{"a": "' + b"a" * (1 << 16)
    text = (
        spaces.compress(begun)
        + b"".join(spaces.compress(b"a" * (1 << 16)) for _ in range(BOMB_BYTES >> 16))
        + spaces.flush()
    )
    return {
        "nothing": b"",
        "zeros": bytes(100_000),
        "pickle": gadget,
        "zip of pickles": member.getvalue(),
        "array of objects": array,
        "gzip bomb of lines": bomb,
        "gzip bomb of one string": text,
        "lists": b"[" * 1_000_000,
        "objects": b'{"a":' * 1_000_000,
        "long number": b"[" + b"9" * 1_000_000 + b"]",
        "infinite number": b'[{"a": 1e999}]',
        "spaces": b" " * 1_000_000,
        "spaces before": b" " * 1_000_000 + b"x",
        "brackets before": b"[ " * 50_000 + b"'x",
        "web page": b"<!doctype html><html></html>",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 1\n%%EndComments\nshowpage\n",
        "half a character": b'"\\ud800"',
        "header of all": struct.pack("<Q", 2**63 - 1) + b"{}",
        "header of nothing": struct.pack("<Q", 2) + b"{}",
    }
