"""English tokens and the vocabulary, as EnvDrop's files define them (specification 2.4)."""

import hashlib
import logging
import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vln_clip.errors import InputError
from vln_clip.tasks.files import read_bytes
from vln_clip.tasks.r2r_files import PUBLIC_FILES

logger = logging.getLogger(__name__)

PAD, UNK, EOS = 0, 1, 2
PAD_WORD, UNK_WORD, EOS_WORD, BOS_WORD = "<PAD>", "<UNK>", "<EOS>", "<BOS>"
FILE_HEAD = (PAD_WORD, UNK_WORD, EOS_WORD)
MIN_COUNT = 5

# Runs of word characters and, without their outer white space, the runs between them.
PIECE = re.compile(r"\w+|[^\w\s](?:\W*[^\w\s])?")
PUNCTUATION = frozenset(string.punctuation)


def tokenize(text: str) -> list[str]:
    """Return the tokens of an instruction; punctuation runs fall into characters, runs of full stops do not.

    A run with white space inside (``. ,``) stays one token: odd, but the public vocabulary is built so.
    """
    return [token for piece in PIECE.findall(text) for token in _tokens(piece)]


def _tokens(piece: str) -> Sequence[str]:
    """Return the tokens of one piece of ``PIECE``."""
    piece = piece.lower()
    return piece if PUNCTUATION.issuperset(piece) and piece.strip(".") else (piece,)


class Vocabulary:
    """Words and their ids: ``<PAD>`` 0, ``<UNK>`` 1, ``<EOS>`` 2, the words by frequency, ``<BOS>`` last."""

    def __init__(self, words: Sequence[str]):
        """Take the words that follow ``<EOS>``, by descending frequency."""
        self.words = (*FILE_HEAD, *words, BOS_WORD)
        self.bos = len(self.words) - 1
        self._ids = {word: index for index, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise InputError(f"words of a vocabulary must be unique, got {twice!r} twice")
        self._piece_ids = _PieceIds(self._ids)

    @property
    def size(self) -> int:
        """Return the number of ids, special ones included."""
        return len(self.words)

    @classmethod
    def read(cls, path: Path) -> "Vocabulary":
        """Read a vocabulary file: one word per line, the first three special, ``<BOS>`` not in it.

        Raises:
            InputError: missing file (says where the public one is), other encoding, wrong head, empty or double line.
        """
        public = PUBLIC_FILES.get(path.name)
        if public is not None and not path.is_file():
            raise InputError(f"vocabulary {path} does not exist; download {public.address} or build it from train")
        content = read_bytes(path)
        if public is not None and hashlib.sha256(content).hexdigest() != public.sha256:
            logger.warning("%s is not the public vocabulary of that name; checkpoints made with that do not fit", path)
        try:
            lines = content.decode().removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise InputError(f"vocabulary {path} must be UTF-8 text, but: {error}") from None
        words = [line.strip() for line in lines]
        if tuple(words[:3]) != FILE_HEAD:
            raise InputError(f"vocabulary {path} must begin with the lines {', '.join(FILE_HEAD)}, got {words[:3]}")
        if "" in words:
            line = words.index("") + 1
            raise InputError(f"vocabulary {path} must have a word on every line, but line {line} is empty")
        try:
            return cls(words[3:])
        except InputError as error:
            raise InputError(f"vocabulary {path}: {error}") from None

    @classmethod
    def build(cls, texts: Iterable[str], min_count: int = MIN_COUNT) -> "Vocabulary":
        """Build the vocabulary of texts: words seen ``min_count`` times or more, ties in the order first seen."""
        counts = Counter(token for text in texts for token in tokenize(text))
        reserved = {*FILE_HEAD, BOS_WORD}  # unreachable by the tokenizer today; a file must never hold them twice
        # A token with a line break inside could not be read back from the file.
        return cls(
            [
                word
                for word, count in counts.most_common()
                if count >= min_count and word not in reserved and "\n" not in word and "\r" not in word
            ]
        )

    def write(self, path: Path) -> None:
        """Write the file that ``read`` reads."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(self.words[:-1]) + "\n", encoding="utf-8")

    def encode(self, text: str, max_tokens: int) -> list[int]:
        """Return ``<BOS>``, the words' ids, ``<EOS>``; not padded.

        Args:
            text: an instruction.
            max_tokens: longest result, special ids included; a longer one is cut and still ends in ``<EOS>``.
        """
        if max_tokens < 2:
            raise InputError(f"max_tokens must be at least 2 (<BOS> and <EOS>), got {max_tokens}")
        ids, piece_ids = [self.bos], self._piece_ids
        for piece in PIECE.findall(text):
            ids += piece_ids[piece]
        return [*ids[: max_tokens - 1], EOS]

    def encode_batch(self, texts: Sequence[str], max_tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """Encode texts into one array, padded to the longest.

        Returns:
            Ids, (B, L) int64, and lengths with the special ids, (B,) int64.
        """
        rows = [self.encode(text, max_tokens) for text in texts]
        lengths = np.array([len(row) for row in rows], np.int64)
        ids = np.full((len(rows), lengths.max(initial=0)), PAD, np.int64)
        ids[np.arange(ids.shape[1]) < lengths[:, None]] = [index for row in rows for index in row]
        return ids, lengths

    def decode(self, ids: Iterable[int]) -> str:
        """Return the words up to the first ``<PAD>``, joined with spaces."""
        words = []
        for index in ids:
            if index == PAD:
                break
            words.append(self.words[index])
        return " ".join(words)

    def shrink(self, ids: Sequence[int]) -> list[int]:
        """Drop a leading ``<BOS>`` and everything from the first ``<EOS>`` on; without ``<EOS>`` nothing is left."""
        ids = [int(index) for index in ids]
        if EOS not in ids:
            return []
        return ids[int(ids[0] == self.bos) : ids.index(EOS)]


class _PieceIds(dict[str, tuple[int, ...]]):
    """Ids of each piece of text met so far: instructions repeat few pieces very often."""

    def __init__(self, ids: dict[str, int]):
        self._ids = ids

    def __missing__(self, piece: str) -> tuple[int, ...]:
        self[piece] = tuple(self._ids.get(token, UNK) for token in _tokens(piece))
        return self[piece]
