"""One reader of files, and how its good files are written."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.mutations import Mutation


@dataclass(frozen=True)
class Case:
    """One reader.

    Attributes:
        file: name of the file; endings matter to some readers.
        write: fills a file with what the reader reads; may write others beside it.
        mutate: what is done to the content.
        read: reads the file and uses what it got.
    """

    file: str
    write: Callable[[Path], object]
    mutate: Mutation
    read: Callable[[Path], object]


def as_json(value) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def as_lines(*items) -> Callable[[Path], object]:
    return lambda path: path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")


def as_gzip(write: Callable[[Path], object]) -> Callable[[Path], object]:
    def write_packed(path: Path) -> None:
        write(path)
        path.write_bytes(gzip.compress(path.read_bytes()))

    return write_packed


def text(content):
    return lambda path: path.write_text(content, encoding="utf-8")
