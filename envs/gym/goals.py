"""Wrappers that show the goal: for studies of goal-conditioned walking, where the instruction is not the task."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from vln_clip.envs.gym.rewards import require_goals
from vln_clip.errors import InputError
from vln_clip.records import HEADING_STEP_RAD, NUM_HEADINGS

KEYS = ("goal", "goal_angles", "goal_distance_m")


class GoalInObservation(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Adds where the goal is; an agent that sees it does not follow instructions, and its scores must say so.

    * ``goal``: its viewpoint index.
    * ``goal_angles``: (4,) float32, sine and cosine of the heading relative to the agent's and of the elevation; where
      the agent stands on the goal, those of straight ahead.
    * ``goal_distance_m``: (1,) float32, as the crow flies.

    Args:
        env: an environment of this package with the usual observation; its episodes must have goals.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self.observation_space = _with_goal(env, env.observation_space)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, with the goal."""
        observation, info = self.env.reset(seed=seed, options=options)
        return observation | self._goal(observation, info), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, with the goal."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation | self._goal(observation, info), reward, terminated, truncated, info

    def _goal(self, observation: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
        columns = (np.array([observation["viewpoint"]]), np.array([observation["view"]]), np.array([info["goal"]]))
        return {name: value[0] for name, value in _goal_parts(self.env, *columns).items()}


class VectorGoalInObservation(VectorWrapper):
    """Adds where the goals are to the vector environment, ``final_obs`` included; see ``GoalInObservation``."""

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        self.single_observation_space = _with_goal(env, env.single_observation_space)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset, with the goals."""
        observations, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        return observations | self._goals(observations), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step, with the goals."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        if "final_obs" in infos:
            ended = np.flatnonzero(infos["_final_obs"])
            final = infos["final_obs"][ended]
            viewpoint, view = (np.array([part[key] for part in final]) for key in ("viewpoint", "view"))
            parts = _goal_parts(self.env, viewpoint, view, infos["final_info"]["goal"][ended])
            for k, observation in enumerate(final):
                observation |= {name: value[k] for name, value in parts.items()}
        return observations | self._goals(observations), rewards, terminations, truncations, infos

    def _goals(self, observations: dict[str, Any]) -> dict[str, Any]:
        # Not from infos: after a partial reset those of the other environments are empty.
        walkers = self.env.unwrapped.walkers  # type: ignore[attr-defined]
        goal = walkers.table.goal[walkers.row].numpy()
        return _goal_parts(self.env, observations["viewpoint"], observations["view"], goal)


def _goal_parts(env: Any, viewpoint: np.ndarray, view: np.ndarray, goal: np.ndarray) -> dict[str, np.ndarray]:
    """Return the parts of B observations; viewpoint, view and goal are (B,)."""
    position = env.unwrapped.source.tables.position
    x, y, z = (position[goal] - position[viewpoint]).T
    flat = np.hypot(x, y)
    heading = np.arctan2(x, y) - (view % NUM_HEADINGS) * HEADING_STEP_RAD
    elevation = np.arctan2(z, flat)
    heading = np.where(viewpoint == goal, 0.0, heading)
    angles = (np.sin(heading), np.cos(heading), np.sin(elevation), np.cos(elevation))
    return {
        "goal": goal.astype(np.int64),
        "goal_angles": np.stack(angles, -1).astype(np.float32),
        "goal_distance_m": np.hypot(flat, z)[:, None].astype(np.float32),
    }


def _with_goal(env: Any, space: gymnasium.Space[Any]) -> spaces.Dict:
    """Return the space of one observation with the goal."""
    require_goals(env, "a goal in the observation")
    if not isinstance(space, spaces.Dict) or "viewpoint" not in space.spaces or "view" not in space.spaces:
        raise InputError(f"the goal must be added before observations are flattened or filtered, got {space}")
    position = env.unwrapped.source.tables.position
    # No two viewpoints are farther apart than the corners of a box around all of them.
    widest_m = np.nextafter(np.float32(np.linalg.norm(np.ptp(position, axis=0))), np.float32(np.inf))
    return spaces.Dict(
        {
            **space.spaces,
            "goal": spaces.Discrete(len(position)),
            "goal_angles": spaces.Box(-1.0, 1.0, (4,), np.float32),
            "goal_distance_m": spaces.Box(0.0, float(widest_m), (1,), np.float32),
        }
    )
