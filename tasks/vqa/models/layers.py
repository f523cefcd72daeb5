"""Layers that the models of the MCAN family share: attention, post-norm Transformer layers, attention pools.

Axes beyond those of records.py: N image locations, G glimpses. Dropout draws from the generator that is passed down;
None switches it off.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vln_clip.dropout import dropout

# Added to scores of padding. Finite, so that a question of padding alone attends evenly in place of becoming NaN.
PADDING_SCORE = -1e9

Generator = torch.Generator | None
MakeNorm = Callable[[int], nn.Module]


def padding_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what attention over masked places adds to its scores: mask (B, N) bool -> (B, 1, 1, N)."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, PADDING_SCORE)[:, None, None]


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention with dropout on its weights.

    Args:
        width: D, a multiple of ``num_heads``.
        num_heads: H.
        dropout_p: dropout on attention weights.
    """

    def __init__(self, width: int, num_heads: int, dropout_p: float) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width must be a multiple of the number of heads, {num_heads}, got {width}")
        self.num_heads, self.dropout_p = num_heads, dropout_p
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor, bias: Tensor | None, generator: Generator) -> Tensor:
        """Let x (B, Q, D) look at context (B, N, D), with a bias (B, 1, 1, N) on its scores; return (B, Q, D)."""
        query = self._heads(self.query(x))  # (B, H, Q, D / H)
        key, value = self._heads(self.key(context)), self._heads(self.value(context))
        if generator is None or self.dropout_p == 0:
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        else:  # the fused kernel draws from the global generator only
            scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(2, 3)  # (B, H, Q, N)
            weights = torch.softmax(scores if bias is None else scores + bias, -1)
            attended = dropout(weights, self.dropout_p, generator) @ value
        return self.output(attended.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers with a ReLU and dropout between them."""

    def __init__(self, width: int, hidden_width: int, dropout_p: float) -> None:
        super().__init__()
        self.dropout_p = dropout_p
        self.hidden = nn.Linear(width, hidden_width)
        self.output = nn.Linear(hidden_width, width)

    def forward(self, x: Tensor, generator: Generator) -> Tensor:
        """Map x (B, N, D) to (B, N, D)."""
        return self.output(dropout(torch.relu(self.hidden(x)), self.dropout_p, generator))


class SelfAttentionLayer(nn.Module):
    """Self-attention, then a feed-forward network; each normalized after its residual is added."""

    def __init__(
        self, width: int, num_heads: int, hidden_width: int, dropout_p: float, norm: MakeNorm = nn.LayerNorm
    ) -> None:
        super().__init__()
        self.dropout_p = dropout_p
        self.attention = MultiHeadAttention(width, num_heads, dropout_p)
        self.feed_forward = FeedForward(width, hidden_width, dropout_p)
        self.norms = nn.ModuleList([norm(width) for _ in range(2)])

    def forward(self, x: Tensor, bias: Tensor | None, generator: Generator) -> Tensor:
        """Map x (B, N, D) to (B, N, D); bias (B, 1, 1, N) as for ``MultiHeadAttention``."""
        p = self.dropout_p
        x = self.norms[0](x + dropout(self.attention(x, x, bias, generator), p, generator))
        return self.norms[1](x + dropout(self.feed_forward(x, generator), p, generator))


class GuidedLayer(nn.Module):
    """Self-attention, attention to a guide, a feed-forward network; each normalized after its residual is added."""

    def __init__(
        self, width: int, num_heads: int, hidden_width: int, dropout_p: float, norm: MakeNorm = nn.LayerNorm
    ) -> None:
        super().__init__()
        self.dropout_p = dropout_p
        self.attention = MultiHeadAttention(width, num_heads, dropout_p)
        self.guidance = MultiHeadAttention(width, num_heads, dropout_p)
        self.feed_forward = FeedForward(width, hidden_width, dropout_p)
        self.norms = nn.ModuleList([norm(width) for _ in range(3)])

    def forward(
        self, x: Tensor, guide: Tensor, bias: Tensor | None, guide_bias: Tensor | None, generator: Generator
    ) -> Tensor:
        """Map x (B, N, D), guided by (B, L, D), to (B, N, D); biases (B, 1, 1, N) and (B, 1, 1, L)."""
        p = self.dropout_p
        x = self.norms[0](x + dropout(self.attention(x, x, bias, generator), p, generator))
        x = self.norms[1](x + dropout(self.guidance(x, guide, guide_bias, generator), p, generator))
        return self.norms[2](x + dropout(self.feed_forward(x, generator), p, generator))


class AttentionPool(nn.Module):
    """Weighted means of a sequence; the weights come from a network of two layers.

    Args:
        width: D.
        hidden_width: of the network.
        num_glimpses: G means.
        dropout_p: dropout on the hidden layer.
    """

    def __init__(self, width: int, hidden_width: int, num_glimpses: int, dropout_p: float) -> None:
        super().__init__()
        self.dropout_p = dropout_p
        self.hidden = nn.Linear(width, hidden_width)
        self.score = nn.Linear(hidden_width, num_glimpses)

    def forward(self, x: Tensor, mask: Tensor | None, generator: Generator) -> tuple[Tensor, Tensor]:
        """Pool x (B, N, D) where mask (B, N) is True.

        Returns:
            Means (B, G, D) and the weights (B, G, N), which are even where nothing is True.
        """
        hidden = dropout(torch.relu(self.hidden(x)), self.dropout_p, generator)
        scores = self.score(hidden).transpose(1, 2)  # (B, G, N)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], PADDING_SCORE)
        weights = torch.softmax(scores, -1)
        return weights @ x, weights
