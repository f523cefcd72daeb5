"""Dropout with an explicit generator, for every model: masks are drawn from it and never from PyTorch's own."""

import torch
from torch import Tensor

LEVELS = 65536  # dropout probabilities are rounded to 1/65536: four masks per 64-bit draw


def random_bits(count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draw ``count`` int16 of 16 random bits each."""
    bits = torch.empty((count + 3) // 4, dtype=torch.int64, device=device)
    bits.random_(torch.iinfo(torch.int64).min, None, generator=generator)
    return bits.view(torch.int16)[:count]


def keep_mask(shape: torch.Size, p: float, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draw a boolean mask that keeps each entry with probability 1 - p. True means keep.

    Bernoulli draws dominate the cost of a step on a CPU; 16 random bits per entry cost a tenth.
    """
    threshold = round(p * LEVELS) - LEVELS // 2
    return (random_bits(shape.numel(), generator, device) >= threshold).view(shape)


def keep_probability(p: float) -> float:
    """Return the exact probability with which ``keep_mask`` keeps an entry."""
    return 1.0 - round(p * LEVELS) / LEVELS


def dropout(x: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    """Apply inverted dropout; ``generator=None`` or ``p=0`` means evaluation: ``x`` comes back unchanged."""
    if generator is None or p == 0.0 or x.numel() == 0:
        return x
    mask = keep_mask(x.shape, p, generator, x.device)
    return x * mask.to(x.dtype).mul_(1.0 / keep_probability(p))
