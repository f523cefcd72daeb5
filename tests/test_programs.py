"""The programs from end to end on the toy world, and every bad input: one sentence and exit status 2."""

import gzip
import json
import logging
import shutil
import sys

import pytest
import torch

from tests.toy_world import scan_rows, use_world, write_features, write_scan
from vln_clip import __main__, data, evaluate, log, submit, train
from vln_clip.connectivity import NavTables
from vln_clip.features import open_store
from vln_clip.features.formats import write_tsv
from vln_clip.features.store import numpy_rows

FLAGS = {
    "dataset": "r2r",
    "iters": 4,
    "eval-every": 2,
    "speaker-iters": 4,
    "speaker-eval-every": 2,
    "bt-iters": 4,
    "bt-eval-every": 2,
    "batch-size": 8,
    "hidden-width": 16,
    "word-width": 8,
    "action-width": 6,
    "angle-width": 8,
    "max-action": 6,
    "max-decode": 8,
    "num-aug-paths": 50,
    "train-batches": 1,
    "device": "cpu",
}
SMALL = [word for name, value in FLAGS.items() for word in (f"--{name}", str(value))]
METRICS = ["nav_error", "oracle_error", "steps", "lengths", "success_rate", "oracle_rate", "spl", "ndtw", "sdtw", "cls"]
KEYS = [*METRICS, "num_instructions"]  # what the JSON file of `evaluate` must hold
ROWS = ["random", "shortest_path", "blind", "follower", "follower_last", "back_translated", "back_translated_last"]


@pytest.fixture(autouse=True)
def _own_logging():
    """Programs configure logging; put it back."""
    logger = logging.getLogger("vln_clip")
    before = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = before[0], before[1]
    logger.setLevel(before[2])


class World:
    """A toy data folder that is this process's, and a finished run on it."""

    def __init__(self, folder, patch):
        self.folder, self.runs = folder, folder / "runs"
        self.data = use_world(folder, patch)
        self.features = str(self.data / "features" / "toy.safetensors")

    def train(self, *argv, features=None, name="toy"):
        words = ["--features", features or self.features, "--runs", str(self.runs), "--name", name]
        train.main([*SMALL, *words, *argv])
        return self.runs / name


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        world = World(tmp_path_factory.mktemp("toy"), patch)
        world.train("--bt")
        yield world


@pytest.fixture
def own_world(tmp_path, monkeypatch):
    """A toy data folder that a test may spoil."""
    return World(tmp_path, monkeypatch)


@pytest.fixture
def results(world):
    return json.loads((world.runs / "toy" / "results.json").read_text())


def state(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path, path.stat().st_mtime_ns, path.read_bytes()) for path in files]


def test_training_writes_results_of_every_split_and_row(results):
    assert list(results) == ["train", "val_unseen", "val_seen"]
    for split, count in (("train", 69), ("val_unseen", 12), ("val_seen", 12)):
        assert list(results[split]) == ROWS
        for row, metrics in results[split].items():
            assert set(metrics) == {*KEYS, "features"}
            assert metrics["num_instructions"] == count
            seen = row.startswith(("follower", "back_translated"))
            assert metrics["features"] == ("toy" if seen else "none")
        shortest = results[split]["shortest_path"]
        assert (shortest["success_rate"], shortest["spl"], shortest["nav_error"]) == (1, 1, 0)
        assert all(0 <= metrics["success_rate"] <= 1 for metrics in results[split].values())


def test_training_writes_a_valid_submission(world, capsys):
    path = world.runs / "toy" / "submission_test.json"
    items = json.loads(path.read_text())
    assert len(items) == 12
    assert set(items[0]) == {"instr_id", "trajectory"}
    assert [len(pose) for pose in items[0]["trajectory"]] == [3] * len(items[0]["trajectory"])
    log.program(submit.main, ["--dataset", "r2r", "--split", "test", "--validate", str(path)])
    assert "valid, 12 predictions for 12 instructions" in capsys.readouterr().err
    about = json.loads((world.runs / "toy" / "submission_test.about.json").read_text())
    assert (about["agent"], about["features"]) == ("back_translated", "toy")


def test_training_keeps_metrics_events_and_checkpoints(world):
    run = world.runs / "toy"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    stages = ["follower", "follower", "blind", "blind", "speaker", "speaker", "back_translated", "back_translated"]
    assert [line["stage"] for line in lines] == stages
    assert [line["iteration"] for line in lines] == [2, 4] * 4
    assert any((run / "events").iterdir())
    for stage in ("follower", "blind", "back_translated"):
        assert {p.name for p in (run / "checkpoints" / stage).iterdir()} == {"best_val_unseen", "best_val_seen", "last"}
    header = json.loads((run / "checkpoints" / "follower" / "last" / "checkpoint.json").read_text())
    assert header["features"] == "toy"
    assert header["feature_width"] == 8
    assert json.loads((run / "checkpoints" / "blind" / "last" / "checkpoint.json").read_text())["features"] == "none"
    assert json.loads((run / "config.json").read_text())["follower"]["iters"] == 4


