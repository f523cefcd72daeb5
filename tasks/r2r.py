"""Room-to-Room episodes: reading a split, checking every field, placing its paths on the graph.

The demo world is written in the same format and read by the same code. Instruction ids are ``<path_id>_<k>``,
k the position in ``instructions``. Reading and placing are two steps, so that a program can first read which
scans a split needs, then load just their graphs.
"""

import hashlib
import logging
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from vln_clip.errors import InputError, unknown_name
from vln_clip.records import Episode
from vln_clip.tasks import r2r_files
from vln_clip.tasks.files import is_finite, parse_json, read_bytes
from vln_clip.tasks.graph import Graph

logger = logging.getLogger(__name__)

DATASETS = ("r2r", "demo")
FIELDS = ("scan", "path_id", "path", "heading", "instructions")


@dataclass(frozen=True)
class Split:
    """A split as read.

    Attributes:
        episodes: one per instruction, in the file's order (``@N``: in the drawn order).
        file: where it was read from.
        sha256: hash of the unpacked file, to be written into a run's files.
        version: which public version that is (``r2r_files.version_of``).
        goal_hidden: the file holds starts only, as test splits do; every ``Episode.path`` is None.
    """

    episodes: list[Episode]
    file: Path
    sha256: str
    version: str
    goal_hidden: bool

    @property
    def scans(self) -> list[str]:
        """Return the scans used, sorted."""
        return sorted({episode.scan for episode in self.episodes})


def load_episodes(
    dataset: str, split: str, data: Path, graph: Graph | None = None, keep_empty: bool = False
) -> list[Episode]:
    """Read a split and, where a graph is given, place its paths on it.

    Args:
        dataset: ``"r2r"`` or ``"demo"``.
        split: name, or path of a file where it holds a ``/``; ``@N`` behind it takes N paths of it.
        data: data folder.
        graph: navigation graphs; None leaves viewpoints unchecked and endpoint-only paths as they are.
        keep_empty: keep episodes without a word (path files whose instructions are never read).

    Returns:
        The episodes, one per instruction.
    """
    read = read_split(dataset, split, data, keep_empty)
    return read.episodes if graph is None else place_on_graph(read, graph).episodes


def read_split(dataset: str, split: str, data: Path, keep_empty: bool = False) -> Split:
    """Read and check a split without a graph; arguments as in ``load_episodes``.

    A file whose paths all have one viewpoint hides its goals: that is how the public test split is written, and no
    path to learn or score from would look so. The rule is applied to the whole file, before ``@N``.

    Raises:
        InputError: unknown data set or split, missing or malformed file; the message names file, path_id and field.
    """
    if dataset not in DATASETS:
        raise unknown_name("dataset", dataset, DATASETS)
    name, number = _subset(split)
    file = r2r_files.split_file(dataset, name, data)
    content = read_bytes(file)
    sha256 = hashlib.sha256(content).hexdigest()
    version = r2r_files.version_of(file, sha256, len(content)) if dataset == "r2r" else r2r_files.OWN_VERSION
    items = _checked_items(parse_json(content, file), file)
    _report_version(version, file, len(items))
    goal_hidden = all(len(item["path"]) == 1 for item in items)
    if number is not None:
        # The reference's subset: Python's shuffle with seed 0, over paths, then the first N (specification 2.1).
        random.Random(0).shuffle(items)
        items = items[:number]
    episodes = [episode for item in items for episode in _episodes(item, goal_hidden)]
    kept = episodes if keep_empty else [episode for episode in episodes if episode.instruction.strip()]
    if len(kept) < len(episodes):
        logger.info("%s: dropped %d episodes whose instruction has no word", file, len(episodes) - len(kept))
    return Split(kept, file, sha256, version, goal_hidden)


def place_on_graph(split: Split, graph: Graph) -> Split:
    """Check that every viewpoint exists and every hop is an edge; expand paths that hold their two ends only.

    Path files for back-translation hold only start and goal, the way between them being the shortest path.

    Raises:
        InputError: unknown scan or viewpoint, a hop of a longer path that is no edge, a goal out of reach.
    """
    routes = {e.path_id: (e.scan, e.path or (e.start,)) for e in split.episodes}
    indices = {path_id: _indices(split.file, path_id, *route, graph) for path_id, route in routes.items()}
    paths = {}
    for path_id in _with_gaps(indices, graph):
        scan, path = routes[path_id]
        if len(path) > 2:
            raise InputError(
                f"{split.file}: path_id {path_id}: consecutive viewpoints of a path must be neighbours in the "
                f"navigation graph of scan {scan} (only a path of two, start and goal, is filled in), got {path!r}"
            )
        start, goal = indices[path_id]
        if not np.isfinite(graph.distance_m(np.array(start), np.array(goal))):
            raise InputError(
                f"{split.file}: path_id {path_id}: goal {path[1]!r} cannot be reached from start {path[0]!r} in the "
                f"navigation graph of scan {scan}"
            )
        paths[path_id] = tuple(graph.viewpoint_id(index) for index in graph.shortest_path(start, goal))
    placed = [replace(e, path=paths[e.path_id]) if e.path_id in paths else e for e in split.episodes]
    return replace(split, episodes=placed)


