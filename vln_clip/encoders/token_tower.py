"""The text tower of a CLIP as a reader of single tokens: their states after the last norm, before the projection.

Axes: ``B`` texts, ``L`` tokens, ``D`` width, ``P`` pieces of texts that are longer than the context.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vln_clip.errors import InputError

if TYPE_CHECKING:
    from vln_clip.encoders.text import TextEncoder


class TokenTower(nn.Module):
    """The parts of a text tower that the states of tokens depend on; shares them with the encoder it is made of.

    Tokens are the tokenizer's plus 1, for 0 is a token of CLIP's ("!") and here the padding. A text longer than the
    context is encoded in pieces, each between begin and end; of these only the first begin and the last end are kept,
    so that there is one state per token.

    Args:
        encoder: a causal tower, in which no token sees those behind it: padding changes nothing.
    """

    def __init__(self, encoder: "TextEncoder") -> None:
        super().__init__()
        tower = encoder.tower
        if tower.attn_mask is None:
            raise InputError(
                f"--text-encoder must be a causal text tower, whose states don't depend on padding, "
                f"got {encoder.name}; take one of OpenAI's or LAION's"
            )
        self.context_length, self.width = encoder.context_length, int(tower.positional_embedding.shape[1])
        self.begin, self.end = encoder.begin + 1, encoder.end + 1
        self.token_embedding, self.positional_embedding = tower.token_embedding, tower.positional_embedding
        self.transformer, self.ln_final = tower.transformer, tower.ln_final
        mask = tower.attn_mask[: self.context_length, : self.context_length]
        self.register_buffer("attn_mask", mask, persistent=False)

    @property
    def device(self) -> torch.device:
        """Return where the weights are."""
        return self.positional_embedding.device

    def forward(self, tokens: Tensor, length: Tensor | None = None) -> Tensor:
        """Return the states of tokens.

        Args:
            tokens: (B, L) int64, each row from begin to end, padded with 0.
            length: (B,) number of real tokens; None counts them.

        Returns:
            (B, L, D) float32, 0 on padding.
        """
        length = (tokens != 0).sum(1) if length is None else length
        padding = torch.arange(tokens.shape[1], device=tokens.device) >= length[:, None]
        states = self._run(tokens) if tokens.shape[1] <= self.context_length else self._in_pieces(tokens, length)
        return states.masked_fill(padding[..., None], 0)

    @torch.no_grad()
    def frozen(self, tokens: Tensor, length: Tensor | None = None) -> Tensor:
        """Return the states as they are kept: (B, L, D) float16, without gradient."""
        return self(tokens, length).half()

    def _run(self, tokens: Tensor) -> Tensor:
        """Return the states of tokens (P, L) that fit the context, (P, L, D)."""
        L = tokens.shape[1]
        states = self.token_embedding((tokens - 1).clamp_(min=0)) + self.positional_embedding[:L]
        return self.ln_final(self.transformer(states, attn_mask=self.attn_mask[:L, :L]))  # type: ignore[index]

    def _in_pieces(self, tokens: Tensor, length: Tensor) -> Tensor:
        """Return the states of tokens (B, L) that may be longer than the context, (B, L, D)."""
        L, room = tokens.shape[1], self.context_length - 2
        num_words = (length - 2).clamp_(min=0)  # (B,) tokens between begin and end
        place = torch.arange(L - 2, device=tokens.device)
        words = tokens[:, 1:-1].masked_fill(place >= num_words[:, None], 0)
        words = nn.functional.pad(words, (0, -(L - 2) % room)).unflatten(1, (-1, room))  # (B, C, room)
        start = torch.arange(words.shape[1], device=tokens.device) * room
        counts = (num_words[:, None] - start).clamp_(0, room)  # (B, C) words in each piece
        there = (counts > 0) | (start == 0)
        pieces = nn.functional.pad(words[there], (1, 1))  # (P, room + 2)
        pieces[:, 0] = self.begin
        pieces.scatter_(1, counts[there][:, None] + 1, self.end)
        states = self._run(pieces)
        number = (there.flatten().cumsum(0) - 1).view_as(there)  # (B, C) of each piece among the P
        word = (torch.arange(L, device=tokens.device) - 1).clamp_(min=0).expand(len(tokens), -1)
        piece = torch.minimum(word, (num_words[:, None] - 1).clamp_(min=0)) // room  # the end is in the last word's
        column = (word - piece * room + 1).clamp_(max=room + 1)
        column[:, 0] = 0
        return states[number.gather(1, piece), column]
