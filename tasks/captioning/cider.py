"""CIDEr-D of index tensors as the reward of self-critical training, and of texts as pycocoevalcap scores them.

All captions of a batch are scored together on their device: two n-grams are compared as two integers, and sums over
places stand for sums over different n-grams. The formula is specification 3.4's. Axes as in ``table``; ``P`` words of
a candidate, ``Q`` words of a reference.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vln_clip.tasks.captioning.ngrams import ORDERS, NgramCounts, base_for, count_ngrams, pack
from vln_clip.tasks.captioning.vocabulary import END

SIGMA = 6.0
SCALE = 10.0
OUTSIDE, ELSEWHERE = -1, -2  # no n-grams; different, so that fillers of captions and references never match
MAX_COMPARISONS, MAX_PART = 1 << 21, 256  # of words, and images, at a time when texts are scored


class CiderD:
    """Scores captions with the document frequencies of a corpus.

    Args:
        counts: of the training captions.
        device: where scores are computed.
    """

    def __init__(self, counts: NgramCounts, device: torch.device | str = "cpu"):
        self._ngrams = torch.from_numpy(counts.ngrams).to(device)
        log_count = np.log(counts.num_images_with.astype(np.float64))
        self._weight = torch.from_numpy(math.log(counts.num_images) - log_count).to(device)
        self._unseen = math.log(counts.num_images)
        self._base = counts.base

    def __call__(self, candidates: Tensor, references: Tensor, reference_mask: Tensor) -> Tensor:
        """Score index rows; each counts up to its first 0, which is a word, or whole where it has none.

        Args:
            candidates: (B, S, P) int64, samples and greedy captions of B images.
            references: (B, R, Q) int64 label rows of the same images.
            reference_mask: (B, R) bool, True for real references; at least one per image.

        Returns:
            Scores (B, S) float64, from 0 to 10.
        """
        lengths = _length_with_end(candidates), _length_with_end(references)
        return self.score(candidates, references, *lengths, reference_mask)

    def score(
        self, candidates: Tensor, references: Tensor, num_words: Tensor, num_reference_words: Tensor, mask: Tensor
    ) -> Tensor:
        """Score rows of given lengths (B, S) and (B, R); else as for calls."""
        total = torch.zeros((*num_words.shape, mask.shape[1]), dtype=torch.float64, device=candidates.device)
        for order in ORDERS:
            total += self._similarity(order, candidates, references, num_words, num_reference_words)
        bigrams, reference_bigrams = (num_words - 1).clamp(min=0), (num_reference_words - 1).clamp(min=0)
        difference = (bigrams[:, :, None] - reference_bigrams[:, None]).double()  # (B, S, R)
        scores = total * torch.exp(-(difference**2) / (2 * SIGMA**2)) * mask[:, None]
        return SCALE / len(ORDERS) * scores.sum(2) / mask.sum(1)[:, None]

    def _similarity(
        self, order: int, candidates: Tensor, references: Tensor, num_words: Tensor, num_reference_words: Tensor
    ) -> Tensor:
        """Return the clipped cosine of tf-idf vectors of one order, (B, S, R)."""
        own, times, idf = self._packed(order, candidates, num_words, OUTSIDE)  # (B, S, P)
        other, other_times, other_idf = self._packed(order, references, num_reference_words, ELSEWHERE)  # (B, R, Q)
        there = (own[:, :, None, :, None] == other[:, None, :, None, :]).sum(-1)  # (B, S, R, P)
        # Every n-gram stands at as many places as it occurs, so each place takes its part of the sum.
        clipped = torch.minimum(there, times[:, :, None]) * there / times[:, :, None].clamp(min=1).double()
        square, other_square = idf * idf, other_idf * other_idf
        product = (clipped * square[:, :, None]).sum(-1)  # (B, S, R)
        norm = (times * square).sum(-1).sqrt()[:, :, None] * (other_times * other_square).sum(-1).sqrt()[:, None]
        return torch.where(norm > 0, product / norm.where(norm > 0, 1.0), 0.0)

    def _packed(self, order: int, rows: Tensor, num_words: Tensor, filler: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return n-grams of rows (…, L), how often each occurs in its row, and its idf; all (…, L - order + 1).

        Places behind the last word hold the filler, which occurs 0 times and has idf 0.
        """
        packed = pack(rows, order, self._base)
        mask = torch.arange(packed.shape[-1], device=rows.device) + order <= num_words[..., None]
        packed = torch.where(mask, packed, filler)
        times = (packed[..., :, None] == packed[..., None, :]).sum(-1) * mask
        return packed, times, self._idf(packed, mask)

    def _idf(self, packed: Tensor, mask: Tensor) -> Tensor:
        """Return log(images / images with the n-gram), float64; 0 outside."""
        if not len(self._ngrams):
            return mask * self._unseen
        place = torch.searchsorted(self._ngrams, packed).clamp(max=len(self._ngrams) - 1)
        weight = torch.where(self._ngrams[place] == packed, self._weight[place], self._unseen)
        return torch.where(mask, weight, 0.0)


