"""The instruction follower of EnvDrop (Tan et al. 2019): text encoder, decoder over candidates, critic.

Names of parameters are the stems of the reference checkpoints. The attention outputs that the reference
computes and discards (``feat_att_layer.linear_out``, ``candidate_att_layer.linear_out``) do not exist here.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from vln_clip.agents.nn import RaggedLSTM, attend, dot, drop_features, feature_scale, lstm_cell, step_linear
from vln_clip.agents.recall import Recall
from vln_clip.dropout import dropout
from vln_clip.records import Observation

ANGLES = 4  # sin and cos of heading and elevation; tiled to the angle width in the reference


@dataclass(frozen=True)
class StepWeights:
    """The decoder's weights for one rollout: angle columns folded, gradients collected once per rollout."""

    action: Callable[[Tensor], Tensor]
    views: Callable[[Tensor], Tensor]
    lstm: Callable[[Tensor], Tensor]
    text_in: Callable[[Tensor], Tensor]
    text_out: Callable[[Tensor], Tensor]
    candidates: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class FollowerState:
    """Recurrent state of B episodes.

    Attributes:
        attended: (B, H) attended hidden state of the last step; the recurrent input of the next.
        cell: (B, H).
        text: encoded instruction, (B, L, H).
        weights: the weights of this rollout.
        generator: source of dropout masks; None in evaluation.
        noise: (D,) environment dropout of this rollout, replaces feature dropout; or None.
        looked: (B, V) attention over the views in the last step, without gradient; None before the first.
        read: (B, L) attention over the tokens in the last step, 0 on padding, without gradient; None likewise.
    """

    attended: Tensor
    cell: Tensor
    text: Recall
    weights: StepWeights
    generator: torch.Generator | None = None
    noise: Tensor | None = None
    looked: Tensor | None = None
    read: Tensor | None = None

    def select(self, rows: Tensor) -> "FollowerState":
        """Keep only some episodes; rows (B',) int64."""
        text = self.text.select(rows)
        return replace(
            self,
            attended=self.attended[rows],
            cell=self.cell[rows],
            text=text,
            looked=None if self.looked is None else self.looked[rows],
            read=None if self.read is None else self.read[rows, : text.mask.shape[1]],
        )

    @property
    def memory(self) -> Tensor:
        """Return all that a step needs of the one before, (B, 2 H): what a search keeps of a state to come back to."""
        return torch.cat([self.attended, self.cell], 1)

    def with_memory(self, memory: Tensor) -> "FollowerState":
        """Return the same episodes with what they remembered elsewhere, (B, 2 H), row by row."""
        attended, cell = memory.chunk(2, 1)
        return replace(self, attended=attended, cell=cell, looked=None, read=None)