def test_a_finished_run_is_told_and_left_alone(world, capsys):
    before = state(world.runs / "toy")
    log.setup()
    world.train("--bt")
    assert state(world.runs / "toy") == before
    found = capsys.readouterr()
    assert "is finished; another --name starts a new run" in found.err
    assert "back_translated" in found.out


def test_the_printed_table_has_every_row(world, capsys):
    world.train("--bt")
    table = capsys.readouterr().out
    assert all(word in table for word in (*ROWS, "val_seen", "val_unseen", "SR %", "nDTW %"))


def test_without_bt_and_blind_there_is_only_the_follower(world):
    run = world.train("--no-blind", name="alone")
    found = json.loads((run / "results.json").read_text())["val_unseen"]
    assert list(found) == ["random", "shortest_path", "follower", "follower_last"]
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"follower"}


def test_without_features_the_follower_is_the_blind_row(world, results):
    run = world.train(features="none", name="none")
    found = json.loads((run / "results.json").read_text())["val_unseen"]
    assert found["blind"] == found["follower"]
    assert found["blind"]["features"] == "none"
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"follower"}
    assert found["random"] == results["val_unseen"]["random"]  # of the same seed


def test_the_seed_decides_the_results(world):
    runs = [world.train("--no-blind", "--seed", seed, name=name) for name, seed in (("s1", "5"), ("s2", "5"))]
    first, second = (json.loads((run / "results.json").read_text()) for run in runs)
    assert first == second


@pytest.mark.parametrize("stage", ["FollowerLearner", "SpeakerLearner", "BackTranslationLearner"])
def test_a_stopped_run_ends_with_the_same_results(world, results, monkeypatch, stage):
    learner = getattr(train.envdrop, stage)
    learn, calls = learner.__call__, iter(range(100))

    def stopping(self):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return learn(self)

    name = f"stopped_{stage}"
    with monkeypatch.context() as patched:
        patched.setattr(learner, "__call__", stopping)
        with pytest.raises(KeyboardInterrupt):
            world.train("--bt", name=name)
    run = world.train("--bt", name=name)
    assert json.loads((run / "results.json").read_text()) == results
    ours, whole = (world.runs / n / "metrics.jsonl" for n in (name, "toy"))
    assert ours.read_text() == whole.read_text()
    ours, whole = (world.runs / n / "submission_test.json" for n in (name, "toy"))
    assert ours.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("path", "row"),
    [
        ("", "back_translated"),
        ("checkpoints/follower/last", "follower_last"),
        ("checkpoints/blind/best_val_unseen", "blind"),
    ],
)
def test_evaluating_a_checkpoint_repeats_its_results(world, results, tmp_path, capsys, path, row):
    out = tmp_path / "deep" / "scores.json"
    checkpoint = str(world.runs / "toy" / path)
    evaluate.main(["--checkpoint", checkpoint, "--split", "val_unseen", "--json", str(out), "--device", "cpu"])
    found = json.loads(out.read_text())
    assert list(found) == KEYS
    assert found == pytest.approx({key: results["val_unseen"][row][key] for key in KEYS})
    assert "12 instructions" in " ".join(capsys.readouterr().out.split())


def write_predictions(world, path, split="val_unseen", **changes):
    """Write the shortest paths of a split as predictions."""
    items = json.loads((world.data / "R2R" / f"R2R_{split}.json").read_text())
    found = [
        {"instr_id": f"{item['path_id']}_{k}", "trajectory": [[v, 0.0, 0.0] for v in item["path"]]}
        for item in items
        for k in range(3)
    ]
    change = changes.get("change")
    if change is not None:
        change(found)
    opener = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "wt") as file:
        json.dump(found, file)
    return str(path)


@pytest.mark.parametrize("name", ["shortest.json", "shortest.json.gz"])
def test_evaluating_a_prediction_file_overwrites_its_json(world, tmp_path, name):
    out = tmp_path / "scores.json"
    out.write_text("old")
    predictions = write_predictions(world, tmp_path / name)
    evaluate.main(["--dataset", "r2r", "--split", "val_unseen", "--predictions", predictions, "--json", str(out)])
    found = json.loads(out.read_text())
    assert list(found) == KEYS
    assert (found["success_rate"], found["spl"], found["num_instructions"]) == (1.0, 1.0, 12)


def test_a_subset_of_a_split_can_be_evaluated(world, tmp_path):
    out = tmp_path / "scores.json"
    evaluate.main(["--checkpoint", str(world.runs / "toy"), "--split", "val_unseen@2", "--json", str(out)])
    assert json.loads(out.read_text())["num_instructions"] == 6


