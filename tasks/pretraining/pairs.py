"""Millions of image-text pairs as mapped arrays, and what pre-training makes of some of them.

Axes: ``N`` pairs of the table, ``I`` images, ``B`` pairs of a batch, ``L`` word pieces, ``S`` scored answers of a pair.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vln_clip.tasks.pretraining.places import ImagePlaces, Texts
from vln_clip.tasks.pretraining.records import NO_ANSWER, PAD, PretrainingBatch

MASKED, AS_MASK, AS_RANDOM = 0.15, 0.8, 0.1  # share of pieces that are masked, and of these what stands there then
MISMATCHED = 0.5


@dataclass(frozen=True, eq=False)
class PairTable:
    """N pairs, on the CPU; the arrays can be mapped from a file.

    Attributes:
        tokens: (N, L) uint16 or int32 word pieces, as ``WordPieces.encode`` gives them.
        image: (N,) int32 rows of ``places``.
        answer_end: (N,) int64, where the scored answers of each pair end.
        answer_index: (n,) int32 answers of the vocabulary.
        answer_score: (n,) float32, above 0.
        places: of the I images.
        num_pieces: of the vocabulary of word pieces.
        mask_id: of ``[MASK]``.
        num_answers: of the vocabulary of answers; 0 without one.
        pairs_of: number of pairs of each source, in their order.
    """

    tokens: np.ndarray
    image: np.ndarray
    answer_end: np.ndarray
    answer_index: np.ndarray
    answer_score: np.ndarray
    places: ImagePlaces
    num_pieces: int
    mask_id: int
    num_answers: int
    pairs_of: dict[str, int]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def image_rows(self) -> Tensor:
        """Return the row of the images of each pair, (N,) int64."""
        return torch.from_numpy(self.image.astype(np.int64))

    @property
    def num_labelled(self) -> int:
        """Return how many pairs have an answer of the vocabulary."""
        return int((np.diff(self.answer_end, prepend=0) > 0).sum())

    @property
    def size_bytes(self) -> int:
        """Return what all arrays of pairs and images take."""
        places = self.places
        arrays = [self.tokens, self.image, self.answer_end, self.answer_index, self.answer_score]
        arrays += [places.shard, places.offset, places.size_bytes]
        return sum(array.nbytes for array in arrays)

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of the pairs in their order, with the names of their images."""
        keys = self.places.keys
        digest = hashlib.sha256(keys.content.data if isinstance(keys, Texts) else "".join(keys).encode())
        for array in (self.tokens, self.image, self.answer_end, self.answer_index, self.answer_score):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def batch(self, rows: Tensor, generator: torch.Generator) -> PretrainingBatch:
        """Make a batch of pairs: some texts exchanged, some pieces masked, one answer drawn.

        Args:
            rows: (B,) int64.
            generator: of the CPU, draws everything.
        """
        image = self.images_of(rows)
        matched = torch.rand(len(rows), generator=generator) >= MISMATCHED
        texts = torch.where(matched, rows, self._other(image, generator))
        tokens = torch.from_numpy(self.tokens[texts.numpy()].astype(np.int64))  # (B, L)
        masked, shown = mask_tokens(tokens, self.mask_id, self.num_pieces, generator)
        answer = torch.where(matched, self._answers(rows, generator), NO_ANSWER)
        return PretrainingBatch(shown, masked, tokens[masked], matched.long(), answer, image)

    def images_of(self, rows: Tensor) -> Tensor:
        """Return the rows of the images of pairs (B,), (B,) int64; the others are not looked at."""
        return torch.from_numpy(self.image[rows.numpy()].astype(np.int64))

    def _other(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Return a random pair of another image for each, (B,) to (B,) int64."""
        found = torch.randint(len(self), image.shape, generator=generator)
        while (same := self.images_of(found) == image).any():
            found[same] = torch.randint(len(self), (int(same.sum()),), generator=generator)
        return found

    def _answers(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one answer of each pair in proportion to the scores, (B,) int64; ``NO_ANSWER`` where it has none."""
        draw = torch.rand(len(rows), generator=generator, dtype=torch.float64).numpy()
        at = rows.numpy()
        end = self.answer_end[at]
        begin = np.where(at > 0, self.answer_end[at - 1], 0)
        S = int((end - begin).max(initial=0))
        if not S:
            return torch.full((len(rows),), NO_ANSWER)
        place = begin[:, None] + np.arange(S)  # (B, S)
        there = place < end[:, None]
        place = np.where(there, place, 0)
        sums = np.cumsum(np.where(there, self.answer_score[place], 0.0), 1)
        chosen = (sums <= draw[:, None] * sums[:, -1:]).sum(1)  # entries before the first whose sum exceeds the draw
        chosen = np.minimum(chosen, np.maximum(end - begin - 1, 0))
        answer = self.answer_index[np.where(end > begin, begin + chosen, 0)]
        return torch.from_numpy(np.where(end > begin, answer, NO_ANSWER).astype(np.int64))


def mask_tokens(tokens: Tensor, mask_id: int, num_pieces: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Choose the pieces that are to be told, and put something else in their places.

    Args:
        tokens: (B, L) int64, [CLS] first, [SEP] last, then ``PAD``; those three are never chosen.
        mask_id: of ``[MASK]``.
        num_pieces: of the vocabulary, of which any piece but ``PAD`` can stand in place of another: a ``PAD`` would
            be taken for the end of the text.
        generator: draws.

    Returns:
        (B, L) bool, True for what was chosen, and (B, L) int64 what stands there.
    """
    real = tokens != PAD
    inner = real.clone()
    inner[:, 0] = False
    inner[:, :-1] &= real[:, 1:]  # [SEP] is the last real one
    inner[:, -1] = False
    chance = torch.rand(tokens.shape, generator=generator)
    how = torch.rand(tokens.shape, generator=generator)
    other = torch.randint(PAD + 1, num_pieces, tokens.shape, generator=generator)
    masked = inner & (chance < MASKED)
    shown = torch.where(masked & (how < AS_MASK), mask_id, tokens)
    return masked, torch.where(masked & (how >= AS_MASK) & (how < AS_MASK + AS_RANDOM), other, shown)
