"""CLIP-ViL_p (Shen et al. 2021, section 4): one BERT over the words of a text and the cells of CLIP's grid.

Axes beyond those of records.py: N cells of a grid, V of them that the model sees, C width of the grid.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vln_clip.encoders import Encoder
from vln_clip.tasks.pretraining.models.checkpointing import BatchNorm, recompute_blocks, recomputed
from vln_clip.tasks.pretraining.models.layers import bert_embeddings, bert_layers, prepared, run_layer, seeded
from vln_clip.tasks.pretraining.models.sizes import PAD, VilSizes
from vln_clip.tasks.pretraining.models.visual import VisualInput, freeze_unused


@dataclass(frozen=True, eq=False)
class VilStates:
    """What the last layer knows.

    Attributes:
        text: of each word piece, (B, L, D).
        vision: of each cell that was seen, (B, V, D).
        pooled: of the pair, (B, D), unbounded: BERT's pooler without its tanh.
    """

    text: Tensor
    vision: Tensor
    pooled: Tensor


class ClipVil(nn.Module):
    """A single-stream Transformer over text and image; the image encoder learns with it.

    The encoder keeps its weights: only what this class adds is initialized. What its grid does not depend on (attention
    pool, last projection) is taken out of training. Where the caller freezes the rest too (``requires_grad_(False)``),
    it runs without a graph and with the statistics of its batch norms as they are.

    Args:
        encoder: any with a grid.
        sizes: of the Transformer.
        num_patches: cells drawn per image without replacement, in training and evaluation; None takes all. Images
            with fewer cells give all of theirs.
        checkpointing: whether blocks of encoder and Transformer are recomputed in the backward pass: less memory, a
            third more time.
        freeze_batch_norm: whether statistics of the encoder's batch norms stay as they are, which are else those of
            the batch in training.
    """

    def __init__(
        self,
        encoder: Encoder,
        sizes: VilSizes,
        *,
        num_patches: int | None = None,
        checkpointing: bool = False,
        freeze_batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.sizes, self.checkpointing, self.freeze_batch_norm = sizes, checkpointing, freeze_batch_norm
        freeze_unused(encoder)
        self.encoder = encoder
        self.embeddings = bert_embeddings(sizes)
        self.visual = VisualInput(encoder.grid_width, sizes, num_patches)
        self.layers = bert_layers(sizes)
        self.pooler = prepared(nn.Linear(sizes.width, sizes.width), sizes.initial_std)
        if checkpointing:
            recompute_blocks(encoder)
        self.train(self.training)

    @property
    def word_table(self) -> Tensor:
        """Return the vectors of word pieces, (W, D); the head of masked words scores by them too."""
        return self.embeddings.get_parameter("word_embeddings.weight")

    @property
    def encoder_learns(self) -> bool:
        """Return whether any weight of the encoder is trained."""
        return any(value.requires_grad for value in self.encoder.parameters())

    def train(self, mode: bool = True) -> "ClipVil":
        """Switch to training or evaluation; frozen statistics stay in evaluation."""
        super().train(mode)
        if not self.encoder_learns:
            self.encoder.eval()
        elif self.freeze_batch_norm:
            for part in self.encoder.modules():
                if isinstance(part, BatchNorm):
                    part.eval()
        return self

    def forward(self, tokens: Tensor, images: Tensor, generator: torch.Generator | None = None) -> VilStates:
        """Read pairs of a text and an image.

        Args:
            tokens: (B, L) int64 word pieces, [CLS] first, padded with 0 at the end; how far makes no difference.
            images: (B, 3, H, W) float32, transformed; black borders are seen as any other part of an image.
            generator: draws dropout while training, and the cells where ``num_patches`` is set. The same state of it
                gives the same result, and PyTorch's global generator stays where it is.

        Raises:
            InputError: the grid has more rows or columns than there are positions.
        """
        self._check(tokens, images, generator)
        with seeded(generator if self.training else None, tokens.device):
            vision = self.visual(self._grid(images), generator)  # (B, V, D)
            real = torch.cat([tokens != PAD, tokens.new_ones(vision.shape[:2], dtype=torch.bool)], 1)  # (B, L + V)
            states = torch.cat([self.embeddings(tokens), vision], 1)  # (B, L + V, D)
            for layer in self.layers:
                states = self._run(layer, states, real[:, None, None])
        text, vision = states.split([tokens.shape[1], vision.shape[1]], 1)
        return VilStates(text, vision, self.pooler(text[:, 0]))

    def _grid(self, images: Tensor) -> Tensor:
        """Return the encoder's map, (B, C, h, w)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.encoder_learns):
            return self.encoder.grid(images)

    def _run(self, layer: nn.Module, states: Tensor, mask: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return recomputed(run_layer, layer, layer, states, mask)
        return run_layer(layer, states, mask)

    def _check(self, tokens: Tensor, images: Tensor, generator: torch.Generator | None) -> None:
        """Refuse shapes and settings that would fail further down, or not fail at all."""
        longest = self.sizes.max_tokens
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= longest:
            raise ValueError(f"tokens must be (B, L) with L from 1 to {longest}, got {tuple(tokens.shape)}")
        if images.ndim != 4 or images.shape[:2] != (len(tokens), 3):
            raise ValueError(f"images must be ({len(tokens)}, 3, H, W), one a text, got {tuple(images.shape)}")
        if self.training and self.sizes.dropout > 0 and generator is None:
            raise ValueError("dropout is drawn by a generator while training, got None; pass one, or call eval()")
