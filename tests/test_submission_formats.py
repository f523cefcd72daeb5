"""Submissions as users bring them: files of every layout and format, RxR, merging and the program around it."""

import gzip
import json
import math
from pathlib import Path

import pytest

from tests.golden import SHARED, needs_shared
from tests.toy_graph import ToyGraph
from tests.toy_runs import write_predictions
from vln_clip import log, submit
from vln_clip.errors import InputError
from vln_clip.records import Episode, Prediction
from vln_clip.tasks.datasets import DATASETS
from vln_clip.tasks.formats import FORMATS, find_format
from vln_clip.tasks.predictions import read_predictions
from vln_clip.tasks.submission import Report, merge_lines, validate_submission, write_submission

R2R = [Episode(f"{k}_0", str(k), "house", "a", 0.0, "go") for k in (1, 2)]
RXR = [
    Episode(str(k), str(k), "house", "a", 0.0, "go", language=tag)
    for k, tag in ((3, "en"), (20, "hi"), (100, "te"), (101, "te"))
]
GOOD = [{"instr_id": e.instr_id, "trajectory": [["a", 0.0, 0.0], ["b", 1.5, 0.0]]} for e in R2R]
GUIDE = [{"instruction_id": int(e.instr_id), "path": ["a", "b"]} for e in RXR]


def lines(items: list) -> str:
    return "".join(json.dumps(item) + "\n" for item in items)


def save(folder: Path, content: str | bytes, name: str = "mine.json") -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def check(folder: Path, content: str | bytes, style: str = "r2r", split_of=None) -> Report:
    episodes = RXR if style == "rxr" else R2R
    return validate_submission(save(folder, content), episodes, ToyGraph(), style, split_of)


def changed(**keys) -> str:
    """The good file with other values in its second item."""
    return json.dumps([GOOD[0], GOOD[1] | keys])


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_its_functions(name):
    row = find_format(name)
    assert all(callable(row.function(part)) for part in ("write", "validate"))
    assert row.ending.startswith(".json")


def test_unknown_formats_are_refused():
    assert {dataset.submission for dataset in DATASETS.values()} == set(FORMATS)
    with pytest.raises(InputError, match=r"format must be one of .* did you mean 'rxr'"):
        find_format("rxx")


WALK = (("a", 0.0, 0.0), ("b", 1.5, 0.0))


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(GOOD),
        lines(GOOD),
        "\ufeff" + json.dumps(GOOD),
        gzip.compress(json.dumps(GOOD, indent=1).encode(), mtime=0),
        json.dumps([GOOD[0] | {"path_id": 7}, GOOD[1]]),
    ],
)
def test_predictions_are_read_in_every_layout(tmp_path, content):
    assert read_predictions(save(tmp_path, content)) == [Prediction("1_0", WALK), Prediction("2_0", WALK)]


@pytest.mark.parametrize(
    "item",
    [
        {"instruction_id": 26, "path": ["a", "b", "c"]},
        {"instruction_id": 26, "path": ["a", "b", "c"], "demonstration_id": 5, "metrics": {"ne": 0.0}},
        {"instr_id": 26, "path_id": 3, "trajectory": [["a"], ["b"], ["c"]]},
        {"instr_id": "26", "trajectory": [["a"], ["b", "c"]]},  # the way of one decision, as DUET writes it
    ],
)
def test_viewpoints_are_read_from_every_format(tmp_path, item):
    (read,) = read_predictions(save(tmp_path, lines([item])))
    assert read.instr_id == "26"
    assert [viewpoint for viewpoint, _, _ in read.trajectory] == ["a", "b", "c"]


def test_a_broken_line_is_named(tmp_path):
    with pytest.raises(InputError, match=r"mine\.json: line 2: the line ends in the middle of an item"):
        read_predictions(save(tmp_path, lines(GUIDE[:1]) + '{"instruction_id": 4, "pa\n' + lines(GUIDE[2:])))
    with pytest.raises(InputError, match=r"line 2: instruction_id must be a string or a number, got None"):
        read_predictions(save(tmp_path, lines([GUIDE[0], {"instruction_id": None, "path": ["a"]}])))


