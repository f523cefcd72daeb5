import importlib
import logging
import math
import sys
import threading
from types import SimpleNamespace

import pytest

from tests.toy_captions import write_json
from vln_clip.errors import InputError
from vln_clip.tasks.captioning import metrics
from vln_clip.tasks.captioning.results import read_results, validate_results, write_results
from vln_clip.tasks.captioning.words import _split_any, split_words

# What Stanford's PTBTokenizer 3.4.1 with -lowerCase makes of them, less the library's list of punctuation.
WORDS = {
    "A man's hat isn't on the table.": "a man 's hat is n't on the table",
    "a black-and-white cat (sitting) on a chair": "a black-and-white cat -lrb- sitting -rrb- on a chair",
    "It's 10:30 p.m. on the U.S. street -- main st.": "it 's 10:30 p.m. on the u.s. street main st.",
    "a sign that says \"STOP\" and 'GO'": "a sign that says stop and go",
    "two dogs/cats, $5, 50% off #1 & more": "two dogs/cats $ 5 50 % off # 1 & more",
    "cannot can't won't they're I'd": "can not ca n't wo n't they 're i 'd",
    "Mr. Smith drinks 7-up; 1,000 people...": "mr. smith drinks 7-up 1,000 people",
    "women's room, ladies' room, '50s": "women 's room ladies room '50s",
    "a dog,cat and bird.The end": "a dog cat and bird.the end",
    "the “quoted” word’s end — dash …": "the quoted word 's end dash",
    "a café w/ 3/4 pizza at 5:30pm": "a café w / 3/4 pizza at 5:30 pm",
    "what?? 5 o'clock!": "what ?? 5 o'clock",
    "y'all ain't gonna go": "y' all ai n't gon na go",
    "a [red] man.\triding\na bike": "a -lsb- red -rsb- man riding a bike",
    " . ": "",
    "": "",
}


@pytest.mark.parametrize("caption", WORDS)
def test_captions_are_split_as_the_evaluation_does(caption):
    assert " ".join(split_words(caption)) == WORDS[caption]


PLAIN = ["A dog sits on a chair.", "two dogs", "main st.", "plan b.", "he cannot go.", "I", "a  b\tcd \n", "st", "go.."]


@pytest.mark.parametrize("caption", [*PLAIN, *WORDS])
def test_the_short_way_of_plain_captions_changes_nothing(caption):
    assert split_words(caption) == _split_any(caption.lower())


def needs_java_and_library():
    pytest.importorskip("pycocoevalcap")
    if not metrics.has_java():
        pytest.skip("Java is not on this machine")


def test_the_java_tokenizer_agrees_on_the_words(capfd):
    needs_java_and_library()
    captions = dict(enumerate(WORDS))
    found = metrics._ptb({i: [text.replace("\n", " ")] for i, text in captions.items()})
    assert [texts[0] for texts in found.values()] == list(WORDS.values())
    library = importlib.import_module("pycocoevalcap.tokenizer.ptbtokenizer").PTBTokenizer()
    assert found == library.tokenize({i: [{"caption": text}] for i, text in captions.items()})


CAPTIONS = {2: "A dog sits.", 1: "the red cat sleeps now"}
REFERENCES = {1: ["The red cat sleeps!", "a cat"], 2: ["A dog sits down.", "one dog"], 3: []}
# Image 1, "the red cat sleeps now" against "the red cat sleeps", image 2 "a dog sits" against "a dog sits down".
# BLEU, n-grams in the nearest reference: words 7 of 8, pairs 5 of 6, triples 3 of 4, fours 1 of 2.
# Lengths 5 + 3 = 8; the references nearest in length have 4 and, of 4 and 2 both one away, the shorter: 6. No penalty.
BLEU_4 = (7 / 8 * 5 / 6 * 3 / 4 * 1 / 2) ** (1 / 4)


def rouge(precision, recall):
    return (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)


def scored(**options):
    return metrics.score_captions(CAPTIONS, REFERENCES, **options)


def test_scores_are_as_by_hand():
    pytest.importorskip("pycocoevalcap")
    found = scored(wanted=("BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr"), tokenizer="own")
    assert list(found.metrics) == ["BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr"]
    assert found.metrics["BLEU-1"] == pytest.approx(7 / 8)
    assert found.metrics["BLEU-4"] == pytest.approx(BLEU_4)
    # The best precision and the best recall, of any reference: 4 of 5 and 4 of 4; 3 of 3 and 3 of 4.
    expected = [rouge(4 / 5, 1), rouge(1, 3 / 4)]
    assert found.by_image["ROUGE-L"].tolist() == pytest.approx(expected)
    assert found.metrics["ROUGE-L"] == pytest.approx(sum(expected) / 2)
    assert (found.image_ids, found.tokenizer, found.absent) == ((1, 2), "own", {})
    assert all(len(values) == 2 for values in found.by_image.values())


