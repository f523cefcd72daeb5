"""Losses as pure functions of recorded decisions (specification §5.2, §6.2)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def imitation_loss(teacher_log_prob: Tensor, mask: Tensor, batch_size: int | None = None) -> Tensor:
    """Sum the cross entropy over steps and divide by the batch size.

    Args:
        teacher_log_prob: (T, B) log-probability of the teacher's actions.
        mask: (T, B) bool, True where a decision was taken.
        batch_size: of the joint batch that these episodes are part of; None for B.

    Returns:
        Scalar.
    """
    return -(teacher_log_prob * mask).sum() / (batch_size or mask.shape[1])


def discounted_returns(reward: Tensor, mask: Tensor, bootstrap: Tensor, gamma: float) -> Tensor:
    """Return R_t = r_t + γ R_{t+1}, starting from ``bootstrap``.

    Args:
        reward: (T, B) float; counted where ``mask`` is True.
        mask: (T, B) bool.
        bootstrap: (B,) value of the final observation for unfinished episodes, else 0.
        gamma: discount per step.

    Returns:
        (T, B) float.
    """
    returns = torch.empty_like(reward)
    following = bootstrap
    for t in reversed(range(len(reward))):
        following = gamma * following + reward[t] * mask[t]
        returns[t] = following
    return returns


@dataclass(frozen=True, eq=False)
class ActorCriticLoss:
    """The loss, a scalar to differentiate, and what it is the sum of, detached: for people to look at.

    Attributes:
        total: the loss.
        policy: what makes better actions likelier.
        value: weighted squared error of the critic.
        entropy: weighted entropy bonus, 0 or negative.
    """

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor


def actor_critic_loss(
    action_log_prob: Tensor,
    entropy: Tensor,
    value: Tensor,
    reward: Tensor,
    mask: Tensor,
    bootstrap: Tensor,
    *,
    gamma: float = 0.9,
    entropy_weight: float = 0.01,
    value_weight: float = 0.5,
    normalize: str = "total",
    decisions: Tensor | None = None,
    batch_size: int | None = None,
) -> ActorCriticLoss:
    """Return EnvDrop's advantage actor-critic loss; value gradients reach decoder and encoder.

    Args:
        action_log_prob: (T, B) of the sampled actions.
        entropy: (T, B) of the policy.
        value: (T, B) critic estimates.
        reward: (T, B).
        mask: (T, B) bool, True where a decision was taken.
        bootstrap: (B,) detached value of the final observation for unfinished episodes, else 0.
        gamma: discount.
        entropy_weight: weight of the entropy bonus.
        value_weight: weight of the squared error of the critic.
        normalize: divide by the number of decisions (``total``), by the batch size (``batch``), or not (``none``).
        decisions: number of them in the joint batch that these episodes are part of; None for ``mask.sum()``.
        batch_size: of the joint batch; None for B.
    """
    returns = discounted_returns(reward, mask, bootstrap, gamma)
    advantage = (returns - value).detach()
    policy, critic = -action_log_prob * advantage, value_weight * (returns - value) ** 2
    bonus = entropy_weight * entropy
    divisors: dict[str, int | Tensor] = {
        "total": mask.sum() if decisions is None else decisions,
        "batch": batch_size or mask.shape[1],
        "none": 1,
    }
    divisor = divisors[normalize]
    parts = (torch.stack([policy, critic, -bonus]).detach() * mask).sum((1, 2)) / divisor
    return ActorCriticLoss(((policy + critic - bonus) * mask).sum() / divisor, parts[0], parts[1], parts[2])


def num_words(tokens: Tensor) -> Tensor:
    """Return how many words of tokens (B, L) are to be said: all but the first of each row and padding."""
    return (tokens[:, 1:] != 0).sum()


def word_loss(logits: Tensor, tokens: Tensor, count: Tensor | None = None) -> Tensor:
    """Return the mean cross entropy of the next words over non-padding positions.

    Args:
        logits: (B, L, W) for the word after each position.
        tokens: (B, L) int64, padded with 0.
        count: number of words in the joint batch that these rows are part of; None for their own.
    """
    said, target = logits[:, :-1].flatten(0, 1), tokens[:, 1 : logits.shape[1]].flatten()
    total = F.cross_entropy(said, target, ignore_index=0, reduction="sum")
    return total / (num_words(tokens) if count is None else count)
