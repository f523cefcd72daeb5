"""The order in which episodes come: a shuffled pass over the split after the other, computed, not stored.

A key gives every pass a permutation of its own. Thousands of walkers have each a key; their next rows come out of
one array operation. Nothing here draws from an ambient generator: keys come from ``reset(seed=...)``.
"""

import numpy as np

_ROUNDS, _LEAST_BITS = 10, 4  # fewer are visibly uneven on splits of a dozen episodes (tests/test_gym.py)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def shuffled_row(key: np.ndarray, count: np.ndarray, size: int) -> np.ndarray:
    """Return the row of each walker's ``count``-th episode.

    Over counts ``p * size`` to ``(p + 1) * size - 1`` every row comes once: a Feistel network permutes the numbers
    up to a power of four, and numbers beyond ``size`` are sent through it again until they fall below.

    Args:
        key: (B,) uint64, one per walker.
        count: (B,) int64, episodes begun before, at least 0.
        size: number of rows.

    Returns:
        (B,) int64 rows below ``size``.
    """
    half = np.uint64(max(_LEAST_BITS, ((size - 1).bit_length() + 1) // 2))
    lap, place = np.divmod(count.astype(np.uint64), np.uint64(size))
    with np.errstate(over="ignore"):
        lap_key = _mix(key ^ _mix(lap))
    row = _permute(place, lap_key, half)
    while (row >= size).any():
        beyond = np.flatnonzero(row >= size)
        row[beyond] = _permute(row[beyond], lap_key[beyond], half)
    return row.astype(np.int64)


def _permute(number: np.ndarray, key: np.ndarray, half: np.uint64) -> np.ndarray:
    """Permute numbers of ``2 * half`` bits."""
    left, right = number >> half, number & ((np.uint64(1) << half) - np.uint64(1))
    shift = np.uint64(64) - half
    with np.errstate(over="ignore"):
        for _ in range(_ROUNDS):
            key = key * _MIX_1 + _GOLDEN
            left, right = right, left ^ (((right ^ key) * _MIX_2) >> shift)
    return (left << half) | right


def _mix(number: np.ndarray) -> np.ndarray:
    """Scramble 64-bit numbers (the finalizer of SplitMix64, Steele et al. 2014)."""
    number = number + _GOLDEN
    number = (number ^ (number >> np.uint64(30))) * _MIX_1
    number = (number ^ (number >> np.uint64(27))) * _MIX_2
    return number ^ (number >> np.uint64(31))
