"""Beam search of all images at once against a plain one that follows specification 3.5 line by line."""

import math

import pytest
import torch

from tests.captioner import build, grids, half_taught
from vln_clip.errors import InputError
from vln_clip.tasks.captioning.models import beam
from vln_clip.tasks.captioning.models.beam import beam_search, length_divisor
from vln_clip.tasks.captioning.models.decoding import greedy

MAX_WORDS = 8


def next_words(model, memory, words):
    """Log-probabilities after some words of one image, from the whole prefix."""
    with torch.no_grad():
        return torch.log_softmax(model.decode(memory, torch.tensor([[[0, *words]]]))[0, 0, -1], -1).tolist()


def plain_beam_search(model, memory, beam_size, unknown=None, divide=lambda score, count: score):
    """One image, no cache, no early end; returns words and score of the best stored beam."""
    beams, stored = [((), 0.0)], []
    for now in range(MAX_WORDS):
        candidates = []
        for words, score in beams:
            for word, log_prob in enumerate(next_words(model, memory, words)):
                candidates.append(((*words, word), score + log_prob - (1000 if word == unknown else 0)))
        candidates.sort(key=lambda candidate: -candidate[1])
        beams = []
        for words, score in candidates[:beam_size]:
            ends = words[-1] == 0 or now == MAX_WORDS - 1
            if ends:
                stored.append((words, divide(score, now + 1)))
            beams.append((words, score - 1000 if ends else score))
    return max(stored, key=lambda entry: entry[1])


def padded(words):
    return [*words, *[0] * (MAX_WORDS - len(words))]


PENALTIES = {
    "": lambda score, count: score,
    "avg": lambda score, count: score / count,
    "wu_0.8": lambda score, count: score / (((5 + count) / 6) ** 0.8),
}


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("unknown", [None, 9])
@pytest.mark.parametrize(("beam_size", "seed"), [(5, 0), (3, 2), (12, 2), (2, 0)])
def test_captions_are_those_of_the_plain_search(beam_size, seed, unknown, penalty):
    model = half_taught(seed)
    memory = model.encode(grids(4))
    found = beam_search(model, memory, beam_size, unknown=unknown, max_words=MAX_WORDS, length_penalty=penalty)
    assert found.tokens.shape == found.log_prob.shape == (4, 1, MAX_WORDS)
    for image in range(4):
        words, score = plain_beam_search(model, memory[image : image + 1], beam_size, unknown, PENALTIES[penalty])
        assert found.tokens[image, 0].tolist() == padded(words)
        total = found.log_prob[image, 0].sum().item()
        assert PENALTIES[penalty](total, len(words)) == pytest.approx(score, rel=1e-5)


def test_images_say_different_things_and_end_at_different_words():
    """The comparison above would be worth little otherwise."""
    model = half_taught()
    tokens = beam_search(model, model.encode(grids()), 3, unknown=None, max_words=MAX_WORDS).tokens[:, 0]
    assert len({tuple(row) for row in tokens.tolist()}) >= 3
    assert len(set((tokens != 0).sum(1).tolist())) >= 2


@pytest.mark.parametrize("seed", [0, 2])
def test_a_beam_of_one_is_greedy(seed):
    model = half_taught(seed)
    memory = model.encode(grids())
    wanted = greedy(model, memory, MAX_WORDS)
    found = beam_search(model, memory, 1, unknown=None, max_words=MAX_WORDS)
    assert found.tokens.tolist() == wanted.tokens.tolist()
    torch.testing.assert_close(found.log_prob.double(), wanted.log_prob, atol=1e-5, rtol=1e-5)


def test_a_caption_does_not_depend_on_the_batch_it_sits_in():
    model = half_taught()
    memory = model.encode(grids(6))
    together = beam_search(model, memory, unknown=9, max_words=MAX_WORDS)
    for image in range(6):
        alone = beam_search(model, memory[image : image + 1], unknown=9, max_words=MAX_WORDS)
        assert alone.tokens.tolist() == together.tokens[image : image + 1].tolist()


def scripted(table):
    """A model that says what a table of log-probabilities by prefix tells; index 0 ends."""

    class State:
        def __init__(self, count):
            self.words = [[] for _ in range(count)]

        def follow(self, parents):
            self.words = [list(self.words[parent]) for parent in parents[0].tolist()]

        def take(self, images):
            raise AssertionError("there is only one image")

    class Model:
        vocabulary_size = 3

        def begin(self, memory, num_captions, max_words):
            self.first = True
            return State(num_captions)

        def step(self, word, state):
            if not self.first:
                for words, new in zip(state.words, word[0].tolist(), strict=True):
                    words.append(new)
            self.first = False
            rows = [table.get(tuple(words), [0.5, 0.25, 0.25]) for words in state.words]
            return torch.tensor([rows]).log()

    return Model()


