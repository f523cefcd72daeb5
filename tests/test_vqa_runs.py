"""The VQA program on small data of the public forms: what it trains, scores, writes, and refuses."""

import json
import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from tests import toy_pictures, vqa_data
from tests.toy_pictures import GQA_ANSWERS, NUM_IMAGES, Pictures, results
from vln_clip import checkpoint, log, replay
from vln_clip.caption.__main__ import main as caption_main
from vln_clip.errors import InputError
from vln_clip.features.grid import open_grid
from vln_clip.vqa.__main__ import main
from vln_clip.vqa.pictures import shaded

ROWS = {"most_common", "question_only", "question_only_last", "pythia", "pythia_last"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data folder with a finished run, made once."""
    with pytest.MonkeyPatch.context() as patch:
        world = Pictures(tmp_path_factory.mktemp("vqa"), patch)
        world.vqa("toy", "--model", "pythia", "--iters", "60", "--eval-every", "30")
    return world


@pytest.fixture
def world(made, monkeypatch):
    made.point(monkeypatch)
    return made


@pytest.fixture
def own_world(tmp_path, monkeypatch):
    """A data folder that a test may spoil."""
    return Pictures(tmp_path, monkeypatch)


def test_a_run_writes_results_checkpoints_and_the_file_for_the_server(world):
    run = world.runs / "toy"
    found = results(run)
    assert found.keys() == {"val"}
    assert found["val"].keys() == ROWS
    for name, row in found["val"].items():
        assert row.keys() == {"accuracy", "accuracy_other", "accuracy_yes/no", "features"}, name
        assert all(0 <= row[metric] <= 1 for metric in row.keys() - {"features"})
    assert found["val"]["pythia"]["features"] == "pixels:8"
    assert found["val"]["question_only"]["features"] == "none"
    answers = json.loads((run / "submission_test.json").read_text())
    asked = json.loads((world.data / "VQA" / "v2_OpenEnded_mscoco_test2015_questions.json").read_text())
    assert [item["question_id"] for item in answers] == [item["question_id"] for item in asked["questions"]]
    assert {item["answer"] for item in answers} <= {"yes", "no", *toy_pictures.NAMES}
    for stage in ("pythia", "question_only"):
        assert (run / "checkpoints" / stage / "best_val" / checkpoint.FILE).is_file()


def test_who_sees_answers_what_cannot_be_known_without(world):
    found = results(world.runs / "toy")["val"]
    # The color is one of three and all of its annotators but two say it: 1.0; without pictures a third of 1.0.
    assert found["pythia"]["accuracy_other"] == 1.0
    assert found["question_only"]["accuracy_other"] == pytest.approx(1 / 3)
    # Two thirds of the rooms are not red; of all answers that is the most common, and it names no color.
    assert found["most_common"]["accuracy_yes/no"] == pytest.approx(2 / 3)
    assert found["most_common"]["accuracy"] == pytest.approx(1 / 3)


def test_a_finished_run_is_shown_again_and_nothing_is_touched(world, capsys):
    run = world.runs / "toy"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    world.vqa("toy", "--model", "pythia", "--iters", "60", "--eval-every", "30")
    assert "question_only_last" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_another_configuration_is_refused(world):
    with pytest.raises(InputError, match="holds a run of another configuration: iters is 61 now and was 60; give"):
        world.vqa("toy", "--model", "pythia", "--iters", "61", "--eval-every", "30")


@pytest.mark.parametrize("model", ["movie_mcan", "mcan_small", "mcan_large"])
def test_every_model_trains_and_answers(world, model):
    found = results(world.vqa(model, "--model", model, "--no-question-only", "--iters", "2"))
    assert found["val"].keys() == {"most_common", model, f"{model}_last"}
    style = checkpoint.load(world.runs / model / "checkpoints" / model / "last").header["style"]
    assert style == ("mmf" if model == "movie_mcan" else "openvqa")  # as its reference splits questions


def test_a_run_without_features_has_the_question_only_model(world):
    found = results(world.vqa("blind", "--model", "pythia", features="none"))
    assert found["val"].keys() == {"most_common", "question_only", "question_only_last"}


def test_scores_are_printed_per_stage_and_question_type_and_equal_the_results(world, capsys, tmp_path):
    main(["evaluate", "--checkpoint", str(world.runs / "toy"), "--by-question-type", "--device", "cpu"])
    told = capsys.readouterr().out
    assert "pythia, by question type:" in told
    assert "what color is the            100.00" in told
    out = tmp_path / "val.json"
    main(["predict", "--checkpoint", str(world.runs / "toy"), "--split", "val", "--out", str(out), "--device", "cpu"])
    main(["evaluate", "--results", str(out), "--dataset", "vqa"])
    told = capsys.readouterr().out
    accuracy = results(world.runs / "toy")["val"]["pythia"]["accuracy"]
    assert f"{100 * accuracy:.2f}" in told


def test_result_files_are_checked(world, tmp_path, capsys):
    path = world.runs / "toy" / "submission_test.json"
    main(["predict", "--validate", str(path), "--dataset", "vqa"])
    assert "valid, 8 predictions for 8 questions" in capsys.readouterr().out
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(json.loads(path.read_text())[1:]))
    with pytest.raises(SystemExit) as stopped:
        main(["predict", "--validate", str(bad), "--dataset", "vqa"])
    assert stopped.value.code == 2
    assert "1 of 8 questions have no answer" in capsys.readouterr().out


def test_pictures_show_where_a_model_looked(world, tmp_path):
    words = ["--checkpoint", str(world.runs / "toy"), "--pictures", str(tmp_path), "--num-pictures", "3"]
    main(["evaluate", *words, "--device", "cpu"])
    sheet = np.asarray(Image.open(tmp_path / "attention_val.png").convert("RGB"))
    assert sheet.shape[0] > 200
    assert sheet.shape[1] > 800
    colored = (sheet.max(2).astype(int) - sheet.min(2)) > 60
    assert colored.mean() > 0.1  # the pictures, bright somewhere


def test_answers_of_gqa_stay_as_they_stand(own_world):
    toy_pictures.write_gqa(own_world.data)
    run = own_world.vqa("gqa", "--dataset", "gqa", "--model", "pythia", "--iters", "40", "--eval-every", "20")
    header = checkpoint.load(run / "checkpoints" / "pythia" / "last").header
    assert sorted(header["answers"]) == sorted(GQA_ANSWERS.values())
    found = results(run)["testdev"]
    assert found["pythia"]["accuracy"] == 1.0
    assert found["most_common"]["accuracy"] == pytest.approx(1 / 3)  # each answer is that of a third
    items = json.loads((run / "submission_test.json").read_text())
    assert items[0].keys() == {"questionId", "prediction"}
    assert len(items) == NUM_IMAGES["test2015"]


def test_lxmert_splits_and_its_list_of_answers(own_world, tmp_path):
    toy_pictures.write_lxmert(own_world.data)
    answers = vqa_data.save(tmp_path / "label2ans.json", ["", *toy_pictures.NAMES, "grey"])
    run = own_world.vqa("lx", "--dataset", "vqa_lxmert", "--model", "pythia", "--answers", str(answers))
    header = checkpoint.load(run / "checkpoints" / "pythia" / "last").header
    assert header["answers"] == ["", *toy_pictures.NAMES, "grey"]
    assert results(run).keys() == {"minival"}
    assert (run / "submission_test.json").is_file()


def test_features_of_other_programs_may_be_named_after_coco_numbers(world, tmp_path):
    store, folder = open_grid(world.grids), tmp_path / "clip"
    for key in store.image_keys:
        _, split, number = key.split("_")
        (folder / split).mkdir(parents=True, exist_ok=True)
        np.save(folder / split / f"{int(number)}.npy", store[key].permute(1, 2, 0)[None].float().numpy())
    run = world.vqa("npy", "--model", "pythia", "--no-question-only", features=folder)
    assert results(run)["val"]["pythia"]["features"] == "unknown"


def test_words_without_a_vector_are_told(world, tmp_path, caplog):
    log.logger.propagate = True
    caplog.set_level(logging.INFO, "vln_clip")
    vectors = tmp_path / "glove.txt"
    vectors.write_text("room 0.1 0.2 0.3\nis 1 1 1\n")
    world.vqa("glove", "--model", "pythia", "--no-question-only", "--word-vectors", str(vectors))
    # what color is the room red: two of six
    assert "word vectors: of 2 of the 6 words; the others are unknown words" in caplog.text


def test_a_split_that_is_learned_from_is_told(world, caplog):
    log.logger.propagate = True
    world.vqa("both", "--model", "pythia", "--no-question-only", "--learn-from", "train+val")
    assert "val is learned from, too" in caplog.text


def test_test_images_without_features_cost_no_results(own_world, caplog):
    log.logger.propagate = True
    few = toy_pictures.extract_grids(own_world.data, own_world.folder / "few.grid", ("train2014", "val2014"))
    run = own_world.vqa("x", "--model", "pythia", "--no-question-only", features=few)
    assert "no result file of test: 8 of its 8 questions ask about images without features" in caplog.text
    assert results(run)["val"]["pythia"]
    assert not (run / "submission_test.json").exists()
    with pytest.raises(InputError, match=r"every question must ask about an image with features in .*few\.grid"):
        main(["predict", "--checkpoint", str(run), "--device", "cpu"])


def annotate(world, change):
    path = world.data / "VQA" / "v2_mscoco_val2014_annotations.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def spoil_version(content):
    for item in content["annotations"]:
        item["answers"] = [answer["answer"] for answer in item["answers"]]


def spoil_image(content):
    content["annotations"][0]["image_id"] = 999


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            spoil_version,
            "val2014_annotations.json: .* must be an object with the text 'answer', .* this version of annot",
        ),
        (spoil_image, "question 101001 must ask about one image, got 101 in .* and 999 in .*val2014_annotations.json"),
        (
            lambda content: content["annotations"].pop(),
            "every question of .* must have an annotation in .* but 1 of 18",
        ),
    ],
)
def test_damaged_annotations_are_told(own_world, change, message):
    annotate(own_world, change)
    with pytest.raises(InputError, match=message):
        own_world.vqa("x")


def test_questions_about_images_without_features_are_told(own_world):
    few = toy_pictures.extract_grids(own_world.data, own_world.folder / "few.grid", ("train2014",))
    message = r"must ask about an image with features in .*few.*, but 9 images of 18 of the 18 questions are not there"
    with pytest.raises(InputError, match=message):
        own_world.vqa("x", features=few)


def test_a_truncated_image_is_told_when_its_grid_is_made(own_world):
    path = own_world.data / "COCO" / "images" / "val2014" / f"{toy_pictures.key('val2014', 101)}.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"an image must be a complete JPEG.*000000000101\.jpg"):
        own_world.vqa("x", features="pixels:8")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("clip_rn51", "encoder must be one of clip_rn50, .*, got 'clip_rn51'; did you mean"),
        (
            "nowhere/clip.grid",
            "--features must be an encoder or grid features that are there, got nowhere/clip.grid, wh",
        ),
    ],
)
def test_features_that_are_not_there_are_told(world, features, message):
    with pytest.raises(InputError, match=message):
        world.vqa("absent", features=features)


def test_a_model_is_not_used_with_grids_of_another_encoder(own_world):
    run = own_world.vqa("x", "--model", "pythia", "--no-question-only")
    shutil.rmtree(own_world.grids)
    toy_pictures.extract_grids(own_world.data, own_world.grids, encoder="pixels:6")
    message = (
        r"features of another encoder .*best_val was trained on grids with encoder 'pixels:8', got 'pixels:6' in .*"
    )
    with pytest.raises(InputError, match=message):
        main(["evaluate", "--checkpoint", str(run), "--device", "cpu"])
    (run / "results.json").unlink()
    with pytest.raises(InputError, match="was trained with other"):
        own_world.vqa("x", "--model", "pythia", "--no-question-only")


def test_pictures_need_the_images(own_world, tmp_path):
    run = own_world.vqa("x", "--model", "pythia", "--no-question-only")
    shutil.rmtree(own_world.data / "COCO" / "images")
    with pytest.raises(InputError, match="--pictures needs the images that questions ask about, got none of the name"):
        main(["evaluate", "--checkpoint", str(run), "--pictures", str(tmp_path), "--device", "cpu"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--dataset", "vqa2"], "--dataset must be one of auto, vqa, gqa, .*, got 'vqa2'"),
        (["trian"], "verb must be one of train, evaluate, predict, zeroshot, got 'trian'; did you mean 'train'"),
        (["evaluate"], "one of --checkpoint and --results must be given, got none"),
        (
            ["predict", "--checkpoint", "nowhere"],
            "--checkpoint must be a run's folder .*, got nowhere without best_val",
        ),
        (["evaluate", "--results", "nowhere.json"], "nowhere.json"),
    ],
)
def test_wrong_words_are_told(world, words, message):
    with pytest.raises(InputError, match=message):
        main(words)


def test_a_run_that_diverges_keeps_its_batches_and_replay_says_that_it_is_for_agents(own_world):
    with pytest.raises(InputError, match=r"pythia diverged in iteration \d+: .* is (nan|inf)") as told:
        own_world.vqa("wild", "--model", "pythia", "--lr", "1e30", "--iters", "60")
    (folder,) = (own_world.runs / "wild" / "diverged").iterdir()
    assert f"{folder} holds the weights" in str(told.value)
    with pytest.raises(InputError, match=r"must be of python -m vln_clip\.train to be repeated, got one of vqa"):
        replay.main([str(folder)])


def test_bad_input_ends_with_status_2(world, capsys):
    for program in (main, caption_main):
        with pytest.raises(SystemExit) as stopped:
            log.program(program, ["evaluate", "--checkpoint", "nowhere"])
        assert stopped.value.code == 2
        found = capsys.readouterr()
        assert found.out == ""
        assert found.err.startswith("error: --checkpoint must be a run's folder")
        assert len(found.err.splitlines()) == 1


def test_a_sheet_is_bright_where_the_weight_is():
    picture = np.full((8, 12, 3), 200, np.uint8)
    shown = shaded(picture, np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    assert shown[7, 11].tolist() == [200] * 3
    assert shown[0, 0].tolist() == [60] * 3  # 0.3 of 200
