import math
from collections import Counter

import numpy as np
import pytest
import torch

from tests.toy_captions import toy_images
from vln_clip.errors import InputError
from vln_clip.tasks.captioning import ngrams
from vln_clip.tasks.captioning.cider import CiderD, score_texts
from vln_clip.tasks.captioning.ngrams import NgramCounts, base_for, pack
from vln_clip.tasks.captioning.table import CaptionTable
from vln_clip.tasks.captioning.vocabulary import CaptionVocabulary

# Two images, "a b" and "c d": every word and bigram is in one of two, its idf is log 2, which cosines do not show.
PAIR = [["a b"], ["c d"]]
PENALTY = math.exp(-1 / 72)  # of one bigram more or less
BY_HAND = {
    "a b": 10 * (1 + 1) / 4,  # both words, the bigram; no three words
    "a a": 2.5 * 1 / (2 * math.sqrt(2)),  # (2, 0) against (1, 1): min(2, 1) · 1 / (2 · √2); bigram "a a" is another
    "b a": 2.5,  # both words alone
    "a b x": 2.5 * (2 / math.sqrt(6) + 1 / math.sqrt(2)) * PENALTY,
    "c d": 0.0,
    "": 0.0,
}


@pytest.mark.parametrize("caption", BY_HAND)
def test_texts_score_as_by_hand(caption):
    mean, scores = score_texts([caption, ""], PAIR)
    assert scores == pytest.approx([BY_HAND[caption], 0], abs=1e-12)
    assert mean == pytest.approx(BY_HAND[caption] / 2)


def test_several_references_are_averaged():
    # "a b" is the first reference and has nothing of the second: (5 + 0) / 2. "c d" is in the other image alone.
    assert score_texts(["a b", "c d"], [["a b", "e f"], ["c d"]])[1] == pytest.approx([2.5, 5])


def random_corpus(num_images=300, num_words=400):
    rng = np.random.default_rng(5)
    share = 1 / np.arange(1, num_words + 1)

    def caption():
        return [f"w{n}" for n in rng.choice(num_words, rng.integers(1, 25), p=share / share.sum())]

    references = [[caption() for _ in range(rng.integers(1, 8))] for _ in range(num_images)]
    captions = [caption() for _ in range(num_images)]
    for image in range(0, num_images, 3):  # parts of references, said twice, so that clipping and long n-grams matter
        captions[image] = references[image][0][: rng.integers(1, 9)] * 2
    captions[7] = []
    captions[8] = caption() * 15
    return captions, references


def test_texts_score_as_pycocoevalcap(monkeypatch):
    cider = pytest.importorskip("pycocoevalcap.cider.cider")
    captions, references = random_corpus()
    texts = [" ".join(words) for words in captions]
    groups = [[" ".join(words) for words in group] for group in references]
    mean, scores = score_texts(texts, groups)
    expected = cider.Cider().compute_score(dict(enumerate(groups)), {i: [text] for i, text in enumerate(texts)})
    assert mean == pytest.approx(expected[0], abs=1e-12)
    np.testing.assert_allclose(scores, expected[1], rtol=0, atol=1e-12)
    monkeypatch.setattr(ngrams, "MAX_EXACT", 100)  # more words than that are hashed
    np.testing.assert_allclose(score_texts(texts, groups)[1], expected[1], rtol=0, atol=1e-12)


def vocabulary_of(captions):
    return CaptionVocabulary([*dict.fromkeys(word for words in captions for word in words), "UNK"])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        # "a b <end>", as the reference: all of "a b 0", four words do not occur. The end is in both images: idf 0.
        ([1, 2, 0, 0], 7.5),
        ([1, 2, 0, 3], 7.5),  # nothing behind the first 0 counts
        # Without an end: words match; of the bigrams (a b, b 0) one, 1 / (1 · √2); no trigram; one bigram less.
        ([1, 2], 2.5 * (1 + 1 / math.sqrt(2)) * PENALTY),
        ([0, 1, 2, 0], 0),  # nothing but an end
    ],
)
def test_the_end_is_a_word_of_index_rows(row, expected):
    images = toy_images({"train": ["a b"], "restval": ["c d"]})
    vocabulary = vocabulary_of(["abcd"])
    references, mask = CaptionTable.build(images, vocabulary).references(torch.tensor([0]))
    scorer = CiderD(NgramCounts.build(images, vocabulary))
    assert scorer(torch.tensor([[row]]), references, mask).item() == pytest.approx(expected, abs=1e-12)


def test_counts_are_of_images_with_ends_and_unknown_words():
    # Three images. "a" is in all, the end too, "a b" in the first two; "x" and "y" are unknown and one word, index 3.
    images = toy_images({"train": ["a b", "a b"], "restval": ["a b x"], "val": ["a y"]})
    counts = NgramCounts.build(images, CaptionVocabulary(["a", "b", "UNK"]))
    found = dict(zip(counts.ngrams.tolist(), counts.num_images_with.tolist(), strict=True))

    def of(*words):
        return found[pack(torch.tensor(words), len(words), counts.base).item()]

    assert counts.num_images == 3
    assert (of(1), of(0), of(2), of(3)) == (3, 3, 2, 2)
    assert (of(1, 2), of(2, 0), of(1, 2, 0), of(1, 2, 3, 0), of(3, 0)) == (2, 1, 1, 1, 2)
    # 1-grams a b x 0; 2-grams ab, b0, bx, x0, ax; 3-grams ab0, abx, bx0, ax0; 4-gram abx0
    assert len(found) == 4 + 5 + 4 + 1