@pytest.fixture
def no_library(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("pycocoevalcap")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)


def test_cider_needs_neither_library_nor_java(no_library, monkeypatch, caplog):
    monkeypatch.setenv("PATH", "")
    found = scored(wanted=("CIDEr",), tokenizer="own")
    # Document frequencies of two images: "a" is in both, idf 0; all else has log 2, which cosines do not show. Image 2:
    # words dog, sits of dog, sits, down 2 / √6; pairs 2 / √6 (of three); triples 1 / √2; fours 0; one pair less.
    # Of "one dog" the word alone, 1 / (√2 · √2), and one pair more.
    whole = (2 / math.sqrt(6) + 2 / math.sqrt(6) + 1 / math.sqrt(2)) * math.exp(-1 / 72)
    assert found.by_image["CIDEr"][1] == pytest.approx(2.5 * (whole + math.exp(-1 / 72) / 2) / 2)
    assert not caplog.records


def test_without_the_library_the_rest_is_named_once(no_library, caplog):
    with caplog.at_level(logging.WARNING):
        found = scored()
    assert list(found.metrics) == ["CIDEr"]
    assert set(found.absent) == set(metrics.METRICS) - {"CIDEr"}
    assert found.tokenizer == "own"
    missing = 'the package pycocoevalcap is not there; install it: pip install "vln-clip[caption]"'
    assert [record.message for record in caplog.records] == [
        f"captions are split by our own tokenizer: the Penn Treebank tokenizer is left out, {missing}",
        f"BLEU-1, BLEU-2, BLEU-3, BLEU-4, METEOR, ROUGE-L, SPICE left out: {missing}",
    ]


def test_without_java_meteor_and_spice_are_left_out(monkeypatch, caplog):
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setenv("PATH", "")
    with caplog.at_level(logging.WARNING):
        found = scored()
    assert set(found.absent) == {"METEOR", "SPICE"}
    assert set(found.metrics) == set(metrics.METRICS) - {"METEOR", "SPICE"}
    assert found.tokenizer == "own"
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "captions are split by our own tokenizer",
        "METEOR, SPICE left out",
    ]
    with pytest.raises(InputError, match=r"cannot be split by the Penn Treebank tokenizer: it needs Java"):
        scored(tokenizer="ptb")


def test_a_java_that_only_tells_how_to_install_it_is_none(tmp_path, monkeypatch):
    program = tmp_path / "java"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert not metrics.has_java()


@pytest.mark.slow
def test_meteor_runs():
    needs_java_and_library()
    found = metrics.score_captions({1: "The red cat sleeps.", 2: "a dog"}, REFERENCES, ("METEOR",))
    assert (found.tokenizer, found.absent) == ("ptb", {})
    same, other = found.by_image["METEOR"]
    assert same == pytest.approx(1.0)  # the words of its reference
    assert 0 < other < 0.6


def test_spice_without_corenlp_says_how_to_fetch_it(monkeypatch):
    needs_java_and_library()
    monkeypatch.setattr(metrics, "SPICE_JAR", metrics.Path("absent.jar"))
    found = scored(wanted=("SPICE", "CIDEr"))
    assert list(found.metrics) == ["CIDEr"]
    assert found.absent["SPICE"].endswith("online: python -m pycocoevalcap.spice.get_stanford_models")


def test_a_failing_java_program_leaves_its_metric_out(monkeypatch):
    pytest.importorskip("pycocoevalcap")

    class Broken:
        lock = threading.Lock()

        def compute_score(self, references, captions):
            self.lock.acquire()  # as the library does, which does not give it back then
            raise BrokenPipeError("it has ended")

    monkeypatch.setattr(importlib.import_module("pycocoevalcap.meteor.meteor"), "Meteor", Broken)
    monkeypatch.setattr(metrics, "has_java", lambda: True)
    found = scored(wanted=("METEOR", "CIDEr"), tokenizer="own")
    assert found.absent == {"METEOR": "its Java program failed: it has ended"}
    assert not Broken.lock.locked()


