import logging
import sys

import pytest

from tests.toy_captions import TEXTS, coco, cocotalk, karpathy, key, toy_images, write_json, write_labels
from vln_clip.errors import InputError
from vln_clip.tasks.captioning.files import find_file, read_annotations, require_features, select
from vln_clip.tasks.captioning.labels import read_labels
from vln_clip.tasks.captioning.table import CaptionTable
from vln_clip.tasks.captioning.vocabulary import CaptionVocabulary


def changed(content, path, value):
    """Return a JSON value with one place set; a value of None removes it."""
    *inner, last = path
    place = content
    for step in inner:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return content


def test_karpathys_file_gives_tokens_and_splits(tmp_path):
    images = read_annotations(write_json(tmp_path / "dataset_coco.json", karpathy()))
    assert [(image.image, image.image_id, image.split) for image in images] == [
        (key(number), number, split) for number, split in enumerate(TEXTS, 1)
    ]
    assert images[0].words == (("a", "b"), ("a", "b", "c"), ("a", "c"))
    assert images[0].captions == ("A B.", "A B C.", "A C.")


def test_files_of_flickr_have_the_image_number_as_id(tmp_path):
    content = karpathy()
    for image in content["images"]:
        del image["cocoid"], image["filepath"]
    assert [image.image_id for image in read_annotations(write_json(tmp_path / "f.json", content))] == [0, 1, 2, 3]


def test_cocos_file_gives_the_same_captions(tmp_path):
    images = read_annotations(write_json(tmp_path / "c.json", coco()), "val")
    assert {image.split for image in images} == {"val"}
    assert [image.words for image in images] == [image.words for image in toy_images()]
    assert [image.image for image in images] == [key(number) for number in (1, 2, 3, 4)]


def test_pictures_without_captions_are_kept(tmp_path):
    content = {"images": coco()["images"], "annotations": []}  # as a test split may be written
    assert [image.captions for image in read_annotations(write_json(tmp_path / "c.json", content))] == [()] * 4


@pytest.mark.parametrize(
    ("content", "path", "value"),
    [(coco, ["annotations", 0, "caption"], " . "), (karpathy, ["images", 0, "sentences", 0, "tokens"], [])],
    ids=["coco", "karpathy"],
)
def test_captions_without_words_are_left_out_with_a_warning(tmp_path, caplog, content, path, value):
    file = write_json(tmp_path / "c.json", changed(content(), path, value))
    with caplog.at_level(logging.WARNING):
        images = read_annotations(file)
    assert images[0].words == (("a", "b", "c"), ("a", "c"))
    assert len(images[0].captions) == 2
    assert f"{file}: left out 1 of 7 captions, which have no word" in caplog.text


FAULTS = [
    (coco, ["images"], None, r"c\.json must be a JSON object with a list 'images' that is not empty"),
    (coco, ["images", 1, "id"], 1, r"images 1: image ids must be unique, got 1 again"),
    (coco, ["images", 1, "id"], "1", r"images 1: id must be a whole number from 0 to 2\^63, got '1'"),
    (coco, ["images", 1, "file_name"], None, r"images 1: file_name must be the name of an image file, got None"),
    (coco, ["images", 1, "file_name"], f"{key(1)}.jpg", r"must have different ids and file names, got '.*01' twice"),
    (
        coco,
        ["annotations", 2, "image_id"],
        77,
        r"annotations 2: image_id must be the id of an image of the file, got 7",
    ),
    (coco, ["annotations", 2, "id"], 0, r"annotations 2: annotation ids must be unique, got 0 again"),
    (coco, ["annotations", 2, "caption"], 5, r"annotations 2: caption must be a text of at most 10,000 .*, got 5"),
    (coco, ["annotations", 2, "caption"], "a" * 10001, r"caption must be a text of at most .*, got 10,001 characters"),
    (coco, ["annotations", 2], 5, r"annotations 2 must be an object, got 5"),
    (karpathy, ["images", 0, "split"], "dev", r"images 0: split must be one of train, restval, val, test, got 'dev'"),
    (karpathy, ["images", 0, "cocoid"], 2, r"must have different ids and file names, got 2 twice"),
    (karpathy, ["images", 0, "sentences"], None, r"images 0: sentences must be a list, got None"),
    (karpathy, ["images", 0, "sentences", 1], "a", r"sentence 1 must be an object with 'tokens' and 'raw', got 'a'"),
    (karpathy, ["images", 0, "sentences", 1, "tokens"], ["a b"], r"tokens must be a list of words without white space"),
    (karpathy, ["images", 0, "sentences", 1, "tokens"], ["a" * 10001], r"at most 10,000 characters together"),
]