def test_counts_are_of_whole_captions_and_labels_are_cut():
    images = toy_images({"train": [" ".join("a" * 20) + " b"], "val": ["c"]})
    vocabulary = vocabulary_of(["abc"])
    counts = NgramCounts.build(images, vocabulary)
    assert pack(torch.tensor([1, 2, 0]), 3, counts.base).item() in counts.ngrams
    assert CaptionTable.build(images, vocabulary).labels[0].tolist() == [1] * 16


def plain_cider(candidate, references, frequency, num_images):
    """Score one caption as the formula is written, with dictionaries."""

    def vectors(words):
        grams = [Counter(zip(*(words[k:] for k in range(n)), strict=False)) for n in (1, 2, 3, 4)]
        idf = [{g: math.log(num_images) - math.log(max(1, frequency[g])) for g in counts} for counts in grams]
        return [{g: tf * idf[n][g] for g, tf in counts.items()} for n, counts in enumerate(grams)]

    total = 0.0
    for reference in references:
        for own, other in zip(vectors(candidate), vectors(reference), strict=True):
            norm = math.sqrt(sum(v * v for v in own.values()) * sum(v * v for v in other.values()))
            product = sum(min(v, other.get(g, 0)) * other.get(g, 0) for g, v in own.items())
            difference = max(0, len(candidate) - 1) - max(0, len(reference) - 1)
            total += (product / norm if norm else 0) * math.exp(-(difference**2) / 72)
    return 10 * total / 4 / len(references)


def test_rewards_are_those_of_the_formula_on_the_training_counts():
    _, groups = random_corpus(60, 90)
    images = toy_images({str(n): [" ".join(words) for words in group] for n, group in enumerate(groups)})
    vocabulary = CaptionVocabulary([f"w{n}" for n in range(70)] + ["UNK"])
    table = CaptionTable.build(images, vocabulary)
    counts = NgramCounts.build(images, vocabulary)
    frequency = Counter()
    for image in images:
        ended = [[*vocabulary.encode([words])[0].tolist(), 0] for words in image.words]
        frequency.update({tuple(w[k : k + n]) for w in ended for n in (1, 2, 3, 4) for k in range(len(w) - n + 1)})
    generator = torch.Generator().manual_seed(1)
    chosen = torch.randperm(60, generator=generator)[:10]
    references, mask = table.references(chosen)
    samples = torch.randint(0, vocabulary.size, (10, 6, 20), generator=generator)
    samples[:, :3, :16] = references[:, :1]  # some that score
    scores = CiderD(counts)(samples, references, mask)
    assert scores.shape == (10, 6)

    def words_of(row):
        row = row.tolist()
        return row[: row.index(0) + 1] if 0 in row else row

    for b in range(10):
        own = [words_of(row) for row in references[b][mask[b]]]
        for s in range(6):
            expected = plain_cider(words_of(samples[b, s]), own, frequency, len(images))
            assert scores[b, s].item() == pytest.approx(expected, abs=1e-9)
    assert (scores[:, :3] > 1).any()


def test_padding_of_references_changes_nothing():
    images = toy_images()
    vocabulary = vocabulary_of(["abcde"])
    table, scorer = CaptionTable.build(images, vocabulary), CiderD(NgramCounts.build(images, vocabulary))
    rows = torch.tensor([[[1, 2, 0, 0]], [[1, 4, 0, 0]]])
    together = scorer(rows, *table.references(torch.tensor([0, 1])))  # 3 references and 1
    alone = torch.cat([scorer(rows[k : k + 1], *table.references(torch.tensor([k]))) for k in range(2)])
    assert torch.equal(together, alone)
    assert (together > 0).all()


def test_packed_ngrams_are_different():
    tokens = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 32766], [32766, 0, 0, 0], [1, 2, 3, 4], [4, 3, 2, 1]])
    packed = torch.cat([pack(tokens, order, base_for(32767)).reshape(-1) for order in (1, 2, 3, 4)])
    different = {tuple(row[k : k + n]) for row in tokens.tolist() for n in (1, 2, 3, 4) for k in range(5 - n)}
    assert len(set(packed.tolist())) == len(different)


def test_counts_are_read_as_they_were_written(tmp_path):
    vocabulary = vocabulary_of(["abcde"])
    counts = NgramCounts.build(toy_images(), vocabulary)
    counts.write(tmp_path / "n.safetensors")
    found = NgramCounts.read(tmp_path / "n.safetensors", vocabulary)
    assert (found.num_images, found.base) == (4, counts.base)
    np.testing.assert_array_equal(found.ngrams, counts.ngrams)
    np.testing.assert_array_equal(found.num_images_with, counts.num_images_with)
    with pytest.raises(InputError, match=r"n\.safetensors are of another vocabulary; compute them again"):
        NgramCounts.read(tmp_path / "n.safetensors", vocabulary_of(["edcba"]))


def test_the_public_pickle_is_not_loaded(tmp_path):
    (tmp_path / "coco-train-idxs.p").write_bytes(b"cos\nmkdir\n(S'harm'\ntR.")
    with pytest.raises(InputError, match=r"coco-train-idxs\.p is a pickle, which can run code .* computed again"):
        NgramCounts.read(tmp_path / "coco-train-idxs.p", vocabulary_of(["a"]))
