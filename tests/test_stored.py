"""Large training files: stored, compiled and mapped, they are the same as records held in memory."""

import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.test_rxr import guide
from tests.toy_runs import World
from tests.toy_world import toy_setting
from vln_clip.columns import DamagedColumnsError, map_columns, write_columns
from vln_clip.envs.compiled import compiled_table
from vln_clip.envs.episodes import EpisodeTable
from vln_clip.errors import InputError
from vln_clip.sampler import ShuffledSampler
from vln_clip.setting import open_setting
from vln_clip.tasks import datasets, json_stream, storing
from vln_clip.tasks.datasets import read_split, read_training
from vln_clip.tasks.split import place_on_graph
from vln_clip.tasks.stored import StoredSplit

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[1]
EXACT = ("tokens", "length", "viewpoint", "view", "goal", "guide")


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Return a toy setting whose training files all count as large."""
    setting, _ = toy_setting(tmp_path, monkeypatch)
    monkeypatch.setattr(datasets, "MAX_HELD_BYTES", 0)
    monkeypatch.setattr(storing, "PART", 7)
    return setting


def guides(count=40):
    """Return RxR guides on the toy graphs: three languages, shared paths, an empty instruction."""
    routes = [["a0", "a1", "a2"], ["a3", "a2", "a4", "a5"], ["b0", "b1"]]
    texts = {"en-IN": "Walk to the kitchen 🙂 café.", "hi-IN": "रसोई में जाओ।", "te-IN": "వంటగదికి వెళ్ళండి."}
    rows = []
    for k in range(count):
        tag, path = list(texts)[k % 3], routes[k % len(routes)]
        text = "  " if k == 5 else texts[tag] * (1 + k % 4)
        scan = "alpha" if path[0][0] == "a" else "beta"
        rows.append(
            guide(k, tag, instruction=text, instruction_id=f"é{k}", path_id=k % 3, scan=scan, path=path, heading=k / 7)
        )
    return rows


def written(file, rows, array=False):
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    content = "[" + ",\n".join(lines) + "]" if array else "\n".join(lines) + "\n"
    file.write_bytes(gzip.compress(content.encode()) if file.suffix == ".gz" else content.encode())
    return file


def held_and_stored(file, dataset, language="all"):
    held, stored = (read(dataset, str(file), file.parent, language=language) for read in (read_split, read_training))
    assert isinstance(stored, StoredSplit)
    return held, stored


def held_table(split, setting, max_tokens=20):
    texts, languages = [e.instruction for e in split.episodes], [e.language for e in split.episodes]
    tokens, length = setting.vocabulary.encode_batch(texts, max_tokens, languages)
    return EpisodeTable.compile(split.episodes, setting.tables, tokens, length)


def assert_equal_batches(table, other, batch_size=8):
    assert len(table) == len(other)
    samplers = [ShuffledSampler(len(table), batch_size, 0) for _ in range(2)]
    for _ in range(12):
        batches = [t.batch(s.next()) for t, s in zip((table, other), samplers, strict=True)]
        for name in EXACT:
            first, second = (getattr(batch, name) for batch in batches)
            assert (first is None) == (second is None)
            if first is not None:
                assert first.dtype == second.dtype
                assert torch.equal(first, second)


@pytest.mark.parametrize("name", ["guides.jsonl", "guides.jsonl.gz", "array.json"])
@pytest.mark.parametrize("language", ["all", "hi"])
def test_stored_guides_are_the_records(world, tmp_path, name, language):
    file = written(tmp_path / name, guides(), array=name == "array.json")
    held, stored = held_and_stored(file, "rxr", language)
    assert list(stored.episodes) == held.episodes
    assert stored.episodes[-1] == held.episodes[-1]
    assert stored.episodes[3:5] == held.episodes[3:5]
    assert (stored.sha256, stored.version, stored.goal_hidden) == (held.sha256, held.version, False)
    assert set(stored.scans) >= set(held.scans)
    assert list(stored.stored.instr_ids) == [episode.instr_id for episode in held.episodes]
    assert len(held.episodes) == {"all": 39, "hi": 13}[language]  # number 5 is empty, and in Telugu


def test_batches_of_a_stored_split_are_those_of_its_records(world, tmp_path):
    held, stored = held_and_stored(written(tmp_path / "guides.jsonl", guides()), "rxr")
    table = compiled_table(stored, world.tables, world.vocabulary, 20)
    assert_equal_batches(table, held_table(held, world))
    assert np.array_equal(table.reference(), held_table(held, world).reference())
    again = compiled_table(stored, world.tables, world.vocabulary, 20)  # of the cache
    assert_equal_batches(table, again)
    assert again.tokens.flat.dtype == torch.int32


def test_a_training_run_on_stored_r2r_draws_the_same_batches(world, tmp_path, monkeypatch):
    stored = open_setting("r2r", None, CPU)
    assert isinstance(stored.splits["train"], StoredSplit)
    assert not isinstance(stored.splits["val_unseen"], StoredSplit)
    assert stored.splits["train"].sha256 == world.splits["train"].sha256
    assert list(stored.table("train").episodes) == list(world.table("train").episodes)
    assert_equal_batches(stored.table("train"), world.table("train"))


def test_the_vocabulary_of_a_stored_split_is_that_of_its_records(world, tmp_path, monkeypatch):
    built = open_setting("r2r", None, CPU, tokenizer="unicode").vocabulary
    kept = open_setting("r2r", None, CPU, tokenizer="unicode").vocabulary
    monkeypatch.setattr(datasets, "MAX_HELD_BYTES", 1 << 24)
    held = open_setting("r2r", None, CPU, tokenizer="unicode").vocabulary
    assert built.words == kept.words == held.words


def test_train_names_another_file(world, tmp_path):
    items = json.loads((world.data / "R2R" / "R2R_train.json").read_text())[:4]
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(items))
    setting = open_setting("r2r", None, CPU, train=file)
    assert [e.path_id for e in setting.splits["train"].episodes[::3]] == [str(item["path_id"]) for item in items]
    assert len(setting.table("train")) == 12
    with pytest.raises(InputError, match=r"absent\.json"):
        open_setting("r2r", None, CPU, train=tmp_path / "absent.json")


def test_hidden_goals_stay_hidden(world, tmp_path):
    rows = [row | {"path": row["path"][:1]} for row in guides(9)]
    held, stored = held_and_stored(written(tmp_path / "starts.jsonl", rows), "rxr")
    assert stored.goal_hidden
    assert list(stored.episodes) == held.episodes
    table = compiled_table(stored, world.tables, world.vocabulary, 20)
    assert not table.has_goals
    assert_equal_batches(table, held_table(held, world), 4)


def test_a_file_without_any_word_has_no_episode(world, tmp_path):
    _, stored = held_and_stored(written(tmp_path / "none.jsonl", [guide(1, instruction=" ")]), "rxr")
    assert len(stored.episodes) == 0
    assert len(compiled_table(stored, world.tables, world.vocabulary, 20)) == 0


def test_a_file_is_read_in_pieces(world, tmp_path, monkeypatch):
    # A bound that the whole file exceeds, and pieces that break objects and characters.
    monkeypatch.setattr("vln_clip.reading.MAX_WHOLE_BYTES", 2000)
    monkeypatch.setattr(json_stream, "CHUNK_BYTES", 101)
    file = world.data / "R2R" / "R2R_train.json"
    assert file.stat().st_size > 2000
    with pytest.raises(InputError, match="to be read whole"):
        read_split("r2r", "train", world.data)
    assert len(read_training("r2r", "train", world.data).episodes) == 69


def test_a_changed_file_is_read_anew_and_an_unchanged_one_is_not(world, tmp_path, monkeypatch):
    file = written(tmp_path / "guides.jsonl", guides(6))
    assert len(read_training("rxr", str(file), tmp_path).episodes) == 5
    other = written(tmp_path / "same_content.jsonl", guides(6))
    with monkeypatch.context() as patch:
        patch.setattr(storing, "write_columns", None)
        assert len(read_training("rxr", str(other), tmp_path).episodes) == 5
    written(file, guides(9))
    assert len(read_training("rxr", str(file), tmp_path).episodes) == 8


def test_tables_depend_on_vocabulary_length_and_graphs(world, tmp_path):
    _, stored = held_and_stored(written(tmp_path / "guides.jsonl", guides()), "rxr")
    long, short = (compiled_table(stored, world.tables, world.vocabulary, n) for n in (20, 5))
    assert short.tokens.width == 5 < long.tokens.width
    fewer = replace(world.tables, neighbor=np.where(world.tables.neighbor == 1, -1, world.tables.neighbor))
    with pytest.raises(InputError, match=r"guides.jsonl: line 1 \(path_id 0\): consecutive viewpoints"):
        compiled_table(stored, fewer, world.vocabulary, 20)


@pytest.mark.parametrize("damage", ["cut", "empty", "header", "other", "facts"])
def test_a_damaged_cache_is_made_anew(world, tmp_path, damage):
    file = written(tmp_path / "guides.jsonl", guides())
    stored = read_training("rxr", str(file), tmp_path)
    expected = list(stored.episodes)
    table = compiled_table(stored, world.tables, world.vocabulary, 20)
    tokens = table.batch(torch.arange(39)).tokens.clone()
    del table, stored
    for path in list((storing.cache_dir() / storing.FOLDER).iterdir()):
        content = path.read_bytes()
        path.unlink()  # never written over: it is mapped
        changed = {
            "cut": content[:-9],
            "empty": b"",
            "header": b"\xff" * 8 + content[8:],
            "other": b"{}",
            "facts": content.replace(b"facts", b"fatcs").replace(b"widths", b"wihdts"),
        }
        path.write_bytes(changed[damage])
    stored = read_training("rxr", str(file), tmp_path)
    assert list(stored.episodes) == expected
    table = compiled_table(stored, world.tables, world.vocabulary, 20)
    assert torch.equal(table.batch(torch.arange(39)).tokens, tokens)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"instruction_id": "é0"}, r"line 4: instruction ids must be unique, got é0 again, as in line 1"),
        ({"path": ["a0", "a1"]}, r"line 4: path_id 0 must mean one scan and path, got another than line 1"),
        ({"heading": "north"}, r"line 4 .*heading must be a finite number"),
        ({"instruction": "half \ud800"}, r"line 4 .*half a character"),
        ({"language": "fr"}, r"line 4 .*language must be one of en, hi, te"),
    ],
)
def test_faults_are_told_and_leave_nothing_behind(world, tmp_path, change, fault):
    rows = guides(9)
    rows[3] |= change
    file = tmp_path / "guides.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=fault):
        read_training("rxr", str(file), tmp_path)
    folder = storing.cache_dir() / storing.FOLDER
    assert list(folder.iterdir()) == []


def test_paths_off_the_graphs_are_told_as_for_records(world, tmp_path):
    rows = guides(9)
    for row in rows[2::3]:
        row |= {"path": ["b0", "bx"]}
    file = written(tmp_path / "guides.jsonl", rows)
    held, stored = held_and_stored(file, "rxr")
    with pytest.raises(InputError) as expected:
        place_on_graph(held, world.tables)
    with pytest.raises(InputError) as found:
        compiled_table(stored, world.tables, world.vocabulary, 20)
    assert str(found.value) == str(expected.value)


def test_two_processes_compile_at_once(world, tmp_path):
    file = written(tmp_path / "guides.jsonl", guides(3000))
    code = (
        "import sys; from pathlib import Path; from vln_clip.tasks import datasets; datasets.MAX_HELD_BYTES = 0\n"
        "split = datasets.read_training('rxr', sys.argv[1], Path('.')); print(len(split.episodes))"
    )
    environment = os.environ | {"VLN_CLIP_CACHE": str(tmp_path / "shared"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(file)]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in both] == ["2999\n", "2999\n"]
    assert len(list((tmp_path / "shared" / storing.FOLDER).iterdir())) == 1


def test_columns_come_back_as_they_were_written(tmp_path):
    def fill(writer):
        for part in (np.arange(3), np.arange(3, 5)):
            writer.append("large", part.astype(np.int64))
            writer.append("small", part.astype(np.uint8))
        return {"note": "½"}

    path = tmp_path / "columns"
    write_columns(path, fill)
    columns, metadata = map_columns(path)
    assert metadata == {"note": "½"}
    assert columns["large"].tolist() == columns["small"].tolist() == [0, 1, 2, 3, 4]
    columns["large"][0] = 9  # this process' copy
    assert map_columns(path)[0]["large"][0] == 0
    (tmp_path / "cut").write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedColumnsError):
        map_columns(tmp_path / "cut")
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


@pytest.mark.slow
def test_runs_on_stored_and_on_held_episodes_are_equal(tmp_path, monkeypatch):
    runs = World(tmp_path, monkeypatch)
    held = runs.train("--bt", "--deterministic", name="held")
    assert not (storing.cache_dir() / storing.FOLDER).exists()
    monkeypatch.setattr(datasets, "MAX_HELD_BYTES", 0)
    file = str(runs.data / "R2R" / "R2R_train.json")
    stored = runs.train("--bt", "--deterministic", "--train", file, name="stored")
    # The episodes, their words and their table.
    assert len(list((storing.cache_dir() / storing.FOLDER).iterdir())) == 3
    for name in ("metrics.jsonl", "results.json"):
        assert (stored / name).read_bytes() == (held / name).read_bytes()


def test_ids_are_read_when_asked_for(world, tmp_path):
    _, stored = held_and_stored(written(tmp_path / "guides.jsonl", guides()), "rxr")
    ids = compiled_table(stored, world.tables, world.vocabulary, 20).ids
    assert not isinstance(ids, list)
    assert (ids[0], ids[38], ids[4:6]) == ("é0", "é39", ["é4", "é6"])
    with pytest.raises(IndexError):
        ids[39]


def test_an_interrupted_reading_is_started_anew(world, tmp_path, monkeypatch):
    file = written(tmp_path / "guides.jsonl", guides())
    with monkeypatch.context() as patch:

        def interrupted(self, part, append=storing._Storing._append):
            if self.writer.count("number") > 10:
                raise KeyboardInterrupt
            append(self, part)

        patch.setattr(storing._Storing, "_append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            read_training("rxr", str(file), tmp_path)
    assert list((storing.cache_dir() / storing.FOLDER).iterdir()) == []
    assert len(read_training("rxr", str(file), tmp_path).episodes) == 39


def test_a_file_that_changes_while_it_is_read_is_refused(world, tmp_path, monkeypatch):
    file = written(tmp_path / "guides.jsonl", guides())

    def growing(self, part, append=storing._Storing._append):
        append(self, part)
        with file.open("a") as stream:
            stream.write("\n")

    monkeypatch.setattr(storing._Storing, "_append", growing)
    with pytest.raises(InputError, match=r"guides\.jsonl must not change while it is read"):
        read_training("rxr", str(file), tmp_path)
    assert list((storing.cache_dir() / storing.FOLDER).iterdir()) == []
