"""LXMERT's question files of VQA and GQA: a list of objects that name the image and hold scores of answers."""

import sys
from pathlib import Path

from vln_clip.errors import InputError
from vln_clip.reading import is_finite
from vln_clip.tasks.vqa.answers import NUM_ANNOTATORS
from vln_clip.tasks.vqa.documents import objects, optional_text, text
from vln_clip.tasks.vqa.questions import Question, require_unique, shown


def read_lxmert(path: Path) -> list[Question]:
    """Read the questions of a file, with their scores where it has any; test files have none.

    Raises:
        InputError: missing or malformed file, or a question id that is there twice.
    """
    questions = [_question(item, where) for where, item in objects(path)]
    num_answered = sum(question.is_answered for question in questions)
    if 0 < num_answered < len(questions):
        first = next(question for question in questions if not question.is_answered)
        raise InputError(
            f"file {path} must have a label for all questions or for none, got {num_answered:,} of "
            f"{len(questions):,}; the first without is {shown(first.question_id)}"
        )
    require_unique(questions, path)
    return questions


def _question(item: dict, where: str) -> Question:
    """Return one question; ids stay numbers or texts, as result files need them."""
    question_id = item.get("question_id")
    if type(question_id) is not int and not isinstance(question_id, str):
        raise InputError(
            f"{where} must have question_id, img_id and sent, got {shown(question_id)} as question_id and the members "
            f"{', '.join(f'{key:.40}' for key in list(item)[:8]) or 'none'}; is it a question file of LXMERT?"
        )
    label = _label(item["label"], where) if item.get("label") is not None else None
    return Question(
        question_id,
        sys.intern(text(item, "img_id", where)),
        text(item, "sent", where),
        label=label,
        question_type=sys.intern(optional_text(item, "question_type", where)),
        answer_type=sys.intern(optional_text(item, "answer_type", where)),
        answer=max(label, key=label.__getitem__) if label else None,
    )


def _label(value: object, where: str) -> dict[str, float]:
    """Return the scores of one question's answers."""
    if not isinstance(value, dict) or len(value) > NUM_ANNOTATORS:
        raise InputError(f"{where}: label must be an object of at most {NUM_ANNOTATORS} scores, got {shown(value)}")
    for answer, score in value.items():
        if not is_finite(score) or not 0 <= score <= 1:
            raise InputError(f"{where}: the score of {shown(answer)} must be a number from 0 to 1, got {shown(score)}")
    return {sys.intern(answer): float(score) for answer, score in value.items()}
