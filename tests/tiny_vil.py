"""CLIP-ViL_p models small enough to be made in milliseconds, and their weights under the published names."""

from types import SimpleNamespace

import torch
from open_clip.model import _build_vision_tower

from tests.tiny_clip import RESNET, VIT
from vln_clip.encoders.base import Preprocess
from vln_clip.encoders.clip import ClipEncoder
from vln_clip.tasks.pretraining.models import ClipVil, PretrainingModel, VilSizes

SIZES = VilSizes(50, width=32, num_layers=2, num_heads=4, feed_forward_width=64, max_tokens=12, num_positions=6)
TOKENS = torch.tensor([[2, 5, 6, 3, 0, 0], [2, 7, 3, 0, 0, 0], [2, 8, 9, 10, 11, 3]])
MASKED = torch.tensor([[0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]]).bool()


def make_encoder(kind="resnet", seed=0):
    """Return a tower whose cells are 32 pixels (ResNet, C 256) or 16 (ViT, C 64) wide."""
    torch.manual_seed(seed)
    visual = _build_vision_tower(24, dict(RESNET if kind == "resnet" else VIT), True)
    with torch.no_grad():
        for name, value in visual.named_parameters():
            if name.endswith("bn3.weight"):
                value.fill_(0.5)  # zero at the beginning, so that nothing would reach what is before
    return ClipEncoder(f"tiny_{kind}", visual, 24, Preprocess((64, 64))).eval()


def make_vil(kind="resnet", seed=0, sizes=SIZES, **options):
    encoder = make_encoder(kind, seed)
    torch.manual_seed(seed + 1)
    return ClipVil(encoder, sizes, **options)


def make_pretraining(num_answers=7, seed=0, **options):
    vil = make_vil(seed=seed, **options)
    model = PretrainingModel(vil, num_answers)
    with torch.no_grad():
        model.words.bias.normal_()
    return model


def make_images(cells=(2, 3), batch=3, cell_px=32):
    """Return transformed images of so many cells."""
    generator = torch.Generator().manual_seed(5)
    return torch.randn(batch, 3, cells[0] * cell_px, cells[1] * cell_px, generator=generator)


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


def targets(words=(5, 9, 10), matched=(1, 0, 1), answer=(3, -1, -1)):
    return SimpleNamespace(**{name: torch.tensor(value).long() for name, value in locals().items()})


def total(losses):
    return sum(loss / count.clamp(min=1) for loss, count in losses.values())


BERT_NAMES = (  # ours, and those of BERT's files
    ("vil.embeddings.", "bert.embeddings."),
    ("vil.layers.", "bert.encoder.layer."),
    ("vil.pooler.", "bert.pooler.dense."),
    ("words.transform.", "cls.predictions.transform."),
    ("words.bias", "cls.predictions.bias"),
    ("matching.", "cls.seq_relationship."),
    ("answers.", "answer_head.logit_fc."),
)
VIL_NAMES = (
    *BERT_NAMES,
    ("vil.visual.projection.", "bert.encoder.visn_fc.visn_fc."),
    ("vil.visual.norm.", "bert.encoder.visn_fc.visn_layer_norm."),
    ("vil.visual.positions.rows", "bert.encoder.visual_pos.x_position_embedding.weight"),  # x counts rows
    ("vil.visual.positions.columns", "bert.encoder.visual_pos.y_position_embedding.weight"),
    ("vil.encoder.visual.", "bert.encoder.visual_model.visual."),
)


def renamed(model, names):
    """Return a model's weights under published names; those without one are left out."""
    found = {}
    for name, value in model.state_dict().items():
        for ours, theirs in names:
            if name.startswith(ours):
                found[name.replace(ours, theirs, 1)] = value.clone()
    found["cls.predictions.decoder.weight"] = found["bert.embeddings.word_embeddings.weight"]
    return found


def public_vil(model):
    """Return a model's weights as CLIP-ViL_p's files hold them, with what is in them beside."""
    found = renamed(model, VIL_NAMES)
    clip = "bert.encoder.visual_model."
    found[f"{clip}visual.attnpool.k_proj.weight"] = torch.full((256, 256), 9.0)
    found |= {f"{clip}logit_scale": torch.tensor(4.6), f"{clip}transformer.resblocks.0.ln_1.bias": torch.zeros(8)}
    found |= {"bert.encoder.visn_fc.box_fc.weight": torch.zeros(32, 4)}
    found |= {"obj_predict_head.transform.dense.weight": torch.zeros(4, 4)}
    return {f"module.{name}": value for name, value in found.items()}


def public_lxmert(model):
    """Return a model's weights as LXMERT's files hold them: one language layer, then those of regions and both."""
    found = {name: value for name, value in renamed(model, BERT_NAMES).items() if ".layer.1." not in name}
    found |= {"bert.encoder.x_layers.0.visual_attention.att.query.weight": torch.zeros(32, 32)}
    found |= {"bert.encoder.r_layers.0.output.dense.bias": torch.zeros(32)}
    found |= {"bert.encoder.visn_fc.visn_fc.weight": torch.zeros(32, 2048)}
    found |= {"obj_predict_head.decoder_dict.obj.bias": torch.zeros(4)}
    return {f"module.{name}": value for name, value in found.items()}
