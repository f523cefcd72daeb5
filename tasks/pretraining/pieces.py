"""WordPiece as BERT has it: texts become rows of word pieces. The pieces are carried as ``vocab.txt``."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vln_clip.errors import InputError
from vln_clip.files import write_atomically
from vln_clip.reading import read_json, read_text
from vln_clip.tasks.pretraining.records import PAD

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.normalizers import Normalizer
    from tokenizers.pre_tokenizers import PreTokenizer

MAX_TOKENS = 20  # [CLS] and [SEP] included
VOCABULARY, TOKENIZER = "vocab.txt", "tokenizer.json"
_MOST_LETTERS = 100  # a longer word is [UNK]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class WordPieces:
    """Uncased word pieces; ``transformers``' fast tokenizer of BERT makes the same of a text.

    Attributes:
        words: every piece, its position being its index; ``[PAD]`` is 0.
        mask_id: index of ``[MASK]``.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        indices = {word: index for index, word in enumerate(self.words)}
        missing = [name for name in SPECIAL if name not in indices]
        if missing or len(indices) != len(self.words) or indices[SPECIAL[0]] != PAD:
            twice = "a piece twice" if len(indices) < len(self.words) else "[PAD] not as the first"
            found = f"no {', '.join(missing)}" if missing else twice
            raise InputError(
                f"word pieces must be different, {', '.join(SPECIAL)} among them and [PAD] first, got {found}; take "
                "the vocab.txt of a BERT"
            )
        self.mask_id = indices["[MASK]"]
        self._indices = indices
        self._tokenizer: Tokenizer | None = None

    def __len__(self) -> int:
        return len(self.words)

    @property
    def digest(self) -> str:
        """Return a hash of the pieces."""
        return hashlib.sha256("\n".join(self.words).encode()).hexdigest()

    @classmethod
    def read(cls, place: Path) -> "WordPieces":
        """Read the pieces of a BERT: a ``vocab.txt``, or a folder with one or with a ``tokenizer.json``.

        Raises:
            InputError: neither is there, or it holds no word pieces of an uncased BERT.
        """
        if place.is_dir():
            path = next((place / name for name in (VOCABULARY, TOKENIZER) if (place / name).is_file()), None)
            if path is None:
                raise InputError(f"folder {place} must have the word pieces of a BERT, {VOCABULARY} or {TOKENIZER}")
        else:
            path = place
        words = _from_tokenizer(path) if path.suffix == ".json" else _lines(read_text(path))
        try:
            return cls(words)
        except InputError as error:
            raise InputError(f"file {path}: {error}") from None

    @classmethod
    def build(cls, texts: Iterable[str], size: int) -> "WordPieces":
        """Make at most ``size`` pieces of texts: their characters, which spell every word, and their commonest words.

        The trainer of ``tokenizers`` is not used, because it gives other pieces whenever it is run.

        Raises:
            InputError: there is no word, or ``size`` is too small for the characters.
        """
        counts = Counter(word for text in texts for word in _words(text))
        letters = sorted({letter for word in counts for letter in word})
        spelled = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
        if not counts or size < len(spelled):
            raise InputError(
                f"word pieces must be made of texts with words, and be {len(spelled)} at least for the {len(letters)} "
                f"characters of these, got {size} of {len(counts):,} words"
            )
        ordered = sorted((-count, word) for word, count in counts.items() if len(word) > 1)
        return cls([*spelled, *(word for _, word in ordered)][:size])

    def write(self, path: Path) -> None:
        """Write the pieces, one a line, as BERT's ``vocab.txt`` has them."""
        content = "".join(f"{word}\n" for word in self.words).encode()
        write_atomically(path, lambda temporary: temporary.write_bytes(content))

    def encode(self, texts: Sequence[str], max_tokens: int = MAX_TOKENS) -> Tensor:
        """Return the pieces of texts: (N, L) int64, [CLS] first, [SEP] last, then ``PAD``.

        Args:
            texts: lower-cased, cleaned and split as BERT does; longer ones are cut at their end.
            max_tokens: L, at least 2.
        """
        if not texts:
            return torch.zeros(0, max_tokens, dtype=torch.int64)
        tokenizer = self._loaded(max_tokens)
        return torch.from_numpy(np.array([found.ids for found in tokenizer.encode_batch_fast(list(texts))], np.int64))

    def _loaded(self, max_tokens: int) -> "Tokenizer":
        """Return the tokenizer, which cuts and pads to a length."""
        if self._tokenizer is None:
            self._tokenizer = _tokenizer(self._indices)
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.enable_padding(length=max_tokens, pad_id=PAD)
        return self._tokenizer


def _tokenizer(indices: dict[str, int]) -> "Tokenizer":
    """Build BERT's uncased tokenizer; what looks like a special piece in a text is a text like any other."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.processors import BertProcessing

    tokenizer = Tokenizer(WordPiece(indices, unk_token="[UNK]", max_input_chars_per_word=_MOST_LETTERS))
    tokenizer.normalizer, tokenizer.pre_tokenizer = _split_as_bert()
    tokenizer.post_processor = BertProcessing(("[SEP]", indices["[SEP]"]), ("[CLS]", indices["[CLS]"]))
    return tokenizer


def _words(text: str) -> list[str]:
    """Return the words and marks of a text, as an uncased BERT splits them before it looks for pieces."""
    normalizer, splitter = _split_as_bert()
    return [word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))]


@cache
def _split_as_bert() -> "tuple[Normalizer, PreTokenizer]":
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    return BertNormalizer(), BertPreTokenizer()


def _lines(text: str) -> list[str]:
    """Return the pieces of a ``vocab.txt``; nothing but a line end separates them."""
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _from_tokenizer(path: Path) -> list[str]:
    """Return the pieces that a ``tokenizer.json`` of an uncased BERT holds."""
    content = read_json(path)
    model = content.get("model") if isinstance(content, dict) else None
    normalizer = content.get("normalizer") if isinstance(content, dict) else None
    vocabulary = model.get("vocab") if isinstance(model, dict) and model.get("type") == "WordPiece" else None
    uncased = isinstance(normalizer, dict) and normalizer.get("lowercase") is True
    if not isinstance(vocabulary, dict) or not uncased:
        raise InputError(f"file {path} must hold the word pieces of an uncased BERT, got another tokenizer")
    indices = list(vocabulary.values())
    if not all(type(index) is int for index in indices) or sorted(indices) != list(range(len(indices))):
        raise InputError(f"file {path} must number its {len(indices):,} pieces from 0 without a gap")
    return sorted(vocabulary, key=vocabulary.__getitem__)
