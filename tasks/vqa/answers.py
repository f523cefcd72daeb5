"""Answers as text: how they are normalized before they are compared, and the soft scores of ten annotators.

Punctuation, digits, articles and contractions are treated as the public VQA evaluation treats them, quirks included:
published numbers depend on them.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from vln_clip.tasks.vqa.contractions import CONTRACTIONS

NUM_ANNOTATORS = 10
# Score of an answer that so many of the ten annotators gave; four and more are one.
SOFT_SCORES = (0.0, 0.3, 0.6, 0.9, 1.0)
ARTICLES = frozenset(("a", "an", "the"))
_TO_TEN = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {"none": "0"} | {word: str(number) for number, word in enumerate(_TO_TEN)}
# LXMERT knows no zero; its "a man" is what is left without the article.
_LXMERT = {word: str(number) for number, word in enumerate(_TO_TEN) if number} | {"grey": "gray"}
_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_GROUPED_DIGITS = re.compile(r"\d,\d")
# The look-behind of the public expression is mistyped and never holds anything back, so it is left out here.
_PERIOD = re.compile(r"\.(?!\d)")
_MOST_PERIODS = 32  # a flag given where the count belongs; its value is 32
_CACHED = 1 << 18  # distinct answers of VQA v2's training questions: some 150,000


def clean_spaces(text: str) -> str:
    """Turn line ends and tabs into spaces and strip; the first step of the evaluation."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def strip_punctuation(text: str) -> str:
    """Delete punctuation, or put a space in its place; periods go unless a digit follows.

    A mark is deleted where it stands beside a space somewhere, or where the text has a comma between two digits;
    else a space takes its place. Apostrophes, colons and ``& % $ # *`` stay.
    """
    grouped = _GROUPED_DIGITS.search(text) is not None
    result = text
    for mark in _MARKS:
        if mark in text:
            deleted = grouped or f"{mark} " in text or f" {mark}" in text
            result = result.replace(mark, "" if deleted else " ")
    return _PERIOD.sub("", result, count=_MOST_PERIODS)


def normalize_words(text: str) -> str:
    """Lower-case, write numbers up to ten as digits, drop articles and restore apostrophes of contractions."""
    words = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


@lru_cache(_CACHED)
def normalize_answer(text: str) -> str:
    """Return an answer as the official evaluation compares it: all three steps."""
    return normalize_words(strip_punctuation(clean_spaces(text)))


@lru_cache(_CACHED)
def normalize_punctuation(text: str) -> str:
    """Return an annotator's answer as openvqa's copy of the evaluation compares it: the first two steps."""
    return strip_punctuation(clean_spaces(text))


@lru_cache(_CACHED)
def normalize_label(text: str) -> str:
    """Return an answer as vocabularies and training targets hold it: words, and no comma left."""
    return normalize_words(strip_punctuation(text)).replace(",", "")


def normalize_mmf(text: str) -> str:
    """Return an answer as MMF's text vocabularies hold it."""
    return text.lower().replace(",", "").replace("?", "").replace("'s", " 's")


def normalize_lxmert(text: str) -> str:
    """Return an answer as LXMERT's table of 9,500 answers holds it."""
    text = text.lower()
    text = text[:-1].strip() if text.endswith(".") else text
    for article in ("a ", "an ", "the "):
        if text.startswith(article):
            text = text.removeprefix(article).strip()
    return _LXMERT.get(text, text)


def ten_answers(answers: Sequence[str]) -> tuple[str, ...]:
    """Return the answers of ten annotators; fewer are repeated in their order, as for Visual Genome's single one."""
    repeats = -(-NUM_ANNOTATORS // len(answers))
    return (tuple(answers) * repeats)[:NUM_ANNOTATORS]


def soft_scores(answers: Sequence[str]) -> dict[str, float]:
    """Return the score of each answer that annotators gave, 0.3 to 1, by ``normalize_label``.

    Args:
        answers: of one to ten annotators, raw.
    """
    counts = Counter(map(normalize_label, ten_answers(answers)))
    return {answer: SOFT_SCORES[min(count, len(SOFT_SCORES) - 1)] for answer, count in counts.items()}
