"""Small VQA models and their inputs, and PyTorch's own layers with the weights of ours."""

import torch
from torch import nn

from vln_clip.tasks.vqa.models import build_vqa_model

V, C, A = 12, 6, 5  # words, channels, answers
ATTENTION = {"width": 16, "num_layers": 2, "num_heads": 2, "feed_forward_width": 32, "pool_width": 8}
SIZES = {
    "pythia": {"hidden_width": 16, "attention_width": 8, "fusion_width": 24, "text_width": 6},
    "movie_mcan": ATTENTION | {"movie_width": 8, "num_movie_blocks": 2, "fusion_width": 20, "pad_to": 5},
    "mcan_small": ATTENTION | {"fusion_width": 20},
}
TOKENS = torch.tensor([[3, 1, 4, 0, 0], [1, 5, 9, 2, 6], [7, 0, 0, 0, 0]])


def build(name, **sizes):
    return build_vqa_model(name, V, C, A, None, **{"word_width": 7, **SIZES[name], **sizes})


def grids(*shape, dtype=torch.float32):
    return torch.randn(*(shape or (3, C, 3, 4))).relu().to(dtype)


def copy_attention(ours, plain):
    """Give a plain attention the weights of ours."""
    parts = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        plain.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        plain.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    plain.out_proj.load_state_dict(ours.output.state_dict())


def copy_layer(ours, plain):
    copy_attention(ours.attention, plain.self_attn)
    plain.linear1.load_state_dict(ours.feed_forward.hidden.state_dict())
    plain.linear2.load_state_dict(ours.feed_forward.output.state_dict())
    for i, norm in enumerate(ours.norms, 1):
        nn.init.normal_(norm.weight)
        getattr(plain, f"norm{i}").load_state_dict(norm.state_dict())
