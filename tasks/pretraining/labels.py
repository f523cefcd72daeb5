"""Questions and hypotheses in word pieces, with the labels that fine-tuning learns: VQA, GQA and SNLI-VE alike."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from vln_clip.errors import InputError
from vln_clip.tasks.pretraining.pieces import MAX_TOKENS, WordPieces
from vln_clip.tasks.vqa.answers import normalize_label
from vln_clip.tasks.vqa.questions import Question, shown
from vln_clip.tasks.vqa.table import QuestionTable
from vln_clip.tasks.vqa.vocabulary import AnswerVocabulary

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LabelTable(QuestionTable):
    """A table of questions whose tokens are word pieces, and whose answers can be labels of any kind."""

    @classmethod
    def of(
        cls,
        questions: Sequence[Question],
        pieces: WordPieces,
        labels: AnswerVocabulary,
        max_tokens: int = MAX_TOKENS,
        normalize: Callable[[str], str] = normalize_label,
        drop_unknown: bool = False,
    ) -> "LabelTable":
        """Compile questions.

        Args:
            questions: all with answers or all without.
            pieces: of the texts.
            labels: that a model chooses from.
            max_tokens: L.
            normalize: turns a raw answer into what ``labels`` holds; scores that stand with a question are taken as
                they are.
            drop_unknown: leave out questions of which no answer is among the labels, as GQA's training does; else they
                stay, and all their targets are 0.

        Raises:
            InputError: there is no question, or not one answer is among the labels.
        """
        if not questions:
            raise InputError("a split to learn or to tell labels of must have questions, got none")
        table = cls.build(questions, pieces, labels, max_tokens, normalize)
        if not table.has_targets:
            return table
        known = table.answerable
        num_known = int(known.sum())
        if not num_known:
            example = questions[0].answer or next(iter(questions[0].label or questions[0].answers or ("",)))
            raise InputError(
                f"answers must be among the {len(labels):,} labels of the vocabulary, but none of {len(questions):,} "
                f"questions has one that is, the first being {shown(example)}; give the vocabulary of these questions"
            )
        if not drop_unknown or num_known == len(questions):
            return table
        logger.info("left out %d of %d questions, whose answers are no labels", len(known) - num_known, len(known))
        kept = [question for question, stays in zip(questions, known.tolist(), strict=True) if stays]
        return cls.build(kept, pieces, labels, max_tokens, normalize)

    @property
    def image_rows(self) -> Tensor:
        """Return the row of ``image_keys`` of each question, (N,) int64."""
        return self.image_index

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of the questions in their order, with the names of their images and their targets."""
        digest = hashlib.sha256("\n".join(self.image_keys).encode())
        assert isinstance(self.tokens, Tensor)  # word pieces; only tables of questions hold states
        for column in (self.tokens, self.image_index, self.target_index, self.target_score):
            digest.update(column.contiguous().numpy().data)
        return digest.hexdigest()

    def images_of(self, rows: Tensor) -> Tensor:
        """Return the rows of the images of questions (B,), (B,) int64."""
        return self.image_index[rows]
