"""What of an image speaks for a text: against other computations of the same, and towers whose maps follow by hand."""

import math

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F

from tests.test_encoder_maps import clip_resnet, clip_vit, make, timm_resnet, timm_vit
from tests.toy_towers import ColorEncoder, ColorWords
from vln_clip.encoders import create_encoder
from vln_clip.encoders.base import Attended, Preprocess
from vln_clip.encoders.clip import ClipEncoder
from vln_clip.encoders.relevance import covered_part, explain, over_picture, relevance, rollout_map
from vln_clip.encoders.towers import TimmEncoder
from vln_clip.errors import InputError

SCALE = 20.0


def registers_vit():
    model = timm.create_model("test_vit", num_classes=0, dynamic_img_size=True, reg_tokens=2)
    return TimmEncoder("registers", model, Preprocess((32, 32))), None, True


def trunk_vit():
    visual = open_clip.timm_model.TimmModel("test_vit", 16, image_size=160, pool="token", proj="linear")
    return ClipEncoder("trunk", visual, 16, Preprocess((160, 160))), None, True


VITS = [clip_vit, timm_vit, registers_vit, trunk_vit]


def images_and_targets(encoder, B=2):
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(B, 3, 64, 96, dtype=torch.float64, generator=generator)
    return images, torch.randn(B, encoder.pooled_width, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("network", [clip_resnet, timm_resnet])
def test_grad_cam_is_that_of_plain_backpropagation(network):
    encoder, layer, _ = make(network)
    images, targets = images_and_targets(encoder)
    images[1], targets[1] = images[0], -targets[0]  # what speaks against one speaks for the other
    found = relevance(encoder, images, targets, SCALE)
    assert found.maps.max() > 0
    kept = []
    layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    for row in range(2):
        kept.clear()
        feature = encoder.pooled(images[row : row + 1])[0]
        text = targets[row] / targets[row].norm()
        kept[0].retain_grad()
        (feature * (text * feature.norm()).detach()).sum().backward()
        cells, gradient = kept[0][0], kept[0].grad[0]
        expected = torch.zeros(cells.shape[1:], dtype=torch.float64)
        for channel, by_channel in zip(cells, gradient, strict=True):
            expected += by_channel.mean() * channel
        assert torch.allclose(found.maps[row], expected.clamp(min=0), atol=1e-12)
        assert torch.allclose(found.cosines[row], feature @ text / feature.norm())


class Embeds(torch.nn.Module):
    def __init__(self, visual):
        super().__init__()
        self.visual = visual

    def forward(self, images):
        return self.visual._embeds(images)


def embedded(encoder, image):
    """Return the tokens (1, T, C) that enter the first block, of either library."""
    if encoder.name == "vit" and isinstance(encoder, ClipEncoder):
        tables = {f"visual.{key}": value for key, value in encoder._tables(image).items()}
        return torch.func.functional_call(Embeds(encoder.visual), tables, (image,))
    model = trunk_of(encoder)
    rows, columns = (side // 16 * 16 for side in image.shape[2:])
    return model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(image[..., :rows, :columns]))))


def trunk_of(encoder):
    return encoder.visual.trunk if isinstance(encoder, ClipEncoder) else encoder.model


def finished(encoder, tokens):
    """Return the feature of tokens (1, T, C) that leave the last block, (D,)."""
    if encoder.name == "vit" and isinstance(encoder, ClipEncoder):
        return (encoder.visual.ln_post(tokens)[:, 0] @ encoder.visual.proj)[0]
    model = trunk_of(encoder)
    feature = model.forward_head(model.norm(tokens))
    return (encoder.visual.head(feature) if isinstance(encoder, ClipEncoder) else feature)[0]


def parts_of(encoder):
    """Return norm, attention, scale; norm, network, scale of every block."""
    if encoder.name == "vit" and isinstance(encoder, ClipEncoder):
        return [(b.ln_1, b.attn, b.ls_1, b.ln_2, b.mlp, b.ls_2) for b in encoder.visual.transformer.resblocks]
    return [(b.norm1, b.attn, b.ls1, b.norm2, b.mlp, b.ls2) for b in trunk_of(encoder).blocks]


