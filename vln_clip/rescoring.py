"""Chooses among the walks that a search found by what the follower and a speaker make of them (specification §5.4).

A speaker says how likely the instruction is as a description of a walk. It runs in evaluation mode; the reference
left its dropout on (§10.2, B1).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vln_clip.agents.speaker import Speaker
from vln_clip.envs.navigation import Navigation
from vln_clip.envs.search import Candidates
from vln_clip.records import Batch

BOTH, SPEAKER, FOLLOWER, NONE = "both", "speaker", "follower", "none"
AVERAGES = (BOTH, SPEAKER, FOLLOWER, NONE)  # whose log-probability is divided by its length
GRID_ALPHAS = tuple(k / 100 for k in range(101))
BLOCK_PLACES = 2048  # viewpoints whose views the speaker looks at together


@dataclass(frozen=True)
class Weighting:
    """How two log-probabilities make one score.

    Attributes:
        alpha: weight of the speaker, 0 to 1; the follower has the rest.
        average: whose log-probability is divided by its length, one of ``AVERAGES``.
    """

    alpha: float
    average: str = BOTH


def choose(
    follower: Tensor, num_decisions: Tensor, speaker: Tensor | None, num_words: Tensor, weighting: Weighting
) -> Tensor:
    """Return the best walk of each episode, (B,) int64; the first of equals.

    Args:
        follower: (B, K) log-probabilities of the walks.
        num_decisions: (B, K) their lengths; 0 where there is no walk.
        speaker: (B, K) log-probabilities of the instruction; None only for alpha 0.
        num_words: (B,) its length.
        weighting: how to add them up.
    """
    if weighting.average in (BOTH, FOLLOWER):
        follower = follower / num_decisions.clamp(min=1)
    score = (1 - weighting.alpha) * follower
    if weighting.alpha > 0:
        assert speaker is not None, "only alpha 0 needs no speaker"
        said = speaker / num_words[:, None] if weighting.average in (BOTH, SPEAKER) else speaker
        score = score + weighting.alpha * said
    return score.masked_fill(num_decisions == 0, -torch.inf).argmax(1)


@torch.no_grad()
def speaker_log_prob(world: Navigation, speaker: Speaker, batch: Batch, found: Candidates) -> Tensor:
    """Return how likely the speaker finds each instruction for each walk, (B, K) float64; 0 where there is no walk.

    The sum over the words after <BOS>, <EOS> included. Walks of one length are read together and without padding:
    the speaker's encoder reads padding too (P19), so that a score would depend on the other walks.
    """
    assert not speaker.training, "a speaker scores without dropout"
    scores = found.log_prob.new_zeros(found.log_prob.shape)
    for row, rank in _blocks(found.num_decisions):
        length = batch.length[row]
        tokens = batch.tokens[row, : int(length.max())]
        path = found.viewpoint[row, rank, : int(found.num_decisions[row[0], rank[0]])]
        walks = Batch(batch.episode[row], tokens, length, path[:, 0], batch.view[row], path[:, -1], path)
        logits = speaker(world.observe_walk(walks), tokens, length)
        scores[row, rank] = word_log_prob(logits, tokens).double()
    return scores


def _blocks(length: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield row and rank (b,) of walks of one length, from lengths (B, K); 0 is no walk."""
    for steps in length[length > 0].unique().tolist():
        row, rank = (length == steps).nonzero(as_tuple=True)
        size = max(1, BLOCK_PLACES // steps)
        yield from zip(row.split(size), rank.split(size), strict=True)


def word_log_prob(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the log-probability of the words after the first one, (B,).

    Args:
        logits: (B, L, W) for the word after each position.
        tokens: (B, L) int64, padded with 0.
    """
    following = tokens[:, 1:]
    found = logits[:, :-1].log_softmax(2).gather(2, following[..., None]).squeeze(2)
    return found.masked_fill(following == 0, 0).sum(1)
