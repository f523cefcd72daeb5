"""The programs from end to end on the toy world. What they refuse: tests/test_bad_input.py."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.toy_runs import write_predictions
from vln_clip import __main__, evaluate, files, log, submit, train
from vln_clip.config import TrainConfig
from vln_clip.errors import InputError
from vln_clip.run import Run

ERRORS = ["nav_error", "oracle_error", "steps", "lengths", "success_rate", "oracle_rate", "spl"]
KEYS = [*ERRORS, "ndtw", "sdtw", "cls", "dtw", "num_instructions"]  # what the JSON file of `evaluate` must hold
ROWS = [
    "random",
    "shortest_path",
    "no_instruction",
    "blind",
    "follower",
    "follower_last",
    "back_translated",
    "back_translated_last",
]


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
            seen = row.startswith(("follower", "back_translated", "no_instruction"))
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
    assert f"{path}: valid, 12 predictions for 12 instructions" in capsys.readouterr().out
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
        assert {p.name for p in (run / "checkpoints" / stage).iterdir()} == {
            "best_val_unseen",
            "best_val_seen",
            "last",
            "previous",
        }
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
    assert list(found) == ["random", "shortest_path", "no_instruction", "follower", "follower_last"]
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
    assert list(found) == [*KEYS, "ci", "rows"]
    assert [found[key] for key in KEYS] == pytest.approx([results["val_unseen"][row][key] for key in KEYS])
    assert "12 instructions" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", ["shortest.json", "shortest.json.gz"])
def test_evaluating_a_prediction_file_overwrites_its_json(world, tmp_path, name):
    out = tmp_path / "scores.json"
    out.write_text("old")
    predictions = write_predictions(world, tmp_path / name)
    evaluate.main(["--dataset", "r2r", "--split", "val_unseen", "--predictions", predictions, "--json", str(out)])
    found = json.loads(out.read_text())
    assert list(found) == [*KEYS, "ci", "rows"]
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


def test_unlabelled_paths_of_the_data_set_are_taken_unless_sampling_is_asked_for(own_world, capsys):
    log.setup()
    rows = json.loads((own_world.data / "R2R" / "R2R_val_seen.json").read_text())
    file = own_world.data / "R2R" / "aug_paths.json"
    file.write_text(json.dumps([row | {"instructions": [""]} for row in rows]))
    own_world.train("--bt", "--no-blind", "--num-aug-paths", "50", name="sampled")
    assert "unlabelled paths: 50, sampled with seed" in capsys.readouterr().err
    run = own_world.train("--bt", "--no-blind", name="read")
    assert f"unlabelled paths: {len(rows)}, of aug_paths.json, sha256 " in capsys.readouterr().err
    about = json.loads((run / "submission_test.about.json").read_text())
    assert about["unlabelled_paths"].startswith("of aug_paths.json, sha256 ")


def test_an_interrupted_program_says_how_to_go_on(capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        log.program(interrupted, [])
    assert stopped.value.code == 130
    assert "goes on from its last checkpoint with the same command" in capsys.readouterr().err


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


@pytest.mark.parametrize("program", [train, evaluate, submit])
def test_every_program_explains_its_flags(program, capsys):
    with pytest.raises(SystemExit) as stopped:
        program.main(["--help"])
    assert not stopped.value.code
    assert "--dataset" in capsys.readouterr().out


def test_a_run_of_before_a_setting_existed_has_its_default(tmp_path):
    settings = TrainConfig(dataset="demo", runs=tmp_path, name="old")
    run = Run(settings)
    run.results_file.write_text("{}")
    saved = settings.to_json()
    del saved["language"], saved["tokenizer"], saved["follower"]["teacher"], saved["follower"]["reward"]
    files.save_json(run.folder / "config.json", saved)
    Run(settings)
    with pytest.raises(InputError, match="another configuration: teacher is 'guide' now and was 'shortest'"):
        Run(replace(settings, follower=replace(settings.follower, teacher="guide")))
    files.save_json(run.folder / "config.json", ["no", "configuration"])
    with pytest.raises(InputError, match="must be a run's configuration"):
        Run(settings)


def test_a_large_training_split_is_scored_in_part(own_world, monkeypatch, caplog):
    monkeypatch.setattr("vln_clip.results.MOST_OF_TRAIN", 10)
    found = json.loads((own_world.train(name="part") / "results.json").read_text())
    assert {row["num_instructions"] for row in found["train"].values()} == {10}
    assert {row["num_instructions"] for row in found["val_unseen"].values()} == {12}
    shortest = found["train"]["shortest_path"]
    assert (shortest["success_rate"], shortest["spl"]) == (1, 1)


def test_a_reader_that_has_had_enough_ends_a_program_quietly():
    code = "from vln_clip import log; log.program(lambda words: print('line' * 100_000))"
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    program.stdout.read(4)
    program.stdout.close()
    assert program.stderr.read() == b""
    assert program.wait() == 0
