import gzip
import hashlib
import json
import math
import re
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.toy_graph import ToyGraph
from vln_clip.errors import InputError
from vln_clip.records import Episode
from vln_clip.tasks import json_stream
from vln_clip.tasks.datasets import DATASETS, known_splits, load_episodes, read_split
from vln_clip.tasks.rxr import Guides, predictions, read_followers, read_guides


def guide(number: int = 7, language: str = "en-IN", path: str = "abc", path_id: int | str = 3, **changes) -> dict:
    plain = {
        "split": "train",
        "instruction_id": number,
        "annotator_id": 5,
        "language": language,
        "path_id": path_id,
        "scan": "house",
        "path": list(path),
        "heading": 1.5,
        "instruction": "बाएँ मुड़ें।" if language == "hi-IN" else "Walk on.",
        "timed_instruction": [{"word": "Walk", "start_time": 0.5, "end_time": 0.9}, {"word": "on."}],
        "edit_distance": 0.1,
    }
    return plain | changes


def demonstration(number: int = 1, instruction: int = 7, path: str = "abd", **changes) -> dict:
    metrics = {"ne": 2.5, "sr": 1.0, "spl": 0.8, "dtw": 3.5, "ndtw": 0.7, "sdtw": 0.7}
    plain = {"demonstration_id": number, "instruction_id": instruction, "annotator_id": 9, "path": list(path)}
    return plain | {"metrics": metrics} | changes


def lines(items: Sequence[object]) -> bytes:
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items).encode()


def write(folder: Path, items: Sequence[object] | bytes, name: str = "mine.jsonl.gz") -> Path:
    content = items if isinstance(items, bytes) else lines(items)
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder / name


def without(item: dict, field: str) -> dict:
    return {key: value for key, value in item.items() if key != field}


def ids(guides: Guides) -> list[str]:
    return [episode.instr_id for episode in guides.episodes]


def test_each_line_is_an_episode_in_its_language(tmp_path):
    read = read_guides(write(tmp_path, [guide(7), guide(8, "hi-IN"), guide(9, "en-US", "ad", 4), guide(10, "te-IN")]))
    assert read.episodes[1] == Episode("8", "3", "house", "a", 1.5, "बाएँ मुड़ें।", ("a", "b", "c"), "hi")
    assert [episode.language for episode in read.episodes] == ["en", "hi", "en", "te"]
    assert (ids(read), read.goal_hidden) == (["7", "8", "9", "10"], False)
    assert read.places == {"3": "line 1", "4": "line 3"}


