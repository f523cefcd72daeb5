"""CLIPs small enough to be made in milliseconds, in the places of large ones, and open_clip's own whole models."""

import open_clip
import torch
from open_clip.factory import _MODEL_CONFIGS
from safetensors.torch import save_file

from vln_clip.encoders import clip

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 3}
VIT = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32, "patch_size": None}
COCA = {"context_length": 76, "embed_cls": True, "output_tokens": True}
CONFIGS = {
    "vit": {"embed_dim": 24, "quick_gelu": True, "vision_cfg": VIT, "text_cfg": TEXT},
    "vit_gelu": {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT},
    "resnet": {"embed_dim": 24, "quick_gelu": True, "vision_cfg": RESNET, "text_cfg": TEXT},
    "custom": {"embed_dim": 24, "quick_gelu": True, "custom_text": True, "vision_cfg": VIT, "text_cfg": TEXT},
    "coca": {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": VIT | {"attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True},
        "text_cfg": TEXT | COCA,
        "multimodal_cfg": TEXT | {"context_length": 76, "attn_pooler_heads": 4, "mlp_ratio": 4},
    },
    "foreign": {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT | {"hf_tokenizer_name": "some/tokenizer"}},
}
NAME = "clip_rn50"  # the row in whose place the small one stands


def stand_in(monkeypatch, kind):
    """Put a small architecture in the place of ``clip_rn50``."""
    monkeypatch.setitem(_MODEL_CONFIGS, f"tiny-{kind}", CONFIGS[kind])
    monkeypatch.setitem(clip.ARCHITECTURES, NAME, f"tiny-{kind}")


def whole(kind):
    """Return open_clip's own model of both towers, random but always the same, with a scale that is not the initial."""
    torch.manual_seed(7)
    config = dict(CONFIGS[kind])
    custom = config.pop("custom_text", False)
    make = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP if custom else open_clip.CLIP
    model = make(**config).eval()
    model.logit_scale.data.fill_(4.5)
    return model


def save_as(form, model, path):
    """Write the weights of a whole model in one of the forms that they are published in."""
    state = {key: value.half().contiguous() for key, value in model.state_dict().items()}
    model.load_state_dict(state)  # fp16 values, so that files and model agree exactly
    if form == "safetensors":
        save_file(state, path)
    elif form == "state_dict":
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    else:
        torch.jit.script(_holder(state | _OPENAI)).save(str(path))
    return path


_OPENAI = {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}


def _holder(state):
    """Return a module whose state dict is ``state``, all buffers."""
    root = torch.nn.Module()
    for key, value in state.items():
        module, *parts = root, *key.split(".")
        for part in parts[:-1]:
            if not hasattr(module, part):
                module.add_module(part, torch.nn.Module())
            module = getattr(module, part)
        module.register_buffer(parts[-1], value)
    return root