def naive_attention(attention, tokens, kept):
    """Attend head by head: tokens (T, C); probabilities go into ``kept``."""
    if isinstance(attention, torch.nn.MultiheadAttention):
        joint, out = F.linear(tokens, attention.in_proj_weight, attention.in_proj_bias), attention.out_proj
    else:
        joint, out = attention.qkv(tokens), attention.proj
    query, key, value = joint.chunk(3, dim=-1)
    width, heads = query.shape[-1] // attention.num_heads, []
    for head in range(attention.num_heads):
        part = slice(head * width, (head + 1) * width)
        scores = query[:, part] @ key[:, part].T / math.sqrt(width)
        probabilities = scores.exp() / scores.exp().sum(1, keepdim=True)
        probabilities.retain_grad()
        kept.append(probabilities)
        heads.append(probabilities @ value[:, part])
    return out(torch.cat(heads, 1))


def naive_rollout(encoder, image, target):
    """Roll out one image as it is written down, matrix by matrix and entry by entry."""
    tokens, layers = embedded(encoder, image[None])[0], []
    for norm1, attention, scale1, norm2, network, scale2 in parts_of(encoder):
        layers.append([])
        tokens = tokens + scale1(naive_attention(attention, norm1(tokens), layers[-1]))
        tokens = tokens + scale2(network(norm2(tokens)))
    feature = finished(encoder, tokens[None])
    (SCALE * (feature / feature.norm()) @ (target / target.norm())).backward()
    T = len(tokens)
    R = torch.eye(T, dtype=torch.float64)
    for heads in layers:
        C = torch.zeros(T, T, dtype=torch.float64)
        for probabilities in heads:
            weighted = (probabilities.detach() * probabilities.grad).tolist()
            for i in range(T):
                for j in range(T):
                    C[i, j] += max(0.0, weighted[i][j]) / len(heads)
        R = R + C @ R
    return R[0]


@pytest.mark.parametrize("network", VITS)
def test_rollout_is_that_of_loops_over_heads_and_tokens(network):
    encoder, _, _ = make(network)
    images, targets = images_and_targets(encoder)
    found = relevance(encoder, images, targets, SCALE)
    rows, columns = found.maps.shape[1:]
    for row in range(2):
        expected = naive_rollout(encoder, images[row], targets[row])[-rows * columns :]
        assert torch.allclose(found.maps[row].flatten(), expected, atol=1e-10, rtol=1e-6)
        assert expected.max() > 1e-6
    assert torch.allclose(found.cosines, F.cosine_similarity(encoder.pooled(images), targets))


@pytest.mark.parametrize("network", VITS)
def test_explicit_attention_gives_what_the_module_gives(network):
    encoder, _, _ = make(network)
    images, _ = images_and_targets(encoder)
    before = encoder.pooled(images)
    attended = encoder.pooled_with_attention(images)
    assert torch.allclose(attended.pooled, before, atol=1e-12)
    tokens = attended.num_prefix + attended.size[0] * attended.size[1]
    assert len(attended.probabilities) == encoder.num_blocks
    for probabilities in attended.probabilities:
        assert probabilities.shape[2:] == (tokens, tokens)
        assert torch.allclose(probabilities.sum(3), torch.ones(()).double())


def test_probabilities_are_those_that_pytorch_returns():
    encoder, block, _ = make(clip_vit)
    images, _ = images_and_targets(encoder)
    inputs = []
    handle = block.attn.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    last = encoder.pooled_with_attention(images).probabilities[-1]
    handle.remove()
    _, expected = block.attn(inputs[0], inputs[0], inputs[0], need_weights=True, average_attn_weights=False)
    assert torch.allclose(last, expected)