def test_languages_are_chosen_and_the_hash_is_of_the_whole_file(tmp_path):
    items = [guide(7), guide(8, "hi-IN"), guide(9, "en-US"), guide(10, "te-IN")]
    packed, plain = write(tmp_path, items), write(tmp_path, items, "mine.jsonl")
    content = plain.read_bytes()
    for file in (packed, plain):
        english, indian = read_guides(file, ("en",)), read_guides(file, ("te", "hi"))
        assert (ids(english), ids(indian)) == (["7", "9"], ["8", "10"])
        for read in (english, indian):
            assert (read.sha256, read.num_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
            assert read.file == file
    with pytest.raises(InputError, match="language must be one of en, hi, te, got 'en-IN'; did you mean 'en'"):
        read_guides(packed, ("en-IN",))


def test_a_file_of_starts_hides_its_goals_whatever_the_language(tmp_path):
    read = read_guides(write(tmp_path, [guide(7, path="a"), guide(8, "hi-IN", "b", 4)]), ("hi",))
    assert read.goal_hidden
    assert [(e.start, e.path, e.goal) for e in read.episodes] == [("b", None, None)]
    read = read_guides(write(tmp_path, [guide(7), guide(8, "hi-IN", "b", 4)]), ("hi",))
    assert not read.goal_hidden
    assert read.episodes[0].path == ("b",)


def test_synthetic_instructions_have_fewer_fields_and_no_region(tmp_path):
    fields = ("language", "path_id", "instruction_id", "instruction", "heading", "scan", "path")
    marky = {field: guide(7, "te")[field] for field in fields}
    assert read_guides(write(tmp_path, [marky])).episodes[0].language == "te"


def test_the_array_of_clip_vil_is_read_piece_by_piece(tmp_path, monkeypatch):
    tree = [{"1": {"word": "Walk }, {"}, "2": {"word": "మె"}}]
    items = [guide(k, language, parse_tree_origin=tree) for k, language in enumerate(("en", "hi", "te"))]
    official = read_guides(write(tmp_path, items))
    for chunk_bytes in (1, 7, 1 << 20):  # also in the middle of a character
        monkeypatch.setattr(json_stream, "CHUNK_BYTES", chunk_bytes)
        for indent in (None, 2):
            content = b"\n " + json.dumps(items, ensure_ascii=False, indent=indent).encode() + b"\n"
            read = read_guides(write(tmp_path, content, "dep_all.jsonl"))
            assert read.episodes == official.episodes
            assert read.sha256 == hashlib.sha256(content).hexdigest()


def test_episodes_without_a_word_are_dropped_and_counted(tmp_path, caplog):
    caplog.set_level("INFO")
    file = write(tmp_path, [guide(7), guide(8, instruction=" \n")])
    assert ids(read_guides(file)) == ["7"]
    assert "dropped 1 episodes whose instruction has no word" in caplog.text
    assert ids(read_guides(file, keep_empty=True)) == ["7", "8"]


def test_blank_lines_are_passed_over_and_still_counted_in_messages(tmp_path):
    file = write(tmp_path, b"\n" + lines([guide(7)]) + b" \n" + lines([guide(8)]))
    assert ids(read_guides(file)) == ["7", "8"]
    with pytest.raises(InputError, match=r"line 4 must be JSON"):
        read_guides(write(tmp_path, b"\n" + lines([guide(7)]) + b"\n{\n"))


def test_word_times_are_not_kept_in_memory(tmp_path):
    # 50 lines of 200 kB, 10 MB in all; what is kept is a few hundred bytes each.
    times = [{"word": "x" * 50, "start_time": 0.5, "end_time": 0.75}] * 2000
    line = lines([guide(0, timed_instruction=times)])
    content = b"".join(line.replace(b'"instruction_id": 0', b'"instruction_id": %d' % k) for k in range(50))
    assert len(content) > 9e6
    for name, wrapped in (("a.jsonl.gz", content), ("a.jsonl", b"[" + content.strip().replace(b"\n", b",\n") + b"]")):
        file = write(tmp_path, wrapped, name)
        tracemalloc.start()
        assert len(read_guides(file).episodes) == 50
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak_bytes < 6e6, (name, peak_bytes)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "must hold at least one JSON object, got an empty file"),
        (b" \n", "must hold at least one JSON object, got an empty file"),
        ([guide(), 3], "line 2 must be a JSON object, got int 3"),
        (lines([guide()]) + b"{", "line 2 must be JSON, but"),
        (lines([guide()]) + b"\xff\n", "line 2 must be UTF-8 text, but"),
        (b"[" * 100_000, "item 0 must be an object"),
        (b'{"a":' * 100_000, "line 1 must be JSON, but"),
        (b"[3]", "item 0 must be an object, with"),
        (b"[" + lines([guide()]) + b"}", "item 1 must be an object, with .* got '}'"),
        (b"[" + lines([guide()]), "item 1 must be an object, with .* got ''"),
        (b"[" + lines([guide()])[:-20], "item 0 must be JSON, but"),
        (b"[" + lines([guide()]) + b',{"a": \xff}]', "item . or a later one must be UTF-8"),
        ([guide(), without(guide(8), "path")], "line 2: field 'path' is missing; fields needed: instruction_id"),
        ([guide(), guide(7)], "line 2: instruction_id must be unique, got 7 again"),
        ([guide(), guide("7")], "line 2: instruction_id must be unique, got 7 again"),
        ([guide(True)], "line 1 .instruction_id True.: instruction_id must be a number or a string, got bool"),
        ([guide(path_id="")], "line 1 .instruction_id 7.: path_id must be a number or a string, got str ''"),
        ([guide(path_id=None)], "path_id must be a number or a string, got NoneType"),
        ([guide(language="fr-FR")], "language must be one of en, hi, te, with or without region, got 'fr-FR'"),
        ([guide(language=3)], "language must be a string, got int 3"),
        ([guide(scan=None)], "scan must be a string, got NoneType"),
        ([guide(instruction=["Go."])], r"instruction must be a string, got list \['Go.'\]"),
        ([guide(path="")], r"path must be a list of viewpoint ids with at least one, got \[\]"),
        ([guide() | {"path": "abc"}], "path must be a list of viewpoint ids with at least one, got 'abc'"),
        ([guide(heading=math.inf)], "heading must be a finite number of radians, got inf"),
        ([guide(heading="north")], "heading must be a finite number of radians, got 'north'"),
        ([guide(), guide(8, path="abd")], "line 2: path_id 3 must mean one scan and path, got another than line 1"),
        ([guide(), guide(8, scan="shop")], "line 2: path_id 3 must mean one scan and path, got another than line 1"),
    ],
)
def test_a_malformed_file_is_refused_by_line(tmp_path, items, message):
    # Asked for Hindi, of which there is none: lines in other languages are checked all the same.
    with pytest.raises(InputError, match=rf"mine\.jsonl.*{message}"):
        read_guides(write(tmp_path, items), ("hi",))


