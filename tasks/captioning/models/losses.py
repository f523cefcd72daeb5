"""Losses of captioning models as pure functions: cross entropy, then self-critical (specification §3.3, §3.4).

Axes: ``S`` captions of one image, ``L`` words, ``T`` most words of a drawn caption, ``W`` indices of the vocabulary.
Gradients are clipped by value: ``torch.nn.utils.clip_grad_value_``.
"""

import torch.nn.functional as F
from torch import Tensor

from vln_clip.tasks.captioning.models.decoding import said_mask


def caption_loss(logits: Tensor, targets: Tensor, mask: Tensor, count: Tensor | None = None) -> Tensor:
    """Return the mean cross entropy of the words and the 0 that ends them, over all captions of a batch.

    Args:
        logits: (B, S, L, W) for the word after each input.
        targets: (B, S, L) int64, that word.
        mask: (B, S, L) bool, True for words and the end.
        count: number of them in the joint batch that these captions are part of; None for ``mask.sum()``.
    """
    loss = F.cross_entropy(logits.flatten(0, 2), targets.flatten(), reduction="none")
    total = loss.where(mask.flatten(), 0.0).sum()
    return total / (mask.sum().clamp(min=1) if count is None else count)


def greedy_advantage(reward: Tensor, greedy_reward: Tensor) -> Tensor:
    """Return by how much samples beat the greedy caption of their image (plain self-critical training).

    Args:
        reward: (B, S) of the samples.
        greedy_reward: (B, 1) or (B,) of the greedy captions.
    """
    return reward - greedy_reward.view(-1, 1)


def other_samples_advantage(reward: Tensor) -> Tensor:
    """Return by how much each sample beats the mean of the image's others (new self-critical training), (B, S).

    Raises:
        ValueError: there is only one sample per image.
    """
    S = reward.shape[1]
    if S < 2:
        raise ValueError(f"new self-critical training must have at least 2 samples per image, got {S}")
    return reward - (reward.sum(1, keepdim=True) - reward) / (S - 1)


def self_critical_loss(log_prob: Tensor, tokens: Tensor, advantage: Tensor, count: Tensor | None = None) -> Tensor:
    """Return the loss whose gradient makes samples likelier that beat their baseline.

    Every word of a sample and the 0 that ends it count alike: −Σ log p · advantage / number of them in the batch.

    Args:
        log_prob: (B, S, T) of the drawn words.
        tokens: (B, S, T) int64, the drawn words.
        advantage: (B, S); no gradient flows through it.
        count: number of words and ends in the joint batch that these are part of; None for their own.
    """
    mask = said_mask(tokens)
    weighted = log_prob * advantage.detach().to(log_prob.dtype)[..., None]
    return -weighted.where(mask, 0.0).sum() / (mask.sum() if count is None else count)
