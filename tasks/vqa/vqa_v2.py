"""VQA v2's files of questions and of annotations, and Visual Genome's in the same form.

Both are one object with one long array; it is read element by element.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from vln_clip.errors import InputError
from vln_clip.tasks.json_members import JsonMembers
from vln_clip.tasks.vqa.answers import NUM_ANNOTATORS
from vln_clip.tasks.vqa.documents import number, optional_text, require_json, text
from vln_clip.tasks.vqa.questions import Question, require_unique, shown

QUESTIONS, ANNOTATIONS, SUBTYPE = "questions", "annotations", "data_subtype"
# Split of the questions to that of the images; Visual Genome's images are named after their number alone.
IMAGE_SPLITS = {"train2014": "train2014", "val2014": "val2014", "test2015": "test2015", "test-dev2015": "test2015"}
VISUAL_GENOME = "vg"
MAX_IMAGE_ID = 10**12  # numbers in names of images have twelve digits

# Image number, question type, answer type, single answer, answers of the annotators.
Annotation = tuple[int, str, str, str | None, tuple[str, ...]]


def image_key(split: str, image_id: int) -> str:
    """Return the stem of an image's file; ``split`` is a row of ``IMAGE_SPLITS`` or ``vg``."""
    return str(image_id) if split == VISUAL_GENOME else f"COCO_{IMAGE_SPLITS[split]}_{image_id:012d}"


def read_vqa_v2(path: Path, annotations: Path | None = None, split: str = "") -> list[Question]:
    """Read questions and, where there are any, their annotations.

    Args:
        path: file of questions.
        annotations: file of their answers; None for test splits.
        split: of the images, see ``image_key``; by default what the file says, else what its name says.

    Returns:
        The questions in the file's order.

    Raises:
        InputError: missing or malformed files, a question id that is there twice, questions without annotation, or
            annotations without question.
    """
    found, subtype = _array(path, QUESTIONS)
    split = split or _split_of(path, subtype)
    numbers: list[int] = []
    questions = []
    for where, item in found:
        image_id = number(item, "image_id", where)
        if image_id >= MAX_IMAGE_ID:
            raise InputError(f"{where}: image_id must have at most twelve digits, got {image_id}")
        numbers.append(image_id)
        key = sys.intern(image_key(split, image_id))
        questions.append(Question(number(item, "question_id", where), key, text(item, "question", where)))
    if not questions:
        raise InputError(f"file {path} must hold at least one question, got an empty list")
    require_unique(questions, path)
    return questions if annotations is None else _annotated(questions, numbers, path, annotations)


def _annotated(questions: list[Question], numbers: list[int], path: Path, annotations: Path) -> list[Question]:
    """Return the questions with their annotations."""
    by_id = _read_annotations(annotations)
    missing = [question.question_id for question in questions if question.question_id not in by_id]
    if missing:
        raise InputError(
            f"every question of {path} must have an annotation in {annotations}, but {len(missing):,} of "
            f"{len(questions):,} have none, the first {missing[0]}; are both of the same split and version?"
        )
    if len(by_id) > len(questions):
        known = {question.question_id for question in questions}
        strange = [name for name in by_id if name not in known]
        raise InputError(
            f"every annotation of {annotations} must have its question in {path}, but {len(strange):,} of "
            f"{len(by_id):,} have none, the first {strange[0]}; are both of the same split and version?"
        )
    result = []
    for question, image_id in zip(questions, numbers, strict=True):
        other, question_type, answer_type, answer, answers = by_id[question.question_id]
        if other != image_id:
            raise InputError(
                f"question {question.question_id} must ask about one image, got {image_id} in {path} and {other} in "
                f"{annotations}; are both of the same split and version?"
            )
        result.append(
            Question(
                question.question_id, question.image, question.text, answers, None, question_type, answer_type, answer
            )
        )
    return result


def _read_annotations(path: Path) -> dict[int | str, Annotation]:
    """Return the annotations of a file by question id."""
    by_id: dict[int | str, Annotation] = {}
    for where, item in _array(path, ANNOTATIONS)[0]:
        question_id = number(item, "question_id", where)
        if question_id in by_id:
            raise InputError(f"{where}: question ids must be unique, got {question_id} again")
        answer = sys.intern(optional_text(item, "multiple_choice_answer", where))
        by_id[question_id] = (
            number(item, "image_id", where),
            sys.intern(optional_text(item, "question_type", where)),
            sys.intern(optional_text(item, "answer_type", where)),
            answer if item.get("multiple_choice_answer") is not None else None,
            _answers(item, where),
        )
    return by_id


def _answers(item: dict, where: str) -> tuple[str, ...]:
    """Return the answers of the annotators of one question."""
    answers = item.get("answers")
    if not isinstance(answers, list) or not 0 < len(answers) <= NUM_ANNOTATORS:
        raise InputError(
            f"{where} must have answers of one to {NUM_ANNOTATORS} annotators, got {shown(answers)} and the members "
            f"{', '.join(f'{key:.40}' for key in list(item)[:8])}; is it an annotation file of VQA v2?"
        )
    for answer in answers:
        if not isinstance(answer, dict) or not isinstance(answer.get("answer"), str):
            raise InputError(
                f"{where}: every one of the answers must be an object with the text 'answer', got {shown(answer)}; "
                "this version of annotations is not known, those of VQA v2 are"
            )
    return tuple([sys.intern(answer["answer"]) for answer in answers])


def _array(path: Path, wanted: str) -> tuple[Iterator[tuple[str, dict]], str]:
    """Return place and content of the elements of one member, and the ``data_subtype`` that stands before it."""
    require_json(path)
    members = JsonMembers(path)
    stream = _elements(members, path, wanted)
    return stream, next(stream)[0]


def _elements(members: JsonMembers, path: Path, wanted: str) -> Iterator[tuple[str, dict]]:
    """Yield the ``data_subtype`` first (empty where it does not stand before the array), then the elements."""
    passed: list[str] = []
    subtype, is_there = "", False
    for name in members:
        passed.append(name)
        if name != wanted or is_there:
            value = members.value()
            subtype = value if name == SUBTYPE and isinstance(value, str) else subtype
            continue
        is_there = True
        yield subtype, {}
        for index, item in enumerate(members.elements()):
            where = f"{path}: item {index} of {wanted}"
            if not isinstance(item, dict):
                raise InputError(f"{where} must be an object, got {shown(item)}")
            yield where, item
    if not is_there:
        other = {QUESTIONS: ANNOTATIONS, ANNOTATIONS: QUESTIONS}[wanted]
        found = ", ".join(f"{name:.40}" for name in passed[:8]) or "none"
        advice = f"it is a file of {other}" if other in passed else "is it a file of VQA v2?"
        raise InputError(f"file {path} must have the member {wanted!r}, got {found}; {advice}")


def _split_of(path: Path, subtype: str) -> str:
    """Return the split of the images: what the file says, else what its name says."""
    if subtype in IMAGE_SPLITS:
        return subtype
    if path.name.startswith("VG_"):
        return VISUAL_GENOME
    named = re.search("|".join(sorted(IMAGE_SPLITS, key=len, reverse=True)), path.name)
    if named is None:
        raise InputError(
            f"file {path} must tell the split of its images, as data_subtype before its questions or in its name, one "
            f"of {', '.join(IMAGE_SPLITS)}, got {shown(subtype)}"
        )
    return named[0]
