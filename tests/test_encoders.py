"""Encoders: names, widths, grid sizes, preprocessing, weights from files, and what pixels sees."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from vln_clip.encoders import ENCODERS, create_encoder, pooled_width
from vln_clip.encoders.base import Preprocess
from vln_clip.encoders.clip import resample_table
from vln_clip.encoders.pixels import color_table, projection
from vln_clip.encoders.table import WIDTHS
from vln_clip.errors import InputError
from vln_clip.registry import resolve


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    monkeypatch.setenv("VLN_CLIP_OFFLINE", "1")
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def clip_rn50():
    return create_encoder("clip_rn50", pretrained=False)


@pytest.fixture(scope="module")
def clip_vit_b32():
    return create_encoder("clip_vit_b32", pretrained=False)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_row_resolves_and_has_widths(name):
    assert callable(resolve("encoder", ENCODERS, name))
    assert pooled_width(name) == WIDTHS[name].pooled


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_widths_of_the_table_are_those_of_the_models(name):
    encoder = create_encoder(name, pretrained=False)
    images = torch.zeros(1, 3, 64, 96)
    with torch.inference_mode():
        assert encoder.pooled(images).shape == (1, WIDTHS[name].pooled)
        assert encoder.grid(images).shape[1] == WIDTHS[name].grid
    assert (encoder.pooled_width, encoder.grid_width) == WIDTHS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["open_clip:ViT-B-32/laion2b_s34b_b79k", "timm:resnet18.a1_in1k", "pixels:48"])
def test_prefixes_reach_everything_else(name):
    encoder = create_encoder(name, pretrained=False)
    with torch.inference_mode():
        images = torch.zeros(2, 3, 64, 64)
        assert encoder.pooled(images).shape == (2, encoder.pooled_width)
        assert encoder.grid(images).shape[:2] == (2, encoder.grid_width)


# specs/vl_tasks.md 1.5, and sizes that leave pixels over: RN halves five times rounding down, ViT-B/32 divides by 32
@pytest.mark.parametrize(("size", "grid"), [((64, 96), (2, 3)), ((150, 250), (4, 7)), ((100, 130), (3, 4))])
def test_grid_sizes_round_down(clip_rn50, clip_vit_b32, size, grid):
    images = torch.zeros(1, 3, *size)
    with torch.inference_mode():
        assert clip_rn50.grid(images).shape == (1, 2048, *grid)
        assert clip_vit_b32.grid(images).shape == (1, 768, *grid)
        assert clip_rn50.pooled(images).shape == (1, 1024)
        assert clip_vit_b32.pooled(images).shape == (1, 512)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "grid"), [((224, 224), (7, 7)), ((448, 448), (14, 14)), ((384, 640), (12, 20)), ((600, 1000), (18, 31))]
)
def test_grid_sizes_of_the_specification(clip_rn50, clip_vit_b32, size, grid):
    with torch.inference_mode():
        for encoder in (clip_rn50, clip_vit_b32):
            assert encoder.grid(torch.zeros(1, 3, *size)).shape[2:] == grid


@pytest.mark.slow
def test_imagenet_grids_round_up():
    encoder = create_encoder("imagenet_resnet50", pretrained=False)
    with torch.inference_mode():
        assert encoder.grid(torch.zeros(1, 3, 600, 1000)).shape[2:] == (19, 32)


def test_quickgelu_is_on_where_the_weights_need_it(clip_vit_b32):
    assert "QuickGELU" in {type(module).__name__ for module in clip_vit_b32.modules()}


def test_native_size_equals_the_towers_own_forward(clip_rn50):
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(clip_rn50.pooled(images), clip_rn50.visual(images), atol=1e-5)


def test_gradients_reach_the_position_table_at_other_sizes(clip_vit_b32):
    clip_vit_b32.zero_grad()
    clip_vit_b32.pooled(torch.randn(1, 3, 64, 96)).sum().backward()
    assert clip_vit_b32.visual.positional_embedding.grad.abs().sum() > 0


def test_position_tables_take_an_explicit_grid():
    table = torch.randn(50, 8)
    assert resample_table(table, (7, 7)) is table
    assert resample_table(table, (18, 31)).shape == (1 + 18 * 31, 8)
    assert torch.equal(resample_table(table, (18, 31))[0], table[0])


def test_preprocess_is_close_to_pil():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).resize((64, 48), Image.Resampling.BOX)
    rule = Preprocess((24, 24), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    expected = np.array(image.resize((32, 24), Image.Resampling.BICUBIC).crop((4, 0, 28, 24)))
    assert np.abs(rule(image).permute(1, 2, 0).numpy() * 255 - expected).max() <= 1.01
    batch = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    assert torch.equal(rule(batch)[0], rule(image))


def test_native_preprocess_of_a_view_keeps_the_middle():
    rule = Preprocess((288, 288))  # 480 x 640 -> 288 x 384 -> the middle 288 columns
    image = torch.zeros(1, 3, 480, 640, dtype=torch.uint8)
    image[..., 80:560] = 255
    assert rule(image).shape == (1, 3, 288, 288)
    assert rule(image)[..., 4:-4].std() < 1.0
    assert rule(image)[0, 0].min() > 0


def test_full_crop_keeps_every_pixel():
    assert Preprocess((224, 224)).with_crop("full")(torch.zeros(3, 48, 64, dtype=torch.uint8)).shape == (3, 48, 64)


def test_preprocess_refuses_floats():
    with pytest.raises(InputError, match="uint8"):
        Preprocess((8, 8))(torch.zeros(3, 8, 8))


@pytest.mark.parametrize("kind", ["safetensors", "state_dict", "torchscript"])
def test_local_weights_load(clip_vit_b32, tmp_path, kind):
    state = {f"visual.{key}": value.half() for key, value in clip_vit_b32.visual.state_dict().items()}
    path = tmp_path / f"weights.{'safetensors' if kind == 'safetensors' else 'pt'}"
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "state_dict":
        torch.save({"state_dict": state}, path)
    else:  # an OpenAI archive is a scripted module with fp16 parameters under the names of the state dict
        holder = torch.nn.Module()
        holder.visual = clip_vit_b32.visual.__class__.__base__()
        for key, value in state.items():
            module, parts = holder, key.split(".")
            for part in parts[:-1]:
                if not hasattr(module, part):
                    module.add_module(part, torch.nn.Module())
                module = getattr(module, part)
            module.register_buffer(parts[-1], value)
        torch.jit.script(holder).save(str(path))
    loaded = create_encoder("clip_vit_b32", pretrained=path)
    key = "transformer.resblocks.3.mlp.c_fc.weight"
    assert torch.equal(loaded.visual.state_dict()[key], state[f"visual.{key}"].float())
    assert loaded.weights.startswith(path.name)
    assert "sha256:" in loaded.weights


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"visual.conv1.weight": torch.zeros(3, 3)}, path)
    with pytest.raises(InputError, match="must fit its image tower"):
        create_encoder("clip_rn50", pretrained=path)


def test_pickles_are_never_run(tmp_path):
    path = tmp_path / "bad.pt"
    torch.save({"x": pytest.approx(1.0)}, path)
    with pytest.raises(InputError, match="weights must be"):
        create_encoder("clip_rn50", pretrained=path)


def test_missing_weights_say_where_to_get_them():
    with pytest.raises(InputError, match=r"clip_rn50 must be on.*timm/resnet50_clip.openai.*--weights FILE"):
        create_encoder("clip_rn50")


def test_unreachable_address_gives_up_at_once(monkeypatch):
    monkeypatch.setenv("VLN_CLIP_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(InputError, match="ConnectionError"):
        create_encoder("imagenet_resnet50")


def test_unknown_encoder_suggests_the_nearest():
    with pytest.raises(InputError, match="did you mean 'clip_rn50x4'"):
        create_encoder("clip_rn50x5", pretrained=False)


def test_unknown_tag_and_width_are_refused():
    with pytest.raises(InputError, match="tag of open_clip:RN50"):
        create_encoder("open_clip:RN50/openia", pretrained=False)
    with pytest.raises(InputError, match="pixels:WIDTH"):
        create_encoder("pixels:wide")


def test_pixels_is_the_same_every_time():
    images = torch.rand(3, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    first, second = create_encoder("pixels").pooled(images), create_encoder("pixels").pooled(images)
    assert torch.equal(first, second)
    assert first.shape == (3, 640)
    # entries are multiples of 2^-20, so the matrix has the same bits on every machine
    assert torch.equal(projection(315, 640) * 2**20, (projection(315, 640) * 2**20).round())


def test_pixels_projection_loses_nothing():
    matrix = projection(315, 640).double()
    assert torch.allclose(matrix @ matrix.T, torch.eye(315, dtype=torch.float64), atol=1e-4)


def test_pixels_sees_the_color_of_a_small_object():
    views = torch.full((3, 3, 96, 128), 0.7)  # gray wall; a red, the same red, and a blue box of 2 % of the view
    views[0, :, 40:56, 56:72] = torch.tensor([0.85, 0.1, 0.1])[:, None, None]
    views[1, :, 42:58, 54:70] = torch.tensor([0.8, 0.15, 0.1])[:, None, None]
    views[2, :, 40:56, 56:72] = torch.tensor([0.1, 0.1, 0.85])[:, None, None]
    red, red_again, blue = create_encoder("pixels").pooled(views)
    assert (red - blue).norm() > 3 * (red - red_again).norm()


def test_pixels_colors_are_shares():
    assert torch.allclose(color_table().sum(1), torch.ones(32768), atol=1e-5)
    assert color_table()[31 * 1024].argmax() == 0  # pure red is the first vivid hue


def test_pixels_grid_and_other_sizes():
    encoder = create_encoder("pixels:64")
    assert encoder.grid(torch.rand(2, 3, 100, 150)).shape == (2, 64, 6, 9)
    assert encoder.pooled(torch.rand(2, 3, 120, 160)).shape == (2, 64)
    assert not encoder.trainable
