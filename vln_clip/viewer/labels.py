"""Finds room for the small numbers of a map beside the places that they belong to."""

import math
from collections.abc import Sequence

import numpy as np

_HEIGHT_PT, _LETTER_PT = 5.5, 3.9  # of numbers of 6 points
_DIRECTIONS = 12
_SAMPLE_PT = 2.5  # lines are looked at in points so far apart
_MARK_PT = 6.0  # around starts, ends and goals


def place_labels(anchors: np.ndarray, lengths: Sequence[int], lines: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Choose for one label after the other the spot around its anchor that covers the least.

    Args:
        anchors: (n, 2) places that labels belong to, points, y up.
        lengths: number of letters of each label.
        lines: (m, 2, 2) ends of lines that labels should not lie on.
        marks: (k, 2) marks that labels should not lie on.

    Returns:
        Centers of the labels, (n, 2) points.
    """
    drawn = np.concatenate([_sampled(line) for line in lines]) if len(lines) else np.zeros((0, 2))
    taken: list[tuple[np.ndarray, np.ndarray]] = []
    centers = np.zeros((len(lengths), 2))
    for row, (anchor, length) in enumerate(zip(anchors, lengths, strict=True)):
        half = np.array([length * _LETTER_PT, _HEIGHT_PT]) / 2
        costs = []
        for spot in _spots(anchor, half):
            cost = 1.0 * _inside(drawn, spot, half + 1).sum() + 4.0 * _inside(marks, spot, half + _MARK_PT / 2).sum()
            cost += sum(6.0 for center, other in taken if (np.abs(center - spot) < half + other).all())
            costs.append(cost + 0.02 * np.linalg.norm(spot - anchor))
        centers[row] = _spots(anchor, half)[int(np.argmin(costs))]
        taken.append((centers[row], half))
    return centers


def _sampled(line: np.ndarray) -> np.ndarray:
    """Return points on a line (2, 2), both ends included."""
    count = 2 + int(np.linalg.norm(line[1] - line[0]) / _SAMPLE_PT)
    return np.linspace(line[0], line[1], count)


def _spots(anchor: np.ndarray, half: np.ndarray) -> list[np.ndarray]:
    """Return the centers that a label of half size ``half`` may have, near ones first."""
    spots = []
    for gap in (3.0, 6.5):
        for k in range(_DIRECTIONS):
            angle = 2 * math.pi * (k + 0.5) / _DIRECTIONS
            spots.append(anchor + (half + gap) * np.array([math.sin(angle), math.cos(angle)]))
    return spots


def _inside(points: np.ndarray, center: np.ndarray, half: np.ndarray) -> np.ndarray:
    return (np.abs(points - center) < half).all(axis=1)
