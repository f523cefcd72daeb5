"""What a CLIP-ViL_p model is asked: masked words, whether text and image belong together, answers."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vln_clip.tasks.pretraining.models.layers import NORM_EPS, WordHead, prepared
from vln_clip.tasks.pretraining.models.vil import ClipVil


@dataclass(frozen=True, eq=False)
class PretrainingOutput:
    """Logits of B pairs.

    Attributes:
        words: of the M masked word pieces, in the order of ``masked``, (M, W).
        matching: that the text is another image's and that it is this one's, (B, 2).
        answers: (B, A); None of a model without answers.
    """

    words: Tensor
    matching: Tensor
    answers: Tensor | None


def answer_head(width: int, num_answers: int, std: float = 0.02) -> nn.Sequential:
    """Return the head of answers and labels: (B, D) to (B, A)."""
    norm = nn.LayerNorm(2 * width, eps=NORM_EPS)
    head = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), norm, nn.Linear(2 * width, num_answers))
    prepared(head, std)
    return head


class PretrainingModel(nn.Module):
    """The model with the heads of pre-training.

    Args:
        vil: the model.
        num_answers: A; None where no questions are answered, as in the first stage.
    """

    def __init__(self, vil: ClipVil, num_answers: int | None) -> None:
        super().__init__()
        width = vil.sizes.width
        self.vil = vil
        self.words = WordHead(vil.sizes)
        self.matching = prepared(nn.Linear(width, 2), vil.sizes.initial_std)
        self.answers = None if num_answers is None else answer_head(width, num_answers, vil.sizes.initial_std)

    def forward(
        self, tokens: Tensor, images: Tensor, masked: Tensor, generator: torch.Generator | None = None
    ) -> PretrainingOutput:
        """Score pairs; arguments as for ``ClipVil``.

        Args:
            tokens: (B, L) int64.
            images: (B, 3, H, W) float32, transformed.
            masked: (B, L) bool, True where words are asked for.
            generator: draws dropout and cells.
        """
        if masked.shape != tokens.shape or masked.dtype != torch.bool:
            raise ValueError(f"masked must be {tuple(tokens.shape)} bool, got {tuple(masked.shape)} {masked.dtype}")
        states = self.vil(tokens, images, generator)
        words = self.words(states.text[masked], self.vil.word_table)
        answers = None if self.answers is None else self.answers(states.pooled)
        return PretrainingOutput(words, self.matching(states.pooled), answers)


class Classifier(nn.Module):
    """The model with one head, for fine-tuning on questions or entailment.

    Args:
        vil: the model.
        num_labels: K.
    """

    def __init__(self, vil: ClipVil, num_labels: int) -> None:
        super().__init__()
        self.vil = vil
        self.head = answer_head(vil.sizes.width, num_labels, vil.sizes.initial_std)

    def forward(self, tokens: Tensor, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return logits (B, K) of pairs; arguments as for ``ClipVil``."""
        return self.head(self.vil(tokens, images, generator).pooled)
