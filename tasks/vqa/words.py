"""Questions as words and numbers: the two public ways to split them, and the vocabulary of what they hold."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vln_clip.errors import InputError, unknown_name
from vln_clip.files import save_json
from vln_clip.reading import read_json
from vln_clip.tasks.vqa.questions import shown

MAX_QUESTION_WORDS = 14
PAD, UNK = 0, 1
PAD_WORD, UNK_WORD, CLS_WORD = "<pad>", "<unk>", "<cls>"
MMF, OPENVQA = "mmf", "openvqa"
# Words that no text holds; openvqa's third is reserved but stands in no question.
HEADS = {MMF: (PAD_WORD, UNK_WORD), OPENVQA: (PAD_WORD, UNK_WORD, CLS_WORD)}
STYLES = tuple(HEADS)
_SEPARATORS = re.compile(r"(\W+)")
_DELETED = str.maketrans("-/", "  ", ".,'!?\"()*#:;")


def question_words(text: str, style: str = MMF) -> list[str]:
    """Split a question into words.

    Args:
        text: as it stands in the file.
        style: ``mmf`` (of Pythia and MoVie+MCAN; separators that are not blank are words too) or ``openvqa``.
    """
    if style == MMF:
        spaced = text.lower().replace("'s", " 's").replace(",", "").replace("?", "")
        return [word for part in _SEPARATORS.split(spaced) if (word := part.strip())]
    if style == OPENVQA:
        return text.lower().translate(_DELETED).split()
    raise unknown_name("style", style, STYLES)


class QuestionVocabulary:
    """Words of questions and their ids: ``<pad>`` 0, ``<unk>`` 1, then the words.

    Attributes:
        words: every word, its position being its id.
        style: how questions are split, see ``question_words``.
    """

    def __init__(self, words: Iterable[str], style: str = MMF):
        """Take the words that follow the special ones."""
        if style not in HEADS:
            raise unknown_name("style", style, STYLES)
        self.style = style
        self.words = (*HEADS[style], *words)
        self._ids = {word: index for index, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise InputError(f"words of a vocabulary must be unique, got {shown(twice)} twice")

    def __len__(self) -> int:
        return len(self.words)

    @property
    def num_special(self) -> int:
        """Return how many ids come before those of words."""
        return len(HEADS[self.style])

    @property
    def digest(self) -> str:
        """Return a hash of all that ids depend on, for checkpoints."""
        return hashlib.sha256(json.dumps([self.style, self.words]).encode()).hexdigest()

    @classmethod
    def build(cls, texts: Iterable[str], min_count: int = 1, style: str = MMF) -> "QuestionVocabulary":
        """Build the vocabulary of training questions: words seen ``min_count`` times or more, frequent ones first."""
        counts: Counter[str] = Counter()
        for text, count in Counter(texts).items():
            for word in question_words(text, style):
                counts[word] += count
        chosen = sorted((-count, word) for word, count in counts.items() if count >= min_count)
        return cls([word for _, word in chosen if word not in HEADS[style]], style)

    def having(self, vectors: Mapping[str, np.ndarray]) -> "QuestionVocabulary":
        """Return the words that have a vector, in the same order: the intersection with a file of vectors."""
        return QuestionVocabulary([word for word in self.words[self.num_special :] if word in vectors], self.style)

    @classmethod
    def read(cls, path: Path) -> "QuestionVocabulary":
        """Read what ``write`` wrote.

        Raises:
            InputError: missing or damaged file.
        """
        value = read_json(path)
        words = value.get("words") if isinstance(value, dict) else None
        if not isinstance(value, dict) or not isinstance(words, list) or value.get("style") not in STYLES:
            raise InputError(f"file {path} must be a vocabulary of questions (style and words), got {shown(value)}")
        if not all(isinstance(word, str) and word for word in words):
            raise InputError(f"file {path} must hold words that are texts and not empty")
        try:
            return cls(words, value["style"])
        except InputError as error:
            raise InputError(f"file {path}: {error}") from None

    def write(self, path: Path) -> None:
        """Write style and words, the special ones left out, as JSON."""
        save_json(path, {"style": self.style, "words": self.words[self.num_special :]}, indent=None)

    def encode(self, texts: Sequence[str], max_words: int = MAX_QUESTION_WORDS) -> np.ndarray:
        """Return the ids of questions, cut at ``max_words`` and padded at the right.

        Args:
            texts: N questions; one without a word becomes a row of padding.
            max_words: L.

        Returns:
            (N, L) int64.
        """
        ids = self._ids
        rows: dict[str, list[int]] = {}  # a third of VQA's questions is there more than once
        for text in texts:
            if text not in rows:
                row = [ids.get(word, UNK) for word in question_words(text, self.style)[:max_words]]
                rows[text] = row + [PAD] * (max_words - len(row))
        number = {text: index for index, text in enumerate(rows)}
        table = np.array(list(rows.values()), np.int64).reshape(len(rows), max_words)
        return table[np.fromiter((number[text] for text in texts), np.int64, len(texts))]
