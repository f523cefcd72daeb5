"""Public checkpoints of CLIP-ViL_p and LXMERT as weights of a CLIP-ViL_p model (specification §4.6)."""

import re
from pathlib import Path

from vln_clip.encoders.weights import read_state_dict
from vln_clip.errors import InputError
from vln_clip.tasks.pretraining.models.loading import Kind, LoadReport, Model, load_named

# Text tower, boxes and object heads take no part. The attention pool neither, and the reference has put random numbers
# into its layers (§7-9): that of the encoder stays.
CLIP_VIL = Kind(
    "CLIP-ViL_p checkpoint",
    re.compile(
        r"bert\.encoder\.visual_model\.((?!visual\.)|visual\.attnpool\.)|bert\.encoder\.visn_fc\.box_|"
        r"bert\.embeddings\.(position_ids|token_type_ids)$|obj_predict_head\."
    ),
    re.compile(r"vil\.encoder\.visual\.attnpool\."),
)
_LXMERT_UNUSED = (
    r"bert\.encoder\.(x_layers|r_layers|visn_fc)\.|bert\.embeddings\.(position_ids|token_type_ids)$|obj_predict_head\."
)
_LXMERT_ONLY = ("bert.encoder.x_layers.", "bert.encoder.r_layers.")
_LAYER = re.compile(r"bert\.encoder\.layer\.(\d+)\.")


def read_public_checkpoint(path: Path, model: Model) -> LoadReport:
    """Read ``EpochNN_LXRT.pth`` of CLIP-ViL_p or LXMERT into a model.

    Of LXMERT fit: embeddings, language layers as the first layers (9 of 12), pooler (trained before a tanh that we
    don't have) and heads. Its layers of regions and of both are unused; the image's input stays as it is.

    Args:
        path: a state dict saved by torch, with or without ``module.`` before its names.
        model: of the sizes and with the encoder that it was trained with.

    Returns:
        What was used, and what not. Heads may be missing, in the file and in the model.

    Raises:
        InputError: not such a file, damaged, not whole, or of another tower; the model is then unchanged.
    """
    tensors = read_state_dict(path)
    if not any(name.startswith("bert.") for name in tensors):
        first = next(iter(tensors), "nothing")
        raise InputError(f"{path} must be a checkpoint of CLIP-ViL_p or LXMERT, with names like bert.*, got {first}")
    if not any(name.startswith(_LXMERT_ONLY) for name in tensors):
        return load_named(model, tensors, CLIP_VIL, str(path))
    layers = {int(match[1]) for name in tensors if (match := _LAYER.match(name))}
    absent = "|".join([r"encoder\.", r"visual\.", *(rf"layers\.{i}\." for i in _beyond(layers, model))])
    kind = Kind("LXMERT checkpoint", re.compile(_LXMERT_UNUSED), re.compile(rf"vil\.({absent})"))
    return load_named(model, tensors, kind, str(path))


def _beyond(layers: set[int], model: Model) -> range:
    """Return the model's layers after the last one of a file."""
    return range(max(layers, default=-1) + 1, model.vil.sizes.num_layers)