REPEATED_WALK = [["a", 0.0, 0.0]] + [[name, 0.0, 0.0] for name in "ba" * 60]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file must be JSON, but is empty"),
        (json.dumps(GOOD)[:-30], "the file ends in the middle of an item: it was cut off after"),
        (
            gzip.compress(json.dumps(GOOD).encode(), mtime=0)[:-4],
            "must be a whole gzip archive, got a damaged or truncated one",
        ),
        (str(GOOD), "the file is Python's notation (single quotes), not JSON: write it with json.dump"),
        (json.dumps(GOOD)[:-1] + ",]", "has a comma too many at line 1 column"),
        (
            json.dumps(GOOD[:1]) + "\n" + json.dumps(GOOD[1:]),
            "must be one JSON array, but is 2 arrays one after another",
        ),
        (json.dumps(GOOD)[1:-1], "after its end more comes at line 1 column"),
        (lines(GOOD), "the file must be a JSON array, but is JSON lines"),
        (json.dumps({"results": GOOD}), "one object with the keys 'results', …; is the array under 'results' what is"),
        (json.dumps({"1_0": [["a", 0, 0]], "2_0": []}), "one object with the keys '1_0', '2_0', …; are the keys ids"),
        ("\ufeff" + json.dumps(GOOD), "begins with a byte order mark"),
        (json.dumps(GOOD).encode("utf-16"), "UTF-16 text: save it as UTF-8"),
        (json.dumps(GOOD).encode() + b"\xe9", "must be UTF-8 text, but byte"),
        (b"PK\x03\x04...", "a zip archive: unpack it"),
        (b"\x80\x04\x95", "a Python pickle"),
        ("<!DOCTYPE html>", "a web page or XML"),
        (lines(GUIDE), "every item must have instr_id and trajectory, got instruction_id and path: --from converts"),
        (json.dumps([{"path_id": 1, "path": ["a"], "instructions": ["go"]}]), "but is an annotation"),
        (changed(instr_id=2), "item 1: instr_id must be a string such as '6362_0', got the number 2"),
        (changed(instr_id=None), "item 1: instr_id must be a string such as '6362_0', got None"),
        (changed(trajectory="ab"), "item 1: trajectory of 2_0 must be a list, got 'ab'"),
        (changed(trajectory=["a", "b"]), "step 0 must be a list: the server reads the first element of each step"),
        (changed(trajectory=[["a"], ["b", "c"]]), "step 1 must hold one viewpoint: the server reads the first alone"),
        (changed(trajectory=[["a", math.nan, 0.0]]), "step 0 must have finite angles, got ['a', nan, 0.0]"),
        (changed(trajectory=[["a", "1.5", "0"]]), "step 0 must be [viewpoint, heading, elevation] with two numbers"),
        (changed(trajectory=[["b", 0, 0], ["a", 0, 0]]), "got b; it ends there: is it reversed?"),
        (changed(trajectory=[["b", 0, 0], ["c", 0, 0]]), "got b; the two are neighbors: was the start left out?"),
        (changed(trajectory=[["a", 0, 0], ["z", 0, 0]]), "from a to z (scan house, move 1, no way between them)"),
    ],
)
def test_what_a_server_would_refuse_is_told(tmp_path, content, message):
    report = check(tmp_path, content)
    assert report.problems
    assert message in str(report)


