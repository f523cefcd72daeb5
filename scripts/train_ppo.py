"""Trains stable-baselines3's PPO in the demo world and compares it with chance: ``python scripts/train_ppo.py``.

The agent is shown the goal (``GoalInObservation``): this is point-goal navigation, not instruction following, and its
success rate must not be read beside a follower's. A policy of a few thousand steps cannot learn words; what the
script shows is that a third-party learner runs on these environments and learns. Its policy scores every action by
the same small network and rules padding out, the shape that suits padded candidates. It needs the extra ``ppo``.
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
import tyro
from torch import Tensor, nn

import vln_clip.envs  # noqa: F401  registers the ids
from vln_clip import log
from vln_clip.envs.gym import STOP, GoalInObservation, VectorGoalInObservation
from vln_clip.errors import InputError

try:
    from stable_baselines3 import PPO
    from stable_baselines3.common.policies import ActorCriticPolicy
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor
except ImportError:
    raise SystemExit("scripts/train_ppo.py needs stable-baselines3; install it with: pip install -e '.[ppo]'") from None

ENV_ID = "vln_clip/Demo-v0"
SEEN = ("action_mask", "candidate_angles", "goal_angles", "goal_distance_m")
WIDTH = 4 + 4 + 1 + 1 + 1  # of one action: its angles, the goal's, distance, is it stop, is it real
DISTANCE_UNIT_M = 10.0
Choose = Callable[[dict[str, np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class PpoConfig:
    """Train PPO on point goals in the demo world and evaluate it on houses that it has not seen."""

    steps: int = 16_384
    """decisions to learn from"""
    num_envs: int = 16
    """environments side by side while training"""
    max_steps: int = 15
    """decisions per episode"""
    split: str = "val_unseen"
    """split to evaluate on"""
    data: Path | None = None
    """folder of a demo world; by default the generated one"""
    seed: int = 0
    """of weights, exploration and episodes"""


class PerAction(BaseFeaturesExtractor):
    """Lines observations up with the actions: (B, A * WIDTH)."""

    def __init__(self, space: gymnasium.spaces.Dict) -> None:
        self.num_actions = space["candidate_angles"].shape[0]
        super().__init__(space, self.num_actions * WIDTH)

    def forward(self, seen: dict[str, Tensor]) -> Tensor:
        """Return one row of numbers per action, flattened."""
        B, A, _ = seen["candidate_angles"].shape
        is_stop = torch.zeros(B, A, 1)
        is_stop[:, STOP] = 1
        distance = (seen["goal_distance_m"] / DISTANCE_UNIT_M)[:, None].expand(B, A, 1)
        goal = seen["goal_angles"][:, None].expand(B, A, 4)
        rows = [seen["candidate_angles"], goal, distance, is_stop, seen["action_mask"][..., None]]
        return torch.cat(rows, -1).flatten(1)


class PerActionScores(nn.Module):
    """Scores each action by one network (B, A); the value sees the mean and the maximum over actions (B, 128)."""

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.num_actions, self.latent_dim_pi, self.latent_dim_vf = num_actions, num_actions, 128
        self.score = nn.Sequential(nn.Linear(WIDTH, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
        self.value = nn.Sequential(nn.Linear(WIDTH, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return what action and value heads take."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        """Return scores, (B, A), with padding ruled out."""
        rows = features.unflatten(1, (self.num_actions, WIDTH))
        return self.score(rows)[..., 0].masked_fill(rows[..., -1] == 0, -1e8)

    def forward_critic(self, features: Tensor) -> Tensor:
        """Return (B, 128)."""
        hidden = self.value(features.unflatten(1, (self.num_actions, WIDTH)))
        return torch.cat([hidden.mean(1), hidden.amax(1)], -1)


class PerActionPolicy(ActorCriticPolicy):
    """stable-baselines3's policy around ``PerActionScores``, whose scores are the logits."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, features_extractor_class=PerAction, **kwargs)

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = PerActionScores(self.action_space.n)

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = nn.Identity()
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)


def make_env(config: PpoConfig) -> gymnasium.Env:
    """Make one environment to train in."""
    env = gymnasium.make(ENV_ID, split="train", data=config.data, max_steps=config.max_steps)
    return gymnasium.wrappers.FilterObservation(GoalInObservation(env), SEEN)


def train(config: PpoConfig) -> PPO:
    """Train on the reward of the environment, EnvDrop's."""
    envs = VecMonitor(DummyVecEnv([partial(make_env, config)] * config.num_envs))
    model = PPO(
        PerActionPolicy,
        envs,
        learning_rate=2e-3,
        n_steps=128,
        batch_size=256,
        n_epochs=6,
        gamma=0.9,
        ent_coef=0.01,
        seed=config.seed,
        device="cpu",
    )
    return model.learn(config.steps)


def success_rate(config: PpoConfig, choose: Choose) -> tuple[float, int]:
    """Let a policy walk every path of the split once, all at the same time; return the rate and their number."""
    arguments = {"split": config.split, "data": config.data, "max_steps": config.max_steps}
    ids = [name for name in gymnasium.make(ENV_ID, **arguments).unwrapped.instr_ids if name.endswith("_0")]
    envs = VectorGoalInObservation(gymnasium.make_vec(ENV_ID, num_envs=len(ids), **arguments))
    seen, _ = envs.reset(options={"episode": ids})
    success, going = np.zeros(len(ids), dtype=bool), np.ones(len(ids), dtype=bool)
    while going.any():
        seen, _, terminated, truncated, infos = envs.step(choose(seen))
        success |= going & infos["success"]
        going &= ~(terminated | truncated)
    return float(success.mean()), len(ids)


def random_policy(seed: int) -> Choose:
    """Return the policy that draws evenly from stop and the real candidates."""
    rng = np.random.default_rng(seed)
    return lambda seen: np.where(seen["action_mask"] == 1, rng.random(seen["action_mask"].shape), -1).argmax(1)


def main(argv: list[str] | None = None) -> None:
    """Train, evaluate, print both success rates with 95 % intervals."""
    config = tyro.cli(PpoConfig, args=argv, prog="python scripts/train_ppo.py")
    if config.steps < 128 * config.num_envs:
        raise InputError(f"--steps must be at least 128 * num_envs = {128 * config.num_envs}, got {config.steps}")
    chance, number = success_rate(config, random_policy(config.seed))
    began_s = time.monotonic()
    model = train(config)
    elapsed_s = time.monotonic() - began_s
    print(f"trained {model.num_timesteps} decisions in {elapsed_s:.0f} s, goal in the observation (point goals)")
    learned, _ = success_rate(
        config, lambda seen: model.predict({key: seen[key] for key in SEEN}, deterministic=True)[0]
    )
    for name, rate in (("random", chance), ("ppo", learned)):
        margin = 1.96 * math.sqrt(rate * (1 - rate) / number)
        print(f"{name:<8}{100 * rate:5.1f} ± {100 * margin:.1f} % success on {number} paths of {config.split}")


if __name__ == "__main__":
    log.program(main, sys.argv[1:])
