"""Texts as the states that a frozen text tower gives their tokens: computed once and gathered for batches.

Axes: ``N`` texts, ``S`` tokens of all different ones, ``L`` tokens of one, ``D`` width of the tower. What computes
states is in ``vln_clip.encoders.token_tower``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor


class Tower(Protocol):
    """What gives states to tokens; see ``vln_clip.encoders.token_tower.TokenTower``."""

    def frozen(self, tokens: Tensor, length: Tensor | None = None) -> Tensor: ...  # noqa: D102


class TokenLists(Protocol):
    """Texts as tokens; see ``vln_clip.envs.ragged.Ragged``."""

    @property
    def length(self) -> Tensor: ...  # noqa: D102
    @property
    def width(self) -> int: ...  # noqa: D102
    def __len__(self) -> int: ...
    def padded(self, rows: Tensor, width: int | None = None) -> Tensor: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class StateLists:
    """The states of N texts, one behind the other without padding; equal texts share theirs.

    Attributes:
        flat: (S, D) float16.
        first: (N,) int64, where in ``flat`` each text begins.
        length: (N,) int64, number of its tokens.
        width: tokens of the longest text.
        empty: (2, D) float16, the states of a text without words: begin and end.
    """

    flat: Tensor
    first: Tensor
    length: Tensor
    width: int
    empty: Tensor

    def __len__(self) -> int:
        return len(self.first)

    @property
    def shape(self) -> torch.Size:
        """Return (N, L, D) of all texts padded."""
        return torch.Size((len(self), self.width, self.flat.shape[1]))

    def padded(self, rows: Tensor, width: int | None = None) -> Tensor:
        """Return the states of texts at rows (B,), padded with 0 to the longest or to ``width``, (B, L, D) float16."""
        length = self.length[rows]
        if width is None:
            width = int(length.max()) if len(rows) else 0
        columns = torch.arange(width, device=self.flat.device)
        # What follows a text in ``flat`` is read too, then filled over.
        entry = (self.first[rows][:, None] + columns).clamp_(max=len(self.flat) - 1)
        return self.flat[entry].masked_fill_((columns >= length[:, None])[..., None], 0)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return the states of texts at rows (B,), padded to the longest of all N, (B, L, D) float16."""
        return self.padded(rows, self.width)

    def emptied(self) -> StateLists:
        """Return as many texts without words.

        Their states are computed of the empty text: the last state of another text knows all of its words.
        """
        return StateLists(self.empty, torch.zeros_like(self.first), torch.full_like(self.length, 2), 2, self.empty)

    def to(self, device: torch.device | str) -> StateLists:
        """Return the same on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("flat", "first", "length", "empty")}
        return replace(self, **moved)


@dataclass(frozen=True, eq=False)
class LateStates:
    """N texts whose states are computed whenever a batch is gathered: of splits too large to keep states of.

    Attributes:
        tokens: of the texts.
        tower: frozen.
        empty: (2,) int64, tokens of a text without words.
    """

    tokens: TokenLists
    tower: Tower
    empty: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def length(self) -> Tensor:
        """Return the number of tokens of each text, (N,) int64."""
        return self.tokens.length

    @property
    def width(self) -> int:
        """Return the tokens of the longest text."""
        return self.tokens.width

    def padded(self, rows: Tensor, width: int | None = None) -> Tensor:
        """Return the states of texts at rows (B,), padded with 0 to the longest or to ``width``, (B, L, D) float16."""
        return self.tower.frozen(self.tokens.padded(rows, width), self.length[rows])

    def emptied(self) -> StateLists:
        """Return as many texts without words."""
        states = self.tower.frozen(self.empty[None])[0]
        first = torch.zeros_like(self.length)
        return StateLists(states, first, torch.full_like(first, 2), 2, states)


def word_mask(tokens: Tensor) -> Tensor:
    """Return where a batch of texts has words, (B, L) bool.

    Args:
        tokens: (B, L) int64 padded with 0, or states (B, L, D) float whose padding is 0 throughout.
    """
    return (tokens != 0).any(-1) if tokens.is_floating_point() else tokens != 0
