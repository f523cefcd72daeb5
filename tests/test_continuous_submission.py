import gzip
import json
import math

import numpy as np
import pytest

from tests.golden import SHARED, needs_shared
from tests.toy_graph import ToyGraph
from vln_clip.connectivity import NavTables
from vln_clip.errors import InputError
from vln_clip.records import Prediction
from vln_clip.tasks.continuous import ContinuousEpisode, read_continuous
from vln_clip.tasks.continuous_graph import match_to_graph
from vln_clip.tasks.continuous_predictions import (
    MAX_STEPS,
    ContinuousPrediction,
    from_walk,
    write_r2r_ce,
    write_rxr_habitat,
)
from vln_clip.tasks.continuous_submission import (
    validate_r2r_ce,
    validate_rxr_habitat,
)
from vln_clip.tasks.submission import merge_lines

STILL = {"position": [0, 0, 0], "heading": 0.0, "stop": False}
STOP = STILL | {"stop": True}


def prediction(instr_id="3", positions=((0, 0, 0), (1, 2, 3), (1, 2, 3)), stopped=True):
    position_m = np.array(positions, np.float64)
    return ContinuousPrediction(instr_id, position_m, np.full(len(position_m), math.pi / 2), stopped)


def start_at(x, y, z, instr_id="3"):
    return ContinuousEpisode(instr_id, instr_id, "9", "house", (x, y, z), 0.25, "Go.", "en", None, None, None)


def lines_of(tmp_path, *lines, name="a.jsonl"):
    file = tmp_path / name
    file.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return file


def object_of(tmp_path, value):
    file = tmp_path / "a.json"
    file.write_text(value if isinstance(value, str) else json.dumps(value))
    return file


def told(report):
    return [problem.message for problem in report.problems]


def test_rxr_habitat_holds_sorted_paths_without_repeats(tmp_path):
    file = tmp_path / "a.jsonl"
    write_rxr_habitat(file, [prediction("20"), prediction("3")])
    first, second = (json.loads(line) for line in file.read_text().splitlines())
    # Matterport's (1, 2, 3) is Habitat's (1, 3, -2); 3 comes before 20 as a number.
    assert first == {"instruction_id": 3, "path": [[0, 0, 0], [1, 3, -2]]}
    assert second["instruction_id"] == 20
    assert validate_rxr_habitat(file, ["3", "20"]).problems == ()


def test_a_place_is_kept_where_the_agent_comes_back_to_it(tmp_path):
    file = tmp_path / "a.jsonl"
    write_rxr_habitat(file, [prediction(positions=[(0, 0, 0), (0, 0, 0), (1, 0, 0), (0, 0, 0)])])
    assert json.loads(file.read_text())["path"] == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_r2r_ce_holds_a_state_for_each_step(tmp_path):
    file = tmp_path / "a.json.gz"
    write_r2r_ce(file, [prediction()])
    # Right is negative in Habitat: π/2 becomes -π/2.
    turn = pytest.approx(-math.pi / 2)
    assert json.loads(gzip.decompress(file.read_bytes())) == {
        "3": [
            {"position": [0, 0, 0], "heading": turn, "stop": False},
            {"position": [1, 3, -2], "heading": turn, "stop": False},
            {"position": [1, 3, -2], "heading": turn, "stop": True},
        ]
    }
    assert validate_r2r_ce(file, ["3"]).problems == ()


def test_an_agent_that_runs_out_of_steps_has_not_stopped(tmp_path):
    file = tmp_path / "a.json"
    walked = prediction(positions=[(0.25 * k, 0, 0) for k in range(MAX_STEPS + 1)], stopped=False)
    write_r2r_ce(file, [walked])
    assert json.loads(file.read_text())["3"][-1]["stop"] is False
    assert validate_r2r_ce(file, ["3"]).problems == ()


def test_a_walk_on_the_graph_becomes_positions_on_the_floor():
    # Cameras of the toy house are at 1.5 m; here the floor at the start is at 0.2 m, 0.1 m beside viewpoint a.
    walk = Prediction("3", (("a", 9.0, 0.0), ("b", 1.0, 0.0), ("b", 2.0, 0.5), ("a", math.nan, math.nan)))
    found = from_walk(walk, start_at(0.1, 0.0, 0.2), ToyGraph())
    start, second = [0.1, 0, 0.2], [0, 1, pytest.approx(0.2)]
    assert found.position_m.tolist() == [start, second, second, start, start]  # the stop is a step of its own
    assert found.heading_rad.tolist() == [0.25, 1.0, 2.0, 0.25, 0.25]
    assert found.stopped


