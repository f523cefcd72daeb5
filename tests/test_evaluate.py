"""``vln-clip evaluate`` with context, groups, intervals and comparisons, on the toy world."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.test_bad_input import refused
from tests.toy_runs import write_predictions
from tests.toy_world import toy_setting, write_features
from vln_clip import evaluate, log, scoring
from vln_clip.config import ModelConfig
from vln_clip.connectivity import NavTables
from vln_clip.context import context_rows, score_agent, without_instruction
from vln_clip.setting import build_follower, load_follower
from vln_clip.tasks.text import EOS

CONTEXT = ["random", "shortest_path", "blind", "no_instruction"]


def stopping_early(items):
    """Fail every second path: stay at its start."""
    for k, item in enumerate(items):
        if k // 3 % 2:
            del item["trajectory"][1:]


@pytest.fixture
def run(world):
    return world.runs / "toy"


@pytest.fixture
def evaluated(tmp_path):
    """Run the program; return what its JSON file holds."""

    def call(*words):
        out = tmp_path / "scores.json"
        log.program(evaluate.main, [*map(str, words), "--json", str(out), "--device", "cpu"])
        return json.loads(out.read_text())

    return call


def test_a_checkpoint_stands_beside_its_context(run, evaluated, capsys):
    found = evaluated("--checkpoint", run)
    results = json.loads((run / "results.json").read_text())["val_unseen"]
    assert list(found["rows"]) == [*CONTEXT, "back_translated"]
    for row in ("random", "shortest_path", "blind", "back_translated"):  # the very rows of the run, random ones too
        for metric, value in found["rows"][row].items():
            assert metric == "ci" or value == pytest.approx(results[row][metric]), (row, metric)
    shown = capsys.readouterr()
    assert all(row in shown.out for row in found["rows"])
    assert "no row" not in shown.err


def test_the_scored_row_is_the_top_of_the_file(run, evaluated):
    found = evaluated("--checkpoint", run, "--by", "scan", "language")
    rows = found.pop("rows")
    assert found == rows["back_translated"]
    assert list(found["by"]) == ["scan", "language"]
    assert found["by"]["language"]["en"]["num_instructions"] == 12
    assert found["by"]["scan"]["beta"]["spl"] == found["spl"]
    assert all("by" in row for row in rows.values())


def test_a_run_without_a_blind_follower_says_so(world, evaluated, capsys):
    log.setup()
    alone = world.train("--no-blind", name="unaccompanied")
    found = evaluated("--checkpoint", alone)
    assert list(found["rows"]) == ["random", "shortest_path", "no_instruction", "follower"]
    assert "no row blind: " in capsys.readouterr().err
    found = evaluated("--checkpoint", alone, "--context", world.runs / "toy")
    assert list(found["rows"]) == [*CONTEXT, "follower"]


def test_a_run_without_features_is_its_own_blind_row(world, evaluated):
    run = world.train(features="none", name="sightless")
    rows = evaluated("--checkpoint", run)["rows"]
    assert list(rows) == [*CONTEXT, "follower"]
    assert rows["blind"] == rows["follower"]


def test_a_checkpoint_outside_a_run_says_what_is_missing(run, tmp_path, evaluated, capsys):
    shutil.copytree(run / "checkpoints" / "follower" / "last", tmp_path / "copied")
    found = evaluated("--checkpoint", tmp_path / "copied")
    assert list(found["rows"]) == ["random", "shortest_path", "no_instruction", "follower_copied"]
    assert "no row blind: the checkpoint lies in no run's folder" in capsys.readouterr().err


def test_the_blind_row_stays_blind_with_other_features(world, run, tmp_path, evaluated):
    other = write_features(tmp_path / "o.safetensors", NavTables.load(world.data / "connectivity", cache=False), seed=7)
    found = evaluated("--checkpoint", run, "--features", other)
    assert found["rows"]["blind"]["spl"] == evaluated("--checkpoint", run)["rows"]["blind"]["spl"]


def test_a_prediction_file_has_scripted_context_and_takes_the_rest_from_a_run(world, run, tmp_path, evaluated, capsys):
    words = ["--dataset", "r2r", "--predictions", write_predictions(world, tmp_path / "mine.json")]
    found = evaluated(*words)
    assert list(found["rows"]) == ["random", "shortest_path", "mine"]
    assert "no rows blind and no_instruction: name a run that gives them with --context RUN" in capsys.readouterr().err
    with_run = evaluated(*words, "--context", run)
    assert list(with_run["rows"]) == [*CONTEXT, "mine"]
    of_run = evaluated("--checkpoint", run)["rows"]
    assert all(with_run["rows"][row] == of_run[row] for row in CONTEXT)
    assert with_run["rows"]["random"] == found["rows"]["random"]
    assert list(evaluated(*words, "--no-context")["rows"]) == ["mine"]


def test_context_walks_the_instructions_that_were_scored(world, tmp_path, evaluated):
    path = write_predictions(world, tmp_path / "p.json", change=lambda items: items.__delitem__(slice(3, None)))
    rows = evaluated("--dataset", "r2r", "--predictions", path, "--allow-missing")["rows"]
    assert {name: row["num_instructions"] for name, row in rows.items()} == {"random": 3, "shortest_path": 3, "p": 3}


def test_incomplete_files_are_compared_on_what_both_have(world, tmp_path, evaluated, capsys):
    whole = write_predictions(world, tmp_path / "whole.json")
    part = write_predictions(world, tmp_path / "part.json", change=lambda items: items.__delitem__(slice(3, None)))
    words = ["--dataset", "r2r", "--allow-missing", "--no-context", "--by", "length", "--compare"]
    found = evaluated(*words, whole, part)
    assert found["comparisons"]["part"]["num_instructions"] == 3
    assert "paired differences are over the 3 instructions that both have" in capsys.readouterr().err
    assert {name: len(row["by"]["length"]) for name, row in found["rows"].items()} == {"whole": 2, "part": 1}
    found = evaluated(*words, part, whole)
    assert {name: len(row["by"]["length"]) for name, row in found["rows"].items()} == {"part": 1, "whole": 2}
    shown = capsys.readouterr().out
    assert all(label in shown for label in found["rows"]["whole"]["by"]["length"])


def test_the_context_of_a_file_is_walked_in_the_data_set_of_the_file(world, run, tmp_path, evaluated, monkeypatch):
    # A run says in its checkpoint which data set it is of; scoring a file elsewhere must not follow it there.
    load, asked = scoring.setting.load_follower, []

    def watched(folder, dataset, *rest):
        asked.append(dataset)
        return load(folder, dataset, *rest)

    monkeypatch.setattr(scoring.setting, "load_follower", watched)
    evaluated("--predictions", write_predictions(world, tmp_path / "p.json"), "--context", run)
    assert asked == ["r2r", "r2r"]


def test_intervals_are_given_where_there_are_paths_enough(world, tmp_path, evaluated):
    path = write_predictions(world, tmp_path / "p.json", "train", change=stopping_early)
    words = ["--dataset", "r2r", "--predictions", path, "--split", "train", "--no-context"]
    found = evaluated(*words)
    low, high = found["ci"]["success_rate"]
    assert 0 < low < found["success_rate"] < high < 1
    assert "ci" not in evaluated(*words, "--no-ci")
    assert evaluated("--dataset", "r2r", "--predictions", write_predictions(world, tmp_path / "q.json"))["ci"] == {}


def test_a_comparison_of_everything(world, run, tmp_path, evaluated, capsys):
    perfect = write_predictions(world, tmp_path / "perfect.json")
    worse = write_predictions(world, tmp_path / "worse.json.gz", change=stopping_early)
    last = run / "checkpoints" / "follower" / "last"
    found = evaluated("--compare", perfect, worse, run, last, run / "results.json")
    assert list(found["rows"]) == ["random", "shortest_path", "perfect", "worse", "toy", "last", "toy/back_translated"]
    assert found["rows"]["toy"]["spl"] == pytest.approx(found["rows"]["toy/back_translated"]["spl"])
    assert list(found["comparisons"]) == ["worse", "toy", "last"]
    difference = found["comparisons"]["worse"]
    assert difference["against"] == "perfect"
    # Two of four paths fail, with three instructions each; of 16 signs of (-3, -3) and two zeros 8 reach 6.
    assert difference["difference"]["success_rate"] == -0.5
    assert (difference["wins"], difference["losses"], difference["ties"]) == (0, 6, 6)
    assert difference["p"]["success_rate"] == 0.5
    told = capsys.readouterr()
    assert "holds means only" in told.err
    assert "worse − perfect" in told.out


def test_equal_files_compare_as_equal(world, tmp_path, evaluated):
    paths = [write_predictions(world, tmp_path / name) for name in ("a.json", "b.json")]
    found = evaluated("--dataset", "r2r", "--compare", *paths, "--no-context")["comparisons"]["b"]
    assert set(found["difference"].values()) == {0.0}
    assert set(found["p"].values()) == {1.0}


def test_files_of_the_same_name_go_by_their_paths(world, tmp_path, evaluated):
    (tmp_path / "x").mkdir()
    paths = [write_predictions(world, tmp_path / name) for name in ("random.json", "x/random.json")]
    rows = evaluated("--dataset", "r2r", "--compare", *paths)["rows"]
    assert list(rows) == ["random", "shortest_path", *paths]


def test_the_output_of_a_format_is_nothing_but_that(world, tmp_path, capsys):
    path = write_predictions(world, tmp_path / "p.json")
    out = tmp_path / "table.tex"
    words = ["--dataset", "r2r", "--predictions", path, "--by", "length", "--device", "cpu"]
    log.program(evaluate.main, [*words, "--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["agent"] for row in rows if row["table"] == "all"] == ["random", "shortest_path", "p"]
    assert {row["length"] for row in rows if row["table"] == "length"} == {"7.5–10 m", "10–12.5 m"}
    log.program(evaluate.main, [*words, "--out", str(out)])
    assert out.read_text().count(r"\end{tabular}") == 2
    assert "┃" in capsys.readouterr().out  # standard output stays for people


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--compare", "RUN"], "--compare must name two or more, got"),
        (["--compare", "RUN", "nowhere"], "nowhere must be a run's folder, a checkpoint's, a prediction file or a"),
        (["--checkpoint", "nowhere"], "nowhere must be a run's folder or a checkpoint's, but does not exist"),
        (["--checkpoint", "RUN", "--predictions", "FILE"], "give either --predictions FILE or --checkpoint FOLDER"),
        (["--checkpoint", "RUN", "--by", "lang"], "--by must be one of language, length, scan, got 'lang'"),
        (["--checkpoint", "RUN", "--format", "md"], "--format must be one of table, markdown, latex, csv, got 'md'"),
        (["--checkpoint", "RUN", "--out", "a.pdf"], "--out must end in one of"),
        (["--checkpoint", "RUN", "--no-context", "--context", "RUN"], "--context and --no-context exclude each other"),
        (
            ["--predictions", "FILE", "--split", "val_seen"],
            "p.json: item 0: id 300_0 must be of split val_seen, but is of val_unseen (in all 12 of 12 predictions are "
            "not of val_seen); --allow-foreign leaves such predictions out",
        ),
        (["--predictions", "FILE", "--split", "val_seen", "--allow-foreign"], "are split and language right?"),
        (["--predictions", "FILE", "--context", "EMPTY"], "must be a run with a checkpoint, but has saved none yet"),
        (["--compare", "RESULTS", "COPY", "--by", "scan"], "--by needs the scores of each instruction"),
        (["--compare", "RUN", "RESULTS", "--split", "test"], "--split test hides its goals"),
        (["--compare", "FILE", "RESULTS", "--split", "val_seen@2"], "must be of split val_seen, but is of val_unseen"),
        (["--compare", "FILE", "FILE"], "--compare must name different things"),
        (["--compare", "FILE", "OTHER"], "must be a list of predictions or a run's results.json, got another"),
    ],
)
def test_what_cannot_be_evaluated_is_told(world, run, tmp_path, capsys, words, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    (tmp_path / "other.json").write_text('{"spl": 0.5}')
    known = {
        "RUN": run,
        "FILE": write_predictions(world, tmp_path / "p.json"),
        "RESULTS": run / "results.json",
        "COPY": shutil.copy(run / "results.json", tmp_path / "results.json"),
        "EMPTY": tmp_path / "empty",
        "OTHER": tmp_path / "other.json",
    }
    told = refused(capsys, evaluate.main, [*(known.get(word, word) for word in words), "--device", "cpu"])
    assert message in told


def test_a_file_of_two_splits_is_refused_unless_that_is_meant(world, tmp_path, evaluated, capsys):
    mixed = tmp_path / "mixed.json"
    both = [json.loads(Path(write_predictions(world, mixed, split)).read_text()) for split in ("val_unseen", "train")]
    unknown = [{"instr_id": "9_9", "trajectory": [["a0", 0.0, 0.0]]}]
    words = ["--dataset", "r2r", "--no-context", "--predictions", mixed]
    for items, message in (
        (both[0] + both[1][:2], "item 12: id 100_0 must be of split val_unseen, but is of train (in all 2 of 14 "),
        (both[0][:3] + unknown + both[0][3:], "item 3: id 9_9 must be of split val_unseen, but is of no split of r2r;"),
    ):
        mixed.write_text(json.dumps(items))
        told = refused(capsys, evaluate.main, words)
        assert f"{mixed}: {message}" in told
        assert evaluated(*words, "--allow-foreign")["num_instructions"] == 12
    mixed.write_text(json.dumps(both[0]))
    assert evaluated(*words, "--split", "val_unseen@2")["num_instructions"] == 6


def test_doubles_are_scored_once_the_first_of_them(world, tmp_path, evaluated, capsys):
    def again(items):
        items.append({"instr_id": items[0]["instr_id"], "trajectory": items[0]["trajectory"][:1]})

    path = write_predictions(world, tmp_path / "p.json", change=again)
    assert evaluated("--dataset", "r2r", "--no-context", "--predictions", path)["success_rate"] == 1.0
    assert "ignored 1 predictions whose instr_id came before" in capsys.readouterr().err


def test_results_of_another_data_set_are_refused(world, run, tmp_path, capsys):
    for name in ("results.json", "config.json"):
        (tmp_path / name).write_text((run / name).read_text().replace('"dataset": "r2r"', '"dataset": "r4r"'))
    words = ["--compare", run, tmp_path / "results.json"]
    assert f"--compare must be on one data set, got {run} of r2r, {tmp_path / 'results.json'} of r4r" in refused(
        capsys, evaluate.main, words
    )
    told = refused(capsys, evaluate.main, [*words, "--dataset", "r2r"])
    assert f"{tmp_path / 'results.json'} must be of the data set r2r to be compared, but is of r4r" in told


def test_results_without_the_split_are_refused(world, run, tmp_path, capsys):
    path = write_predictions(world, tmp_path / "p.json", "val_seen")
    results = json.loads((run / "results.json").read_text())
    del results["val_seen"]
    (tmp_path / "results.json").write_text(json.dumps(results))
    words = ["--dataset", "r2r", "--compare", path, tmp_path / "results.json", "--split", "val_seen"]
    assert "must be one of train, val_unseen, got 'val_seen'" in refused(capsys, evaluate.main, words)


def test_without_instruction_only_the_ends_are_left(tmp_path, monkeypatch):
    setting, _ = toy_setting(tmp_path, monkeypatch)
    table = setting.table("val_unseen")
    empty = without_instruction(table)
    assert empty.batch(torch.arange(12)).tokens.tolist() == [[setting.vocabulary.bos, EOS]] * 12
    assert empty.length.tolist() == [2] * 12
    assert empty.viewpoint is table.viewpoint
    assert table.tokens.width > 2  # the split itself is left alone


def test_the_row_without_instructions_does_not_depend_on_them(world, run):
    loaded = load_follower(run, None, ["val_unseen"], torch.device("cpu"))
    table = loaded.setting.table("val_unseen")
    generator = torch.Generator().manual_seed(0)
    found = context_rows(loaded.world, table, loaded.follower, 6, generator)
    assert list(found) == ["random", "shortest_path", "no_instruction"]
    table.tokens.flat[table.tokens.first + 1] = 3
    again = context_rows(loaded.world, table, loaded.follower, 6, generator)
    assert again["no_instruction"][0] == found["no_instruction"][0]
    scores = found["shortest_path"][1]
    assert scores["spl"].tolist() == [1.0] * 12
    assert "no_instruction" not in context_rows(loaded.world, table, None, 6, generator)


def test_scores_come_in_the_order_of_the_split(tmp_path, monkeypatch):
    setting, world = toy_setting(tmp_path, monkeypatch)
    table = setting.table("val_unseen")
    follower = build_follower(setting, ModelConfig(hidden_width=16), 8, seed=0).eval()
    scores = score_agent(world, table, follower, 6)[1]
    rows = torch.tensor([2, 7])
    assert (
        score_agent(world, table, follower, 6, rows=rows)[1]["nav_error"].tolist()
        == scores["nav_error"][[2, 7]].tolist()
    )
