"""In what precision training multiplies matrices: float32, or bfloat16 with sums, weights and results in float32.

Evaluation and everything but the products of weights stay in float32.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor

_DTYPE: ContextVar[torch.dtype | None] = ContextVar("products", default=None)


@contextmanager
def products_in(dtype: torch.dtype | None) -> Iterator[None]:
    """Let what is learned inside multiply in ``dtype``; None leaves products in the type of their factors."""
    token = _DTYPE.set(dtype)
    try:
        yield
    finally:
        _DTYPE.reset(token)


def product_dtype() -> torch.dtype | None:
    """Return the type that products of weights are taken in; None without gradients and where it is not another."""
    return _DTYPE.get() if torch.is_grad_enabled() else None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ weight.T + bias`` in the type of ``x``; the product is taken in ``product_dtype``."""
    dtype = product_dtype()
    if dtype is None:
        return F.linear(x, weight, bias)
    y = F.linear(x.to(dtype), weight.to(dtype)).to(x.dtype)
    return y if bias is None else y + bias


def learning_in(dtype: torch.dtype | None, learn: Callable[[], dict[str, float]]) -> Callable[[], dict[str, float]]:
    """Return ``learn`` with its products in ``dtype``."""

    def learn_so() -> dict[str, float]:
        with products_in(dtype):
            return learn()

    return learn if dtype is None else learn_so