def test_an_agent_that_stops_at_once_is_valid_in_both_formats(tmp_path):
    found = from_walk(Prediction("3", (("a", 0.0, 0.0),)), start_at(0, 0, 0), ToyGraph())
    write_r2r_ce(tmp_path / "a.json", [found])
    write_rxr_habitat(tmp_path / "a.jsonl", [found])
    assert validate_r2r_ce(tmp_path / "a.json", ["3"], {"3": (0, 0, 0)}).problems == ()
    assert validate_rxr_habitat(tmp_path / "a.jsonl", ["3"], {"3": (0, 0, 0)}).problems == ()
    assert json.loads((tmp_path / "a.jsonl").read_text())["path"] == [[0, 0, 0]]


@pytest.mark.parametrize("write", [write_r2r_ce, write_rxr_habitat])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([prediction(), prediction()], "must be unique in a submission, got 3 again"),
        ([prediction(positions=[(0, 0, math.nan)] * 2)], "states of 3 must be finite"),
        ([prediction(positions=[(0, 0, 0)])], "states of 3 must be the initial one and those after it, the stop among"),
        ([prediction(positions=[(k, 0, 0) for k in range(502)])], "of 3 must be the .* at most 500 more, .* got 502"),
        ([prediction(positions=[(0, 0)] * 2)], r"must be \(T, 3\) positions"),
    ],
)
def test_writers_refuse_what_no_server_takes(tmp_path, write, given, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "a.json", given)
    assert not list(tmp_path.iterdir())


def test_turns_in_place_are_states_of_r2r_ce_but_no_positions_of_rxr_habitat(tmp_path):
    turning = [prediction(positions=[(0, 0, 0)] * 502)]
    write_rxr_habitat(tmp_path / "a.jsonl", turning)
    assert json.loads((tmp_path / "a.jsonl").read_text())["path"] == [[0, 0, 0]]
    with pytest.raises(InputError, match=r"states of 3 must be the initial one and at most 500 more, .* got 502"):
        write_r2r_ce(tmp_path / "a.json", turning)


def test_rxr_s_ids_are_numbers(tmp_path):
    with pytest.raises(ValueError, match="ids of RxR must be numbers, got '3_0'"):
        write_rxr_habitat(tmp_path / "a.jsonl", [prediction("3_0")])


A, B = {"instruction_id": 1, "path": [[0, 0, 0], [1, 0, 0]]}, {"instruction_id": 2, "path": [[0, 0, 0]]}


@pytest.mark.parametrize(
    ("lines", "kinds", "message"),
    [
        ([A, B], {}, None),
        ([B, A], {}, None),
        ([A], {"missing ids": 1}, "instruction_id 2 has no prediction"),
        ([A, B, B], {"duplicate ids": 1}, "line 3: instruction_id 2 came before"),
        ([A, B, B | {"instruction_id": 3}], {"unknown ids": 1}, "line 3: instruction_id 3 is not in the split"),
        ([A, "", B], {"malformed items": 1}, "line 2: must be one JSON object, but"),
        ([A, "{", B], {"malformed items": 1}, "line 2: must be one JSON object, but"),
        ([[A], B], {"malformed items": 1, "missing ids": 1}, "line 1 must be an object with instruction_id and path"),
        (
            [A, B | {"instruction_id": "2"}],
            {"malformed items": 1, "missing ids": 1},
            "line 2: instruction_id must be a whole number, got '2'",
        ),
        ([A, B | {"path": []}], {"malformed items": 1}, "line 2: path must be a list that begins with the start"),
        ([A, B | {"path": [[0, 0, 0], [0, 0]]}], {"malformed items": 1}, "line 2: path[1] must be three finite"),
        ([A, B | {"path": [[0, 0, math.inf]]}], {"malformed items": 1}, "line 2: path[0] must be three finite"),
        ([A, B | {"path": [[0, 0, 0]] * 2}], {"repeated positions": 1}, "line 2: path[1] must differ from"),
        (
            [A, B | {"path": [[k, 0, 0] for k in range(502)]}],
            {"too many steps": 1},
            "line 2: path must have at most 501 positions, got 502",
        ),
    ],
)
def test_rxr_habitat_is_checked_line_by_line(tmp_path, lines, kinds, message):
    report = validate_rxr_habitat(lines_of(tmp_path, *lines), ["1", "2"])
    assert report.counts == kinds
    assert (report.num_instructions, report.num_predictions) == (2, len(lines))
    if message is not None:
        assert any(text.startswith(message) for text in told(report)), told(report)


