"""Runs of ``train --train-encoder`` on the toy world: results, checkpoints, going on after a stop, other programs."""

import json

import pytest
import torch

from tests.test_end_to_end import tower
from tests.toy_runs import World
from tests.toy_skyboxes import write_skyboxes
from vln_clip import checkpoint, evaluate, recipe
from vln_clip.encoders import create_encoder
from vln_clip.encoders.tower_files import read_tower_header, save_tower
from vln_clip.errors import InputError

pytestmark = pytest.mark.slow
FLAGS = ("--train-encoder", "--encoder-lr", "0.0001", "--no-blind", "--deterministic", "--batch-size", "2")
FLAGS += ("--eval-every", "2", "--lr", "0.01")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        world = World(tmp_path_factory.mktemp("runs"), patch)
        write_skyboxes(world.data)
        encoder = tower(patch)
        encoder.weights = "openai sha256:00000000"
        world.tower = f"tower:{save_tower(encoder, world.folder / 'start.safetensors')}"
        world.finished = world.train(*FLAGS, "--iters", "4", features=world.tower, name="whole")
        yield world


def weights(run, which="last"):
    return checkpoint.load(run / "checkpoints" / "follower" / which).weights


def test_results_name_the_trained_encoder_and_blind_rows_do_not(world):
    results = json.loads((world.finished / "results.json").read_text())
    rows = results["val_unseen"]
    assert rows["follower"]["features"] == f"{world.tower} trained end to end"
    assert rows["random"]["features"] == "none"
    lines = [json.loads(line) for line in (world.finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [2, 4]
    assert all(line["encoder/pictures"] >= 36 and line["optimizer/tower_gradient_norm"] > 0 for line in lines)
    assert (world.finished / "submission_test.json").is_file()


def test_a_checkpoint_holds_both_models_and_the_encoder_lies_beside_it(world):
    found = weights(world.finished)
    start = create_encoder(world.tower)
    trained = create_encoder(f"tower:{world.finished / 'checkpoints' / 'follower' / 'last' / 'encoder.safetensors'}")
    for name, value in trained.state_dict().items():
        assert torch.equal(value, found[f"tower.{name}"])
    assert not torch.equal(trained.visual.conv1.weight, start.visual.conv1.weight)
    assert torch.equal(trained.visual.bn1.running_mean, start.visual.bn1.running_mean)
    header = read_tower_header(world.finished / "checkpoints" / "follower" / "last" / "encoder.safetensors")
    assert header.encoder == "clip_rn50"
    assert header.weights.startswith("start.safetensors sha256:")
    assert header.note == "trained end to end with a follower on r2r, iteration 4"


def test_evaluation_of_the_checkpoint_gives_the_run_s_own_numbers(world, tmp_path):
    out = tmp_path / "all.json"
    evaluate.main(["--checkpoint", str(world.finished), "--split", "val_unseen", "--json", str(out)])
    row = json.loads((world.finished / "results.json").read_text())["val_unseen"]["follower"]
    found = json.loads(out.read_text())
    metrics = {name: value for name, value in row.items() if isinstance(value, float)}
    assert {name: found[name] for name in metrics} == metrics
    assert metrics["steps"] > 0  # it does go somewhere


def test_its_encoder_serves_a_frozen_run(world):
    folder = world.finished / "checkpoints" / "follower" / "best_val_unseen"
    run = world.train("--no-blind", features=f"tower:{folder / 'encoder.safetensors'}", name="frozen")
    rows = json.loads((run / "results.json").read_text())["val_unseen"]
    assert rows["follower"]["features"] == f"tower:{folder / 'encoder.safetensors'}"


def test_a_follower_can_begin_with_another_one(world):
    frozen = world.train("--no-blind", "--lr", "0.01", features=world.tower, name="before")
    # A learning rate of next to nothing: after the first step it still is the follower that it began with.
    words = ("--start", str(frozen), "--iters", "1", "--lr", "1e-30", "--encoder-lr", "1e-30")
    found = weights(world.train(*FLAGS, *words, features=world.tower, name="after"))
    for name, value in weights(frozen, "best_val_unseen").items():
        assert torch.equal(found[f"follower.{name}"], value)


def test_a_follower_cannot_begin_with_one_of_other_words(world):
    other = world.train("--no-blind", "--dataset", "rxr", "--language", "en", name="other_words")
    with pytest.raises(
        InputError, match=r"--start must be a follower that knows the words of r2r, got .*best_val_unseen"
    ):
        world.train("--no-blind", "--start", str(other), name="begun")


def never(*_):
    raise AssertionError("nothing is rendered for a run that is refused")


def test_a_start_of_another_width_is_refused_before_anything_is_rendered(world, monkeypatch):
    other = world.train("--no-blind", name="toy_features")  # toy_world.WIDTH, not the 24 of the tower
    monkeypatch.setattr("vln_clip.job.open_views", never)
    with pytest.raises(InputError, match=r"--start must be a follower that sees features of width 24 as tower:.* has"):
        world.train(*FLAGS, "--start", str(other), features=world.tower, name="begun_wide")


def test_a_start_must_be_a_follower_that_reads_alike(world):
    other = world.train("--no-blind", "--bt", name="with_speaker")
    with pytest.raises(InputError, match=r"--start must be a follower, got .*last of stage 'speaker'"):
        world.train("--start", str(other / "checkpoints" / "speaker" / "last"), name="begun_speaking")
    with pytest.raises(
        InputError,
        match=r"reads with clip_demo frozen as this run does, got .*, which reads with word vectors of its own",
    ):
        world.train("--start", str(other), "--text-encoder", "clip_demo", name="begun_reading")


def test_a_start_that_learned_from_other_features_is_told(world, caplog):
    words = ("--no-blind", "--iters", "1", "--start")
    own = world.finished / "checkpoints" / "follower" / "best_val_unseen"
    world.train(*words, str(world.finished), features=world.tower, name="without_its_encoder")
    told = caplog.text
    caplog.clear()
    assert (
        f"NOTE: --start: {own} has learned from {world.tower} trained end to end, this run sees {world.tower};" in told
    )
    assert f"its own encoder is --features tower:{own / 'encoder.safetensors'}" in told
    world.train(*words, str(world.finished), features=f"tower:{own / 'encoder.safetensors'}", name="with_its_encoder")
    world.train(
        *words, str(world.runs / "with_its_encoder"), features=f"tower:{own / 'encoder.safetensors'}", name="on"
    )
    assert "NOTE: --start" not in caplog.text


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(world, monkeypatch, steps):
    name, taken = f"stopped_{steps}", []
    learn = recipe.with_encoder

    def stopping(*args):
        whole = learn(*args)

        def step():
            if len(taken) == steps:
                raise StoppedError
            taken.append(1)
            return whole()

        return step

    words = (*FLAGS, "--iters", "4", "--save-every-min", "0")
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "with_encoder", stopping)
        with pytest.raises(StoppedError):
            world.train(*words, features=world.tower, name=name)
    run = world.train(*words, features=world.tower, name=name)
    expected, found = weights(world.finished), weights(run)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert torch.equal(value, found[key]), key
    assert (run / "metrics.jsonl").read_text() == (world.finished / "metrics.jsonl").read_text()


def test_another_encoder_cannot_go_on(world):
    other = create_encoder(world.tower)
    other.visual.conv1.weight.data.mul_(2)
    path = save_tower(other, world.folder / "other.safetensors")
    with pytest.raises(InputError, match="holds a run of another configuration: features is"):
        world.train(*FLAGS, "--iters", "4", features=f"tower:{path}", name="whole")


def test_pixels_cannot_be_trained(world):
    with pytest.raises(InputError, match="needs an encoder with weights, got --features pixels, which is a fixed"):
        world.train(*FLAGS, features="pixels", name="pixels")


def test_the_ordinary_path_knows_nothing_of_it(world, monkeypatch):
    def never(*_):
        raise AssertionError("a run with stored features must not come here")

    monkeypatch.setattr(recipe, "with_encoder", never)
    monkeypatch.setattr("vln_clip.job.open_views", never)
    run = world.train("--no-blind", name="ordinary")
    saved = checkpoint.load(run / "checkpoints" / "follower" / "last")
    assert "trained_encoder" not in saved.header
    assert not any(name.startswith(("tower.", "follower.")) for name in saved.weights)
    assert not (run / "checkpoints" / "follower" / "last" / "encoder.safetensors").exists()