def test_empty_captions_score_nothing_and_are_counted():
    pytest.importorskip("pycocoevalcap")
    captions = {1: "the red cat sleeps", 2: " ."}
    found = metrics.score_captions(captions, REFERENCES, ("BLEU-4", "ROUGE-L", "CIDEr"), "own")
    assert found.num_empty == 1
    assert found.by_image["ROUGE-L"][1] == found.by_image["CIDEr"][1] == 0
    assert found.by_image["CIDEr"][0] > 0


def test_captions_and_references_must_fit():
    extra = metrics.score_captions(CAPTIONS | {3: "a", 9: "b"}, REFERENCES, ("CIDEr",), "own")
    assert extra.num_without_references == 2
    with pytest.raises(InputError, match=r"must have a caption, but 1 of 2 have none, the first 2"):
        metrics.score_captions({1: "a"}, REFERENCES, ("CIDEr",), "own")
    with pytest.raises(InputError, match=r"no image has any; name another split"):
        metrics.score_captions(CAPTIONS, {1: []}, ("CIDEr",), "own")
    with pytest.raises(InputError, match=r"references must have words, but image 1 has none with any"):
        metrics.score_captions({1: "a"}, {1: ["!", "."]}, ("CIDEr",), "own")
    with pytest.raises(InputError, match=r"metric must be one of .*; did you mean 'CIDEr'\?"):
        scored(wanted=("CIDER",))
    with pytest.raises(InputError, match=r"tokenizer of captions must be one of ptb, own, auto, got 'none'"):
        scored(tokenizer="none")


# Result files.

NAME = "captions_val2014_ours_results.json"


def test_results_are_read_as_they_were_written(tmp_path):
    write_results(tmp_path / NAME, {7: "a dog", 3: "a café"})
    text = (tmp_path / NAME).read_text(encoding="utf-8")
    assert text == '[{"image_id": 3, "caption": "a café"}, {"image_id": 7, "caption": "a dog"}]\n'
    assert read_results(tmp_path / NAME) == {3: "a café", 7: "a dog"}
    assert validate_results(tmp_path / NAME, [3, 7]) == ([], [])


def test_validation_names_every_kind_of_fault(tmp_path):
    items = [
        {"image_id": 1, "caption": "a dog", "perplexity": 3.0},
        {"image_id": 1, "caption": "a cat"},
        {"image_id": 2, "caption": " . "},
        {"image_id": 9, "caption": "a bird"},
        {"image_id": "4", "caption": "a bird"},
        {"image_id": 5, "caption": None},
        "a bird",
    ]
    path = write_json(tmp_path / "mine.json", items)
    problems, warnings = validate_results(path, [1, 2, 3, 4])
    assert [str(problem) for problem in problems] == [
        f"{path}: item 1: every image must have one caption, got image_id 1 again",
        f"{path}: item 4: image_id must be a whole number from 0 to 2^63, got '4'",
        f"{path}: item 5: caption must be a text, got None",
        f"{path}: item 6: items must be objects with 'image_id' and 'caption', got 'a bird'",
        f"{path}: image ids must be of the split, got 1 where it is not so: 9",
        f"{path}: every image must have a caption, got 2 where it is not so: 3, 4",
        f"{path}: every caption must have words, got 1 where it is not so: 2",
    ]
    assert "captions_{val2014,test2014}_<name>_results.json, got 'mine.json'" in str(warnings[0])
    with pytest.raises(
        InputError, match=r"item 1: every image must have one caption, got image_id 1 again \(in all: 1"
    ):
        read_results(path)


def test_results_must_be_a_list(tmp_path):
    with pytest.raises(InputError, match=r"must be a JSON list of objects with 'image_id' and 'caption'"):
        read_results(write_json(tmp_path / NAME, {"image_id": 1, "caption": "a"}))
    with pytest.raises(InputError, match=r"does not exist"):
        read_results(tmp_path / "absent.json")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_a_stop_while_meteor_runs_leaves_no_lock_that_its_end_waits_for(monkeypatch, stop):
    class Meteor:
        lock = threading.Lock()

        def compute_score(self, references, captions):
            self.lock.acquire()
            raise stop("in its midst")

    monkeypatch.setattr(metrics, "has_java", lambda: True)
    monkeypatch.setattr(metrics, "_library", lambda name: SimpleNamespace(Meteor=Meteor))
    with pytest.raises((KeyboardInterrupt, metrics._AbsentError)):
        metrics._meteor({1: ["a b"]}, {1: ["a b"]})
    assert not Meteor.lock.locked()
