"""Text towers: equal to open_clip's whole models, whatever file holds them; tokens; and clear refusals."""

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny_clip import NAME, save_as, stand_in, whole
from vln_clip.encoders import create_encoder, create_text_encoder
from vln_clip.errors import InputError

TEXTS = [
    "A dog.",
    "",
    "  What  COLOR is the woman's&amp;shirt\ton the left?  ",
    "häuser 中 123",
    "much too long " * 40,
    " ".join(["red"] * 75),  # with begin and end exactly the 77 tokens of the context
    " ".join(["red"] * 76),
]
TOKENIZER = open_clip.SimpleTokenizer()


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    monkeypatch.setenv("VLN_CLIP_OFFLINE", "1")
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path / "cache"))


def tiny(monkeypatch, kind="vit", pretrained=False):
    stand_in(monkeypatch, kind)
    torch.manual_seed(3)
    return create_text_encoder(NAME, pretrained)


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("vit", "safetensors"),
        ("vit", "state_dict"),
        ("vit", "torchscript"),
        ("resnet", "torchscript"),
        ("vit_gelu", "safetensors"),
        ("custom", "safetensors"),
        ("coca", "safetensors"),
    ],
)
@torch.inference_mode()
def test_both_towers_equal_those_of_the_whole_model(monkeypatch, tmp_path, kind, form):
    model = whole(kind)
    path = save_as(form, model, tmp_path / f"weights.{'safetensors' if form == 'safetensors' else 'pt'}")
    text = tiny(monkeypatch, kind, path)
    tokens = TOKENIZER(TEXTS, text.context_length)
    assert torch.allclose(text.encode(TEXTS), model.encode_text(tokens, normalize=False), atol=1e-5)
    assert text.logit_scale == pytest.approx(90.0, abs=0.1)  # exp(4.5) = 90.02; the file holds 16 bits
    assert text.weights.startswith(f"{path.name} sha256:")
    if kind == "coca":
        return  # whose image tower pools by attention, which the encoders do not offer
    image = create_encoder(NAME, path)
    images = torch.randn(2, 3, *image.image_size_px)
    assert torch.allclose(image.pooled(images), model.encode_image(images), atol=1e-5)
    assert text.width == image.pooled_width


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("clip_rn50", "RN50-quickgelu"),
        ("clip_vit_b32", "ViT-B-32-quickgelu"),
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", "ViT-B-32"),
        ("open_clip:ViT-B-32/openai", "ViT-B-32-quickgelu"),  # whose plain spelling would compute another activation
    ],
)
@torch.inference_mode()
def test_real_architectures_equal_the_whole_model(tmp_path, name, architecture):
    model = open_clip.create_model(architecture).eval()
    path = save_as("safetensors", model, tmp_path / "weights.safetensors")
    text = create_text_encoder(name, path)
    found = text.encode(TEXTS)
    joined = text.encode_joined(text.words("A"), text.pack([text.words("dog.")]))
    assert torch.allclose(joined[0], found[0], atol=1e-5)
    assert torch.allclose(found, model.encode_text(open_clip.get_tokenizer(architecture)(TEXTS)), atol=1e-5)
    images = torch.randn(1, 3, 224, 224)
    assert torch.allclose(create_encoder(name, path).pooled(images), model.encode_image(images), atol=1e-5)


@pytest.mark.parametrize(("kind", "quick"), [("vit", True), ("vit_gelu", False)])
def test_quickgelu_is_on_only_where_the_weights_need_it(monkeypatch, kind, quick):
    kinds = {type(module).__name__ for module in tiny(monkeypatch, kind).modules()}
    assert ("QuickGELU" in kinds) == quick
    assert ("GELU" in kinds) != quick


@torch.inference_mode()
def test_padding_does_not_change_a_text(monkeypatch):
    text = tiny(monkeypatch)
    alone, beside = text.encode(["a dog"]), text.encode(["a dog", "much longer " * 20])
    assert torch.allclose(alone[0], beside[0], atol=1e-6)
    assert text.pack([text.words("a dog")]).shape == (1, 4)  # begin, a, dog, end
    assert alone.dtype == torch.float32
    assert text.encode([]).shape == (0, 24)


def test_gradients_reach_every_weight_of_the_tower(monkeypatch):
    text = tiny(monkeypatch)
    text.encode(TEXTS).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in text.parameters())


