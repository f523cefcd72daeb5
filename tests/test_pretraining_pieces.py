"""Word pieces of BERT."""

import json

import pytest

from tests.toy_pairs import PIECES, TEXTS
from vln_clip.errors import InputError
from vln_clip.tasks.pretraining.pieces import SPECIAL, WordPieces

WORDS = [*SPECIAL, "a", "red", "chair", "##s", "un", "##aff", "##able", ",", "?", "cafe"]


def test_texts_become_pieces_between_cls_and_sep():
    # [CLS] 2, un 9, ##aff 10, ##able 11, chair 7, ##s 8, "?" 13, [SEP] 3; "zz" is [UNK] 1; accents and case go.
    pieces = WordPieces(WORDS)
    assert pieces.encode(["Unaffable CHAIRS?", "zz", "", "Café"], 9).tolist() == [
        [2, 9, 10, 11, 7, 8, 13, 3, 0],
        [2, 1, 3, 0, 0, 0, 0, 0, 0],
        [2, 3, 0, 0, 0, 0, 0, 0, 0],
        [2, 14, 3, 0, 0, 0, 0, 0, 0],
    ]


def test_long_texts_are_cut_at_eighteen_pieces():
    tokens = WordPieces(WORDS).encode(["red " * 30])
    assert tokens.tolist() == [[2, *[6] * 18, 3]]


def test_a_text_cannot_hold_special_pieces():
    pieces = WordPieces([*WORDS, "[", "]", "mask", "pad"])  # 15, 16, 17, 18
    assert pieces.encode(["[MASK] [PAD]"], 9).tolist() == [[2, 15, 17, 16, 15, 18, 16, 3, 0]]


def test_no_text_is_no_row():
    assert WordPieces(WORDS).encode([]).shape == (0, 20)


def test_transformers_makes_the_same_of_a_text(tmp_path):
    transformers = pytest.importorskip("transformers")
    texts = [*TEXTS, "The café's unaffable chairs, a  red\tone?", "中文 naïve—dash", "x" * 200, "a" * 101 + " red"]
    pieces = WordPieces.build([*texts[:-2]] * 2, 400)
    pieces.write(tmp_path / "vocab.txt")
    public = transformers.BertTokenizerFast.from_pretrained(str(tmp_path))
    wanted = public(texts, max_length=20, truncation=True, padding="max_length")["input_ids"]
    assert pieces.encode(texts).tolist() == wanted


def test_built_pieces_spell_every_word_and_are_the_same_every_time():
    # Letters of "red room": d e m o r, alone and continued, then the two words, the one that is there twice first.
    pieces = WordPieces.build(["red room", "Room"], 100)
    letters = ["d", "e", "m", "o", "r"]
    assert list(pieces.words) == [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), "room", "red"]
    assert WordPieces.build(["red room", "Room"], 16).words == pieces.words[:16]
    assert 1 not in pieces.encode(["moored demo"]).flatten().tolist()


def test_pieces_are_written_and_read(tmp_path):
    PIECES.write(tmp_path / "vocab.txt")
    for place in (tmp_path, tmp_path / "vocab.txt"):
        assert WordPieces.read(place).words == PIECES.words
        assert WordPieces.read(place).digest == PIECES.digest
    (tmp_path / "windows.txt").write_text("\r\n".join(WORDS) + "\r\n", newline="")
    assert list(WordPieces.read(tmp_path / "windows.txt").words) == WORDS


def test_pieces_are_read_from_the_file_of_a_fast_tokenizer(tmp_path):
    transformers = pytest.importorskip("transformers")
    PIECES.write(tmp_path / "vocab.txt")
    transformers.BertTokenizerFast.from_pretrained(str(tmp_path)).save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "vocab.txt").unlink(missing_ok=True)
    assert WordPieces.read(tmp_path / "saved").words == PIECES.words


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {"type": "BPE", "vocab": {}}}, "word pieces of an uncased BERT, got another tokenizer"),
        (
            {"model": {"type": "WordPiece", "vocab": {"[PAD]": 0}}, "normalizer": {"lowercase": False}},
            "word pieces of an uncased BERT",
        ),
        (
            {"model": {"type": "WordPiece", "vocab": {"[PAD]": 0, "a": 2}}, "normalizer": {"lowercase": True}},
            "must number its 2 pieces from 0 without a gap",
        ),
    ],
)
def test_other_tokenizers_are_refused(tmp_path, content, message):
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        WordPieces.read(tmp_path)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["a", "b"], r"got no \[PAD\], \[UNK\], \[CLS\], \[SEP\], \[MASK\]"),
        ([*SPECIAL, "a", "a"], "a piece twice"),
        (["a", *SPECIAL], r"\[PAD\] not as the first"),
    ],
)
def test_pieces_without_the_special_ones_are_refused(tmp_path, words, found):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(words) + "\n")
    with pytest.raises(InputError, match=rf"vocab.txt: word pieces must be different.*{found}; take the vocab.txt"):
        WordPieces.read(path)


def test_absent_pieces_are_told(tmp_path):
    with pytest.raises(InputError, match=r"must have the word pieces of a BERT, vocab.txt or tokenizer.json"):
        WordPieces.read(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        WordPieces.read(tmp_path / "vocab.txt")
    with pytest.raises(InputError, match="15 at least for the 5 characters of these, got 14 of 2 words"):
        WordPieces.build(["red room"], 14)