def test_a_submission_is_written_and_equals_the_run_s(world, tmp_path):
    out = tmp_path / "sub.json"
    submit.main(["--checkpoint", str(world.runs / "toy"), "--out", str(out), "--device", "cpu"])
    assert json.loads(out.read_text()) == json.loads((world.runs / "toy" / "submission_test.json").read_text())
    assert json.loads((tmp_path / "sub.about.json").read_text())["features"] == "toy"


def test_the_data_program_says_what_is_there(world, capsys):
    log.program(data.main, ["--dataset", "r2r"])
    told = capsys.readouterr().err
    assert f"r2r: {world.data}" in told
    assert "splits: train, val_seen, val_unseen, test" in told
    assert "missing: R2R/train_vocab.txt, from https://" in told


def test_the_data_program_lists_no_split_that_is_missing(own_world, capsys):
    (own_world.data / "R2R" / "R2R_test.json").unlink()
    log.program(data.main, ["--dataset", "r2r"])
    told = capsys.readouterr().err
    assert "splits: train, val_seen, val_unseen\n" in told
    assert "missing: R2R/R2R_test.json, from https://" in told


def test_training_goes_without_test_and_val_seen(own_world, capsys):
    for split in ("test", "val_seen"):
        (own_world.data / "R2R" / f"R2R_{split}.json").unlink()
    log.setup()
    run = own_world.train("--no-blind", features="none")
    assert list(json.loads((run / "results.json").read_text())) == ["train", "val_unseen"]
    assert not (run / "submission_test.json").exists()
    assert "there is no test split" in capsys.readouterr().err


def test_unlabelled_paths_may_come_from_a_file(world, tmp_path):
    aug = tmp_path / "aug_paths.json"
    shutil.copy(world.data / "R2R" / "R2R_val_seen.json", aug)
    run = world.train("--bt", "--no-blind", "--aug-paths", str(aug), name="aug")
    assert "back_translated" in json.loads((run / "results.json").read_text())["val_unseen"]


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
        ({"path": ["a0", "a9"]}, "path_id 100: viewpoint 'a9' of scan 'alpha'"),
        ({"path": ["a0", "ax"]}, "path_id 100: viewpoint 'ax' of scan 'alpha'"),
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
    assert told == "--dataset must be one of auto, demo, r2r, got 'r2d'; did you mean 'r2r'?"
    told = refused(capsys, evaluate.main, ["--checkpoint", world.runs / "toy", "--split", "val_unsen"])
    assert told.startswith("split must be one of train, val_seen, val_unseen, test, got 'val_unsen'; did you mean")


def test_another_configuration_of_a_run_is_refused(world, capsys):
    argv = [*SMALL, "--features", world.features, "--runs", world.runs, "--name", "toy", "--bt", "--seed", "2"]
    told = refused(capsys, train.main, argv)
    assert "holds a run of another configuration: seed is 2 now and was 1; give this one another --name" in told


def test_a_checkpoint_of_another_configuration_is_refused(world, tmp_path, capsys):
    from vln_clip import checkpoint

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
    told = refused(capsys, submit.main, ["--dataset", "r2r", "--split", "val_unseen", "--validate", path])
    assert told.startswith(f"submission {path} is not valid")
    assert message in told


def test_missing_and_jumping_predictions_can_be_allowed(world, tmp_path):
    out = tmp_path / "scores.json"
    path = write_predictions(
        world, tmp_path / "p.json", change=lambda items: (jumping(items), without_the_second(items))
    )
    evaluate.main(
        f"--dataset r2r --predictions {path} --json {out} --allow-missing --allow-jumps".split()  # both are flags
    )
    assert json.loads(out.read_text())["num_instructions"] == 11


def test_an_interrupted_program_says_how_to_go_on(capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        log.program(interrupted, [])
    assert stopped.value.code == 130
    assert "the same command goes on from the last checkpoint" in capsys.readouterr().err


def test_the_console_script_runs_programs_by_their_verbs(world, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vln-clip", "data", "--dataset", "r2r"])
    __main__.main()
    assert "splits: train" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["vln-clip", "trian"])
    with pytest.raises(SystemExit) as stopped:
        __main__.main()
    assert stopped.value.code == 2
    assert "did you mean 'train'?" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["vln-clip"])
    with pytest.raises(SystemExit) as stopped:
        __main__.main()
    assert not stopped.value.code
    usage = capsys.readouterr().out
    assert all(verb in usage for verb in __main__.PROGRAMS)


@pytest.mark.parametrize("program", [train, evaluate, submit, data])
def test_every_program_explains_its_flags(program, capsys):
    with pytest.raises(SystemExit) as stopped:
        program.main(["--help"])
    assert not stopped.value.code
    assert "--dataset" in capsys.readouterr().out