# Beam of two over the words 1 and 2. First: 1 with 0.6, 2 with 0.4. Then "1 end" has 0.6 · 0.3 = 0.18, "2 end" has
# 0.4 · 0.9 = 0.36, "1 1" 0.6 · 0.4 = 0.24, "1 2" 0.18: the two best are "2 end" and "1 1"; at the third word "1 1"
# ends with 0.24 · 0.5 = 0.12. "2 end" wins although 1 was likelier at first. By the mean of logs, log 0.36 / 2 is
# -0.511 and log 0.12 / 3 is -0.707: "2 end" again; if "1 1 end" is sure, log 0.24 / 3 = -0.476 wins.
@pytest.mark.parametrize(
    ("last", "penalty", "wanted", "score"),
    [
        (0.5, "", [2, 0, 0], math.log(0.36)),
        (0.5, "avg", [2, 0, 0], math.log(0.36)),
        (1.0, "", [2, 0, 0], math.log(0.36)),
        (1.0, "avg", [1, 1, 0], math.log(0.24)),
    ],
)
def test_the_best_stored_beam_wins(last, penalty, wanted, score):
    rest = (1 - last) / 2
    table = {(): [0.0, 0.6, 0.4], (1,): [0.3, 0.4, 0.3], (2,): [0.9, 0.05, 0.05], (1, 1): [last, rest, rest]}
    found = beam_search(scripted(table), torch.zeros(1, 1, 1), 2, unknown=None, max_words=3, length_penalty=penalty)
    assert found.tokens.tolist() == [[wanted]]
    assert found.log_prob.sum().item() == pytest.approx(score, rel=1e-5)


def test_the_unknown_word_is_said_only_where_it_is_allowed():
    table = {(): [0.0, 0.1, 0.9], (2,): [1.0, 0.0, 0.0], (1,): [1.0, 0.0, 0.0]}
    said = [
        beam_search(scripted(table), torch.zeros(1, 1, 1), 2, unknown=unknown, max_words=3).tokens.tolist()
        for unknown in (None, 2)
    ]
    assert said == [[[[2, 0, 0]]], [[[1, 0, 0]]]]


def test_a_beam_that_never_ends_is_taken_at_the_last_word():
    # The end has probability 0 everywhere; 2 is likelier than 1 at every word.
    table = {words: [0.0, 0.3, 0.7] for words in [(), (1,), (2,), (1, 1), (1, 2), (2, 1), (2, 2)]}
    found = beam_search(scripted(table), torch.zeros(1, 1, 1), 2, unknown=None, max_words=3)
    assert found.tokens.tolist() == [[[2, 2, 2]]]
    assert found.log_prob.sum().item() == pytest.approx(3 * math.log(0.7), rel=1e-5)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_taking_settled_images_out_of_the_batch_changes_nothing(share, monkeypatch):
    model = half_taught()
    memory = model.encode(grids(7))
    wanted = beam_search(model, memory, 3, unknown=None, max_words=MAX_WORDS)
    monkeypatch.setattr(beam, "TAKE_SHARE", share)
    found = beam_search(model, memory, 3, unknown=None, max_words=MAX_WORDS)
    assert found.tokens.tolist() == wanted.tokens.tolist()


# ((5 + 7) / 6)^0.5 = √2; (5 + 1) / 6 = 1 whatever α.
@pytest.mark.parametrize(
    ("name", "num_words", "wanted"),
    [("", 7, 1.0), ("avg", 7, 7.0), ("avg_0", 4, 4.0), ("wu_0.5", 7, math.sqrt(2)), ("wu_3", 1, 1.0), ("wu_0", 9, 1.0)],
)
def test_length_divisor(name, num_words, wanted):
    assert length_divisor(name)(num_words) == pytest.approx(wanted)


@pytest.mark.parametrize("name", ["wu", "wu_", "wu_-1", "wu_nan", "wu_inf", "wu_x", "avg_x", "mean", "_"])
def test_unknown_length_penalties_are_refused(name):
    with pytest.raises(InputError, match=r"length penalty must be empty, avg or wu_α .* got "):
        length_divisor(name)


@pytest.mark.parametrize("beam_size", [0, 13])
def test_beams_must_fit_the_vocabulary(beam_size):
    model = build()
    with pytest.raises(ValueError, match=f"from 1 to the vocabulary's 12, got {beam_size}"):
        beam_search(model, model.encode(grids(1)), beam_size, unknown=None)
