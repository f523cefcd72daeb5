"""LXMERT's aggregated files: every image with its sentences by source, and the answers to those that are questions."""

import sys
from collections.abc import Iterator
from pathlib import Path

from vln_clip.errors import InputError
from vln_clip.reading import is_finite
from vln_clip.tasks.pretraining.records import Pair
from vln_clip.tasks.vqa.documents import objects, text
from vln_clip.tasks.vqa.questions import shown

_MOST_ANSWERS = 100  # of one question; ten people answered


def read_aggregated(path: Path) -> Iterator[Pair]:
    """Yield every sentence with its image, in the file's order; memory does not grow with the file.

    Raises:
        InputError: missing or malformed file, or answers that are not those of as many questions.
    """
    for where, item in objects(path):
        image = sys.intern(text(item, "img_id", where))
        sentences, labels = _object(item, "sentf", where), _object(item, "labelf", where)
        strange = next((source for source in labels if source not in sentences), None)
        if strange is not None:
            raise InputError(f"{where}: labelf must name sources of sentf, got {shown(strange)}, which is none")
        for source, texts in sentences.items():
            yield from _pairs(image, texts, labels.get(source), f"{where}, source {shown(source)}")


def _object(item: dict, name: str, where: str) -> dict:
    """Return a member that must be an object; ``labelf`` may be absent."""
    value = item.get(name, {} if name == "labelf" else None)
    if not isinstance(value, dict):
        raise InputError(
            f"{where} must have img_id, sentf and labelf, got {shown(value)} as {name}; is it a file of LXMERT's "
            "pre-training?"
        )
    return value


def _pairs(image: str, texts: object, labels: object, where: str) -> Iterator[Pair]:
    """Yield the pairs of one image and source."""
    if not isinstance(texts, list) or not all(isinstance(sentence, str) for sentence in texts):
        raise InputError(f"{where}: sentences must be a list of texts, got {shown(texts)}")
    if labels is None:
        yield from (Pair(image, sentence) for sentence in texts)
        return
    if not isinstance(labels, list) or len(labels) != len(texts):
        found = f"{len(labels)}" if isinstance(labels, list) else shown(labels)
        raise InputError(f"{where}: {len(texts)} sentences must have as many labels, got {found}")
    for sentence, label in zip(texts, labels, strict=True):
        yield Pair(image, sentence, scores(label, where))


def scores(label: object, where: str) -> dict[str, float]:
    """Check the scores of a question's answers; those of 0 are left out."""
    if not isinstance(label, dict) or len(label) > _MOST_ANSWERS:
        raise InputError(f"{where}: a label must be an object of at most {_MOST_ANSWERS} scores, got {shown(label)}")
    for answer, score in label.items():
        if not is_finite(score) or not 0 <= score <= 1:
            raise InputError(f"{where}: the score of {shown(answer)} must be a number from 0 to 1, got {shown(score)}")
    return {sys.intern(answer): float(score) for answer, score in label.items() if score > 0}
