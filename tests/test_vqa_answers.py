import json

import pytest

from tests.golden import SHARED
from vln_clip.errors import InputError
from vln_clip.tasks.vqa.accuracy import answer_score, percent, vqa_accuracy
from vln_clip.tasks.vqa.answers import (
    normalize_answer,
    normalize_label,
    normalize_mmf,
    normalize_punctuation,
    soft_scores,
    strip_punctuation,
    ten_answers,
)
from vln_clip.tasks.vqa.contractions import CONTRACTIONS
from vln_clip.tasks.vqa.questions import Question
from vln_clip.tasks.vqa.vocabulary import AnswerVocabulary

ANSWERS = SHARED / "data" / "answers"
needs_lists = pytest.mark.skipif(not ANSWERS.is_dir(), reason="the public answer lists are not on this machine")


def answered(question_id, answers, question_type="what is", answer_type="other", label=None):
    return Question(question_id, "image", "?", answers, label, question_type, answer_type)


# Normalization.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A Dog.", "dog"),
        ("two", "2"),
        ("none", "0"),
        ("zero", "0"),
        ("ten", "10"),
        ("eleven", "eleven"),
        ("1,000", "1000"),  # digit, comma, digit: marks are deleted
        ("black-white", "black white"),  # a mark between letters becomes a space
        ("black - white", "black white"),  # beside a space it is deleted, and the two spaces are one
        ("1,000-year", "1000year"),  # digit, comma, digit anywhere deletes every mark
        ("red,green", "red green"),
        ("red, green", "red green"),
        ("red, gre,en", "red green"),  # a comma beside a space somewhere deletes all commas: "red green"
        ("the", ""),
        ("An apple a day", "apple day"),
        ("dont know", "don't know"),
        ("3.5", "3.5"),  # a period before a digit stays
        ("3. 5", "3 5"),
        ("u.s.", "us"),
        ("it's", "it's"),  # apostrophes stay
        ("10:30", "10:30"),  # colons stay
        ("50%", "50%"),
        ("yes\n", "yes"),
        ("hot\tdog", "hot dog"),
        ("  Yes!  ", "yes"),
        ("(yes)", "yes"),  # brackets become spaces, which joining removes
        ("somebody'd", "somebodyd"),  # the entry that stands the wrong way round
        ("yall've", "yall've"),  # not in the table
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("couldntve", "couldntve"),  # no apostrophe at all: not in the table
        ("", ""),
    ],
)
def test_answers_are_normalized_as_the_official_evaluation_does(text, expected):
    assert normalize_answer(text) == expected


@pytest.mark.parametrize("mark", ';/[]"{}()=+\\_-><@`,?!')
def test_each_of_the_21_marks_is_deleted_beside_a_space_and_else_becomes_one(mark):
    assert strip_punctuation(f"x{mark}y") == "x y"
    assert strip_punctuation(f"x {mark}y") == "x y"
    assert strip_punctuation(f"x{mark}y{mark} z") == "xy z"  # beside a space once: deleted everywhere


@pytest.mark.parametrize("mark", "':&%$#*")
def test_other_marks_stay(mark):
    assert strip_punctuation(f"x{mark}y {mark}") == f"x{mark}y {mark}"


def test_only_the_first_two_steps_touch_answers_of_annotators_in_the_openvqa_copy():
    assert normalize_punctuation("The two.\n") == "The two"


def test_at_most_32_periods_are_deleted():
    # 40 periods, none before a digit: 32 go, 8 stay.
    assert strip_punctuation("." * 40) == "." * 8


def test_labels_keep_no_comma():
    # Step 2 deletes or replaces every comma; the extra deletion matters to none of these, but line ends are no step.
    assert normalize_label("The man, tall") == "man tall"
    assert normalize_label("a\nb") == "b"  # splitting removes the line end, "a" is an article


def test_mmf_keeps_articles_and_parts_possessives():
    assert normalize_mmf("The man's, hat?") == "the man 's hat"


def test_the_contraction_table_has_120_entries():
    # 75 words with one apostrophe; 18 with two (2 spellings each) and 2 with three (3 each): 42; 3 irregular.
    assert len(CONTRACTIONS) == 75 + 42 + 3
    assert CONTRACTIONS["Im"] == "I'm"
    assert CONTRACTIONS["ow's'at"] == CONTRACTIONS["'ows'at"] == CONTRACTIONS["'ow'sat"] == "'ow's'at"
    assert CONTRACTIONS["oclock"] == "o'clock"
    assert CONTRACTIONS["twas"] == "'twas"


# Scores.


@pytest.mark.parametrize(("count", "expected"), [(1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0), (10, 1.0)])
def test_soft_scores_are_those_of_the_table_and_of_leaving_one_out(count, expected):
    answers = ["red"] * count + [f"other {k}" for k in range(10 - count)]
    assert soft_scores(answers)["red"] == expected
    # [c min(1, (c - 1) / 3) + (10 - c) min(1, c / 3)] / 10
    assert answer_score(answers, "red") == pytest.approx(expected)
    assert answer_score(answers, "unheard of") == 0.0


