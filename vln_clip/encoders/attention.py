"""The attention of a ViT, made explicit: fused kernels compute it and keep none of its probabilities.

Modules stay as they are: for one run hooks put the same attention, spelled out, in the place of theirs.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import Attention
from torch import Tensor, nn

from vln_clip.encoders.base import Attended


def attended_blocks(
    blocks: Sequence[nn.Module], run: Callable[[], Tensor], size: tuple[int, int], num_prefix: int
) -> Attended | None:
    """Run a ViT with explicit attention.

    Args:
        blocks: of the ViT, in order, each with its attention as ``attn``.
        run: the whole network; returns (B, D).
        size: height and width of the grid of patches.
        num_prefix: class and register tokens, which come first.

    Returns:
        See ``Attended``; None where a block has attention of another kind than PyTorch's or timm's plain one.
    """
    modules = [getattr(block, "attn", None) for block in blocks]
    probabilities: list[Tensor] = []
    with ExitStack() as stack, torch.enable_grad():
        for module in modules:
            if type(module) is nn.MultiheadAttention:
                stack.enter_context(module.register_forward_hook(partial(_attend, probabilities)))
            elif type(module) is Attention:
                stack.callback(setattr, module, "fused_attn", module.fused_attn)
                module.fused_attn = False  # type: ignore[misc]
                stack.enter_context(module.attn_drop.register_forward_hook(partial(_keep, probabilities)))
            else:
                return None
        pooled = run()
    assert len(probabilities) == len(modules), (len(probabilities), len(modules))
    return Attended(pooled, probabilities, size, num_prefix)


def attended_trunk(model: timm.models.VisionTransformer, images: Tensor, run: Callable[[], Tensor]) -> Attended | None:
    """Run a ViT of timm; see ``attended_blocks``. None also where another token than the class token is pooled."""
    if model.global_pool != "token" or model.cls_token is None:
        return None
    height, width = model.patch_embed.patch_size
    size = (images.shape[-2] // height, images.shape[-1] // width)
    return attended_blocks(list(model.blocks), run, size, model.num_prefix_tokens)


def _attend(kept: list[Tensor], module: nn.Module, inputs: tuple[Tensor, ...], _: Any) -> tuple[Tensor, None]:
    """Compute self-attention once more, explicitly; what the module itself has returned is dropped."""
    assert isinstance(module, nn.MultiheadAttention)
    assert inputs[0] is inputs[1] is inputs[2], "blocks of a ViT attend to themselves"
    tokens = inputs[0] if module.batch_first else inputs[0].transpose(0, 1)  # (B, T, C)
    joint = F.linear(tokens, module.in_proj_weight, module.in_proj_bias)
    query, key, value = joint.unflatten(2, (3, module.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, T, d) each
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(2, 3)
    probabilities = _keep(kept, module, (), scores.softmax(3))
    found = module.out_proj((probabilities @ value).transpose(1, 2).flatten(2))
    return (found if module.batch_first else found.transpose(0, 1)), None


def _keep(kept: list[Tensor], _: nn.Module, __: tuple[Any, ...], probabilities: Tensor) -> Tensor:
    """Keep probabilities (B, H, T, T), also those of frozen weights as part of the graph."""
    probabilities = probabilities if probabilities.requires_grad else probabilities.detach().requires_grad_()
    kept.append(probabilities)
    return probabilities
