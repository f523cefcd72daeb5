"""Which optimizer trains which weight: AdamW the Transformer, another one the encoder (specification §4.5)."""

from dataclasses import dataclass

from torch import nn

# As in the reference: norms whose names lack this, those of the projection and of the answer head, are decayed.
UNDECAYED = ("bias", "LayerNorm.weight")


@dataclass(frozen=True, eq=False)
class ParameterGroups:
    """Trainable weights; none is in two places.

    Attributes:
        transformer: two groups for AdamW, decayed and undecayed, with ``params`` and ``weight_decay``.
        encoder: the image encoder's; empty where it is frozen.
    """

    transformer: list[dict[str, object]]
    encoder: list[nn.Parameter]


def parameter_groups(model: nn.Module, weight_decay: float = 0.01) -> ParameterGroups:
    """Sort the weights of a model that has a ``ClipVil`` as ``vil``.

    Args:
        model: ``PretrainingModel`` or ``Classifier``.
        weight_decay: of the Transformer's weights, but for biases and BERT's norms.
    """
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    encoder: list[nn.Parameter] = []
    for name, value in model.named_parameters():
        if not value.requires_grad:
            continue
        if name.startswith("vil.encoder."):
            encoder.append(value)
        else:
            (undecayed if any(part in name for part in UNDECAYED) else decayed).append(value)
    groups: list[dict[str, object]] = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]
    return ParameterGroups(groups, encoder)
