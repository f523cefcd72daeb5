"""Decoder of the captioning Transformer: over whole captions, or word by word with cached keys and values.

Axes: ``S`` captions of one image (samples or beams), ``N`` grid cells, ``T`` words a cache has room for. All captions
of an image attend to one copy of its memory.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vln_clip.tasks.captioning.models.layers import (
    Attention,
    FeedForward,
    Norm,
    RepeatableDropout,
    build_norm,
    scale_kept,
)


@dataclass(eq=False)
class DecoderState:
    """What is kept of the words so far. Keys and values are never moved: ``slots`` says whose each caption sees.

    Attributes:
        memory: keys and values of the image by layer, each (B, H, N, d).
        words: keys and values of the words by layer, each (B, H, T, S, d).
        slots: (B, S, T) int64, index on the axis S of ``words`` under which each word of a caption lies.
        length: words so far.
    """

    memory: list[tuple[Tensor, Tensor]]
    words: list[tuple[Tensor, Tensor]]
    slots: Tensor
    length: int = 0

    def visible(self) -> Tensor | None:
        """Return which of the words up to the one that comes now each caption sees, (B, 1, S, words · S) bool."""
        B, S, _ = self.slots.shape
        if S == 1:
            return None  # all
        own = torch.arange(S, device=self.slots.device)
        return (self.slots[:, :, : self.length + 1, None] == own).view(B, 1, S, -1)

    def follow(self, parents: Tensor) -> None:
        """Let each caption go on from another of its image, parents (B, S) int64."""
        past = self.slots[:, :, : self.length]
        self.slots[:, :, : self.length] = past.gather(1, parents[:, :, None].expand_as(past))

    def take(self, images: Tensor) -> None:
        """Go on with some images only, given by their index."""
        self.memory = [(keys[images], values[images]) for keys, values in self.memory]
        self.words = [(keys[images], values[images]) for keys, values in self.words]
        self.slots = self.slots[images]


class DecoderLayer(nn.Module):
    """Attention to own words, attention to the image and a feed-forward network, pre-norm with residuals."""

    def __init__(self, index: int, width: int, hidden_width: int, num_heads: int, dropout_p: float, norm: Norm) -> None:
        super().__init__()
        self.index, self.dropout_p = index, dropout_p
        self.words, self.words_norm = Attention(width, num_heads), build_norm(norm, width)
        self.image, self.image_norm = Attention(width, num_heads), build_norm(norm, width)
        self.feed_forward, self.feed_forward_norm = FeedForward(width, hidden_width), build_norm(norm, width)

    def forward(
        self,
        x: Tensor,
        memory: tuple[Tensor, Tensor],
        state: DecoderState | None = None,
        visible: Tensor | None = None,
        noise: RepeatableDropout | None = None,
    ) -> Tensor:
        """Transform words.

        Args:
            x: (B, S, L, D); whole captions, or with ``state`` the next word of each, L = 1.
            memory: keys and values of the image, each (B, H, N, d).
            state: receives the keys and values of the word.
            visible: what ``state.visible`` returns.
            noise: dropout; None drops nothing.

        Returns:
            (B, S, L, D).
        """
        start = 0 if state is None else state.length

        def drop(y: Tensor, place: str) -> Tensor:
            if noise is None or self.dropout_p == 0:
                return y
            return noise.drop(y, self.dropout_p, (self.index, place), 2, start)

        y = self.words_norm(x)
        y = self._read_words(y, noise) if state is None else self._read_cache(y, state, visible, noise)
        x = x + drop(y, "words")
        x = x + drop(self._read_image(self.image_norm(x), memory, start, noise), "image")
        y = self.feed_forward(self.feed_forward_norm(x), lambda hidden: drop(hidden, "hidden"))
        return x + drop(y, "feed_forward")

    def _word_weights(self, noise: RepeatableDropout, shape: tuple[int, int, int], device: torch.device) -> Tensor:
        """Return which attention weights between words are kept, (B, S, H, T, T), given the first three sizes."""
        return noise.mask((self.index, "word_weights"), self.dropout_p, (*shape, *[noise.num_words] * 2), device)

    def _read_words(self, x: Tensor, noise: RepeatableDropout | None) -> Tensor:
        """Attend from every word to itself and those before.

        Padding needs no mask of its own: it lies behind the words, and what is said there has no loss.
        """
        B, S, L, _ = x.shape
        queries, keys, values = map(self.words.heads, self.words.project(x))  # (B, S, H, L, d)
        causal = torch.ones(L, L, dtype=torch.bool, device=x.device).tril()

        def drop(weights: Tensor) -> Tensor:
            assert noise is not None
            keep = self._word_weights(noise, (B, S, self.words.num_heads), x.device)[..., :L, :L]
            return scale_kept(weights, keep, self.dropout_p)

        return self.words.mix(queries, keys, values, causal, drop if noise and self.dropout_p else None)

    def _read_cache(
        self, x: Tensor, state: DecoderState, visible: Tensor | None, noise: RepeatableDropout | None
    ) -> Tensor:
        """Attend from one new word of each caption, (B, S, 1, D), to its own words in the cache."""
        B, S, _, _ = x.shape
        now = state.length
        queries, new_keys, new_values = map(self.words.heads, self.words.project(x.squeeze(2)))  # (B, H, S, d)
        keys, values = state.words[self.index]
        keys[:, :, now], values[:, :, now] = new_keys, new_values
        keys, values = (part[:, :, : now + 1].flatten(2, 3) for part in (keys, values))  # (B, H, words · S, d)

        def drop(weights: Tensor) -> Tensor:  # (B, H, S, words · S)
            assert noise is not None
            keep = self._word_weights(noise, (B, S, self.words.num_heads), x.device)[..., now, : now + 1]
            keep = keep.transpose(1, 2)[..., None].expand(-1, -1, -1, -1, S).flatten(3)
            return scale_kept(weights, keep, self.dropout_p)

        mixed = self.words.mix(queries, keys, values, visible, drop if noise and self.dropout_p else None)
        return mixed.unsqueeze(2)

    def _read_image(
        self, x: Tensor, memory: tuple[Tensor, Tensor], start: int, noise: RepeatableDropout | None
    ) -> Tensor:
        """Attend from the words of all captions of an image to its memory."""
        S, L = x.shape[1:3]

        def drop(weights: Tensor) -> Tensor:
            assert noise is not None
            by_word = weights.unflatten(2, (S, L))  # (B, H, S, L, N)
            return noise.drop(by_word, self.dropout_p, (self.index, "image_weights"), 3, start).flatten(2, 3)

        queries = self.image.queries(x.flatten(1, 2))
        mixed = self.image.mix(queries, *memory, drop=drop if noise and self.dropout_p else None)
        return mixed.unflatten(1, (S, L))
