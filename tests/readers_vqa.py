"""The readers of questions, answers, word vectors and result files of VQA, each with a file that it reads."""

import json

import torch

from tests import mutations, vqa_data
from tests.reader_case import Case, as_gzip, as_json, text
from vln_clip.tasks.vqa.glove import initial_vectors, read_word_vectors
from vln_clip.tasks.vqa.gqa import read_gqa
from vln_clip.tasks.vqa.lxmert import read_lxmert
from vln_clip.tasks.vqa.questions import Question
from vln_clip.tasks.vqa.results import validate_results
from vln_clip.tasks.vqa.table import QuestionTable
from vln_clip.tasks.vqa.vocabulary import AnswerVocabulary
from vln_clip.tasks.vqa.vqa_v2 import read_vqa_v2
from vln_clip.tasks.vqa.words import QuestionVocabulary

ASKED = vqa_data.question_file(vqa_data.question(1), vqa_data.question(2, 43))
ANNOTATED = vqa_data.annotation_file(
    vqa_data.annotation(1), vqa_data.annotation(2, 43, ("yes",) * 3 + ("no",) * 7, "yes/no")
)
ANSWERS = ["", "yes", "no", "red"]
WORDS = ("the", "color", "cat", ". . .")


def use(questions):
    """Do with questions what a program does."""
    words = QuestionVocabulary.build([question.text for question in questions])
    table = QuestionTable.build(questions, words, AnswerVocabulary(ANSWERS))
    targets = table.batch(torch.arange(len(questions))).targets
    assert targets is None or ((targets >= 0) & (targets <= 1)).all()
    for question in questions:
        json.dumps([question.image, question.text, question.question_type], ensure_ascii=False).encode()


def write_annotations(path):
    as_json(ANNOTATED)(path)
    as_json(ASKED)(path.with_name("q.json"))


def read_answers(path):
    vocabulary = AnswerVocabulary.read(path)
    vocabulary.write(path.with_name("again.json"))
    assert AnswerVocabulary.read(path.with_name("again.json")).answers == vocabulary.answers


def read_words(path):
    vocabulary = QuestionVocabulary.read(path)
    assert vocabulary.encode(["the cat"]).shape == (1, 14)
    vocabulary.write(path.with_name("again.json"))


def read_vectors(path):
    vectors = read_word_vectors(path, WORDS)
    if vectors:
        weights = initial_vectors(QuestionVocabulary(WORDS), vectors, torch.Generator())
        assert weights.isfinite().all()


def read_results_of(style, ids):
    def read(path):
        report = validate_results(path, [Question(name, "i", "?") for name in ids], style)
        str(report).encode()
        json.dumps(report.to_json(), ensure_ascii=False).encode()

    return read


VQA_RESULTS = [{"question_id": k, "answer": "yes"} for k in (1, 2, 3)]
GQA_RESULTS = [{"questionId": str(k), "prediction": "yes"} for k in (1, 2, 3)]
BOTH_WAYS = [{answer: k for k, answer in enumerate(ANSWERS)}, {str(k): answer for k, answer in enumerate(ANSWERS)}]

CASES = {
    "vqa_questions": Case("q.json", as_json(ASKED), mutations.json_text, lambda path: use(read_vqa_v2(path))),
    "vqa_annotations": Case(
        "a.json",
        write_annotations,
        mutations.json_text,
        lambda path: use(read_vqa_v2(path.with_name("q.json"), path)),
    ),
    "vqa_questions_packed": Case(
        "q.json.gz",
        as_gzip(as_json(ASKED)),
        mutations.packed(mutations.json_text),
        lambda path: use(read_vqa_v2(path)),
    ),
    "gqa": Case("g.json", as_json(vqa_data.GQA), mutations.json_text, lambda path: use(read_gqa(path))),
    "lxmert": Case("l.json", as_json(vqa_data.LXMERT_VQA), mutations.json_text, lambda path: use(read_lxmert(path))),
    "answers_list": Case("a.json", as_json(ANSWERS), mutations.json_text, read_answers),
    "answers_object": Case("a.json", as_json(BOTH_WAYS[0]), mutations.json_text, read_answers),
    "answers_both_ways": Case("a.json", as_json(BOTH_WAYS), mutations.json_text, read_answers),
    "answers_text": Case("a.txt", text("yes\nno\nhot dog\n"), mutations.words, read_answers),
    "question_words": Case(
        "w.json", as_json({"style": "mmf", "words": ["the", "cat"]}), mutations.json_text, read_words
    ),
    "word_vectors": Case(
        "glove.txt", text("the 0.1 0.2 0.3\ncolor -1 2.5 1e-2\n. . . 7 8 9\ncat 4 5 6\n"), mutations.words, read_vectors
    ),
    "results_vqa": Case("r.json", as_json(VQA_RESULTS), mutations.json_text, read_results_of("vqa", (1, 2, 3))),
    "results_gqa": Case("r.json", as_json(GQA_RESULTS), mutations.json_text, read_results_of("gqa", ("1", "2", "3"))),
}
