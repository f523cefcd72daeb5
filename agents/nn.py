"""Building blocks of follower and speaker: dropout of stored features, attention, fast recurrences.

Two things make training fast on their path: a weight that is used at every step of a rollout gets its
gradient from one matrix product over all steps (``StepLinear``), and an LSTM runs over ragged
sequences with one product per step and direction (``RaggedLSTM``). Both equal the plain modules in value
and gradient (tests/test_nn.py).
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vln_clip.agents.products import linear, product_dtype
from vln_clip.dropout import LEVELS, keep_mask, keep_probability, random_bits


def keep_bits(shape: torch.Size, p: float, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draw the mask of ``keep_mask`` as int16: all bits of a kept entry are ones, of others zeros.

    Clamping and subtracting integers costs a quarter of comparing them and widening the booleans.
    """
    bits = random_bits(shape.numel(), generator, device)
    threshold = round(p * LEVELS) - LEVELS // 2
    if threshold == -LEVELS // 2:  # nothing is below it
        return bits.fill_(-1).view(shape)
    return torch.rsub(bits.clamp_(threshold - 1, threshold), threshold - 1).view(shape)


def drop_features(features: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    """Apply feature dropout to stored float16 features and return float32, NOT yet scaled by 1 / keep.

    Callers scale the small vectors that the features are multiplied with (``feature_scale``).
    """
    if generator is None or p == 0.0 or features.numel() == 0:
        return features.float()
    if features.dtype != torch.float16:
        return features.float() * keep_mask(features.shape, p, generator, features.device)
    # Clearing bits in the half-precision words costs less than multiplying floats.
    keep = keep_bits(features.shape, p, generator, features.device)
    return keep.bitwise_and_(features.view(torch.int16)).view(torch.float16).float()


def feature_scale(p: float, generator: torch.Generator | None) -> float:
    """Return the factor that ``drop_features`` leaves out."""
    return 1.0 if generator is None else 1.0 / keep_probability(p)


class Tape:
    """Collects what every use of one tensor adds to its gradient (input, output gradient) within one backward pass."""

    def __init__(self) -> None:
        self.uses: list[tuple[Tensor, ...]] = []
        self.backward_pass = -1

    def add(self, *use: Tensor) -> None:
        """Note a use; what a pass that asked for no such gradient left behind is forgotten."""
        current = torch._C._current_graph_task_id()
        if current != self.backward_pass:
            self.uses.clear()
            self.backward_pass = current
        self.uses.append(use)


class _CollectWeightGrad(torch.autograd.Function):
    """Identity on a weight; its backward runs after every use has put its gradient on the tape."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor | None, tape: Tape, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor | None]:
        ctx.tape, ctx.dtype = tape, weight.dtype
        ctx.has_bias = bias is not None
        ctx.set_materialize_grads(False)
        return weight.view_as(weight).to(dtype), None if bias is None else bias.view_as(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: Tensor | None) -> tuple[Tensor | None, Tensor | None, None, None]:
        if not ctx.tape.uses:
            return None, None, None, None
        inputs, grads = (torch.cat(part) for part in zip(*ctx.tape.uses, strict=True))
        ctx.tape.uses.clear()
        bias_grad = grads.sum(0, dtype=ctx.dtype) if ctx.has_bias else None
        return (grads.t() @ inputs).to(ctx.dtype), bias_grad, None, None


class _StepLinear(torch.autograd.Function):
    """A linear layer whose weight gradient is put on a tape instead of being computed at once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, tape: Tape) -> Tensor:
        dtype, x = x.dtype, x.to(weight.dtype)
        ctx.save_for_backward(x, weight)
        ctx.tape = tape
        if dtype == weight.dtype:
            return F.linear(x, weight, bias)
        y = F.linear(x, weight).to(dtype)
        return y if bias is None else y.add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None]:
        x, weight = ctx.saved_tensors
        dtype, grad = grad.dtype, grad.to(weight.dtype)
        ctx.tape.add(x, grad)
        return (grad @ weight).to(dtype) if ctx.needs_input_grad[0] else None, None, None, None


