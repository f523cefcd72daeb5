"""Letting a captioner write: batches of images, greedy or by beam search, as texts by image id."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vln_clip.ranks import ALONE, Ranks
from vln_clip.tasks.captioning.models.beam import beam_search
from vln_clip.tasks.captioning.models.decoding import greedy
from vln_clip.tasks.captioning.models.recipes import WritingConfig
from vln_clip.tasks.captioning.models.transformer import CaptionTransformer
from vln_clip.tasks.captioning.vocabulary import CaptionVocabulary

BATCH_SIZE = 50


@dataclass(frozen=True)
class Writer:
    """A captioner and how it writes.

    Attributes:
        model: in evaluation mode while it writes.
        vocabulary: of its words.
        how: beams and lengths.
        ranks: who share the images.
    """

    model: CaptionTransformer
    vocabulary: CaptionVocabulary
    how: WritingConfig
    ranks: Ranks = ALONE

    @torch.inference_mode()
    def write(self, grid: Tensor | None) -> Tensor:
        """Return the captions of images (B, C, h, w), or the one of no image: (B, T) int64."""
        self.model.eval()
        memory = self.model.encode(grid)
        if self.how.beam_size == 1:
            return greedy(self.model, memory, self.how.max_words).tokens[:, 0]
        unknown = None if self.how.say_unknown else self.vocabulary.unk
        return beam_search(
            self.model,
            memory,
            self.how.beam_size,
            unknown=unknown,
            max_words=self.how.max_words,
            length_penalty=self.how.length_penalty,
        ).tokens[:, 0]

    def texts(self, batches: Sequence[Tensor], read: Callable[[Tensor], Tensor] | None) -> list[str]:
        """Return the captions of images.

        Args:
            batches: rows of a table, (B,) int64 each.
            read: gives their grids; None for a model without images, which writes one caption for all.
        """
        if read is None:
            caption = self.vocabulary.decode(self.write(None).tolist())[0]
            return [caption for batch in batches for _ in range(len(batch))]
        written = [self.vocabulary.decode(self.write(read(batch)).tolist()) for batch in self.ranks.deal(batches)]
        return [text for texts in self.ranks.gather_dealt(written) for text in texts]
