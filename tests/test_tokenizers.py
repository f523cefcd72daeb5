import json
import sys
import unicodedata

import pytest

from vln_clip.errors import InputError
from vln_clip.tasks.tokenizers import ENGLISH, UNICODE, English, find_tokenizer

ZWNJ, ZWJ = "\u200c", "\u200d"


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Don't stop!?... Wait", ["don", "'", "t", "stop", *"!?...", "wait"]),
        ("2nd-floor, 3.5 m", ["2nd", "-", "floor", ",", "3", ".", "5", "m"]),
        ("under_score (there)", ["under", "_", "score", "(", "there", ")"]),
        ("Café — ÉTAGE", ["café", "—", "étage"]),
        # क्षत्रिय: conjuncts kṣa and tra with viramas; स्त्री: three consonants, two viramas, one vowel sign.
        ("क्षत्रिय स्त्री।", ["क्षत्रिय", "स्त्री", "।"]),
        ("रुकें॥ बाएँ मुड़ें", ["रुकें", "॥", "बाएँ", "मुड़ें"]),
        ("Kitchen में जाइए, ३ सीढ़ियाँ", ["kitchen", "में", "जाइए", ",", "३", "सीढ़ियाँ"]),
        # క్ష్మి: two viramas and a vowel sign; ం is a mark at a word's end.
        ("లక్ష్మి స్త్రీ ముందుకు వెళ్ళండి, గదిలోకం.", ["లక్ష్మి", "స్త్రీ", "ముందుకు", "వెళ్ళండి", ",", "గదిలోకం", "."]),
        (f"కిచెన్{ZWNJ}లోకి", [f"కిచెన్{ZWNJ}లోకి"]),
        (f"క్{ZWJ}ష", [f"క్{ZWJ}ష"]),
        (f"కిచెన్{ZWNJ} {ZWJ}లోకి{ZWNJ}.", ["కిచెన్", "లోకి", "."]),
        ("沿着沙发走，T恤3次。", [*"沿着沙发走，", "t", "恤", "3", "次", "。"]),
        ("コーヒーを", list("コーヒーを")),
        ("น้ำ กิน", ["น้ำ", "กิ", "น"]),
        (f"左{ZWJ} →{ZWNJ}", ["左", "→"]),
        ("계단을 올라", ["계단을", "올라"]),
        ("👩\u200d🍳 go → 🇮🇳!", ["👩\u200d🍳", "go", "→", "🇮🇳", "!"]),
        ("a\u00adb\ufeff x\u200by", ["ab", "x", "y"]),
        (" \n\t ", []),
        ("", []),
    ],
)
def test_words_of_any_script(text, tokens):
    # Nukta letters: NFC takes the precomposed ones apart, so what is expected is brought to that form too.
    assert find_tokenizer(UNICODE).tokenize(text) == [unicodedata.normalize("NFC", token) for token in tokens]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\u0958\u0932\u092e", "\u0915\u093c\u0932\u092e"),  # qalam with the letter qa, and with ka and nukta
        ("\u0c2a\u0c48", "\u0c2a\u0c46\u0c56"),  # Telugu pai with one vowel sign, and with its two halves
        ("\u00c9tage", "E\u0301tage"),
        ("\uac00", "\u1100\u1161"),
        ("が", "か\u3099"),
    ],
)
def test_composed_and_decomposed_spellings_are_the_same_tokens(one, other):
    words = find_tokenizer(UNICODE)
    assert one != other
    assert words.tokenize(one) == words.tokenize(other)
    assert len(words.tokenize(one)) == 1


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("Don't stop (there) , ok !", "don't stop (there), ok!"),
        ("Kitchen में जाइए । रुकें", "kitchen में जाइए। रुकें"),
        ("沿着 沙发，走 3 次。", "沿着沙发，走 3 次。"),
        ("", ""),
    ],
)
def test_joining_writes_spaces_where_the_script_does_and_keeps_the_tokens(text, joined):
    words = find_tokenizer(UNICODE)
    assert words.join(words.tokenize(text)) == joined
    assert words.tokenize(joined) == words.tokenize(text)


def test_a_loose_mark_does_not_slip_into_the_token_before_it():
    words = find_tokenizer(UNICODE)
    # Thai and Devanagari vowel signs without their consonants; the first is a letter to Unicode.
    tokens = ["ก", "\u0e33", "\u0e34", "'", "\u093e"]
    assert words.tokenize(words.join(tokens)) == tokens


def test_english_is_joined_with_spaces():
    assert find_tokenizer(ENGLISH).join(["don", "'", "t"]) == "don ' t"
    assert isinstance(find_tokenizer("english"), English)


def test_a_name_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"tokenizer must be english, unicode or a folder .* got 'unicod'"):
        find_tokenizer("unicod")
    with pytest.raises(InputError, match="which is no folder here; nothing is downloaded"):
        find_tokenizer("bert-base-multilingual-cased")


def test_sub_words_without_transformers_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"is not installed; run: pip install transformers"):
        find_tokenizer(str(tmp_path))


@pytest.mark.slow
def test_sub_words_come_from_a_local_folder(tmp_path):
    pytest.importorskip("transformers")
    pieces = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "walk", "##ing", "left", "बाएँ", "##।"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": False, "strip_accents": False})
    )
    words = find_tokenizer(str(tmp_path))
    assert words.name == str(tmp_path)
    assert words.tokenize("walking left बाएँ") == ["walk", "##ing", "left", "बाएँ"]
    assert words.join(["walk", "##ing", "left"]) == "walking left"


@pytest.mark.slow
def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(InputError, match="must hold a transformers tokenizer"):
        find_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}})
    )
    (tmp_path / "own.py").write_text("raise SystemExit('code of the folder ran')")
    with pytest.raises(InputError, match="must hold a transformers tokenizer"):
        find_tokenizer(str(tmp_path))
