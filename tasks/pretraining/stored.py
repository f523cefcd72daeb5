"""Pairs of any sources in the cache: tokenized once into a file of arrays that is mapped.

All processes of a machine share it, and none of it needs memory of its own.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from vln_clip.columns import ColumnWriter, DamagedColumnsError, map_columns, write_columns
from vln_clip.errors import InputError
from vln_clip.paths import cache_dir
from vln_clip.tasks.pretraining.pairs import PairTable
from vln_clip.tasks.pretraining.pieces import MAX_TOKENS, WordPieces
from vln_clip.tasks.pretraining.places import LOOSE, ImagePlaces, Texts
from vln_clip.tasks.pretraining.records import Pair
from vln_clip.tasks.pretraining.sources import SHARDS, Source
from vln_clip.tasks.storing import file_hash
from vln_clip.tasks.vqa.answers import normalize_lxmert
from vln_clip.tasks.vqa.vocabulary import AnswerVocabulary

logger = logging.getLogger(__name__)

VERSION = 1  # part of the cache key: raise when what is stored, or what readers make of files, changes
FOLDER = "pairs"  # of the cache
PART = 1 << 14  # pairs tokenized and written at once
_KINDS = {
    "tokens": np.uint16, "image": np.int32, "answer_end": np.int64, "answer_index": np.int32,
    "answer_score": np.float32, "key": np.uint8, "key_end": np.int64, "shard": np.int32, "offset": np.int64,
    "size_bytes": np.int64,
}  # fmt: skip


def load_pairs(
    sources: Sequence[Source], pieces: WordPieces, answers: AnswerVocabulary | None, max_tokens: int = MAX_TOKENS
) -> PairTable:
    """Return the pairs of some sources from the cache; read the files into it where they are not there.

    Args:
        sources: read in their order.
        pieces: of the texts.
        answers: that the model chooses from, as ``normalize_lxmert`` writes them; answers that are not among them are
            left out. None to learn no answers.
        max_tokens: L.

    Raises:
        InputError: a file is missing or malformed, there is no pair or only one image, none of the answers is in the
            vocabulary, or the cache cannot be written to.
    """
    key = _key(sources, pieces, answers, max_tokens)
    path = cache_dir() / FOLDER / f"{key}.safetensors"
    table = _load(path)
    if table is None:
        logger.info("reading %s into the cache, once", ", ".join(source.name for source in sources))
        write_columns(
            path, lambda writer: {"facts": json.dumps(_Storing(writer, pieces, answers, max_tokens).run(sources))}
        )
        if _key(sources, pieces, answers, max_tokens) != key:
            path.unlink(missing_ok=True)
            raise InputError("files of pairs must not change while they are read, but one did; start again")
        table = _load(path)
        assert table is not None
        logger.info("%d pairs of %d images are in %s", len(table), len(table.places.keys), path)
    return table


def _key(sources: Sequence[Source], pieces: WordPieces, answers: AnswerVocabulary | None, max_tokens: int) -> str:
    """Return what the cached file depends on."""
    parts: list[object] = [VERSION, max_tokens, pieces.digest, None if answers is None else list(answers.answers)]
    for source in sources:
        parts.append([source.kind, source.split, [_state(source, path) for path in source.all_files]])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _state(source: Source, path: Path) -> str:
    """Return what changes when a file does: its hash, or of shards, which are large, place, size and time."""
    if source.kind != SHARDS:
        return file_hash(path)
    try:
        found = path.stat()
    except OSError as error:
        raise InputError(f"shard {path} cannot be read: {error.strerror or error}") from None
    return f"{path.absolute()} {found.st_size} {found.st_mtime_ns}"


def _load(path: Path) -> PairTable | None:
    """Map a table; None where there is none or a damaged one."""
    try:
        columns, metadata = map_columns(path)
        facts = json.loads(metadata["facts"])
        shards = tuple(Path(shard) for shard in facts["shards"])
        keys = Texts(columns["key"], columns["key_end"])
        return PairTable(
            columns["tokens"].reshape(len(columns["image"]), -1),
            columns["image"],
            columns["answer_end"],
            columns["answer_index"],
            columns["answer_score"],
            ImagePlaces(keys, shards, columns["shard"], columns["offset"], columns["size_bytes"]),
            **{name: facts[name] for name in ("num_pieces", "mask_id", "num_answers", "pairs_of")},
        )
    except FileNotFoundError:
        return None
    except (DamagedColumnsError, OSError, KeyError, ValueError, TypeError):  # only a cache
        logger.warning("%s is damaged and is made anew", path)
        return None


@dataclass
class _Storing:
    """Pairs on their way into columns."""

    writer: ColumnWriter
    pieces: WordPieces
    answers: AnswerVocabulary | None
    max_tokens: int
    rows: dict[str, int] = field(default_factory=dict)  # of images that are files
    shards: dict[Path, int] = field(default_factory=dict)
    index: dict[str, int | None] = field(default_factory=dict)  # of raw answers
    num_images: int = 0
    num_labelled: int = 0
    key_bytes: int = 0

    def run(self, sources: Sequence[Source]) -> Mapping[str, object]:
        """Store all pairs and return the facts of the table."""
        for name, kind in _KINDS.items():
            self.writer.append(name, np.zeros(0, self._kind(name, kind)))
        pairs_of: dict[str, int] = {}
        for source in sources:
            before = self.writer.count("image")
            stream = iter(source.pairs())
            while part := list(islice(stream, PART)):
                self._store(part)
            pairs_of[source.name] = pairs_of.get(source.name, 0) + self.writer.count("image") - before
        self._check(pairs_of)
        return {
            "shards": [str(path.absolute()) for path in self.shards],
            "num_pieces": len(self.pieces),
            "mask_id": self.pieces.mask_id,
            "num_answers": len(self.answers or ()),
            "pairs_of": pairs_of,
        }

    def _kind(self, name: str, kind: type) -> type:
        return np.int32 if name == "tokens" and len(self.pieces) > 1 << 16 else kind

    def _store(self, pairs: list[Pair]) -> None:
        """Write some pairs."""
        tokens = self.pieces.encode([pair.text for pair in pairs], self.max_tokens).numpy()
        self.writer.append("tokens", tokens.ravel().astype(self._kind("tokens", np.uint16)))
        new: list[Pair] = []
        self.writer.append("image", np.array([self._row(pair, new) for pair in pairs], np.int32))
        self._store_images(new)
        labels = [self._label(pair.label) for pair in pairs]
        counts = np.array([len(label) for label in labels], np.int64)
        self.writer.append("answer_end", self.writer.count("answer_index") + counts.cumsum())
        self.writer.append("answer_index", np.array([key for label in labels for key in label], np.int32))
        scores = [score for label in labels for score in label.values()]
        self.writer.append("answer_score", np.array(scores, np.float32))

    def _row(self, pair: Pair, new: list[Pair]) -> int:
        """Return the row of a pair's image; note it where it is there for the first time."""
        following = self.num_images
        row = following if pair.member is not None else self.rows.setdefault(pair.image, following)
        if row == following:
            self.num_images += 1
            new.append(pair)
        return row

    def _store_images(self, new: Iterable[Pair]) -> None:
        """Write where images lie that are there for the first time."""
        names, shard, offset, size = [], [], [], []
        for pair in new:
            names.append(pair.image.encode())
            member = pair.member
            shard.append(LOOSE if member is None else self.shards.setdefault(member.shard, len(self.shards)))
            offset.append(0 if member is None else member.offset)
            size.append(0 if member is None else member.size_bytes)
        self.writer.append("key", np.frombuffer(b"".join(names), np.uint8))
        ends = np.cumsum([len(name) for name in names], dtype=np.int64)
        self.writer.append("key_end", self.key_bytes + ends)
        self.key_bytes += sum(map(len, names))
        self.writer.append("shard", np.array(shard, np.int32))
        self.writer.append("offset", np.array(offset, np.int64))
        self.writer.append("size_bytes", np.array(size, np.int64))

    def _label(self, label: Mapping[str, float] | None) -> dict[int, float]:
        """Return the scores of answers that are in the vocabulary; of two raw ones that are one the higher counts."""
        if not label or self.answers is None:
            return {}
        self.num_labelled += 1
        found: dict[int, float] = {}
        for raw, score in label.items():
            if raw not in self.index:
                self.index[raw] = self.answers.index(normalize_lxmert(raw))
            index = self.index[raw]
            if index is not None and score > 0:
                found[index] = max(score, found.get(index, 0.0))
        return found

    def _check(self, pairs_of: Mapping[str, int]) -> None:
        """Refuse what nothing can be learned from."""
        empty = next((name for name, count in pairs_of.items() if not count), None)
        if empty is not None or not pairs_of:
            raise InputError(f"sources of pairs must have some, got {empty or 'no source'} without")
        if self.num_images < 2:
            raise InputError(
                "pairs must be of two images at least, because texts are exchanged between images, got pairs of one"
            )
        if self.num_labelled and not self.writer.count("answer_index"):
            raise InputError(
                f"answers to questions must be among the {len(self.answers or ()):,} of the vocabulary, but none of "
                f"the answers to {self.num_labelled:,} questions is; give the vocabulary that belongs to them"
            )
