"""A stage of training: one model, what teaches and what validates it, and the state that it goes on from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vln_clip import checkpoint
from vln_clip.checkpoint import Checkpoint
from vln_clip.divergence import Watch
from vln_clip.events import Sights
from vln_clip.ranks import ALONE, Ranks, derived_seed


class Sampler(Protocol):
    """A source of batches that can be put back where it was."""

    def next(self) -> Tensor: ...  # noqa: D102
    def state(self) -> dict[str, Tensor]: ...  # noqa: D102
    def restore(self, state: dict[str, Tensor]) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class Best:
    """Which validation score a best checkpoint maximizes: ``scores[split][metric] * sign``."""

    folder: str
    split: str
    metric: str
    sign: float = 1.0


def constant(iteration: int) -> float:
    """Keep the learning rate."""
    return 1.0


@dataclass
class Stage:
    """One model being trained.

    Attributes:
        name: folder of its checkpoints.
        model: its weights are saved.
        optimizer: of the model.
        learn: takes one optimizer step and returns numbers to log.
        validate: returns ``{split: {metric: value}}``.
        best: checkpoints to keep.
        iters: optimizer steps in all.
        eval_every: steps between validations.
        samplers: what draws the batches.
        generator: source of dropout and sampling.
        header: JSON values that every checkpoint of the stage carries.
        look: called after a validation, returns what is to be looked at.
        watch: what ``learn`` shows its numbers to before it takes its step.
        ids: of the rows that a sampler draws, where they have any, by the sampler's name.
        ranks: who learn together.
        joint_generator: draws the same on all of them; None where one is alone: then ``generator`` does.
        schedule: factor of the learning rates for the step that follows so many steps; a group of parameters may
            have its own as ``schedule``.
    """

    name: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    learn: Callable[[], dict[str, float]]
    validate: Callable[[], dict[str, dict[str, float]]]
    best: list[Best]
    iters: int
    eval_every: int
    samplers: Mapping[str, Sampler]
    generator: torch.Generator
    header: dict[str, Any] = field(default_factory=dict)
    look: Callable[[], Sights] = Sights
    watch: Watch = field(default_factory=Watch)
    ids: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ranks: Ranks = ALONE
    joint_generator: torch.Generator | None = None
    schedule: Callable[[int], float] = constant

    def set_learning_rate(self, iteration: int) -> None:
        """Set the learning rates for the step after ``iteration`` steps."""
        for group in self.optimizer.param_groups:
            schedule = group.get("schedule", self.schedule)
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * schedule(iteration)

    def random_state(self) -> dict[str, Tensor]:
        """Return where samplers and the generator stand that all ranks share; cheap enough for every step."""
        state = {"generator": (self.joint_generator or self.generator).get_state()}
        for name, sampler in self.samplers.items():
            state |= checkpoint.named(f"sampler_{name}", sampler.state())
        return state

    def state(self) -> dict[str, Tensor]:
        """Return all that a checkpoint needs beside weights to go on bit for bit; to be called by all ranks."""
        state = checkpoint.named("optimizer", checkpoint.flatten_optimizer(self.optimizer)) | self.random_state()
        if self.ranks.world > 1:
            own = self.ranks.gather(self.generator.get_state())
            state |= {f"generator_{rank}": value for rank, value in enumerate(own)}
        return state

    def restore(self, saved: Checkpoint, source: Path) -> None:
        """Put weights and state back.

        Raises:
            InputError: they are of another configuration.
        """
        checkpoint.restore_weights(self.model, saved.weights, source)
        checkpoint.restore_optimizer(self.optimizer, checkpoint.section(saved.state, "optimizer"))
        (self.joint_generator or self.generator).set_state(saved.state["generator"])
        if self.ranks.world > 1:
            self._restore_own(saved)
        for name, sampler in self.samplers.items():
            sampler.restore(checkpoint.section(saved.state, f"sampler_{name}"))
        self.watch.restore(saved.header.get("norms", {}))

    def _restore_own(self, saved: Checkpoint) -> None:
        """Put this rank's generator back; other numbers of ranks have other streams."""
        if saved.header.get("ranks", 1) == self.ranks.world:
            self.generator.set_state(saved.state[f"generator_{self.ranks.rank}"])
        else:
            self.generator.manual_seed(derived_seed(self.generator.initial_seed(), saved.header["iteration"]))

    def drawn_since(self, before: Mapping[str, Tensor]) -> dict[str, list[str]]:
        """Return what each sampler has drawn since a ``random_state``: ids, or rows where there are none."""
        return {name: self._drawn(name, before) for name in self.samplers}

    def _drawn(self, name: str, before: Mapping[str, Tensor]) -> list[str]:
        """Draw again from ``before`` to where a sampler stands now."""
        sampler, rows = self.samplers[name], list[int]()
        now = sampler.state()
        sampler.restore(checkpoint.section(dict(before), f"sampler_{name}"))
        while any(not torch.equal(value, now[key]) for key, value in sampler.state().items()):
            rows += sampler.next().tolist()
        ids = self.ids.get(name)
        return [f"row {row}" if ids is None else ids[row] for row in rows]
