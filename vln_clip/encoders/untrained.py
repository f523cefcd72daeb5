"""``random:NAME``: any encoder as it is before it has learned anything, always the same one.

What a result owes to an architecture alone.
"""

from pathlib import Path

import torch

from vln_clip.encoders.base import Encoder
from vln_clip.encoders.table import create_encoder
from vln_clip.errors import InputError

SEED = 0


def create(name: str, pretrained: bool | Path | str) -> Encoder:
    """Make an encoder with random weights; see ``create_encoder``. They never depend on ``pretrained`` but a file."""
    inner = name.partition(":")[2]
    if not isinstance(pretrained, bool):
        raise InputError(f"{name} must have random weights, got {pretrained}; leave the file out or name {inner}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        encoder = create_encoder(inner, False)
    encoder.name = name
    if encoder.trainable:
        encoder.weights = f"random seed {SEED}"
    return encoder
