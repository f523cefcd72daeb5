import gzip
import json
import random
import time
from pathlib import Path

import pytest

from tests.golden import SHARED, needs_shared
from tests.toy_graph import ToyGraph
from vln_clip.connectivity import NavTables
from vln_clip.errors import InputError
from vln_clip.tasks.datasets import load_episodes, read_split
from vln_clip.tasks.split import place_on_graph


def item(path_id: int | str = 7, path: str = "abc", **changes: object) -> dict:
    plain = {"scan": "house", "path_id": path_id, "path": list(path), "heading": 1.5, "instructions": ["Go.", "Walk."]}
    return plain | changes


def write(data: Path, items: object, split: str = "train") -> Path:
    file = data / "R2R" / f"R2R_{split}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(items if isinstance(items, str) else json.dumps(items))
    return data


def test_each_instruction_is_an_episode_with_the_public_id(tmp_path):
    first, second, other = load_episodes("demo", "train", write(tmp_path, [item(), item(8, "ab", instructions=["x"])]))
    assert (first.instr_id, second.instr_id, other.instr_id) == ("7_0", "7_1", "8_0")
    assert (second.path_id, second.scan, second.start, second.heading_rad) == ("7", "house", "a", 1.5)
    assert (second.instruction, second.path, second.goal) == ("Walk.", ("a", "b", "c"), "c")


def test_a_file_of_starts_hides_its_goals(tmp_path):
    split = read_split("demo", "test", write(tmp_path, [item(1, "a"), item(2, "b")], "test"))
    assert split.goal_hidden
    assert [(e.start, e.path, e.goal) for e in split.episodes] == [("a", None, None)] * 2 + [("b", None, None)] * 2
    assert place_on_graph(split, ToyGraph()) == split


def test_one_path_that_stays_does_not_hide_goals(tmp_path):
    write(tmp_path, [item(1, "a"), item(2, "ab")])
    assert load_episodes("demo", "train", tmp_path)[0].path == ("a",)
    # The rule looks at the whole file, also where the subset happens to hold nothing but the path that stays.
    drawn = [1, 2]
    random.Random(0).shuffle(drawn)
    write(tmp_path, [item(path_id, "a" if path_id == drawn[0] else "ab") for path_id in (1, 2)])
    subset = read_split("demo", "train@1", tmp_path)
    assert [e.path for e in subset.episodes] == [("a",)] * 2


def test_a_subset_is_the_reference_draw_over_paths(tmp_path):
    write(tmp_path, [item(path_id) for path_id in range(10)])
    order = list(range(10))
    random.seed(0)  # what the reference does, on the global generator
    random.shuffle(order)
    state = random.getstate()
    episodes = load_episodes("demo", "train@3", tmp_path)
    assert [e.instr_id for e in episodes] == [f"{path_id}_{k}" for path_id in order[:3] for k in (0, 1)]
    assert random.getstate() == state, "the global generator must be left alone"
    assert len(load_episodes("demo", "train@99", tmp_path)) == 20


def test_a_split_with_a_slash_is_a_file_plain_or_gzipped(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps([item()]))
    packed = tmp_path / "mine.json.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    plain, unpacked = (read_split("r2r", str(path), tmp_path / "nowhere") for path in (file, packed))
    assert plain.episodes == unpacked.episodes
    assert plain.sha256 == unpacked.sha256
    assert plain.scans == ["house"]
    assert len(load_episodes("r2r", f"{file}@1", tmp_path)) == 2
    mine = file.rename(tmp_path / "mine@home.json")
    assert len(load_episodes("r2r", str(mine), tmp_path)) == len(plain.episodes)
    with pytest.raises(InputError, match=r"me@host/x\.json does not exist"):
        load_episodes("r2r", str(tmp_path / "me@host/x.json"), tmp_path)


def test_episodes_without_a_word_are_dropped_and_counted(tmp_path, caplog):
    caplog.set_level("INFO")
    write(tmp_path, [item(instructions=["Go.", " \n", ""])])
    assert [e.instr_id for e in load_episodes("demo", "train", tmp_path)] == ["7_0"]
    assert "dropped 2 episodes whose instruction has no word" in caplog.text
    assert len(load_episodes("demo", "train", tmp_path, keep_empty=True)) == 3


def test_an_unlabelled_path_of_two_ends_is_filled_in_on_the_graph(tmp_path):
    write(tmp_path, [item(1, "ad"), item(2, "ab"), item(3, "da")])
    paths = {e.path_id: e.path for e in load_episodes("demo", "train", tmp_path, ToyGraph(), keep_empty=True)}
    assert paths == {"1": tuple("abcd"), "2": ("a", "b"), "3": tuple("dcba")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": ["a", "c", "d"]}, "consecutive viewpoints of a path must be neighbours .* scan house"),
        ({"path": ["a", "z"]}, "goal 'z' cannot be reached from start 'a'"),
        ({"path": ["a", "nine"]}, "viewpoint 'nine' of scan 'house'"),
        ({"scan": "hous"}, "viewpoint 'a' of scan 'hous'"),
    ],
)
def test_a_path_off_the_graph_is_named(tmp_path, changes, message):
    folder = write(tmp_path, [item(1), item(**changes)])
    with pytest.raises(InputError, match=rf"R2R_train\.json: item 1 \(path_id 7\): {message}"):
        load_episodes("demo", "train", folder, ToyGraph(), keep_empty=True)


