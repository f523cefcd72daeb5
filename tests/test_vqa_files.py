import gzip
import json
import pickle

import numpy as np
import pytest

from tests.vqa_data import (
    GQA,
    LXMERT_GQA,
    LXMERT_VQA,
    annotation,
    annotation_file,
    question,
    question_file,
    save,
    save_vqa,
)
from vln_clip.errors import InputError
from vln_clip.tasks.vqa.files import load_questions
from vln_clip.tasks.vqa.gqa import read_gqa
from vln_clip.tasks.vqa.lxmert import read_lxmert
from vln_clip.tasks.vqa.questions import Question, require_images
from vln_clip.tasks.vqa.vqa_v2 import image_key, read_vqa_v2


def test_questions_of_vqa_v2_get_their_annotations_by_id(tmp_path):
    answers = ("red",) * 9 + ("dark red",)
    paths = save_vqa(
        tmp_path,
        [question(1), question(2, 43)],
        [annotation(2, 43, ("yes",) * 10, "yes/no"), annotation(1, 42, answers)],
    )
    first, second = read_vqa_v2(*paths)
    assert first == Question(
        42001,
        "COCO_val2014_000000000042",
        "What color is the woman's shirt?",
        answers,
        None,
        "what color is the",
        "other",
        "red",
    )
    assert (second.question_id, second.image, second.answer) == (43002, "COCO_val2014_000000000043", "yes")


def test_test_files_have_no_answers(tmp_path):
    (found,) = read_vqa_v2(save(tmp_path / "q.json", question_file(question(), subtype="test-dev2015")))
    assert found.image == "COCO_test2015_000000000042"  # test-dev is a part of test2015
    assert (found.answers, found.label, found.answer, found.is_answered) == (None, None, None, False)


@pytest.mark.parametrize(
    ("split", "key"),
    [
        ("train2014", "COCO_train2014_000000393267"),
        ("test-dev2015", "COCO_test2015_000000393267"),
        ("vg", "393267"),
    ],
)
def test_keys_of_images_are_the_stems_of_their_files(split, key):
    assert image_key(split, 393267) == key


def test_the_split_is_told_by_the_file_else_by_its_name(tmp_path):
    bare = question_file(question(), subtype="")
    name = "v2_OpenEnded_mscoco_train2014_questions.json"
    assert read_vqa_v2(save(tmp_path / name, bare))[0].image == "COCO_train2014_000000000042"
    assert read_vqa_v2(save(tmp_path / "VG_questions.json", bare))[0].image == "42"
    assert read_vqa_v2(save(tmp_path / "mine.json", bare), split="val2014")[0].image == "COCO_val2014_000000000042"
    with pytest.raises(InputError, match="must tell the split of its images"):
        read_vqa_v2(tmp_path / "mine.json")


def test_visual_genome_files_may_have_one_answer(tmp_path):
    save(tmp_path / "VG_questions.json", question_file(question(), subtype=""))
    save(tmp_path / "VG_annotations.json", annotation_file(annotation(answers=("chair",))))
    (found,) = read_vqa_v2(tmp_path / "VG_questions.json", tmp_path / "VG_annotations.json")
    assert found.answers == ("chair",)


def test_gzipped_files_are_read(tmp_path):
    path = tmp_path / "q.json.gz"
    path.write_bytes(gzip.compress(json.dumps(question_file(question())).encode()))
    assert len(read_vqa_v2(path)) == 1


@pytest.mark.parametrize(
    ("questions", "annotations", "message"),
    [
        ([question(1), question(2)], [annotation(1)], "but 1 of 2 have none, the first 42002; are both of the same"),
        ([question(1)], [annotation(1), annotation(2)], "but 1 of 2 have none, the first 42002"),
        ([question(1), question(1)], [annotation(1)], r"unique, got 42001 again as question 1 \(in all 1 of 2"),
        ([question(1)], [annotation(1), annotation(1)], "item 1 of annotations: question ids must be unique"),
        ([question(1)], [annotation(1) | {"image_id": 7}], "ask about one image, got 42 in .* and 7 in"),
        ([question(1) | {"question": None}], [], "item 0 of questions must have the text 'question', got None"),
        ([question(1) | {"question_id": True}], [], "the whole number 'question_id', got True"),
        ([question(1) | {"image_id": -1}], [], "the whole number 'image_id', got -1"),
        ([question(1) | {"image_id": 10**12}], [], "at most twelve digits"),
        ([{"image_id": 3}], [], "the whole number 'question_id', got only image_id"),
        ([3], [], "item 0 of questions must be an object, got 3"),
        ([], [], "at least one question"),
        ([question(1)], [annotation(1) | {"answers": ["red"] * 10}], "this version of annotations is not known"),
        ([question(1)], [annotation(1) | {"answers": []}], "answers of one to 10 annotators, got"),
        ([question(1)], [annotation(1, answers=("a",) * 11)], "one to 10 annotators"),
        ([question(1)], [{"question_id": 42001, "image_id": 42, "answer": "red"}], "annotation file of VQA v2"),
    ],
)
def test_files_that_do_not_fit_together_are_refused_in_one_sentence(tmp_path, questions, annotations, message):
    paths = save_vqa(tmp_path, questions, annotations)
    with pytest.raises(InputError, match=message):
        read_vqa_v2(*paths)


