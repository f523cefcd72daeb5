"""Stored splits as episode tables: encoded and placed on the graphs once, part by part, then mapped from the cache.

On a CPU the table costs no memory of its own; on a GPU it is copied there, some 0.5 kB an instruction.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from vln_clip.columns import ColumnWriter, DamagedColumnsError, map_columns, write_columns
from vln_clip.connectivity import NavTables
from vln_clip.envs.episodes import EpisodeTable
from vln_clip.envs.navigation import snap_view
from vln_clip.envs.ragged import Ragged
from vln_clip.log import progress
from vln_clip.paths import cache_dir
from vln_clip.tasks.split import place_on_graph
from vln_clip.tasks.stored import StoredSplit
from vln_clip.tasks.storing import FOLDER, PART

logger = logging.getLogger(__name__)

VERSION = 1  # part of the cache key: raise when the table's content changes
FILLS = {"token": 0, "path": -1}


class Words(Protocol):
    """What turns a text into tokens, as ``tasks.text.Vocabulary`` does."""

    @property
    def digest(self) -> str: ...  # noqa: D102
    def encode(self, text: str, max_tokens: int, language: str | None = None) -> list[int]: ...  # noqa: D102


def compiled_table(
    split: StoredSplit,
    tables: NavTables,
    vocabulary: Words,
    max_tokens: int,
    device: torch.device | str = "cpu",
) -> EpisodeTable:
    """Return a stored split as a table, equal to that of its records; made where the cache lacks it.

    Raises:
        InputError: a path is not in the graphs, or the cache cannot be written to.
    """
    made_of = f"{VERSION} {split.stored.key} {tables.digest} {vocabulary.digest} {max_tokens}"
    key = hashlib.sha256(made_of.encode()).hexdigest()
    path = cache_dir() / FOLDER / f"{split.stored.key}-{key[:16]}.safetensors"
    try:
        return _load(path, split, device)
    except FileNotFoundError:
        pass
    except (DamagedColumnsError, OSError):  # only a cache
        logger.warning("%s is damaged and is made anew", path)
    logger.info("encoding %d instructions of %s into the cache, once", len(split.episodes), split.file)
    write_columns(path, lambda writer: _compile(writer, split, tables, vocabulary, max_tokens))
    return _load(path, split, device)


def _load(path: Path, split: StoredSplit, device: torch.device | str) -> EpisodeTable:
    """Map a table; a file that is not whole is a ``DamagedColumnsError``."""
    columns, metadata = map_columns(path)
    try:
        found = {name: torch.from_numpy(column).to(device) for name, column in columns.items()}
        widths = json.loads(metadata["widths"])
        lists = {
            name: Ragged(found[name], found[f"{name}_first"], found[f"{name}_length"], widths[name], fill)
            for name, fill in FILLS.items()
        }
        table = EpisodeTable(
            lists["token"], found["viewpoint"], found["view"], found["goal"], lists["path"], split.episodes
        )
    except (KeyError, ValueError, TypeError) as error:
        raise DamagedColumnsError(f"{path}: {error}") from None
    if {len(split.episodes)} != {len(found[name]) for name in ("viewpoint", "view", "goal", "token_first")}:
        raise DamagedColumnsError(f"{path}: columns of different lengths")
    return table


def _compile(
    writer: ColumnWriter, split: StoredSplit, tables: NavTables, vocabulary: Words, max_tokens: int
) -> dict[str, str]:
    """Append the columns of a table and return what stands beside them."""
    stored, widths = split.stored, dict.fromkeys(FILLS, 0)
    known = tables.indices(stored.places)
    with progress() as bar:
        task = bar.add_task("encoding", total=len(stored), status="")
        for begin in range(0, max(1, len(stored)), PART):
            rows = range(begin, min(begin + PART, len(stored)))
            lists = {
                "token": [
                    vocabulary.encode(stored.text("instruction", row), max_tokens, stored.language(row)) for row in rows
                ],
                "path": [known[stored.items("place", row)] for row in rows],
            }
            _require_placed(split, rows, lists["path"], tables)
            heading_rad = np.array(stored.columns["heading_rad"][rows.start : rows.stop])
            writer.append("view", snap_view(torch.from_numpy(heading_rad)).numpy())
            writer.append("viewpoint", np.array([path[0] for path in lists["path"]], np.int64))
            if split.goal_hidden:
                lists["path"] = [[] for _ in rows]
            goals = [path[-1] if len(path) else -1 for path in lists["path"]]
            writer.append("goal", np.array(goals, np.int64))
            for name, values in lists.items():
                widths[name] = max(widths[name], _append_lists(writer, name, values))
            bar.update(task, completed=rows.stop)
    return {"widths": json.dumps(widths)}


def _append_lists(writer: ColumnWriter, name: str, lists: list) -> int:
    """Append lists and where they begin; return the length of the longest."""
    length = np.array([len(items) for items in lists], np.int64)
    writer.append(f"{name}_first", writer.count(name) + np.cumsum(length) - length)
    writer.append(f"{name}_length", length)
    writer.append(name, np.array([item for items in lists for item in items], np.int32))
    return int(length.max(initial=0))


def _require_placed(split: StoredSplit, rows: range, paths: list[np.ndarray], tables: NavTables) -> None:
    """Check that paths are in the graphs; ``place_on_graph`` tells what is wrong with the first that is not."""
    if not paths:
        return
    flat = np.concatenate(paths)
    owner = np.repeat(np.arange(len(paths)), [len(path) for path in paths])
    unknown = owner[flat < 0]
    inside = owner[1:] == owner[:-1]
    gaps = owner[1:][inside & ~tables.is_edge(flat[:-1], flat[1:])]
    for number in np.unique(np.concatenate([unknown, gaps])):
        place_on_graph(split.alone(rows[number]), tables)
        raise AssertionError("a path that is not in the graphs was placed on them")