def test_every_problem_of_a_trajectory_is_told(tmp_path):
    walk = [["a", 0, 0], ["c", 0, 0], ["q", 0, 0], ["a", 0, 0], ["d", 0, 0]]  # a-c and a-d are no edges
    report = check(tmp_path, changed(trajectory=walk))
    assert report.counts == {"unknown viewpoints": 1, "jumps": 2}
    assert {problem.place for problem in report.problems} == {"item 1"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(json.dumps(GOOD).encode(), mtime=0), "the file is gzipped: upload it unpacked"),
        (changed(score=math.nan), "the file holds NaN (1 times), which is no JSON"),
        (changed(trajectory=[["a", 270.0, 0.0], ["b", 0, 0]]), "1 trajectories have headings beyond 2π"),
        (changed(trajectory=REPEATED_WALK), "1 trajectories have more than 100 moves (first: item 1)"),
        (json.dumps([item | {"trajectory": [["a", 0, 0]]} for item in GOOD]), "2 of 2 trajectories never leave"),
    ],
)
def test_what_only_looks_odd_is_a_warning(tmp_path, content, message):
    report = check(tmp_path, content)
    assert report.problems == ()
    assert f"  warning: {message}" in str(report)


def test_ids_of_another_split_are_told_together(tmp_path):
    strangers = [GOOD[0] | {"instr_id": name} for name in ("8_0", "8_1", "9_0")]
    report = check(tmp_path, json.dumps([*GOOD, *strangers]), split_of={"8_0": "train", "8_1": "train"}.get)
    assert report.counts == {"unknown ids": 3}
    assert "2 ids are not of this split but of train (8_0, 8_1): check with --split train" in str(report)
    assert "item 4: id 9_0 is not in the split" in str(report)


def test_a_written_rxr_submission_is_sorted_without_turns_and_valid(tmp_path):
    walk = (("a", 0.0, 0.0), ("a", 0.5, 0.0), ("b", 0.5, 0.0))
    file = tmp_path / "rxr.jsonl"
    write_submission(file, [Prediction(e.instr_id, walk) for e in reversed(RXR)], "rxr")
    assert file.read_text() == lines(GUIDE)
    assert validate_submission(file, RXR, ToyGraph(), "rxr").lines() == [
        f"{file}: valid, 4 predictions for 4 instructions"
    ]
    with pytest.raises(InputError, match="instruction_id of RxR must be a whole number, got '6_0'"):
        write_submission(file, [Prediction("6_0", walk)], "rxr")


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (GUIDE[:2], "2 of 4 instructions (te 2 of 2) have no prediction: 100, 101"),
        (
            [*GUIDE[:3], {"instruction_id": "101", "path": ["a"]}],
            "line 4: instruction_id must be an integer such as 26",
        ),
        ([*GUIDE[:3], {"instruction_id": 101.0, "path": ["a"]}], "got a float: 101.0"),
        ([*GUIDE[:3], {"instruction_id": 101, "path": [["a", 0.0, 0.0]]}], "must be a viewpoint id alone"),
        ([*GUIDE[:3], {"instruction_id": 101, "path": [[1.0, 2.0, 3.0]]}], "must be a viewpoint id and not a position"),
        ([*GUIDE, GUIDE[0]], "line 5: id 3 came before, at line 1"),
        ([GUIDE[1], GUIDE[0], *GUIDE[2:]], "warning: 1 lines come after a larger instruction_id"),
        ([*GUIDE[:3], {"instruction_id": 101, "path": ["a", "a"]}], "warning: 1 paths name a viewpoint twice in a row"),
        (GOOD, "every item must have instruction_id and path, got instr_id and trajectory"),
    ],
)
def test_what_is_wrong_with_an_rxr_submission_is_told(tmp_path, items, message):
    assert message in str(check(tmp_path, lines(items), "rxr"))


def test_an_array_and_an_empty_line_are_no_rxr_submission(tmp_path):
    assert "the file must be JSON lines, but is a JSON array" in str(check(tmp_path, json.dumps(GUIDE), "rxr"))
    text = str(check(tmp_path, lines(GUIDE[:2]) + "\n" + lines(GUIDE[2:]), "rxr"))
    assert "line 3: the line is empty" in text