def test_files_in_each_others_place_are_told(tmp_path):
    questions, annotations = save_vqa(tmp_path, [question()], [annotation()])
    with pytest.raises(InputError, match=r"must have the member 'questions'.*it is a file of annotations"):
        read_vqa_v2(annotations, questions, "val2014")
    with pytest.raises(InputError, match=r"must have the member 'annotations'.*it is a file of questions"):
        read_vqa_v2(questions, questions)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04...", "is a zip archive: unpack it"),
        (b"<!doctype html>", "is a web page"),
        (pickle.dumps([{"question": "?"}]), "is a Python pickle"),
        (b"", "must begin with an object"),
        (b"[]", "must begin with an object"),
        (b'{"questions": 3}', "must hold an array"),
        (b'{"questions": [{', "must be JSON"),
    ],
)
def test_what_is_no_question_file_is_refused(tmp_path, content, message):
    path = tmp_path / "q_val2014.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_vqa_v2(path)


@pytest.mark.parametrize("read", [read_vqa_v2, read_gqa, read_lxmert])
def test_imdb_files_are_refused_and_nothing_in_them_runs(tmp_path, read):
    path = tmp_path / "imdb_val2014.npy"
    np.save(path, np.array([{"dataset_name": "vqa"}, {"question_id": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(
        InputError, match=r"imdb files hold pickled objects.*give the questions and annotations of VQA v2"
    ):
        read(path)
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path / "absent.json")


# GQA.


def test_questions_of_gqa_keep_their_ids_as_text(tmp_path):
    first, second = read_gqa(save(tmp_path / "g.json", GQA))
    assert first == Question("201", "n161313", "Is the wall white?", None, {"yes": 1.0}, "verify", "binary", "yes")
    assert (second.answer, second.question_type, second.answer_type) == ("hair clip", "query", "open")


def test_submission_questions_of_gqa_have_no_answers(tmp_path):
    (found,) = read_gqa(save(tmp_path / "g.json", {"9": {"imageId": "n1", "question": "Why?", "isBalanced": True}}))
    assert (found.label, found.answer_type, found.is_answered) == (None, "", False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"1": []}, "question '1' must be an object with question and imageId"),
        ({"1": {"question": "Why?"}}, "must have the text 'imageId', got only question"),
        ({"1": {"question": "Why?", "imageId": 3}}, "'imageId', got 3"),
        ({"1": {"question": "Why?", "imageId": "3", "answer": 4}}, "'answer', got 4"),
        ({}, "at least one question"),
        (GQA | {"9": {"imageId": "n1", "question": "?"}}, "answers to all questions or to none, got 2 for 3"),
        ('{"1": {"question": "?", "imageId": "3"}, "1": {"question": "?", "imageId": "3"}}', "unique, got '1' again"),
        ([], "must begin with an object"),
    ],
)
def test_malformed_gqa_files_are_refused(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read_gqa(save(tmp_path / "g.json", content))


# LXMERT.


def test_questions_of_lxmert_hold_their_scores(tmp_path):
    first, second = read_lxmert(save(tmp_path / "minival.json", LXMERT_VQA))
    assert first == Question(
        42001,
        "COCO_val2014_000000000042",
        "What is this?",
        None,
        {"net": 0.3, "netting": 1.0},
        "what is this",
        "other",
        "netting",
    )
    assert (second.label, second.is_answered, second.answer) == ({}, True, None)
    (found,) = read_lxmert(save(tmp_path / "gqa.json", LXMERT_GQA))
    assert (found.question_id, found.image, found.answer_type) == ("07333408", "2354786", "")


def test_test_files_of_lxmert_have_no_label(tmp_path):
    bare = [{key: item[key] for key in ("question_id", "img_id", "sent")} for item in LXMERT_VQA]
    assert [found.is_answered for found in read_lxmert(save(tmp_path / "test.json", bare))] == [False, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question_id": None}, "is it a question file of LXMERT"),
        ({"img_id": 3}, "the text 'img_id', got 3"),
        ({"sent": ["a"]}, "the text 'sent'"),
        ({"label": ["net"]}, "label must be an object"),
        ({"label": {str(k): 0.1 for k in range(11)}}, "at most 10 scores"),
        ({"label": {"net": 2}}, "the score of 'net' must be a number from 0 to 1, got 2"),
        ({"label": {"net": "1"}}, "got '1'"),
        ({"label": None}, "a label for all questions or for none, got 1 of 2; the first without is 42001"),
        ({"question_id": 43001}, "unique, got 43001 again"),
    ],
)
def test_malformed_lxmert_files_are_refused(tmp_path, change, message):
    path = save(tmp_path / "minival.json", [LXMERT_VQA[0] | change, LXMERT_VQA[1]])
    with pytest.raises(InputError, match=message):
        read_lxmert(path)


