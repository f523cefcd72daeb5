"""Losses of captioning models by hand, and that their gradients point the right way."""

import math

import pytest
import torch

from tests.captioner import build, generator, grids
from vln_clip.tasks.captioning.models.decoding import said_mask, sample_to_learn
from vln_clip.tasks.captioning.models.losses import (
    caption_loss,
    greedy_advantage,
    other_samples_advantage,
    self_critical_loss,
)


# The words, then the first end; a caption without an end counts whole.
@pytest.mark.parametrize(
    ("tokens", "wanted"),
    [
        ([5, 3, 0, 0], [True, True, True, False]),
        ([0, 0, 0, 0], [True, False, False, False]),
        ([5, 3, 7, 2], [True, True, True, True]),
        ([5, 3, 7, 0], [True, True, True, True]),
    ],
)
def test_words_and_the_first_end_were_said(tokens, wanted):
    assert said_mask(torch.tensor([[tokens]])).tolist() == [[wanted]]


def test_cross_entropy_is_the_mean_over_words_and_ends():
    # Probabilities of the targets: 1/2, 1/4 (the end) in the first caption, 1/8 in the second (its end at once).
    probability = torch.tensor([[[[0.25, 0.5, 0.25], [0.25, 0.5, 0.25]], [[0.125, 0.5, 0.375], [0.9, 0.05, 0.05]]]])
    targets = torch.tensor([[[1, 0], [0, 0]]])
    mask = torch.tensor([[[True, True], [True, False]]])
    total = math.log(2) + math.log(4) + math.log(8)
    assert caption_loss(probability.log(), targets, mask).item() == pytest.approx(total / 3)
    assert caption_loss(probability.log(), targets, mask, torch.tensor(6)).item() == pytest.approx(total / 6)


def test_a_batch_without_words_has_no_loss():
    logits = torch.zeros(1, 1, 2, 3, requires_grad=True)
    loss = caption_loss(logits, torch.zeros(1, 1, 2, dtype=torch.int64), torch.zeros(1, 1, 2, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_advantages_by_hand():
    reward = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])
    assert greedy_advantage(reward, torch.tensor([2.0, 1.0])).tolist() == [[-1, 0, 4], [-1, -1, 2]]
    assert greedy_advantage(reward, torch.tensor([[2.0], [1.0]])).tolist() == [[-1, 0, 4], [-1, -1, 2]]
    # 1 - (2 + 6) / 2, 2 - (1 + 6) / 2, 6 - (1 + 2) / 2; 0 - 3 / 2 twice, 3 - 0.
    assert other_samples_advantage(reward).tolist() == [[-3, -1.5, 4.5], [-1.5, -1.5, 3]]
    with pytest.raises(ValueError, match="at least 2 samples per image, got 1"):
        other_samples_advantage(reward[:, :1])


def test_the_self_critical_loss_by_hand():
    # One image, two captions: 2 words and the end, advantage 2; the end at once, advantage -1. Four words in all.
    tokens = torch.tensor([[[4, 5, 0, 0], [0, 0, 0, 0]]])
    log_prob = torch.tensor([[[-1.0, -2.0, -3.0, -50.0], [-4.0, -50.0, -50.0, -50.0]]], requires_grad=True)
    advantage = torch.tensor([[2.0, -1.0]], dtype=torch.double)
    loss = self_critical_loss(log_prob, tokens, advantage)
    # -(2 · (-1 - 2 - 3) + -1 · -4) / 4 = 8 / 4
    assert loss.item() == pytest.approx(2.0)
    loss.backward()
    assert log_prob.grad.tolist() == [[[-0.5, -0.5, -0.5, 0.0], [0.25, 0.0, 0.0, 0.0]]]
    half = self_critical_loss(log_prob, tokens, advantage, torch.tensor(8))
    assert half.item() == pytest.approx(1.0)


def test_no_gradient_flows_through_rewards():
    log_prob = torch.zeros(1, 2, 3, requires_grad=True)
    reward = torch.ones(1, 2, requires_grad=True)
    self_critical_loss(log_prob, torch.ones(1, 2, 3, dtype=torch.int64), reward).backward()
    assert reward.grad is None


@pytest.mark.parametrize("kind", ["plain", "new"])
def test_self_critical_steps_make_the_rewarded_word_likelier(kind):
    """The reward is how often index 7 is said; a fresh model says it about once in twelve words."""
    model = build()
    optimizer, noise, grid = torch.optim.Adam(model.parameters(), 3e-3), generator(), grids(4)

    def share(tokens):
        return ((tokens == 7).sum(-1) / tokens.shape[-1]).double()

    first = share(sample_to_learn(model, grid, 50, generator(1), max_words=6).tokens).mean()
    for _ in range(8):
        drawn = sample_to_learn(model, grid, 5, noise, max_words=6)
        reward = share(drawn.tokens)
        advantage = other_samples_advantage(reward) if kind == "new" else greedy_advantage(reward, reward.mean(1))
        optimizer.zero_grad()
        self_critical_loss(drawn.log_prob, drawn.tokens, advantage).backward()
        optimizer.step()
    last = share(sample_to_learn(model, grid, 50, generator(1), max_words=6).tokens).mean()
    assert last > first + 0.1
