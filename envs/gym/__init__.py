"""Gymnasium environments of instruction following: ``vln_clip/R2R-v0`` and ``vln_clip/Demo-v0``.

Arguments (``options``), opened data (``source``), order of the episodes (``order``), the batched world both kinds of
environment step (``walkers``), spaces (``spaces``), one episode (``single``), many at once (``vector``), rewards and
goals as wrappers (``rewards``, ``goals``), pictures and text (``picture``, ``window``).
"""

from vln_clip.envs.gym.goals import GoalInObservation, VectorGoalInObservation
from vln_clip.envs.gym.options import Options
from vln_clip.envs.gym.rewards import RULES, Transition, VectorWithReward, WithReward
from vln_clip.envs.gym.single import WalkEnv
from vln_clip.envs.gym.vector import WalkVectorEnv
from vln_clip.envs.gym.walkers import STOP

__all__ = [
    "RULES",
    "STOP",
    "GoalInObservation",
    "Options",
    "Transition",
    "VectorGoalInObservation",
    "VectorWithReward",
    "WalkEnv",
    "WalkVectorEnv",
    "WithReward",
]
