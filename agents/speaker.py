"""The speaker of EnvDrop: describes a walk in words (specification §6). Used by back-translation.

Names of parameters are the stems of the reference checkpoints; its unused baseline head does not exist here.
"""

import torch
from torch import Tensor, nn

from vln_clip.agents.follower import ANGLES, Attention
from vln_clip.agents.nn import RaggedLSTM, attend, dot, drop_features, feature_scale
from vln_clip.agents.products import linear
from vln_clip.dropout import dropout
from vln_clip.records import Walk


class SpeakerEncoder(nn.Module):
    """Reads a walk: one LSTM over the actions looks at the views, a second one over what it saw."""

    def __init__(
        self, feature_width: int, angle_width: int, hidden_width: int, dropout_p: float, feature_dropout_p: float
    ) -> None:
        super().__init__()
        self.feature_width, self.angle_width = feature_width, angle_width
        self.dropout_p, self.feature_dropout_p = dropout_p, feature_dropout_p
        width = feature_width + angle_width
        self.lstm = RaggedLSTM(width, hidden_width // 2, bidirectional=True)
        self.attention_layer = Attention(hidden_width, width, output=True)
        self.post_lstm = RaggedLSTM(hidden_width, hidden_width // 2, bidirectional=True)

    def forward(self, walk: Walk, generator: torch.Generator | None, noise: Tensor | None) -> Tensor:
        """Return the context (B, T, H)."""
        B, T, _, D = walk.views.shape
        # The reference does not pack: padding enters the backward direction (P19), so every walk has T steps.
        steps = torch.full((B,), T, dtype=torch.int64, device=walk.length.device)
        actions, scale = self._features(walk.actions, generator, noise)
        inputs = torch.cat([actions * scale, self._tiled(walk.action_angles)], -1)
        states = dropout(self.lstm(inputs, steps)[0], self.dropout_p, generator).flatten(0, 1)  # (B·T, H)

        views, scale = self._features(walk.views.flatten(0, 1), generator, noise)
        angles = walk.view_angles.flatten(0, 1)
        query = linear(states, self.attention_layer.linear_in.weight)
        folded = query[:, D:].unflatten(1, (-1, ANGLES)).sum(1)  # the four angles are tiled in the reference
        seen, weights = attend(dot(views, query[:, :D] * scale) + dot(angles, folded), views)
        direction = torch.bmm(weights.unsqueeze(1), angles).squeeze(1)
        assert self.attention_layer.linear_out is not None
        context = torch.cat([seen * scale, self._tiled(direction), states], -1)
        attended = torch.tanh(linear(context, self.attention_layer.linear_out.weight)).unflatten(0, (B, T))
        words = self.post_lstm(dropout(attended, self.dropout_p, generator), steps)[0]
        return dropout(words, self.dropout_p, generator)

    def _tiled(self, angles: Tensor) -> Tensor:
        """Repeat (…, 4) to the angle width, as the reference does."""
        return angles.repeat(*[1] * (angles.dim() - 1), self.angle_width // ANGLES)

    def _features(
        self, features: Tensor, generator: torch.Generator | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor | float]:
        """Drop features; return them unscaled and the factor that completes them."""
        if noise is not None:
            return features.float(), noise
        p = self.feature_dropout_p
        return drop_features(features, p, generator), feature_scale(p, generator)


class SpeakerDecoder(nn.Module):
    """A language model that attends over the walk."""

    def __init__(self, num_words: int, word_width: int, hidden_width: int, dropout_p: float) -> None:
        super().__init__()
        self.dropout_p = dropout_p
        self.embedding = nn.Embedding(num_words, word_width, padding_idx=0)
        self.lstm = RaggedLSTM(word_width, hidden_width)
        self.attention_layer = Attention(hidden_width, hidden_width, output=True)
        self.projection = nn.Linear(hidden_width, num_words)

    def forward(
        self, tokens: Tensor, length: Tensor, context: Tensor, mask: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Return logits (B, L, W) of the word after each of tokens (B, L), teacher-forced."""
        words = dropout(self.embedding(tokens), self.dropout_p, generator)
        states = dropout(self.lstm(words, length)[0], self.dropout_p, generator)
        return self._words(states, context, mask, generator)

    def step(self, token: Tensor, h: Tensor, c: Tensor, context: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (B, W) of the next word and the LSTM's new state, in evaluation."""
        h, c = self.lstm.step(self.embedding(token), h, c)
        return self._words(h[:, None], context, mask, None)[:, 0], h, c

    def _words(self, states: Tensor, context: Tensor, mask: Tensor, generator: torch.Generator | None) -> Tensor:
        query = linear(states, self.attention_layer.linear_in.weight)
        scores = torch.bmm(query, context.transpose(1, 2))  # (B, L, T)
        weights = scores.masked_fill(~mask[:, None], -torch.inf).softmax(-1)
        assert self.attention_layer.linear_out is not None
        read = torch.cat([torch.bmm(weights, context), states], -1)
        attended = torch.tanh(linear(read, self.attention_layer.linear_out.weight))
        return linear(dropout(attended, self.dropout_p, generator), self.projection.weight, self.projection.bias)


class Speaker(nn.Module):
    """Walk in, words out.

    Args:
        num_words: vocabulary size, <BOS> included; <BOS> is the last id.
        feature_width: D; 0 for a blind speaker.
        angle_width: A, a multiple of 4.
        word_width: width of word embeddings.
        hidden_width: H, even.
        dropout_p: dropout everywhere but on features.
        feature_dropout_p: element-wise dropout on visual features.
    """

    def __init__(
        self,
        num_words: int,
        feature_width: int,
        *,
        angle_width: int = 128,
        word_width: int = 256,
        hidden_width: int = 512,
        dropout_p: float = 0.6,
        feature_dropout_p: float = 0.3,
    ) -> None:
        super().__init__()
        self.bos = num_words - 1
        self.encoder = SpeakerEncoder(feature_width, angle_width, hidden_width, dropout_p, feature_dropout_p)
        self.decoder = SpeakerDecoder(num_words, word_width, hidden_width, dropout_p)

    def forward(self, walk: Walk, tokens: Tensor, length: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return logits (B, L, W) of the words after tokens (B, L).

        Args:
            walk: what is described.
            tokens: int64 instruction with <BOS> and <EOS>, padded with 0.
            length: (B,) number of real tokens.
            generator: draws dropout masks; None switches dropout off.
        """
        context = self.encoder(walk, generator, None)
        return self.decoder(tokens, length, context, walk.mask, generator)

    @torch.no_grad()
    def describe(self, walk: Walk, max_words: int, noise: Tensor | None = None, first: Tensor | None = None) -> Tensor:
        """Write greedily.

        Args:
            walk: what is described.
            max_words: most tokens, <EOS> included.
            noise: (D,) environment dropout.
            first: (B,) int64 first words: the tag of the language to write in; None leaves them to the speaker.

        Returns:
            (B, L) int64 without <BOS>; <PAD> after <EOS>; a row without <EOS> was cut off.
        """
        context, mask = self.encoder(walk, None, noise), walk.mask
        B, pad, unk, eos = len(walk.length), 0, 1, 2
        h = c = context.new_zeros(B, self.decoder.projection.in_features)
        token = torch.full((B,), self.bos, dtype=torch.int64, device=context.device)
        ended = torch.zeros(B, dtype=torch.bool, device=context.device)
        words: list[Tensor] = []
        for _ in range(max_words):
            logits, h, c = self.decoder.step(token, h, c, context, mask)
            logits[:, unk] = -torch.inf
            token = logits.argmax(1).masked_fill(ended, pad)
            if first is not None and not words:
                token = first
            words.append(token)
            ended = ended | (token == eos)
            if bool(ended.all()):
                break
        return torch.stack(words, 1)


def as_instruction(words: Tensor, bos: int, eos: int = 2) -> tuple[Tensor, Tensor]:
    """Turn generated words (B, L) into follower input: <BOS> first, and <EOS> last where a row was cut off.

    Returns:
        tokens (B, L + 1) int64 and length (B,).
    """
    tokens = torch.cat([words.new_full((len(words), 1), bos), words], 1)
    tokens[:, -1] = torch.where(tokens[:, -1] != 0, eos, tokens[:, -1])
    return tokens, (tokens != 0).sum(1)
