import json
import time

import numpy as np
import pytest

from vln_clip.errors import InputError
from vln_clip.tasks.text import EOS, PAD, UNK, Vocabulary


def vocabulary() -> Vocabulary:
    # <PAD> 0, <UNK> 1, <EOS> 2, <en> 3, <hi> 4, <te> 5, walk 6, रुकें 7, । 8, <BOS> 9
    return Vocabulary(["walk", "रुकें", "।"], "unicode", ["te", "en", "hi"])


def test_tags_have_the_same_ids_whatever_the_order():
    words = vocabulary()
    assert [words.tag(language) for language in ("en", "hi", "te")] == [3, 4, 5]
    assert (words.words[0], words.bos, words.size) == ("<PAD>", 9, 10)
    texts = ["walk रुकें walk"] * 5
    # Sets are in another order in every process; ids must not be.
    built = [Vocabulary.build(texts, 5, "unicode", languages) for languages in ({"te", "hi", "en"}, ["hi", "te", "en"])]
    assert built[0].words == built[1].words
    assert built[0].words == ("<PAD>", "<UNK>", "<EOS>", "<en>", "<hi>", "<te>", "walk", "रुकें", "<BOS>")


def test_the_tag_stands_behind_the_first_word_and_counts():
    words = vocabulary()
    assert words.encode("रुकें।", 160, "hi") == [9, 4, 7, 8, EOS]
    assert words.encode("Walk walk walk", 4, "en") == [9, 3, 6, EOS]
    assert words.encode("Walk", 3, "en") == [9, 3, EOS]
    assert words.encode("", 3, "te") == [9, 5, EOS]
    with pytest.raises(InputError, match=r"max_tokens must be at least 3 \(<BOS>, <hi>, <EOS>\), got 2"):
        words.encode("Walk", 2, "hi")


def test_a_batch_has_each_text_in_its_language():
    ids, lengths = vocabulary().encode_batch(["Walk", "रुकें now।"], 160, ["en", "hi"])
    assert ids.tolist() == [[9, 3, 6, EOS, PAD, PAD], [9, 4, 7, UNK, 8, EOS]]
    assert lengths.tolist() == [4, 6]
    assert ids.dtype == np.int64


def test_a_missing_or_unknown_language_is_refused():
    with pytest.raises(InputError, match="language must be one of en, hi, te for this vocabulary, got none"):
        vocabulary().encode_batch(["Walk"], 10)
    with pytest.raises(InputError, match="language must be one of en, hi, te, got 'zh'"):
        vocabulary().encode("Walk", 10, "zh")
    with pytest.raises(InputError, match=r"none \(a vocabulary without languages\), got 'en'"):
        Vocabulary(["walk"]).tag("en")
    with pytest.raises(InputError, match="unique, got '<en>' twice"):
        Vocabulary([], "unicode", ["en", "en"])


def test_a_vocabulary_without_languages_takes_any():
    assert Vocabulary(["walk"], "unicode").encode("Walk", 10, "hi") == [4, 3, EOS]


def test_shrinking_drops_the_tag_and_decoding_shows_it():
    words = vocabulary()
    assert words.shrink([9, 4, 7, 8, EOS, PAD]) == words.shrink([4, 7, 8, EOS]) == [7, 8]
    assert words.shrink([9, 4, EOS]) == words.shrink([9, EOS]) == words.shrink([EOS]) == []
    assert words.decode([9, 4, 7, 8, EOS, PAD, 6]) == "<BOS> <hi> रुकें। <EOS>"
    assert words.decode([7, 8, 6]) == "रुकें। walk"
    # Without languages, id 3 is a word like any other.
    assert Vocabulary(["walk"]).shrink([4, 3, EOS]) == [3]


def test_json_restores_everything(tmp_path):
    words = vocabulary()
    words.write(tmp_path / "new" / "vocabulary.json")
    read = Vocabulary.read(tmp_path / "new" / "vocabulary.json")
    header = {"iteration": 3, **json.loads(json.dumps(words.to_json()))}
    for again in (read, Vocabulary.from_json(header)):
        assert (again.words, again.languages, again.tokenizer.name) == (words.words, words.languages, "unicode")
        assert again.encode("रुकें।", 160, "hi") == [9, 4, 7, 8, EOS]


def test_older_headers_are_english_without_languages():
    words = Vocabulary(["walk", "."])
    for header in (list(words.words), {"words": list(words.words), "dataset": "r2r"}):
        again = Vocabulary.from_json(header)
        assert (again.words, again.languages, again.tokenizer.name) == (words.words, (), "english")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "must be lists of texts"),
        ({}, "must be lists of texts"),
        ({"words": [1]}, "must be lists of texts"),
        (["<PAD>", "<UNK>", "<EOS>"], "end with <BOS>"),
        (["<UNK>", "<PAD>", "<EOS>", "<BOS>"], "must begin with <PAD>, <UNK>, <EOS>"),
        ({"words": ["<PAD>", "<UNK>", "<EOS>", "<BOS>"], "tokenizer": "unicode"}, "tokenizer and languages or neither"),
        (
            {"words": ["<PAD>", "<UNK>", "<EOS>", "<BOS>"], "tokenizer": "unicode", "languages": ["hi"]},
            "must begin with <PAD>, <UNK>, <EOS>, <hi>",
        ),
        ({"words": ["<PAD>", "<UNK>", "<EOS>", "<BOS>"], "tokenizer": "gone/x", "languages": []}, "no folder here"),
    ],
)
def test_a_broken_header_is_refused(tmp_path, value, message):
    with pytest.raises(InputError, match=message):
        Vocabulary.from_json(value)
    (tmp_path / "vocabulary.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match=rf"vocabulary\.json: .*{message}"):
        Vocabulary.read(tmp_path / "vocabulary.json")


def test_the_public_format_holds_english_only(tmp_path):
    Vocabulary(["walk", "é"]).write(tmp_path / "words.txt")
    assert (tmp_path / "words.txt").read_bytes() == "<PAD>\n<UNK>\n<EOS>\nwalk\né\n".encode()
    with pytest.raises(InputError, match=r"words\.txt must end in \.json for tokenizer 'unicode'"):
        vocabulary().write(tmp_path / "words.txt")


@pytest.mark.slow
def test_forty_thousand_long_hindi_instructions_encode_in_seconds():
    pieces = [f"कमरा{k}" for k in range(3000)] + ["बाएँ,", "मुड़ें।", "kitchen", "में", "जाइए"] * 400
    random = np.random.default_rng(0)
    drawn = random.integers(0, len(pieces), (40_000, 100))
    texts = [" ".join(pieces[k] for k in row) for row in drawn.tolist()]
    words = Vocabulary.build(texts[:2000], 1, "unicode", ["hi"])
    start_s = time.process_time()
    ids, _ = words.encode_batch(texts, 160, ["hi"] * len(texts))
    assert time.process_time() - start_s < 6, "measured 1.3 s"
    assert ids.shape[0] == 40_000
