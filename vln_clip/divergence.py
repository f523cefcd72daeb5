"""Looks at the numbers of every training step before the optimizer takes it, and stops what has diverged.

Knows numbers only; ``training`` writes the file that lets ``python -m vln_clip.replay`` repeat the step.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from statistics import median

MEMORY_STEPS = 101  # of the running median
ENOUGH_STEPS = 20  # before which there is no median to speak of


class DivergedError(Exception):
    """A step that must not be taken; the message says which number is why."""


@dataclass
class Watch:
    """Checks numbers that are on the host already, so that it never waits for a device.

    Attributes:
        max_norm_factor: most times its running median that a gradient norm may be; None for any.
        norms: the latest norms by name; empty without ``max_norm_factor``.
    """

    max_norm_factor: float | None = None
    norms: dict[str, deque[float]] = field(default_factory=dict)

    def checked(self, numbers: dict[str, float]) -> dict[str, float]:
        """Return numbers as they are.

        Raises:
            DivergedError: one is infinite or not a number.
        """
        for name, value in numbers.items():
            if not isfinite(value):
                raise DivergedError(f"{name} is {value}")
        return numbers

    def checked_norms(self, norms: dict[str, float]) -> dict[str, float]:
        """Return gradient norms as they are, and remember them.

        Raises:
            DivergedError: one is not finite, or far above its running median.
        """
        self.checked(norms)
        if self.max_norm_factor is None:
            return norms
        for name, value in norms.items():
            latest = self.norms.setdefault(name, deque(maxlen=MEMORY_STEPS))
            if len(latest) >= ENOUGH_STEPS and value > self.max_norm_factor * median(latest):
                raise DivergedError(
                    f"{name} is {value:.4g}, more than {self.max_norm_factor:g} times {median(latest):.4g}, its median "
                    f"over {len(latest)} steps (--max-gradient-norm-factor)"
                )
        for name, value in norms.items():
            self.norms[name].append(value)
        return norms

    def state(self) -> dict[str, list[float]]:
        """Return the remembered norms as JSON values."""
        return {name: list(latest) for name, latest in self.norms.items()}

    def restore(self, state: Mapping[str, list[float]]) -> None:
        """Go on where ``state`` was taken."""
        if self.max_norm_factor is not None:
            self.norms = {name: deque(latest, maxlen=MEMORY_STEPS) for name, latest in state.items()}
