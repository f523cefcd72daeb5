import gzip

import numpy as np
import pytest
import torch

from vln_clip.errors import InputError
from vln_clip.tasks.vqa.glove import initial_vectors, read_word_vectors
from vln_clip.tasks.vqa.words import QuestionVocabulary, question_words

GLOVE = "the 0.1 0.2 0.3\ncolor -1 2.5 1e-2\ncat 4 5 6\n. . . 7 8 9\n"


@pytest.mark.parametrize(
    ("text", "mmf", "openvqa"),
    [
        ("What color is it?", ["what", "color", "is", "it"], ["what", "color", "is", "it"]),
        # A blank before 's, then the apostrophe is a separator that is kept.
        ("the woman's hat", ["the", "woman", "'", "s", "hat"], ["the", "womans", "hat"]),
        ("black-white, or red/blue?", ["black", "-", "white", "or", "red", "/", "blue"], None),
        ("black-white or red/blue", None, ["black", "white", "or", "red", "blue"]),
        ('Is it "A.B." (now): yes; #1*!', None, ["is", "it", "ab", "now", "yes", "1"]),
        ("is it... ok", ["is", "it", "...", "ok"], ["is", "it", "ok"]),
        ("3.5 %", ["3", ".", "5", "%"], ["35", "%"]),
        ("", [], []),
        (" ?!", ["!"], []),
    ],
)
def test_questions_are_split_as_in_the_public_code(text, mmf, openvqa):
    if mmf is not None:
        assert question_words(text) == mmf
    if openvqa is not None:
        assert question_words(text, "openvqa") == openvqa


def test_an_unknown_style_is_refused():
    for make in (lambda: question_words("a", "mmff"), lambda: QuestionVocabulary(["a"], "mmff")):
        with pytest.raises(InputError, match="style must be one of mmf, openvqa, got 'mmff'; did you mean 'mmf'"):
            make()


def test_frequent_words_come_first_and_rare_ones_are_unknown():
    vocabulary = QuestionVocabulary.build(["a b", "b c", "b a", "a b"], min_count=2)
    # b four times, a three times, c once.
    assert vocabulary.words == ("<pad>", "<unk>", "b", "a")
    assert vocabulary.encode(["a c b"], 4).tolist() == [[3, 1, 2, 0]]
    assert QuestionVocabulary.build(["a"], style="openvqa").words == ("<pad>", "<unk>", "<cls>", "a")


def test_questions_are_cut_and_padded_at_the_right_to_14_words():
    vocabulary = QuestionVocabulary(["w"])
    tokens = vocabulary.encode(["w " * 20, "w", "", "w"])
    assert tokens.shape == (4, 14)
    assert tokens.dtype == np.int64
    assert tokens.tolist() == [[2] * 14, [2] + [0] * 13, [0] * 14, [2] + [0] * 13]
    assert vocabulary.encode([]).shape == (0, 14)


def test_a_vocabulary_is_read_as_it_was_written(tmp_path):
    vocabulary = QuestionVocabulary.build(["Is the café open?"], style="openvqa")
    vocabulary.write(tmp_path / "words.json")
    again = QuestionVocabulary.read(tmp_path / "words.json")
    assert (again.words, again.style, again.digest) == (vocabulary.words, "openvqa", vocabulary.digest)
    assert QuestionVocabulary(vocabulary.words[3:]).digest != vocabulary.digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "must be a vocabulary of questions"),
        ('{"style": "mmf"}', "must be a vocabulary"),
        ('{"style": "x", "words": []}', "must be a vocabulary"),
        ('{"style": ["mmf"], "words": []}', "must be a vocabulary"),
        ('{"style": "mmf", "words": [3]}', "texts and not empty"),
        ('{"style": "mmf", "words": ["a", "a"]}', "unique, got 'a' twice"),
        ('{"style": "mmf", "words": ["<unk>"]}', "unique, got '<unk>' twice"),
    ],
)
def test_other_files_are_no_vocabulary(tmp_path, content, message):
    (tmp_path / "words.json").write_text(content)
    with pytest.raises(InputError, match=message):
        QuestionVocabulary.read(tmp_path / "words.json")


