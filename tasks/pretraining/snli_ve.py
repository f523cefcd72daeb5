"""SNLI-VE's official files: hypotheses about photographs of Flickr30K, one JSON object per line.

The premise is the photograph; its caption (``sentence1``) is never shown to a model, as in the reference.
"""

import sys
from pathlib import Path

from vln_clip.errors import InputError
from vln_clip.tasks.vqa.documents import objects, text
from vln_clip.tasks.vqa.questions import Question, require_unique, shown
from vln_clip.tasks.vqa.vocabulary import AnswerVocabulary

LABELS = ("entailment", "neutral", "contradiction")  # in this order, which checkpoints keep
FOLDER = "SNLI-VE"  # in the data folder
FILES = {split: f"snli_ve_{split}.jsonl" for split in ("train", "dev", "test")}


def label_vocabulary() -> AnswerVocabulary:
    """Return the three labels."""
    return AnswerVocabulary(LABELS)


def read_snli_ve(path: Path) -> list[Question]:
    """Read hypotheses, lower-cased, as questions whose one answer is the label.

    Image keys are the ``Flickr30K_ID``, ids the ``pairID``.

    Raises:
        InputError: missing or malformed file, a label that is none of the three, or an id that is there twice.
    """
    questions = [_question(item, where) for where, item in objects(path)]
    require_unique(questions, path)
    return questions


def _question(item: dict, where: str) -> Question:
    """Return one hypothesis."""
    label = item.get("gold_label")
    if not isinstance(label, str) or label not in LABELS:
        raise InputError(
            f"{where}: gold_label must be one of {', '.join(LABELS)}, got {shown(label)}; SNLI's pairs without a label "
            "('-') are no part of SNLI-VE"
        )
    image = text(item, "Flickr30K_ID", where)
    if not image or not image.isprintable():
        raise InputError(f"{where}: Flickr30K_ID must be the name of an image, got {shown(image)}")
    return Question(
        text(item, "pairID", where),
        sys.intern(image),
        text(item, "sentence2", where).lower(),
        label={sys.intern(label): 1.0},
        answer=sys.intern(label),
    )
