"""The CLIP-ViL_p program on small data of the public forms: what it trains, scores, writes, and refuses."""

import json
import logging
from pathlib import Path

import pytest
import torch

from tests.toy_pictures import NUM_IMAGES, results
from tests.toy_vil import SHORT, VilWorld
from vln_clip import checkpoint
from vln_clip.encoders import create_encoder
from vln_clip.errors import InputError
from vln_clip.pretrain.__main__ import main
from vln_clip.pretrain.config import PretrainConfig, settings_of

TASKS = ("vqa", "gqa", "snli_ve")
STAGES = ["pretraining_1", "pretraining_2", *TASKS, *(f"{task}_no_pretraining" for task in TASKS)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data folder with a finished run, made once."""
    with pytest.MonkeyPatch.context() as patch:
        world = VilWorld(tmp_path_factory.mktemp("vil"), patch)
        world.train("toy", *SHORT)
    return world


@pytest.fixture
def world(made, monkeypatch):
    made.point(monkeypatch)
    return made


@pytest.fixture
def own_world(tmp_path, monkeypatch):
    """A data folder that a test may spoil."""
    return VilWorld(tmp_path, monkeypatch)


def header(run, stage, which="last"):
    return checkpoint.load(run / "checkpoints" / stage / which).header


def test_a_run_pre_trains_then_fine_tunes_every_task_with_and_without(world):
    run = world.runs / "toy"
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == sorted(STAGES)
    found = results(run)
    assert found.keys() == {"val"}
    assert found["val"].keys() == {name + end for name in TASKS for end in ("", "_no_pretraining", "_majority")}
    assert all(0 <= row["accuracy"] <= 1 for row in found["val"].values())
    # A third of the hypotheses is entailed; the most common color of the questions is that of a third of the pictures.
    assert found["val"]["snli_ve_majority"]["accuracy"] == pytest.approx(1 / 3)
    assert found["val"]["gqa_majority"]["accuracy"] == pytest.approx(1 / 3)
    assert found["val"]["vqa"]["features"] == "timm:test_resnet.r160_in1k of random weights"


def test_the_first_stage_can_be_left_out(world):
    run = world.train("second", *SHORT, "--pretraining-iters", "0", "2", "--tasks", "vqa", "--no-compare")
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["pretraining_2", "vqa"]
    first = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert first["stage"] == "pretraining_2"
    assert {name for name in first if name.startswith("loss/")} == {"loss/words", "loss/matching", "loss/answers"}


def test_pre_training_that_sees_some_cells_is_validated(world, monkeypatch):
    """As at paper size; the canvas of 96 x 128 has more than 4 cells."""
    monkeypatch.setattr(PretrainConfig, "num_patches", 4)
    run = world.train("some", *SHORT, "--pretraining-iters", "0", "2", "--tasks", "vqa", "--no-compare")
    first = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert (first["stage"], first["iteration"]) == ("pretraining_2", 2)
    assert first["val/loss"] > 0


def test_metrics_tell_every_objective_apart(world):
    lines = [json.loads(line) for line in (world.runs / "toy" / "metrics.jsonl").read_text().splitlines()]
    first, second = ([line for line in lines if line["stage"] == f"pretraining_{n}"] for n in (1, 2))
    assert len(first) == len(second) == 2  # validations after 2 and 4 steps
    named = {"words", "matching"}
    assert {name.rpartition("/")[2] for name in first[0] if name.startswith("loss/")} == named
    assert {name.rpartition("/")[2] for name in second[0] if name.startswith("loss/")} == named | {"answers"}
    assert {"val/accuracy_words", "val/accuracy_matching", "val/accuracy_answers"} <= second[0].keys()


def test_result_files_have_a_row_for_every_question(world):
    run = world.runs / "toy"
    keys = {"vqa": ("question_id", "answer"), "gqa": ("questionId", "prediction"), "snli_ve": ("pairID", "label")}
    for task, names in keys.items():
        rows = json.loads((run / f"{task}_test_predict.json").read_text())
        assert len(rows) == NUM_IMAGES["test2015"] * (3 if task == "snli_ve" else 1)
        assert all(row.keys() == set(names) for row in rows)
        assert len({row[names[0]] for row in rows}) == len(rows)


def test_fine_tuning_begins_with_the_pre_trained_weights_and_without_with_those_of_the_start(world, tmp_path):
    world.train("start", "--no-pretrain", "--tasks", "vqa", "--compare", "--init", str(init(world)), *SHORT)
    run = world.runs / "start"
    assert not (run / "checkpoints" / "pretraining_1").exists()
    assert not (run / "tower.safetensors").exists()
    same = world.runs / "toy" / "checkpoints" / "vqa" / "last"
    ours, theirs = (checkpoint.load(folder).weights for folder in (run / "checkpoints" / "vqa" / "last", same))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_without_pre_training_or_a_model_to_begin_with_the_rows_say_so(world):
    run = world.train("bare", "--no-pretrain", "--tasks", "gqa", *SHORT)
    assert results(run)["val"].keys() == {"gqa_majority", "gqa_no_pretraining"}
    assert (run / "gqa_test_predict.json").is_file()


def init(world):
    return world.runs / "toy" / "checkpoints" / "pretraining_2" / "last"


def test_the_pre_trained_encoder_sees_for_other_programs(world):
    path = world.runs / "toy" / "tower.safetensors"
    encoder = create_encoder(f"tower:{path}")
    saved = checkpoint.load(init(world)).weights
    for name, value in encoder.tower.state_dict().items():
        assert torch.equal(value, saved[f"vil.encoder.{name}"]), name
    assert encoder.pooled(torch.zeros(1, 3, 64, 64)).shape == (1, encoder.grid_width)


def test_a_frozen_encoder_stays_as_it_was_and_so_do_its_statistics(world):
    run = world.train("frozen", "--freeze-encoder", "--tasks", "vqa", "--no-compare", *SHORT)
    weights = [checkpoint.load(run / "checkpoints" / stage / "last").weights for stage in ("pretraining_1", "vqa")]
    names = [name for name in weights[0] if name.startswith("vil.encoder.")]
    assert any("running_mean" in name for name in names)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in names)
    moved = checkpoint.load(init(world)).weights
    assert any(not torch.equal(weights[0][name], moved[name]) for name in names)


def test_what_begins_at_random_begins_with_standardized_channels(world):
    """Without pre-training the first step's model is that of the seed; its image input sees no common mean."""
    from vln_clip.pretrain.data import VilData
    from vln_clip.pretrain.model import build_pretraining

    config = settings_of(header(world.runs / "toy", "pretraining_1")["config"])
    data = VilData(config, torch.device("cpu"))
    model = build_pretraining(config, data, seed=3).eval()
    with torch.no_grad():
        grid = model.vil.encoder.grid(data.some_images())
        cells = model.vil.visual.projection(grid.flatten(2).transpose(1, 2))
    assert cells.mean((0, 1)).abs().max() < 0.05
    assert cells.std() > 0.3


def test_accumulated_batches_are_one_step(world):
    run = world.train("accumulated", "--accumulation", "2", "--tasks", "gqa", "--no-compare", *SHORT)
    state = checkpoint.load(run / "checkpoints" / "pretraining_1" / "last").state
    # 4 steps of 2 batches: epochs of 90 pairs have 11 or so batches of 8 pairs of one orientation
    assert int(state["sampler_train.cursor"]) == 8
    assert header(run, "gqa")["iteration"] == 4


def test_evaluate_and_predict_use_a_checkpoint(world, capsys, tmp_path):
    run = world.runs / "toy"
    main(["evaluate", "--checkpoint", str(run), "--device", "cpu"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in STAGES[2:])
    out = tmp_path / "answers.json"
    folder = run / "checkpoints" / "gqa" / "best_val"
    main(["predict", "--checkpoint", str(folder), "--out", str(out), "--device", "cpu"])
    assert out.read_text() == (run / "gqa_test_predict.json").read_text()


def test_a_finished_run_is_shown_again_and_another_configuration_refused(world, capsys):
    run = world.runs / "toy"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    world.train("toy", *SHORT)
    assert "vqa_no_pretraining" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    with pytest.raises(InputError, match="holds a run of another configuration: finetuning_iters is 5 now and was 4"):
        world.train("toy", *SHORT, "--finetuning-iters", "5")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--encoder", "pixels:8"], "--encoder must have weights that can learn, got pixels:8, which has none"),
        (["--sources", "coca:f"], r"kind of a source \(KIND:FILE\) must be"),
        (["--sources", "lxmert:nothing.json"], "nothing.json"),
    ],
)
def test_wrong_settings_are_refused_in_one_sentence(world, words, message):
    with pytest.raises(InputError, match=message):
        world.train("wrong", *SHORT, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--no-pretrain", "--tasks"], "--tasks must be one or more with --no-pretrain, got none"),
        (["--init", "x"], "--init must be used with --no-pretrain, got x"),
        (["--tasks", "vqa", "vqa"], "--tasks must be each named once, got vqa vqa"),
        (["--batch-size", "0"], "--batch-size must be positive, got 0"),
        (["--pretraining-iters", "4", "0"], "must be two positive numbers, of which the first may be 0, got (4, 0)"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(world, capsys, words, message):
    with pytest.raises(SystemExit) as stopped:
        main([*words])
    assert stopped.value.code == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_checkpoint_of_another_size_or_task_is_refused(world):
    run = world.runs / "toy" / "checkpoints"
    with pytest.raises(InputError, match="--init must be a pre-trained model"):
        world.train("other", "--no-pretrain", "--init", str(run / "vqa" / "last"), *SHORT)
    words = ["--no-pretrain", "--init", str(init(world)), "--encoder", "timm:test_vit.r160_in1k", *SHORT]
    with pytest.raises(InputError, match="must be pre-trained with this encoder and size"):
        world.train("other2", *words)
    with pytest.raises(InputError, match=r"must hold a fine-tuned model, got .* with pre-trained ones only"):
        main(["evaluate", "--checkpoint", str(init(world))])


def test_settings_are_the_same_after_they_were_saved():
    config = PretrainConfig(
        runs=Path("r"),
        image_folders=(Path("a"), Path("b")),
        sources=("coco:f",),
        pretraining_iters=(0, 2),
        tasks=("gqa",),
    )
    assert settings_of(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_a_split_that_there_is_not_is_refused(world, verb):
    with pytest.raises(InputError, match="--split must be train, val or test, got 'minival'"):
        main([verb, "--checkpoint", str(world.runs / "toy"), "--split", "minival"])


def test_an_absent_image_is_named(own_world):
    path = next((own_world.data / "COCO" / "images" / "train2014").iterdir())
    path.unlink()
    with pytest.raises(InputError, match=f"every image must be in .* the first '{path.stem}'"):
        own_world.train("absent", *SHORT)


def test_folders_of_images_that_are_not_there_are_named(own_world):
    (own_world.data / "flickr30k").rename(own_world.data / "flickr")
    with pytest.raises(InputError, match=r"images must be in folders, got .*flickr30k/flickr30k_images, which is none"):
        own_world.train("folder", *SHORT, "--no-pretrain", "--tasks", "snli_ve")
    (own_world.data / "COCO" / "images" / "train2014").rename(own_world.data / "moved")
    (own_world.data / "GQA" / "images").rename(own_world.data / "moved_too")
    with pytest.raises(InputError, match="images must be in folders, got nowhere, which is none"):
        own_world.train("given", *SHORT, "--image-folders", "nowhere")


def test_answers_outside_the_vocabulary_are_named(own_world):
    path = own_world.data / "answers.json"
    path.write_text(json.dumps(["pink", "mauve"]))
    with pytest.raises(InputError, match="answers must be among the 2 labels of the vocabulary, but none of 30"):
        own_world.train("unknown", *SHORT, "--vqa-answers", str(path))


def test_auto_takes_lxmerts_files_where_they_are(world, caplog):
    from vln_clip.pretrain.datasets import find_dataset

    with caplog.at_level(logging.INFO):
        assert find_dataset("auto") == "lxmert"
    assert "data set: lxmert, found in" in caplog.text
