"""What every VQA model returns, what it is taught by, and which answer it gives."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class VqaOutput:
    """Scores of B questions over A answers.

    Attributes:
        logits: of each branch, (B, A) float; the first answers, the others only teach (MoVie+MCAN has three).
        attention: what the model looked at, (B, h, w) over the cells of the grid, detached; None without a grid.
            Rows sum to 1, less what falls on padding where a model pads the grid.
    """

    logits: tuple[Tensor, ...]
    attention: Tensor | None

    @property
    def answer_logits(self) -> Tensor:
        """Return the logits that answer, (B, A)."""
        return self.logits[0]

    def best(self, unknown: int | None = None) -> Tensor:
        """Return the best answer of each question, (B,) int64.

        Args:
            unknown: index of an answer that stands for every unknown one and is never given (index 0 in MMF's list);
                None where every index is an answer, as the empty one at index 0 in LXMERT's list.
        """
        logits = self.answer_logits
        if unknown is not None:
            logits = logits.index_fill(1, torch.tensor([unknown], device=logits.device), -torch.inf)
        return logits.argmax(1)


def vqa_loss(output: VqaOutput, targets: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """Return the binary cross entropy of every branch with the soft scores, summed over answers and branches.

    Args:
        output: of B questions.
        targets: soft scores in [0, 1], (B, A) float; rows may be all zero.
        reduction: over questions. ``mean`` is MMF's: the mean over questions and answers, times the number of answers.
            ``sum`` is openvqa's.

    Returns:
        Scalar in float32, or what is wider; 0 without questions.
    """
    if targets.shape != output.answer_logits.shape:
        raise ValueError(
            f"targets must be {tuple(output.answer_logits.shape)}, questions by answers, got {tuple(targets.shape)}"
        )
    dtype = torch.promote_types(output.answer_logits.dtype, torch.float32)  # thousands of answers are summed
    parts = [
        F.binary_cross_entropy_with_logits(logits.to(dtype), targets.to(dtype), reduction="sum")
        for logits in output.logits
    ]
    total = torch.stack(parts).sum()
    return total if reduction == "sum" else total / max(1, len(targets))
