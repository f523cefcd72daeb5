"""Grid sizes of every registered encoder (specs/vl_tasks.md 1.5), and where in a ViT a map is taken."""

import open_clip
import pytest
import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed

from vln_clip.encoders import ENCODERS, create_encoder
from vln_clip.encoders.base import LAST, Preprocess, Tap
from vln_clip.encoders.clip import ClipEncoder
from vln_clip.encoders.table import WIDTHS
from vln_clip.encoders.towers import TimmEncoder
from vln_clip.errors import InputError

SIZES = [(224, 224), (288, 288), (448, 448), (384, 640), (600, 1000)]
# CLIP's ResNets halve five times and round down (600 / 32 = 18.75, 1000 / 32 = 31.25), others round up; a ViT has one
# cell per whole patch: 600 / 14 = 42.9, 1000 / 14 = 71.4; pixels has cells of 16 pixels.
DOWN = [(7, 7), (9, 9), (14, 14), (12, 20), (18, 31)]
UP = [(7, 7), (9, 9), (14, 14), (12, 20), (19, 32)]
BY_16 = [(14, 14), (18, 18), (28, 28), (24, 40), (37, 62)]
BY_14 = [(16, 16), (20, 20), (32, 32), (27, 45), (42, 71)]
GRIDS = {
    "clip_rn50": DOWN,
    "clip_rn101": DOWN,
    "clip_rn50x4": DOWN,
    "clip_vit_b32": DOWN,
    "clip_vit_b16": BY_16,
    "clip_vit_l14": BY_14,
    "imagenet_resnet50": UP,
    "imagenet_resnet101": UP,
    "imagenet_resnet152": UP,
    "bit_m_r50": UP,
    "bit_m_r101": UP,
    "vit_b32_in21k": DOWN,
    "pixels": BY_16,
    "clip_demo": DOWN,
}
VIT = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "heads": 2, "mlp_ratio": 2.0, "output_dim": 16}


def test_the_table_of_sizes_has_every_encoder():
    assert set(GRIDS) == set(ENCODERS)


QUICK = {"clip_rn50", "clip_vit_b32", "imagenet_resnet50", "pixels", "clip_demo"}
PARAMS = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in GRIDS]


@pytest.mark.parametrize("name", PARAMS)
def test_grids_have_the_sizes_of_the_specification(name):
    with torch.device("meta"):  # shapes without numbers: the whole network at 600 x 1000 in no time
        encoder = create_encoder(name, False, "meta")
        found = [tuple(encoder.grid(torch.empty(1, 3, *size)).shape[1:]) for size in SIZES]
    assert found == [(WIDTHS[name].grid, *grid) for grid in GRIDS[name]]


@pytest.mark.slow
def test_a_vit_of_timm_inside_open_clip_takes_any_size():
    name = "open_clip:ViT-B-16-SigLIP/webli"
    with torch.device("meta"):
        encoder = create_encoder(name, False, "meta")
        images = torch.empty(1, 3, 600, 1000)
        assert encoder.tapped_grid(images, Tap(-2, True)).shape == (1, 768, 37, 62)
        assert encoder.pooled(images).shape == (1, 768)
        with pytest.raises(InputError, match=r"keep_cls needs a tower with a class token, got open_clip:ViT-B"):
            encoder.tapped_grid(images, Tap(keep_cls=True))


def clip_vit():
    torch.manual_seed(0)
    return ClipEncoder("vit", open_clip.transformer.VisionTransformer(**VIT), 16, Preprocess((32, 32))).eval()


def timm_vit():
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=3, dynamic_img_size=True)
    return TimmEncoder("vit", model, Preprocess((224, 224))).eval()


def clip_states(encoder, images):
    """Return the tokens after each block, (B, N, C), computed step by step."""
    visual = encoder.visual
    h, w = images.shape[-2] // 8, images.shape[-1] // 8
    table = visual.positional_embedding
    table = torch.cat([table[:1], resample_abs_pos_embed(table[None, 1:], [h, w], [4, 4], num_prefix_tokens=0)[0]])
    tokens = visual.conv1(images).flatten(2).transpose(1, 2)
    tokens = torch.cat([visual.class_embedding.expand(len(images), 1, -1), tokens], 1)
    return states_after(visual.ln_pre(tokens + table), visual.transformer.resblocks), visual.ln_post


def timm_states(encoder, images):
    model = encoder.model
    tokens = model.patch_embed.proj(images).flatten(2).transpose(1, 2)
    table = resample_abs_pos_embed(model.pos_embed, [images.shape[-2] // 16, images.shape[-1] // 16], [14, 14])
    tokens = torch.cat([model.cls_token.expand(len(images), -1, -1), tokens], 1) + table
    return states_after(model.norm_pre(tokens), model.blocks), model.norm


def states_after(tokens, blocks):
    states = []
    for block in blocks:
        tokens = block(tokens)
        states.append(tokens)
    return states


@pytest.mark.parametrize(("make", "run", "patch"), [(clip_vit, clip_states, 8), (timm_vit, timm_states, 16)])
@pytest.mark.parametrize("tap", [LAST, Tap(-2), Tap(-1, True), Tap(-3, True, True), Tap(-1, True, True)])
def test_maps_are_the_tokens_of_the_block_asked_for(make, run, patch, tap):
    encoder = make()
    images = torch.randn(2, 3, 3 * patch, 5 * patch)
    with torch.no_grad():
        states, norm = run(encoder, images)
        found = encoder.tapped_grid(images, tap)
    tokens = norm(states[tap.layer]) if tap.ln_post else states[tap.layer]
    if tap.keep_cls:
        assert found.shape[2:] == (1, 1 + 3 * 5)
        expected = tokens.transpose(1, 2)[:, :, None]
    else:
        expected = tokens[:, 1:].transpose(1, 2).unflatten(2, (3, 5))
    assert torch.allclose(found, expected, atol=1e-5)


def test_pixels_that_fill_no_patch_change_nothing():
    for encoder, patch in ((clip_vit(), 8), (timm_vit(), 16)):
        images = torch.randn(1, 3, 3 * patch + 5, 4 * patch + 3)
        with torch.no_grad():
            cut = encoder.grid(images[..., : 3 * patch, : 4 * patch])
            assert torch.allclose(encoder.grid(images), cut, atol=1e-6)


def test_a_block_that_is_not_there_and_a_resnet_are_refused():
    with pytest.raises(InputError, match=r"layer of vit must be -3 to -1, counted from the last block, got -4"):
        clip_vit().tapped_grid(torch.zeros(1, 3, 32, 32), Tap(-4))
    with pytest.raises(InputError, match=r"can be chosen for a ViT only, got pixels which is none"):
        create_encoder("pixels").tapped_grid(torch.zeros(1, 3, 32, 32), Tap(ln_post=True))
