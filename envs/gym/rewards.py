"""What a decision led to, and the rewards computed from it. A wrapper replaces the environment's own reward.

A rule is a function of a ``Transition``; the same rule serves one environment and many at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper

from vln_clip.errors import InputError, unknown_name
from vln_clip.records import SUCCESS_RADIUS_M
from vln_clip.tasks.metrics import SHORTEST_LENGTH_M

STOP_REWARD, PROGRESS_REWARD = 2.0, 1.0


@dataclass(frozen=True, eq=False)
class Transition:
    """One decision of B walkers. Privileged: distances are known only where the goal is.

    Attributes:
        acted: (B,) bool, False where an environment was reset instead; rewards are 0 there.
        stopped: (B,) bool, the walker ended the episode.
        before_m: (B,) float64 distance to the goal before the decision.
        after_m: (B,) float64 and after it.
        path_length_m: (B,) float64 walked so far.
        shortest_m: (B,) float64 from the start to the goal.
    """

    acted: np.ndarray
    stopped: np.ndarray
    before_m: np.ndarray
    after_m: np.ndarray
    path_length_m: np.ndarray
    shortest_m: np.ndarray

    @property
    def success(self) -> np.ndarray:
        """Return where a walker stopped less than 3 m from its goal, (B,) bool."""
        return self.stopped & (self.after_m < SUCCESS_RADIUS_M)


Rule = Callable[[Transition], np.ndarray]


def stop_part(done: Transition) -> np.ndarray:
    """Return +2 for stopping within 3 m of the goal, -2 for stopping elsewhere, (B,)."""
    return np.where(done.stopped, np.where(done.success, STOP_REWARD, -STOP_REWARD), 0.0)


def progress_part(done: Transition) -> np.ndarray:
    """Return +1 for a move that shortens the way to the goal, -1 for one that lengthens it, (B,)."""
    return np.where(done.stopped, 0.0, PROGRESS_REWARD * np.sign(done.before_m - done.after_m))


def envdrop(done: Transition) -> np.ndarray:
    """Return the default reward, EnvDrop's: progress while walking, success at stop."""
    return stop_part(done) + progress_part(done)


def success(done: Transition) -> np.ndarray:
    """Return 1 for a successful stop, else 0."""
    return done.success.astype(np.float64)


def spl(done: Transition) -> np.ndarray:
    """Return success weighted by path length at a successful stop, else 0; its sum over an episode is SPL."""
    longest = np.maximum(np.maximum(done.shortest_m, done.path_length_m), SHORTEST_LENGTH_M)
    return done.success * done.shortest_m / longest


def distance(done: Transition) -> np.ndarray:
    """Return the meters by which the way to the goal became shorter; over an episode, start minus end."""
    return done.before_m - done.after_m


RULES: dict[str, Rule] = {"envdrop": envdrop, "success": success, "spl": spl, "distance": distance}


class WithReward(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Replaces the reward of a single environment.

    Args:
        env: an environment of this package, wrapped or not; its episodes must have goals.
        rule: a name of ``RULES`` or a function of a ``Transition`` with B = 1.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], rule: str | Rule) -> None:
        RecordConstructorArgs.__init__(self, rule=rule)
        super().__init__(env)
        self.rule = _rule(env, rule)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step, with the reward of the rule."""
        observation, _, terminated, truncated, info = self.env.step(action)
        reward = float(_reward(self.rule, self.env.unwrapped)[0])
        return observation, reward, terminated, truncated, info


class VectorWithReward(VectorWrapper):
    """Replaces the reward of the vector environment; arguments as for ``WithReward``, any autoreset mode."""

    def __init__(self, env: VectorEnv[Any, Any, Any], rule: str | Rule) -> None:
        super().__init__(env)
        self.rule = _rule(env, rule)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all, with the reward of the rule; 0 where an environment was reset instead."""
        observations, _, terminations, truncations, infos = self.env.step(actions)
        return observations, _reward(self.rule, self.env.unwrapped), terminations, truncations, infos


def _reward(rule: Rule, env: Any) -> np.ndarray:
    """Return the rule's rewards of the last step, (B,) float64."""
    done: Transition = env.transition
    return np.where(done.acted, rule(done), 0.0)


def _rule(env: Any, rule: str | Rule) -> Rule:
    """Return the rule of a name, after checking that the environment can say how a decision went."""
    require_goals(env, "a reward")
    if callable(rule):
        return rule
    if rule not in RULES:
        raise unknown_name("rule", rule, RULES)
    return RULES[rule]


def require_goals(env: Any, what: str) -> None:
    """Raise ``InputError`` unless an environment of this package with known goals is inside."""
    has_goals = getattr(env.unwrapped, "has_goals", None)
    if has_goals is None:
        raise InputError(f"{what} needs an environment of vln_clip, got {env.unwrapped}; wrap each one before batching")
    if not has_goals:
        raise InputError(f"{what} needs goals, but the split {env.unwrapped.options.split!r} hides them; take another")
