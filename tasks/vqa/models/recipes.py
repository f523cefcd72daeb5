"""How each VQA model is trained in the paper: what does not depend on the data, its features or the machine."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from vln_clip.schedules import EpochSteps, Schedule, Steps

# How the names of parameters begin that learn at a rate of their own.
IMAGE_ENCODER, TEXT_TOWER = "image_encoder.", "words.tower."


@dataclass(frozen=True)
class Recipe:
    """Optimizer, learning rate and length of a training run.

    Attributes:
        batch_size: questions per step.
        optimizer: its name.
        lr: learning rate, to be multiplied with the schedule.
        betas: decay of the optimizer's means.
        eps: added by the optimizer to its denominator.
        reduction: of the loss over questions.
        clip_norm: largest norm of all gradients together; None does not clip.
        iterations: steps of the run; None where ``epochs`` count.
        steps: schedule of runs of so many iterations; runs of so many epochs have openvqa's, ``EpochSteps``.
        epochs: passes over the questions; None where ``iterations`` count.
        image_encoder_lr_factor: of the learning rate of a trained image encoder.
        weight_decay: of the optimizer.
    """

    batch_size: int
    optimizer: Literal["adamax", "adamw", "adam"]
    lr: float
    betas: tuple[float, float]
    eps: float
    reduction: Literal["mean", "sum"]
    clip_norm: float | None = None
    iterations: int | None = None
    steps: Steps | None = None
    epochs: int | None = None
    image_encoder_lr_factor: float = 1.0
    weight_decay: float = 0.0

    def plan(self, iterations_per_epoch: float, iterations: int | None = None) -> tuple[int, Schedule]:
        """Return how many steps to take, and the schedule of the learning rate over them.

        Args:
            iterations_per_epoch: questions by batch size.
            iterations: of a shorter or longer run, over which the schedule is stretched; None for the recipe's.
        """
        if self.epochs is not None:
            total = iterations or round(self.epochs * iterations_per_epoch)
            return total, EpochSteps(iterations_per_epoch if iterations is None else iterations / self.epochs)
        assert self.iterations is not None, self
        assert self.steps is not None, self
        total = iterations or self.iterations
        return total, self.steps if iterations is None else self.steps.stretched(total / self.iterations)


RECIPES = {
    "pythia": Recipe(
        batch_size=512,
        optimizer="adamax",
        lr=1e-2,
        betas=(0.9, 0.999),
        eps=1e-8,
        reduction="mean",
        clip_norm=0.25,
        iterations=22_000,
        steps=Steps((15_000, 18_000, 20_000, 21_000), ratio=0.1, warmup_iterations=1_000, warmup_factor=0.2),
        image_encoder_lr_factor=0.1,
    ),
    "movie_mcan": Recipe(
        batch_size=64,
        optimizer="adamw",
        lr=5e-5,
        betas=(0.9, 0.98),
        eps=1e-9,
        reduction="mean",
        iterations=236_000,
        steps=Steps((180_000, 216_000), ratio=0.2, warmup_iterations=54_000, warmup_factor=0.25),
    ),
    "mcan_small": Recipe(
        batch_size=64, optimizer="adam", lr=1e-4, betas=(0.9, 0.98), eps=1e-9, reduction="sum", epochs=13
    ),
    # openvqa takes these batches in two halves, which saves memory and leaves the gradient as it is.
    "mcan_large": Recipe(
        batch_size=64, optimizer="adam", lr=7e-5, betas=(0.9, 0.98), eps=1e-9, reduction="sum", epochs=13
    ),
}


def make_optimizer(model: nn.Module, recipe: Recipe, text_lr_factor: float = 1.0) -> torch.optim.Optimizer:
    """Build the optimizer; a trained image encoder and a trained text tower are groups of their own."""
    kinds = {"adamax": torch.optim.Adamax, "adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
    factors = {IMAGE_ENCODER: recipe.image_encoder_lr_factor, TEXT_TOWER: text_lr_factor}
    others = [p for name, p in model.named_parameters() if not name.startswith(tuple(factors))]
    groups = [{"params": others, "lr": recipe.lr}]
    for begin, factor in factors.items():
        own = [p for name, p in model.named_parameters() if name.startswith(begin)]
        if own:
            groups.append({"params": own, "lr": recipe.lr * factor})
    return kinds[recipe.optimizer](
        groups, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps, weight_decay=recipe.weight_decay
    )
