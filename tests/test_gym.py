"""The gymnasium environments: contract, episodes, what is seen and what is told, bad input."""

import itertools
import json
import subprocess
import sys
import warnings
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import load_env_creator
from gymnasium.utils.env_checker import check_env

from tests.gym_world import FEATURE_SHAPE, NUM_TOY_ACTIONS, NUM_TOY_VIEWPOINTS, OPTIONS, TINY, arguments, same
from vln_clip.envs.gym import GoalInObservation, WithReward
from vln_clip.envs.gym.order import shuffled_row
from vln_clip.envs.registration import IDS, register_envs
from vln_clip.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
PRIVILEGED = {"goal", "teacher_action", "distance_m", "shortest_m", "success", "reward_stop", "reward_progress"}


def make(worlds, name="indices", **more):
    env_id, chosen = arguments(name, worlds)
    return gymnasium.make(env_id, **{**chosen, **more})


def start(worlds, instr_id, **more):
    """Return a fresh environment at the start of an episode, with its first observation and info."""
    env = make(worlds, **more)
    return env, *env.reset(options={"episode": instr_id})


# Registration


def test_every_id_is_registered_for_one_and_for_many():
    for name, dataset in IDS.items():
        spec = gymnasium.spec(name)
        assert spec.kwargs == {"dataset": dataset}
        assert issubclass(load_env_creator(spec.entry_point), gymnasium.Env)
        assert issubclass(load_env_creator(spec.vector_entry_point), gymnasium.vector.VectorEnv)


