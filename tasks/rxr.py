"""Room-across-Room: reading the official guide and follower files, and the array that CLIP-ViL made of the guides.

Everything is read line by line; of a line only what an episode needs is kept (no word times, no parse trees). The
synthetic Marky instructions have the same format with the language alone for a tag. Names and addresses are in
``rxr_files``, word times and pose traces in ``pose_traces``.
"""

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vln_clip.errors import InputError, unknown_name
from vln_clip.reading import check_value, is_finite
from vln_clip.records import Episode, Prediction
from vln_clip.tasks.datasets import RXR_LANGUAGES, Dataset, split_file
from vln_clip.tasks.json_stream import JsonStream
from vln_clip.tasks.rxr_files import remedy
from vln_clip.tasks.scripts import is_romanized, script_fault
from vln_clip.tasks.split import OWN_VERSION, Split, subset

logger = logging.getLogger(__name__)

METRICS = ("ne", "sr", "spl", "dtw", "ndtw", "sdtw")
GUIDE_FIELDS = ("instruction_id", "path_id", "language", "scan", "path", "heading", "instruction")
FOLLOWER_FIELDS = ("demonstration_id", "instruction_id", "annotator_id", "path", "metrics")


@dataclass(frozen=True)
class Guides:
    """A guide file as read.

    Attributes:
        episodes: one per instruction in the wanted languages, in the file's order; ``language`` is ``en`` for both
            kinds of English.
        file: where they were read from.
        sha256: hash of the whole unpacked file, whatever languages were wanted.
        num_bytes: size of the unpacked file.
        places: where the first instruction of each path of the whole file stands, e.g. ``line 4``, by ``path_id`` in
            the order first seen.
        goal_hidden: the whole file holds starts only, as test splits do; every ``Episode.path`` is None.
    """

    episodes: list[Episode]
    file: Path
    sha256: str
    num_bytes: int
    places: dict[str, str]
    goal_hidden: bool


@dataclass(frozen=True)
class Demonstration:
    """How one person followed one instruction.

    Attributes:
        demonstration_id: unique.
        instr_id: the instruction, as in ``Episode``; it can have several demonstrations.
        annotator_id: who followed.
        path: viewpoint ids from the start on.
        metrics: ``METRICS`` against the guide's path as the file states them; distances in meters.
    """

    demonstration_id: str
    instr_id: str
    annotator_id: str
    path: tuple[str, ...]
    metrics: dict[str, float]


def read_split(
    dataset: Dataset, name: str, number: int | None, data: Path, languages: tuple[str, ...], keep_empty: bool
) -> Split:
    """Read and check a split; arguments as in ``datasets.read_split``, ``number`` of its paths.

    A run in one language keeps the same N paths as one in all of them.
    """
    file = split_file(dataset, name, data, remedy(dataset, name))
    found = read_guides(file, languages, keep_empty)
    episodes = found.episodes
    if number is not None:
        kept = set(subset(list(found.places), number))
        episodes = [episode for episode in episodes if episode.path_id in kept]
    return Split(episodes, file, found.sha256, OWN_VERSION, found.goal_hidden, places=found.places)


def read_guides(file: Path, languages: Iterable[str] | None = None, keep_empty: bool = False) -> Guides:
    """Read and check a guide file.

    Args:
        file: JSON lines or one array, plain or gzipped.
        languages: ``en``, ``hi``, ``te`` or several; None for all. Lines in others are checked all the same.
        keep_empty: keep episodes without a word.

    Raises:
        InputError: unknown language, missing or damaged file, or a malformed line, one in the script of another
            language among them; the message names file and line.
    """
    wanted = _wanted(languages)
    stream = JsonStream(file)
    routes: dict[str, tuple[str, tuple[str, ...]]] = {}
    places: dict[str, str] = {}
    seen: set[str] = set()
    read, romanized = [], []
    for where, item in stream:
        episode = _episode(item, where)
        if is_romanized(episode.instruction, episode.language):
            romanized.append(where)
        if episode.instr_id in seen:
            raise InputError(f"{where}: instruction_id must be unique, got {episode.instr_id} again")
        seen.add(episode.instr_id)
        route = (episode.scan, episode.path or ())
        known = routes.setdefault(episode.path_id, route)
        first = places.setdefault(episode.path_id, where.removeprefix(f"{file}: "))
        if known != route:
            raise InputError(
                f"{where}: path_id {episode.path_id} must mean one scan and path, got another than {first}"
            )
        if episode.language in wanted:
            read.append(replace(episode, scan=known[0], path=known[1]))  # one copy of what is repeated
    goal_hidden = all(len(path) == 1 for _, path in routes.values())
    if goal_hidden:
        read = [replace(episode, path=None) for episode in read]
    if romanized:
        message = "%d instructions in Hindi or Telugu are in Latin letters alone (first: %s); is their tag right?"
        logger.warning(message, len(romanized), romanized[0])
    episodes = read if keep_empty else [episode for episode in read if episode.instruction.strip()]
    if len(episodes) < len(read):
        logger.info("%s: dropped %d episodes whose instruction has no word", file, len(read) - len(episodes))
    return Guides(episodes, file, stream.content.sha256, stream.content.num_bytes, places, goal_hidden)


