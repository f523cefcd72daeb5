"""Room-for-Room: long paths made by joining two of Room-to-Room's whose ends lie near each other.

For every ordered pair of different paths a, b of one scan with at most ``MAX_LINK_M`` along the graph from a's end to
b's start there is one item: a, the shortest way between, b. The files have R2R's format and are read as such.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vln_clip.errors import InputError
from vln_clip.files import write_atomically
from vln_clip.records import Episode
from vln_clip.tasks.graph import Graph
from vln_clip.tasks.split import Split

FOLDER = "R4R"
MAX_LINK_M = 3.0
PATH_ID_BASE = 100_000  # R2R's path ids have at most four digits


@dataclass(frozen=True)
class _Path:
    """A path of R2R with its instructions."""

    path_id: int
    scan: str
    indices: tuple[int, ...]
    heading_rad: float
    instructions: tuple[str, ...]


def file_name(split: str) -> str:
    """Return the name of a split's file."""
    return f"{FOLDER}_{split}.json"


def join_paths(split: Split, graph: Graph) -> Iterator[dict]:
    """Yield the items of R4R, as R2R's files hold them, in the order of a and then of b in the split.

    ``path_id`` is ``100000 · a + b``: a number, as in R2R, that tells both parents; a name such as ``a_b`` would not
    survive evaluators that cut instruction ids at ``_``. ``distance`` is the length of the whole path in metres to two
    decimals, which is what R2R's field holds (not the distance from start to goal, which differs where a path is not
    the shortest). The instructions are those of a, each with those of b.

    Args:
        split: of R2R, placed on the graph.
        graph: navigation graphs of its scans.

    Raises:
        InputError: the goals are hidden, or a path id is no number below 100000.
    """
    if split.goal_hidden:
        raise InputError(
            f"{split.file} must have paths with goals to be joined, got only starts; is it the test split?"
        )
    paths = _paths(split, graph)
    for a, partners in _pairs(paths, graph):
        for b in partners:
            yield _join(a, b, graph)


def write_r4r(path: Path, items: Iterable[dict]) -> tuple[int, int]:
    """Write R4R items one per line, atomically and without holding them all; return how many paths and instructions."""
    num_paths = num_instructions = 0

    def write(temporary: Path) -> None:
        nonlocal num_paths, num_instructions
        with temporary.open("w", encoding="utf-8") as file:
            for item in items:
                file.write(",\n" if num_paths else "[\n")
                json.dump(item, file, ensure_ascii=False, allow_nan=False)
                num_paths += 1
                num_instructions += len(item["instructions"])
            file.write("\n]\n" if num_paths else "[]\n")

    write_atomically(path, write)
    return num_paths, num_instructions


def _paths(split: Split, graph: Graph) -> list[_Path]:
    """Gather the episodes of each path."""
    by_id: dict[str, list[Episode]] = {}
    for episode in split.episodes:
        by_id.setdefault(episode.path_id, []).append(episode)
    paths = []
    for path_id, episodes in by_id.items():
        if not path_id.isdecimal() or int(path_id) >= PATH_ID_BASE:
            raise InputError(
                f"{split.file}: path_id must be a number below {PATH_ID_BASE} for R4R, whose ids are made of two, "
                f"got {path_id!r}"
            )
        first = episodes[0]
        assert first.path is not None, path_id
        indices = tuple(graph.index(first.scan, viewpoint) for viewpoint in first.path)
        texts = tuple(episode.instruction for episode in episodes)
        paths.append(_Path(int(path_id), first.scan, indices, first.heading_rad, texts))
    return paths


def _pairs(paths: list[_Path], graph: Graph) -> Iterator[tuple[_Path, list[_Path]]]:
    """Yield each path with those that can follow it."""
    scans: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        scans.setdefault(path.scan, []).append(row)
    followers: dict[int, list[int]] = {}
    for rows in scans.values():
        start = np.array([paths[row].indices[0] for row in rows])
        end = np.array([paths[row].indices[-1] for row in rows])
        near = graph.distance_m(end[:, None], start[None]) <= MAX_LINK_M  # (n, n), inf where there is no way
        np.fill_diagonal(near, False)
        for row, linked in zip(rows, near, strict=True):
            followers[row] = [rows[k] for k in np.flatnonzero(linked)]
    for row, path in enumerate(paths):
        yield path, [paths[other] for other in followers[row]]


def _join(a: _Path, b: _Path, graph: Graph) -> dict:
    """Return the item of two paths."""
    link = graph.shortest_path(a.indices[-1], b.indices[0])
    indices = np.array([*a.indices, *link[1:], *b.indices[1:]])
    length_m = float(graph.distance_m(indices[:-1], indices[1:]).sum())
    texts = (f"{first} {second}" for first in a.instructions for second in b.instructions)
    return {
        "distance": round(length_m, 2),
        "scan": a.scan,
        "path_id": a.path_id * PATH_ID_BASE + b.path_id,
        "path": [graph.viewpoint_id(index) for index in indices.tolist()],
        "heading": a.heading_rad,
        "instructions": [" ".join(text.split()) for text in texts],
    }
