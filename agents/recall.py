"""Attention over a memory that stays the same for a whole rollout: the instruction.

The gradient of the memory is one product over all steps, as that of a weight is in ``nn.step_linear``. Episodes
that end leave the memory without a copy of their gradient.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vln_clip.agents.nn import Tape, attend, dot


@dataclass(frozen=True)
class Recall:
    """A memory of b episodes that is attended over step by step.

    Attributes:
        values: (b, L, H); without gradient where there is a tape.
        mask: (b, L) bool, True for real entries.
        rows: (b,) int64, which of the B episodes at the start these are; only with a tape.
        source: (B, L, H) what the gradient goes to; only with a tape.
        tape: what the steps note their share of that gradient on; None where none is wanted.
    """

    values: Tensor
    mask: Tensor
    rows: Tensor | None = None
    source: Tensor | None = None
    tape: Tape | None = None

    @classmethod
    def of(cls, values: Tensor, mask: Tensor) -> "Recall":
        """Begin a rollout with a memory (B, L, H) and its mask (B, L)."""
        if not (torch.is_grad_enabled() and values.requires_grad):
            return cls(values, mask)
        tape = Tape()
        source = _CollectGrad.apply(values, tape)
        return cls(values.detach(), mask, torch.arange(len(values), device=values.device), source, tape)

    def __call__(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Attend with queries (b, H); return what was read (b, H) and the weights (b, L), those without gradient."""
        if self.tape is None:
            read, weights = attend(dot(self.values, query), self.values, self.mask)
            return read, weights.detach()
        read, weights = _Attend.apply(query, self.values, self.mask, self.source, self.rows, self.tape)
        return read, weights

    def select(self, rows: Tensor) -> "Recall":
        """Keep only some episodes, rows (b',) int64, and as many entries as the longest of them has."""
        mask = self.mask[rows]
        # A shorter text is less work, but to ask a GPU for its length is to wait for it.
        length = int(mask.sum(1).max()) if mask.device.type == "cpu" else mask.shape[1]
        kept = None if self.rows is None else self.rows[rows]
        return replace(self, values=self.values[rows, :length], mask=mask[:, :length], rows=kept)


class _CollectGrad(torch.autograd.Function):
    """Identity on a memory; its backward runs after every step has put its share of the gradient on the tape."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, tape: Tape) -> Tensor:
        ctx.tape, ctx.shape = tape, values.shape
        ctx.set_materialize_grads(False)
        return values.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: Tensor | None) -> tuple[Tensor | None, None]:
        uses, (B, L, H) = ctx.tape.uses, ctx.shape
        if not uses:
            return None, None
        grad = uses[0][2]
        weights, vectors = grad.new_zeros(B, 2 * len(uses), L), grad.new_zeros(B, 2 * len(uses), H)
        for step, (rows, weight, read_grad, score_grad, query) in enumerate(uses):
            now, entries = slice(2 * step, 2 * step + 2), weight.shape[1]
            weights[rows, now, :entries] = torch.stack([weight, score_grad], 1)
            vectors[rows, now] = torch.stack([read_grad, query], 1)
        uses.clear()
        return torch.bmm(weights.transpose(1, 2), vectors), None


class _Attend(torch.autograd.Function):
    """Soft attention whose gradient of the memory is put on a tape instead of being computed at once."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, values: Tensor, mask: Tensor, source: Tensor, rows: Tensor, tape: Tape
    ) -> tuple[Tensor, Tensor]:
        read, weights = attend(dot(values, query), values, mask)
        ctx.save_for_backward(query, values, weights, rows)
        ctx.tape = tape
        ctx.mark_non_differentiable(weights)
        return read, weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        query, values, weights, rows = ctx.saved_tensors
        weight_grad = weights * dot(values, grad)
        score_grad = weight_grad - weights * weight_grad.sum(1, keepdim=True)
        ctx.tape.add(rows, weights, grad, score_grad, query)
        return torch.bmm(score_grad.unsqueeze(1), values).squeeze(1), None, None, None, None, None