def test_an_annotated_path_of_two_ends_is_not_filled_in(tmp_path):
    # Its middle is lost: filling it in would train and score on another path than the instruction tells.
    folder = write(tmp_path, [item(1), item(7, "ad")])
    with pytest.raises(InputError, match=r"R2R_train\.json: item 1 \(path_id 7\): consecutive viewpoints .*'a', 'd'"):
        load_episodes("demo", "train", folder, ToyGraph())


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ("[{", "must be JSON, but"),
        ("[" * 100_000, "must be JSON, but"),
        ({}, "must be a JSON list of paths with at least one, got an empty dict"),
        ([], "must be a JSON list of paths with at least one, got an empty list"),
        ([3], "item 0 must be an object, got int 3"),
        ([item(), {"scan": "house"}], "item 1: field 'path_id' is missing"),
        ([item(True)], "path_id must be a number or a string, got bool True"),
        ([item(scan=None)], r"item 0 \(path_id 7\): scan must be a string, got NoneType None"),
        ([item(heading="north")], "heading must be a finite number of radians, got 'north'"),
        ([item(heading=float("nan"))], "heading must be a finite number of radians, got nan"),
        ([item(heading=10**400)], "heading must be a finite number of radians, got 1000"),
        ([item(path=[])], r"path must be a list of viewpoint ids with at least one, got \[\]"),
        ([item(path="abc", instructions="Go.")], "instructions must be a list of texts with at least one, got 'Go.'"),
        ([item(instructions=[None])], "instructions must be a list of texts"),
        ([item(instructions=["Go.", "a \ud83d."])], r"must be JSON, but: the string 'a .* holds half a character"),
        ([item(7), item("7")], "item 1: path_id must be unique, got 7 again"),
    ],
)
def test_a_malformed_file_is_refused_by_name(tmp_path, items, message):
    with pytest.raises(InputError, match=rf"R2R_train\.json.*{message}"):
        load_episodes("demo", "train", write(tmp_path, items))


def test_a_truncated_archive_is_refused(tmp_path):
    file = tmp_path / "mine.json.gz"
    file.write_bytes(gzip.compress(json.dumps([item()]).encode())[:-12])
    with pytest.raises(InputError, match=r"mine\.json\.gz must be a whole gzip archive"):
        load_episodes("r2r", str(file), tmp_path)


def test_unknown_names_come_with_a_suggestion(tmp_path):
    write(tmp_path, [item()], "val_extra")
    with pytest.raises(
        InputError, match=r"split must be one of .*test, val_extra, got 'val_unsen'; did you mean 'val_unseen'"
    ):
        load_episodes("r2r", "val_unsen", tmp_path)
    with pytest.raises(InputError, match=r"dataset must be one of r2r, xl-r2r, .*, got 'r2'; did you mean 'r2r'"):
        load_episodes("r2", "train", tmp_path)
    with pytest.raises(InputError, match=r"split must be NAME or NAME@N .* got 'train@few'"):
        load_episodes("r2r", "train@few", tmp_path)


def test_a_missing_file_says_where_to_get_it(tmp_path):
    with pytest.raises(InputError, match=r"R2R_val_unseen\.json .* is missing; download https://www\.dropbox\.com/\S+"):
        load_episodes("r2r", "val_unseen", tmp_path)
    with pytest.raises(InputError, match=r"is missing; build the demo world: python -m vln_clip\.data"):
        load_episodes("demo", "val_unseen", tmp_path)
    with pytest.raises(InputError, match=r"nowhere\.json does not exist"):
        load_episodes("r2r", str(tmp_path / "nowhere.json"), tmp_path)


def test_a_file_under_a_public_name_with_other_content_is_warned_about(tmp_path, caplog):
    assert read_split("r2r", "train", write(tmp_path, [item()])).version == "unknown"
    assert "is no known version of R2R: 1 paths, usually 4675" in caplog.text
    # The other version in circulation is told by its size alone.
    text = json.dumps([item()])
    assert (
        read_split("r2r", "train", write(tmp_path, text + " " * (3996672 - len(text)))).version
        == "other public version"
    )
    caplog.clear()
    assert read_split("demo", "train", tmp_path).version == "own"
    assert not caplog.text


@needs_shared
@pytest.mark.parametrize(
    ("split", "num_episodes", "num_scans"),
    [("train", 14039, 61), ("val_seen", 1021, 56), ("val_unseen", 2349, 11), ("test", 4173, 18)],
)
def test_real_splits_have_the_published_sizes_and_lie_on_the_graph(split, num_episodes, num_scans):
    read = read_split("r2r", split, SHARED / "data")
    assert (len(read.episodes), len(read.scans), read.version) == (num_episodes, num_scans, "envdrop")
    assert read.goal_hidden == (split == "test")
    tables = NavTables.load(SHARED / "data/connectivity", read.scans, cache=False)
    assert place_on_graph(read, tables) == read


@needs_shared
def test_reading_train_is_quick():
    start_s = time.process_time()
    load_episodes("r2r", "train", SHARED / "data")
    assert time.process_time() - start_s < 2, "measured 0.16 s"
