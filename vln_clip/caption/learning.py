"""The losses of a batch of images: cross entropy of people's captions, and self-critical of the model's own."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vln_clip.supervised import LossSum
from vln_clip.tasks.captioning.cider import CiderD
from vln_clip.tasks.captioning.models.decoding import greedy, said_mask, sample_to_learn
from vln_clip.tasks.captioning.models.losses import (
    caption_loss,
    greedy_advantage,
    other_samples_advantage,
    self_critical_loss,
)
from vln_clip.tasks.captioning.models.recipes import SelfCriticalRecipe
from vln_clip.tasks.captioning.models.transformer import CaptionTransformer
from vln_clip.tasks.captioning.table import CaptionTable


@dataclass(frozen=True)
class CrossEntropy:
    """Loss of the words that people wrote.

    Attributes:
        model: that learns.
        table: of captions.
        generator: draws captions and dropout.
        num_captions: of each image.
        dtype: of products under autocast; None for that of the weights.
    """

    model: CaptionTransformer
    table: CaptionTable
    generator: torch.Generator
    num_captions: int
    dtype: torch.dtype | None

    def __call__(self, rows: Tensor, grid: Tensor | None) -> LossSum:
        """Return the loss of images: rows (B,) of the table, grids (B, C, h, w) or None."""
        rows = rows.to(self.table.count.device)
        batch = self.table.batch(rows, self.generator, self.num_captions)
        with torch.autocast(rows.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            logits = self.model(grid, batch.inputs, self.generator)
        mask = batch.target_mask
        total = caption_loss(logits.float(), batch.targets, mask, torch.ones((), device=rows.device))
        return LossSum(total, mask.sum())


@dataclass(frozen=True)
class SelfCritical:
    """Loss of drawn captions, weighted with how much better than a baseline they score.

    Attributes:
        model: that learns.
        table: of the references.
        generator: draws captions and dropout.
        recipe: samples and baseline.
        cider: scores.
        dtype: of products under autocast; None for that of the weights.
    """

    model: CaptionTransformer
    table: CaptionTable
    generator: torch.Generator
    recipe: SelfCriticalRecipe
    cider: CiderD
    dtype: torch.dtype | None

    def __call__(self, rows: Tensor, grid: Tensor | None) -> LossSum:
        """Return the loss of images: rows (B,) of the table, grids (B, C, h, w) or None."""
        rows, words = rows.to(self.table.count.device), self.recipe.scst_max_words
        references, reference_mask = self.table.references(rows)
        with torch.autocast(rows.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            drawn = sample_to_learn(
                self.model,
                grid,
                self.recipe.samples_per_image,
                self.generator,
                max_words=words,
                num_images=len(rows),
            )
            tokens = drawn.tokens
            if self.recipe.baseline == "greedy":
                with torch.no_grad():
                    best = greedy(self.model, self.model.encode(grid, num_images=len(rows)), words)
                tokens = torch.cat([tokens, best.tokens], 1)
        scores = self.cider(tokens, references, reference_mask)  # (B, S) and the greedy one
        reward = scores[:, : self.recipe.samples_per_image]
        if self.recipe.baseline == "greedy":
            advantage = greedy_advantage(reward, scores[:, -1])
        else:
            advantage = other_samples_advantage(reward)
        count = said_mask(drawn.tokens).sum()
        one = torch.ones((), device=rows.device)
        total = self_critical_loss(drawn.log_prob.float(), drawn.tokens, advantage, one)
        return LossSum(total, count, {"train/reward": reward.mean().float() * count})