def _subset(split: str) -> tuple[str, int | None]:
    """Split ``name@N`` into name and N; a file that exists wins, its name may hold an ``@``."""
    if "/" in split and Path(split).is_file():
        return split, None
    name, at, number = split.rpartition("@")
    if not at or "/" in number:
        return split, None
    if not number.isdecimal() or int(number) == 0:
        raise InputError(f"split must be NAME or NAME@N with N a number of paths above 0, got {split!r}")
    return name, int(number)


def _checked_items(items: object, file: Path) -> list[dict]:
    """Return the file's items, each with every field of the right type."""
    if not isinstance(items, list) or not items:
        raise InputError(f"file {file} must be a JSON list of paths with at least one, got {_kind(items)}")
    seen = set()
    for position, item in enumerate(items):
        if not isinstance(item, dict):
            raise InputError(f"{file}: item {position} must be an object, got {_kind(item)}")
        missing = [field for field in FIELDS if field not in item]
        if missing:
            raise InputError(f"{file}: item {position}: field {missing[0]!r} is missing")
        fault = _fault(item)
        if fault:
            raise InputError(f"{file}: item {position} (path_id {item['path_id']!r}): {fault}")
        path_id = str(item["path_id"])
        if path_id in seen:
            raise InputError(f"{file}: item {position}: path_id must be unique, got {path_id} again")
        seen.add(path_id)
    return items


def _fault(item: dict) -> str | None:
    """Return what is wrong with the types of an item's fields, None if nothing is."""
    path_id, heading = item["path_id"], item["heading"]
    if isinstance(path_id, bool) or not isinstance(path_id, int | str):
        return f"path_id must be a number or a string, got {_kind(path_id)}"
    if not isinstance(item["scan"], str):
        return f"scan must be a string, got {_kind(item['scan'])}"
    if not is_finite(heading):
        return f"heading must be a finite number of radians, got {heading!r}"
    for field, what in (("path", "viewpoint ids"), ("instructions", "texts")):
        values = item[field]
        if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
            return f"{field} must be a list of {what} with at least one, got {values!r:.80}"
    return None


def _kind(value: object) -> str:
    """Name a JSON value for a message."""
    return f"an empty {type(value).__name__}" if value in ([], {}) else f"{type(value).__name__} {value!r:.60}"


def _episodes(item: dict, goal_hidden: bool) -> Iterable[Episode]:
    """Yield one episode per instruction of an item."""
    path_id, path = str(item["path_id"]), tuple(item["path"])
    hidden_path = None if goal_hidden else path
    for k, text in enumerate(item["instructions"]):
        yield Episode(f"{path_id}_{k}", path_id, item["scan"], path[0], float(item["heading"]), text, hidden_path)


def _report_version(version: str, file: Path, num_paths: int) -> None:
    """Warn where a public split is not the version that the published numbers come from."""
    if version == r2r_files.OTHER_VERSION:
        logger.warning("%s is the other version in circulation (a few instructions and starts differ)", file)
    if version == r2r_files.UNKNOWN_VERSION:
        usual = r2r_files.PUBLIC_FILES[file.name.removesuffix(".gz")].num_paths
        logger.warning("%s is no known version of R2R: %d paths, usually %d", file, num_paths, usual)


def _indices(file: Path, path_id: str, scan: str, path: tuple[str, ...], graph: Graph) -> list[int]:
    """Return the global indices of a path."""
    indices = []
    for viewpoint in path:
        try:
            indices.append(graph.index(scan, viewpoint))
        except InputError as error:
            raise InputError(f"{file}: path_id {path_id}: viewpoint {viewpoint!r} of scan {scan!r}: {error}") from None
    return indices


def _with_gaps(indices: dict[str, list[int]], graph: Graph) -> list[str]:
    """Return the ids of the paths with a hop that is no edge."""
    hops = [(path_id, a, b) for path_id, path in indices.items() for a, b in pairwise(path)]
    if not hops:
        return []
    starts, ends = np.array([hop[1:] for hop in hops]).T
    return list(dict.fromkeys(hops[k][0] for k in np.flatnonzero(~graph.is_edge(starts, ends))))