def step_linear(weight: Tensor, bias: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """Return ``x -> x @ weight.T + bias`` for use at every step of one rollout, x (B, in), result (B, out).

    The gradient of the weight is one product over all uses. Without gradients it is the plain product; with them
    it is taken in ``products.product_dtype``.
    """
    if not (torch.is_grad_enabled() and weight.requires_grad):
        return lambda x: F.linear(x, weight, bias)
    tape = Tape()
    proxy, bias_proxy = _CollectWeightGrad.apply(weight, bias, tape, product_dtype() or weight.dtype)
    return lambda x: _StepLinear.apply(x, proxy, bias_proxy, tape)


def lstm_cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Apply an LSTM cell to summed gates (B, 4H) in PyTorch's order i, f, g, o and the old cell (B, H)."""
    i, f, g, o = gates.chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def dot(keys: Tensor, query: Tensor) -> Tensor:
    """Return keys (B, N, D) · query (B, D) -> (B, N).

    As row times matrix: on CPUs the product matrix times column is ten times slower.
    """
    return torch.bmm(query.unsqueeze(1), keys.transpose(1, 2)).squeeze(1)


def attend(scores: Tensor, values: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Softmax over scores (B, N), masked entries out; return the mean of values (B, N, D) -> (B, D) and weights."""
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = torch.softmax(scores, -1)
    return torch.bmm(weights.unsqueeze(1), values).squeeze(1), weights


class RaggedLSTM(nn.Module):
    """One-layer LSTM over sequences of different length, zero initial state.

    Parameters have the names, shapes and initial distribution of ``nn.LSTM``.
    """

    def __init__(self, input_size: int, hidden_size: int, bidirectional: bool = False) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.suffixes = ("_l0", "_l0_reverse") if bidirectional else ("_l0",)
        for name, parameter in nn.LSTM(input_size, hidden_size, bidirectional=bidirectional).named_parameters():
            self.register_parameter(name, parameter)

    def forward(self, x: Tensor, length: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Run over every sequence. S is the number of directions, 1 or 2.

        Args:
            x: (B, L, input_size) float; entries beyond ``length`` are ignored. With ``index`` a table
                (W, input_size) of possible inputs, each multiplied with the weights only once.
            length: (B,) int64, at least 1, at most L.
            index: (B, L) int64 rows of that table.

        Returns:
            Outputs (B, L, S·hidden_size), forward ⊕ backward, zero beyond ``length``; the final hidden and
            cell states, each (S, B, hidden_size).
        """
        B, L = x.shape[:2] if index is None else index.shape
        order = length.argsort(descending=True, stable=True)
        sorted_length = length[order]
        steps = torch.arange(L, device=x.device)
        keep = steps < sorted_length[:, None]  # (B, L), longest first
        active = keep.sum(0).tolist()  # rows still running at each step
        step, row = keep.t().nonzero(as_tuple=True)  # every real entry, step-major: (P,)
        last = _last_entries(active, sorted_length, order)
        # The backward direction reads each row reversed within its own length, so both run from step 0.
        times = (step, sorted_length[row] - 1 - step)[: len(self.suffixes)]
        places = [(order[row], time) for time in times]
        w_ih, w_hh, b_ih, b_hh = (
            [getattr(self, name + suffix) for suffix in self.suffixes]
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        inputs = zip(places, w_ih, b_ih, b_hh, strict=True)
        tables: list[tuple[Tensor, Tensor | None]]  # gates of inputs, and which of them each entry takes
        if index is None:
            tables = [(linear(x[place], w, b + c), None) for place, w, b, c in inputs]  # (P, 4H) each
        else:
            tables = [(linear(x, w, b + c), index[place]) for place, w, b, c in inputs]
        if not torch.is_grad_enabled():
            return self._evaluate(tables, torch.stack(w_hh), active, places, (B, L), order)
        gates = torch.stack([table if rows is None else table[rows] for table, rows in tables])  # (S, P, 4H)
        h, c = _LSTMSteps.apply(gates, torch.stack(w_hh), tuple(active), product_dtype() or gates.dtype)
        outputs = x.new_zeros(B, L, len(times), self.hidden_size)
        for direction, ((rows, entries), part) in enumerate(zip(places, h, strict=True)):
            outputs[rows, entries, direction] = part
        return outputs.flatten(2), h[:, last], c[:, last]

    def _evaluate(
        self,
        tables: list[tuple[Tensor, Tensor | None]],
        w_hh: Tensor,
        active: list[int],
        places: list[tuple[Tensor, Tensor]],
        shape: tuple[int, int],
        order: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run without gradients: nothing is kept, so that a step's gates stay in the CPU's cache."""
        S, H, (B, L) = len(tables), self.hidden_size, shape
        outputs = w_hh.new_zeros(B, L, S, H)
        h, c, gates = w_hh.new_zeros(S, B, H), w_hh.new_zeros(S, B, H), w_hh.new_empty(S, B, 4 * H)
        w_t = w_hh.transpose(1, 2).contiguous()
        start = 0
        for n in active:  # longest first: what has ended keeps its state behind the first n
            now = slice(start, start + n)
            z, h_now, c_now = gates[:, :n], h[:, :n], c[:, :n]
            for out, (table, rows) in zip(z, tables, strict=True):
                if rows is None:
                    out.copy_(table[now])
                else:
                    torch.index_select(table, 0, rows[now], out=out)
            z.baddbmm_(h_now, w_t)
            z[..., : 2 * H].sigmoid_()
            z[..., 2 * H : 3 * H].tanh_()
            z[..., 3 * H :].sigmoid_()
            c_now.mul_(z[..., H : 2 * H]).addcmul_(z[..., :H], z[..., 2 * H : 3 * H])
            torch.tanh(c_now, out=h_now)
            h_now.mul_(z[..., 3 * H :])
            for direction, (rows, entries) in enumerate(places):
                outputs[rows[now], entries[now], direction] = h_now[direction]
            start += n
        rank = order.argsort()
        return outputs.flatten(2), h[:, rank], c[:, rank]

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Advance the forward direction by one step, x (B, input_size), h and c (B, hidden_size)."""
        weights = dict(self.named_parameters())
        gates = F.linear(x, weights["weight_ih_l0"], weights["bias_ih_l0"] + weights["bias_hh_l0"])
        return lstm_cell(gates + F.linear(h, weights["weight_hh_l0"]), c)


def _last_entries(active: list[int], sorted_length: Tensor, order: Tensor) -> Tensor:
    """Return where each sequence, in original order, has its last entry in the step-major list."""
    starts = torch.tensor([0, *active], device=order.device).cumsum(0)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    return starts[sorted_length[rank] - 1] + rank


class _LSTMSteps(torch.autograd.Function):
    """The recurrence over step-major gates of S directions: one product per step, one for the weight gradient."""

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, w_hh: Tensor, active: tuple[int, ...], dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        S, P, H = gates.shape[0], gates.shape[1], w_hh.shape[2]
        hidden, cell = gates.new_empty(S, P, H), gates.new_empty(S, P, H)
        if ctx.needs_input_grad[0]:
            gates = gates.clone()  # the steps work in place
        w_hh = w_hh.to(dtype)
        w_t = w_hh.transpose(1, 2).contiguous()
        start, previous = 0, slice(0, 0)
        for n in active:
            if n == 0:
                break
            now = slice(start, start + n)
            z = gates[:, now]
            if start:
                before = hidden[:, previous][:, :n]
                if dtype == z.dtype:
                    z.baddbmm_(before, w_t)
                else:
                    z.add_(torch.bmm(before.to(dtype), w_t))
            z[..., : 2 * H].sigmoid_()
            z[..., 2 * H : 3 * H].tanh_()
            z[..., 3 * H :].sigmoid_()
            c = z[..., :H] * z[..., 2 * H : 3 * H]
            if start:
                c.addcmul_(z[..., H : 2 * H], cell[:, previous][:, :n])
            cell[:, now] = c
            torch.mul(z[..., 3 * H :], c.tanh_(), out=hidden[:, now])
            start, previous = start + n, now
        ctx.save_for_backward(gates, hidden, cell, w_hh)
        ctx.active = active
        return hidden, cell

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_hidden: Tensor, grad_cell: Tensor) -> tuple[Tensor, Tensor, None, None]:
        gates, hidden, cell, w_hh = ctx.saved_tensors
        S, H = gates.shape[0], w_hh.shape[2]
        active = [n for n in ctx.active if n]
        starts = [0]
        for n in active[:-1]:
            starts.append(starts[-1] + n)
        before = torch.zeros_like(hidden)  # the hidden state that entered each entry
        cell_before = torch.zeros_like(cell)  # and the cell
        for start, n, last in zip(starts[1:], active[1:], starts, strict=False):
            before[:, start : start + n] = hidden[:, last : last + n]
            cell_before[:, start : start + n] = cell[:, last : last + n]
        # What the gradients of cell and hidden state are multiplied with, all steps at once.
        forget, to_cell, factors = _lstm_slopes(gates, cell, cell_before)
        grad_gates = torch.empty_like(gates)
        dh, dc = gates.new_zeros(S, active[0], H), gates.new_zeros(S, active[0], H)
        for t in reversed(range(len(active))):
            n, now = active[t], slice(starts[t], starts[t] + active[t])
            dh_now, dc_now = dh[:, :n].add_(grad_hidden[:, now]), dc[:, :n].add_(grad_cell[:, now])
            dc_now.addcmul_(dh_now, to_cell[:, now])
            d, slopes = grad_gates[:, now].unflatten(2, (4, H)), factors[:, now].unflatten(2, (4, H))
            torch.mul(slopes[..., :3, :], dc_now.unsqueeze(2), out=d[..., :3, :])
            torch.mul(slopes[..., 3, :], dh_now, out=d[..., 3, :])
            if t:
                dh_now.copy_(torch.bmm(grad_gates[:, now].to(w_hh.dtype), w_hh))
                dc_now.mul_(forget[:, now])
        w_grad = grad_gates.transpose(1, 2).to(w_hh.dtype) @ before.to(w_hh.dtype)
        return grad_gates, w_grad.to(gates.dtype), None, None


def _lstm_slopes(gates: Tensor, cell: Tensor, cell_before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the factors of an LSTM's backward pass for squashed gates (S, P, 4H) and cells (S, P, H) of P entries.

    Returns:
        The forget gate; d cell / d hidden state, each (S, P, H); and (S, P, 4H): of the input, forget and cell
        gates by the gradient of the cell, of the output gate by that of the hidden state.
    """
    i, f, g, o = gates.chunk(4, 2)
    squashed = cell.tanh()
    factors = torch.cat([g * i * (1 - i), cell_before * f * (1 - f), i * (1 - g * g), squashed * o * (1 - o)], 2)
    return f, o * (1 - squashed * squashed), factors