def test_a_truncated_archive_is_refused(tmp_path):
    file = write(tmp_path, [guide(k) for k in range(1000)])
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(
        InputError, match=r"mine\.jsonl\.gz must be a whole gzip archive, got a damaged or truncated"
    ) as told:
        read_guides(file)
    sound, line_bytes = (int(found) for found in re.search(r"up to line (\d+), byte (\d+) ", str(told.value)).groups())
    assert 0 < sound < 1000
    assert len(lines([guide(k) for k in range(sound)])) == line_bytes
    file.write_bytes(gzip.compress(lines([guide()]))[:-6] + b"\0\0\0\0\0\0")
    with pytest.raises(InputError, match="must be a whole gzip archive"):
        read_guides(file)
    with pytest.raises(InputError, match=r"none\.jsonl does not exist"):
        read_guides(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_guides(tmp_path)


def test_demonstrations_are_read_one_by_one(tmp_path):
    first, second = read_followers(write(tmp_path, [demonstration(1), demonstration(2, 8, "a")]))
    assert (first.demonstration_id, first.instr_id, first.annotator_id, first.path) == ("1", "7", "9", ("a", "b", "d"))
    assert first.metrics["ne"] == 2.5
    assert second.path == ("a",)


def test_people_become_predictions_of_the_wanted_episodes(tmp_path):
    episodes = read_guides(write(tmp_path, [guide(7), guide(8, "hi-IN"), guide(9)], "guides.jsonl")).episodes
    walks = [demonstration(1, 8), demonstration(2, 7, "ab"), demonstration(3, 7, "ac"), demonstration(4, 99)]
    people = predictions(read_followers(write(tmp_path, walks)), [e for e in episodes if e.language == "en"])
    assert [(p.instr_id, [pose[0] for pose in p.trajectory]) for p in people] == [("7", ["a", "b"])]
    assert all(math.isnan(angle) for pose in people[0].trajectory for angle in pose[1:])


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (without(demonstration(), "metrics"), "line 2: field 'metrics' is missing"),
        (demonstration(2, metrics={"ne": 1}), "demonstration_id 2.: metrics must be an object with ne, sr, spl"),
        (demonstration(2, metrics=demonstration()["metrics"] | {"sr": "no"}), "metric sr must be a finite number"),
        (demonstration(2, instruction=None), "instruction_id must be a number or a string, got NoneType"),
        (demonstration(2, path=""), "path must be a list of viewpoint ids"),
        (demonstration(1), r"line 2 .demonstration_id 1.: demonstration_id must be unique"),
    ],
)
def test_a_malformed_demonstration_is_refused_by_line(tmp_path, item, message):
    with pytest.raises(InputError, match=rf"mine\.jsonl.*{message}"):
        list(read_followers(write(tmp_path, [demonstration(1), item])))


def test_splits_have_the_public_names(tmp_path):
    rxr, folder = DATASETS["rxr"], tmp_path / "RxR"
    folder.mkdir()
    for name in ("rxr_val_seen_guide.jsonl", "rxr_test_standard_public_guide.jsonl.gz", "rxr_marky_train_guide.jsonl"):
        (folder / name).touch()
    assert rxr.file("val_seen", tmp_path) == folder / "rxr_val_seen_guide.jsonl"
    (folder / "rxr_val_seen_guide.jsonl.gz").touch()
    assert rxr.file("val_seen", tmp_path) == folder / "rxr_val_seen_guide.jsonl.gz"
    assert rxr.file("test_standard", tmp_path) == folder / "rxr_test_standard_public_guide.jsonl.gz"
    public = ["train", "val_seen", "val_unseen", "test_standard", "test_challenge"]
    assert known_splits(rxr, tmp_path) == [*public, "marky_train"]


