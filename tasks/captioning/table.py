"""Captions as tensors: batches of images with some captions each are gathers, without a loop over images.

Axes: ``N`` images, ``M`` captions, ``B`` images of a batch, ``S`` captions per image, ``R`` references.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vln_clip.errors import InputError
from vln_clip.tasks.captioning.records import CaptionedImage
from vln_clip.tasks.captioning.vocabulary import END, CaptionVocabulary

logger = logging.getLogger(__name__)

MAX_WORDS = 16
ROW = MAX_WORDS + 2  # 0, up to 16 words, 0
IMAGES_PER_BATCH, CAPTIONS_PER_IMAGE = 10, 5


@dataclass(frozen=True)
class CaptionBatch:
    """Captions of B images.

    Attributes:
        image: (B,) int64, rows of the table.
        rows: (B, S, 18) int64: 0, the words, 0 and padding with 0.
        mask: (B, S, 18) bool, True for the first 0, the words and the 0 behind them.
    """

    image: Tensor
    rows: Tensor
    mask: Tensor

    @property
    def inputs(self) -> Tensor:
        """Return what the model reads, (B, S, 17) int64."""
        return self.rows[..., :-1]

    @property
    def targets(self) -> Tensor:
        """Return what follows each input, (B, S, 17) int64."""
        return self.rows[..., 1:]

    @property
    def target_mask(self) -> Tensor:
        """Return (B, S, 17) bool, True for words and the one 0 that ends them."""
        return self.mask[..., 1:]


@dataclass(frozen=True)
class CaptionTable:
    """The captions of N images, each with at least one.

    Attributes:
        images: key of each image, in the order of the rows.
        image_ids: (N,) int64.
        labels: (M, 16) int32 word indices, cut or padded with 0; captions of an image follow each other.
        start: (N,) int64, the first caption of each image.
        count: (N,) int64, how many it has.
    """

    images: tuple[str, ...]
    image_ids: Tensor
    labels: Tensor
    start: Tensor
    count: Tensor

    @classmethod
    def build(
        cls, images: Sequence[CaptionedImage], vocabulary: CaptionVocabulary, max_words: int = MAX_WORDS
    ) -> "CaptionTable":
        """Encode the captions of images; what has none is left out with a warning.

        Raises:
            InputError: no image has a caption.
        """
        kept = [image for image in images if image.words]
        if not kept:
            raise InputError(f"images to learn captions from must have some, got {len(images):,} without; name a split")
        if len(kept) < len(images):
            logger.warning("left out %d of %d images, which have no caption", len(images) - len(kept), len(images))
        flat, length = vocabulary.encode([words for image in kept for words in image.words])
        labels = cut_rows(flat, length, max_words)
        count = torch.tensor([len(image.words) for image in kept])
        ids = torch.tensor([image.image_id for image in kept])
        keys = tuple(image.image for image in kept)
        return cls(keys, ids, torch.from_numpy(labels), count.cumsum(0) - count, count)

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> "CaptionTable":
        """Return the table with its tensors on a device."""
        names = ("image_ids", "labels", "start", "count")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def batch(self, image: Tensor, generator: torch.Generator, num_captions: int = CAPTIONS_PER_IMAGE) -> CaptionBatch:
        """Draw captions of some images (specification 3.1).

        An image with fewer than ``num_captions`` gives captions drawn with replacement, any other that many that
        follow each other, from a random one on.

        Args:
            image: (B,) int64 rows of the table.
            generator: draws; on the device of the table, or on the CPU.
            num_captions: S.
        """
        B, S = len(image), num_captions
        drawn = torch.rand((B, S), generator=generator, device=generator.device, dtype=torch.float64)
        drawn = drawn.to(self.count.device)  # (B, S) in [0, 1)
        count = self.count[image, None]  # (B, 1)
        replaced = (drawn * count).long()
        begin = (drawn[:, :1] * (count - S + 1)).long()
        following = begin + torch.arange(S, device=count.device)
        chosen = torch.where(count < S, replaced, following)
        rows = torch.nn.functional.pad(self.labels[self.start[image, None] + chosen].long(), (1, 1))
        num_words = (rows != END).sum(-1, keepdim=True)
        mask = torch.arange(rows.shape[-1], device=rows.device) < num_words + 2
        return CaptionBatch(image, rows, mask)

    def references(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return all captions of some images for rewards.

        Returns:
            Labels (B, R, 16) int64, R the most captions of one of them, and (B, R) bool, False for padding.
        """
        count = self.count[image, None]
        place = torch.arange(int(count.max()), device=count.device)
        mask = place < count  # (B, R)
        return self.labels[self.start[image, None] + torch.where(mask, place, 0)].long(), mask


def cut_rows(flat: np.ndarray, length: np.ndarray, width: int) -> np.ndarray:
    """Turn indices one after the other, (n,), into rows cut or padded with 0, (M, width) int32."""
    start = np.cumsum(length) - length
    place = np.arange(width)
    inside = place < length[:, None]
    rows = np.zeros((len(length), width), np.int32)
    rows[inside] = flat[(start[:, None] + place)[inside]]
    return rows
