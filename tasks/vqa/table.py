"""Questions as tensors: a batch is gathered from them, without a loop over questions.

Axes: ``N`` questions of the table, ``B`` of a batch, ``L`` words, ``A`` answers of the vocabulary, ``S`` answers that
one question has a score for (10 at most).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from vln_clip.tasks.vqa.answers import NUM_ANNOTATORS, SOFT_SCORES, normalize_label, ten_answers
from vln_clip.tasks.vqa.questions import UNTYPED, Question
from vln_clip.tasks.vqa.vocabulary import AnswerVocabulary
from vln_clip.tasks.vqa.words import MAX_QUESTION_WORDS
from vln_clip.token_states import StateLists

Table = TypeVar("Table", bound="QuestionTable")


class Words(Protocol):
    """What turns texts into rows of a length, (N, L) int64 padded with 0."""

    def encode(self, texts: Sequence[str], length: int, /) -> np.ndarray | Tensor: ...  # noqa: D102


def best_answer(logits: Tensor, unknown: int | None = None) -> Tensor:
    """Return the index of the best answer of each question: (B, A) to (B,) int64.

    Args:
        logits: (B, A).
        unknown: ``AnswerVocabulary.unknown``, which is never the answer.
    """
    if unknown is not None:
        column = torch.arange(logits.shape[1], device=logits.device)
        logits = logits.masked_fill(column == unknown, -torch.inf)
    return logits.argmax(1)


@dataclass(frozen=True)
class QuestionBatch:
    """B questions.

    Attributes:
        row: (B,) int64, rows of the table.
        tokens: (B, L) int64, or states (B, L, D) float16, padded with 0.
        image_index: (B,) int64, rows of ``QuestionTable.image_keys``.
        targets: (B, A) float32 scores; None where answers are hidden.
    """

    row: Tensor
    tokens: Tensor
    image_index: Tensor
    targets: Tensor | None


@dataclass(frozen=True, eq=False)
class QuestionTable:
    """N questions as tensors on one device.

    Attributes:
        question_ids: of each, as the file has them.
        image_keys: of every image that is asked about, once, in the order of first use.
        answer_types: names that ``answer_type`` counts, sorted.
        num_answers: A.
        tokens: (N, L) int64; or their states, (N, L, D), where a frozen text tower has read them.
        image_index: (N,) int64.
        answer_type: (N,) int64.
        target_index: (N, S) int32 answers with a score, ``num_answers`` where there is none; S is 0 without answers.
        target_score: (N, S) float32, 0 likewise.
        has_targets: answers are known, if not in the vocabulary.
    """

    question_ids: tuple[int | str, ...]
    image_keys: tuple[str, ...]
    answer_types: tuple[str, ...]
    num_answers: int
    tokens: Tensor | StateLists
    image_index: Tensor
    answer_type: Tensor
    target_index: Tensor
    target_score: Tensor
    has_targets: bool

    @classmethod
    def build(
        cls: type[Table],
        questions: Sequence[Question],
        words: Words,
        answers: AnswerVocabulary,
        max_words: int = MAX_QUESTION_WORDS,
        normalize: Callable[[str], str] = normalize_label,
    ) -> Table:
        """Compile questions; answers that are not in the vocabulary are left out.

        Args:
            questions: all with answers or all without.
            words: of the questions.
            answers: that a model chooses from.
            max_words: L; longer questions are cut.
            normalize: turns a raw answer into what the vocabulary holds; labels are taken as they are.
        """
        num_answered = sum(question.is_answered for question in questions)
        if num_answered not in (0, len(questions)):
            raise ValueError(
                f"answers must be known of all questions or of none, got {num_answered} of {len(questions)}"
            )
        images: dict[str, int] = {}
        image_index = [images.setdefault(question.image, len(images)) for question in questions]
        names = [question.answer_type or UNTYPED for question in questions]
        types = tuple(sorted(set(names)))
        number = {name: index for index, name in enumerate(types)}
        index, score = _targets(questions, answers, normalize) if num_answered else _no_targets(len(questions))
        return cls(
            tuple([question.question_id for question in questions]),
            tuple(images),
            types,
            len(answers),
            torch.as_tensor(words.encode([question.text for question in questions], max_words)),
            torch.tensor(image_index, dtype=torch.int64),
            torch.tensor([number[name] for name in names], dtype=torch.int64),
            torch.from_numpy(index),
            torch.from_numpy(score),
            bool(num_answered),
        )

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def answerable(self) -> Tensor:
        """Return (N,) bool, True where an answer of the vocabulary has a score."""
        return (self.target_score > 0).any(1)

    def to(self: Table, device: torch.device | str) -> Table:
        """Return the table on a device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor | StateLists)}
        return type(self)(**values | moved)

    def batch(self, rows: Tensor) -> QuestionBatch:
        """Gather the questions at rows (B,) int64, which lie on the table's device."""
        targets = self.targets(rows) if self.has_targets else None
        return QuestionBatch(rows, self.tokens[rows], self.image_index[rows], targets)

    def targets(self, rows: Tensor) -> Tensor:
        """Return the scores of all answers to the questions at rows (B,): (B, A) float32."""
        targets = self.target_score.new_zeros(len(rows), self.num_answers + 1)  # the last column takes the padding
        targets.scatter_(1, self.target_index[rows].long(), self.target_score[rows])
        return targets[:, : self.num_answers]

    def scores(self, rows: Tensor, answer_index: Tensor) -> Tensor:
        """Return the score of one answer of the vocabulary per question: (B,), (B,) int64 to (B,) float32."""
        hit = self.target_index[rows] == answer_index[:, None]  # (B, S)
        return (self.target_score[rows] * hit).sum(1)

    def accuracy(self, rows: Tensor, answer_index: Tensor) -> dict[str, float]:
        """Return the mean score, overall and of each answer type, named as ``VqaAccuracy.metrics`` names them.

        It equals the official accuracy up to how answers are normalized and written.

        Args:
            rows: (B,) int64, questions.
            answer_index: (B,) int64, the answer chosen for each.
        """
        scores, kind = self.scores(rows, answer_index).double(), self.answer_type[rows]
        sums = scores.new_zeros(len(self.answer_types)).index_add_(0, kind, scores)
        counts = torch.bincount(kind, minlength=len(self.answer_types))
        result = {"accuracy": float(scores.mean())}
        for name, total, count in zip(self.answer_types, sums.tolist(), counts.tolist(), strict=True):
            if count and name != UNTYPED:
                result[f"accuracy_{name}"] = total / count
        return result


