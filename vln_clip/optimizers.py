"""PyTorch's optimizers, without its compiler.

PyTorch marks the methods of an optimizer as not to be compiled, and loads the compiler to do so: more than a second and
100 MB. Nothing here is compiled, so the methods are taken as they are beneath that mark.
"""

from functools import cache
from inspect import unwrap

import torch
from torch import nn

KINDS = {"rms": torch.optim.RMSprop, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
MARKED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def make_optimizer(model: nn.Module, name: str, lr: float) -> torch.optim.Optimizer:
    """Build an optimizer with PyTorch's defaults (RMSprop: α 0.99, ε 1e-8), as the reference does."""
    return _unmarked(KINDS[name])(model.parameters(), lr=lr)  # type: ignore[call-arg]  # all three have one


@cache
def _unmarked(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """Return a kind of optimizer whose methods don't load the compiler; unmarked methods stay what they are."""
    methods = {name: unwrap(getattr(kind, name)) for name in MARKED}
    return type(kind.__name__, (kind,), methods | {"step": torch.no_grad()(unwrap(kind.step))})
