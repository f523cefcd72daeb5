"""How weights with BERT's names enter a CLIP-ViL_p model: strictly, with a list of what was used and what was not."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vln_clip.errors import InputError
from vln_clip.tasks.pretraining.models.heads import Classifier, PretrainingModel

# Beginnings of published names, and of ours.
NAMES = {
    "bert.embeddings.": "vil.embeddings.",
    "bert.encoder.layer.": "vil.layers.",
    "bert.pooler.dense.": "vil.pooler.",
    "bert.encoder.visn_fc.visn_fc.": "vil.visual.projection.",
    "bert.encoder.visn_fc.visn_layer_norm.": "vil.visual.norm.",
    # the published "x" counts rows
    "bert.encoder.visual_pos.x_position_embedding.weight": "vil.visual.positions.rows",
    "bert.encoder.visual_pos.y_position_embedding.weight": "vil.visual.positions.columns",
    "bert.encoder.visual_model.visual.": "vil.encoder.visual.",
    "cls.predictions.transform.": "words.transform.",
    "cls.predictions.bias": "words.bias",
    "cls.seq_relationship.": "matching.",
    "answer_head.logit_fc.": "answers.",
}
HEADS = re.compile(r"(words|matching|answers|head)\.")
_TABLE = "bert.embeddings.word_embeddings.weight"
_TIED = {"cls.predictions.decoder.weight": _TABLE, "cls.predictions.decoder.bias": "cls.predictions.bias"}
_COUNTS = ".num_batches_tracked"

Model = PretrainingModel | Classifier


@dataclass(frozen=True)
class LoadReport:
    """What became of a file's tensors.

    Attributes:
        used: names of the file that are in the model now.
        unused: names of the file that have no place in the model, all of them expected.
        missing: weights of the model that the file doesn't have; they are what they were.
    """

    used: tuple[str, ...]
    unused: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """A kind of weights file.

    Attributes:
        title: for messages.
        unused: matches the beginning of names that are passed over.
        absent: matches the beginning of weights of the model that such a file need not have.
    """

    title: str
    unused: re.Pattern[str]
    absent: re.Pattern[str]


def load_named(model: Model, tensors: Mapping[str, Tensor], kind: Kind, source: str) -> LoadReport:
    """Copy tensors with published names into a model; nothing is changed where one of them doesn't fit.

    Args:
        model: with the sizes that the tensors were trained with.
        tensors: by published name.
        kind: of the file.
        source: file, for messages.

    Raises:
        InputError: an unknown or missing tensor, another shape, or numbers that are not finite.
    """
    where = f"{kind.title} {source}"
    own = model.state_dict()
    chosen: dict[str, Tensor] = {}
    used, unused = [], []
    for name, value in tensors.items():
        target = our_name(name)
        if kind.unused.match(name) or (target and target not in own and HEADS.match(target)):
            unused.append(name)
            continue
        if name in _TIED:
            _check_tied(where, name, value, tensors)
        elif target is None or target not in own:
            raise InputError(_stranger(where, name, model))
        else:
            _check(where, name, value, own[target], model)
            chosen[target] = value
        used.append(name)
    missing = sorted(name for name in own.keys() - chosen.keys() if not name.endswith(_COUNTS))
    for name in missing:
        if not kind.absent.match(name) and not HEADS.match(name):
            raise InputError(f"{where} must have a tensor for {name} of the model, but has none; is the file whole?")
    model.load_state_dict(chosen, strict=False)
    return LoadReport(tuple(used), tuple(unused), tuple(missing))


def our_name(name: str) -> str | None:
    """Return our name of a published tensor, None where we have none."""
    for theirs, ours in NAMES.items():
        if name == theirs or (theirs.endswith(".") and name.startswith(theirs)):
            return ours + name.removeprefix(theirs)
    return None


def _check(where: str, name: str, value: Tensor, own: Tensor, model: Model) -> None:
    """Refuse a tensor that doesn't fit its place."""
    if value.shape != own.shape:
        raise InputError(
            f"{where}: {name} must be {tuple(own.shape)}, got {tuple(value.shape)}; build the model with the encoder "
            f"({model.vil.encoder.name} here), sizes and answers that it was trained with"
        )
    if value.is_floating_point() and not value.isfinite().all():
        raise InputError(f"{where}: {name} must hold finite numbers, got others; is the file damaged?")


def _check_tied(where: str, name: str, value: Tensor, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a head of masked words with weights of its own: the model has them once."""
    other = tensors.get(_TIED[name])
    if other is None or not torch.equal(value, other):
        raise InputError(f"{where}: {name} must be the same as {_TIED[name]}, got other numbers")


def _stranger(where: str, name: str, model: Model) -> str:
    """Say that a tensor has no place."""
    if name.startswith("bert.encoder.visual_model."):
        return (
            f"{where} must be of the tower {model.vil.encoder.name} that the model was built with, but {name} is not "
            "in it; build the model with the encoder that the file was trained with"
        )
    return f"{where} must hold tensors of this model only, got {name}; is it another model, or one with more layers?"
