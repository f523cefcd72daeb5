import json

import pytest

from tests.golden import SHARED, needs_shared
from tests.toy_graph import ToyGraph
from tests.toy_world import use_world
from vln_clip import data, log
from vln_clip.connectivity import NavTables
from vln_clip.errors import InputError
from vln_clip.tasks.datasets import read_split
from vln_clip.tasks.r4r import join_paths, write_r4r
from vln_clip.tasks.split import place_on_graph

# house: a -1 m- b -2 m- c -3 m- d
ITEMS = [
    {"scan": "house", "path_id": 1, "path": list("abc"), "heading": 0.1, "instructions": ["Go. ", " Walk  on."]},
    {"scan": "house", "path_id": 2, "path": list("dcb"), "heading": 0.2, "instructions": ["Turn.", "Stop.", "Wait."]},
    {"scan": "house", "path_id": 3, "path": list("ab"), "heading": 0.3, "instructions": ["Leave."]},
    {"scan": "other", "path_id": 4, "path": list("ab"), "heading": 0.4, "instructions": ["Far."]},
]


def split_of(folder, items):
    file = folder / "R2R" / "R2R_train.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(items))
    return place_on_graph(read_split("demo", "train", folder), ToyGraph())


@pytest.fixture
def joined(tmp_path):
    return {item["path_id"]: item for item in join_paths(split_of(tmp_path, ITEMS), ToyGraph())}


def test_paths_are_joined_where_the_link_is_at_most_3_metres(joined):
    # From ends to starts: 1-2 c to d, exactly 3 m; 1-3 c to a, 3 m; 2-1 and 2-3 b to a, 1 m; 3-1 b to a, 1 m; 3-2 is
    # b to d, 5 m, too far; 4 is alone in its scan and does not follow itself.
    assert list(joined) == [100002, 100003, 200001, 200003, 300001]


def test_a_joined_path_goes_over_the_link_and_repeats_no_viewpoint_at_the_joints(joined):
    assert "".join(joined[100002]["path"]) == "abcdcb"  # 1 + 2 + 3 (link) + 3 + 2 m
    assert joined[100002]["distance"] == 11.0
    assert "".join(joined[100003]["path"]) == "abcbab"  # the link passes b
    assert "".join(joined[200001]["path"]) == "dcbabc"
    assert (joined[200001]["heading"], joined[200001]["scan"]) == (0.2, "house")


def test_a_path_may_begin_where_the_other_ends(tmp_path):
    items = [ITEMS[0], ITEMS[0] | {"path_id": 2, "path": list("cd")}]
    paths = [item["path"] for item in join_paths(split_of(tmp_path, items), ToyGraph())]
    assert paths == [list("abcd")]  # d to a is 6 m


def test_every_instruction_is_followed_by_every_other(joined):
    assert joined[100002]["instructions"] == [
        "Go. Turn.",
        "Go. Stop.",
        "Go. Wait.",
        "Walk on. Turn.",
        "Walk on. Stop.",
        "Walk on. Wait.",
    ]
    assert joined[100003]["instructions"] == ["Go. Leave.", "Walk on. Leave."]


@pytest.mark.parametrize("path_id", ["x1", 100_000, "-1"])
def test_path_ids_must_leave_room_for_two(tmp_path, path_id):
    split = split_of(tmp_path, [ITEMS[0] | {"path_id": path_id}])
    with pytest.raises(InputError, match=r"R2R_train.json: path_id must be a number below 100000"):
        list(join_paths(split, ToyGraph()))


def test_a_split_without_a_pair_gives_a_readable_empty_list(tmp_path):
    file = tmp_path / "empty.json"
    assert write_r4r(file, join_paths(split_of(tmp_path, ITEMS[2:]), ToyGraph())) == (0, 0)
    assert json.loads(file.read_text()) == []


def test_the_program_makes_what_the_reader_reads(tmp_path, monkeypatch, capsys):
    world = use_world(tmp_path, monkeypatch)
    out = tmp_path / "R4R"
    log.program(data.main, ["make", "r4r", "--out", str(out)])
    told = capsys.readouterr().err
    assert sorted(file.name for file in out.iterdir()) == [
        f"R4R_{name}.json" for name in ("train", "val_seen", "val_unseen")
    ]
    tables = NavTables.load(world / "connectivity")
    split = read_split("r2r", str(out / "R4R_val_seen.json"), world)
    assert place_on_graph(split, tables).episodes == split.episodes  # every hop is an edge: nothing to fill in
    assert f"R4R_val_seen.json: {len(split.episodes) // 9} paths, {len(split.episodes)} instructions" in told
    # val_seen: 200 a0 to a4, 201 a6 to a1, 202 a3 to a5, 203 a7 to a0. Ends within 3 m of starts: a1-a0 2.5 m,
    # a5-a6 2.5 m, a5-a7 3 m, a0-a0 0 m; all others are 5 m apart or more.
    pairs = {(201, 200), (202, 201), (202, 203), (203, 200)}
    assert {int(e.path_id) for e in split.episodes} == {a * 100_000 + b for a, b in pairs}


def test_files_are_replaced_only_when_asked(tmp_path, monkeypatch, capsys):
    use_world(tmp_path, monkeypatch)
    (tmp_path / "R4R_val_unseen.json").write_text("mine")
    words = ["make", "r4r", "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match="2"):
        log.program(data.main, words)
    assert "R4R_val_unseen.json exists already; --overwrite replaces it" in capsys.readouterr().err
    assert not (tmp_path / "R4R_train.json").exists()
    log.program(data.main, [*words, "--overwrite", "--splits", "val_unseen"])
    assert json.loads((tmp_path / "R4R_val_unseen.json").read_text())
    assert not (tmp_path / "R4R_train.json").exists()


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("test", "R2R_test.json must have paths with goals to be joined"),
        ("val_unsen", "did you mean 'val_unseen'"),
        ("train@5", "--splits must be names of splits"),
    ],
)
def test_bad_splits_are_told(tmp_path, monkeypatch, capsys, split, message):
    use_world(tmp_path, monkeypatch)
    with pytest.raises(SystemExit, match="2"):
        log.program(data.main, ["make", "r4r", "--out", str(tmp_path), "--splits", split])
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("R4R*"))


@needs_shared
@pytest.mark.parametrize(
    ("name", "num_paths", "num_instructions"),
    [
        ("val_seen", 115, 1035),
        ("val_unseen", 5026, 45234),
        pytest.param("train", 25921, 233532, marks=pytest.mark.slow),
    ],
)
def test_real_data_gives_the_published_numbers(tmp_path, name, num_paths, num_instructions):
    split = read_split("r2r", name, SHARED / "data")
    tables = NavTables.load(SHARED / "data" / "connectivity", split.scans, cache=False)
    split = place_on_graph(split, tables)
    file = tmp_path / f"R4R_{name}.json"
    assert write_r4r(file, join_paths(split, tables)) == (num_paths, num_instructions)
    back = read_split("r2r", str(file), tmp_path)
    assert len(back.episodes) == num_instructions
    assert place_on_graph(back, tables).episodes == back.episodes
