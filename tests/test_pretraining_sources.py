"""Files that pairs are read from."""

import gzip
import json

import pytest

from tests import toy_pairs, vqa_data
from tests.toy_pairs import ASKED, REGIONS
from vln_clip.errors import InputError
from vln_clip.tasks.pretraining.records import Pair
from vln_clip.tasks.pretraining.shards import find_shards, read_shard
from vln_clip.tasks.pretraining.sources import KINDS, Source
from vln_clip.tasks.vqa.answers import normalize_lxmert

IMAGE = "COCO_val2014_000000000042"
CAPTIONS = {
    "images": [{"id": 42, "file_name": f"{IMAGE}.jpg"}],
    "annotations": [{"id": 1, "image_id": 42, "caption": "A red room."}],
}
KARPATHY = {
    "images": [
        {
            "filename": f"{name}.jpg",
            "split": split,
            "cocoid": number,
            "sentences": [{"tokens": ["a", "room"], "raw": "A room."}],
        }
        for number, (name, split) in enumerate([("a", "train"), ("b", "restval"), ("c", "val")])
    ]
}


def save(path, value):
    path.write_text(json.dumps(value))
    return path


@pytest.fixture
def files(tmp_path):
    """One file of every form."""
    save(tmp_path / "lxmert.json", toy_pairs.aggregated(1))
    save(tmp_path / "asked.json", vqa_data.LXMERT_VQA)
    save(tmp_path / "q.json", vqa_data.question_file(vqa_data.question()))
    save(tmp_path / "a.json", vqa_data.annotation_file(vqa_data.annotation(answers=("red",) * 2 + ("Blue.",) * 8)))
    save(tmp_path / "gqa.json", vqa_data.GQA)
    save(tmp_path / "coco.json", CAPTIONS)
    save(tmp_path / "karpathy.json", KARPATHY)
    save(tmp_path / "regions.json", REGIONS)
    save(tmp_path / "vg.json", ASKED)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "lxmert:lxmert.json",
            [
                Pair("img0", toy_pairs.TEXTS[0]),
                Pair("img0", toy_pairs.TEXTS[1]),
                Pair("img0", toy_pairs.TEXTS[2], {"Red.": 1.0, "the red": 0.3, "a wall": 0.6}),
                Pair("img0", toy_pairs.TEXTS[3], {"yes": 0.9, "no": 0.3}),
            ],
        ),
        # two of ten people are a score of 0.6, eight one of 1
        ("vqa:q.json,a.json", [Pair(IMAGE, "What color is the woman's shirt?", {"red": 0.6, "blue": 1.0})]),
        (
            "gqa:gqa.json",
            [
                Pair("n161313", "Is the wall white?", {"yes": 1.0}),
                Pair("2354786", "What is on the wall?", {"hair clip": 1.0}),
            ],
        ),
        ("coco:coco.json", [Pair(IMAGE, "A red room.")]),
        ("karpathy:karpathy.json", [Pair("a", "A room."), Pair("b", "A room.")]),
        ("karpathy/val:karpathy.json", [Pair("c", "A room.")]),
        ("vg_regions:regions.json", [Pair("7", "a red chair"), Pair("7", "the wall")]),
        ("vg_questions:vg.json", [Pair("7", "What is red?", {"The chair.": 1.0})]),
    ],
)
def test_pairs_are_read_from_files_of_every_form(files, text, wanted):
    assert list(Source.parse(text, files).pairs()) == wanted


def test_lxmerts_questions_are_pairs_too(files):
    pairs = list(Source.parse("lxmert_questions:asked.json", files).pairs())
    assert [(pair.image, pair.text, pair.label) for pair in pairs] == [
        (item["img_id"], item["sent"], item["label"]) for item in vqa_data.LXMERT_VQA
    ]


def test_packed_files_are_read(files):
    path = files / "lxmert.json.gz"
    path.write_bytes(gzip.compress((files / "lxmert.json").read_bytes()))
    assert len(list(Source.parse("lxmert:lxmert.json.gz", files).pairs())) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lxmrt:a.json", r"must be one of lxmert.*did you mean 'lxmert'\?"),
        ("vqa:q.json", r"VQA v2's questions, annotations must be given as vqa:FILE,FILE, got 'vqa:q.json'"),
        ("coco", "must be given as coco:FILE, got 'coco'"),
        ("coco/val:a.json", "must be given as coco:FILE"),
        ("karpathy/val:", "must be given as karpathy/SPLIT:FILE"),
    ],
)
def test_a_source_given_wrongly_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        Source.parse(text)


def test_every_kind_has_a_form_of_its_own():
    assert len({kind.what for kind in KINDS.values()}) == len(KINDS)


ITEM = {"img_id": "a", "sentf": {"vqa": ["q"]}, "labelf": {"vqa": [{"yes": 1}]}}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (ITEM | {"sentf": None}, "must have img_id, sentf and labelf, got None as sentf; is it a file of LXMERT"),
        (ITEM | {"sentf": {"vqa": "q"}}, "source 'vqa': sentences must be a list of texts, got 'q'"),
        (ITEM | {"labelf": {"vqa": []}}, "source 'vqa': 1 sentences must have as many labels, got 0"),
        (ITEM | {"labelf": {"gqa": []}}, "labelf must name sources of sentf, got 'gqa'"),
        (ITEM | {"labelf": {"vqa": [["yes"]]}}, "a label must be an object of at most 100 scores"),
        (ITEM | {"labelf": {"vqa": [{"yes": 2}]}}, "score of 'yes' must be a number from 0 to 1, got 2"),
        ({"img_id": 5}, "must have the text 'img_id', got 5"),
    ],
)
def test_a_malformed_aggregated_file_is_refused(tmp_path, item, message):
    path = save(tmp_path / "a.json", [ITEM, item])
    with pytest.raises(InputError, match=rf"a.json: item 1.*{message}"):
        list(Source.parse("lxmert:a.json", tmp_path).pairs())
    assert path.exists()


