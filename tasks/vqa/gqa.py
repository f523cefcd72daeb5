"""GQA's own question files: one object, question id to question."""

import sys
from pathlib import Path

from vln_clip.errors import InputError
from vln_clip.tasks.json_members import JsonMembers
from vln_clip.tasks.vqa.documents import optional_text, require_json, text
from vln_clip.tasks.vqa.questions import BINARY, OPEN, Question, require_unique, shown

_OPEN_STRUCTURE = "query"


def read_gqa(path: Path) -> list[Question]:
    """Read the questions of a file, with their answers where it has any; test files have none.

    Image keys are the ``imageId`` as it stands. ``question_type`` is the structural type, and ``answer_type`` is
    ``open`` for queries and ``binary`` for the other structures (verify, logical, choose, compare).

    Raises:
        InputError: missing or malformed file, a question id that is there twice, or answers to some questions only.
    """
    require_json(path)
    members = JsonMembers(path)
    questions = [_question(name, members.value(), path) for name in members]
    if not questions:
        raise InputError(f"file {path} must hold at least one question, got an empty object")
    require_unique(questions, path)
    num_answered = sum(question.is_answered for question in questions)
    if 0 < num_answered < len(questions):
        raise InputError(
            f"file {path} must have answers to all questions or to none, got {num_answered:,} for {len(questions):,}"
        )
    return questions


def _question(question_id: str, item: object, path: Path) -> Question:
    """Return one question."""
    where = f"{path}: question {shown(question_id)}"
    if not isinstance(item, dict):
        raise InputError(
            f"{where} must be an object with question and imageId, got {shown(item)}; is it a file of GQA?"
        )
    answer = sys.intern(optional_text(item, "answer", where)) if item.get("answer") is not None else None
    types = item.get("types")
    structure = sys.intern(optional_text(types, "structural", where)) if isinstance(types, dict) else ""
    return Question(
        question_id,
        sys.intern(text(item, "imageId", where)),
        text(item, "question", where),
        label=None if answer is None else {answer: 1.0},
        question_type=structure,
        answer_type="" if not structure else OPEN if structure == _OPEN_STRUCTURE else BINARY,
        answer=answer,
    )
