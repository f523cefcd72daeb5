import json

import pytest

from vln_clip.errors import InputError
from vln_clip.tasks.problems import DUPLICATE, FILE, MALFORMED, MISSING, OTHER_FORMAT, UNKNOWN, WRONG_TYPE
from vln_clip.tasks.vqa.questions import Question
from vln_clip.tasks.vqa.results import read_results, validate_results, write_results

VQA = [Question(k, "i", "?") for k in (3, 1, 2)]
GQA = [Question(name, "i", "?") for name in ("07", "8")]


def item(question_id, answer="yes"):
    return {"question_id": question_id, "answer": answer}


GOOD = [item(1), item(2, ""), item(3)]


def save(tmp_path, value):
    path = tmp_path / "results.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_results_are_what_the_server_reads(tmp_path):
    path = tmp_path / "vqa.json"
    write_results(path, VQA, ["red", "2", "yes"])
    assert json.loads(path.read_text()) == [item(3, "red"), item(1, "2"), item(2, "yes")]
    assert read_results(path, VQA) == {3: "red", 1: "2", 2: "yes"}
    write_results(path, GQA, ["red", "left"], "gqa")
    assert json.loads(path.read_text()) == [
        {"questionId": "07", "prediction": "red"},
        {"questionId": "8", "prediction": "left"},
    ]
    assert read_results(path, GQA, "gqa") == {"07": "red", "8": "left"}


def test_a_valid_file_is_told_to_be_one(tmp_path):
    report = validate_results(save(tmp_path, GOOD), VQA)
    assert not report.problems
    assert report.verdict == f"{tmp_path / 'results.json'}: valid, 3 predictions for 3 questions"
    assert [str(warning) for warning in report.warnings] == ["1 of 3 answers are empty texts"]
    assert report.to_json()["num_questions"] == 3


@pytest.mark.parametrize(
    ("items", "kind", "message"),
    [
        ([item(1), item(2), item(3), item(3)], DUPLICATE, "item 3: question 3 came before, at item 2"),
        ([item(1), item(2), item(3), item(9)], UNKNOWN, "item 3: question 9 is not of the split"),
        ([item(1)], MISSING, "2 of 3 questions have no answer: 3, 2; give all of the split in one file"),
        ([item(1), item(2), item("3")], WRONG_TYPE, "item 2: question_id must be a whole number, got '3'"),
        ([item(1), item(2), item(True)], WRONG_TYPE, "item 2: question_id must be a whole number, got True"),
        ([item(1), item(2), item(3, 4)], MALFORMED, "item 2: answer of question 3 must be a text, got 4"),
        ([item(1), item(2), item(3, None)], MALFORMED, "must be a text, got None"),
        ([item(1), item(2), {"question_id": 3}], MALFORMED, "item 2: must have answer, got question_id"),
        ([item(1), item(2), [3, "yes"]], MALFORMED, "item 2: must be an object with question_id and answer, got"),
        ([{"questionId": "3", "prediction": "x"}], OTHER_FORMAT, "the file is in the format gqa"),
        ({"results": [item(1)]}, FILE, "the array under 'results'"),
        ("", FILE, "is empty"),
        ("[" + json.dumps(item(1)), FILE, "cut off"),
        ("\n".join(map(json.dumps, GOOD)), FILE, "must be a JSON array, but is JSON lines"),
    ],
)
def test_every_fault_of_a_result_file_is_found(tmp_path, items, kind, message):
    path = save(tmp_path, items)
    report = validate_results(path, VQA)
    told = [str(problem) for problem in report.problems if problem.kind == kind]
    assert any(message in line for line in told), [str(problem) for problem in report.problems]
    with pytest.raises(InputError, match=r"results\.json: "):
        read_results(path, VQA)


def test_ids_of_gqa_are_texts(tmp_path):
    path = save(tmp_path, [{"questionId": 7, "prediction": "x"}, {"questionId": "8", "prediction": "y"}])
    report = validate_results(path, GQA, "gqa")
    assert "questionId must be a text, got 7" in str(report)
    assert "1 of 2 questions have no answer: 07" in str(report)


def test_what_no_server_reads_is_not_written(tmp_path):
    path = tmp_path / "results.json"
    with pytest.raises(InputError, match="questionId of a result file of gqa must be a text, got 3"):
        write_results(path, VQA, ["a"] * 3, "gqa")
    with pytest.raises(InputError, match="each question once, got 1 repetitions"):
        write_results(path, [VQA[0], VQA[0]], ["a"] * 2)
    with pytest.raises(ValueError, match="one per question, got 1 for 3"):
        write_results(path, VQA, ["a"])
    with pytest.raises(InputError, match="format of results must be one of vqa, gqa, got 'vqs'"):
        write_results(path, VQA, ["a"] * 3, "vqs")
    assert not path.exists()
    with pytest.raises(InputError, match="does not exist"):
        validate_results(path, VQA)
