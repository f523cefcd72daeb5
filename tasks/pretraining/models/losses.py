"""The three losses of pre-training."""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from vln_clip.tasks.pretraining.models.heads import PretrainingOutput

NO_ANSWER = -1


class Targets(Protocol):
    """What was to be told of B pairs; a ``PretrainingBatch`` is one."""

    @property
    def words(self) -> Tensor:
        """Return the masked word pieces, (M,) int64."""

    @property
    def matched(self) -> Tensor:
        """Return 1 where a text is the image's own, else 0, (B,) int64."""

    @property
    def answer(self) -> Tensor:
        """Return the answer, -1 where there is none, (B,) int64."""


def pretraining_losses(output: PretrainingOutput, batch: Targets) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each loss as the sum over what is to be told, and the count of that.

    The reference adds the means: ``sum / max(1, count)``, with counts of the whole batch of all ranks. Where nothing
    is to be told the sum is 0, and so is its gradient.

    Args:
        output: of B pairs.
        batch: their targets, on the device of the output.

    Returns:
        ``words``, ``matching`` and, of a model with answers, ``answers``; scalars in float32, counts in int64.
    """
    losses = {
        "words": _cross_entropy(output.words, batch.words),
        "matching": _cross_entropy(output.matching, batch.matched),
    }
    if output.answers is not None:
        losses["answers"] = _cross_entropy(output.answers, batch.answer)
    return losses


def _cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    if targets.shape != logits.shape[:1]:
        raise ValueError(f"targets must be ({len(logits)},), one for each row of logits, got {tuple(targets.shape)}")
    dtype = torch.promote_types(logits.dtype, torch.float32)
    total = F.cross_entropy(logits.to(dtype), targets, ignore_index=NO_ANSWER, reduction="sum")
    return total, (targets != NO_ANSWER).sum()