@pytest.mark.parametrize(
    ("kind", "item", "message"),
    [
        ("vg_regions", ASKED[0], "must have the list 'regions', got the members id, qas"),
        ("vg_questions", REGIONS[0], "must have the list 'qas', got the members id, regions"),
        ("vg_regions", {"id": 1, "regions": [5]}, "regions 0 must be an object, got 5"),
        ("vg_questions", {"id": 1, "qas": [{"question": "q"}]}, "qas 0 must have the text 'answer'"),
    ],
)
def test_malformed_files_of_visual_genome_are_refused(tmp_path, kind, item, message):
    save(tmp_path / "a.json", [item])
    with pytest.raises(InputError, match=message):
        list(Source.parse(f"{kind}:a.json", tmp_path).pairs())


def shard(folder, *members, name="s.tar"):
    path = folder / name
    path.write_bytes(toy_pairs.tar(*members))
    return path


def test_samples_of_a_shard_are_pairs(tmp_path):
    picture = toy_pairs.jpeg()
    path = shard(
        tmp_path,
        ("x/0001.jpg", picture),
        ("x/0001.json", b'{"caption": "in json", "key": 1}'),
        ("x/0001.cls", b"7"),
        ("x/0002.JPG", picture),
        ("x/0002.json", b"not read where a text is there"),
        ("x/0002.txt", b" in text \n"),
        ("x/0002.pyd", b"\x80\x04never unpickled"),
    )
    pairs = list(read_shard(path))
    assert [(pair.image, pair.text) for pair in pairs] == [(f"{path}:x/0001", "in json"), (f"{path}:x/0002", "in text")]
    for pair in pairs:
        assert pair.member.size_bytes == len(picture)
        assert path.read_bytes()[pair.member.offset :][: len(picture)] == picture


def test_names_of_members_that_are_no_text_are_written_out(tmp_path):
    path = shard(tmp_path, ("a\udcff.jpg", toy_pairs.jpeg()), ("a\udcff.txt", b"a dog"))  # the byte FF
    (pair,) = Source("shards", (path,)).pairs()
    assert pair.image.encode() == f"{path}:a".encode() + rb"\udcff"


def test_shards_of_a_folder_are_taken_by_name(tmp_path):
    for name in ("b.tar", "a.tar"):
        shard(tmp_path, ("0.png", b"x"), ("0.txt", name.encode()), name=name)
    source = Source.parse(f"shards:{tmp_path}")
    assert [pair.text for pair in source.pairs()] == ["a.tar", "b.tar"]
    assert source.all_files == [tmp_path / "a.tar", tmp_path / "b.tar"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"must have shards \(\*.tar\), got none"):
        find_shards(tmp_path / "empty")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("0.jpg", b"x")], r"sample '0' must have an image .* and its caption .*, got .jpg"),
        ([("0.txt", b"x")], r"sample '0' must have an image .*, got .txt"),
        ([("0.jpg", b"x"), ("0.jpg", b"x")], "members must have different names, got '0.jpg' again"),
        ([("0.jpg", b"x"), ("0.txt", b"\xff")], "must be UTF-8 text"),
        ([("0.jpg", b"x"), ("0.json", b"{}")], "its caption must be a text .* got None"),
        ([("0.jpg", b"x"), ("0.json", b"[")], "must be JSON"),
        ([("0.jpg", b"x"), ("0.txt", b"x" * 10_001)], "at most 10,000 characters, got 10,001 characters"),
        ([("0.jpg", b"x"), ("0.txt", b"x" * (2 << 20))], "at most 1,048,576 bytes, got 2,097,152"),
    ],
)
def test_samples_that_are_no_pairs_are_refused(tmp_path, members, message):
    with pytest.raises(InputError, match=message):
        list(read_shard(shard(tmp_path, *members)))


def test_damaged_shards_are_refused(tmp_path):
    path = shard(tmp_path, *((f"{n}.{end}", b"x" * 600) for n in range(3) for end in ("jpg", "txt")))
    content = path.read_bytes()
    # A member is a block of header and two of content, 1,536 bytes: the third header is at 3,072.
    broken = bytearray(content)
    broken[3072 + 148] ^= 1  # in its checksum: the list would end here without a word
    for damaged, message in (
        (bytes(broken), "is damaged or cut off at byte 3,072; get it again"),
        (content[:4608], "cut off at byte 4,608"),
        (content[:4000], "must be a whole tar file"),
        (gzip.compress(content), "not packed"),
        (b"", "empty file"),
        (b"x" * 5000, "must be a whole tar file"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=rf"shard .*s.tar .*{message}"):
            list(read_shard(path))
    path.unlink()
    with pytest.raises(InputError, match="does not exist"):
        list(read_shard(path))


@pytest.mark.parametrize(
    ("raw", "normalized"),
    [
        ("Grey.", "gray"),
        ("A man", "man"),
        ("the woman .", "woman"),
        ("an Apple", "apple"),
        ("two", "2"),
        ("Ten", "10"),
        ("the one", "1"),
        ("zero", "zero"),  # no number word of the table
        ("theme", "theme"),
        ("", ""),
        (".", ""),
        ("a", "a"),
    ],
)
def test_answers_are_normalized_as_lxmert_does(raw, normalized):
    assert normalize_lxmert(raw) == normalized
