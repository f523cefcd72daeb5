"""Building blocks of the captioning Transformer: normalization, attention, pre-norm residuals, dropout that repeats.

Axes beside those of ``records``: ``N`` grid cells, ``S`` captions of one image, ``Q`` queries of one image.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vln_clip.dropout import dropout, keep_mask, keep_probability
from vln_clip.normalization import ReferenceNorm

Norm = Literal["torch", "reference"]


def build_norm(kind: Norm, width: int) -> nn.Module:
    """Return a layer norm: PyTorch's, or the one of the public checkpoints."""
    return ReferenceNorm(width) if kind == "reference" else nn.LayerNorm(width)


class RepeatableDropout:
    """Dropout of the decoder whose masks are drawn once for whole captions, and taken word by word or all at once.

    Self-critical training draws captions word by word without gradients and then passes over all words at once: both
    must see the same masks, or the gradient is not that of the policy which drew the captions.
    """

    def __init__(self, generator: torch.Generator, num_words: int) -> None:
        self.num_words = num_words
        self._generator = generator
        self._masks: dict[Hashable, Tensor] = {}

    def mask(self, site: Hashable, p: float, shape: Sequence[int], device: torch.device) -> Tensor:
        """Return the mask of one place in the model, for whole captions; the first to ask has it drawn."""
        if site not in self._masks:
            self._masks[site] = keep_mask(torch.Size(shape), p, self._generator, device)
        return self._masks[site]

    def drop(self, x: Tensor, p: float, site: Hashable, axis: int, start: int) -> Tensor:
        """Apply inverted dropout to words ``start`` and following of captions, which lie on ``axis``."""
        shape = [*x.shape[:axis], self.num_words, *x.shape[axis + 1 :]]
        return scale_kept(x, self.mask(site, p, shape, x.device).narrow(axis, start, x.shape[axis]), p)


def scale_kept(x: Tensor, keep: Tensor, p: float) -> Tensor:
    """Zero what is not kept and scale the rest, so that the mean stays."""
    return x * keep.to(x.dtype).mul_(1.0 / keep_probability(p))


class Attention(nn.Module):
    """Multi-head attention; the projections of queries, keys and values are one matrix."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.inputs = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def reset(self) -> None:
        """Draw Xavier-uniform weights for each of the four matrices."""
        for matrix in (*self.inputs.weight.chunk(3), self.output.weight):
            nn.init.xavier_uniform_(matrix)

    def heads(self, x: Tensor) -> Tensor:
        """Split (…, Q, D) into (…, H, Q, D / H)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(-2, -3)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of self-attention, each (…, Q, D), of x (…, Q, D)."""
        queries, keys, values = self.inputs(x).chunk(3, -1)
        return queries, keys, values

    def queries(self, x: Tensor) -> Tensor:
        """Return the heads of queries alone, (…, H, Q, D / H)."""
        width = x.shape[-1]
        return self.heads(F.linear(x, self.inputs.weight[:width], self.inputs.bias[:width]))

    def keys_and_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return the heads of keys and values alone, each (…, H, N, D / H)."""
        width = memory.shape[-1]
        keys, values = F.linear(memory, self.inputs.weight[width:], self.inputs.bias[width:]).chunk(2, -1)
        return self.heads(keys), self.heads(values)

    def mix(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None = None,
        drop: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Attend and join the heads.

        Args:
            queries: (…, H, Q, d).
            keys: (…, H, N, d).
            values: (…, H, N, d).
            mask: bool, broadcast to (…, H, Q, N), True means keep.
            drop: applied to the weights (…, H, Q, N).

        Returns:
            (…, Q, D).
        """
        if drop is None:
            mixed = F.scaled_dot_product_attention(queries, keys, values, mask)
        else:
            scores = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])
            if mask is not None:
                scores = scores.masked_fill(~mask, -torch.inf)
            mixed = drop(torch.softmax(scores, -1)) @ values
        return self.output(mixed.transpose(-2, -3).flatten(-2))


class FeedForward(nn.Module):
    """Two linear layers with a ReLU and dropout between them."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, hidden_width), nn.Linear(hidden_width, width)

    def reset(self) -> None:
        """Draw Xavier-uniform weights."""
        nn.init.xavier_uniform_(self.inner.weight)
        nn.init.xavier_uniform_(self.outer.weight)

    def forward(self, x: Tensor, drop: Callable[[Tensor], Tensor]) -> Tensor:
        """Transform the last axis."""
        return self.outer(drop(torch.relu(self.inner(x))))


class EncoderLayer(nn.Module):
    """Self-attention over grid cells and a feed-forward network, each after a norm and beside a residual."""

    def __init__(self, width: int, hidden_width: int, num_heads: int, dropout_p: float, norm: Norm) -> None:
        super().__init__()
        self.attention, self.feed_forward = Attention(width, num_heads), FeedForward(width, hidden_width)
        self.attention_norm, self.feed_forward_norm = build_norm(norm, width), build_norm(norm, width)
        self.dropout_p = dropout_p

    def forward(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Transform grid cells (B, N, D); without a generator nothing is dropped."""

        def drop(y: Tensor) -> Tensor:
            return dropout(y, self.dropout_p, generator)

        queries, keys, values = map(self.attention.heads, self.attention.project(self.attention_norm(x)))
        x = x + drop(self.attention.mix(queries, keys, values, drop=None if generator is None else drop))
        return x + drop(self.feed_forward(self.feed_forward_norm(x), drop))


def sinusoids(length: int, width: int) -> Tensor:
    """Return the positional encoding, (length, width): sine and cosine interleaved, base 10000.

    Taken in float32 as the buffers of the public checkpoints were, so that both are equal.
    """
    position = torch.arange(length, dtype=torch.float32)[:, None]
    frequency = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * -(math.log(10000.0) / width))
    angle = position * frequency
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)
