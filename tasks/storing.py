"""Reading a large annotation file into the cache, once and object by object: what ``stored`` reads again.

Memory does not grow with the number of instructions: what must be compared over the whole file (ids that must be
unique, paths that must be one) is kept as hashes in temporary files, and looked at again where two are equal.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from vln_clip.columns import ColumnWriter, DamagedColumnsError, write_columns
from vln_clip.errors import InputError
from vln_clip.paths import cache_dir
from vln_clip.records import Episode
from vln_clip.tasks.json_stream import JsonStream
from vln_clip.tasks.split import OWN_VERSION
from vln_clip.tasks.stored import TEXTS, StoredSplit, load_stored

logger = logging.getLogger(__name__)

VERSION = 1  # part of the cache key: raise when what is stored, or what readers check, changes
PART = 4096  # episodes written at once
COUNTED = 1 << 20  # hashes compared at once
FOLDER = "splits"  # of the cache
HASHES = ("id_hash", "path_hash", "route_hash")  # of every episode; not stored


@dataclass(frozen=True)
class Entry:
    """One instruction as a reader found it.

    Attributes:
        where: file and place, ``FILE: line 3``.
        episode: with its path, even where that is only the start.
        wanted: it is of a wanted language.
    """

    where: str
    episode: Episode
    wanted: bool = True


Reader = Callable[[JsonStream], Iterator[Entry]]


def store(file: Path, name: str, read: Reader, languages: Sequence[str]) -> StoredSplit:
    """Return a file's episodes from the cache; read the file into it where they are not there.

    Args:
        file: annotation file.
        name: of the reader.
        read: checks it object by object; called again where a fault is to be explained.
        languages: that it reads.

    Raises:
        InputError: the file is malformed, or the cache cannot be written to.
    """
    before = _state(file)
    digest = hashlib.sha256(f"{VERSION} {name} {' '.join(languages)} {file_hash(file)}".encode())
    key = digest.hexdigest()[:32]
    path = cache_dir() / FOLDER / f"{key}.safetensors"
    try:
        episodes = load_stored(path, key)
    except FileNotFoundError:
        episodes = None
    except (DamagedColumnsError, OSError):  # only a cache
        logger.warning("%s is damaged and is made anew", path)
        episodes = None
    if episodes is None:
        logger.info("reading %s into the cache, once", file)
        write_columns(path, lambda writer: {"facts": json.dumps(_Storing(writer, file, read).run())})
        if _state(file) != before:
            path.unlink(missing_ok=True)
            raise InputError(f"file {file} must not change while it is read, but it did; start again when it is whole")
        episodes = load_stored(path, key)
        logger.info("%s: %d instructions are in %s", file, len(episodes), path)
    facts = episodes.facts
    if facts["num_empty"]:
        logger.info("%s: dropped %d episodes whose instruction has no word", file, facts["num_empty"])
    return StoredSplit(episodes, file, facts["sha256"], OWN_VERSION, facts["goal_hidden"])


def _state(file: Path) -> tuple[int, int]:
    """Return what changes when a file is written to."""
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def file_hash(file: Path) -> str:
    """Return the SHA-256 of a file as it is."""
    try:
        with file.open("rb") as stream:
            digest = hashlib.sha256()
            while content := stream.read(1 << 20):
                digest.update(content)
            return digest.hexdigest()
    except FileNotFoundError:
        raise InputError(f"file {file} does not exist") from None
    except OSError as error:
        raise InputError(f"file {file} cannot be read: {error.strerror or error}") from None


class _Storing:
    """One file on its way into columns."""

    def __init__(self, writer: ColumnWriter, file: Path, read: Reader) -> None:
        self.writer, self.file, self.read = writer, file, read
        self.places: dict[tuple[str, str], int] = {}  # (scan, viewpoint id) to number; as many as the world has
        self.languages: dict[str, int] = {}
        self.ends = dict.fromkeys((*TEXTS, "place"), 0)
        self.num_empty = 0
        self.goal_hidden = True

    def run(self) -> dict[str, object]:
        """Append everything and return the facts."""
        stream = JsonStream(self.file)
        entries = self.read(stream)
        unit = ""
        self._append([])  # every column is there, also where nothing is wanted
        while part := list(islice(entries, PART)):
            unit = unit or part[0].where.removeprefix(f"{self.file}: ").split(" ")[0]
            self._append(part)
        self._require_unique()
        names = json.dumps(list(self.places)).encode()
        self.writer.append("names", np.frombuffer(names, np.uint8))
        return {
            "sha256": stream.content.sha256,
            "languages": list(self.languages),
            "goal_hidden": self.goal_hidden,
            "num_empty": self.num_empty,
            "unit": unit,
        }

    def _append(self, part: Sequence[Entry]) -> None:
        """Append some entries."""
        hashes = zip(*(_hashes(entry.episode) for entry in part), strict=True) if part else ((), (), ())
        for name, values in zip(HASHES, hashes, strict=True):
            self.writer.append(name, np.array(values, np.uint64))
        if any(len(entry.episode.path or ()) > 1 for entry in part):
            self.goal_hidden = False
        wanted = [entry for entry in part if entry.wanted]
        kept = [entry for entry in wanted if entry.episode.instruction.strip()]
        self.num_empty += len(wanted) - len(kept)
        episodes = [entry.episode for entry in kept]
        numbers = [int(entry.where.rsplit(" ", 1)[1]) for entry in kept]
        languages = [self.languages.setdefault(e.language, len(self.languages)) for e in episodes]
        places = [
            [self.places.setdefault((e.scan, viewpoint), len(self.places)) for viewpoint in e.path or ()]
            for e in episodes
        ]
        self.writer.append("number", np.array(numbers, np.int64))
        self.writer.append("heading_rad", np.array([e.heading_rad for e in episodes], np.float64))
        self.writer.append("language", np.array(languages, np.uint8))
        self._append_lists("place", places, [number for path in places for number in path], np.int32)
        for name in TEXTS:
            texts = [getattr(e, name).encode() for e in episodes]
            self._append_lists(name, texts, np.frombuffer(b"".join(texts), np.uint8), np.uint8)

    def _append_lists(self, name: str, lists: Sequence, flat: Sequence[int] | np.ndarray, kind: type) -> None:
        """Append lists and where each ends."""
        ends = self.ends[name] + np.cumsum([len(items) for items in lists], dtype=np.int64)
        if len(ends):
            self.ends[name] = int(ends[-1])
        self.writer.append(name, np.asarray(flat, kind))
        self.writer.append(f"{name}_end", ends)

    def _require_unique(self) -> None:
        """Check that ids are unique and that a path id means one scan and path.

        Raises:
            InputError: they do not; the message names both places.
        """
        ids, paths, routes = (self.writer.taken(name) for name in HASHES)
        total = len(ids)
        if num_different(ids) == total and num_different(paths) == num_different(routes):
            return
        seen: dict[str, str] = {}
        known: dict[str, tuple[tuple[str, ...], str]] = {}
        for entry in self.read(JsonStream(self.file)):
            episode, where = entry.episode, entry.where.removeprefix(f"{self.file}: ")
            first = seen.setdefault(episode.instr_id, where)
            if first != where:
                raise InputError(
                    f"{entry.where}: instruction ids must be unique, got {episode.instr_id:.40} again, as in {first}"
                )
            route = (episode.scan, *(episode.path or ()))
            other, first = known.setdefault(episode.path_id, (route, where))
            if other != route:
                what = f"path_id {episode.path_id:.40} must mean one scan and path"
                raise InputError(f"{entry.where}: {what}, got another than {first}")


def _hashes(episode: Episode) -> tuple[int, int, int]:
    """Return 64-bit hashes of id, path id and path id with path."""
    path_id = episode.path_id.encode()
    route = "\0".join((episode.scan, *(episode.path or ()))).encode()
    return _hash(episode.instr_id.encode()), _hash(path_id), _hash(_hash(path_id).to_bytes(8, "little") + route)


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def num_different(values: np.ndarray) -> int:
    """Return how many values are different, (n,); they are sorted where they are, part by part counted."""
    values.sort()
    parts = (values[k : k + COUNTED + 1] for k in range(0, len(values), COUNTED))
    return sum(int((part[1:] != part[:-1]).sum()) for part in parts) + bool(len(values))
