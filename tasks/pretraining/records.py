"""What readers of image-text files yield, and the batches that models get.

Axes: ``B`` pairs of a batch, ``L`` word pieces, ``M`` of them masked, ``H`` and ``W`` rows and columns of pixels.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

PAD = 0  # index of [PAD]; every other piece is real
NO_ANSWER = -1


@dataclass(frozen=True, slots=True)
class Member:
    """One file in a shard: its bytes from an offset on."""

    shard: Path
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Pair:
    """One image and one text about it.

    Attributes:
        image: key of the image, the stem of its file, or what a shard calls it.
        text: caption or question.
        label: score, above 0 and at most 1, of raw answers; None where the text is no question, or has no answers.
        member: where the image lies in a shard; None where it is a file of its own.
    """

    image: str
    text: str
    label: dict[str, float] | None = None
    member: Member | None = None


@dataclass(frozen=True)
class PretrainingBatch:
    """B pairs with what is to be told of them, on the CPU.

    Attributes:
        tokens: (B, L) int64, some pieces masked, some texts those of other images.
        masked: (B, L) bool, True where the piece that stood there is to be told.
        words: (M,) int64, these pieces, in the order of ``masked``.
        matched: (B,) int64, 1 where the text is the image's own, else 0.
        answer: (B,) int64, one answer to the question; ``NO_ANSWER`` where there is none or the text is another's.
        image_rows: (B,) int64 rows of the table's images.
    """

    tokens: Tensor
    masked: Tensor
    words: Tensor
    matched: Tensor
    answer: Tensor
    image_rows: Tensor

    def to(self, device: torch.device | str) -> "PretrainingBatch":
        """Return the batch on a device."""
        moved = {field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)}
        return PretrainingBatch(**moved)
