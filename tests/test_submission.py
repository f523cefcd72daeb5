import gzip
import json
import math
import re
from pathlib import Path

import pytest

from tests.golden import SHARED, needs_shared
from tests.toy_graph import ToyGraph
from vln_clip.connectivity import NavTables
from vln_clip.errors import InputError
from vln_clip.records import Episode, Prediction
from vln_clip.tasks.datasets import load_episodes
from vln_clip.tasks.predictions import match, read_predictions
from vln_clip.tasks.submission import validate_submission, write_submission


def episode(instr_id: str) -> Episode:
    return Episode(instr_id, instr_id.split("_")[0], "house", "a", 0.0, "go")  # no path: as in a test split


def entry(instr_id: str | int, viewpoints: str = "abc") -> dict:
    return {"instr_id": instr_id, "trajectory": [[name, 0.5, 0.0] for name in viewpoints]}


def write(folder: Path, items: object, name: str = "mine.json") -> Path:
    content = (items if isinstance(items, str) else json.dumps(items)).encode()
    file = folder / name
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


EPISODES = [episode("1_0"), episode("1_1"), episode("2_0")]


@pytest.mark.parametrize("name", ["mine.json", "mine.json.gz"])
def test_predictions_are_read_and_other_keys_ignored(tmp_path, name):
    items = [entry("1_0", "ab") | {"path_id": 1}, {"instr_id": 26, "trajectory": [["a", 0, 1], ["a", 6.25, -0.5]]}]
    assert read_predictions(write(tmp_path, items, name)) == [
        Prediction("1_0", (("a", 0.5, 0.0), ("b", 0.5, 0.0))),
        Prediction("26", (("a", 0.0, 1.0), ("a", 6.25, -0.5))),
    ]


def test_viewpoint_ids_alone_are_accepted_and_leave_the_angles_unknown(tmp_path):
    (read,) = read_predictions(write(tmp_path, [{"instr_id": "1_0", "trajectory": ["a", ["b"]]}]))
    assert [viewpoint for viewpoint, _, _ in read.trajectory] == ["a", "b"]
    assert all(math.isnan(angle) for _, *angles in read.trajectory for angle in angles)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ("[{", r"mine\.json: the file ends in the middle of an item: it was cut off after 2 characters"),
        ({"1_0": []}, r"mine\.json: the file must be an array of predictions, but is one object with the keys '1_0'"),
        (["1_0"], r"mine\.json: item 0 must be an object with instr_id and trajectory, or .* and path, got '1_0'"),
        ([{"instr_id": "1_0"}], "item 0 must be an object with instr_id and trajectory"),
        ([entry("1_0"), entry(None)], "item 1: instr_id must be a string or a number, got None"),
        ([{"instr_id": "1_0", "trajectory": "abc"}], "trajectory of 1_0 must be a list, got 'abc'"),
        ([entry("1_0", "")], "trajectory of 1_0 must hold at least the start, got an empty list"),
        ([{"instr_id": "1_0", "trajectory": [["a", 0.0]]}], "elements of the trajectory of 1_0 must be"),
        ([{"instr_id": "1_0", "trajectory": [["a", 0.0, None]]}], r"got \['a', 0\.0, None\]"),
        ([{"instr_id": "1_0", "trajectory": [["a", True, 0.0]]}], "with finite angles"),
        ('[{"instr_id": "1_0", "trajectory": [["a", NaN, 0.0]]}]', r"finite angles .* got \['a', nan, 0\.0\]"),
        ('[{"instr_id": "1_0", "trajectory": [["a", 0.0, Infinity]]}]', r"finite angles .* got \['a', 0\.0, inf\]"),
    ],
)
def test_a_malformed_prediction_file_is_refused(tmp_path, items, message):
    with pytest.raises(InputError, match=message):
        read_predictions(write(tmp_path, items))


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    broken = write(tmp_path, [entry("1_0")], "mine.json.gz")
    broken.write_bytes(broken.read_bytes()[:-9])
    with pytest.raises(
        InputError, match=r"mine\.json\.gz must be a whole gzip archive, got a damaged or truncated one"
    ):
        read_predictions(broken)
    with pytest.raises(InputError, match=r"none\.json does not exist"):
        read_predictions(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_predictions(tmp_path)


def predictions(*named: tuple[str, str]) -> list[Prediction]:
    return [Prediction(instr_id, tuple((name, 0.0, 0.0) for name in viewpoints)) for instr_id, viewpoints in named]


def test_the_first_of_doubles_counts_and_strangers_are_ignored(caplog):
    given = predictions(("2_0", "a"), ("9_9", "a"), ("1_1", "ab"), ("1_0", "a"), ("1_1", "abc"))
    paired, episodes = match(given, EPISODES)
    assert [(p.instr_id, len(p.trajectory)) for p in paired] == [("1_0", 1), ("1_1", 2), ("2_0", 1)]
    assert episodes == EPISODES
    assert "ignored 1 predictions whose instr_id came before" in caplog.text
    assert "ignored 1 predictions for instructions outside the split" in caplog.text


def test_missing_predictions_are_counted_and_named():
    with pytest.raises(
        InputError, match=r"must cover all 3 instructions of the split, got 2 without one, e\.g\. 1_0, 2_0"
    ):
        match(predictions(("1_1", "a")), EPISODES)
    assert [e.instr_id for e in match(predictions(("1_1", "a")), EPISODES, allow_missing=True)[1]] == ["1_1"]
    with pytest.raises(InputError, match="got 3 without one"):
        match(predictions(("9_9", "a")), EPISODES, allow_missing=True)


@pytest.mark.parametrize("name", ["new/submission.json", "submission.json.gz"])
def test_a_written_submission_comes_back_and_is_valid(tmp_path, name):
    given = predictions(("1_0", "aab"), ("1_1", "a"), ("2_0", "abcd"))
    file = tmp_path / name
    write_submission(file, given)
    assert read_predictions(file) == given
    report = validate_submission(file, EPISODES, ToyGraph())
    assert report.problems == ()
    assert report.lines()[0] == f"{file}: valid, 3 predictions for 3 instructions"
    assert [problem.kind for problem in report.warnings] == (["packed files"] if name.endswith(".gz") else [])
    assert [path.name for path in file.parent.iterdir()] == [file.name], "no temporary file is left"


def test_a_submission_has_the_public_format(tmp_path):
    write_submission(tmp_path / "s.json", [Prediction("1_0", (("a", 1, 0.25),))])
    assert json.loads((tmp_path / "s.json").read_text()) == [{"instr_id": "1_0", "trajectory": [["a", 1.0, 0.25]]}]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([*predictions(("1_0", "a")), *predictions(("1_0", "a"))], "unique in a submission, got 1_0 2 times"),
        ([Prediction("1_0", ())], "trajectory of 1_0 must hold at least the start"),
        ([Prediction("1_0", (("a", math.nan, 0.0),))], "not JSON compliant"),
    ],
)
def test_a_faulty_submission_is_not_written(tmp_path, given, message):
    (tmp_path / "s.json").write_text("before")
    with pytest.raises(ValueError, match=message):
        write_submission(tmp_path / "s.json", given)
    assert (tmp_path / "s.json").read_text() == "before"