@pytest.mark.parametrize(("content", "path", "value", "message"), FAULTS, ids=[fault[3][:40] for fault in FAULTS])
def test_faults_of_captions_are_told(tmp_path, content, path, value, message):
    file = write_json(tmp_path / "c.json", changed(content(), path, value))
    with pytest.raises(InputError, match=message):
        read_annotations(file)


def test_a_file_of_empty_captions_is_refused(tmp_path):
    content = coco()
    for annotation in content["annotations"]:
        annotation["caption"] = "!"
    with pytest.raises(InputError, match=r"must hold captions, but none of its 7 has a word"):
        read_annotations(write_json(tmp_path / "c.json", content))


def test_restval_is_training_data_unless_switched_off():
    assert [image.split for image in select(toy_images(), "train")] == ["train", "restval"]
    assert [image.split for image in select(toy_images(), "train", train_only=True)] == ["train"]
    assert [image.split for image in select(toy_images(), "val")] == ["val"]
    with pytest.raises(InputError, match=r"split of captions must be one of restval, test, train, val, got 'tset'"):
        select(toy_images(), "tset")


def test_karpathys_file_comes_first(tmp_path):
    folder = tmp_path / "COCO" / "annotations"
    with pytest.raises(InputError, match=r"must be in .*dataset_coco\.json or .*captions_val2014\.json, but neither"):
        find_file(tmp_path, "val")
    plain = write_json(folder / "captions_val2014.json", coco())
    assert find_file(tmp_path, "val") == plain
    with pytest.raises(InputError, match=r"split 'test' of captions is one of Karpathy's, but file .* does not exist"):
        find_file(tmp_path, "test")
    other = write_json(folder / "dataset_coco.json", karpathy())
    assert find_file(tmp_path, "val") == find_file(tmp_path, "test") == other


def test_images_without_features_are_named():
    keys = {key(1), key(3)}
    with pytest.raises(
        InputError, match=rf"features x\.grid must hold every .*, but 2 of 4 are not there, the first '{key(2)}'"
    ):
        require_features(toy_images(), keys, "x.grid")
    require_features(toy_images()[::2], keys, "x.grid")


# Labels.


def test_public_labels_are_the_table_of_the_annotations(tmp_path):
    pytest.importorskip("h5py")
    info = write_json(tmp_path / "cocotalk.json", cocotalk())
    vocabulary, table = read_labels(info, write_labels(tmp_path / "l.h5"), "train")
    assert vocabulary == CaptionVocabulary(["a", "b", "c", "UNK"])
    expected = CaptionTable.build(toy_images(), vocabulary)
    assert table.images == (key(1), key(2))
    assert table.image_ids.tolist() == [1, 2]
    assert table.labels.tolist() == expected.labels.tolist()
    assert (table.start.tolist(), table.count.tolist()) == ([0, 3], [3, 1])
    assert read_labels(info, tmp_path / "l.h5", "train", train_only=True)[1].images == (key(1),)
    assert read_labels(info, tmp_path / "l.h5", "test")[1].start.tolist() == [6]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [[1] * 15]}, r"labels must be rows of 16 numbers, got shape \(1, 15\)"),
        ({"labels": [[9] + [0] * 15] * 7}, r"labels must be from 0 to 4, the words of .*cocotalk\.json"),
        ({"labels": [[1, 0, 2] + [0] * 13] * 7}, r"labels must be words followed by 0 alone"),
        ({"labels": [[0] * 16] * 7}, r"and at least one word"),
        ({"label_start_ix": [1, 4, 5]}, r"for the 4 images of .*, got shapes \(3,\) and \(4,\)"),
        ({"label_end_ix": [3, 4, 6, 8]}, r"must lie between 1 and 7, in order"),
        ({"label_start_ix": [0, 4, 5, 7]}, r"must lie between 1 and 7, in order"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, changes, message):
    pytest.importorskip("h5py")
    info = write_json(tmp_path / "cocotalk.json", cocotalk())
    with pytest.raises(InputError, match=message):
        read_labels(info, write_labels(tmp_path / "l.h5", **changes), "train")


def test_labels_without_h5py_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "l.h5").write_bytes(b"x")
    with pytest.raises(InputError, match=r"l\.h5 needs the package h5py; run: pip install h5py"):
        read_labels(write_json(tmp_path / "cocotalk.json", cocotalk()), tmp_path / "l.h5", "train")