def _length_with_end(rows: Tensor) -> Tensor:
    """Return how many tokens stand before and at the first 0 of rows (…, L)."""
    return ((rows == END).cumsum(-1) == 0).sum(-1).add(1).clamp(max=rows.shape[-1])


def score_texts(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, np.ndarray]:
    """Return CIDEr-D of texts with the document frequencies of their references, as pycocoevalcap's ``Cider`` does.

    Args:
        candidates: one caption per image, words separated by white space.
        references: for each image at least one.

    Returns:
        The mean and (N,) float64 scores, from 0 to 10.
    """
    if not candidates:
        raise ValueError("candidates must be at least one caption, got none")
    groups = [[text.split() for text in group] for group in references]
    own = [text.split() for text in candidates]
    index: dict[str, int] = {}
    flat, length = _number([words for group in groups for words in group], index)
    own_flat, own_length = _number(own, index)
    base = base_for(len(index))
    count = np.array([len(group) for group in groups])
    owner = np.repeat(np.arange(len(groups)), count)
    scorer = CiderD(NgramCounts(*count_ngrams(flat, length, owner, base), len(groups), base, ""))
    starts, own_starts = np.cumsum(length) - length, np.cumsum(own_length) - own_length
    scores = np.zeros(len(own))
    longest = np.maximum(own_length, np.maximum.reduceat(length, np.cumsum(count) - count))
    for part in _parts(longest, int(count.max())):
        first = np.cumsum(count)[part] - count[part]
        place = np.arange(count[part].max())
        mask = place < count[part][:, None]
        chosen = first[:, None] + np.where(mask, place, 0)
        rows = _rows(own_flat, own_starts[part], own_length[part])[:, None]
        others = _rows(flat, starts[chosen.ravel()], length[chosen.ravel()]).reshape(*chosen.shape, -1)
        given = rows, others, own_length[part][:, None], length[chosen], mask
        scores[part] = scorer.score(*map(torch.from_numpy, given)).numpy()[:, 0]
    return float(scores.mean()), scores


def _number(captions: Sequence[Sequence[str]], index: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Number words in the order of their first occurrence; return all numbers and the captions' lengths, int64."""
    numbers = (index.setdefault(word, len(index)) for words in captions for word in words)
    return np.fromiter(numbers, np.int64), np.fromiter(map(len, captions), np.int64, len(captions))


def _rows(flat: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return captions as rows padded with 0, (n, L) int64, L at least 1."""
    place = np.arange(max(1, length.max()))
    inside = place < length[:, None]
    return np.where(inside, flat[np.where(inside, start[:, None] + place, 0)] if len(flat) else 0, 0)


def _parts(longest: np.ndarray, most_references: int) -> list[np.ndarray]:
    """Split images into parts of similar lengths, (n,) each, small enough to be compared at once."""
    order = np.argsort(longest, kind="stable")
    parts, begin = [], 0
    while begin < len(order):
        size = min(MAX_PART, len(order) - begin)
        while size > 1 and size * most_references * longest[order[begin + size - 1]] ** 2 > MAX_COMPARISONS:
            size //= 2
        parts.append(order[begin : begin + size])
        begin += size
    return parts
