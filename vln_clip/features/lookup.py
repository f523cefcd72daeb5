"""Feature files of any format, read viewpoint by viewpoint in any order; memory stays at one row."""

import gzip
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vln_clip.errors import InputError
from vln_clip.features.formats import (
    check_exists,
    format_of,
    hdf5_keys,
    hdf5_row,
    is_gzip,
    open_hdf5,
    parse_tsv_line,
    tsv_key,
)
from vln_clip.features.store import FeatureStore, open_store
from vln_clip.limits import MAX_LINE_BYTES
from vln_clip.reading import check_ratio, unpacked_parts


class FeatureFile:
    """An open feature file.

    A TSV file is scanned once for the places of its lines; a gzipped one is unpacked into a temporary file.

    Attributes:
        path: the file.
        kind: ``store``, ``tsv`` or ``hdf5``.
        keys: ``<scan>_<viewpoint id>`` in file order.
    """

    def __init__(self, path: Path):
        self.path, self.kind = path, format_of(path)
        check_exists(path)
        self._places: dict[str, int] = {}
        self._store: FeatureStore | None = None
        self._archive: Any = None

    def __enter__(self) -> "FeatureFile":
        with ExitStack() as stack:
            if self.kind == "store":
                self._store = open_store(self.path)
                self.keys = self._store.keys
            elif self.kind == "hdf5":
                self._archive = stack.enter_context(open_hdf5(self.path, "r"))
                self.keys = hdf5_keys(self.path, self._archive)
            else:
                self._stream = stack.enter_context(self._unpacked())
                self._places = _index_lines(self.path, self._stream)
                self.keys = tuple(self._places)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def row(self, key: str) -> np.ndarray:
        """Return the features of one viewpoint, (36, D) in the file's dtype."""
        if self._store is not None:
            return self._store.features[self._store.rows[key]].numpy()
        if self._archive is not None:
            return hdf5_row(self.path, self._archive, key)
        self._stream.seek(self._places[key])
        return parse_tsv_line(f"{self.path}, viewpoint {key}", self._stream.readline())[1]

    def _unpacked(self) -> Any:
        """Open the lines of a TSV file for seeking."""
        if not is_gzip(self.path):
            return self.path.open("rb")
        unpacked = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the file
        try:
            with gzip.open(self.path, "rb") as packed:
                for part in unpacked_parts(packed, self.path):
                    unpacked.write(part)
                    check_ratio(unpacked.tell(), self.path.stat().st_size, self.path)
        except BaseException:
            unpacked.close()
            raise
        return unpacked


def _index_lines(path: Path, stream: Any) -> dict[str, int]:
    """Return where the line of each viewpoint starts; of doubled viewpoints the first counts."""
    places: dict[str, int] = {}
    stream.seek(0)
    place = number = 0
    while line := stream.readline(MAX_LINE_BYTES):
        number += 1
        if len(line) == MAX_LINE_BYTES:
            raise InputError(f"{path} line {number} must have less than {MAX_LINE_BYTES:,} bytes, got more")
        columns = line[:400].split(b"\t")
        if len(columns) < 3:
            raise InputError(f"{path} line {number} must have tab-separated columns, got {line[:40]!r}")
        places.setdefault(tsv_key(f"{path} line {number}", columns), place)
        place += len(line)
    return places