class TextEncoder(nn.Module):
    """Bidirectional LSTM over an instruction (specification §5.1).

    It stays the same where a text tower gives the states of words in place of their embedding, so that the rest of
    the agent meets what it always meets: one state per token, zero on padding, of its own width.
    """

    def __init__(
        self,
        num_words: int | None,
        word_width: int,
        hidden_width: int,
        dropout_p: float,
        pool_padding: bool,
        tower: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.dropout_p, self.pool_padding = dropout_p, pool_padding
        self.embedding = None if num_words is None else nn.Embedding(num_words, word_width, padding_idx=0)
        self.tower = tower
        self.lstm = RaggedLSTM(word_width, hidden_width // 2, bidirectional=True)
        self.encoder2decoder = nn.Linear(hidden_width, hidden_width)

    def forward(
        self, tokens: Tensor, length: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encode tokens (B, L), or the states (B, L, D) of a frozen text tower.

        Returns:
            Text (B, L, H), its mask (B, L), initial attended state (B, H) and cell (B, H).
        """
        if not self.pool_padding:  # else the padding counts, and a share of a joint batch has that of the whole
            tokens = tokens[:, : int(length.max())]
        mask = torch.arange(tokens.shape[1], device=tokens.device) < length[:, None]
        table = self.embedding
        if table is not None and generator is None and tokens.numel() > table.num_embeddings:
            text, _, cell = self.lstm(table.weight, length, tokens)  # without dropout words are few
        else:
            text, _, cell = self.lstm(dropout(self._words(tokens, length), self.dropout_p, generator), length)
        # The reference pools over padding too, whose rows are zero: a result that depends on the batch (P7).
        pooled = text.amax(1) if self.pool_padding else _pool(text, mask)
        attended = torch.tanh(self.encoder2decoder(pooled))
        return dropout(text, self.dropout_p, generator), mask, attended, torch.cat([cell[1], cell[0]], -1)

    def _words(self, tokens: Tensor, length: Tensor) -> Tensor:
        """Return what stands for each word, (B, L, D) float32."""
        if self.embedding is not None:
            return self.embedding(tokens)
        if self.tower is not None:
            return self.tower(tokens, length)
        assert tokens.is_floating_point(), (tokens.dtype, "states of a frozen tower")
        return tokens.float()


def _pool(text: Tensor, mask: Tensor) -> Tensor:
    """Return the maximum (B, H) over the real tokens of a text (B, L, H) whose padding is 0."""
    padding = ~mask[..., None]
    if text.requires_grad:
        return text.masked_fill(padding, -torch.inf).amax(1)
    pooled = text.masked_fill_(padding, -torch.inf).amax(1)  # in place: the copy would be the largest tensor there is
    text.masked_fill_(padding, 0)
    return pooled


class Attention(nn.Module):
    """The matrices of a soft-dot attention; ``linear_out`` only where its output is used."""

    def __init__(self, query_width: int, key_width: int, output: bool) -> None:
        super().__init__()
        self.linear_in = nn.Linear(query_width, key_width, bias=False)
        self.linear_out = nn.Linear(query_width + key_width, query_width, bias=False) if output else None


class Decoder(nn.Module):
    """One decision per step: look around, read, choose a candidate (specification §5.1)."""

    def __init__(
        self,
        feature_width: int,
        angle_width: int,
        action_width: int,
        hidden_width: int,
        dropout_p: float,
        feature_dropout_p: float,
    ) -> None:
        super().__init__()
        self.feature_width, self.action_width = feature_width, action_width
        self.dropout_p, self.feature_dropout_p = dropout_p, feature_dropout_p
        width = feature_width + angle_width
        self.embedding = nn.ModuleList([nn.Linear(angle_width, action_width)])
        self.lstm = nn.LSTMCell(action_width + width, hidden_width)
        self.feat_att_layer = Attention(hidden_width, width, output=False)
        self.attention_layer = Attention(hidden_width, hidden_width, output=True)
        self.candidate_att_layer = Attention(hidden_width, width, output=False)

    def _fold(self, weight: Tensor, start: int) -> Tensor:
        """Sum the columns that read tiled copies of the four angles: (…, start + A) -> (…, start + 4)."""
        tiles = weight[:, start:].unflatten(1, (-1, ANGLES)).sum(1)
        return torch.cat([weight[:, :start], tiles], 1)

    def begin(self) -> StepWeights:
        """Prepare the weights for the steps of one rollout."""
        action = self.embedding[0]
        assert isinstance(action, nn.Linear)
        inputs = self._fold(self.lstm.weight_ih, self.action_width + self.feature_width)
        text_out = self.attention_layer.linear_out
        assert text_out is not None
        return StepWeights(
            step_linear(self._fold(action.weight, 0), action.bias),
            step_linear(self._fold(self.feat_att_layer.linear_in.weight.t(), self.feature_width).t()),
            step_linear(torch.cat([inputs, self.lstm.weight_hh], 1), self.lstm.bias_ih + self.lstm.bias_hh),
            step_linear(self.attention_layer.linear_in.weight),
            step_linear(text_out.weight),
            step_linear(self._fold(self.candidate_att_layer.linear_in.weight.t(), self.feature_width).t()),
        )

    def _features(self, features: Tensor, state: FollowerState) -> tuple[Tensor, Tensor | float]:
        """Drop features; return them unscaled and the factor, float or (D,), that completes them."""
        if state.noise is not None:
            return features.float(), state.noise
        return drop_features(features, self.feature_dropout_p, state.generator), feature_scale(
            self.feature_dropout_p, state.generator
        )

    def forward(self, obs: Observation, state: FollowerState) -> tuple[FollowerState, Tensor, Tensor]:
        """Take one step.

        Returns:
            The next state, logits (B, K) with -inf on padding, and the hidden state (B, H) for the critic.
        """
        weights, D, p, generator = state.weights, self.feature_width, self.dropout_p, state.generator
        action = dropout(torch.tanh(weights.action(obs.own_angles)), p, generator)
        views, scale = self._features(obs.views, state)
        query = weights.views(dropout(state.attended, p, generator))  # (B, D + 4)
        scores = dot(views, query[:, :D] * scale) + dot(obs.view_angles, query[:, D:])  # (B, V)
        seen, attention = attend(scores, views)
        direction = torch.bmm(attention.unsqueeze(1), obs.view_angles).squeeze(1)
        gates = weights.lstm(torch.cat([action, seen * scale, direction, state.attended], -1))
        hidden, cell = lstm_cell(gates, state.cell)

        dropped = dropout(hidden, p, generator)
        read, reading = state.text(weights.text_in(dropped))
        attended = torch.tanh(weights.text_out(torch.cat([read, dropped], -1)))

        candidates, scale = self._features(obs.candidates, state)
        query = weights.candidates(dropout(attended, p, generator))
        logits = dot(candidates, query[:, :D] * scale) + dot(obs.candidate_angles, query[:, D:])  # (B, K)
        logits = logits.masked_fill(~obs.candidate_mask, -torch.inf)
        state = replace(state, attended=attended, cell=cell, looked=attention.detach(), read=reading)
        return state, logits, hidden


class Critic(nn.Module):
    """Estimates the return from the raw hidden state."""

    def __init__(self, hidden_width: int, dropout_p: float) -> None:
        super().__init__()
        self.dropout_p = dropout_p
        layers = [nn.Linear(hidden_width, hidden_width), nn.ReLU(), nn.Identity(), nn.Linear(hidden_width, 1)]
        self.state2value = nn.Sequential(*layers)

    def forward(self, hidden: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return values (N,) of hidden states (N, H)."""
        hidden = dropout(torch.relu(self.state2value[0](hidden)), self.dropout_p, generator)
        return self.state2value[3](hidden).squeeze(-1)


class Follower(nn.Module):
    """Encoder, decoder and critic, and how an episode starts and goes on.

    Args:
        num_words: vocabulary size, <BOS> included; None where a text tower reads in place of word embeddings.
        feature_width: D; 0 for a blind agent.
        angle_width: A, a multiple of 4.
        word_width: width of word embeddings, or of the text tower's states.
        action_width: width of the embedded own direction.
        hidden_width: H, even.
        dropout_p: dropout everywhere but on features.
        feature_dropout_p: element-wise dropout on visual features, redrawn at every step.
        pool_padding: pool the initial state over padding too, as the reference does (P7).
        tower: text tower that is trained with the agent and reads tokens; None where ``start`` gets words of the
            vocabulary, or states of a frozen one.
    """

    def __init__(
        self,
        num_words: int | None,
        feature_width: int,
        *,
        angle_width: int = 128,
        word_width: int = 256,
        action_width: int = 64,
        hidden_width: int = 512,
        dropout_p: float = 0.5,
        feature_dropout_p: float = 0.3,
        pool_padding: bool = False,
        tower: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder = TextEncoder(num_words, word_width, hidden_width, dropout_p, pool_padding, tower)
        self.decoder = Decoder(feature_width, angle_width, action_width, hidden_width, dropout_p, feature_dropout_p)
        self.critic = Critic(hidden_width, dropout_p)

    def start(
        self, tokens: Tensor, length: Tensor, generator: torch.Generator | None = None, noise: Tensor | None = None
    ) -> FollowerState:
        """Read instructions, tokens (B, L) and length (B,), and return the state before the first step.

        Args:
            tokens: int64, padded with 0; or float states (B, L, D) of a frozen text tower, padded likewise.
            length: number of real tokens.
            generator: draws dropout masks; None switches dropout off.
            noise: (D,) environment dropout for the whole rollout.
        """
        text, mask, attended, cell = self.encoder(tokens, length, generator)
        return FollowerState(attended, cell, Recall.of(text, mask), self.decoder.begin(), generator, noise)

    def step(self, obs: Observation, state: FollowerState) -> tuple[FollowerState, Tensor, Tensor]:
        """Decide once; see ``Decoder.forward``."""
        return self.decoder(obs, state)