def read_followers(file: Path) -> Iterator[Demonstration]:
    """Yield the demonstrations of a follower file, checked one by one.

    The files state neither language nor scan: ``predictions`` keeps those of given episodes. No program reads them;
    they are for human scores, ``metrics.score_predictions(predictions(...), ...)``, and for analyses of one's own.

    Raises:
        InputError: missing or damaged file, or a malformed line; the message names file and line.
    """
    seen: set[str] = set()
    for where, item in JsonStream(file):
        _require(item, FOLLOWER_FIELDS, where)
        fault = _id_fault(item, ("demonstration_id", "instruction_id", "annotator_id")) or _path_fault(item)
        fault = fault or _metrics_fault(item["metrics"])
        demonstration_id = str(item["demonstration_id"])
        if fault is None and demonstration_id in seen:
            fault = "demonstration_id must be unique, it came before"
        if fault:
            raise InputError(f"{where} (demonstration_id {demonstration_id}): {fault}")
        seen.add(demonstration_id)
        metrics = {name: float(value) for name, value in item["metrics"].items()}
        instr_id, annotator_id = str(item["instruction_id"]), str(item["annotator_id"])
        yield Demonstration(demonstration_id, instr_id, annotator_id, tuple(item["path"]), metrics)


def predictions(demonstrations: Iterable[Demonstration], episodes: Iterable[Episode]) -> list[Prediction]:
    """Turn people's walks into predictions, so that the evaluator can score them: human performance.

    Args:
        demonstrations: of any instructions; only those of the episodes count.
        episodes: what was followed, for example one language.

    Returns:
        One prediction per instruction that was followed, its first demonstration in the order given; headings and
        elevations are NaN, as the files hold none.
    """
    wanted = {episode.instr_id for episode in episodes}
    first: dict[str, Prediction] = {}
    for demonstration in demonstrations:
        instr_id = demonstration.instr_id
        if instr_id in wanted and instr_id not in first:
            first[instr_id] = Prediction(instr_id, tuple((v, math.nan, math.nan) for v in demonstration.path))
    return list(first.values())


def reduced_language(tag: str) -> str:
    """Return the language of a tag without its region: ``en`` for ``en-IN`` and ``en-US``."""
    return tag.partition("-")[0]


def _wanted(languages: Iterable[str] | None) -> frozenset[str]:
    """Return the wanted languages, checked."""
    wanted = RXR_LANGUAGES if languages is None else tuple(languages)
    for language in wanted:
        if language not in RXR_LANGUAGES:
            raise unknown_name("language", language, RXR_LANGUAGES)
    return frozenset(wanted)


def _require(item: dict, fields: tuple[str, ...], where: str) -> None:
    """Check that an object has every field, and that each can be shown."""
    for field in fields:
        if field not in item:
            raise InputError(f"{where}: field {field!r} is missing; fields needed: {', '.join(fields)}")
    try:
        check_value([item[field] for field in fields])
    except ValueError as error:
        raise InputError(f"{where} must have simple fields, but {error}") from None


def _episode(item: dict, where: str) -> Episode:
    """Check the fields of a guide and return its episode."""
    _require(item, GUIDE_FIELDS, where)
    fault = _id_fault(item, ("instruction_id", "path_id")) or _guide_fault(item) or _path_fault(item)
    if fault:
        raise InputError(f"{where} (instruction_id {item['instruction_id']!r:.40}): {fault}")
    path = tuple(item["path"])
    return Episode(
        str(item["instruction_id"]),
        str(item["path_id"]),
        item["scan"],
        path[0],
        float(item["heading"]),
        item["instruction"],
        path,
        reduced_language(item["language"]),
    )


def _guide_fault(item: dict) -> str | None:
    """Return what is wrong with the fields that only guides have, None if nothing is."""
    for field in ("scan", "language", "instruction"):
        if not isinstance(item[field], str):
            return f"{field} must be a string, got {_kind(item[field])}"
    if reduced_language(item["language"]) not in RXR_LANGUAGES:
        return (
            f"language must be one of {', '.join(RXR_LANGUAGES)}, with or without region, got {item['language']!r:.40}"
        )
    if not is_finite(item["heading"]):
        return f"heading must be a finite number of radians, got {item['heading']!r:.40}"
    return script_fault(item["instruction"], reduced_language(item["language"]))


def _id_fault(item: dict, fields: tuple[str, ...]) -> str | None:
    """Return what is wrong with ids, None if nothing is."""
    for field in fields:
        if isinstance(item[field], bool) or not isinstance(item[field], int | str) or item[field] == "":
            return f"{field} must be a number or a string, got {_kind(item[field])}"
    return None


def _path_fault(item: dict) -> str | None:
    """Return what is wrong with a path, None if nothing is."""
    path = item["path"]
    if not isinstance(path, list) or not path or not all(isinstance(viewpoint, str) for viewpoint in path):
        return f"path must be a list of viewpoint ids with at least one, got {path!r:.80}"
    return None


def _metrics_fault(metrics: object) -> str | None:
    """Return what is wrong with a demonstration's metrics, None if nothing is."""
    if not isinstance(metrics, dict) or not set(METRICS) <= metrics.keys():
        return f"metrics must be an object with {', '.join(METRICS)}, got {_kind(metrics)}"
    for name, value in metrics.items():
        if not (isinstance(value, bool) or is_finite(value)):  # success may be written as true
            return f"metric {name} must be a finite number, got {_kind(value)}"
    return None


def _kind(value: object) -> str:
    """Name a JSON value for a message."""
    return f"{type(value).__name__} {value!r:.60}"
