"""Gradient checkpointing: what a block computes is computed again in the backward pass in place of being kept."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(run: Callable[..., Tensor], module: nn.Module, *inputs: object) -> Tensor:
    """Return ``run(*inputs)``, which is run again in the backward pass with the same dropout.

    Args:
        run: computes with the module.
        module: whose batch norms must not count the same batch twice.
        inputs: of ``run``.
    """
    contexts = partial(_contexts, module)
    return checkpoint(run, *inputs, use_reentrant=False, context_fn=contexts)


def recompute_blocks(network: nn.Module) -> int:
    """Let every block of a network be recomputed while it is trained; return how many there are.

    Blocks are the modules in the network's outermost sequences (stages of ResNets, layers of ViTs), so this fits any
    encoder. Names of weights stay what they are.
    """
    blocks = list(_blocks(network))
    for block in blocks:
        block.forward = partial(_forward, block, block.forward)
    return len(blocks)


def _forward(block: nn.Module, run: Callable[..., Tensor], *inputs: object, **options: object) -> Tensor:
    """Run a block, again in the backward pass where it has one."""
    return recomputed(partial(run, **options), block, *inputs)


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    for child in network.children():
        if isinstance(child, nn.Sequential | nn.ModuleList):
            yield from (block for block in child if any(True for _ in block.parameters()))
        else:
            yield from _blocks(child)


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _statistics_stay(module)


@contextmanager
def _statistics_stay(module: nn.Module) -> Iterator[None]:
    """Let batch norms normalize by the batch without counting it."""
    norms = [part for part in module.modules() if isinstance(part, BatchNorm) and part.track_running_stats]
    counts = [part.get_buffer("num_batches_tracked") for part in norms]
    momenta, before = [part.momentum for part in norms], [count.clone() for count in counts]
    for part in norms:
        part.momentum = 0.0
    try:
        yield
    finally:
        for part, momentum, count, old in zip(norms, momenta, counts, before, strict=True):
            part.momentum = momentum
            count.copy_(old)
