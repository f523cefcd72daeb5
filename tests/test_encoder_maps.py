"""The maps that encoders pool: ``pooled`` is a function of them, and its gradient is right."""

import open_clip
import pytest
import timm
import torch
from open_clip.model import ModifiedResNet

from vln_clip.encoders import create_encoder
from vln_clip.encoders.base import Encoder, Preprocess
from vln_clip.encoders.clip import ClipEncoder
from vln_clip.encoders.pixels import PixelsEncoder
from vln_clip.encoders.towers import TimmEncoder
from vln_clip.errors import InputError

EPSILON = 1e-6
SMALL = Preprocess((32, 32))


def clip_resnet():
    visual = ModifiedResNet(layers=(1, 1, 1, 1), output_dim=16, heads=4, image_size=64, width=8)
    return ClipEncoder("rn", visual, 16, SMALL), visual.layer4, False


def clip_vit():
    size = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "heads": 2, "mlp_ratio": 2.0, "output_dim": 16}
    visual = open_clip.transformer.VisionTransformer(**size)
    return ClipEncoder("vit", visual, 16, SMALL), visual.transformer.resblocks[-1], True


def timm_resnet():
    model = timm.create_model("test_resnet", num_classes=0)
    return TimmEncoder("resnet", model, SMALL), model.layer4, False


def timm_vit():
    model = timm.create_model("test_vit", num_classes=0, dynamic_img_size=True)
    return TimmEncoder("vit", model, SMALL), model.blocks[-1], True


def clip_convnext():
    visual = open_clip.timm_model.TimmModel("test_convnext", 16, image_size=64, pool="avg", proj="linear")
    return ClipEncoder("convnext", visual, 16, SMALL), visual.trunk.norm_pre, False


NETWORKS = [clip_resnet, clip_vit, clip_convnext, timm_resnet, timm_vit]


def make(network):
    """Return an encoder in double precision and evaluation mode, what makes its map, and whether that enters it."""
    torch.manual_seed(0)
    encoder, module, enters = network()
    return encoder.double().eval(), module, enters


def shifted(encoder, module, enters, images, shift):
    """Return ``pooled`` with ``shift`` (B, C, h, w) added to the map."""

    def add(_, values, output=None):
        if not enters:
            return output + shift
        tokens = values[0].clone()
        patches = shift.flatten(2).transpose(1, 2)
        tokens[:, -patches.shape[1] :] += patches
        return (tokens, *values[1:])

    handle = module.register_forward_pre_hook(add) if enters else module.register_forward_hook(add)
    with torch.no_grad():
        pooled = encoder.pooled(images)
    handle.remove()
    return pooled


@pytest.mark.parametrize("network", NETWORKS)
def test_the_gradient_by_the_map_is_that_of_finite_differences(network):
    encoder, module, enters = make(network)
    images = torch.rand(2, 3, 64, 96, dtype=torch.float64)
    pooled, grid = encoder.pooled_with_map(images)
    assert torch.allclose(pooled, encoder.pooled(images), atol=1e-12)
    score = torch.randn_like(pooled)
    (gradient,) = torch.autograd.grad(pooled, grid, score)
    direction = torch.randn_like(grid)
    ends = [shifted(encoder, module, enters, images, sign * EPSILON * direction) for sign in (1, -1)]
    expected = float(((ends[0] - ends[1]) / (2 * EPSILON) * score).sum())
    assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-4, abs=1e-8)
    assert abs(expected) > 1e-5


@pytest.mark.parametrize("network", [clip_resnet, timm_resnet])
def test_the_map_of_a_resnet_is_its_grid(network):
    encoder, _, _ = make(network)
    images = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    assert torch.allclose(encoder.pooled_with_map(images)[1], encoder.grid(images))


def test_a_mean_has_the_same_gradient_everywhere():
    encoder, _, _ = make(timm_resnet)
    pooled, grid = encoder.pooled_with_map(torch.rand(1, 3, 64, 96, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(pooled[0, 3], grid)
    expected = torch.zeros_like(grid)
    expected[0, 3] = 1 / grid[0, 3].numel()
    assert torch.allclose(gradient, expected)


def test_pixels_pool_their_cells(monkeypatch):
    encoder = PixelsEncoder("pixels", 128).double()
    images = torch.rand(2, 3, 96, 128, dtype=torch.float64)
    images[0, 1:] = 0  # reds only: most colors are absent, where a square root has no finite slope
    pooled, grid = encoder.pooled_with_map(images)
    assert torch.equal(pooled, encoder.pooled(images))
    score = torch.randn_like(pooled)
    (gradient,) = torch.autograd.grad(pooled, grid, score)
    assert gradient.isfinite().all()
    direction = torch.randn_like(grid) * grid.detach()  # absent colors stay absent
    ends = []
    for sign in (1, -1):
        cells = (grid + sign * EPSILON * direction).detach().permute(0, 2, 3, 1)
        monkeypatch.setattr(encoder, "_cells", lambda images, cells=cells: cells)
        ends.append(encoder.pooled(images))
    expected = float(((ends[0] - ends[1]) / (2 * EPSILON) * score).sum())
    assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
def test_nothing_but_the_map_is_in_the_graph(network):
    encoder, _, _ = make(network)
    images = torch.rand(1, 3, 64, 64, dtype=torch.float64, requires_grad=True)
    pooled, grid = encoder.pooled_with_map(images)
    assert grid.is_leaf
    assert torch.autograd.grad(pooled.sum(), images, allow_unused=True) == (None,)
    assert torch.is_grad_enabled()


def test_an_encoder_without_such_a_map_says_so():
    with pytest.raises(InputError, match=r"heat maps need an encoder that pools one map.*got other"):
        Other().pooled_with_map(torch.zeros(1, 3, 8, 8))


class Other(Encoder):
    name = "other"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip_rn50", "clip_vit_b32", "imagenet_resnet50", "bit_m_r50", "vit_b32_in21k"])
def test_real_architectures_have_maps(name):
    encoder = create_encoder(name, pretrained=False)
    images = torch.rand(2, 3, *encoder.image_size_px)
    pooled, grid = encoder.pooled_with_map(images)
    with torch.no_grad():
        assert torch.allclose(pooled, encoder.pooled(images), atol=1e-4)
    assert grid.shape[1:] == (encoder.grid_width, 7, 7)
