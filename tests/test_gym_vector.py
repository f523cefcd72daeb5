"""The vector environment against gymnasium's loop over single ones, step by step."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tests.gym_world import OPTIONS, arguments, same
from vln_clip.envs.gym import VectorGoalInObservation, VectorWithReward, WalkVectorEnv, WithReward
from vln_clip.envs.gym.goals import GoalInObservation
from vln_clip.errors import InputError


def pair(worlds, name="indices", num_envs=3, mode=AutoresetMode.NEXT_STEP, wrap=None, wrap_many=None, **more):
    """Return the batched environment and a loop over as many single ones."""
    env_id, chosen = arguments(name, worlds)
    ours = gymnasium.make_vec(env_id, num_envs=num_envs, autoreset_mode=mode, **chosen, **more)
    assert isinstance(ours.unwrapped, WalkVectorEnv)

    def one():
        env = gymnasium.make(env_id, **chosen, **more)
        return wrap(env) if wrap else env

    loop = SyncVectorEnv([one] * num_envs, autoreset_mode=mode)
    return (wrap_many(ours) if wrap_many else ours), loop


def walk_both(ours, loop, num_steps=60, seed=5, stop_share=0.2):
    """Drive both with the same random actions, real, padded and stop; compare everything."""
    rng = np.random.default_rng(seed)
    same(ours.reset(seed=seed), loop.reset(seed=seed), "reset")
    ends = np.zeros(2, dtype=int)
    mode, ended = ours.metadata["autoreset_mode"], None
    for step in range(num_steps):
        if mode is AutoresetMode.DISABLED and ended is not None and ended.any():
            options = [{"reset_mask": ended.copy()}, {"reset_mask": ended.copy()}]
            same(ours.reset(options=options[0]), loop.reset(options=options[1]), f"reset in step {step}")
        actions = rng.integers(1, ours.single_action_space.n, size=ours.num_envs)
        actions[rng.random(ours.num_envs) < stop_share] = 0
        got, wanted = ours.step(actions.copy()), loop.step(actions.copy())
        same(got, wanted, f"step {step}")
        assert ours.observation_space.contains(got[0])
        ends += [got[2].sum(), got[3].sum()]
        ended = got[2] | got[3]
    assert ends.min() > 0, ends  # both kinds of end were met


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("name", OPTIONS)
def test_the_vector_environment_equals_single_ones_step_by_step(worlds, name, mode):
    ours, loop = pair(worlds, name, mode=mode, max_steps=4)
    assert ours.metadata["autoreset_mode"] is mode
    assert ours.single_observation_space == loop.single_observation_space
    assert ours.observation_space == loop.observation_space
    assert ours.action_space == loop.action_space
    walk_both(ours, loop, num_steps=24 if name == "rgb" else 60)


def test_splits_without_goals_are_equal_too(worlds):
    ours, loop = pair(worlds, split="test", max_steps=4, mode=AutoresetMode.SAME_STEP)
    walk_both(ours, loop)
    assert not ours.step(np.zeros(3, dtype=int))[1].any()


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("rule", ["envdrop", "success", "spl", "distance", lambda done: 1 + done.after_m])
def test_rewards_are_equal_in_every_autoreset_mode(worlds, rule, mode):
    ours, loop = pair(
        worlds,
        mode=mode,
        max_steps=3,
        wrap=lambda env: WithReward(env, rule),
        wrap_many=lambda env: VectorWithReward(env, rule),
    )
    walk_both(ours, loop)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_goals_in_observations_are_equal(worlds, mode):
    ours, loop = pair(worlds, mode=mode, max_steps=4, wrap=GoalInObservation, wrap_many=VectorGoalInObservation)
    assert ours.observation_space == loop.observation_space
    walk_both(ours, loop)


def test_one_environment_and_many_are_the_same_form(worlds):
    walk_both(*pair(worlds, num_envs=1, max_steps=4))
    ours, loop = pair(worlds, num_envs=70, max_steps=4)  # more environments than episodes
    walk_both(ours, loop, num_steps=12)


def test_no_array_is_handed_out_twice_or_tied_to_the_state(worlds):
    env_id, chosen = arguments("indices", worlds)
    spoiled, clean = (gymnasium.make_vec(env_id, num_envs=4, max_steps=4, **chosen) for _ in range(2))
    rng = np.random.default_rng(0)
    results = [spoiled.reset(seed=1), clean.reset(seed=1)]
    for _ in range(20):
        same(*results)
        spoil(results[0])
        actions = rng.integers(0, 4, size=4)
        results = [spoiled.step(actions.copy()), clean.step(actions.copy())]


def spoil(value):
    """Overwrite every array of a result."""
    if isinstance(value, dict):
        for part in value.values():
            spoil(part)
    elif isinstance(value, tuple):
        for part in value:
            spoil(part)
    elif isinstance(value, np.ndarray) and value.dtype != object:
        value[...] = 1


def test_the_same_seed_gives_the_same_episodes_and_seeds_go_on(worlds):
    env_id, chosen = arguments("indices", worlds)
    env = gymnasium.make_vec(env_id, num_envs=3, **chosen)
    _, first = env.reset(seed=7)
    _, following = env.reset()
    assert list(env.reset(seed=7)[1]["instr_id"]) == list(first["instr_id"])
    assert list(env.reset()[1]["instr_id"]) == list(following["instr_id"])
    # A list gives each its own; environment 1 of seed 7 has seed 8.
    assert list(env.reset(seed=[8, 7, 7])[1]["instr_id"]) == [first["instr_id"][i] for i in (1, 0, 0)]
    _, unseeded = gymnasium.make_vec(env_id, num_envs=69, **chosen).reset()
    assert len(set(unseeded["instr_id"])) > 10  # without a seed they differ from one another


def test_episodes_can_be_picked(worlds):
    env_id, chosen = arguments("indices", worlds)
    env = gymnasium.make_vec(env_id, num_envs=3, **chosen)
    ids = env.unwrapped.instr_ids
    assert list(env.reset(options={"episode": ids[:3]})[1]["instr_id"]) == ids[:3]
    assert list(env.reset(options={"episode": ids[5]})[1]["instr_id"]) == [ids[5]] * 3
    mask = np.array([False, True, False])
    _, infos = env.reset(options={"episode": ids[:3], "reset_mask": mask})
    assert list(infos["instr_id"]) == [None, ids[1], None]
    assert infos["_instr_id"].tolist() == mask.tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda env: env.reset(options={"episode": ["100_0"]}), r"must be an instr_id or 2 of them, got 1"),
        (lambda env: env.reset(options={"epsiode": "100_0"}), "did you mean 'episode'"),
        (lambda env: env.reset(options={"reset_mask": np.zeros(2, bool)}), "2 booleans with at least one True"),
        (lambda env: env.reset(seed=[1]), "a list of 2, got 1 seeds"),
        (lambda env: env.step(np.zeros(2, int)), r"reset\(\) must come before step\(\)"),
        (lambda env: (env.reset(), env.step(np.array([0, 4]))), "actions must be in"),
        (lambda env: (env.reset(), env.step(np.array([0.0, 1.0]))), "actions must be in"),
        (lambda env: (env.reset(), env.step(np.array([0]))), "actions must be in"),
    ],
)
def test_wrong_calls_are_told(worlds, call, message):
    env_id, chosen = arguments("indices", worlds)
    with pytest.raises(InputError, match=message):
        call(gymnasium.make_vec(env_id, num_envs=2, **chosen))


def test_ended_episodes_must_be_reset_where_autoreset_is_disabled(worlds):
    env_id, chosen = arguments("indices", worlds)
    env = gymnasium.make_vec(env_id, num_envs=2, autoreset_mode="Disabled", **chosen)
    env.reset(seed=0)
    env.step(np.array([0, 1]))
    with pytest.raises(InputError, match="1 episodes have ended; reset them"):
        env.step(np.array([1, 1]))
    env.reset(options={"reset_mask": np.array([True, False])})
    env.step(np.array([1, 1]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"autoreset_mode": "same"}, "autoreset_mode must be one of NextStep, SameStep, Disabled, got 'same'"),
        ({"render_mode": "human"}, "render_mode of a vector environment must be one of rgb_array, ansi"),
        ({"num_envs": 0}, "num_envs must be a whole number of at least 1, got 0"),
        ({"num_envs": 2.5}, "num_envs must be a whole number of at least 1, got 2.5"),
    ],
)
def test_wrong_arguments_are_told(worlds, wrong, message):
    env_id, chosen = arguments("indices", worlds)
    with pytest.raises(InputError, match=message):
        gymnasium.make_vec(env_id, **{"num_envs": 2, **chosen, **wrong})


@pytest.mark.parametrize("mode", ["rgb_array", "ansi"])
def test_every_environment_is_rendered(worlds, mode):
    env_id, chosen = arguments("indices", worlds)
    env = gymnasium.make_vec(env_id, num_envs=2, render_mode=mode, **chosen)
    env.reset(options={"episode": ["100_0", "110_1"]})
    one = gymnasium.make(env_id, render_mode=mode, **chosen)
    for drawn, instr_id in zip(env.render(), ("100_0", "110_1"), strict=True):
        one.reset(options={"episode": instr_id})
        same(drawn, one.render())
