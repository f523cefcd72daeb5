"""Checkpoints of a follower that was trained together with its encoder: what is whose, and features of that encoder.

Such a checkpoint holds both models' weights and says so in its header. To use it, its encoder is written beside it as a
file that ``tower:PATH`` names, so that features of it are found, extracted and looked into like those of any other.
"""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vln_clip import checkpoint
from vln_clip.agents.follower import Follower
from vln_clip.checkpoint import Checkpoint
from vln_clip.encoders import Encoder, create_encoder
from vln_clip.encoders.tower_files import (
    architecture_of,
    network_of,
    pooled_by,
    pooling_of,
    read_tower_header,
    save_tower,
    tower_digest,
)
from vln_clip.errors import InputError

TRAINED = "trained_encoder"  # of a checkpoint's header
FILE = "encoder.safetensors"
_FOLLOWER, _TOWER = "follower", "tower"


def joint_model(follower: Follower, encoder: Encoder) -> nn.Module:
    """Return both models as one, for checkpoints."""
    return nn.ModuleDict({_FOLLOWER: follower, _TOWER: network_of(encoder)})


def describe_encoder(encoder: Encoder) -> dict[str, Any]:
    """Return what a header says of the encoder that is trained: its kind, and the weights that it began with."""
    found = {"architecture": architecture_of(encoder), "pooling": pooling_of(encoder), "weights": encoder.weights}
    return {TRAINED: found}


def follower_weights(saved: Checkpoint) -> dict[str, Tensor]:
    """Return the weights of the follower alone."""
    return checkpoint.section(saved.weights, _FOLLOWER) if TRAINED in saved.header else saved.weights


def trained_features(saved: Checkpoint, folder: Path) -> str | None:
    """Return the name of the features that a checkpoint's own encoder makes; None where it has none.

    Args:
        saved: the checkpoint.
        folder: where it lies; the encoder is written there unless it is there.

    Raises:
        InputError: the header is of another version, the weights do not fit, or the folder cannot be written to.
    """
    if TRAINED not in saved.header:
        return None
    noted = saved.header[TRAINED]
    try:
        architecture, pooling, weights = (noted[key] for key in ("architecture", "pooling", "weights"))
        if pooling not in ("own", "mean"):
            raise ValueError(pooling)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder} must say which encoder was trained, got {noted!r:.100} ({error}); it is of another version"
        ) from None
    network = create_encoder(architecture, False)
    checkpoint.restore_weights(network, checkpoint.section(saved.weights, _TOWER), folder)
    network.weights = f"{weights}, then trained with the follower"
    encoder, path = pooled_by(network, pooling), folder / FILE
    if not _is_there(path, tower_digest(encoder)):
        iteration, data = saved.header.get("iteration"), saved.header.get("dataset")
        save_tower(encoder, path, f"trained end to end with a follower on {data}, iteration {iteration}")
    return f"tower:{path.absolute()}"


def _is_there(path: Path, sha256: str) -> bool:
    try:
        return read_tower_header(path).sha256 == sha256
    except InputError:  # none yet, or of a time before
        return False
