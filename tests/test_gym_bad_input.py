"""Bad input of the gymnasium environments: one clear sentence each."""

import pickle
import shutil
import warnings

import gymnasium
import pytest

from tests.gym_world import arguments
from tests.toy_world import toy_tables, write_features
from vln_clip.envs.gym import GoalInObservation, WithReward
from vln_clip.errors import InputError


def make(worlds, name="indices", **more):
    env_id, chosen = arguments(name, worlds)
    return gymnasium.make(env_id, **{**chosen, **more})


def lacking_store(worlds):
    tables = toy_tables(worlds[0].parent / "other", scans=("alpha",))
    return str(write_features(worlds[0].parent / "alpha_only.safetensors", tables))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"split": "val_unsene"}, "split must be one of train, val_seen, val_unseen, test, got 'val_unsene'; did you"),
        ({"data": "/nowhere/at/all"}, "data must be a folder with R2R/ and connectivity/, got '/nowhere/at/all' which"),
        ({"observation": "rgb"}, "needs the skybox images of every building, but .*alpha.* is missing"),
        ({"observation": "features"}, "features must name a feature store or file"),
        ({"observation": "feature"}, "observation must be one of .*; did you mean 'features'"),
        ({"instruction": "token"}, "instruction must be one of .*; did you mean 'tokens'"),
        ({"features": "toy"}, "features must only be given with observation='features'"),
        (
            {"observation": "features", "features": "clip_rn50x4"},
            "vln_clip.extract --features clip_rn50x4 --dataset r2r",
        ),
        ({"observation": "features", "features": "clip_rn50x5"}, "did you mean 'clip_rn50x4'"),
        ({"observation": "features", "features": "none"}, "observation='indices' is the blind one"),
        ({"observation": "features", "features": lacking_store}, "lacks 13 of 21"),
        ({"max_step": 3}, "argument must be one of .*; did you mean 'max_steps'"),
        ({"max_steps": 0}, "max_steps must be a whole number of at least 1, got 0"),
        ({"max_steps": 2.5}, "max_steps must be a whole number of at least 1, got 2.5"),
        ({"max_steps": "3"}, "max_steps must be a whole number of at least 1, got '3'"),
        ({"max_tokens": 1}, "max_tokens must be a whole number of at least 2, got 1"),
        ({"split": None}, "split must be a name or a path, got None"),
        ({"data": 3}, "data must be a name or a path, got 3"),
        ({"image_size_px": 60}, "image_size_px must be a height and a width, got 60"),
        ({"image_size_px": (60.5, 80)}, "height of image_size_px must be a whole number of at least 1, got 60.5"),
        ({"render_mode": "rgb"}, "render_mode must be one of rgb_array, human, ansi, got 'rgb'; did you"),
        ({"demo": {"seed": 1}}, "demo must only be given for the generated world"),
    ],
)
def test_bad_arguments_are_told_in_one_sentence(worlds, wrong, message):
    wrong = {key: value(worlds) if callable(value) else value for key, value in wrong.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gymnasium's own about render_mode
        with pytest.raises(InputError, match=message) as told:
            make(worlds, **wrong)
    assert "\n" not in str(told.value)


def test_a_missing_data_folder_says_where_to_get_the_files(tmp_path, monkeypatch):
    monkeypatch.setenv("VLN_CLIP_DATA", str(tmp_path / "data"))
    with pytest.raises(InputError, match=r"R2R_train.json of split 'train' is missing; download .* VLN_CLIP_DATA"):
        gymnasium.make("vln_clip/R2R-v0")


@pytest.mark.parametrize(
    ("demo", "message"),
    [
        ({"sead": 1}, "demo must be fields of DemoConfig, got {'sead': 1}"),
        ({"face_px": 7}, "even number of at least 8"),
    ],
)
def test_bad_demo_worlds_are_told(demo, message):
    with pytest.raises(InputError, match=message):
        gymnasium.make("vln_clip/Demo-v0", demo=demo)


def test_a_broken_skybox_is_told_when_it_is_seen(worlds, tmp_path):
    broken = tmp_path / "demo"
    shutil.copytree(worlds[1], broken)
    for file in broken.glob("scans/*/*/*_skybox3_sami.jpg"):
        file.write_bytes(file.read_bytes()[:100])
    env = make(worlds, "rgb", data=str(broken))
    with pytest.raises(InputError, match="skybox image must be a complete JPEG, got"):
        env.reset(seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"episode": "9_9"},
            r"options\['episode'\] must be an instr_id of the split 'train', such as '100_0', got '9_9'",
        ),
        ({"epsode": "100_0"}, "option of reset must be one of episode, got 'epsode'; did you mean 'episode'"),
    ],
)
def test_bad_options_of_reset_are_told(worlds, options, message):
    with pytest.raises(InputError, match=message):
        make(worlds).reset(options=options)


def test_wrappers_refuse_other_environments(worlds):
    with pytest.raises(InputError, match="needs an environment of vln_clip"):
        WithReward(gymnasium.make("CartPole-v1"), "success")
    with pytest.raises(InputError, match="rule must be one of envdrop, success, spl, distance, got 'sucess'; did you"):
        WithReward(make(worlds), "sucess")
    flat = gymnasium.wrappers.FlattenObservation(make(worlds))
    with pytest.raises(InputError, match="before observations are flattened"):
        GoalInObservation(flat)


@pytest.mark.parametrize("episode", [3, ["x"], None])
def test_an_episode_of_another_type_is_told(worlds, episode):
    env = make(worlds)
    with pytest.raises(InputError, match=r"options\['episode'\] must be an instr_id of the split"):
        env.reset(options={"episode": episode})


def test_an_environment_with_pictures_can_be_pickled_once_it_was_used(worlds):
    env = make(worlds, "rgb").unwrapped
    env.reset(seed=0)
    again = pickle.loads(pickle.dumps(env))
    assert (again.step(0)[0]["rgb"] == env.step(0)[0]["rgb"]).all()