# Splits and images.


def save_splits(data):
    for split, image_id in (("train2014", 1), ("val2014", 2)):
        save(
            data / "VQA" / f"v2_OpenEnded_mscoco_{split}_questions.json",
            question_file(question(1, image_id), subtype=split),
        )
        save(data / "VQA" / f"v2_mscoco_{split}_annotations.json", annotation_file(annotation(1, image_id)))


def test_splits_are_found_in_the_data_folder_and_can_be_taken_together(tmp_path, caplog):
    save_splits(tmp_path)
    with caplog.at_level("INFO"):
        (found,) = load_questions("vqa", "val", tmp_path)
    assert found.image == "COCO_val2014_000000000002"
    assert "has 1 questions, the public file of this name has 214354" in caplog.text
    both = load_questions("vqa", "train+val", tmp_path)
    assert [question.question_id for question in both] == [1001, 2001]
    save(tmp_path / "GQA" / "val_balanced_questions.json", GQA)
    assert len(load_questions("gqa", ["val"], tmp_path)) == 2
    save(tmp_path / "VQA" / "minival.json", LXMERT_VQA)
    assert len(load_questions("vqa_lxmert", "minival", tmp_path)) == 2


def test_visual_genome_may_use_a_number_of_vqa_for_another_image(tmp_path):
    save_splits(tmp_path)
    save(tmp_path / "VQA" / "VG_questions.json", question_file(question(1, 7) | {"question_id": 1001}, subtype=""))
    save(tmp_path / "VQA" / "VG_annotations.json", annotation_file(annotation(1, 7, ("a",)) | {"question_id": 1001}))
    found = load_questions("vqa", "train+vg", tmp_path)
    assert [(question.question_id, question.image) for question in found] == [
        (1001, "COCO_train2014_000000000001"),
        (1001, "7"),
    ]


@pytest.mark.parametrize(
    ("dataset", "splits", "message"),
    [
        (
            "vqa2",
            "val",
            "data set must be one of vqa, gqa, vqa_lxmert, gqa_lxmert, demo, got 'vqa2'; did you mean 'vqa'",
        ),
        ("vqa", "valid", "split of vqa must be one of train, val, .*did you mean 'val'"),
        ("vqa", "test", "split test of vqa needs .*v2_OpenEnded_mscoco_test2015_questions.json, which does not exist"),
        ("vqa", "val+val", "must not share questions, but those of val.val do"),
    ],
)
def test_unknown_or_absent_splits_are_told(tmp_path, dataset, splits, message):
    save_splits(tmp_path)
    with pytest.raises(InputError, match=message):
        load_questions(dataset, splits, tmp_path)


def test_questions_about_absent_images_are_counted():
    questions = [Question(k, image, "?") for k, image in enumerate(("a", "b", "b", "c"))]
    require_images(questions, {"a", "b", "c"}, "x.grid")
    with pytest.raises(
        InputError,
        match=r"features in x\.grid, but 2 images of 3 of the 4 questions are not there, the first 'b' of question 1",
    ):
        require_images(questions, {"a"}, "x.grid")
