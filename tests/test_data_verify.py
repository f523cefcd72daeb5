import gzip
import json
import re

import numpy as np
import pytest

from tests.golden import SHARED, needs_shared
from tests.toy_world import point_to, scan_rows, write_scan, write_world
from vln_clip import data, log
from vln_clip.features import dataset_key
from vln_clip.tasks.pose_traces import pose_trace_file

VAL = "RxR/rxr_val_unseen_guide.jsonl.gz"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A toy data folder that a test may spoil."""
    point_to(tmp_path, monkeypatch)
    return write_world(tmp_path / "data")


def run(*argv):
    """Run the program; return its exit status."""
    try:
        log.program(data.main, list(map(str, argv)))
    except SystemExit as stopped:
        return stopped.code
    return 0


def lines_of(file):
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]


def write_lines(file, items):
    file.write_bytes(gzip.compress("".join(json.dumps(item) + "\n" for item in items).encode()))


def test_a_sound_folder_is_told_file_by_file(folder, capsys):
    (folder / "R2R" / "aug_paths.json").write_bytes((folder / "R2R" / "R2R_val_seen.json").read_bytes())
    assert run("verify") == 0
    told = capsys.readouterr().out
    # alpha and beta have 8 viewpoints each (one more is excluded), gamma 5
    assert "connectivity/: 3 scans, 21 viewpoints, no known version (0 of the 91 public files)" in told
    assert "R2R/R2R_train.json: 23 paths, 69 instructions (en 69), 2 scans, no known version: sha256 " in told
    assert "note: public versions of R2R/R2R_train.json have 4,675 paths" in told
    assert "R2R/R2R_test.json: 4 paths, 12 instructions (en 12), 1 scan, goals hidden" in told
    assert f"{VAL}: 8 paths, 32 instructions (en 16, hi 8, te 8), 1 scan, no hash is known to compare with" in told
    assert "R2R/aug_paths.json: 4 paths, 12 instructions" in told
    assert f"vln-clip features verify {folder / 'features' / 'toy.safetensors'} --dataset r2r" in told
    # scans.txt and 3 graphs, 4 splits and unlabelled paths of R2R, 4 splits of RxR
    assert "nothing is wrong with 13 files of r2r, rxr" in told


def test_only_the_asked_data_set_is_looked_at(folder, capsys):
    (folder / VAL).write_bytes(b"damaged")
    assert run("verify", "--dataset", "r2r") == 0
    assert "RxR/" not in capsys.readouterr().out
    assert run("verify", "--dataset", "rxr") == 2
    told = capsys.readouterr()
    assert f"{VAL}: WRONG" in told.out
    assert "got 1 problem (see above)" in told.err


def test_an_instruction_that_occurs_twice_is_named_with_its_line(folder, capsys):
    items = lines_of(folder / VAL)
    items[4]["instruction_id"] = items[2]["instruction_id"]
    write_lines(folder / VAL, items)
    assert run("verify", "--dataset", "rxr") == 2
    told = capsys.readouterr().out
    assert f"{folder / VAL}: line 5: instruction_id must be unique, got {items[2]['instruction_id']} again" in told


def test_paths_that_leave_the_graph_are_named_with_their_lines(folder, capsys):
    items = lines_of(folder / VAL)  # four lines for each path; the first two go by b0 b1 b7 b5 and b2 b4 b5 b7 b1
    for item in items[:4]:
        item["path"] = ["b0", "b1", "b5"]
    for item in items[4:8]:
        item["path"] = ["b2", "bx"]
    write_lines(folder / VAL, items)
    assert run("verify", "--dataset", "rxr") == 2
    told = capsys.readouterr()
    number = items[1]["instruction_id"]
    edge = "from 'b1' to 'b5' there is no edge in the navigation graph of scan beta"
    assert f"problem: {folder / VAL}: line 2 (instruction_id {number}): {edge}" in told.out
    assert "line 5 (instruction_id" in told.out
    assert "viewpoint 'bx' is not in the navigation graph of scan beta (its file excludes it)" in told.out
    assert "problem: and 3 more of this kind" in told.out
    assert "got 8 problems" in told.err


def test_paths_of_r2r_that_leave_the_graph_are_named_by_their_ids(folder, capsys):
    file = folder / "R2R" / "R2R_val_seen.json"
    items = json.loads(file.read_text())
    items[1]["path"] = ["a0", "a1", "a3"]
    items[2]["path"] = ["a0", "a3"]  # start and goal: what lies between is filled in
    file.write_text(json.dumps(items))
    assert run("verify", "--dataset", "r2r") == 2
    told = capsys.readouterr()
    assert f"problem: {file}: path_id {items[1]['path_id']}: from 'a1' to 'a3' there is no edge" in told.out
    assert "got 1 problem" in told.err


def test_graphs_that_are_missing_or_damaged_are_named(folder, capsys):
    (folder / "connectivity" / "gamma_connectivity.json").unlink()
    rows = scan_rows("beta")
    rows[0]["unobstructed"][1] = False
    write_scan(folder / "connectivity", "beta", rows)
    assert run("verify", "--dataset", "r2r") == 2
    told = capsys.readouterr().out
    assert "problem: " + str(folder / "connectivity" / "beta_connectivity.json") + ": unobstructed must be symm" in told
    assert "scans.txt lists 1 scan without a file, first gamma" in told
    assert "problem: 1 of its 2 scans have no sound graph, first gamma" in told
    assert "problem: 1 of its 1 scans have no sound graph, first beta" in told


def test_a_vocabulary_of_public_name_and_other_content_is_noted(folder, capsys):
    (folder / "R2R" / "train_vocab.txt").write_text("<PAD>\n<UNK>\n<EOS>\nwalk\n")
    assert run("verify", "--dataset", "r2r") == 0
    told = capsys.readouterr().out
    assert "R2R/train_vocab.txt: 5 words with <BOS>, no known version" in told
    assert "note: it is not the public file: expected 6,639 bytes with sha256 5e35817e" in told
    (folder / "R2R" / "train_vocab.txt").write_text("walk\n")
    assert run("verify", "--dataset", "r2r") == 2


def test_instructions_without_pose_traces_are_named(folder, capsys):
    ids = [item["instruction_id"] for item in lines_of(folder / VAL)]
    assert run("verify", "--dataset", "rxr") == 0
    assert "pose trace" not in capsys.readouterr().out
    assert run("verify", "--dataset", "rxr", "--pose-traces", "val_unseen") == 2
    assert "got 32 problems" in capsys.readouterr().err
    for number in ids[1:]:
        file = pose_trace_file(folder, "val_unseen", "guide", number)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, nothing=np.zeros(1))
    assert run("verify", "--dataset", "rxr") == 0
    told = capsys.readouterr().out
    lacking = pose_trace_file(folder, "val_unseen", "guide", ids[0])
    assert "pose traces: 31 of 32 instructions have theirs" in told
    assert f"note: instruction {ids[0]} has no pose trace: {lacking} is missing (1 such; --pose-traces val_un" in told
    assert run("verify", "--dataset", "rxr", "--pose-traces", "val_unseen") == 2
    assert f"problem: instruction {ids[0]} has no pose trace: {lacking} is missing" in capsys.readouterr().out
    assert run("verify", "--dataset", "rxr", "--pose-traces", "val_unsen") == 2
    assert "--pose-traces val_unsen: there is no guide file of that split" in capsys.readouterr().out
    assert run("verify", "--dataset", "r2r", "--pose-traces", "val_unseen") == 2
    assert "--pose-traces val_unseen needs RxR" in capsys.readouterr().err


def test_an_empty_folder_has_nothing_to_verify(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VLN_CLIP_DATA", str(tmp_path))
    assert run("verify") == 2
    assert "must hold a data set, got none" in capsys.readouterr().err
    assert run("verify", "--dataset", "rxr") == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told


def test_the_list_says_what_is_there_from_where_and_what_can_run(folder, tmp_path, capsys):
    file = tmp_path / "list.json"
    assert run("list", "--json", file) == 0
    told = capsys.readouterr()
    assert f"r2r: {folder}; splits: train, val_seen, val_unseen, test" in told.err
    listed = told.out.splitlines()
    place = next(k for k, line in enumerate(listed) if line.startswith("R2R/train_vocab.txt"))
    assert re.fullmatch(r"R2R/train_vocab\.txt +no +6,639 B  train", listed[place])
    assert listed[place + 2].strip().startswith("https://raw.githubusercontent.com/airsplay/")
    assert max(map(len, listed)) <= 100
    runs = listed[listed.index("what you can run now") :]
    assert "r2r       train --features none (blind)  yes" in runs
    assert "          train --features               toy" in runs
    assert "          evaluate                       train, val_seen, val_unseen" in runs
    assert "          submit                         test" in runs
    assert "r4r       train --features none (blind)  no: R4R/R4R_train.json and 1 more missing" in runs
    saved = json.loads(file.read_text())
    row = next(row for row in saved["files"] if row["name"] == VAL)
    assert (row["present"], row["terms"], row["num_bytes"]) == ("yes", "CC BY 4.0", (folder / VAL).stat().st_size)
    assert saved["runnable"]["r2r"]["submit"] == "test"


def test_the_list_of_one_data_set_has_its_files_only(folder, capsys):
    (folder / "R2R" / "R2R_test.json").unlink()
    assert run("--dataset", "r2r") == 0  # flags without a word mean list
    told = capsys.readouterr()
    assert "splits: train, val_seen, val_unseen\n" in told.err
    assert re.search(r"R2R/R2R_test\.json +no ", told.out)
    assert re.search(r"connectivity/ +1/91 .*\n.*there is 3 own", told.out)
    assert "RxR/" not in told.out
    assert "          submit                         no: no test split there" in told.out


def test_extracted_features_are_listed(folder, tmp_path, capsys):
    key = dataset_key("r2r", folder)
    (tmp_path / "cache" / "features" / key).mkdir(parents=True)
    (tmp_path / "cache" / "features" / key / "clip_rn50x4.safetensors").touch()
    assert run("list", "--dataset", "r2r") == 0
    assert "          train --features               clip_rn50x4, toy" in (told := capsys.readouterr().out)
    assert "train --features clip_rn50x4" not in told


def test_other_addresses_are_listed(folder, capsys):
    assert run("list", "--dataset", "r2r", "--source", "R2R/=https://mirror/r2r") == 0
    assert "    https://mirror/r2r/R2R_train.json" in capsys.readouterr().out


@needs_shared
def test_real_files_have_the_known_hashes(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("VLN_CLIP_DATA", str(SHARED / "data"))
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path))
    assert run("verify", "--dataset", "r2r") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:7] == [
        "connectivity/: 90 scans, 10,567 viewpoints, known version",
        "R2R/R2R_train.json: 4,675 paths, 14,039 instructions (en 14,039), 61 scans, known version",
        "R2R/R2R_val_seen.json: 340 paths, 1,021 instructions (en 1,021), 56 scans, known version",
        "R2R/R2R_val_unseen.json: 783 paths, 2,349 instructions (en 2,349), 11 scans, known version",
        "R2R/R2R_test.json: 1,391 paths, 4,173 instructions (en 4,173), 18 scans, goals hidden, known version",
        "R2R/train_vocab.txt: 992 words with <BOS>, known version",
        "R2R/trainval_vocab.txt: 1,083 words with <BOS>, known version",
    ]
    assert told[-1] == "nothing is wrong with 97 files of r2r"