# Word vectors.


def vectors_file(tmp_path, content=GLOVE):
    path = tmp_path / "glove.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_only_wanted_vectors_are_read(tmp_path):
    found = read_word_vectors(vectors_file(tmp_path), {"cat", "the", "dog"})
    assert sorted(found) == ["cat", "the"]
    assert found["cat"].tolist() == [4.0, 5.0, 6.0]
    assert found["the"].dtype == np.float32


def test_words_with_blanks_and_heads_with_sizes_are_understood(tmp_path):
    found = read_word_vectors(vectors_file(tmp_path, "4 3\n" + GLOVE), {". . .", "the", "4"})
    assert sorted(found) == [". . .", "the"]
    assert found[". . ."].tolist() == [7.0, 8.0, 9.0]


def test_a_packed_file_is_read_and_the_first_of_two_vectors_counts(tmp_path):
    path = tmp_path / "glove.txt.gz"
    path.write_bytes(gzip.compress(b"cat 1 2\ncat 3 4\n"))
    assert read_word_vectors(path, {"cat"}, width=2)["cat"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("content", "width", "message"),
    [
        (GLOVE, 300, "line 1 must hold a word and 300 numbers, got 3 numbers"),
        ("the 1 2 3\ncat 1 2\n", None, "line 2 must hold a word and 3 numbers, got 2 numbers; is the file whole"),
        ("the 1 2 3\n\n", None, "line 2 must hold a word and 3 numbers, got 0"),
        ("the 1 2 3\ncat 1 x 3\n", None, "line 2 must hold finite numbers behind its word"),
        ("the 1 2 3\ncat 1 nan 3\n", None, "line 2 must hold finite numbers"),
        ("the 1 2 3\ncat 1 1e999 3\n", None, "line 2 must hold finite numbers"),
        ("", None, "at least one word and its numbers"),
        ("3 3\n", None, "at least one word and its numbers"),
        ("one word per line", None, "separated by blanks, got b'one word per line'; is it a text file of vectors"),
        (b"PK\x03\x04 \x00 \x00", None, "the file is a zip archive: unpack it"),
        (b"<!doctype html>", None, "the file is a web page"),
        ("the\t1\t2\n", None, "separated by blanks"),
    ],
)
def test_damaged_files_of_vectors_are_refused(tmp_path, content, width, message):
    with pytest.raises(InputError, match=message):
        read_word_vectors(vectors_file(tmp_path, content), {"the", "cat"}, width)
    with pytest.raises(InputError, match="does not exist"):
        read_word_vectors(tmp_path / "absent.txt", {"the"})


def test_a_vocabulary_can_be_what_also_has_a_vector(tmp_path):
    vocabulary = QuestionVocabulary.build(["the cat", "the dog"])
    vectors = read_word_vectors(vectors_file(tmp_path), vocabulary.words)
    assert vocabulary.having(vectors).words == ("<pad>", "<unk>", "the", "cat")


def test_vectors_are_the_first_weights_of_an_embedding(tmp_path):
    vocabulary = QuestionVocabulary(["dog", "cat", "the"])
    vectors = read_word_vectors(vectors_file(tmp_path), vocabulary.words)
    weights = initial_vectors(vocabulary, vectors, torch.Generator().manual_seed(1))
    assert weights.shape == (5, 3)
    assert weights[0].tolist() == [0.0, 0.0, 0.0]
    assert weights[3].tolist() == [4.0, 5.0, 6.0]
    assert weights[4].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert weights[1].abs().sum() > 0  # unknown words and those without a vector are drawn
    assert weights[2].abs().sum() > 0
    again = initial_vectors(vocabulary, vectors, torch.Generator().manual_seed(1))
    assert torch.equal(weights, again)
    with pytest.raises(InputError, match="at least one word of the questions, got none"):
        initial_vectors(QuestionVocabulary(["x"]), {}, torch.Generator())
