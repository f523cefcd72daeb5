"""The official accuracy of VQA, overall and by type, and its counterpart for files that hold scores of answers.

Question score: the mean over the ten annotators of min(1, others who gave this answer / 3). GQA and LXMERT's files
hold scores instead: the score of the answer as it stands, which for GQA is exact match.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vln_clip.errors import InputError, unknown_name
from vln_clip.tasks.vqa.answers import clean_spaces, normalize_answer, normalize_punctuation, ten_answers
from vln_clip.tasks.vqa.questions import UNTYPED, Question, shown

OFFICIAL, OPENVQA = "official", "openvqa"
VERSIONS = (OFFICIAL, OPENVQA)
AGREEMENT = 3  # so many others must have given an answer for the full score


@dataclass(frozen=True)
class VqaAccuracy:
    """Accuracies of one set of answers, 0 to 1 and not rounded.

    Attributes:
        overall: mean over all questions.
        by_answer_type: mean over the questions of each type, in the order of their names.
        by_question_type: likewise.
        counts: number of questions of each answer type.
        num_questions: of all.
    """

    overall: float
    by_answer_type: dict[str, float]
    by_question_type: dict[str, float]
    counts: dict[str, int]
    num_questions: int

    @property
    def metrics(self) -> dict[str, float]:
        """Return what a table of results shows: ``accuracy``, and ``accuracy_TYPE`` of each answer type."""
        by_type = {f"accuracy_{name}": value for name, value in self.by_answer_type.items() if name != UNTYPED}
        return {"accuracy": self.overall} | by_type

    def percent(self) -> dict[str, object]:
        """Return the numbers as the official evaluation prints them: percent, rounded to two decimals."""
        return {
            "overall": percent(self.overall),
            "perAnswerType": {name: percent(value) for name, value in self.by_answer_type.items()},
            "perQuestionType": {name: percent(value) for name, value in self.by_question_type.items()},
        }


def percent(value: float) -> float:
    """Return a fraction as percent with two decimals."""
    return round(100.0 * value, 2)


def answer_score(answers: Sequence[str], prediction: str, version: str = OFFICIAL) -> float:
    """Score one answer against those of the annotators.

    Args:
        answers: raw, of one to ten annotators (fewer are repeated, see ``ten_answers``).
        prediction: raw.
        version: ``official`` normalizes both sides where the annotators differ and neither where they agree;
            ``openvqa`` always normalizes the prediction, and of differing annotators only the punctuation.

    Returns:
        0 to 1.
    """
    truth = [clean_spaces(answer) for answer in ten_answers(answers)]
    given = clean_spaces(prediction)
    differ = len(set(truth)) > 1
    if differ:
        normalize = normalize_answer if version == OFFICIAL else normalize_punctuation
        truth = [normalize(answer) for answer in truth]
    if differ or version == OPENVQA:
        given = normalize_answer(given)
    num_equal = truth.count(given)
    # Each of those who gave the answer sees one fewer of them among the others.
    scores = num_equal * min(1.0, (num_equal - 1) / AGREEMENT)
    scores += (len(truth) - num_equal) * min(1.0, num_equal / AGREEMENT)
    return scores / len(truth)


def question_score(question: Question, prediction: str, version: str = OFFICIAL) -> float:
    """Score the answer to a question, 0 to 1.

    Raises:
        ValueError: the question's answers are not known.
    """
    if question.answers is not None:
        return answer_score(question.answers, prediction, version)
    if question.label is not None:
        return question.label.get(prediction, 0.0)
    raise ValueError(f"answers must be known to be scored against, got question {question.question_id} without any")


def vqa_accuracy(
    questions: Sequence[Question], predictions: Mapping[int | str, str], version: str = OFFICIAL
) -> VqaAccuracy:
    """Return the accuracy of one answer per question.

    Args:
        questions: of one split, with their answers.
        predictions: question id to answer, for every question and no other.
        version: of the normalization, ``official`` or ``openvqa``.

    Raises:
        InputError: questions without answers, questions without a prediction, or predictions without a question.
    """
    if version not in VERSIONS:
        raise unknown_name("version", version, VERSIONS)
    _require_match(questions, predictions)
    scores = [question_score(question, predictions[question.question_id], version) for question in questions]
    by_answer_type = _by_type(scores, [question.answer_type for question in questions])
    by_question_type = _by_type(scores, [question.question_type for question in questions])
    return VqaAccuracy(
        sum(scores) / len(scores),
        {name: sum(values) / len(values) for name, values in by_answer_type.items()},
        {name: sum(values) / len(values) for name, values in by_question_type.items()},
        {name: len(values) for name, values in by_answer_type.items()},
        len(scores),
    )


def _require_match(questions: Sequence[Question], predictions: Mapping[int | str, str]) -> None:
    """Check that there is one prediction per question and something to compare it with."""
    if not questions:
        raise InputError("accuracy must be taken over at least one question, got none")
    hidden = [question.question_id for question in questions if not question.is_answered]
    if hidden:
        raise InputError(
            f"questions must have annotations to be scored, got {len(hidden):,} of {len(questions):,} without, the "
            f"first {shown(hidden[0])}; test splits are scored by the server, write a result file for it"
        )
    missing = [question.question_id for question in questions if question.question_id not in predictions]
    if missing:
        raise InputError(
            f"every question must have an answer, got none to {len(missing):,} of {len(questions):,} questions, the "
            f"first {shown(missing[0])}"
        )
    if len(predictions) > len(questions):
        known = {question.question_id for question in questions}
        strange = next(name for name in predictions if name not in known)
        raise InputError(
            f"answers must be to questions of the split, got {len(predictions) - len(known):,} to others, the first "
            f"{shown(strange)}"
        )


def _by_type(scores: Sequence[float], types: Sequence[str]) -> dict[str, list[float]]:
    """Return the scores of each type, sorted by name."""
    found: dict[str, list[float]] = {}
    for score, name in zip(scores, types, strict=True):
        found.setdefault(name or UNTYPED, []).append(score)
    return dict(sorted(found.items()))
