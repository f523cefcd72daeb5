"""Towers that learned six colors point at the square of the color that is named: the pointing game of Grad-CAM."""

import colorsys

import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.model import ModifiedResNet

from vln_clip.encoders.base import Preprocess
from vln_clip.encoders.clip import ClipEncoder
from vln_clip.encoders.relevance import relevance

SIDE_PX, CELL_PX, EDGE_PX = 96, 32, 4  # 3 x 3 cells, a square in a cell with an edge around it
COLORS = torch.tensor([colorsys.hsv_to_rgb(number / 6, 1, 1) for number in range(6)])
SCALE = 10.0


def resnet():
    return ModifiedResNet(layers=(1, 1, 1, 1), output_dim=32, heads=4, image_size=SIDE_PX, width=16)


def vit():
    return open_clip.transformer.VisionTransformer(SIDE_PX, 16, width=64, layers=4, heads=4, mlp_ratio=2, output_dim=32)


def two_squares(B):
    """Return gray noise with two squares (B, 3, h, w), their colors (B, 2) and cells (B, 2)."""
    images = 0.5 * torch.rand(B, 1, 1, 1) + 0.15 * torch.randn(B, 3, SIDE_PX, SIDE_PX) - 0.5
    colors = torch.stack([torch.randperm(6)[:2] for _ in range(B)])
    cells = torch.stack([torch.randperm(9)[:2] for _ in range(B)])
    for image, pair in zip(images, torch.stack([colors, cells], 2).tolist(), strict=True):
        for color, cell in pair:
            top, left = cell // 3 * CELL_PX + EDGE_PX, cell % 3 * CELL_PX + EDGE_PX
            size = CELL_PX - 2 * EDGE_PX
            image[:, top : top + size, left : left + size] = COLORS[color].view(3, 1, 1) - 0.5
    return images, colors, cells


@pytest.mark.slow
@pytest.mark.parametrize(("tower", "steps"), [(resnet, 60), (vit, 150)])
def test_a_trained_tower_points_at_the_color_that_is_named(tower, steps):
    torch.manual_seed(0)
    encoder = ClipEncoder("pointing", tower(), 32, Preprocess((SIDE_PX, SIDE_PX)))
    words, bias = torch.randn(6, 32, requires_grad=True), torch.zeros((), requires_grad=True)
    optimizer = torch.optim.AdamW([*encoder.train().parameters(), words, bias], lr=1e-3)
    for _ in range(steps):
        images, colors, _ = two_squares(32)
        shown = torch.zeros(32, 6).scatter_(1, colors, 1)
        logits = SCALE * F.normalize(encoder.pooled(images), dim=1) @ F.normalize(words, dim=1).T + bias
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits, shown).backward()
        optimizer.step()
    encoder.eval()
    images, colors, cells = two_squares(100)
    for which in (0, 1):  # the same image, the other word: the other square
        maps = relevance(encoder, images, words.detach()[colors[:, which]], SCALE).maps
        peak = F.adaptive_avg_pool2d(maps[:, None], 3).flatten(1).argmax(1)
        assert (peak == cells[:, which]).float().mean() > 0.9  # by chance 1/9