def test_a_submission_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/s\.json cannot be written: "):
        write_submission(tmp_path / "file" / "s.json", predictions(("1_0", "a")))


@pytest.mark.parametrize(
    ("items", "counts", "message"),
    [
        ([entry("1_0")], {"missing ids": 2}, "2 of 3 instructions have no prediction: 1_1, 2_0"),
        ([entry("1_0", "")], {"empty trajectories": 1}, "item 2: trajectory of 1_0 must hold at least the start"),
        ([entry("1_0"), entry("1_0")], {"duplicate ids": 1}, "item 3: id 1_0 came before, at item 2"),
        ([entry("1_0"), entry("9_9")], {"unknown ids": 1}, "item 3: id 9_9 is not in the split"),
        ([entry("1_0", "bc")], {"wrong starts": 1}, "trajectory of 1_0 must start at viewpoint a, got b"),
        (
            [entry("1_0", "acd")],
            {"jumps": 1},
            r"item 2: .* a jump in 1_0 from a to c \(scan house, move 1, 3\.0 m along the graph\)",
        ),
        (
            [entry("1_0", "abq")],
            {"unknown viewpoints": 1},
            "trajectory of 1_0: viewpoint 'q' is not in the graph of scan house",
        ),
        ([entry("1_0", "da")], {"wrong starts": 1, "jumps": 1}, "wrong starts: 1, jumps: 1"),
    ],
)
def test_what_is_wrong_with_a_submission_is_counted_and_named(tmp_path, items, counts, message):
    others = [] if "missing ids" in counts else [entry("1_1", "a"), entry("2_0", "aab")]
    report = validate_submission(write(tmp_path, [*others, *items]), EPISODES, ToyGraph())
    assert report.counts == counts
    assert re.search(message, str(report)), str(report)
    assert "mine.json: not valid" in str(report)
    assert all(f"{kind}: {count}" in str(report) for kind, count in counts.items())


def test_every_problem_is_printed_up_to_a_limit_and_then_counted(tmp_path):
    many = [episode(f"{k}_0") for k in range(50)]
    report = validate_submission(write(tmp_path, [entry(e.instr_id, "bc") for e in many]), many, ToyGraph())
    assert str(report).count("must start at viewpoint a, got b") == 40
    assert report.lines()[-1] == "  … and 10 more wrong starts (--all prints them)"
    assert len(report.lines(everything=True)) == 51


def test_all_missing_ids_are_printed_when_asked_for(tmp_path):
    report = validate_submission(write(tmp_path, [entry("1_0")]), EPISODES, ToyGraph())
    assert report.lines(everything=True)[-2:] == ["    1_1", "    2_0"]


def test_angles_left_out_are_a_warning(tmp_path):
    items = [{"instr_id": e.instr_id, "trajectory": [["a"], ["b"]]} for e in EPISODES]
    report = validate_submission(write(tmp_path, items), EPISODES, ToyGraph())
    assert not report.problems
    assert "warning: 3 trajectories hold viewpoints without angles" in str(report)


@pytest.fixture(scope="module")
def graph() -> NavTables:
    return NavTables.load(SHARED / "data/connectivity", cache=False)


@needs_shared
@pytest.mark.parametrize(
    ("name", "split", "num_instructions"),
    [
        ("prevalent_test", "test", 4173),
        ("prevalent_val_unseen", "val_unseen", 2349),
        ("shortest_agent_val_unseen", "val_unseen", 2349),
    ],
)
def test_published_predictions_are_valid(graph, name, split, num_instructions):
    episodes = load_episodes("r2r", split, SHARED / "data")
    report = validate_submission(SHARED / f"data/predictions/{name}.json.gz", episodes, graph)
    assert report.num_instructions == report.num_predictions == num_instructions
    assert report.problems == ()


@needs_shared
def test_published_val_seen_predictions_start_elsewhere_on_one_path(graph):
    # R2R's other version in circulation starts five val_seen paths at other viewpoints; path 4554 looks like that.
    episodes = load_episodes("r2r", "val_seen", SHARED / "data")
    report = validate_submission(SHARED / "data/predictions/prevalent_val_seen.json.gz", episodes, graph)
    assert report.counts == {"wrong starts": 3}
    assert "trajectory of 4554_0 must start at viewpoint" in str(report)
