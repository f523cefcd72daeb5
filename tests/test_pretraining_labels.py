"""Tables for fine-tuning: questions of VQA and GQA and hypotheses of SNLI-VE, in word pieces."""

import json
import logging

import pytest
import torch

from tests import vqa_data
from tests.golden import SHARED, needs_shared
from tests.toy_pairs import HYPOTHESIS, PIECES
from vln_clip.errors import InputError
from vln_clip.tasks.pretraining.labels import LabelTable
from vln_clip.tasks.pretraining.snli_ve import LABELS, label_vocabulary, read_snli_ve
from vln_clip.tasks.vqa.answers import normalize_lxmert
from vln_clip.tasks.vqa.lxmert import read_lxmert
from vln_clip.tasks.vqa.questions import Question
from vln_clip.tasks.vqa.vocabulary import AnswerVocabulary

ANSWERS = AnswerVocabulary(["", "yes", "no", "red"])
QUESTIONS = [
    Question(1, "a", "is it red?", answers=("red",) * 3 + ("no",) * 7),
    Question(2, "b", "the room", label={"zebra": 1.0}),
    Question(3, "a", "A room", label={"yes": 0.9, "zebra": 1.0}),
]


def write(path, *items):
    path.write_text("".join(json.dumps(HYPOTHESIS | item) + "\n" for item in items))
    return path


def test_questions_are_rows_of_pieces_and_scores():
    table = LabelTable.of(QUESTIONS, PIECES, ANSWERS, 6)
    assert isinstance(table, LabelTable)
    assert torch.equal(table.tokens, PIECES.encode([question.text for question in QUESTIONS], 6))
    assert table.image_keys == ("a", "b")
    assert table.image_rows.tolist() == [0, 1, 0]
    assert table.question_ids == (1, 2, 3)
    batch = table.batch(torch.tensor([0, 1, 2]))
    # three of ten people are 0.9, seven are 1; zebra is no label
    wanted = [[0, 0, 1, 0.9], [0, 0, 0, 0], [0, 0.9, 0, 0]]
    assert torch.equal(batch.targets, torch.tensor(wanted))
    assert isinstance(table.to("cpu"), LabelTable)


def test_questions_without_a_known_answer_can_be_left_out(caplog):
    with caplog.at_level(logging.INFO):
        table = LabelTable.of(QUESTIONS, PIECES, ANSWERS, 6, drop_unknown=True)
    assert table.question_ids == (1, 3)
    assert "left out 1 of 3 questions" in caplog.text
    assert table.answerable.all()


def test_hidden_answers_are_no_targets():
    table = LabelTable.of([Question(1, "a", "red"), Question(2, "b", "room")], PIECES, ANSWERS, drop_unknown=True)
    assert len(table) == 2
    assert table.batch(torch.tensor([0])).targets is None
    assert table.tokens.shape == (2, 20)


def test_answers_of_another_vocabulary_are_told():
    with pytest.raises(InputError, match=r"among the 4 labels .* none of 1 questions has one .* first being 'zebra'"):
        LabelTable.of(QUESTIONS[1:2], PIECES, ANSWERS)
    with pytest.raises(InputError, match="must have questions, got none"):
        LabelTable.of([], PIECES, ANSWERS)


def test_hypotheses_are_questions_with_three_answers(tmp_path):
    items = [{"pairID": f"p{number}", "gold_label": label} for number, label in enumerate(reversed(LABELS))]
    questions = read_snli_ve(write(tmp_path / "snli_ve_dev.jsonl", *items))
    assert questions[0] == Question(
        "p0", "4705552913", "the men are fighting.", label={"contradiction": 1.0}, answer="contradiction"
    )
    table = LabelTable.of(questions, PIECES, label_vocabulary())
    # The files' labels are reversed above; those of models are in one order.
    assert table.batch(torch.arange(3)).targets.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert table.accuracy(torch.arange(3), torch.tensor([2, 1, 1])) == {"accuracy": pytest.approx(2 / 3)}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"gold_label": "-"}, r"line 2: gold_label must be one of entailment, neutral, contradiction, got '-'"),
        ({"gold_label": ["neutral"]}, "gold_label must be one of"),
        ({"Flickr30K_ID": 12}, "line 2 must have the text 'Flickr30K_ID', got 12"),
        ({"Flickr30K_ID": ""}, "Flickr30K_ID must be the name of an image, got ''"),
        ({"sentence2": None}, "must have the text 'sentence2', got None"),
        ({"pairID": HYPOTHESIS["pairID"]}, "question ids in .* must be unique"),
    ],
)
def test_malformed_hypotheses_are_refused(tmp_path, item, message):
    path = write(tmp_path / "s.jsonl", {}, {"pairID": "other"} | item)
    with pytest.raises(InputError, match=message):
        read_snli_ve(path)


def test_lxmerts_questions_are_labels(tmp_path):
    path = tmp_path / "l.json"
    vqa_data.save(path, vqa_data.LXMERT_VQA)
    table = LabelTable.of(read_lxmert(path), PIECES, AnswerVocabulary(["net", "netting"]))
    assert table.batch(torch.tensor([0])).targets.tolist() == [[pytest.approx(0.3), 1]]


@needs_shared
@pytest.mark.parametrize(("name", "found", "total"), [("vqa", 3124, 3129), ("gqa", 1736, 1842)])
def test_answers_of_the_tasks_are_found_in_lxmerts_table(name, found, total):
    answers = SHARED / "data" / "answers"
    table = AnswerVocabulary.read(answers / "lxmert" / "all_ans.json")
    task = AnswerVocabulary.read(answers / name / "trainval_label2ans.json")
    assert (len(table), len(task)) == (9500, total)
    assert sum(normalize_lxmert(answer) in table.indices for answer in task.answers) == found
