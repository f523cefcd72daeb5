"""The EnvDrop recipe (Tan et al. 2019): what one iteration of follower, speaker and back-translation does.

Each class takes one optimizer step per call and returns numbers to log. Backward runs per rollout: gradients
add up to those of the summed loss, and only one rollout's graph is alive at a time. Of several ranks each takes
its rows of the joint batch; the gradients of all are summed before the step.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vln_clip.agents.follower import Follower
from vln_clip.agents.speaker import Speaker, as_instruction
from vln_clip.config import FollowerConfig
from vln_clip.divergence import Watch
from vln_clip.dropout import dropout
from vln_clip.envs.episodes import EpisodeTable
from vln_clip.envs.fidelity import fidelity_reward
from vln_clip.envs.navigation import Navigation
from vln_clip.losses import actor_critic_loss, imitation_loss, num_words, word_loss
from vln_clip.ranks import ALONE, Ranks, fetch
from vln_clip.records import Batch
from vln_clip.rollout import Rollout, roll_out, sampled, teacher_forced
from vln_clip.sampler import ShuffledSampler


@dataclass
class FollowerLearner:
    """Imitation on one mini-batch, actor-critic on the next, one step.

    Attributes:
        world: with the features that the follower sees.
        follower: the model.
        optimizer: of the follower.
        table: labelled episodes.
        sampler: of their rows.
        config: constants.
        generator: source of dropout and sampling.
        ml_weight: weight of imitation beside reinforcement.
        watch: looks at losses and gradients before the step is taken, and stops it where they diverge.
        ranks: who learn together, with one and the same sampler each, but generators of their own.
        joint_generator: draws what all ranks must have the same; None where one is alone: then ``generator`` does.
    """

    world: Navigation
    follower: Follower
    optimizer: torch.optim.Optimizer
    table: EpisodeTable
    sampler: ShuffledSampler
    config: FollowerConfig
    generator: torch.Generator
    ml_weight: float
    watch: Watch = field(default_factory=Watch)
    ranks: Ranks = ALONE
    joint_generator: torch.Generator | None = None

    def __call__(self) -> dict[str, float]:
        """Take one optimizer step."""
        self.optimizer.zero_grad(set_to_none=True)
        numbers = self.accumulate()
        return numbers | self.update()

    def accumulate(self) -> dict[str, float]:
        """Add the gradients of real data."""
        if self.config.feedback == "teacher":
            return self.imitate(self._draw(), self.config.teacher_weight)
        numbers: dict[str, float] = {}
        if self.ml_weight:
            numbers |= self.imitate(self._draw(), self.ml_weight)
        return numbers | self.reinforce(self._draw())

    def imitate(self, batch: Batch, weight: float, noise: Tensor | None = None) -> dict[str, float]:
        """Add the gradients of a teacher-forced rollout."""
        record = self._roll_out(batch, noise, sample=False)
        loss = weight * imitation_loss(record.teacher_log_prob, record.mask, batch.size)
        loss.backward()
        return self.watch.checked(fetch({"loss/imitation": loss}, self.ranks))

    def reinforce(self, batch: Batch, noise: Tensor | None = None) -> dict[str, float]:
        """Add the gradients of a sampled rollout."""
        record = self._roll_out(batch, noise, sample=True)
        critic = self.follower.critic
        value = torch.zeros_like(record.entropy).masked_scatter(record.mask, critic(record.hidden, self.generator))
        bootstrap = torch.zeros(len(batch.goal), device=value.device)
        if record.last_hidden is not None:
            bootstrap[record.unfinished] = critic(record.last_hidden, self.generator).detach()
        assert record.distance_m is not None
        c = self.config
        if c.reward == "ndtw":
            assert batch.guide is not None, "a path to be true to"
            reward = fidelity_reward(self.world, record, batch.guide)
        else:
            reward = self.world.reward(record.distance_m[:-1], record.distance_m[1:], record.stopped)
        decisions = self.ranks.sum(record.mask.sum())
        loss = actor_critic_loss(
            record.action_log_prob,
            record.entropy,
            value,
            reward,
            record.mask,
            bootstrap,
            gamma=c.gamma,
            entropy_weight=c.entropy_weight,
            value_weight=c.value_weight,
            normalize=c.normalize,
            decisions=decisions,
            batch_size=batch.size,
        )
        loss.total.backward()
        numbers = {
            "loss/reinforcement": loss.total,  # the sum of the next three
            "loss/policy": loss.policy,
            "loss/value": loss.value,
            "loss/entropy": loss.entropy,
            "rollout/entropy_nat": (record.entropy * record.mask).sum() / decisions,
            "rollout/reward": (reward * record.mask).sum() / batch.size,
            "rollout/steps": record.mask.sum() / batch.size,
        }
        return self.watch.checked(fetch(numbers, self.ranks))

    def update(self) -> dict[str, float]:
        """Clip encoder and decoder, each by itself, and step; the critic is not clipped (P10)."""
        self.ranks.sum_gradients(self.follower)
        norms = clip_each(self.follower, ("encoder", "decoder"), self.config.clip_norm)
        critic = [p.grad.norm() for p in self.follower.critic.parameters() if p.grad is not None]
        if critic:  # imitation alone teaches it nothing
            norms[norm_name("critic")] = torch.stack(critic).norm()
        found = self.watch.checked_norms(fetch(norms))  # before weights are touched: the step can be repeated
        self.optimizer.step()
        return found

    def _draw(self) -> Batch:
        """Draw this rank's rows of the next joint batch."""
        batch = self.table.batch(self.sampler.next())
        return batch if self.ranks.world == 1 else batch.select(rows_of(batch, self.ranks))

    def _roll_out(self, batch: Batch, noise: Tensor | None, sample: bool) -> Rollout:
        return roll_out(
            self.world,
            self.follower,
            batch,
            sampled(self.generator) if sample else teacher_forced,
            self.config.max_action,
            generator=self.generator,
            noise=noise,
            teacher=None if sample else self.config.teacher,
            returns=sample,
        )


