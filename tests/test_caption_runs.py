"""The captioning program on small data of the public forms: what it trains, scores, writes, and refuses."""

import json
import logging
import shutil

import pytest
import torch
from PIL import Image

from tests import toy_pictures
from tests.toy_pictures import Pictures, picture, results
from vln_clip import checkpoint, log
from vln_clip.caption import recipe
from vln_clip.caption.__main__ import main
from vln_clip.errors import InputError

ROWS = {f"{name}{end}" for name in ("transformer", "no_image") for end in ("", "_xe", "_last")}
STAGES = ("transformer_xe", "transformer", "no_image_xe", "no_image")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data folder with a finished run, made once."""
    with pytest.MonkeyPatch.context() as patch:
        world = Pictures(tmp_path_factory.mktemp("caption"), patch)
        world.caption("toy", "--xe-epochs", "20", "--eval-every", "20")
    return world


@pytest.fixture
def world(made, monkeypatch):
    made.point(monkeypatch)
    return made


@pytest.fixture
def own_world(tmp_path, monkeypatch):
    """A data folder that a test may spoil."""
    return Pictures(tmp_path, monkeypatch)


def test_a_run_writes_results_checkpoints_and_result_files(world):
    run = world.runs / "toy"
    found = results(run)
    assert found.keys() == {"val", "test"}
    for split, count in (("val", 4), ("test", 5)):  # of the numbers 101 to 109 the even ones, and the odd ones
        assert found[split].keys() == ROWS
        for name, row in found[split].items():
            assert {"CIDEr", "BLEU-4", "ROUGE-L", "features", "tokenizer", "num_images"} <= row.keys()
            assert row["features"] == ("none" if name.startswith("no_image") else "pixels:8")
            assert row["num_images"] == count
        written = json.loads((run / f"captions_{split}_transformer.json").read_text())
        assert len(written) == count
        assert all(item.keys() == {"image_id", "caption"} for item in written)
    for stage in STAGES:
        assert (run / "checkpoints" / stage / "best_val" / checkpoint.FILE).is_file()


def test_who_sees_writes_better_captions(world):
    found = results(world.runs / "toy")["test"]
    assert found["transformer_xe"]["CIDEr"] > 2 * found["no_image_xe"]["CIDEr"]


def test_a_finished_run_is_shown_again_and_another_configuration_refused(world, capsys):
    run = world.runs / "toy"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    world.caption("toy", "--xe-epochs", "20", "--eval-every", "20")
    assert "transformer_last" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    with pytest.raises(InputError, match="run of another configuration: baseline is 'samples' now and was 'greedy'"):
        world.caption("toy", "--xe-epochs", "20", "--eval-every", "20", "--baseline", "samples")


def header(run, stage, which="last"):
    return checkpoint.load(run / "checkpoints" / stage / which).header


def test_self_critical_training_begins_with_the_last_of_cross_entropy_not_the_best(own_world, monkeypatch):
    begun = {}
    build = recipe._stage

    def watched(job, name, sees, model, *rest):
        begun[name] = {key: value.clone() for key, value in model.state_dict().items()}
        stage = build(job, name, sees, model, *rest)
        begun[f"{name} stage"] = stage
        return stage

    monkeypatch.setattr(recipe, "_stage", watched)
    run = own_world.caption("x", "--no-no-image")
    last = checkpoint.load(run / "checkpoints" / "transformer_xe" / "last")
    assert all(torch.equal(begun["transformer"][name], value) for name, value in last.weights.items())
    assert header(run, "transformer")["from"] == {"iteration": last.header["iteration"]}
    optimizer = begun["transformer stage"].optimizer
    assert [group["lr"] for group in optimizer.param_groups] == [5e-6]
    # 2 passes over 30 images in batches of 10 are 6 steps, then 1 pass 3: Adam's own count goes on.
    assert {int(state["step"]) for state in optimizer.state.values()} == {9}


def scripted(monkeypatch, scores):
    """Let validations find these scores one after another."""
    left = iter(scores)
    monkeypatch.setattr(recipe.Validation, "__call__", lambda self: {"val": {"CIDEr": next(left)}})


# Validations after steps 2, 4 and 6 of cross entropy, then after steps 2 and 3 of self-critical training.
@pytest.mark.parametrize(
    ("scores", "stage"), [([1, 3, 2, 3, 2.5], "transformer_xe"), ([1, 3, 2, 3.1, 2.5], "transformer")]
)
def test_the_best_is_only_that_of_self_critical_training_where_it_beats_cross_entropy(
    own_world, monkeypatch, scores, stage
):
    scripted(monkeypatch, scores)
    seen = []
    load = recipe.Job.load
    monkeypatch.setattr(recipe.Job, "load", lambda self, *names: seen.append(names[:2]) or load(self, *names))
    log.logger.propagate = True
    run = own_world.caption("x", "--no-no-image")
    assert (stage, "best_val") in seen
    wanted = json.loads((run / "captions_val_transformer.json").read_text())
    if stage == "transformer_xe":
        assert wanted == json.loads((run / "captions_val_transformer_xe.json").read_text())
        assert ("transformer", "best_val") not in seen


def test_no_self_critical_epochs_leave_the_stage_out(own_world):
    found = results(own_world.caption("x", "--scst-epochs", "0", "--no-no-image"))
    assert found["test"].keys() == {"transformer", "transformer_last"}


def test_a_run_without_features_has_the_model_without_images(own_world):
    found = results(own_world.caption("x", features="none"))
    assert found["val"].keys() == {"no_image", "no_image_xe", "no_image_last"}


def test_restval_is_training_data_unless_it_is_left_out(own_world, caplog):
    log.logger.propagate = True
    caplog.set_level(logging.INFO, "vln_clip")
    own_world.caption("all", "--no-no-image", "--scst-epochs", "0")
    own_world.caption("less", "--no-no-image", "--scst-epochs", "0", "--train-only")
    assert "'train': (30, 150)" in caplog.text  # images and captions
    assert "'train': (27, 135)" in caplog.text  # numbers 10, 20 and 30 are restval


def test_cocos_own_files_do_without_karpathys(own_world):
    (own_world.data / toy_pictures.COCO / "dataset_coco.json").unlink()
    toy_pictures.write_coco(own_world.data)
    found = results(own_world.caption("x", "--no-no-image", "--scst-epochs", "0"))
    assert found.keys() == {"val"}
    with pytest.raises(InputError, match=r"split 'test' of captions is one of Karpathy's, but file .* does not exist"):
        main(["evaluate", "--checkpoint", str(own_world.runs / "x"), "--device", "cpu"])


def test_images_without_captions_are_left_out_and_told(own_world, caplog):
    def hide(images):
        images[0]["sentences"] = []
        next(image for image in images if image["split"] == "val")["sentences"] = []

    log.logger.propagate = True
    toy_pictures.write_karpathy(own_world.data, hide)
    found = results(own_world.caption("x", "--no-no-image"))
    assert "left out 1 of 30 images, which have no caption" in caplog.text
    assert found["val"]["transformer"]["num_images"] == 3


def test_scores_are_printed_for_every_stage_and_for_a_result_file(world, capsys):
    run = world.runs / "toy"
    main(["evaluate", "--checkpoint", str(run), "--device", "cpu", *toy_pictures.WRITING])
    told = capsys.readouterr().out
    assert all(stage in told for stage in STAGES)
    cider = f"{100 * results(run)['test']['transformer_xe']['CIDEr']:.1f}"
    assert cider in told
    main(["evaluate", "--results", str(run / "captions_test_transformer_xe.json")])
    assert cider in capsys.readouterr().out


def test_result_files_are_written_and_checked(world, tmp_path, capsys):
    out = tmp_path / "captions_val2014_toy_results.json"
    words = ["--checkpoint", str(world.runs / "toy"), "--device", "cpu", "--split", "val", "--out", str(out)]
    main(["evaluate", *words, *toy_pictures.WRITING])
    assert len(json.loads(out.read_text())) == 4
    main(["evaluate", "--validate", str(out), "--split", "val"])
    assert "4 captions" in capsys.readouterr().out
    out.write_text(json.dumps(json.loads(out.read_text())[1:]))
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "--validate", str(out), "--split", "val"])
    assert stopped.value.code == 2
    assert "every image must have a caption" in capsys.readouterr().out


def write_pictures(folder):
    """One red picture in every form that users have."""
    red = picture(3, (64, 48))
    red.save(folder / "a.png")
    red.convert("L").save(folder / "gray.png")
    red.convert("RGBA").save(folder / "alpha.png")
    red.convert("P").save(folder / "palette.png")
    red.convert("CMYK").save(folder / "cmyk.jpg")
    exif = Image.Exif()
    exif[274] = 6
    red.rotate(90, expand=True).save(folder / "turned.jpg", exif=exif)


def test_pictures_of_ones_own_are_captioned_in_their_order(world, tmp_path, capsys):
    write_pictures(tmp_path)
    (tmp_path / "other").mkdir()
    picture(4).save(tmp_path / "other" / "a.jpg")  # of the same name as the first
    names = ["turned.jpg", "a.png", "gray.png", "alpha.png", "palette.png", "cmyk.jpg", "other/a.jpg"]
    main(["caption", *(str(tmp_path / name) for name in names), "--checkpoint", str(world.runs / "toy")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(tmp_path / name) for name in names]
    texts = [line.partition(": ")[2] for line in lines]
    assert all(texts)
    for place in (0, 1, 3):
        assert "red" in texts[place]
    assert "green" in texts[6]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda path: path.write_bytes(b"no picture"),
            r"an image must be a complete JPEG, PNG or WebP file, got .*x\.jpg",
        ),
        (lambda path: path.write_bytes(b""), r"an image must be a complete JPEG, PNG or WebP file, got .*x\.jpg"),
        (lambda path: picture(1, (3, 2)).save(path), "image .* must be at least 16 pixels high and wide"),
        (lambda path: None, r"pictures must be folders or image files, got .*x\.jpg which does not exist"),
        (lambda path: path.mkdir(), r"pictures must be folders with .* files, got .*x\.jpg without any"),
    ],
)
def test_what_is_no_picture_is_told(world, tmp_path, write, message):
    path = tmp_path / "x.jpg"
    write(path)
    with pytest.raises(InputError, match=message):
        main(["caption", str(path), "--checkpoint", str(world.runs / "toy")])


def test_a_truncated_picture_is_told(world, tmp_path):
    path = tmp_path / "x.jpg"
    picture(1).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"an image must be a complete JPEG, .*, got .*x\.jpg \(.*truncated"):
        main(["caption", str(path), "--checkpoint", str(world.runs / "toy")])


def test_no_picture_at_all_is_told(world):
    with pytest.raises(InputError, match="give at least one image file or folder"):
        main(["caption", "--checkpoint", str(world.runs / "toy")])


def test_a_blind_captioner_captions_no_pictures(world, tmp_path):
    world.caption("blind", "--scst-epochs", "0", "--xe-epochs", "0.4", features="none")
    picture(1).save(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"must hold a captioner that sees, got .* with \['no_image_xe'\]"):
        main(["caption", str(tmp_path / "x.png"), "--checkpoint", str(world.runs / "blind")])


def test_captions_of_no_words_are_told(own_world):
    def hide(images):
        for image in images:
            image["sentences"] = [{"tokens": [], "raw": ""} for _ in range(5)]

    toy_pictures.write_karpathy(own_world.data, hide)
    with pytest.raises(InputError, match=r"dataset_coco.json must hold captions, but none of its 195 has a word"):
        own_world.caption("x")


def test_captions_of_images_without_features_are_told(own_world):
    few = toy_pictures.extract_grids(own_world.data, own_world.folder / "few.grid", ("train2014",))
    with pytest.raises(InputError, match=r"features .*few\.grid must hold every captioned image, but 4 of 4 are not"):
        own_world.caption("x", features=few)


def test_a_captioner_is_not_used_with_grids_of_another_encoder(own_world):
    run = own_world.caption("x", "--no-no-image", "--scst-epochs", "0")
    shutil.rmtree(own_world.grids)
    toy_pictures.extract_grids(own_world.data, own_world.grids, encoder="pixels:6")
    message = (
        r"features of another encoder or recipe: .*trained on grids with encoder 'pixels:8', got 'pixels:6' in .*toy"
    )
    with pytest.raises(InputError, match=message):
        main(["evaluate", "--checkpoint", str(run), "--device", "cpu"])


def test_a_checkpoint_of_vqa_is_refused(own_world):
    run = own_world.vqa("v", "--model", "pythia", "--no-question-only")
    with pytest.raises(InputError, match=r"must be a checkpoint of python -m vln_clip.caption, got one of another"):
        main(["evaluate", "--checkpoint", str(run)])
