"""Training files too large to be held as records: read once, object by object, into a mapped file in the cache.

What is stored depends on the annotation file alone, not on graphs or vocabulary. Texts, ids and paths of an episode
are read from the disk when the episode is asked for.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np

from vln_clip.columns import DamagedColumnsError, map_columns
from vln_clip.records import Episode
from vln_clip.tasks.split import Split

ROW = ("heading_rad", "language", "number")  # one value per episode
TEXTS = ("instr_id", "path_id", "instruction")


class StoredEpisodes(Sequence[Episode]):
    """Records made of mapped columns when they are asked for.

    Attributes:
        columns: flat columns; those of lists have an ``NAME_end`` beside them.
        facts: what the whole file has: ``sha256``, ``languages``, ``goal_hidden``, ``num_empty``
            instructions left out, and the ``unit`` (line or item) that the column ``number`` counts.
        key: of the cache, to be part of the keys of what is made of these.
    """

    def __init__(self, columns: dict[str, np.ndarray], facts: dict, key: str) -> None:
        self.columns, self.facts, self.key = columns, facts, key
        self.ends = {name: columns[f"{name}_end"] for name in (*TEXTS, "place")}
        sizes = {len(end) for end in self.ends.values()} | {len(columns[name]) for name in ROW}
        whole = all(end[-1:].sum() == len(columns[name]) for name, end in self.ends.items())
        if len(sizes) != 1 or not whole:
            raise ValueError("columns of different lengths")

    def __len__(self) -> int:
        return len(self.columns["heading_rad"])

    @overload
    def __getitem__(self, row: int) -> Episode: ...
    @overload
    def __getitem__(self, row: slice) -> list[Episode]: ...
    def __getitem__(self, row: int | slice) -> Episode | list[Episode]:
        """Return one episode, or some."""
        if isinstance(row, slice):
            return [self[k] for k in range(*row.indices(len(self)))]
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        instr_id, path_id, instruction = (self.text(name, row) for name in TEXTS)
        path = [self.places[k] for k in self.items("place", row).tolist()]
        names = None if self.facts["goal_hidden"] else tuple(name for _, name in path)
        heading_rad = float(self.columns["heading_rad"][row])
        return Episode(instr_id, path_id, path[0][0], path[0][1], heading_rad, instruction, names, self.language(row))

    def items(self, name: str, row: int) -> np.ndarray:
        """Return the items of a list."""
        end = self.ends[name]
        return self.columns[name][end[row - 1] if row else 0 : end[row]]

    def text(self, name: str, row: int) -> str:
        """Return one text."""
        return self.items(name, row).tobytes().decode()

    def language(self, row: int) -> str:
        """Return the language of an instruction."""
        return str(self.facts["languages"][self.columns["language"][row]])

    @cached_property
    def places(self) -> list[tuple[str, str]]:
        """Return (scan, viewpoint id) of the numbers in paths."""
        return [(scan, name) for scan, name in json.loads(self.columns["names"].tobytes())]

    @property
    def instr_ids(self) -> "InstrIds":
        """Return the ids alone."""
        return InstrIds(self)

    def instructions(self) -> Iterator[str]:
        """Yield the texts alone."""
        return (self.text("instruction", row) for row in range(len(self)))


class InstrIds(Sequence[str]):
    """The ids of stored episodes, read when they are asked for."""

    def __init__(self, episodes: StoredEpisodes) -> None:
        self.episodes = episodes

    def __len__(self) -> int:
        return len(self.episodes)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        """Return one id, or some."""
        if isinstance(row, slice):
            return [self[k] for k in range(*row.indices(len(self)))]
        if not 0 <= row < len(self):
            raise IndexError(row)
        return self.episodes.text("instr_id", row)


@dataclass(frozen=True)
class StoredSplit(Split):
    """A split whose episodes are ``StoredEpisodes``."""

    @property
    def stored(self) -> StoredEpisodes:
        """Return the episodes as what they are."""
        assert isinstance(self.episodes, StoredEpisodes)
        return self.episodes

    @property
    def scans(self) -> list[str]:
        """Return the scans used, sorted."""
        return sorted({scan for scan, _ in self.stored.places})

    def alone(self, row: int) -> Split:
        """Return one episode as a split, which knows its place in the file."""
        episode, stored = self.stored[row], self.stored
        where = f"{stored.facts['unit']} {stored.columns['number'][row]}"
        places = {episode.path_id: where}
        return Split([episode], self.file, self.sha256, self.version, self.goal_hidden, places=places)


def load_stored(path: Path, key: str) -> StoredEpisodes:
    """Map stored episodes.

    Raises:
        DamagedColumnsError: the file is not whole.
        OSError: it cannot be read.
    """
    columns, metadata = map_columns(path)
    try:
        return StoredEpisodes(columns, json.loads(metadata["facts"]), key)
    except (KeyError, ValueError, TypeError) as error:
        raise DamagedColumnsError(f"{path}: {error}") from None