@dataclass
class BackTranslationLearner:
    """Real data as before, plus two rollouts on unlabelled paths that the speaker describes, one step.

    Attributes:
        real: learner on labelled data; its follower is trained.
        speaker: frozen.
        table: unlabelled paths.
        sampler: of their rows.
        aug_weight: weight of imitation on generated instructions.
        noise_p: probability of environment dropout.
        max_decode: most words of a generated instruction.
        tags: (G,) word that names each language of a multilingual speaker; each path gets one at random. None where
            there is one language.
        read: how the follower reads words of the speaker, where it has a text encoder: to ``Batch.tokens`` and lengths.
            None where it reads the same words.
    """

    real: FollowerLearner
    speaker: Speaker
    table: EpisodeTable
    sampler: ShuffledSampler
    aug_weight: float
    noise_p: float
    max_decode: int
    tags: Tensor | None = None
    read: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None

    def __call__(self) -> dict[str, float]:
        """Take one optimizer step."""
        self.real.optimizer.zero_grad(set_to_none=True)
        numbers = self.real.accumulate()
        noise = self.environment_noise()
        found = self.real.imitate(self.described(noise), self.aug_weight, noise)
        if self.real.config.feedback == "sample":
            noise = self.environment_noise()
            found |= self.real.reinforce(self.described(noise), noise)
        return numbers | {f"aug_{name}": value for name, value in found.items()} | self.real.update()

    def environment_noise(self) -> Tensor:
        """Draw environmental dropout (D,): one vector for a whole rollout (P11), of all ranks."""
        ones = torch.ones(self.real.world.bank.width, device=self.real.world.device)
        return dropout(ones, self.noise_p, self.real.joint_generator or self.real.generator)

    def described(self, noise: Tensor) -> Batch:
        """Draw paths and let the speaker describe them under the same noise that the follower will see."""
        joint, ranks = self.table.batch(self.sampler.next()), self.real.ranks
        rows, first = rows_of(joint, ranks), None
        if self.tags is not None:
            generator = self.real.joint_generator or self.real.generator
            drawn = torch.randint(len(self.tags), joint.length.shape, generator=generator, device=joint.length.device)
            first = self.tags[drawn][rows]
        words = self.speaker.describe(self.real.world.observe_walk(joint, rows), self.max_decode, noise, first)
        batch = joint.select(rows)
        batch.tokens, batch.length = as_instruction(words, self.speaker.bos) if self.read is None else self.read(words)
        padding = ranks.largest(batch.tokens.shape[1]) - batch.tokens.shape[1]
        width = (0, 0) * (batch.tokens.dim() - 2)  # states have one, tokens have none
        batch.tokens = torch.nn.functional.pad(batch.tokens, (*width, 0, padding))
        return batch


@dataclass
class SpeakerLearner:
    """Teacher forcing on one mini-batch, one step."""

    world: Navigation
    speaker: Speaker
    optimizer: torch.optim.Optimizer
    table: EpisodeTable
    sampler: ShuffledSampler
    clip_norm: float
    generator: torch.Generator
    watch: Watch = field(default_factory=Watch)
    ranks: Ranks = ALONE

    def __call__(self) -> dict[str, float]:
        """Take one optimizer step."""
        self.optimizer.zero_grad(set_to_none=True)
        joint = self.table.batch(self.sampler.next())
        rows = rows_of(joint, self.ranks)
        batch = joint.select(rows)
        logits = self.speaker(self.world.observe_walk(joint, rows), batch.tokens, batch.length, self.generator)
        loss = word_loss(logits, batch.tokens, num_words(joint.tokens))
        loss.backward()
        self.ranks.sum_gradients(self.speaker)
        losses = {"loss/word": self.ranks.sum(loss.detach())}
        found = fetch(losses | clip_each(self.speaker, ("encoder", "decoder"), self.clip_norm))
        self.watch.checked({"loss/word": found["loss/word"]})
        self.watch.checked_norms({name: value for name, value in found.items() if name != "loss/word"})
        self.optimizer.step()
        return found


def rows_of(joint: Batch, ranks: Ranks) -> Tensor:
    """Return which rows of a joint batch are this rank's, (b,) int64."""
    return ranks.share(torch.arange(len(joint.goal), device=joint.goal.device))


def clip_each(model: nn.Module, names: tuple[str, ...], norm: float) -> dict[str, Tensor]:
    """Clip the gradient norm of each named part by itself and return the norms before."""
    return {norm_name(name): nn.utils.clip_grad_norm_(model.get_submodule(name).parameters(), norm) for name in names}


def norm_name(part: str) -> str:
    """Return what the gradient norm of a part of a model, before clipping, is called."""
    return f"optimizer/{part}_gradient_norm"
