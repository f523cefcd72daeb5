"""PyTorch's optimizers, without its compiler.

PyTorch marks the methods of an optimizer as not to be compiled, and loads the compiler to do so: more than a second and
100 MB. Nothing here is compiled, so the methods are taken as they are beneath that mark.
"""

from collections.abc import Callable
from functools import cache
from inspect import unwrap
from typing import Any

import torch
from torch import nn

KINDS = {"rms": torch.optim.RMSprop, "adam": torch.optim.Adam, "sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
MARKED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def make_optimizer(model: nn.Module, name: str, lr: float) -> torch.optim.Optimizer:
    """Build an optimizer with PyTorch's defaults (RMSprop: α 0.99, ε 1e-8), as the reference does."""
    return _unmarked(KINDS[name])(model.parameters(), lr=lr)  # type: ignore[call-arg]  # all three have one


@cache
def _unmarked(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """Return a kind of optimizer whose methods don't load the compiler; unmarked methods stay what they are."""
    methods = {name: unwrap(getattr(kind, name)) for name in MARKED}
    return type(kind.__name__, (kind,), methods | {"step": torch.no_grad()(unwrap(kind.step))})


def make_group_optimizer(groups: list[dict[str, Any]], name: str, **settings: Any) -> torch.optim.Optimizer:
    """Build an optimizer of groups of parameters, each with settings of its own in place of the common ones."""
    return _unmarked(KINDS[name])(groups, **settings)


class JointOptimizer(torch.optim.Optimizer):
    """Several optimizers that step together, and are saved as one.

    Args:
        parts: of different parameters. A group may carry its own ``schedule``; see ``Stage.set_learning_rate``.
    """

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts  # the base class is not asked: it would make groups of its own

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the groups of all parts, one after the other."""
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all parts."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Let every part take its step."""
        assert closure is None, "no closure for several optimizers"
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all parts, their parameters numbered through."""
        state: dict[int, Any] = {}
        groups: list[dict[str, Any]] = []
        first = 0
        for part in self.parts:
            own = part.state_dict()
            state |= {first + index: entry for index, entry in own["state"].items()}
            groups += [
                group | {"params": [first + index for index in group["params"]]} for group in own["param_groups"]
            ]
            first += sum(len(group["params"]) for group in own["param_groups"])
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put back what ``state_dict`` returned."""
        first, at = 0, 0
        for part in self.parts:
            groups = state_dict["param_groups"][at : at + len(part.param_groups)]
            count = sum(len(group["params"]) for group in groups)
            state = {i - first: entry for i, entry in state_dict["state"].items() if first <= i < first + count}
            own = [group | {"params": [index - first for index in group["params"]]} for group in groups]
            part.load_state_dict({"state": state, "param_groups": own})
            first, at = first + count, at + len(groups)
