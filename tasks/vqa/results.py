"""Result files of VQA and GQA, as EvalAI takes them: writing one, checking one, reading one.

One array of objects, a question's id and one answer each, for every question of the split: test-dev and test-standard
of VQA are scored from one file with all of test2015.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vln_clip.errors import InputError, unknown_name
from vln_clip.files import save_json
from vln_clip.tasks.documents import ARRAY, Document, read_document
from vln_clip.tasks.problems import (
    DUPLICATE,
    FILE,
    MALFORMED,
    MISSING,
    OTHER_FORMAT,
    UNKNOWN,
    WRONG_TYPE,
    Problem,
    require_none,
)
from vln_clip.tasks.submission_report import Report
from vln_clip.tasks.vqa.questions import Question, shown

EMPTY_ANSWERS = "empty answers"
NUM_NAMED = 3


@dataclass(frozen=True)
class ResultFormat:
    """Members of an item of a result file, and the type of its id."""

    question_id: str
    answer: str
    id_type: type[int] | type[str]


FORMATS = {"vqa": ResultFormat("question_id", "answer", int), "gqa": ResultFormat("questionId", "prediction", str)}
_TYPE_NAMES = {int: "a whole number", str: "a text"}


def find_format(style: str) -> ResultFormat:
    """Return a row of ``FORMATS``."""
    if style not in FORMATS:
        raise unknown_name("format of results", style, FORMATS)
    return FORMATS[style]


def write_results(path: Path, questions: Sequence[Question], answers: Sequence[str], style: str = "vqa") -> None:
    """Write one answer per question, in the order of the questions, atomically.

    Args:
        path: file to write.
        questions: all of a split, each once.
        answers: one per question.
        style: ``vqa`` or ``gqa``.

    Raises:
        InputError: ids of another type than the format's, or a question twice.
        ValueError: not one answer per question.
    """
    row = find_format(style)
    if len(answers) != len(questions):
        raise ValueError(f"answers must be one per question, got {len(answers)} for {len(questions)} questions")
    ids = [question.question_id for question in questions]
    wrong = [name for name in ids if type(name) is not row.id_type]
    if wrong:
        raise InputError(
            f"{row.question_id} of a result file of {style} must be {_TYPE_NAMES[row.id_type]}, got {shown(wrong[0])}; "
            f"are these questions of {style}?"
        )
    if len(set(ids)) < len(ids):
        raise InputError(f"a result file must hold each question once, got {len(ids) - len(set(ids))} repetitions")
    items = [{row.question_id: name, row.answer: answer} for name, answer in zip(ids, answers, strict=True)]
    save_json(path, items, indent=None)


def validate_results(path: Path, questions: Sequence[Question], style: str = "vqa") -> Report:
    """Check a result file: every question of the split once, ids and answers of the right type.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    document = read_document(path)
    return _validate(document, path, questions, find_format(style))[0]


def read_results(path: Path, questions: Sequence[Question], style: str = "vqa") -> dict[int | str, str]:
    """Return the answers of a result file by question id.

    Raises:
        InputError: the file is missing, or ``validate_results`` finds a problem in it.
    """
    report, answers = _validate(read_document(path), path, questions, find_format(style))
    try:
        require_none(report.problems)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return answers


def _validate(
    document: Document, path: Path, questions: Sequence[Question], row: ResultFormat
) -> tuple[Report, dict[int | str, str]]:
    """Return what is wrong with a file, and the answers that are right."""
    known = {question.question_id for question in questions}
    problems = [problem for problem in document.problems if problem.kind != OTHER_FORMAT]
    if document.layout != ARRAY and document.items:
        problems.append(Problem(FILE, f"the file must be {ARRAY}, but is {document.layout}: put the objects into one"))
    answers: dict[int | str, str] = {}
    first: dict[int | str, str] = {}
    num_empty = 0
    for number, (place, item) in enumerate(document.items):
        fault = _fault(item, row)
        if fault is not None:
            problems.append(Problem(*fault, place, row=number))
            question_id = item.get(row.question_id) if isinstance(item, dict) else None
            if type(question_id) is row.id_type:
                first.setdefault(question_id, place)
            continue
        question_id, answer = item[row.question_id], item[row.answer]  # type: ignore[index]
        if question_id in first:
            message = f"question {shown(question_id)} came before, at {first[question_id]}: each must be there once"
            problems.append(Problem(DUPLICATE, message, place, row=number))
        elif question_id not in known:
            problems.append(Problem(UNKNOWN, f"question {shown(question_id)} is not of the split", place, row=number))
        first.setdefault(question_id, place)
        answers.setdefault(question_id, answer)
        num_empty += not answer.strip()
    if document.items or not document.problems:
        problems += _missing(questions, first)
    warnings = list(document.warnings)
    if num_empty:
        warnings.append(Problem(EMPTY_ANSWERS, f"{num_empty} of {len(document.items)} answers are empty texts"))
    asked = len(questions)
    return Report(path, asked, len(document.items), tuple(problems), tuple(warnings), "questions"), answers


def _fault(item: object, row: ResultFormat) -> tuple[str, str] | None:
    """Return kind and message of what is wrong with one item by itself."""
    if not isinstance(item, dict):
        return MALFORMED, f"must be an object with {row.question_id} and {row.answer}, got {shown(item)}"
    absent = [name for name in (row.question_id, row.answer) if name not in item]
    if absent:
        style = _style_of(item)
        advice = f"; the file is in the format {style}" if style and FORMATS[style] is not row else ""
        kind = OTHER_FORMAT if advice else MALFORMED
        return (
            kind,
            f"must have {' and '.join(absent)}, got {', '.join(f'{key:.40}' for key in list(item)[:8])}{advice}",
        )
    question_id, answer = item[row.question_id], item[row.answer]
    if type(question_id) is not row.id_type:
        return WRONG_TYPE, f"{row.question_id} must be {_TYPE_NAMES[row.id_type]}, got {shown(question_id)}"
    if not isinstance(answer, str):
        return MALFORMED, f"{row.answer} of question {shown(question_id)} must be a text, got {shown(answer)}"
    return None


def _style_of(item: Mapping[str, object]) -> str | None:
    """Return the format whose members an item has."""
    return next((name for name, row in FORMATS.items() if row.question_id in item and row.answer in item), None)


def _missing(questions: Sequence[Question], named: Mapping[int | str, str]) -> list[Problem]:
    """Sum up the questions that have no answer."""
    absent = [str(question.question_id) for question in questions if question.question_id not in named]
    if not absent:
        return []
    names = ", ".join(f"{name:.40}" for name in absent[:NUM_NAMED]) + (", …" if len(absent) > NUM_NAMED else "")
    message = f"{len(absent)} of {len(questions)} questions have no answer: {names}; give all of the split in one file"
    return [Problem(MISSING, message, members=tuple(absent))]