def _no_targets(num_questions: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((num_questions, 0), np.int32), np.zeros((num_questions, 0), np.float32)


def _targets(
    questions: Sequence[Question], answers: AnswerVocabulary, normalize: Callable[[str], str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return answers and scores of each question, (N, S) int32 and float32, the highest score first."""
    index = np.full((len(questions), NUM_ANNOTATORS), len(answers), np.int32)
    score = np.zeros((len(questions), NUM_ANNOTATORS), np.float32)
    annotated = [row for row, question in enumerate(questions) if question.answers is not None]
    if annotated:
        raw = [questions[row].answers for row in annotated]
        index[annotated], score[annotated] = _soft_scores(raw, answers, normalize)  # type: ignore[arg-type]
    for row, question in enumerate(questions):
        if question.answers is None and question.label:
            known = [
                (answers.indices[text], value) for text, value in question.label.items() if text in answers.indices
            ]
            for place, (answer, value) in enumerate(known):
                index[row, place], score[row, place] = answer, value
    order = np.argsort(-score, axis=1, kind="stable")
    index, score = np.take_along_axis(index, order, 1), np.take_along_axis(score, order, 1)
    width = int((score > 0).sum(1).max(initial=0))  # S
    return np.ascontiguousarray(index[:, :width]), np.ascontiguousarray(score[:, :width])


def _soft_scores(
    raw: Sequence[tuple[str, ...]], answers: AnswerVocabulary, normalize: Callable[[str], str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return what ``answers.soft_scores`` says of M questions, (M, 10) int32 and float32, each answer once."""
    nothing = len(answers)
    flat = [
        text for texts in raw for text in (texts if len(texts) == NUM_ANNOTATORS else ten_answers(texts))
    ]  # M * 10 texts, of which few are different
    number = {text: answers.indices.get(normalize(text), nothing) for text in set(flat)}
    index = np.fromiter((number[text] for text in flat), np.int32, len(flat)).reshape(-1, NUM_ANNOTATORS)
    index.sort(axis=1)
    first = np.ones(index.shape, bool)
    first[:, 1:] = index[:, 1:] != index[:, :-1]
    counts = np.stack([(index == index[:, [k]]).sum(1) for k in range(NUM_ANNOTATORS)], 1)  # (M, 10)
    score = np.asarray(SOFT_SCORES, np.float32)[np.minimum(counts, len(SOFT_SCORES) - 1)]
    kept = first & (index != nothing)
    return np.where(kept, index, nothing), np.where(kept, score, np.float32(0))
