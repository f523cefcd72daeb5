"""Letting a fine-tuned model label rows: batches of one orientation, every row exactly once."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vln_clip.pretrain.data import VilData
from vln_clip.ranks import ALONE, Ranks
from vln_clip.tasks.pretraining.models import Classifier
from vln_clip.tasks.pretraining.sampler import in_order_by_group
from vln_clip.tasks.vqa.accuracy import vqa_accuracy
from vln_clip.tasks.vqa.table import best_answer

BATCH_SIZE = 64


@dataclass(frozen=True)
class Answerer:
    """A model with the data that it labels.

    Attributes:
        model: in evaluation mode while it labels.
        data: with the images.
        ranks: who share the rows.
    """

    model: Classifier
    data: VilData
    ranks: Ranks = ALONE

    @torch.inference_mode()
    def choose(self, task: str, split: str, rows: Tensor | None = None) -> Tensor:
        """Return the best label of the rows of a split, all or some.

        Args:
            task: whose labels the model knows.
            split: of it, N rows.
            rows: (n,) int64 of them; None for all.

        Returns:
            (N,) int64 over the whole split, -1 for the others; the same on all ranks. ``<unk>`` is never chosen.
        """
        self.model.eval()
        table, unknown = self.data.table(task, split), self.data.labels(task).unknown
        rows = torch.arange(len(table)) if rows is None else rows
        found = torch.full((len(table),), -1)
        groups = self.data.groups(table)[rows]
        for part in self.ranks.deal(list(in_order_by_group(groups, BATCH_SIZE))):
            mine = rows[part]
            images = self.data.scale(self.data.read_images(table, mine))
            logits = self.model(table.tokens[mine].to(self.data.device), images)
            found[mine] = best_answer(logits, unknown).cpu()
        for other in self.ranks.gather(found):
            chosen = other >= 0
            found[chosen] = other[chosen]
        return found

    def labels(self, task: str, split: str) -> list[str]:
        """Return the label of every row of a split as text."""
        names = self.data.labels(task).answers
        return [names[index] for index in self.choose(task, split).tolist()]


def score(data: VilData, task: str, split: str, labels: list[str]) -> dict[str, float]:
    """Return the accuracy of labels of a whole split, 0 to 1: VQA's official one, else that of exact matches.

    Labels outside the vocabulary are wrong.
    """
    questions = data.questions(task, split)
    if task == "vqa":
        predictions = {question.question_id: label for question, label in zip(questions, labels, strict=True)}
        return vqa_accuracy(questions, predictions).metrics
    return {"accuracy": sum(q.answer == label for q, label in zip(questions, labels, strict=True)) / len(questions)}


def result_rows(data: VilData, task: str, split: str, labels: list[str]) -> list[dict[str, Any]]:
    """Return what the result file of a split holds: EvalAI's for VQA, GQA's, and one like them for SNLI-VE."""
    keys = {"vqa": ("question_id", "answer"), "gqa": ("questionId", "prediction"), "snli_ve": ("pairID", "label")}
    first, second = keys[task]
    ids = [question.question_id for question in data.questions(task, split)]
    return [{first: row, second: label} for row, label in zip(ids, labels, strict=True)]
