"""Corpus BLEU-4 as EnvDrop's speaker is selected by (specification 6.2).

Own code although sacrebleu is at hand: sacrebleu's brevity penalty takes the reference closest in length, EnvDrop's
the shortest one (P19), and sacrebleu splits at white space, which a few of our tokens hold.
"""

import math
from collections import Counter
from collections.abc import Sequence

ORDER = 4


def corpus_bleu(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> float:
    """Return BLEU-4 of a corpus, unsmoothed, in [0, 1].

    Args:
        candidates: tokens of each generated sentence.
        references: for each candidate the tokens of its references, at least one.
    """
    matches, totals = [0] * ORDER, [0] * ORDER
    for candidate, group in zip(candidates, references, strict=True):
        for order in range(ORDER):
            allowed: Counter[tuple[str, ...]] = Counter()
            for reference in group:
                allowed |= _ngrams(reference, order + 1)
            counts = _ngrams(candidate, order + 1)
            matches[order] += (counts & allowed).total()
            totals[order] += counts.total()
    if not all(matches):
        return 0.0
    precision = math.exp(sum(math.log(match / total) for match, total in zip(matches, totals, strict=True)) / ORDER)
    ratio = sum(map(len, candidates)) / max(1, sum(min(map(len, group)) for group in references))
    return precision * min(1.0, math.exp(1 - 1 / ratio))


def _ngrams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    """Count the n-grams of one order."""
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))
