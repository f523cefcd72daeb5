"""The caption vocabulary of Luo's captioning code and CLIP-ViL (specification 3.1), and label rows made with it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import TypeGuard

import numpy as np

from vln_clip.errors import InputError
from vln_clip.files import save_json
from vln_clip.reading import read_json
from vln_clip.tasks.captioning.records import CaptionedImage

END = 0  # index that BOS, EOS and PAD share
UNK_WORD = "UNK"
MAX_RARE_COUNT = 5
BYTE_PAIR_JOINT = "@@ "
MAX_WORDS = 10_000_000


def is_word(value: object) -> TypeGuard[str]:
    """Return whether a value is a text that stays one word in a caption."""
    return isinstance(value, str) and len(value.split()) == 1 and value == value.strip()


class CaptionVocabulary:
    """Words with indices from 1; 0 begins, ends and pads captions, the last index is ``UNK``.

    Attributes:
        words: every word, ``UNK`` last; ``words[i]`` has index i + 1.
        size: number of indices, 0 included: the rows of embedding and output.
        unk: index of ``UNK``.
    """

    def __init__(self, words: Sequence[str]):
        """Take all words in the order of their indices.

        Raises:
            InputError: a word is twice there or no text without white space, or ``UNK`` is not the last.
        """
        self.words = tuple(words)
        odd = next((word for word in self.words if not is_word(word)), None)
        if odd is not None:
            raise InputError(f"words of a caption vocabulary must be texts without white space, got {odd!r:.40}")
        self._index = {word: index for index, word in enumerate(self.words, 1)}
        if len(self._index) != len(self.words):
            twice = next(word for place, word in enumerate(self.words, 1) if self._index[word] != place)
            raise InputError(f"words of a caption vocabulary must be different, got {twice!r:.40} twice")
        if not self.words or self.words[-1] != UNK_WORD:
            raise InputError(f"the last word of a caption vocabulary must be {UNK_WORD}, got {self.words[-1:]!r:.60}")
        self.size = len(self.words) + 1
        self.unk = len(self.words)

    @classmethod
    def build(cls, images: Iterable[CaptionedImage], max_rare_count: int = MAX_RARE_COUNT) -> "CaptionVocabulary":
        """Collect the words that occur more than ``max_rare_count`` times, in the order of their first occurrence.

        Args:
            images: of all splits, as the reference has it, or of ``files.select(images, "train")`` alone.
            max_rare_count: most occurrences of a word that becomes ``UNK``.
        """
        counts = Counter(chain.from_iterable(chain.from_iterable(image.words for image in images)))
        # Counters keep the order of first occurrence; a caption that says UNK means the index that is there already.
        kept = [word for word, count in counts.items() if count > max_rare_count and word != UNK_WORD]
        if not kept:
            raise InputError(
                f"captions must have words that occur more than {max_rare_count} times to make a vocabulary, "
                f"got {len(counts):,} words, each rarer; take more captions or a lower bound"
            )
        return cls([*kept, UNK_WORD])

    @classmethod
    def from_index(cls, ix_to_word: Mapping[str, str]) -> "CaptionVocabulary":
        """Take the map of ``cocotalk.json``: indices as texts, from ``"1"`` on."""
        missing = next((i for i in range(1, len(ix_to_word) + 1) if str(i) not in ix_to_word), None)
        if missing is not None:
            raise InputError(f"ix_to_word must number its words from 1 on without a gap, but {missing} is not there")
        return cls([ix_to_word[str(i)] for i in range(1, len(ix_to_word) + 1)])

    def to_index(self) -> dict[str, str]:
        """Return the map that ``from_index`` takes."""
        return {str(index): word for index, word in enumerate(self.words, 1)}

    @classmethod
    def read(cls, path: Path) -> "CaptionVocabulary":
        """Read what ``write`` wrote, or ``cocotalk.json``.

        Raises:
            InputError: missing or malformed file.
        """
        content = read_json(path)
        index = content.get("ix_to_word") if isinstance(content, dict) else None
        if not isinstance(index, dict) or len(index) > MAX_WORDS:
            raise InputError(f"caption vocabulary {path} must be a JSON object with an object 'ix_to_word' in it")
        try:
            return cls.from_index(index)
        except InputError as error:
            raise InputError(f"caption vocabulary {path}: {error}") from None

    def write(self, path: Path) -> None:
        """Write a JSON file with ``ix_to_word``, as ``cocotalk.json`` has it."""
        save_json(path, {"ix_to_word": self.to_index()}, indent=0)

    def encode(self, captions: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices of all words one after the other, (n,) int64, and captions' lengths, (M,) int64."""
        flat = map(self._index.get, chain.from_iterable(captions), repeat(self.unk))
        return np.fromiter(flat, np.int64), np.fromiter(map(len, captions), np.int64, len(captions))

    def decode(self, rows: Iterable[Sequence[int]]) -> list[str]:
        """Return the captions of index rows, each up to its first 0; byte pairs are joined."""
        texts = []
        for row in rows:
            indices = list(row)
            end = indices.index(END) if END in indices else len(indices)
            text = " ".join(self.words[index - 1] for index in indices[:end])
            texts.append(text.replace(BYTE_PAIR_JOINT, ""))
        return texts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CaptionVocabulary) and self.words == other.words

    def __hash__(self) -> int:
        return hash(self.words)