def test_soft_scores_count_normalized_answers():
    # "two", "2" and "2." are one answer of three annotators: 0.9; seven say 3: 1.
    assert soft_scores(["two", "2", "2."] + ["3"] * 7) == {"2": 0.9, "3": 1.0}


def test_fewer_answers_are_repeated_up_to_ten():
    assert soft_scores(["chair"]) == {"chair": 1.0}
    # a b c a b c a b c a: four times a, three times b and c.
    assert ten_answers(["a", "b", "c"]) == tuple("abcabcabca")
    assert answer_score(["x", "y", "z"], "y") == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("answers", "prediction", "official", "openvqa"),
    [
        # All equal: the official evaluation compares raw texts, the copy normalizes the prediction alone.
        (["Yes"] * 10, "Yes", 1.0, 0.0),
        (["yes"] * 10, "Yes.", 0.0, 1.0),
        # They differ: the official one normalizes both; the copy leaves "two" of the annotators as it is.
        (["two"] * 5 + ["3"] * 5, "2", 1.0, 0.0),
        (["two"] * 5 + ["3"] * 5, "two", 1.0, 0.0),
        (["red."] * 4 + ["blue"] * 6, "Red", 1.0, 1.0),
        (["red"] * 3 + ["blue"] * 7, "red", 0.9, 0.9),
        (["red"] + ["blue"] * 9, "red", 0.3, 0.3),
        # Differing only in blanks is agreeing: nothing is normalized.
        (["Yes "] * 5 + ["Yes"] * 5, "yes", 0.0, 0.0),
    ],
)
def test_the_two_versions_of_the_evaluation_differ_where_they_should(answers, prediction, official, openvqa):
    assert answer_score(answers, prediction) == pytest.approx(official)
    assert answer_score(answers, prediction, "openvqa") == pytest.approx(openvqa)


def test_accuracy_is_told_overall_and_by_type_and_rounded_to_two_decimals():
    questions = [
        answered(1, ("yes",) * 10, "is the", "yes/no"),
        answered(2, ("red",) + ("blue",) * 9, "what color", "other"),
        answered(3, ("2",) * 10, "how many", "number"),
        answered(4, ("red",) * 2 + ("blue",) * 8, "what color", ""),
    ]
    accuracy = vqa_accuracy(questions, {1: "yes", 2: "red", 3: "5", 4: "red"})
    # 1, 0.3, 0 and 0.6: mean 0.475.
    assert accuracy.overall == pytest.approx(0.475)
    assert accuracy.by_answer_type == pytest.approx({"number": 0.0, "other": 0.3, "unknown": 0.6, "yes/no": 1.0})
    assert accuracy.by_question_type == pytest.approx({"how many": 0.0, "is the": 1.0, "what color": 0.45})
    assert accuracy.metrics == pytest.approx(
        {"accuracy": 0.475, "accuracy_number": 0.0, "accuracy_other": 0.3, "accuracy_yes/no": 1.0}
    )
    assert accuracy.percent()["overall"] == 47.5
    assert percent(1 / 3) == 33.33
    assert accuracy.counts == {"number": 1, "other": 1, "unknown": 1, "yes/no": 1}


def test_labels_score_the_answer_as_it_stands():
    questions = [Question("a", "i", "?", None, {"yes": 1.0}), Question("b", "i", "?", None, {"net": 0.3, "bag": 0.6})]
    assert vqa_accuracy(questions, {"a": "Yes", "b": "bag"}).overall == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("questions", "predictions", "message"),
    [
        ([], {}, "at least one question"),
        ([answered(1, None)], {1: "x"}, "must have annotations to be scored, got 1 of 1 without, the first 1"),
        ([answered(1, ("x",)), answered(2, ("x",))], {1: "x"}, "got none to 1 of 2 questions, the first 2"),
        ([answered(1, ("x",))], {1: "x", 7: "y"}, "got 1 to others, the first 7"),
    ],
)
def test_what_cannot_be_scored_is_refused(questions, predictions, message):
    with pytest.raises(InputError, match=message):
        vqa_accuracy(questions, predictions)


def test_an_unknown_version_is_refused():
    with pytest.raises(InputError, match="version must be one of official, openvqa, got 'oficial'; did you mean"):
        vqa_accuracy([answered(1, ("x",))], {1: "x"}, "oficial")


# Vocabularies.


def saved(tmp_path, value, name="answers.json"):
    path = tmp_path / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


