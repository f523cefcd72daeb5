"""Letting a model answer questions: batches in the order of images, each grid read once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vln_clip.ranks import ALONE, Ranks
from vln_clip.tasks.vqa.accuracy import vqa_accuracy
from vln_clip.tasks.vqa.models import VqaModel
from vln_clip.tasks.vqa.questions import Question
from vln_clip.tasks.vqa.table import QuestionTable
from vln_clip.vqa.data import VqaData, in_image_order

BATCH_SIZE = 256


@dataclass(frozen=True)
class Answerer:
    """A model with the data that its questions are about.

    Attributes:
        model: in evaluation mode while it answers.
        data: whose grids it sees.
        sees: False for a model that never sees an image.
        ranks: who share the questions.
    """

    model: VqaModel
    data: VqaData
    sees: bool
    ranks: Ranks = ALONE

    @torch.inference_mode()
    def choose(self, table: QuestionTable, rows: Tensor | None = None) -> Tensor:
        """Return the answer chosen for questions, all or some.

        Args:
            table: of questions.
            rows: (n,) int64 of it; None for all.

        Returns:
            (N,) int64 over the whole table, -1 for the others; the same on all ranks.
        """
        self.model.eval()
        found = torch.full((len(table),), -1, device=self.data.device)
        for part in self.ranks.deal(in_image_order(table, rows, BATCH_SIZE)):
            grid = self.data.read_grids(table, part) if self.sees else None
            found[part] = self.model(table.tokens[part], grid).best(self.data.answers.unknown)
        for other in self.ranks.gather(found.cpu()):
            chosen = other >= 0
            found[chosen] = other[chosen].to(found.device)
        return found

    def answers(self, table: QuestionTable) -> list[str]:
        """Return the answer to every question of a table as text."""
        return [self.data.answers.answers[index] for index in self.choose(table).tolist()]


def score(questions: Sequence[Question], answers: Sequence[str], normalization: str) -> dict[str, float]:
    """Return the official accuracy, 0 to 1, overall and by type of answer."""
    predictions = {question.question_id: answer for question, answer in zip(questions, answers, strict=True)}
    return vqa_accuracy(questions, predictions, normalization).metrics
