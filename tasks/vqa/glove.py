"""Word vectors from text files as GloVe and fastText publish them: a word and its numbers on every line.

A file of a gigabyte is read line by line, and only the vectors of wanted words are kept.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vln_clip.errors import InputError
from vln_clip.limits import MAX_FEATURE_WIDTH, MAX_LINE_BYTES
from vln_clip.tasks.documents import FOREIGN
from vln_clip.tasks.unpacked import Unpacked
from vln_clip.tasks.vqa.questions import shown
from vln_clip.tasks.vqa.words import PAD, QuestionVocabulary

_NUM_HEAD_FIELDS = 2  # number of words and width, which fastText and word2vec write first
_MAX_VECTOR_VALUE = 1e6  # those of public files stay below 20


def read_word_vectors(path: Path, words: Collection[str], width: int | None = None) -> dict[str, np.ndarray]:
    """Read the vectors of some words.

    Args:
        path: text file, plain or gzipped.
        words: wanted; a set or a mapping, so that looking one up is fast.
        width: D that the vectors must have; by default that of the first line.

    Returns:
        Word to (D,) float32, of those wanted words that the file has. Where it has one twice, the first counts.

    Raises:
        InputError: missing or damaged file, a line of another width, or what are no finite numbers.
    """
    wanted = {word.encode() for word in words}
    found: dict[str, np.ndarray] = {}
    for number, line in _lines(path):
        if number == 1 and _is_head(line):
            continue
        num_fields = line.count(b" ")
        if width is None:
            width = _width(line, path, number)
        if num_fields < width:
            raise InputError(
                f"{path}: line {number} must hold a word and {width} numbers, got {num_fields} numbers; is the file "
                "whole, and of that width?"
            )
        # Some public words hold blanks; the numbers are the last of the fields.
        word = line[: line.index(b" ")] if num_fields == width else line.rsplit(b" ", width)[0]
        if word in wanted and (name := word.decode()) not in found:
            found[name] = _numbers(line[len(word) + 1 :], path, number)
    if width is None:
        raise InputError(f"file {path} must hold at least one word and its numbers, got none")
    return found


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each line, the line end and blanks before it left out."""
    content = Unpacked(path)
    with content.opened():
        number = 0
        while line := content.read_line(MAX_LINE_BYTES):
            number += 1
            if len(line) == MAX_LINE_BYTES:
                raise InputError(
                    f"{path}: line {number} must be shorter than {MAX_LINE_BYTES:,} bytes, got a longer one"
                )
            yield number, line.rstrip()


def _is_head(line: bytes) -> bool:
    """Return whether the first line tells sizes in place of a vector."""
    fields = line.split(b" ")
    return len(fields) == _NUM_HEAD_FIELDS and all(field.isdigit() for field in fields)


def _width(line: bytes, path: Path, number: int) -> int:
    """Return how many numbers the first vector has."""
    word, _, fields = line.partition(b" ")
    width = line.count(b" ")
    try:
        if word and 0 < width <= MAX_FEATURE_WIDTH:
            return len(_numbers(fields, path, number))
    except InputError:
        pass
    foreign = next((what for magic, what in FOREIGN.items() if line.startswith(magic)), None)
    raise InputError(
        f"{path}: line {number} must hold a word and its numbers, separated by blanks, got {shown(line[:40])}; "
        f"{f'the file is {foreign}' if foreign else 'is it a text file of vectors, such as glove.6B.300d.txt?'}"
    )


def _numbers(fields: bytes, path: Path, number: int) -> np.ndarray:
    """Return the numbers of a line, (D,) float32."""
    try:
        vector = np.array(fields.split(b" "), dtype=np.bytes_).astype(np.float32)
    except ValueError:
        vector = np.full(1, np.nan, np.float32)
    if not (np.abs(vector) <= _MAX_VECTOR_VALUE).all():
        raise InputError(
            f"{path}: line {number} must hold finite numbers behind its word, got {shown(fields[:40])}; "
            "is the file whole?"
        )
    return vector


def initial_vectors(
    vocabulary: QuestionVocabulary, vectors: dict[str, np.ndarray], generator: torch.Generator
) -> Tensor:
    """Return the first weights of an embedding.

    Args:
        vocabulary: its W words.
        vectors: word to (D,), of at least one of them.
        generator: draws the rows of words without a vector, as spread as those that have one.

    Returns:
        (W, D) float32; the row of padding is zero.
    """
    rows = [index for index, word in enumerate(vocabulary.words) if word in vectors]
    if not rows:
        raise InputError(
            "word vectors must hold at least one word of the questions, got none; is it a file in English?"
        )
    known = torch.from_numpy(np.stack([vectors[vocabulary.words[index]] for index in rows]))  # (R, D)
    spread = float(known.std()) if known.numel() > 1 else 1.0
    weights = torch.randn(len(vocabulary), known.shape[1], generator=generator) * spread  # (W, D)
    weights[torch.tensor(rows)] = known
    weights[PAD] = 0.0
    return weights
