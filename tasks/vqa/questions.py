"""Questions about images as records, and checks on many of them. Files are read elsewhere."""

from collections.abc import Container, Sequence
from dataclasses import dataclass

from vln_clip.errors import InputError

YES_NO, NUMBER, OTHER = "yes/no", "number", "other"  # answer types of VQA v2
BINARY, OPEN = "binary", "open"  # of GQA
UNTYPED = "unknown"


@dataclass(frozen=True, slots=True)
class Question:
    """One question about one image.

    Attributes:
        question_id: a number in VQA, a text in GQA; as result files must give it.
        image: key of the image, the stem of its file: ``COCO_val2014_000000393267``.
        text: the question.
        answers: raw answers of one to ten annotators; None where they are hidden or where ``label`` stands for them.
        label: score, 0 to 1, of answers that are already normalized; None where ``answers`` stand or there are none.
        question_type: such as ``what color is the``; empty where it is not told.
        answer_type: ``yes/no``, ``number`` or ``other`` in VQA, ``binary`` or ``open`` in GQA; empty likewise.
        answer: the single answer that vocabularies count; None where it is hidden.
    """

    question_id: int | str
    image: str
    text: str
    answers: tuple[str, ...] | None = None
    label: dict[str, float] | None = None
    question_type: str = ""
    answer_type: str = ""
    answer: str | None = None

    @property
    def is_answered(self) -> bool:
        """Return whether its answers are known, as they are not in test splits."""
        return self.answers is not None or self.label is not None


def require_unique(questions: Sequence[Question], where: object) -> None:
    """Raise ``InputError`` where two questions have one id.

    Args:
        questions: to be checked.
        where: file that they are from, for the message.
    """
    if len({question.question_id for question in questions}) == len(questions):
        return
    seen: set[int | str] = set()
    for number, question in enumerate(questions):
        if question.question_id in seen:
            total = len(questions) - len({question.question_id for question in questions})
            raise InputError(
                f"question ids in {where} must be unique, got {shown(question.question_id)} again as question {number} "
                f"(in all {total:,} of {len(questions):,} are repetitions)"
            )
        seen.add(question.question_id)


def require_images(questions: Sequence[Question], keys: Container[str], where: object) -> None:
    """Raise ``InputError`` where a question asks about an image that has no features.

    Args:
        questions: to be checked.
        keys: of the images that are there; anything with a fast ``in``: a set, a mapping, grid features.
        where: the feature store, for the message.
    """
    absent: dict[str, int | str] = {}
    num_questions = 0
    for question in questions:
        if question.image not in keys:
            absent.setdefault(question.image, question.question_id)
            num_questions += 1
    if absent:
        image, question_id = next(iter(absent.items()))
        raise InputError(
            f"every question must ask about an image with features in {where}, but {len(absent):,} images of "
            f"{num_questions:,} of the {len(questions):,} questions are not there, the first {shown(image)} of "
            f"question {shown(question_id)}; extract the features of that folder of images too, or take the "
            "questions of another split"
        )


def shown(value: object) -> str:
    """Return an id or a piece of a file for a message, not longer than a line."""
    text = f"{value!r:.60}"
    return text if len(text) < 60 else f"{text}…"
