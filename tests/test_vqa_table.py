import pytest
import torch

from vln_clip.tasks.vqa.accuracy import vqa_accuracy
from vln_clip.tasks.vqa.answers import normalize_mmf, soft_scores
from vln_clip.tasks.vqa.questions import Question
from vln_clip.tasks.vqa.table import QuestionTable, best_answer
from vln_clip.tasks.vqa.vocabulary import AnswerVocabulary
from vln_clip.tasks.vqa.words import QuestionVocabulary

WORDS = QuestionVocabulary(["what", "is", "it"])
ANSWERS = AnswerVocabulary(["red", "blue", "2", "yes"])
QUESTIONS = [
    Question(1, "b", "What is it?", ("red",) * 3 + ("Blue.",) * 2 + ("green",) * 5, answer_type="other"),
    Question(2, "a", "Is it?", ("yes",) * 10, answer_type="yes/no"),
    Question(3, "b", "", ("two",) * 4 + ("2",) + ("3",) * 5, answer_type="number"),
    Question(4, "c", "Is it what", ("puce",) * 10, answer_type="other"),
    Question(5, "a", "is", ("red", "blue", "blue"), answer_type="other"),
]
# 1: three say red, two blue, green is not in the vocabulary. 3: five say 2. 4: nothing known. 5: repeated to ten,
# red 4, blue 6.
TARGETS = [[0.9, 0.6, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 0]]


def close(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


@pytest.fixture
def table():
    return QuestionTable.build(QUESTIONS, WORDS, ANSWERS, max_words=3)


def test_targets_are_the_soft_scores_of_answers_in_the_vocabulary(table):
    close(table.targets(torch.arange(5)), TARGETS)
    for row, question in enumerate(QUESTIONS):  # the same by the definition, one question at a time
        scores = soft_scores(question.answers)
        close(table.targets(torch.tensor([row]))[0], [scores.get(answer, 0.0) for answer in ANSWERS.answers])


def test_a_batch_is_gathered_in_the_order_asked_for(table):
    batch = table.batch(torch.tensor([4, 0, 0]))
    assert batch.tokens.tolist() == [[3, 0, 0], [2, 3, 4], [2, 3, 4]]
    assert batch.tokens.dtype == batch.image_index.dtype == torch.int64
    assert [table.image_keys[k] for k in batch.image_index.tolist()] == ["a", "b", "b"]
    assert [table.question_ids[k] for k in batch.row.tolist()] == [5, 1, 1]
    close(batch.targets, [TARGETS[4], TARGETS[0], TARGETS[0]])


def test_answers_outside_the_vocabulary_are_left_out(table):
    assert table.answerable.tolist() == [True, True, True, False, True]
    assert table.target_index.shape == (5, 2)  # two answers at most are known of one question


def test_scores_and_accuracy_of_chosen_answers_equal_the_official_ones(table):
    rows, chosen = torch.arange(5), torch.tensor([0, 3, 2, 0, 1])
    close(table.scores(rows, chosen), [0.9, 1.0, 1.0, 0.0, 1.0])
    predictions = {q.question_id: ANSWERS.answers[k] for q, k in zip(QUESTIONS, chosen.tolist(), strict=True)}
    official = vqa_accuracy(QUESTIONS, predictions).metrics
    assert table.accuracy(rows, chosen) == pytest.approx(official)
    # The second question alone: types of which there is none are not told.
    assert table.accuracy(torch.tensor([1]), torch.tensor([0])) == {"accuracy": 0.0, "accuracy_yes/no": 0.0}


def test_test_splits_have_no_targets():
    table = QuestionTable.build([Question(1, "a", "what"), Question(2, "a", "it")], WORDS, ANSWERS)
    batch = table.batch(torch.tensor([1]))
    assert batch.targets is None
    assert not table.has_targets
    assert batch.tokens.shape == (1, 14)
    with pytest.raises(ValueError, match="of all questions or of none, got 1 of 2"):
        QuestionTable.build([QUESTIONS[0], Question(9, "a", "it")], WORDS, ANSWERS)


def test_labels_are_taken_as_they_stand():
    questions = [
        Question("x", "a", "is", label={"red": 0.3, "Blue": 1.0, "2": 0.9}),
        Question("y", "a", "is", label={}),
    ]
    table = QuestionTable.build(questions, WORDS, ANSWERS)
    close(table.targets(torch.arange(2)), [[0.3, 0, 0.9, 0], [0, 0, 0, 0]])
    assert table.has_targets
    assert table.question_ids == ("x", "y")


def test_answers_can_be_normalized_as_the_vocabulary_was():
    question = Question(1, "a", "is", ("The man's",) * 10)
    table = QuestionTable.build([question], WORDS, AnswerVocabulary(["the man 's"]), normalize=normalize_mmf)
    close(table.targets(torch.tensor([0])), [[1.0]])


def test_a_table_without_questions_or_known_answers_has_batches_too(table):
    nothing = torch.zeros(0, dtype=torch.int64)
    assert table.batch(nothing).targets.shape == (0, 4)
    unknown = QuestionTable.build([QUESTIONS[3]], WORDS, ANSWERS)
    close(unknown.targets(torch.tensor([0])), [[0.0] * 4])


def test_a_table_on_another_device_is_the_same(table):
    moved = table.to("meta")
    assert moved.batch(torch.zeros(2, dtype=torch.int64, device="meta")).targets.shape == (2, 4)
    assert moved.image_keys == table.image_keys
    assert table.tokens.device.type == "cpu"


def test_the_unknown_answer_is_never_the_best():
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]])
    assert best_answer(logits).tolist() == [0, 1]
    assert best_answer(logits, unknown=0).tolist() == [2, 1]
    assert logits[0, 0] == 3.0  # left as they are


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device on this machine")
def test_batches_on_a_cuda_device_wait_for_nothing(table):
    moved, rows = table.to("cuda"), torch.arange(5, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = moved.batch(rows)
        scores = moved.scores(rows, rows % 4)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    close(batch.targets.cpu(), TARGETS)
    close(scores.cpu(), [TARGETS[row][row % 4] for row in range(5)])