def test_files_of_languages_are_merged_and_sorted(tmp_path):
    parts = [save(tmp_path, lines(GUIDE[2:]), "te.jsonl"), save(tmp_path, lines(GUIDE[:2]), "en-hi.jsonl")]
    out = tmp_path / "all.jsonl"
    log.program(submit.main, ["--merge", *map(str, parts), "--out", str(out)])
    assert out.read_text() == lines(GUIDE)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (lines(GUIDE[:1]), r"b\.jsonl: line 1: instruction_id 3 must be there once, but is in .*a\.jsonl: line 1"),
        (lines([{"instruction_id": 9, "path": [[0.0, 0.0, 0.0]]}]), "paths must be of one format"),
        (json.dumps(GUIDE[2:]), r"b\.jsonl must be JSON lines to be merged, but is a JSON array"),
        (lines([{"instruction_id": "9", "path": ["a"]}]), r"b\.jsonl: line 1 must be an object with instruction_id"),
    ],
)
def test_files_that_do_not_go_together_are_not_merged(tmp_path, second, message):
    parts = [save(tmp_path, lines(GUIDE[:2]), "a.jsonl"), save(tmp_path, second, "b.jsonl")]
    with pytest.raises(InputError, match=message):
        merge_lines(parts, tmp_path / "all.jsonl")
    assert not (tmp_path / "all.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--validate a --merge b --out c", "give either --checkpoint FOLDER"),
        ("--validate a --out b", "--out is for what is written"),
        ("--validate a --features b", "--features is for --checkpoint"),
        ("--validate a --device cpu", "--device is for --checkpoint"),
        ("--from a", "--from needs --out FILE"),
        ("--merge a b", "--merge needs --out FILE"),
        ("--from a --out a", "--out must be another file than what is read"),
        ("--validate a --format rxx", "format must be one of"),
        ("--merge a b --out c.json", "--out must end in .jsonl or .jsonl.gz for a submission of rxr"),
    ],
)
def test_flags_that_contradict_each_other_are_one_sentence(capsys, words, message):
    with pytest.raises(SystemExit) as stopped:
        log.program(submit.main, words.split())
    assert stopped.value.code == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert message in told.err
    assert told.out == ""


def test_a_file_is_converted_and_its_report_written(world, tmp_path, capsys):
    def flatten(items):
        for item in items:
            item["trajectory"] = [pose[0] for pose in item["trajectory"]]

    source = write_predictions(world, tmp_path / "p.json", change=flatten)
    words = ["--dataset", "r2r", "--split", "val_unseen"]
    out, report = tmp_path / "new.json", tmp_path / "report.json"
    log.program(submit.main, [*words, "--from", source, "--out", str(out), "--json", str(report)])
    assert f"{out}: valid, 12 predictions for 12 instructions" in capsys.readouterr().out
    assert all(len(pose) == 1 for item in json.loads(out.read_text()) for pose in item["trajectory"])
    assert json.loads(report.read_text())["valid"] is True
    with pytest.raises(SystemExit):
        log.program(submit.main, [*words, "--validate", source, "--json", str(report)])
    told = json.loads(report.read_text())
    assert (told["valid"], told["counts"]) == (False, {"steps that are no lists": 12})
    assert told["problems"][0]["place"] == "item 0"


def test_a_submission_of_another_split_is_recognised(world, tmp_path, capsys):
    source = write_predictions(world, tmp_path / "p.json", split="val_unseen")
    with pytest.raises(SystemExit):
        log.program(submit.main, ["--dataset", "r2r", "--validate", source])
    assert "12 ids are not of this split but of val_unseen" in capsys.readouterr().out


@needs_shared
def test_the_published_test_submission_is_valid(monkeypatch, capsys):
    monkeypatch.setenv("VLN_CLIP_DATA", str(SHARED / "data"))
    file = SHARED / "data" / "predictions" / "prevalent_test.json.gz"
    log.program(submit.main, ["--dataset", "r2r", "--split", "test", "--validate", str(file)])
    assert f"{file}: valid, 4173 predictions for 4173 instructions" in capsys.readouterr().out
