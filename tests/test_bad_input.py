"""Every bad input of the programs: one clear sentence and exit status 2."""

import gzip
import json
import re
import shutil

import pytest
import torch

from tests.toy_runs import SMALL, write_predictions
from tests.toy_world import scan_rows, write_features, write_scan
from vln_clip import checkpoint, evaluate, log, setting, submit, train
from vln_clip.connectivity import NavTables
from vln_clip.features import open_store
from vln_clip.features.formats import write_tsv
from vln_clip.features.store import numpy_rows, write_store


def refused(capsys, program, argv):
    """Run a program that must refuse its input; return its one sentence."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        log.program(program, [str(word) for word in argv])
    assert stopped.value.code == 2
    told = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in told if line.startswith("error: ")]
    assert len(errors) == 1, told
    assert told[-1] == errors[0]  # one line, the last one
    assert "Traceback" not in "".join(told)
    return errors[0].removeprefix("error: ")


def refused_training(capsys, world, *argv, features=None):
    words = ["--features", features or world.features, "--runs", world.runs, "--name", "refused", *argv]
    return refused(capsys, train.main, [*SMALL, *words])


def test_bad_graphs_are_refused(own_world, capsys):
    connectivity = own_world.data / "connectivity"
    rows = scan_rows("beta")
    rows[0]["pose"] = rows[0]["pose"][:15]
    write_scan(connectivity, "beta", rows)
    told = refused_training(capsys, own_world)
    assert "beta_connectivity.json: pose of b0 must be 16 numbers (row-major 4x4), got 15 entries" in told
    (connectivity / "beta_connectivity.json").unlink()
    assert "beta_connectivity.json is missing; scan must be one of" in refused_training(capsys, own_world)
    shutil.rmtree(connectivity)
    told = refused_training(capsys, own_world)
    assert "is missing; copy the connectivity folder" in told
    assert "VLN_CLIP_DATA" in told


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scan": "alhpa"}, "alhpa_connectivity.json is missing; scan must be one of alpha, beta, gamma, got 'alhpa'"),
        ({"path": ["a0", "a9"]}, "item 0 (path_id 100): viewpoint 'a9' of scan 'alpha'"),
        ({"path": ["a0", "ax"]}, "item 0 (path_id 100): viewpoint 'ax' of scan 'alpha'"),
        ({"path": ["a0", "a3", "a2"]}, "consecutive viewpoints of a path must be neighbours"),
        ({"path": ["a0", "a2"], "heading": None}, "heading must be a finite number of radians"),
    ],
)
def test_bad_annotations_are_refused(own_world, capsys, change, message):
    path = own_world.data / "R2R" / "R2R_train.json"
    items = json.loads(path.read_text())
    items[0] |= change
    path.write_text(json.dumps(items))
    told = refused_training(capsys, own_world)
    assert message in told


def rewritten(**changes):
    """Change a function of lines: the third of a file gets other fields."""

    def change(lines):
        lines[2] = json.dumps(json.loads(lines[2]) | changes).encode()
        return gzip.compress(b"\n".join(lines))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (rewritten(instruction_id=1), "line 3: instruction_id must be unique, got 1 again"),
        (rewritten(language="te-IN"), "line 3 (instruction_id 3): instruction must be written in Telugu as its"),
        (rewritten(path=["a0", "a2"], path_id=9), "line 3 (path_id 9): consecutive viewpoints of a path must be"),
        (rewritten(path=["a0", "b1"], path_id=9), "line 3 (path_id 9): viewpoint 'b1' of scan 'alpha'"),
        (rewritten(path=["a0", "a1"]), "line 3: path_id 5000 must mean one scan and path, got another than line 1"),
        (lambda lines: gzip.compress(b"\n".join([*lines[:4], lines[4][:50]])), "line 5 must be JSON, but"),
        (lambda lines: gzip.compress(b"\n".join(lines))[:300], "must be a whole gzip archive, got a damaged or trunc"),
    ],
)
def test_damaged_guides_are_refused_by_line(own_world, capsys, damage, message):
    path = own_world.data / "RxR" / "rxr_train_guide.jsonl.gz"
    path.write_bytes(damage(gzip.decompress(path.read_bytes()).splitlines()))
    told = refused_training(capsys, own_world, "--dataset", "rxr")
    assert f"{path}" in told
    assert message in told


def test_features_that_lack_viewpoints_are_refused(own_world, capsys):
    few = NavTables.load(own_world.data / "connectivity", ["alpha", "gamma"], cache=False)
    write_features(own_world.folder / "few.safetensors", few)
    told = refused_training(capsys, own_world, features=str(own_world.folder / "few.safetensors"))
    assert "features must cover every viewpoint" in told
    assert "lacks 8 of 21, e.g. beta_b0" in told


def test_a_truncated_tsv_is_refused(own_world, capsys):
    path = own_world.folder / "toy.tsv"
    write_tsv(path, numpy_rows(open_store(own_world.data / "features" / "toy.safetensors")))
    path.write_bytes(path.read_bytes()[:-200])
    told = refused_training(capsys, own_world, features=str(path))
    assert "toy.tsv line 21: features must be" in told
    assert "truncated" in told


def test_an_incomplete_tsv_is_refused_by_its_own_name(own_world, capsys):
    rows = list(numpy_rows(open_store(own_world.data / "features" / "toy.safetensors")))
    path = own_world.folder / "toy.tsv"
    for kept, message in (
        (rows[:-1], "(converted from toy.tsv) which lacks 1 of 21, e.g. gamma_"),
        ([*rows, rows[0]], f"{path} must have each viewpoint once, got alpha_"),
        ([], f"{path} must hold the features of at least one viewpoint, got none"),
    ):
        write_tsv(path, kept)
        assert message in refused_training(capsys, own_world, features=str(path))


def test_other_features_under_the_same_name_are_told_when_a_run_goes_on(own_world, capsys):
    run = own_world.train("--no-blind", name="refused")
    (run / "results.json").unlink()
    path = own_world.data / "features" / "toy.safetensors"
    store = open_store(path)
    write_store(path, store.header, [(key, features + 1) for key, features in numpy_rows(store)])
    told = refused_training(capsys, own_world, "--no-blind")
    assert "was trained with other feature fingerprints" in told


def test_evaluation_warns_of_other_features_under_the_same_name(own_world, capsys):
    run = own_world.train("--no-blind")
    path = own_world.data / "features" / "toy.safetensors"
    store = open_store(path)
    write_store(path, store.header, [(key, features + 1) for key, features in numpy_rows(store)])
    log.setup()
    capsys.readouterr()
    evaluate.main(["--checkpoint", str(run)])
    assert "the toy features found here are not the ones it was trained with" in capsys.readouterr().err


def test_unlabelled_paths_of_other_buildings_and_other_ones_on_the_way_are_refused(own_world, capsys):
    file = own_world.data / "R2R" / "aug_paths.json"
    shutil.copy(own_world.data / "R2R" / "R2R_val_unseen.json", file)
    told = refused_training(capsys, own_world, "--bt")
    assert "aug_paths.json: unlabelled paths must lie in training buildings" in told
    file.unlink()
    run = own_world.train("--bt", "--no-blind", name="refused")
    (run / "results.json").unlink()
    shutil.copy(own_world.data / "R2R" / "R2R_val_seen.json", file)
    told = refused_training(capsys, own_world, "--bt", "--no-blind")
    assert "was trained with other unlabelled paths: 'sampled with seed" in told
    told = refused_training(capsys, own_world, "--bt", "--num-aug-paths", "9", "--aug-paths", str(file))
    assert "give one of the two" in told


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("clip_rn50x5", "did you mean 'clip_rn50x4'?"),
        ("toyy", "did you mean 'toy'?"),
        ("clip_rn50+", "features must be NAME, A+B, a file or none, got 'clip_rn50+'"),
        ("nowhere.tsv", "'nowhere.tsv' which does not exist"),
    ],
)
def test_unknown_features_are_refused(own_world, capsys, features, message):
    assert message in refused_training(capsys, own_world, features=features)


def test_features_that_are_not_there_say_where_to_get_them(own_world, capsys):
    told = refused_training(capsys, own_world, features="clip_rn50x4")
    assert str(own_world.data / "features") in told
    assert "CLIP-ResNet-50x4-views.tsv" in told


def test_a_corrected_command_works_after_a_refused_one(own_world, capsys):
    refused_training(capsys, own_world, features="clip_rn50x5")
    run = own_world.train("--no-blind", features="none", name="refused")
    assert (run / "results.json").is_file()


def test_missing_data_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VLN_CLIP_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path / "cache"))
    told = refused(capsys, train.main, [*SMALL, "--features", "none", "--runs", tmp_path / "runs"])
    assert "R2R_train.json of split 'train' is missing; download https://" in told


def test_unknown_names_of_data_set_and_split_are_refused(world, capsys):
    told = refused(capsys, train.main, ["--dataset", "r2d"])
    known = "auto, r2r, xl-r2r, r4r, rxr, r2r-ce, rxr-ce, demo, demo-rxr"
    assert told == f"--dataset must be one of {known}, got 'r2d'; did you mean 'r2r'?"
    for program, argv in (
        (evaluate.main, ["--checkpoint", world.runs / "toy"]),
        (submit.main, ["--validate", world.runs / "toy" / "submission_test.json"]),
    ):
        told = refused(capsys, program, [*argv, "--dataset", "r2d"])
        known = "auto, r2r, xl-r2r, r4r, rxr, r2r-ce, rxr-ce, demo, demo-rxr"
    assert told == f"--dataset must be one of {known}, got 'r2d'; did you mean 'r2r'?"
    told = refused(capsys, evaluate.main, ["--checkpoint", world.runs / "toy", "--split", "val_unsen"])
    assert told.startswith("split must be one of train, val_seen, val_unseen, test, got 'val_unsen'; did you mean")


def test_another_configuration_of_a_run_is_refused(world, capsys):
    argv = [*SMALL, "--features", world.features, "--runs", world.runs, "--name", "toy", "--bt", "--seed", "2"]
    told = refused(capsys, train.main, argv)
    assert "holds a run of another configuration: seed is 2 now and was 1; give this one another --name" in told


def test_a_checkpoint_of_another_configuration_is_refused(world, tmp_path, capsys):
    class Other(torch.nn.Module):
        def state_dict(self):
            return saved.weights | {"encoder.embedding.weight": torch.zeros(3, 8)}

    saved = checkpoint.load(world.runs / "toy" / "checkpoints" / "follower" / "last")
    checkpoint.save(tmp_path / "other", Other(), saved.header)
    told = refused(capsys, evaluate.main, ["--checkpoint", tmp_path / "other"])
    assert "is of another configuration: encoder.embedding.weight is (3, 8) there and (" in told


def test_features_of_the_wrong_width_are_refused(world, tmp_path, capsys):
    tables = NavTables.load(world.data / "connectivity", cache=False)
    wide = write_features(tmp_path / "wide.safetensors", tables, width=5)
    told = refused(capsys, evaluate.main, ["--checkpoint", world.runs / "toy", "--features", wide])
    assert "must have 8 columns, got 5" in told


def test_what_is_no_checkpoint_is_refused(world, tmp_path, capsys):
    told = refused(capsys, evaluate.main, ["--checkpoint", tmp_path])
    assert "must be a run's folder or a checkpoint folder" in told
    told = refused(capsys, evaluate.main, ["--checkpoint", world.runs / "toy" / "checkpoints" / "speaker" / "last"])
    assert "must be a follower's checkpoint, but is one of stage 'speaker'" in told
    follower = world.runs / "toy" / "checkpoints" / "follower" / "last"
    saved = checkpoint.load(follower)
    header = {name: value for name, value in saved.header.items() if name not in ("features", "config")}
    checkpoint.save(
        tmp_path / "older", setting.load_follower(follower, None, ["val_unseen"], torch.device("cpu")).follower, header
    )
    told = refused(capsys, evaluate.main, ["--checkpoint", tmp_path / "older"])
    assert "older was saved by another version of this package: it lacks config, features; train anew" in told
    told = refused(capsys, evaluate.main, ["--checkpoint", world.runs / "toy", "--split", "test"])
    assert "--split test hides its goals; write its submission with vln-clip submit" in told


def test_either_a_checkpoint_or_a_file_must_be_given(capsys):
    assert "give either --predictions FILE or --checkpoint FOLDER" in refused(capsys, evaluate.main, [])
    assert "give either --checkpoint FOLDER" in refused(capsys, submit.main, [])


def without_the_second(items):
    del items[1]


def jumping(items):
    items[0]["trajectory"].insert(1, ["b7", 0.0, 0.0])  # b0 -> b7 is no edge


def emptied(items):
    items[2]["trajectory"] = []


def displaced(items):
    items[0]["trajectory"] = items[0]["trajectory"][1:]


FAULTS = [
    (without_the_second, "300_1"),
    (jumping, "every hop of a trajectory must be an edge of the navigation graph, got a jump in 300_0 from b0 to b7"),
    (emptied, "300_2"),
    (displaced, "trajectory of 300_0 must start at viewpoint b0, got b1"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS)
def test_bad_predictions_are_refused(world, tmp_path, capsys, change, message):
    path = write_predictions(world, tmp_path / "p.json", change=change)
    out = tmp_path / "scores.json"
    told = refused(capsys, evaluate.main, ["--dataset", "r2r", "--predictions", path, "--json", out])
    assert message in told
    assert not out.exists()


@pytest.mark.parametrize(("change", "message"), FAULTS)
def test_bad_submissions_are_refused(world, tmp_path, capsys, change, message):
    path = write_predictions(world, tmp_path / "p.json.gz", change=change)
    with pytest.raises(SystemExit) as stopped:
        log.program(submit.main, ["--dataset", "r2r", "--split", "val_unseen", "--validate", str(path)])
    told = capsys.readouterr()
    assert stopped.value.code == 2
    assert re.fullmatch(rf"error: submission {path} is not valid: \d+ problems, see above", told.err.splitlines()[-1])
    assert told.out.startswith(f"{path}: not valid, ")
    assert message in told.out


def test_missing_and_jumping_predictions_can_be_allowed(world, tmp_path):
    out = tmp_path / "scores.json"
    path = write_predictions(
        world, tmp_path / "p.json", change=lambda items: (jumping(items), without_the_second(items))
    )
    evaluate.main(
        f"--dataset r2r --predictions {path} --json {out} --allow-missing --allow-jumps".split()  # both are flags
    )
    assert json.loads(out.read_text())["num_instructions"] == 11