def test_importing_envs_registers_once_quickly_and_silently():
    code = (
        "import sys, vln_clip.envs, gymnasium; assert 'vln_clip/R2R-v0' in gymnasium.registry; "
        "assert 'torch' not in sys.modules, 'torch was imported'; vln_clip.envs.register_envs()"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_ids_are_found_by_module_name_and_by_the_entry_point(worlds, monkeypatch):
    _, chosen = arguments("indices", worlds)
    for name in IDS:
        monkeypatch.delitem(gymnasium.registry, name)
    declared = [entry for entry in entry_points(group="gymnasium.envs") if entry.name == "vln_clip"]
    if declared:  # absent in a checkout that is not installed
        assert declared[0].load() is register_envs
    register_envs()
    assert gymnasium.make("vln_clip.envs:vln_clip/R2R-v0", **chosen).unwrapped.spec.id == "vln_clip/R2R-v0"


# Contract


@pytest.mark.parametrize("render_mode", [None, "rgb_array", "human", "ansi"])
@pytest.mark.parametrize("name", OPTIONS)
def test_check_env_is_clean(worlds, name, render_mode, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(worlds, name, render_mode=render_mode).unwrapped)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_observation_of_every_episode_is_in_the_space(worlds, name):
    env = make(worlds, name, max_steps=3)
    rng = np.random.default_rng(0)
    for instr_id in env.unwrapped.instr_ids:
        observation, _ = env.reset(options={"episode": instr_id})
        ended = False
        while not ended:
            assert env.observation_space.contains(observation)
            observation, _, terminated, truncated, _ = env.step(int(rng.integers(env.action_space.n)))
            ended = terminated or truncated
        assert env.observation_space.contains(observation)


@pytest.mark.parametrize("name", ["indices", "features", "rgb"])
def test_spaces_do_not_depend_on_the_split(worlds, name):
    spaces = [make(worlds, name, split=split) for split in ("train", "val_unseen", "test")]
    assert spaces[0].observation_space == spaces[1].observation_space == spaces[2].observation_space
    assert spaces[0].action_space == spaces[1].action_space == spaces[2].action_space


def test_the_declared_sizes_are_those_of_the_graphs(worlds):
    env = make(worlds)
    assert env.action_space == gymnasium.spaces.Discrete(NUM_TOY_ACTIONS)
    assert env.observation_space["viewpoint"].n == NUM_TOY_VIEWPOINTS == len(env.unwrapped.viewpoints)
    assert env.observation_space["instruction"].shape == (80,)
    assert make(worlds, max_tokens=6).reset(seed=0)[0]["instruction"].shape == (6,)


@pytest.mark.parametrize("name", OPTIONS)
def test_two_environments_of_one_seed_walk_alike(worlds, name):
    twins = [make(worlds, name, max_steps=4) for _ in range(2)]
    same(*[env.reset(seed=11) for env in twins])
    actions = np.random.default_rng(1).integers(twins[0].action_space.n, size=30)
    for action in actions:
        steps = [env.step(int(action)) for env in twins]
        same(*steps)
        if steps[0][2] or steps[0][3]:
            same(*[env.reset() for env in twins])


# Order of the episodes


@pytest.mark.parametrize("size", [1, 2, 3, 16, 17, 1000, 14025])
def test_every_pass_holds_every_row_once(size):
    key = np.full(size, 12345, dtype=np.uint64)
    passes = [shuffled_row(key, np.arange(size) + lap * size, size) for lap in range(2)]
    for rows in passes:
        assert sorted(rows) == list(range(size))
    if size > 15:
        assert (passes[0] != passes[1]).mean() > 0.7
        assert (shuffled_row(key + np.uint64(1), np.arange(size), size) != passes[0]).mean() > 0.7


def test_orders_are_even_over_keys():
    # The first row of 20,000 keys over 10 rows: binomial with mean 2,000 and deviation 42; 6 deviations are 255.
    keys = np.random.default_rng(0).integers(2**63, size=20_000).astype(np.uint64)
    for count in (0, 1, 9):
        rows = shuffled_row(keys, np.full(20_000, count), 10)
        assert np.abs(np.bincount(rows, minlength=10) - 2000).max() < 255
    # And pairs of following rows: 90 pairs with mean 222 and deviation 15.
    first, second = (shuffled_row(keys, np.full(20_000, count), 10) for count in (0, 1))
    pairs = np.bincount(first * 10 + second, minlength=100).reshape(10, 10)
    assert not pairs.diagonal().any()
    assert np.abs(pairs[~np.eye(10, dtype=bool)] - 222).max() < 6 * 15


def test_a_seed_decides_the_order_and_every_episode_comes_once_per_pass(worlds):
    env = make(worlds)
    ids = env.unwrapped.instr_ids

    def first_pass(seed):
        return [env.reset(seed=seed if k == 0 else None)[1]["instr_id"] for k in range(len(ids))]

    assert first_pass(3) == first_pass(3)
    assert sorted(first_pass(3)) == sorted(ids)
    assert first_pass(3) != first_pass(4)
    assert first_pass(3) != ids


def test_a_picked_episode_does_not_disturb_the_order(worlds):
    env, other = make(worlds), make(worlds)
    env.reset(seed=2)
    other.reset(seed=2)
    _, info = env.reset(options={"episode": "104_2"})
    assert info["instr_id"] == "104_2"
    assert env.reset()[1]["instr_id"] == other.reset()[1]["instr_id"]


# What is seen


def test_candidates_are_those_of_the_tables(worlds):
    # a2 sees a3, a4 and a1 in views 24, 15 and 18 (tests/test_connectivity.py); the path 104 starts there.
    env = make(worlds, split="train")
    row = next(e for e in env.unwrapped.source.table.episodes if e.start == "a2")
    observation, info = env.reset(options={"episode": row.instr_id})
    index = {name: k for k, (_, name) in enumerate(env.unwrapped.viewpoints)}
    view = int(observation["view"])
    assert info["viewpoint_id"] == "a2"
    assert observation["viewpoint"] == index["a2"]
    assert observation["action_mask"].tolist() == [1, 1, 1, 1]
    assert observation["candidate_viewpoint"].tolist() == [index[name] for name in ("a2", "a3", "a4", "a1")]
    assert observation["candidate_view"].tolist() == [view, 24, 15, 18]
    world = env.unwrapped.source.world
    wanted = world.observe(torch.tensor([index["a2"]]), torch.tensor([view])).candidate_angles[0]
    assert observation["candidate_angles"][0].tolist() == [0, 0, 0, 0]
    assert np.allclose(observation["candidate_angles"][1:], wanted[:3], atol=1e-7)


def test_padding_is_marked(worlds):
    env = make(worlds)
    row = next(e for e in env.unwrapped.source.table.episodes if e.start == "a0")  # one neighbor
    observation, _ = env.reset(options={"episode": row.instr_id})
    assert observation["action_mask"].tolist() == [1, 1, 0, 0]
    assert observation["candidate_viewpoint"][2:].tolist() == [-1, -1]
    assert not observation["candidate_angles"][2:].any()
    for _ in range(20):
        assert env.action_space.sample(mask=observation["action_mask"]) in (0, 1)


def test_angles_equal_those_of_navigation_everywhere(worlds):
    walkers = make(worlds).unwrapped.walkers
    N = NUM_TOY_VIEWPOINTS
    viewpoint, view = torch.arange(N).repeat_interleave(36), torch.arange(36).repeat(N)
    wanted = walkers.world.observe(viewpoint, view).candidate_angles
    got = walkers._candidates.at(viewpoint, view)["candidate_angles"]
    assert np.abs(got[:, 1:] - wanted.numpy()[:, :3]).max() <= 1.2e-7


def test_features_are_those_of_the_store_and_line_up_with_candidates(worlds):
    env = make(worlds, "features")
    observation, info = env.reset(seed=0)
    assert observation["features"].shape == FEATURE_SHAPE
    assert observation["features"].dtype == np.float16
    store = env.unwrapped.source.features.views(torch.tensor([int(observation["viewpoint"])]))[0]
    assert np.array_equal(observation["features"], store.numpy())
    assert info["viewpoint_id"] in env.unwrapped.viewpoints[int(observation["viewpoint"])]


def test_pictures_are_those_of_the_renderer(worlds):
    from vln_clip.envs.render import load_skybox, panorama_views

    env = make(worlds, "rgb")
    observation, info = env.reset(seed=0)
    folder = worlds[1] / "scans" / info["scan"] / "matterport_skybox_images"
    rotation = env.unwrapped.source.rotation[int(observation["viewpoint"])]
    wanted = panorama_views(load_skybox(folder, info["viewpoint_id"]), rotation, 16, 12)
    assert np.array_equal(observation["rgb"], wanted.numpy())
    observation["rgb"][:] = 0
    again, _ = env.reset(seed=0)
    assert np.array_equal(again["rgb"], wanted.numpy())  # the cache is not handed out


def test_tokens_decode_to_the_instruction(worlds):
    env, observation, _ = start(worlds, "100_0")
    assert env.unwrapped.source.vocabulary.decode(observation["instruction"]).startswith("<BOS> walk to the")
    text, observation, _ = start(worlds, "100_0", instruction="text")
    assert observation["instruction"] == text.unwrapped.source.table.episodes[0].instruction


def test_text_spaces_hold_other_languages(worlds, tmp_path):
    rows = json.loads((worlds[0] / "R2R" / "R2R_train.json").read_text())[:2]
    rows[0]["instructions"] = ["दाएं मुड़ें और रुकें।", "ఎడమవైపు తిరగండి", "Über die Straße 🚪 gehen\n"]
    file = tmp_path / "many.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    env = make(worlds, "text", split=str(file))
    for instr_id in env.unwrapped.instr_ids:
        observation, _ = env.reset(options={"episode": instr_id})
        assert env.observation_space.contains(observation), instr_id
    assert env.observation_space.contains(env.observation_space.sample())


# What a decision does


def test_stop_is_0_everywhere_and_the_teacher_arrives(worlds):
    for name, split in itertools.product(("indices", "rgb"), ("train", "val_unseen")):
        env = make(worlds, name, split=split)
        for instr_id in env.unwrapped.instr_ids[::5]:
            _, info = env.reset(options={"episode": instr_id})
            path = env.unwrapped.source.table.episodes[env.unwrapped.instr_ids.index(instr_id)].path
            walked, terminated = [info["viewpoint_id"]], False
            while not terminated:
                action = info["teacher_action"]
                _, reward, terminated, truncated, info = env.step(action)
                assert not truncated
                assert terminated == (action == 0)
                assert reward == (2.0 if terminated else 1.0)
                walked.append(info["viewpoint_id"])
            assert tuple(walked[:-1]) == path
            assert info["success"]
            assert info["distance_m"] == 0
            assert info["path_length_m"] == pytest.approx(info["shortest_m"])


def test_a_padded_action_stays_and_says_so(worlds):
    env, before, first = start(worlds, "100_0")  # a0 to a2; a0 has one neighbor
    assert first["viewpoint_id"] == "a0"
    assert not first["invalid_action"]
    observation, reward, terminated, truncated, info = env.step(3)
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert info["invalid_action"]
    assert info["steps"] == 1
    same(observation, before)
    assert not env.step(1)[4]["invalid_action"]


def test_truncation_and_termination_are_kept_apart(worlds):
    env, _, _ = start(worlds, "100_0", max_steps=2)
    assert env.step(1)[2:4] == (False, False)
    assert env.step(1)[2:4] == (False, True)
    env.reset(options={"episode": "100_0"})
    env.step(1)
    assert env.step(0)[2:4] == (True, False)  # a stop at the limit is a stop


def test_stopping_far_from_the_goal_fails(worlds):
    env, _, _ = start(worlds, "100_0")
    _, reward, terminated, _, info = env.step(0)
    assert (reward, terminated, info["success"], info["distance_m"]) == (-2.0, True, False, 5.0)
    assert (info["reward_stop"], info["reward_progress"]) == (-2.0, 0.0)


def test_only_info_holds_what_needs_the_goal(worlds):
    for name in OPTIONS:
        observation, info = make(worlds, name).reset(seed=0)
        assert info.keys() >= PRIVILEGED
        assert not PRIVILEGED & observation.keys()
    # Two episodes that differ in the goal alone look the same.
    env = make(worlds, max_tokens=2)  # <BOS> and <EOS>: no word of the instruction
    starts = [e for e in env.unwrapped.source.table.episodes if e.start == "a2" and e.instr_id.endswith("_0")]
    seen = []
    for episode in starts:
        env.unwrapped.walkers.table.view[:] = 12
        seen.append(env.reset(options={"episode": episode.instr_id})[0])
    assert len({episode.goal for episode in starts}) > 1
    for other in seen[1:]:
        same(other, seen[0])


def test_hidden_goals_leave_no_trace(worlds):
    env = make(worlds, split="test")
    assert not env.unwrapped.has_goals
    _, info = env.reset(seed=0)
    assert not PRIVILEGED & info.keys()
    for action in (1, 3, 0):
        _, reward, terminated, _, info = env.step(action)
        assert reward == 0
        assert not PRIVILEGED & info.keys()
    assert terminated
    for wrap in (GoalInObservation, lambda env: WithReward(env, "success")):
        with pytest.raises(InputError, match="needs goals, but the split 'test' hides them"):
            wrap(env)


def test_after_the_end_only_reset_goes_on(worlds):
    env, _, _ = start(worlds, "100_0")
    env.step(0)
    with pytest.raises(InputError, match=r"the episode has ended or none has begun; call reset\(\)"):
        env.step(1)
    env.reset()
    with pytest.raises(InputError, match=r"action must be in Discrete\(4\), got 4"):
        env.step(4)


def test_a_demo_world_is_built_once_and_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path))
    infos = []
    for _ in range(2):
        env = gymnasium.make("vln_clip/Demo-v0", split="val_unseen", demo=asdict(TINY))
        infos.append(env.reset(seed=0)[1])
    assert infos[0] == infos[1]
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == [f"the demo world of 3 houses is being built, once; it stays in {tmp_path}"]