@pytest.mark.parametrize("begin", ["", "What is it?", "question: is it red? answer:", "red " * 74, "red " * 90])
def test_joined_tokens_are_those_of_the_joined_text(monkeypatch, begin):
    text = tiny(monkeypatch)
    ends = ["yes", "a hot dog", "", "2", "it's", "red " * 90]
    joined = text.join(text.words(begin), text.pack([text.words(end) for end in ends]))
    expected = TOKENIZER([f"{begin} {end}" for end in ends])
    width = joined.shape[1]
    assert torch.equal(joined, expected[:, :width])
    assert not expected[:, width:].any()


@pytest.mark.parametrize("kind", ["vit", "vit_gelu", "custom", "coca"])
@pytest.mark.parametrize("begin", ["", "What is it?", "red " * 60, "red " * 74, "red " * 90, "a <end_of_text> b"])
@torch.inference_mode()
def test_a_beginning_computed_once_changes_nothing(monkeypatch, kind, begin):
    text = tiny(monkeypatch, kind)
    ends = text.pack([text.words(end) for end in ["yes", "a hot dog", "", "red " * 8]])
    whole_texts = text.encode_tokens(text.join(text.words(begin), ends))
    assert torch.allclose(text.encode_joined(text.words(begin), ends), whole_texts, atol=1e-5)
    others = text.encode_joined(text.words(f"blue {begin}"), ends)
    assert (others - whole_texts).abs().amax(1).min() > 1e-3  # the beginning does matter


@torch.inference_mode()
def test_only_what_differs_is_computed_for_every_text(monkeypatch):
    text = tiny(monkeypatch)
    shapes = []
    text.tower.token_embedding.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    text.encode_joined(text.words("what color is the dog ?"), text.pack([text.words(end) for end in ["red", "blue"]]))
    assert shapes == [(1, 7), (2, 2)]  # begin and six words once; answer and end of each


@pytest.mark.parametrize("name", ["pixels", "pixels:64", "imagenet_resnet50", "bit_m_r50", "timm:resnet18.a1_in1k"])
def test_encoders_of_images_only_are_refused(name):
    with pytest.raises(InputError, match=rf"text tower, one of clip_rn50.*open_clip:ARCH/TAG, got '{name}' which sees"):
        create_text_encoder(name, False)


def test_other_tokenizers_are_refused(monkeypatch):
    with pytest.raises(InputError, match="CLIP's own tokenizer, got clip_rn50 which needs some/tokenizer from the hub"):
        tiny(monkeypatch, "foreign")
    with pytest.raises(InputError, match="own tokenizer, got open_clip:ViT-B-16-SigLIP/webli"):
        create_text_encoder("open_clip:ViT-B-16-SigLIP/webli", False)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: [state.pop(key) for key in list(state) if "visual" not in key], "both towers and logit_scale"),
        (lambda state: state.pop("logit_scale"), "both towers and logit_scale"),
        (lambda state: state.pop("ln_final.bias"), r"text tower, .*1 tensors differ.*ln_final.bias: .*found nothing"),
        (
            lambda state: state.update(text_projection=torch.zeros(32, 8)),
            r"text tower.*text_projection: expected \(32, 24\), found \(32, 8\)",
        ),
        (lambda state: state.update(strange=torch.zeros(1)), "e.g. strange: expected nothing"),
    ],
)
def test_files_that_do_not_fit_are_refused(monkeypatch, tmp_path, spoil, message):
    path = save_as("safetensors", whole("vit"), tmp_path / "w.safetensors")
    state = load_file(path)
    spoil(state)
    save_file(state, path)
    with pytest.raises(InputError, match=message):
        tiny(monkeypatch, "vit", path)


def test_missing_weights_are_told():
    with pytest.raises(InputError, match=r"clip_rn50 must be on.*timm/resnet50_clip.openai.*--weights FILE"):
        create_text_encoder("clip_rn50")
    with pytest.raises(InputError, match=r"must be a file, got 'nowhere\.pt' which does not exist"):
        create_text_encoder("clip_rn50", "nowhere.pt")
    with pytest.raises(InputError, match="did you mean 'clip_rn50x4'"):
        create_text_encoder("clip_rn50x5", False)