def test_a_missing_file_says_where_to_get_it(tmp_path):
    with pytest.raises(
        InputError,
        match=r"is missing; download https://\S+_standard_public_guide\.jsonl\.gz \(1\.9 MB\) with vln-clip",
    ):
        read_split("rxr", "test_standard", tmp_path)
    with pytest.raises(InputError, match=r"is missing; build the demo world: python -m vln_clip\.data"):
        read_split("demo-rxr", "train", tmp_path)
    with pytest.raises(InputError, match=r"split must be one of train, .* got 'val_unsen'; did you mean 'val_unseen'"):
        read_split("rxr", "val_unsen", tmp_path)


def test_a_subset_is_the_same_paths_in_every_language(tmp_path):
    items = [guide(10 * k + n, path_id=k, language=tag) for k in range(6) for n, tag in enumerate(("en-US", "hi-IN"))]
    file = write(tmp_path, items)
    both = read_split("rxr", f"{file}@3", tmp_path)
    hindi = read_split("rxr", f"{file}@3", tmp_path, language="hi")
    # Python's random.Random(0).shuffle puts 4, 2, 1 first.
    assert {episode.path_id for episode in both.episodes} == {"4", "2", "1"}
    assert {episode.path_id for episode in hindi.episodes} == {"4", "2", "1"}
    assert (len(both.episodes), len(hindi.episodes)) == (6, 3)
    assert both.sha256 == hindi.sha256


@pytest.mark.parametrize(
    ("path", "message"),
    [("abd", "consecutive viewpoints"), ("ad", "consecutive viewpoints"), ("aby", "viewpoint 'y' of scan 'house'")],
)
def test_a_path_off_the_graph_is_named_by_line(tmp_path, path, message):
    file = write(
        tmp_path, [guide(7), guide(8, "hi-IN"), guide(9, path=path, path_id=4), guide(10, path=path, path_id=4)]
    )
    with pytest.raises(InputError, match=rf"mine\.jsonl\.gz: line 3 \(path_id 4\): {message}"):
        load_episodes("rxr", str(file), tmp_path, ToyGraph())


HINDI, TELUGU = "बाएँ मुड़ें और रसोई तक जाएँ।", "వంటగది వైపు నడవండి, అక్కడ ఆగండి."


@pytest.mark.parametrize(
    ("tag", "text", "message"),
    [
        ("te-IN", HINDI, "in Telugu as its language 'te' is, got mostly Devanagari letters: 'बाएँ"),
        ("hi-IN", TELUGU, "in Devanagari as its language 'hi' is, got mostly Telugu letters: 'వంటగది"),
        ("hi-IN", f"{TELUGU} Walk on. {HINDI[:4]}", "got mostly Telugu"),
        ("en-US", f"OK. {HINDI}", "in Latin as its language 'en' is, got mostly Devanagari"),
        ("en-IN", TELUGU, "got mostly Telugu"),
        ("te-IN", "Поверните налево", "got mostly Cyrillic"),
    ],
)
def test_an_instruction_in_another_script_is_refused_by_line(tmp_path, tag, text, message):
    with pytest.raises(InputError, match=rf"line 2 \(instruction_id 8\): instruction must be written .*{message}"):
        read_guides(write(tmp_path, [guide(7), guide(8, tag, instruction=text)]), ("en",))


def test_english_words_numbers_and_stray_letters_are_no_other_script(tmp_path, caplog):
    texts = [
        ("hi-IN", "Living room में 2 sofa के पास walk in closet है, वहाँ रुकें।"),
        ("te-IN", "walk in closet పక్కన ఆగండి। “2 sofas”… 🙂 \u200c½"),
        ("te-IN", f"{TELUGU} {HINDI[:3]}"),  # a slip of the keyboard
        ("en-IN", "Walk to the café – the “हॉल” – and stop."),
        ("hi-IN", "12 3"),
    ]
    file = write(tmp_path, [guide(k, tag, instruction=text) for k, (tag, text) in enumerate(texts)])
    assert len(read_guides(file).episodes) == len(texts)
    assert "Latin" not in caplog.text


def test_romanized_instructions_are_kept_and_counted(tmp_path, caplog):
    items = [guide(7), guide(8, "hi-IN", instruction="Baayen mudiye."), guide(9, "te-IN", instruction="Naḍavaṇḍi.")]
    assert len(read_guides(write(tmp_path, items)).episodes) == 3
    assert "2 instructions in Hindi or Telugu are in Latin letters alone" in caplog.text
    assert "mine.jsonl.gz: line 2)" in caplog.text
