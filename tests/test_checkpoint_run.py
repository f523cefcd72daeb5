"""Checkpoints, run folders, resuming, configuration and its messages."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.full_disk import limited_files
from tests.test_follower import build, learner
from tests.test_speaker import back_translation
from tests.toy_world import toy_setting
from vln_clip import checkpoint, devices, setting
from vln_clip.config import (
    PRESETS,
    BackTranslationConfig,
    FollowerConfig,
    ModelConfig,
    SpeakerConfig,
    TrainConfig,
    from_json,
    parse,
)
from vln_clip.envs.evaluation import score_walks, walk_split
from vln_clip.errors import InputError
from vln_clip.run import LAST, Run
from vln_clip.run_config import changed_fields
from vln_clip.stage import Best, Stage
from vln_clip.training import run_stage


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path):
    model = build()
    checkpoint.save(tmp_path / "best", model, {"stage": "follower", "words": ["tür"]}, {"cursor": torch.tensor(3)})
    saved = checkpoint.load(tmp_path / "best")
    assert saved.header["stage"] == "follower"
    assert saved.header["words"] == ["tür"]
    assert saved.header["torch"] == torch.__version__
    assert saved.state["cursor"] == 3
    assert json.loads((tmp_path / "best" / "checkpoint.json").read_text()) == saved.header
    other = build(seed=1)
    checkpoint.restore_weights(other, saved.weights, tmp_path)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


def test_saving_again_replaces_the_checkpoint(tmp_path):
    for iteration in (1, 2):
        checkpoint.save(tmp_path, build(seed=iteration), {"iteration": iteration})
    assert checkpoint.load(tmp_path).header["iteration"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.json", "checkpoint.safetensors"]


def test_a_full_disk_is_one_sentence_and_the_old_checkpoint_stays(tmp_path):
    checkpoint.save(tmp_path, build(seed=1), {"iteration": 1})
    told = "checkpoint.safetensors cannot be written: .*(File too large|os error 27)"
    with limited_files(2000), pytest.raises(InputError, match=told):
        checkpoint.save(tmp_path, build(seed=2), {"iteration": 2})
    assert checkpoint.load(tmp_path).header["iteration"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.json", "checkpoint.safetensors"]


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    weights = build().state_dict()
    with pytest.raises(InputError, match=r"runs/x is of another configuration: \S+ is \(.*\) there and \(.*\) here"):
        checkpoint.restore_weights(build(hidden_width=32), weights, Path("runs/x"))
    lacking = {name: value for name, value in weights.items() if name != "critic.state2value.3.bias"}
    with pytest.raises(InputError, match=r"the checkpoint has no critic.state2value.3.bias"):
        checkpoint.restore_weights(build(), lacking, Path("runs/x"))
    with pytest.raises(InputError, match="this configuration has no baseline"):
        checkpoint.restore_weights(build(), weights | {"baseline": torch.zeros(1)}, Path("runs/x"))


def test_a_missing_or_damaged_checkpoint_is_bad_input(tmp_path):
    with pytest.raises(InputError, match=r"be a checkpoint folder, but checkpoint.safetensors is not there; train"):
        checkpoint.load(tmp_path)
    checkpoint.save(tmp_path, build(), {})
    file = tmp_path / checkpoint.FILE
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"must be a checkpoint of this package, but can't be read"):
        checkpoint.load(tmp_path)


def test_another_safetensors_file_is_no_checkpoint(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / checkpoint.FILE)
    with pytest.raises(InputError, match="must be a checkpoint of this package"):
        checkpoint.load(tmp_path)
    save_file({"x": torch.zeros(1)}, tmp_path / checkpoint.FILE, {"checkpoint": "{}"})
    with pytest.raises(InputError, match="must be a checkpoint of this package"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("name", ["rms", "adam", "sgd"])
def test_optimizer_states_come_back(name):
    from vln_clip.optimizers import make_optimizer

    models = [torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)]
    models[1].load_state_dict(models[0].state_dict())
    x = torch.randn(4, 3)
    optimizers = [make_optimizer(model, name, 0.1) for model in models]

    def step(i):
        optimizers[i].zero_grad()
        models[i](x).square().sum().backward()
        optimizers[i].step()

    step(0)
    models[1].load_state_dict(models[0].state_dict())
    saved = {name: value.clone() for name, value in checkpoint.flatten_optimizer(optimizers[0]).items()}
    checkpoint.restore_optimizer(optimizers[1], saved)
    step(0)
    step(1)
    assert torch.equal(models[0].weight, models[1].weight)


def open_run(folder, **changes):
    return Run(replace(TrainConfig(dataset="r2r", features="none", name="x", runs=folder), **changes))


def make_stage(toy, kind, iters=8):
    """Return a stage of the toy world: validated by greedy decoding on val_seen at every second iteration."""
    data, world = toy
    if kind == "follower":
        learn = real = learner(world, build(num_words=data.vocabulary.size), data.table("train"))
        samplers = {"train": real.sampler}
    else:
        learn = back_translation(data, world)
        real = learn.real
        samplers = {"train": real.sampler, "aug": learn.sampler}
    table = data.table("val_seen")

    def validate():
        return {"val_seen": score_walks(world, table, walk_split(world, real.follower, table, 8))}

    best = [Best("best_val_seen", "val_seen", "success_rate"), Best("best_error", "val_seen", "nav_error", sign=-1.0)]
    return Stage(kind, real.follower, real.optimizer, learn, validate, best, iters, 2, samplers, real.generator)


class StoppedError(Exception):
    pass


def stop_after(stage, count):
    learn, calls = stage.learn, iter(range(1000))

    def stopping():
        if next(calls) == count:
            raise StoppedError
        return learn()

    return replace(stage, learn=stopping)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    return toy_setting(tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", ["follower", "back_translated"])
def test_a_stopped_stage_goes_on_as_if_it_had_not_stopped(toy, tmp_path, kind):
    whole, parts = open_run(tmp_path / "whole"), open_run(tmp_path / "parts")
    run_stage(whole, make_stage(toy, kind))
    for count in (5, 1, 3):  # stops behind iteration 5 (saved: 4), at once after that, then behind 7 (saved: 6)
        stage = stop_after(make_stage(toy, kind), count)
        with pytest.raises(StoppedError):
            run_stage(parts, stage)
    run_stage(parts, make_stage(toy, kind))
    for which in (LAST, "best_val_seen", "best_error"):
        ours, theirs = (checkpoint.load(run.checkpoint(kind, which)) for run in (parts, whole))
        assert ours.header == theirs.header
        for first, second in ((ours.weights, theirs.weights), (ours.state, theirs.state)):
            assert first.keys() == second.keys()
            assert all(torch.equal(first[name], second[name]) for name in first)
    files = [(run.folder / "metrics.jsonl").read_text() for run in (whole, parts)]
    assert files[0] == files[1]
    assert [json.loads(line)["iteration"] for line in files[0].splitlines()] == [2, 4, 6, 8]


def test_a_finished_stage_changes_nothing(toy, tmp_path):
    run = open_run(tmp_path)
    run_stage(run, make_stage(toy, "follower", iters=2))
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    stage = stop_after(make_stage(toy, "follower", iters=2), 0)
    run_stage(run, stage)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before
    # ... and the stage's model is the finished one, ready to be used.
    saved = checkpoint.load(run.checkpoint("follower", LAST))
    assert all(torch.equal(value, saved.weights[name]) for name, value in stage.model.state_dict().items())


def test_the_last_iteration_is_validated_and_saved(toy, tmp_path):
    run = open_run(tmp_path)
    run_stage(run, make_stage(toy, "follower", iters=3))
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [2, 3]
    assert checkpoint.load(run.checkpoint("follower", LAST)).header["iteration"] == 3


def test_best_checkpoints_keep_the_first_of_equals(toy, tmp_path):
    run, scores = open_run(tmp_path), iter([0.2, 0.5, 0.5, 0.1])
    stage = replace(make_stage(toy, "follower"), best=[Best("best", "val_seen", "success_rate")])
    stage = replace(stage, validate=lambda: {"val_seen": {"success_rate": next(scores)}})
    run_stage(run, stage)
    assert checkpoint.load(run.checkpoint("follower", "best")).header["iteration"] == 4


def test_metrics_are_means_since_the_last_validation(toy, tmp_path):
    run, numbers = open_run(tmp_path), iter([1.0, 3.0, 5.0, 6.0])
    stage = replace(make_stage(toy, "follower", iters=4), learn=lambda: {"loss/x": next(numbers)})
    run_stage(run, stage)
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss/x"] for line in lines] == [2.0, 5.5]


def test_no_number_of_learning_has_the_name_of_a_validated_metric(toy):
    # Both go into one line of metrics.jsonl; the training split is validated too, as train/<metric>.
    data, world = toy
    numbers = back_translation(data, world)()
    table = data.table("train")
    scores = score_walks(world, table, walk_split(world, build(num_words=data.vocabulary.size), table, 4))
    assert not set(numbers) & {f"{split}/{metric}" for split in ("train", "val_seen") for metric in scores}


def test_a_run_folder_of_another_configuration_is_refused(tmp_path):
    begun = open_run(tmp_path)
    checkpoint.save(begun.checkpoint("follower", LAST), build(), {})
    open_run(tmp_path)  # the same again goes on
    open_run(tmp_path / "x" / "..", device="cpu")  # and so it does elsewhere, or reached another way
    with pytest.raises(InputError, match=r"x holds a run of another configuration: seed is 2 now and was 1; give this"):
        open_run(tmp_path, seed=2)
    with pytest.raises(InputError, match="iters is 5 now and was 80000"):
        open_run(tmp_path, follower=FollowerConfig(iters=5))
    (tmp_path / "x" / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config.json must be a run's configuration, but can't be read: .*; bring it"):
        open_run(tmp_path)


def test_a_run_that_never_began_may_be_configured_anew(tmp_path):
    # Wrong input is often found after the folder was made; the corrected command must then work.
    open_run(tmp_path, features="clip_rn50x5")
    saved = open_run(tmp_path, features="clip_rn50x4").folder / "config.json"
    assert json.loads(saved.read_text())["features"] == "clip_rn50x4"


@pytest.mark.parametrize("end", [b'{"stage": "follower", "iter', b"\0\0\0", b'\xff\xfe{"'])
def test_half_a_line_of_metrics_does_not_stop_a_run(toy, tmp_path, end):
    # A machine that goes down may leave the last line cut off, or anything in its place.
    run = open_run(tmp_path)
    with pytest.raises(StoppedError):
        run_stage(run, stop_after(make_stage(toy, "follower"), 5))
    metrics = run.folder / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes() + end)
    run_stage(run, make_stage(toy, "follower"))
    assert [json.loads(line)["iteration"] for line in metrics.read_text().splitlines()] == [2, 4, 6, 8]


def test_a_stop_before_the_first_checkpoint_leaves_no_metrics(toy, tmp_path, monkeypatch):
    run = open_run(tmp_path)

    def stop(*_):
        raise StoppedError

    with monkeypatch.context() as patched:
        patched.setattr("vln_clip.snapshots.Snapshots.save", stop)
        with pytest.raises(StoppedError):
            run_stage(run, make_stage(toy, "follower", iters=4))
    run_stage(run, make_stage(toy, "follower", iters=4))
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [2, 4]


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (ModelConfig, {"hidden_width": 0}, "--hidden-width must be positive, got 0"),
        (ModelConfig, {"hidden_width": 7}, "--hidden-width must be even, got 7"),
        (ModelConfig, {"angle_width": 6}, "--angle-width must be a multiple of 4, got 6"),
        (ModelConfig, {"dropout": 1.0}, r"--dropout must be in \[0, 1\), got 1.0"),
        (ModelConfig, {"speaker_dropout": -0.1}, r"--speaker-dropout must be in \[0, 1\), got -0.1"),
        (FollowerConfig, {"iters": 0}, "--iters must be positive, got 0"),
        (FollowerConfig, {"batch_size": -1}, "--batch-size must be positive, got -1"),
        (FollowerConfig, {"lr": 0.0}, "--lr must be positive, got 0.0"),
        (FollowerConfig, {"gamma": 1.5}, r"--gamma must be in \[0, 1\], got 1.5"),
        (FollowerConfig, {"max_input": 2}, "--max-input must be at least 3, got 2"),
        (FollowerConfig, {"train_batches": -1}, "--train-batches must be 0 or more, got -1"),
        (SpeakerConfig, {"speaker_iters": 0}, "--speaker-iters must be positive, got 0"),
        (SpeakerConfig, {"speaker_batch_size": 0}, "--speaker-batch-size must be positive, got 0"),
        (BackTranslationConfig, {"bt_iters": 0}, "--bt-iters must be positive, got 0"),
        (BackTranslationConfig, {"num_aug_paths": 0}, "--num-aug-paths must be positive, got 0"),
        (BackTranslationConfig, {"bt_feature_dropout": 1}, r"--bt-feature-dropout must be in \[0, 1\), got 1"),
    ],
)
def test_values_out_of_range_are_told_by_their_flag(config, values, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        config(**values)


def test_defaults_are_the_paper_s_recipe():
    # Specification §5.1 to §7 and §11.
    c = PRESETS["r2r"]
    assert (c.follower.iters, c.speaker.speaker_iters, c.back_translation.bt_until) == (80_000, 80_000, 200_000)
    assert (c.follower.batch_size, c.follower.lr, c.follower.optimizer) == (64, 1e-4, "rms")
    assert (c.follower.ml_weight, c.follower.gamma, c.follower.entropy_weight, c.follower.value_weight) == (
        0.2,
        0.9,
        0.01,
        0.5,
    )
    assert (c.follower.clip_norm, c.follower.max_action, c.follower.max_input) == (40.0, 35, 80)
    assert (c.follower.eval_every, c.follower.train_batches, c.follower.normalize) == (100, 20, "total")
    assert (c.follower.stop_reward, c.follower.progress_reward) == (2.0, 1.0)
    assert (c.model.hidden_width, c.model.word_width, c.model.action_width, c.model.angle_width) == (512, 256, 64, 128)
    assert (c.model.dropout, c.model.feature_dropout, c.model.speaker_dropout) == (0.5, 0.3, 0.6)
    assert (c.speaker.speaker_optimizer, c.speaker.speaker_eval_every, c.speaker.max_decode) == ("adam", 500, 120)
    assert (c.back_translation.real_weight, c.back_translation.aug_weight) == (0.2, 0.6)
    assert (c.back_translation.bt_feature_dropout, c.back_translation.bt_iters) == (0.4, None)


def test_flags_go_on_top_of_the_data_set_s_preset():
    wanted = []

    def find(name):
        wanted.append(name)
        return "demo" if name == "auto" else name

    demo = parse(["--seed", "7"], find)
    assert demo.dataset == "demo"
    assert demo.seed == 7
    assert demo.model == PRESETS["demo"].model
    real = parse(["--dataset", "r2r", "--iters", "9", "--bt", "--no-blind"], find)
    assert (real.dataset, real.bt, real.blind) == ("r2r", True, False)
    assert real.follower == replace(PRESETS["r2r"].follower, iters=9)
    assert parse(["--dataset=r2r"], find).follower == PRESETS["r2r"].follower
    assert wanted == ["auto", "r2r", "r2r"]


@pytest.mark.parametrize("argv", [["--itres", "5"], ["--iters", "many"], ["--feedback", "none"], ["extra"]])
def test_unknown_flags_and_values_exit_with_status_2(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(["--dataset", "r2r", *argv], lambda name: name)
    assert stopped.value.code == 2
    assert argv[0].strip("-") in "".join(capsys.readouterr())


def test_run_names_are_made_of_data_set_features_and_bt():
    c = TrainConfig(dataset="demo", features="clip_rn50x4", bt=True)
    assert c.run_name == "demo_clip_rn50x4_bt"
    assert replace(c, features="open_clip:ViT-B-32/laion2b", bt=False).run_name == "demo_laion2b"
    assert replace(c, name="mine").run_name == "mine"


def test_saved_configurations_tell_what_changed():
    ours = json.loads(json.dumps(TrainConfig().to_json()))
    assert changed_fields(ours, ours) == []
    theirs = json.loads(json.dumps(TrainConfig(seed=3, model=ModelConfig(dropout=0.1)).to_json()))
    assert changed_fields(ours, theirs) == ["dropout is 0.5 now and was 0.1", "seed is 1 now and was 3"]
    with pytest.raises(InputError, match=r"unknown settings \['depth'\]; it is of another version"):
        from_json(ModelConfig, {"depth": 2})
    assert from_json(ModelConfig, TrainConfig().to_json()["model"]) == ModelConfig()


def test_auto_takes_r2r_where_it_is(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="vln_clip")
    monkeypatch.setattr("vln_clip.log.logger.propagate", True)
    monkeypatch.setenv("VLN_CLIP_DATA", str(tmp_path))
    assert setting.find_dataset("auto") == "demo"
    assert "data set: demo" in caplog.text
    assert f"put R2R/ and connectivity/ into {tmp_path}" in caplog.text
    (tmp_path / "R2R").mkdir()
    (tmp_path / "connectivity").mkdir()
    (tmp_path / "R2R" / "R2R_train.json").write_text("[]")
    assert setting.find_dataset("auto") == "r2r"
    assert f"data set: r2r, found in {tmp_path}" in caplog.text
    assert setting.find_dataset("demo") == "demo"
    with pytest.raises(InputError, match=r"--dataset must be one of auto, r2r, .*, got 'r2d'; did you mean 'r2r'"):
        setting.find_dataset("r2d")


def test_an_unknown_device_is_bad_input():
    assert devices.pick_device("cpu") == torch.device("cpu")
    for name in ("gpu", "cuda:99"):
        with pytest.raises(InputError, match=f"--device must be auto, cpu or one of .* GPUs .*, got '{name}'"):
            devices.pick_device(name)


def test_weights_depend_on_the_seed_alone(toy):
    data, _ = toy
    small = ModelConfig(hidden_width=8, word_width=4, action_width=4, angle_width=4)
    torch.manual_seed(1)
    first = setting.build_follower(data, small, 3, seed=5).state_dict()
    torch.manual_seed(2)
    after = torch.random.get_rng_state()
    second = setting.build_follower(data, small, 3, seed=5).state_dict()
    assert torch.equal(torch.random.get_rng_state(), after)  # the global generator is left alone
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = setting.build_follower(data, small, 3, seed=6).state_dict()
    assert not torch.equal(first["encoder.embedding.weight"], other["encoder.embedding.weight"])
