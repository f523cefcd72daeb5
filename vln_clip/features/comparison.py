"""How far two feature files are apart, viewpoint by viewpoint; memory stays at one row of each."""

import heapq
import math
from dataclasses import dataclass, field

import numpy as np

from vln_clip.errors import InputError
from vln_clip.features.lookup import FeatureFile

_SAME_DIRECTION = 0.999


@dataclass
class Comparison:
    """Differences of two files on their common viewpoints.

    Attributes:
        num_worst: how many viewpoints to remember.
        num_common: viewpoints in both.
        only_first: viewpoints in the first file only.
        only_second: viewpoints in the second file only.
        num_skipped: common viewpoints left out because a value is not finite.
        num_views: views compared.
        largest: largest absolute difference of a value.
        lowest_cosine: of a view.
        low_ratio: lowest L2 norm of a view in the second file over that in the first.
        high_ratio: the highest.
        equal: all values are the same.
        equal_as_float16: all values are the same when rounded to float16.
        worst: (-lowest cosine, largest difference, view of that cosine, key), a heap.
    """

    num_worst: int = 5
    num_common: int = 0
    only_first: tuple[str, ...] = ()
    only_second: tuple[str, ...] = ()
    num_skipped: int = 0
    num_views: int = 0
    largest: float = 0.0
    lowest_cosine: float = 1.0
    low_ratio: float = math.inf
    high_ratio: float = 0.0
    equal: bool = True
    equal_as_float16: bool = True
    worst: list[tuple[float, float, int, str]] = field(default_factory=list)
    _sums: np.ndarray = field(default_factory=lambda: np.zeros(6))

    @property
    def mean(self) -> float:
        """Return the mean absolute difference."""
        return float(self._sums[0] / max(self._sums[2], 1))

    @property
    def magnitude(self) -> float:
        """Return the mean absolute value in the first file."""
        return float(self._sums[1] / max(self._sums[2], 1))

    @property
    def mean_cosine(self) -> float:
        """Return the mean cosine of the views."""
        return float(self._sums[3] / max(self.num_views, 1))

    @property
    def mean_ratio(self) -> float:
        """Return the mean L2 norm of a view in the second file over that in the first."""
        return float(self._sums[4] / max(self._sums[5], 1))

    def add(self, key: str, first: np.ndarray, second: np.ndarray) -> None:
        """Take in one viewpoint, (36, D) of each file."""
        a, b = first.astype(np.float64), second.astype(np.float64)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            self.num_skipped += 1
            return
        apart, cosine = np.abs(a - b), _cosines(a, b)
        lengths = np.linalg.norm(a, axis=1)
        ratio = np.linalg.norm(b, axis=1)[lengths > 0] / lengths[lengths > 0]
        self._sums += apart.sum(), np.abs(a).sum(), a.size, cosine.sum(), ratio.sum(), len(ratio)
        self.num_views += len(a)
        largest, view = float(apart.max(initial=0)), int(cosine.argmin())
        self.largest = max(self.largest, largest)
        self.lowest_cosine = min(self.lowest_cosine, float(cosine[view]))
        self.low_ratio = min(self.low_ratio, float(ratio.min(initial=math.inf)))
        self.high_ratio = max(self.high_ratio, float(ratio.max(initial=0)))
        self.equal &= largest == 0
        self.equal_as_float16 &= self.equal or _equal_as_float16(a, b)
        if largest:
            item = (-float(cosine[view]), largest, view, key)
            push = heapq.heappush if len(self.worst) < self.num_worst else heapq.heappushpop
            push(self.worst, item)

    def verdict(self) -> str:
        """Say in a few words how the files relate."""
        if not self.num_views:
            return "nothing to compare"
        if self.equal:
            return "equal"
        if self.equal_as_float16:
            return "equal when rounded to float16"
        if self.lowest_cosine < _SAME_DIRECTION:
            return f"different features: cosine of views {self.mean_cosine:.4f} on average"
        if self.low_ratio > 0.99 and self.high_ratio < 1.01:
            return "the same features but for small differences"
        return f"the same directions, other lengths: second / first is {self.mean_ratio:.4g} on average"


def compare(first: FeatureFile, second: FeatureFile, num_worst: int = 5) -> Comparison:
    """Compare two open files.

    Raises:
        InputError: their widths differ.
    """
    here, there = set(first.keys), set(second.keys)
    common = [key for key in first.keys if key in there]
    found = Comparison(
        num_worst=num_worst,
        num_common=len(common),
        only_first=tuple(key for key in first.keys if key not in there),
        only_second=tuple(key for key in second.keys if key not in here),
    )
    for key in common:
        a, b = first.row(key), second.row(key)
        if a.shape != b.shape:
            raise InputError(
                f"files to compare must have one width, got {a.shape} in {first.path} and {b.shape} in {second.path} "
                f"for {key}: features of two encoders?"
            )
        found.add(key, a, b)
    return found


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows: 1 where both are zero, 0 where one is."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = ~(a.any(axis=1) | b.any(axis=1))
    return np.where(both_zero, 1.0, (a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1.0))


def _equal_as_float16(a: np.ndarray, b: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return np.array_equal(a.astype(np.float16), b.astype(np.float16))