@pytest.mark.parametrize(
    "value",
    [
        ["", "yes", "no"],
        {"no": 2, "": 0, "yes": 1},
        [{"": 0, "yes": 1, "no": 2}, {"0": "", "1": "yes", "2": "no"}],
        [{"ans": "", "dsets": ["vqa"]}, {"ans": "yes", "dsets": []}, {"ans": "no", "dsets": []}],
    ],
)
def test_every_public_form_gives_the_same_vocabulary(tmp_path, value):
    vocabulary = AnswerVocabulary.read(saved(tmp_path, value))
    assert vocabulary.answers == ("", "yes", "no")
    assert vocabulary.index("no") == 2
    assert vocabulary.index("maybe") is None
    assert vocabulary.unknown is None
    vocabulary.write(tmp_path / "again.json")
    assert AnswerVocabulary.read(tmp_path / "again.json").answers == vocabulary.answers


def test_a_text_file_gets_an_unknown_answer_first_where_it_has_none(tmp_path):
    vocabulary = AnswerVocabulary.read(saved(tmp_path, "yes\nhot dog\n", "answers.txt"))
    assert vocabulary.answers == ("<unk>", "yes", "hot dog")
    assert vocabulary.unknown == 0
    vocabulary = AnswerVocabulary.read(saved(tmp_path, "yes\r\n<unk>\r\n", "answers.txt"))
    assert vocabulary.answers == ("yes", "<unk>")
    assert vocabulary.unknown == 1


def test_json_is_told_by_its_content_whatever_its_name(tmp_path):
    assert AnswerVocabulary.read(saved(tmp_path, ["yes"], "answers.txt")).answers == ("yes",)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"answers": ["yes"]}, "must hold answers in a known form"),
        ([["yes", 3]], "known are a list of answers"),
        ([], "known form"),
        ({}, "known form"),
        ({"yes": 0, "no": 2}, "from 0 without a gap, but 'no' has 2 in place of 1"),
        ({"yes": 0, "no": 0}, "without a gap"),
        (["yes", "no", "yes"], "each once, got 'yes' more than once"),
        ([{"yes": 0}, {"0": "no"}], "the two do not agree"),
        ([{"yes": True}, {"0": "yes"}], "known form"),
        ("yes\n\nno\n", "line 2 is ''"),
        ("[1", "must be JSON"),
    ],
)
def test_other_answer_files_are_refused_in_one_sentence(tmp_path, value, message):
    name = "answers.txt" if isinstance(value, str) and value.startswith("yes") else "answers.json"
    with pytest.raises(InputError, match=message):
        AnswerVocabulary.read(saved(tmp_path, value, name))


def test_the_vocabulary_holds_answers_of_more_than_eight_questions():
    given = ["Yes."] * 5 + ["yes"] * 4 + ["no"] * 8 + ["two"] * 9 + ["the"] * 10 + [None] * 20
    questions = [Question(k, "i", "?", answer=answer) for k, answer in enumerate(given)]
    # "yes" 5 + 4 = 9, "2" 9 and "" 10 are more than 8, "no" is not; the frequent first, ties by name.
    assert AnswerVocabulary.build(questions).answers == ("", "2", "yes")
    assert AnswerVocabulary.build(questions, more_than=0).answers == ("", "2", "yes", "no")
    as_they_stand = AnswerVocabulary.build(questions, more_than=0, normalize=str)
    assert as_they_stand.answers == ("the", "two", "no", "Yes.", "yes")
    with pytest.raises(InputError, match="more than 20 questions, but none of the 4 answers is"):
        AnswerVocabulary.build(questions, more_than=20)


@needs_lists
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vqa/trainval_label2ans.json", 3129),
        ("vqa/trainval_ans2label.json", 3129),
        ("gqa/trainval_label2ans.json", 1842),
        ("gqa/trainval_ans2label.json", 1842),
        ("lxmert/all_ans.json", 9500),
    ],
)
def test_the_public_lists_have_the_published_sizes(name, size):
    assert len(AnswerVocabulary.read(ANSWERS / name)) == size


@needs_lists
@pytest.mark.parametrize("task", ["vqa", "gqa"])
def test_both_public_forms_of_a_list_agree(task):
    one, other = (
        AnswerVocabulary.read(ANSWERS / task / f"trainval_{form}.json") for form in ("label2ans", "ans2label")
    )
    assert one.answers == other.answers


@needs_lists
def test_normalizing_leaves_every_public_vqa_answer_as_it_is():
    answers = AnswerVocabulary.read(ANSWERS / "vqa" / "trainval_label2ans.json").answers
    assert answers[0] == ""
    assert [answer for answer in answers if normalize_label(answer) != answer] == []


@needs_lists
@pytest.mark.parametrize(
    ("task", "num_found", "examples"),
    [("vqa", 3124, ["", "visilab", "5 star", "1 4", "1 world"]), ("gqa", 1736, ["hair clip"])],
)
def test_so_many_answers_of_each_task_are_among_the_9500(task, num_found, examples):
    known = AnswerVocabulary.read(ANSWERS / "lxmert" / "all_ans.json")
    answers = AnswerVocabulary.read(ANSWERS / task / "trainval_label2ans.json").answers
    absent = [answer for answer in answers if known.index(answer) is None]
    assert len(answers) - len(absent) == num_found
    assert set(examples) <= set(absent)