@pytest.mark.parametrize("network", VITS)
def test_a_tower_is_left_as_it_was(network, monkeypatch):
    encoder, _, _ = make(network)
    images, targets = images_and_targets(encoder)
    relevance(encoder, images, targets, SCALE)
    monkeypatch.setattr(encoder, "pooled", lambda images: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        relevance(encoder, images, targets, SCALE)
    for module in encoder.modules():
        assert not module._forward_hooks
        assert getattr(module, "fused_attn", True)
    assert all(parameter.grad is None for parameter in encoder.parameters())


@pytest.mark.parametrize("network", [clip_resnet, clip_vit, timm_vit])
def test_frozen_weights_and_a_call_without_gradients_change_nothing(network):
    encoder, _, _ = make(network)
    images, targets = images_and_targets(encoder)
    expected = relevance(encoder, images, targets, SCALE).maps
    with torch.no_grad():
        assert torch.equal(relevance(encoder.requires_grad_(False), images, targets, SCALE).maps, expected)


@pytest.mark.parametrize("network", [clip_resnet, clip_vit])
def test_images_of_a_batch_are_explained_as_alone(network):
    encoder, _, _ = make(network)
    images, targets = images_and_targets(encoder, B=3)
    together = relevance(encoder, images, targets, SCALE).maps
    for row in range(3):
        alone = relevance(encoder, images[[row]], targets[[row]], SCALE).maps
        assert torch.allclose(together[[row]], alone, atol=1e-10)


class ColorCells(ColorEncoder):
    """The mean color of the cells of 2 x 2 pixels."""

    def pooled_with_map(self, images):
        grid = F.avg_pool2d(images, 2).requires_grad_()
        return grid.mean((2, 3)), grid


def colored_cells(**cells):
    """Return a black image of 2 x 2 cells, some of them colored by their row and column."""
    image = torch.zeros(1, 3, 4, 4)
    for color, (row, column) in cells.items():
        image[0, ["red", "green", "blue"].index(color), 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = 1
    return image


def test_the_cell_that_shows_the_word_lights_up_alone():
    # One red and one blue cell of four: the feature is (1/4, 0, 1/4), of length √2/4; so the score is √2/4 times the
    # mean of red, whose gradient is √2/16 by the red of each cell.
    image = colored_cells(red=(0, 1), blue=(1, 0))
    maps = explain(ColorCells().eval(), ColorWords(), image.expand(2, -1, -1, -1), ["a red door", "the blue one"])
    assert torch.allclose(maps[0], torch.tensor([[0, math.sqrt(2) / 16], [0, 0]]))
    assert torch.allclose(maps[1], torch.tensor([[0, 0], [math.sqrt(2) / 16, 0]]))
    found = relevance(ColorCells().eval(), image, torch.tensor([[5.0, 0, 0]]), 1.0)
    assert float(found.cosines) == pytest.approx(1 / math.sqrt(2))


def test_what_speaks_against_a_text_is_not_shown():
    # Towards (1, 0, -2) the red cell is worth 1 and the blue one -2.
    maps = relevance(ColorCells().eval(), colored_cells(red=(0, 0), blue=(1, 1)), torch.tensor([[1.0, 0, -2]]), 1).maps
    assert maps[0, 0, 0] > 0
    assert maps.count_nonzero() == 1


def test_rollout_of_one_block_follows_by_hand():
    # The class token gives a quarter of its attention to each of two patches, worth (1, 0) and (0, 1): the feature is
    # (1/4, 1/4), its cosine with (1, 0) 1/√2, the gradient of that ((1, 0) - (1/2, 1/2)) / (√2/4) = (√2, -√2). Times
    # attention and a scale of 8: (2√2, -2√2), of which the negative part is cut.
    probabilities = torch.tensor([[[[0.5, 0.25, 0.25], [0, 1, 0], [0, 0, 1]]]], requires_grad=True)
    pooled = (probabilities[:, 0] @ torch.tensor([[0.0, 0], [1, 0], [0, 1]]))[:, 0]
    found = rollout_map(Attended(pooled, [probabilities], (1, 2), 1), torch.tensor([[1.0, 0]]), 8.0)
    assert torch.allclose(found, torch.tensor([[[2 * math.sqrt(2), 0]]]))


def averaging_vit():
    size = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "heads": 2, "mlp_ratio": 2.0, "output_dim": 16}
    visual = open_clip.transformer.VisionTransformer(**size, pool_type="avg")
    return ClipEncoder("averaging", visual, 16, Preprocess((32, 32)))


def averaging_timm():
    model = timm.create_model("test_vit", num_classes=0, dynamic_img_size=True, global_pool="avg")
    return TimmEncoder("averaging", model, Preprocess((32, 32)))


def rotating_timm():
    encoder, _, _ = timm_vit()
    encoder.name, encoder.model.blocks[1].attn = "averaging", torch.nn.Identity()
    return encoder


@pytest.mark.parametrize(
    "tower", [averaging_vit, averaging_timm, rotating_timm, lambda: create_encoder("pixels"), lambda: clip_resnet()[0]]
)
def test_towers_that_rollout_does_not_fit_say_so(tower):
    encoder = tower().eval()
    with pytest.raises(InputError, match=f"attention rollout needs a ViT whose class token .*got {encoder.name}"):
        encoder.pooled_with_attention(torch.zeros(1, 3, 96, 128))
    assert not any(module._forward_hooks for module in encoder.modules())


@pytest.mark.parametrize(
    ("transform", "size", "expected"),
    [
        # Resized to 224 x 335 (427 · 224/427; 640 · 224/427 = 335.7, floored), of which columns 56 to 280 stay.
        (Preprocess((224, 224)), (427, 640), (0, 56 * 640 / 335, 427, 224 * 640 / 335)),
        # Portrait: 298 x 224 (400 · 224/300 = 298.7), rows 37 to 261.
        (Preprocess((224, 224)), (400, 300), (37 * 400 / 298, 0, 224 * 400 / 298, 300)),
        (Preprocess((224, 224)), (50, 50), (0, 0, 50, 50)),
        (Preprocess((96, 128), crop="squash"), (300, 200), (0, 0, 300, 200)),
        (Preprocess((96, 128), crop="full"), (300, 200), (0, 0, 300, 200)),
    ],
)
def test_the_window_is_what_the_encoder_gets_of_a_picture(transform, size, expected):
    window = transform.window(*size)
    assert tuple(window) == pytest.approx(expected)
    picture = torch.zeros(1, 3, *size, dtype=torch.uint8)
    top, left = math.floor(window.top), math.floor(window.left)
    below, right = math.ceil(window.top + window.height), math.ceil(window.left + window.width)
    wide = 8  # pixels that bicubic interpolation looks beyond
    picture[..., max(top - wide, 0) : below + wide, max(left - wide, 0) : right + wide] = 255
    assert transform.fit(picture).min() == 255
    picture[:] = 255
    picture[..., top + wide : below - wide, left + wide : right - wide] = 0
    edge = transform.fit(picture)
    assert all(part.max() > 128 for part in (edge[..., 0, :], edge[..., -1, :], edge[..., 0], edge[..., -1]))


def test_maps_are_put_where_the_crop_was():
    # Of a picture 4 high and 8 wide the middle 4 x 4 is seen: columns 2 to 5. Cells of 2 x 2 pixels have their centers
    # between pixels 0|1 and 2|3, so that four pixels have 0, 1/4, 3/4, 1 of the way, the outer ones cut at the centers.
    maps = torch.tensor([[[0.0, 1], [0, 1]]])
    found, seen = over_picture(maps, Preprocess((4, 4)), (4, 8), (4, 8))
    assert torch.allclose(found, torch.tensor([0, 0, 0, 0.25, 0.75, 1, 0, 0]).expand(1, 4, 8))
    assert seen.tolist() == [[False] * 2 + [True] * 4 + [False] * 2] * 4


def test_over_the_whole_picture_maps_are_interpolated_as_pytorch_does():
    maps = torch.rand(2, 7, 7)
    found, seen = over_picture(maps, Preprocess((224, 224), crop="squash"), (40, 60), (40, 60))
    assert torch.allclose(found, F.interpolate(maps[:, None], size=(40, 60), mode="bilinear")[:, 0], atol=1e-5)
    assert seen.all()


def test_pixels_beyond_the_last_whole_patch_are_not_seen():
    # 4 patches of 8 pixels cover 32 of 40: in a picture of 10 x 10 the first 8.
    encoder, _, _ = clip_vit()
    encoder.image_size_px = (40, 40)
    part = covered_part(encoder, (4, 4))
    assert part == (0.8, 0.8)
    _, seen = over_picture(torch.ones(1, 4, 4), Preprocess((40, 40)), (10, 10), (10, 10), part)
    assert seen.int().sum(0).tolist() == [8] * 8 + [0] * 2
    assert covered_part(clip_resnet()[0], (2, 2)) == (1, 1)