def test_every_problem_of_a_file_is_reported(tmp_path):
    bad = {"instruction_id": 9, "path": [[5, 0, 0], [5, 0, 0]]}
    report = validate_rxr_habitat(lines_of(tmp_path, bad, A, "x"), ["1", "2"], {"1": (0, 0, 0)})
    kinds = ["repeated positions", "unknown ids", "malformed items", "missing ids"]
    assert [problem.kind for problem in report.problems] == kinds


def test_paths_begin_where_the_episode_does(tmp_path):
    # Matterport's (2, 3, 1) is Habitat's (2, 1, -3).
    lines = [A | {"path": [[2, 1, -3]]}, B | {"path": [[2, 3, 1]]}]
    report = validate_rxr_habitat(lines_of(tmp_path, *lines), ["1", "2"], {"1": (2, 3, 1.5), "2": (2, 3, 1)})
    # Line 1 is 0.5 m off, which is allowed. Line 2 is read as (2, -1, 3): 4 m south and 2 m up.
    (message,) = told(report)
    assert message.startswith("line 2 must begin within 0.5 m of the episode's start, got 4.47 m; is it in Habitat's")


@pytest.mark.parametrize(
    ("value", "kinds", "message"),
    [
        ({"1": [STILL, STOP], "2": [STILL, STILL, STOP]}, {}, None),
        ({"1": [STILL, STOP]}, {"missing ids": 1}, "episode_id 2 has no prediction"),
        (
            {"1": [STILL, STOP], "2": [STILL, STOP], "x": [STILL, STOP]},
            {"unknown ids": 1},
            "item 2 (episode x): episode_id x is not in the split",
        ),
        (
            f'{{"1": {json.dumps([STILL, STOP])}, "2": {json.dumps([STILL, STOP])}, "1": {json.dumps([STILL, STOP])}}}',
            {"duplicate ids": 1},
            "item 2 (episode 1): episode_id 1 came before",
        ),
        ({"1": [], "2": [STILL, STOP]}, {"malformed items": 1}, "item 0 (episode 1) must be a list that begins"),
        (
            {"1": [STILL, STOP], "2": [STILL, {"position": [0, 0, 0], "stop": True}]},
            {"malformed items": 1},
            "item 1 (episode 2): state 1 lacks 'heading'",
        ),
        (
            {"1": [STILL, STOP | {"stop": 1}], "2": [STILL, STOP]},
            {"malformed items": 1},
            "item 0 (episode 1): state 1 must have stop true or false, got 1",
        ),
        (
            {"1": [STILL, STOP | {"heading": math.nan}], "2": [STILL, STOP]},
            {"malformed items": 1},
            "item 0 (episode 1): state 1 must have heading a finite number of radians, got nan",
        ),
        (
            {"1": [STILL, STOP], "2": [STILL, 3]},
            {"malformed items": 1},
            "item 1 (episode 2): state 1 must be an object",
        ),
        (
            {"1": [STILL, STOP, STOP], "2": [STILL, STOP]},
            {"wrong stops": 1},
            "item 0 (episode 1): stop must be true in the last state only, got it in state 1",
        ),
        (
            {"1": [STILL, STILL], "2": [STILL, STOP]},
            {"wrong stops": 1},
            "item 0 (episode 1): the last state must stop, or be that of step 500, got 1 steps",
        ),
        ({"1": [STOP], "2": [STILL, STOP]}, {"wrong stops": 1}, "item 0 (episode 1): the initial state must not stop"),
        (
            {"1": [STILL] * 501 + [STOP], "2": [STILL, STOP]},
            {"too many steps": 1},
            "item 0 (episode 1) must have the initial state and at most 500 more, got 502",
        ),
    ],
)
def test_r2r_ce_is_checked_state_by_state(tmp_path, value, kinds, message):
    report = validate_r2r_ce(object_of(tmp_path, value), ["1", "2"])
    assert report.counts == kinds
    if message is not None:
        assert any(text.startswith(message) for text in told(report)), told(report)


def test_r2r_ce_episodes_begin_where_they_should(tmp_path):
    file = object_of(tmp_path, {"1": [STILL, STOP]})
    assert validate_r2r_ce(file, ["1"], {"1": (0, 0.4, 0)}).problems == ()
    assert validate_r2r_ce(file, ["1"], {"1": (0, 0.6, 0)}).counts == {"wrong starts": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [("[]", "must be a JSON object of episodes, got list"), ("{", "must be JSON"), ("[{}]", "got list")],
)
def test_files_of_another_kind_are_told(tmp_path, content, message):
    file = object_of(tmp_path, content)
    with pytest.raises(InputError, match=rf"a.json must.*{message.removeprefix('must ')}"):
        validate_r2r_ce(file, ["1"])


MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("validate", "content"),
    [
        (validate_rxr_habitat, b'{"instruction_id": 1, "path": [[0, 0, 0]]}\n'),
        (validate_r2r_ce, json.dumps({"1": [STILL, STOP]}).encode()),
    ],
)
def test_files_are_told_as_those_of_the_graph_are(tmp_path, validate, content):
    def kinds(content):
        file = tmp_path / "a"
        file.write_bytes(content)
        report = validate(file, ["1"])
        return [[problem.kind for problem in found] for found in (report.problems, report.warnings)]

    assert kinds(content) == [[], []]
    assert kinds(gzip.compress(content)) == [[], ["packed files"]]
    assert kinds(MARK + content) == [["byte order marks"], []]
    assert kinds(gzip.compress(content)[:-9]) == [["faults of the file"], ["packed files"]]
    assert kinds(b"") == [["faults of the file"], []]
    assert kinds("{".encode("utf-16")) == [["faults of the file"], []]


def test_unsorted_ids_are_a_warning_as_on_the_graph(tmp_path):
    report = validate_rxr_habitat(lines_of(tmp_path, B, A | {"path": [[0, 0, 0]]}), ["1", "2"])
    assert [str(warning) for warning in report.warnings] == [
        "1 lines come after a larger instruction_id: sort the file (first: line 2)"
    ]


def test_steps_that_no_simulator_makes_are_counted_as_teleports(tmp_path):
    # 0.25 m forward; the same up a stair, 0.35 m in space; 0.5 m; then 3 m.
    places = [[0, 0, 0], [0.25, 0, 0], [0.5, 0.25, 0], [0.5, 0.25, 0.5], [3.5, 0.25, 0.5]]
    lines = lines_of(tmp_path, B, {"instruction_id": 7, "path": places})
    (warning,) = validate_rxr_habitat(lines, ["2", "7"]).warnings
    assert (warning.kind, warning.count) == ("teleports", 2)
    assert warning.message.startswith("2 steps are longer than 0.3 m, but the simulator goes 0.25 m")
    assert warning.message.endswith("(first: line 2: path[3], 0.50 m)")
    states = [STILL | {"position": place} for place in places] + [STOP | {"position": places[-1]}]
    (warning,) = validate_r2r_ce(object_of(tmp_path, {"1": states}), ["1"]).warnings
    assert warning.message.endswith("(first: item 0 (episode 1): state[3], 0.50 m)")


def test_files_of_single_languages_are_merged_in_order(tmp_path):
    english = lines_of(tmp_path, A, B | {"instruction_id": 30}, name="en.jsonl")
    hindi = lines_of(tmp_path, B, name="hi.jsonl")
    out = tmp_path / "all.jsonl.gz"
    assert merge_lines([english, hindi], out) == 3
    assert validate_rxr_habitat(out, ["1", "2", "30"]).problems == ()


def test_merged_files_share_no_instruction(tmp_path):
    english, hindi = lines_of(tmp_path, A, B, name="en.jsonl"), lines_of(tmp_path, B, name="hi.jsonl")
    with pytest.raises(InputError, match=r"hi\.jsonl.*instruction_id 2"):
        merge_lines([english, hindi], tmp_path / "all.jsonl")
    assert not (tmp_path / "all.jsonl").exists()


@needs_shared
def test_walks_along_the_real_paths_are_valid_submissions(tmp_path):
    split = read_continuous(SHARED / "data" / "R2R-CE" / "val_unseen" / "val_unseen.json.gz", "r2r-ce")
    tables = NavTables.load(SHARED / "data" / "connectivity", split.scans, cache=False)
    walks, errors_m = [], []
    for matched, episode in zip(match_to_graph(split, tables), split.episodes, strict=True):
        walk = Prediction(matched.instr_id, tuple((viewpoint, 0.0, 0.0) for viewpoint in matched.path))
        walks.append(from_walk(walk, episode, tables))
        errors_m.append(np.linalg.norm(walks[-1].position_m[-1] - episode.goal_m))
    # Goals are met within the graph's and the floor's inaccuracy; success is within 3 m.
    assert np.quantile(errors_m, 0.9) < 0.2
    assert max(errors_m) < 2
    starts = {episode.instr_id: episode.start_m for episode in split.episodes}
    write_r2r_ce(tmp_path / "a.json", walks)
    assert validate_r2r_ce(tmp_path / "a.json", list(starts), starts).problems == ()
    write_rxr_habitat(tmp_path / "a.jsonl", walks)
    assert validate_rxr_habitat(tmp_path / "a.jsonl", list(starts), starts).problems == ()
