"""Learning-rate schedules: pure functions of how many optimizer steps have been taken.

``schedule(iteration)`` is the factor of the learning rate for the step that follows ``iteration`` steps: 0 for the
first. What changes over time is all here; nothing is stored in a checkpoint.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace

Schedule = Callable[[int], float]


def _require(holds: bool, what: str, rule: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{what} must be {rule}, got {value!r}")


@dataclass(frozen=True)
class Constant:
    """The learning rate as it is."""

    def __call__(self, iteration: int) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class Steps:
    """Warm-up in a straight line, then one multiplication at each milestone (MMF's ``lr_lambda_update``).

    Attributes:
        milestones: numbers of taken steps from which on the rate is multiplied once more, ascending.
        ratio: what it is multiplied with.
        warmup_iterations: steps until the full rate; 0 for none.
        warmup_factor: factor of the first step. Milestones inside the warm-up count when it is over.
    """

    milestones: tuple[int, ...]
    ratio: float
    warmup_iterations: int = 0
    warmup_factor: float = 1.0

    def __post_init__(self) -> None:
        _require(list(self.milestones) == sorted(self.milestones), "milestones", "ascending", self.milestones)
        _require(self.ratio > 0, "ratio", "positive", self.ratio)
        _require(self.warmup_iterations >= 0, "warmup_iterations", "at least 0", self.warmup_iterations)
        _require(0 <= self.warmup_factor <= 1, "warmup_factor", "in [0, 1]", self.warmup_factor)

    def __call__(self, iteration: int) -> float:
        """Return the factor after so many steps."""
        if iteration < self.warmup_iterations:
            progress = iteration / self.warmup_iterations
            return self.warmup_factor * (1 - progress) + progress
        return self.ratio ** bisect_right(self.milestones, iteration)

    def stretched(self, factor: float) -> "Steps":
        """Return the same schedule for a run that is ``factor`` times as long."""
        milestones = tuple(round(milestone * factor) for milestone in self.milestones)
        return replace(self, milestones=milestones, warmup_iterations=round(self.warmup_iterations * factor))


@dataclass(frozen=True)
class EpochSteps:
    """Warm-up in stairs of one epoch, then one multiplication after some epochs (openvqa).

    Attributes:
        iterations_per_epoch: optimizer steps of an epoch; need not be whole where epochs share a batch.
        warmup_epochs: epoch e of them, from 1 on, has the factor e / (warmup_epochs + 1).
        milestones: numbers of complete epochs from which on the rate is multiplied once more, ascending.
        ratio: what it is multiplied with.
    """

    iterations_per_epoch: float
    warmup_epochs: int = 3
    milestones: tuple[int, ...] = (10, 12)
    ratio: float = 0.2

    def __post_init__(self) -> None:
        _require(self.iterations_per_epoch > 0, "iterations_per_epoch", "positive", self.iterations_per_epoch)
        _require(self.warmup_epochs >= 0, "warmup_epochs", "at least 0", self.warmup_epochs)
        _require(list(self.milestones) == sorted(self.milestones), "milestones", "ascending", self.milestones)
        _require(self.ratio > 0, "ratio", "positive", self.ratio)

    def __call__(self, iteration: int) -> float:
        """Return the factor after so many steps."""
        complete = int(iteration / self.iterations_per_epoch)
        warmup = min(1.0, (complete + 1) / (self.warmup_epochs + 1))
        return warmup * self.ratio ** bisect_right(self.milestones, complete)


@dataclass(frozen=True)
class Linear:
    """Up in a straight line, then down in another (BERT; transformers calls it linear with warm-up).

    Attributes:
        iterations: steps after which the rate would be 0; a run may end before.
        warmup_iterations: steps until the full rate.
    """

    iterations: int
    warmup_iterations: int = 0

    def __post_init__(self) -> None:
        _require(self.warmup_iterations >= 0, "warmup_iterations", "at least 0", self.warmup_iterations)
        _require(self.iterations > self.warmup_iterations, "iterations", "more than the warm-up", self.iterations)

    def __call__(self, iteration: int) -> float:
        """Return the factor after so many steps."""
        if iteration < self.warmup_iterations:
            return iteration / self.warmup_iterations
        return max(0.0, (self.iterations - iteration) / (self.iterations - self.warmup_iterations))


@dataclass(frozen=True)
class Noam:
    """Linear warm-up, then the inverse square root of the step (Vaswani et al. 2017). For a learning rate of 1.

    Attributes:
        width: of the model; the rate falls with its square root.
        warmup_steps: number of the step with the highest rate, (width · warmup_steps) ** -0.5. The step after n
            steps is number n + 1.
    """

    width: int
    warmup_steps: int

    def __post_init__(self) -> None:
        _require(self.width > 0, "width", "positive", self.width)
        _require(self.warmup_steps > 0, "warmup_steps", "positive", self.warmup_steps)

    def __call__(self, iteration: int) -> float:
        """Return the rate after so many steps."""
        step = iteration + 1
        return float(self.width**-0.5 * min(step**-0.5, step * self.warmup_steps**-1.5))
