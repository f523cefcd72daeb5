"""How sure a score is: groups, bootstrap intervals, and the paired comparison of two agents.

The unit that is resampled is the path, not the instruction. Several instructions describe one path (3 in R2R, up to
9 in RxR), and an agent that fails on one of them tends to fail on the others; resampling single instructions would
take them for independent and report intervals that are too narrow. The intervals speak for other paths in the same
buildings and for this one trained agent: not for other buildings (val_unseen has 11) and not for other training
seeds. Nothing is corrected for looking at many metrics.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vln_clip.tasks.groups import natural
from vln_clip.tasks.metrics import METRICS, NAV_ERROR, SUCCESS_RATE, Scores, summarize

RESAMPLES = 10_000
CONFIDENCE = 0.95
MIN_CLUSTERS = 10  # percentile intervals over fewer paths are much too narrow: none is given
CHUNK_ENTRIES = 2**19  # of the tables that are drawn at once: bounds the memory

Interval = tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """Scores of an agent minus those of a baseline on the same N instructions.

    Attributes:
        difference: mean per metric.
        ci: 95 % interval of that mean; empty with fewer than ``MIN_CLUSTERS`` paths.
        p: two-sided p-value per metric, of the hypothesis that both agents are interchangeable on every path.
        wins: instructions on which only the agent succeeds.
        losses: instructions on which only the baseline succeeds.
        ties: the others.
    """

    difference: dict[str, float]
    ci: dict[str, Interval]
    p: dict[str, float]
    wins: int
    losses: int
    ties: int


def select(scores: Scores, rows: np.ndarray) -> Scores:
    """Return the scores at rows: indices or a mask."""
    return {name: values[rows] for name, values in scores.items()}


def summarize_by(scores: Scores, keys: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the mean of every metric per group.

    Args:
        scores: N instructions.
        keys: (N,) group of each.

    Returns:
        ``{key: {metric: value}}`` with ``num_instructions`` in each, in the natural order of the keys.
    """
    return {key: summarize(select(scores, rows)) for key, rows in group_rows(keys).items()}


def group_rows(keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the rows of each group, in the natural order of the keys."""
    names, group = np.unique(np.asarray(keys), return_inverse=True)
    order = sorted(range(len(names)), key=lambda k: natural(str(names[k])))
    return {str(names[k]): np.flatnonzero(group == k) for k in order}


def intervals(
    scores: Scores, clusters: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """Return the 95 % percentile bootstrap interval of every metric's mean.

    Args:
        scores: N instructions.
        clusters: (N,) path of each; whole paths are drawn, with replacement.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        ``{metric: (low, high)}``; empty with fewer than ``MIN_CLUSTERS`` paths.
    """
    sums, sizes = _cluster_sums(scores, clusters)
    return _intervals(sums, sizes, resamples, seed)


def compare(
    scores: Scores, baseline: Scores, clusters: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> Comparison:
    """Compare an agent with a baseline, instruction by instruction.

    The interval is a bootstrap over paths of the paired differences; the p-value flips the sign of whole paths, for
    all combinations where there are at most ``resamples``, else for that many drawn ones.

    Args:
        scores: of the agent, N instructions.
        baseline: of the other agent, on the same instructions in the same order.
        clusters: (N,) path of each.
        resamples: number of draws.
        seed: of the draws.
    """
    assert len(scores[NAV_ERROR]) == len(baseline[NAV_ERROR]) == len(clusters), "instructions must be paired"
    differences = {name: scores[name] - baseline[name] for name in METRICS}
    sums, sizes = _cluster_sums(differences, clusters)
    p = _sign_flip_p(sums, resamples, seed)
    success = differences[SUCCESS_RATE]
    return Comparison(
        {name: float(values.mean()) for name, values in differences.items()},
        _intervals(sums, sizes, resamples, seed),
        dict(zip(METRICS, p.tolist(), strict=True)),
        int((success > 0).sum()),
        int((success < 0).sum()),
        int((success == 0).sum()),
    )


def _cluster_sums(scores: Scores, clusters: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of every metric over each path, (G, M), and the instructions of each, (G,)."""
    _, cluster = np.unique(np.asarray(clusters), return_inverse=True)
    return np.stack([np.bincount(cluster, scores[name]) for name in METRICS], 1), np.bincount(cluster)


def _intervals(sums: np.ndarray, sizes: np.ndarray, resamples: int, seed: int) -> dict[str, Interval]:
    """Return the interval of every metric's mean from sums (G, M) and sizes (G,) of the paths."""
    G, rng = len(sizes), np.random.default_rng(seed)
    if G < MIN_CLUSTERS:
        return {}
    columns = np.column_stack([sums, sizes]).astype(np.float64)  # (G, M + 1)
    totals = []
    for count in _chunks(resamples, G):
        drawn = rng.integers(G, size=(count, G)) + G * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * G).reshape(count, G)
        totals.append(times.astype(np.float64) @ columns)
    total = np.concatenate(totals)  # (resamples, M + 1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(total[:, :-1] / total[:, -1:], [tail, 1 - tail], axis=0)
    return dict(zip(METRICS, zip(low.tolist(), high.tolist(), strict=True), strict=True))


def _sign_flip_p(sums: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return the two-sided p-value of each column of paired differences summed over paths, (G, M) to (M,)."""
    G = len(sums)
    exact = resamples >= 2**G
    # Sums that are equal but for rounding are equal: as large as the observed one counts.
    least = np.abs(sums.sum(0)) - 1e-9 * np.abs(sums).sum(0)
    at_least = np.zeros(sums.shape[1])
    for signs in _all_signs(G) if exact else _drawn_signs(G, resamples, seed):
        at_least += (np.abs(signs @ sums) >= least).sum(0)
    return at_least / 2**G if exact else (1 + at_least) / (1 + resamples)  # the observed signs are one of the draws


def _all_signs(G: int) -> Iterator[np.ndarray]:
    """Yield all combinations of G signs, (2^G, G)."""
    yield 1.0 - 2.0 * (np.arange(2**G)[:, None] >> np.arange(G) & 1)


def _drawn_signs(G: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield drawn combinations of G signs, (count, G) at a time."""
    rng = np.random.default_rng(seed)
    for count in _chunks(resamples, G):
        yield 1.0 - 2.0 * rng.integers(2, size=(count, G), dtype=np.int8)


def _chunks(resamples: int, G: int) -> Iterator[int]:
    """Yield counts that add up to ``resamples``, each with tables of G columns that stay small."""
    count = max(1, CHUNK_ENTRIES // G)
    for begin in range(0, resamples, count):
        yield min(count, resamples - begin)
