"""What of an image speaks for a text: Grad-CAM of ResNets, gradient-weighted attention rollout of ViTs.

The two methods of the CLIP-ViL paper's Figure 3, of which it shows that CLIP's ResNets look where the text points while
its ViTs do not. Both take whole batches, one text per image.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vln_clip.encoders.base import Attended, Encoder, Preprocess

if TYPE_CHECKING:
    from vln_clip.encoders.text import TextEncoder


class Relevance(NamedTuple):
    """Maps of what speaks for a text.

    Attributes:
        maps: (B, h, w) float32, at least 0, not scaled; cells of the model's input from its upper left corner.
        cosines: of images and texts, (B,) float32.
    """

    maps: Tensor
    cosines: Tensor


def explain(encoder: Encoder, text_encoder: "TextEncoder", images: Tensor, texts: Sequence[str]) -> Tensor:
    """Map what of each image speaks for its text.

    Args:
        encoder: image tower, in evaluation mode.
        text_encoder: the text tower that belongs to it.
        images: transformed images, (B, 3, H, W) float32 on the device of both towers.
        texts: B of them.

    Returns:
        (B, h, w) float32, at least 0, not scaled.

    Raises:
        InputError: the tower is neither a network that pools one map nor a ViT that pools its class token.
    """
    with torch.no_grad():
        targets = text_encoder.encode(texts)
    return relevance(encoder, images, targets, text_encoder.logit_scale).maps


def relevance(encoder: Encoder, images: Tensor, targets: Tensor, logit_scale: float) -> Relevance:
    """Map what of each image speaks for a direction of the feature space.

    Args:
        encoder: in evaluation mode; gradients of its weights are left alone.
        images: transformed images, (B, 3, H, W) float32.
        targets: features of texts, (B, D) of any length.
        logit_scale: factor of the cosine in a ViT's logit. Rollout multiplies attention of all blocks, so it decides
            how much long ways through the network count.

    Raises:
        InputError: see ``explain``.
    """
    assert not encoder.training, "batch norm in training mode would mix the images"
    targets = F.normalize(targets, dim=1)
    if encoder.num_blocks:
        attended = encoder.pooled_with_attention(images)
        pooled, maps = attended.pooled, rollout_map(attended, targets, logit_scale)
    else:
        pooled, grid = encoder.pooled_with_map(images)
        # The norm of the image's feature counts as a constant.
        score = targets * pooled.detach().norm(dim=1, keepdim=True)
        (gradient,) = torch.autograd.grad(pooled, grid, score)
        maps = weighted_map(grid.detach(), gradient.mean((2, 3), keepdim=True))
    return Relevance(maps, F.cosine_similarity(pooled.detach(), targets))


def weighted_map(grid: Tensor, weights: Tensor) -> Tensor:
    """Sum a map's channels with weights and cut what is negative.

    Args:
        grid: (B, C, h, w).
        weights: gradients by it, (B, C, h, w), cell by cell (HiResCAM, Draelos and Carin 2020, equation 3); or their
            spatial mean, (B, C, 1, 1) (Grad-CAM, Selvaraju et al. 2017, equations 1 and 2).

    Returns:
        (B, h, w).
    """
    return (grid * weights).sum(1).relu()


def rollout_map(attended: Attended, targets: Tensor, logit_scale: float) -> Tensor:
    """Roll attention out, weighted by the gradient of the image-text logit (Chefer et al. 2021, equations 5 and 6).

    Args:
        attended: what a ViT made of images.
        targets: features of texts, (B, D) of length 1.
        logit_scale: factor of the cosine.

    Returns:
        (B, h, w): what patches gave to the class token.
    """
    with torch.enable_grad():
        logits = logit_scale * (F.normalize(attended.pooled, dim=1) * targets).sum(1)
        gradients = torch.autograd.grad(logits.sum(), attended.probabilities)
    # R = (I + C_n) ... (I + C_1), of which the class token's row is enough: from the last block down, a row at a time.
    row = F.one_hot(torch.zeros_like(logits, dtype=torch.int64), attended.probabilities[0].shape[-1])[:, None]
    row = row.to(attended.pooled.dtype)  # (B, 1, T)
    for probabilities, gradient in zip(reversed(attended.probabilities), reversed(gradients), strict=True):
        row = row + row @ (probabilities.detach() * gradient).relu().mean(1)  # (B, T, T), mean over heads
    return row[:, 0, attended.num_prefix :].unflatten(1, attended.size)


def over_picture(
    maps: Tensor,
    transform: Preprocess,
    picture_px: tuple[int, int],
    out: tuple[int, int],
    covered: tuple[float, float] = (1.0, 1.0),
) -> tuple[Tensor, Tensor]:
    """Put maps of what an encoder gets where that is in the whole picture, bilinear between the centers of cells.

    Args:
        maps: (B, h, w).
        transform: how the pictures were preprocessed.
        picture_px: their height and width.
        out: height and width of the result, which covers the whole picture.
        covered: the part of the model's input that the cells cover, from its upper left corner, by height and width.

    Returns:
        Maps (B, *out), 0 where the encoder does not look, and where it does, bool of size ``out``.
    """
    window = transform.window(*picture_px)
    y, x = (
        ((torch.arange(n, device=maps.device, dtype=torch.float64) + 0.5) / n * side - begin) / length / part
        for n, side, begin, length, part in zip(
            out, picture_px, (window.top, window.left), (window.height, window.width), covered, strict=True
        )
    )
    seen = ((y >= 0) & (y < 1))[:, None] & ((x >= 0) & (x < 1))
    place = torch.stack([x.expand(out[0], -1), y[:, None].expand(-1, out[1])], -1) * 2 - 1  # (*out, 2)
    place = place.expand(len(maps), -1, -1, -1).to(maps.dtype)
    found = F.grid_sample(maps[:, None], place, padding_mode="border", align_corners=False)[:, 0]
    return found * seen, seen


def covered_part(encoder: Encoder, cells: tuple[int, int]) -> tuple[float, float]:
    """Return what part of its native input an encoder's cells cover: a ViT's patches leave out what fills no whole one.

    Args:
        encoder: whose native size it is.
        cells: height and width of its map.
    """
    if not encoder.num_blocks:
        return 1.0, 1.0
    height, width = (n * encoder.min_side_px / side for n, side in zip(cells, encoder.image_size_px, strict=True))
    return height, width
