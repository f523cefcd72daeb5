"""Vocabularies: tokens and their ids, as EnvDrop's files define them (specification 2.4), for any tokenizer.

A vocabulary of several languages has a tag word for each (``<hi>``), which stands behind ``<BOS>`` in every encoded
text: one model can read all of them, and a speaker can be told which one to write.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from vln_clip.errors import InputError, unknown_name
from vln_clip.files import save_json, write_atomically
from vln_clip.reading import parse_json, read_bytes
from vln_clip.tasks.r2r_files import PUBLIC_FILES
from vln_clip.tasks.tokenizers import ENGLISH, find_tokenizer

logger = logging.getLogger(__name__)

PAD, UNK, EOS = 0, 1, 2
PAD_WORD, UNK_WORD, EOS_WORD, BOS_WORD = "<PAD>", "<UNK>", "<EOS>", "<BOS>"
FILE_HEAD = (PAD_WORD, UNK_WORD, EOS_WORD)
MIN_COUNT = 5


class Vocabulary:
    """Words and their ids: ``<PAD>`` 0, ``<UNK>`` 1, ``<EOS>`` 2, language tags, words by frequency, ``<BOS>`` last.

    Attributes:
        words: every word, its position being its id.
        tokenizer: splits the texts.
        languages: with a tag each, sorted, so that ids never depend on the order they were named in.
        bos: id of ``<BOS>``.
    """

    def __init__(self, words: Sequence[str], tokenizer: str = ENGLISH, languages: Iterable[str] = ()):
        """Take the words that follow the special ones, by descending frequency.

        Args:
            words: without special words and tags.
            tokenizer: name or folder, for ``find_tokenizer``.
            languages: tags such as ``hi``; none for a vocabulary that is not told languages.
        """
        self.tokenizer = find_tokenizer(tokenizer)
        self.languages = tuple(sorted(languages))
        self.words = (*FILE_HEAD, *map(_tag_word, self.languages), *words, BOS_WORD)
        self.bos = len(self.words) - 1
        self._ids = {word: index for index, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise InputError(f"words of a vocabulary must be unique, got {twice!r:.80} twice")

    @property
    def num_leading(self) -> int:
        """Return how many ids ``encode`` puts before the words: ``<BOS>``, and a tag where there are tags."""
        return 1 + bool(self.languages)

    @property
    def size(self) -> int:
        """Return the number of ids, special ones included."""
        return len(self.words)

    @classmethod
    def build(
        cls,
        texts: Iterable[str],
        min_count: int = MIN_COUNT,
        tokenizer: str = ENGLISH,
        languages: Iterable[str] = (),
    ) -> "Vocabulary":
        """Build the vocabulary of texts: words seen ``min_count`` times or more, ties in the order first seen."""
        languages = sorted(languages)
        tokenize = find_tokenizer(tokenizer).tokenize
        counts = Counter(token for text in texts for token in tokenize(text))
        # Only sub-words can look like special words; nothing may hold those twice.
        reserved = {*FILE_HEAD, BOS_WORD, *map(_tag_word, languages)}
        # A token with a line break inside could not be read back from the public format.
        words = [
            word
            for word, count in counts.most_common()
            if count >= min_count and word not in reserved and "\n" not in word and "\r" not in word
        ]
        return cls(words, tokenizer, languages)

    @classmethod
    def read(cls, path: Path) -> "Vocabulary":
        """Read a vocabulary file: JSON where the name ends in ``.json``, else the public format.

        The public format has one word per line, the first three special, ``<BOS>`` not in it, and is always
        English without tags.

        Raises:
            InputError: missing file (says where the public one is), other encoding, wrong head, empty or double line.
        """
        if path.suffix == ".json":
            try:
                return cls.from_json(parse_json(read_bytes(path), path))
            except InputError as error:
                raise InputError(f"vocabulary {path}: {error}") from None
        public = PUBLIC_FILES.get(path.name)
        if public is not None and not path.is_file():
            raise InputError(f"vocabulary {path} does not exist; download {public.address} or build it from train")
        content = read_bytes(path)
        if public is not None and hashlib.sha256(content).hexdigest() != public.sha256:
            logger.warning("%s is not the public vocabulary of that name; checkpoints made with that do not fit", path)
        try:
            return cls(_public_words(content))
        except InputError as error:
            raise InputError(f"vocabulary {path}: {error}") from None

    def write(self, path: Path) -> None:
        """Write the file that ``read`` reads, in the format that goes with its name.

        Raises:
            InputError: the public format was asked for, which can hold neither tokenizer nor languages.
        """
        if path.suffix == ".json":
            save_json(path, self.to_json())
        elif self.tokenizer.name != ENGLISH or self.languages:
            raise InputError(
                f"vocabulary file {path} must end in .json for tokenizer {self.tokenizer.name!r} and languages "
                f"{list(self.languages)}; the public format can hold neither"
            )
        else:
            content = "\n".join(self.words[:-1]) + "\n"
            write_atomically(path, lambda temporary: temporary.write_bytes(content.encode()))

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_json`` takes; its keys are ``words`` (special ones included), tokenizer, languages."""
        return {"words": list(self.words), "tokenizer": self.tokenizer.name, "languages": list(self.languages)}

    @classmethod
    def from_json(cls, value: object) -> "Vocabulary":
        """Restore a vocabulary.

        Args:
            value: an object with what ``to_json`` returned, other keys ignored; without tokenizer and languages, as
                older checkpoints have it, or a plain list of words: English without tags.

        Raises:
            InputError: something is missing or of the wrong type, or the tokenizer's folder is not there.
        """
        if not isinstance(value, Mapping):
            value = {"words": value}
        words, tokenizer = value.get("words"), value.get("tokenizer", ENGLISH)
        languages = value.get("languages", [])
        if not isinstance(tokenizer, str) or ("tokenizer" in value) != ("languages" in value):
            raise InputError(f"a vocabulary must have tokenizer and languages or neither, got {tokenizer!r:.80}")
        if not (_are_strings(words) and _are_strings(languages)):
            raise InputError("words and languages of a vocabulary must be lists of texts")
        head = (*FILE_HEAD, *map(_tag_word, sorted(languages)))
        if tuple(words[: len(head)]) != head or words[len(head) :][-1:] != [BOS_WORD]:
            raise InputError(
                f"words of a vocabulary must begin with {', '.join(head)} and end with {BOS_WORD}, "
                f"got {', '.join(words[: len(head)]):.80} … {', '.join(words[-1:]):.40}"
            )
        return cls(words[len(head) : -1], tokenizer, languages)

    def tag(self, language: str) -> int:
        """Return the id of a language's tag word.

        Raises:
            InputError: the vocabulary has no such language.
        """
        if language not in self.languages:
            raise unknown_name("language", language, self.languages or ["none (a vocabulary without languages)"])
        return self._ids[_tag_word(language)]

    def encode(self, text: str, max_tokens: int, language: str | None = None) -> list[int]:
        """Return ``<BOS>``, the language's tag where the vocabulary has tags, the words' ids, ``<EOS>``; not padded.

        Args:
            text: an instruction.
            max_tokens: longest result, special ids included; a longer one is cut and still ends in ``<EOS>``.
            language: of the text; must be given where the vocabulary has tags, means nothing where it has none.
        """
        ids = [self.bos]
        if self.languages:
            if language is None:
                raise InputError(f"language must be one of {', '.join(self.languages)} for this vocabulary, got none")
            ids.append(self.tag(language))
        if max_tokens <= len(ids):
            what = ", ".join([self.words[index] for index in ids] + [EOS_WORD])
            raise InputError(f"max_tokens must be at least {len(ids) + 1} ({what}), got {max_tokens}")
        known = self._ids.get
        ids += [known(token, UNK) for token in self.tokenizer.tokenize(text)]
        return [*ids[: max_tokens - 1], EOS]

    def encode_batch(
        self, texts: Sequence[str], max_tokens: int, languages: Sequence[str] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encode texts, each in its language, into one array, padded to the longest.

        Returns:
            Ids, (B, L) int64, and lengths with the special ids, (B,) int64.
        """
        tags = [None] * len(texts) if languages is None else languages
        rows = [self.encode(text, max_tokens, tag) for text, tag in zip(texts, tags, strict=True)]
        lengths = np.array([len(row) for row in rows], np.int64)
        ids = np.full((len(rows), lengths.max(initial=0)), PAD, np.int64)
        ids[np.arange(ids.shape[1]) < lengths[:, None]] = [index for row in rows for index in row]
        return ids, lengths

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text up to the first ``<PAD>``; special words and tags stand in it between spaces."""
        words = []
        for index in ids:
            if index == PAD:
                break
            words.append(self.words[index])
        special = {*FILE_HEAD, BOS_WORD, *map(_tag_word, self.languages)}
        runs = groupby(words, special.__contains__)
        return " ".join(" ".join(run) if is_special else self.tokenizer.join(run) for is_special, run in runs)

    def shrink(self, ids: Sequence[int]) -> list[int]:
        """Drop a leading ``<BOS>``, then a leading tag, and everything from the first ``<EOS>`` on.

        Without ``<EOS>`` nothing is left.
        """
        ids = [int(index) for index in ids]
        if EOS not in ids:
            return []
        ids = ids[int(ids[0] == self.bos) : ids.index(EOS)]
        return ids[int(bool(ids) and len(FILE_HEAD) <= ids[0] < len(FILE_HEAD) + len(self.languages)) :]


def _tag_word(language: str) -> str:
    """Return the word that tells a language."""
    return f"<{language}>"


def _are_strings(values: object) -> TypeGuard[list[str]]:
    """Return whether a JSON value is a list of texts."""
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _public_words(content: bytes) -> list[str]:
    """Return the words of a file in the public format, without the special ones."""
    try:
        lines = content.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"the file must be UTF-8 text, but: {error}") from None
    words = [line.strip() for line in lines]
    if tuple(words[:3]) != FILE_HEAD:
        raise InputError(f"the file must begin with the lines {', '.join(FILE_HEAD)}, got {words[:3]!s:.80}")
    if "" in words:
        raise InputError(f"the file must have a word on every line, but line {words.index('') + 1} is empty")
    return words[3:]
