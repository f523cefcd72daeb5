"""Rewards and goals as wrappers around the gymnasium environments."""

import json
import math
import warnings

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

from tests.gym_world import arguments
from vln_clip.envs.gym import STOP, GoalInObservation, WithReward


def make(worlds, name="indices", **more):
    env_id, chosen = arguments(name, worlds)
    return gymnasium.make(env_id, **{**chosen, **more})


@pytest.mark.parametrize("wrap", [GoalInObservation, lambda env: WithReward(env, "spl")])
def test_wrapped_environments_pass_check_env(worlds, wrap):
    env = wrap(make(worlds))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="(?!.*different from the unwrapped version)")
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version")
        check_env(env, skip_render_check=True)
    assert gymnasium.make(env.spec, disable_env_checker=True).observation_space == env.observation_space


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [  # a1 -> a2 -> a1 -> a2, stop, goal a2: walked 7.5 m for 2.5 m; distances 2.5, 0, 2.5, 0, 0
        ("envdrop", [1, -1, 1, 2]),
        ("success", [0, 0, 0, 1]),
        ("spl", [0, 0, 0, 1 / 3]),
        ("distance", [2.5, -2.5, 2.5, 0]),
        (lambda done: done.path_length_m, [2.5, 5, 7.5, 7.5]),
    ],
)
def test_rewards_by_hand(worlds, tmp_path, rule, wanted):
    rows = json.loads((worlds[0] / "R2R" / "R2R_train.json").read_text())[:1]
    rows[0].update(path=["a1", "a2"], path_id=7)
    (tmp_path / "one.json").write_text(json.dumps(rows))
    env = WithReward(make(worlds, split=str(tmp_path / "one.json")), rule)
    env.reset(options={"episode": "7_0"})
    # a1's candidates are a2, a7, a0; a2's are a3, a4, a1.
    assert [env.step(action)[1] for action in (1, 3, 1, 0)] == pytest.approx(wanted)


def test_the_goal_is_shown_in_the_agent_s_frame(worlds):
    env = GoalInObservation(make(worlds))
    row = next(e for e in env.unwrapped.source.table.episodes if (e.start, e.goal) == ("a0", "a3"))
    observation, info = env.reset(options={"episode": row.instr_id})
    heading = -(int(observation["view"]) % 12) * math.pi / 6  # a3 is north of a0: 7.5 m, and 1.5 m up
    rise = math.atan2(1.5, 7.5)
    wanted = [math.sin(heading), math.cos(heading), math.sin(rise), math.cos(rise)]
    assert observation["goal"] == info["goal"]
    assert observation["goal_angles"] == pytest.approx(wanted, abs=1e-6)
    assert observation["goal_distance_m"] == pytest.approx([math.hypot(1.5, 7.5)])
    while info["teacher_action"] != STOP:
        observation, *_, info = env.step(info["teacher_action"])
    assert observation["view"] % 12 == 0  # looking north; the goal itself has no direction: ahead is said instead
    env.unwrapped.walkers.view[0] = 15
    observation, *_ = env.step(STOP)
    assert observation["goal_angles"].tolist() == [0, 1, 0, 1]
    assert observation["goal_distance_m"] == 0
