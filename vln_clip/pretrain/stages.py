"""What the stages of pre-training and of fine-tuning share: optimizers, batches of one orientation, generators."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vln_clip.divergence import Watch
from vln_clip.pretrain.data import Table
from vln_clip.pretrain.job import NO_PRETRAINING, Job
from vln_clip.pretrain.recipes import CLIP_NORM, Recipe
from vln_clip.stage import Best, Stage
from vln_clip.supervised import Clip, LossSum, ReadAhead, SupervisedLearner
from vln_clip.tasks.pretraining.sampler import GroupedSampler

Loss = Callable[[Tensor, Tensor, torch.Generator], LossSum]


def make_stage(
    job: Job,
    name: str,
    model: nn.Module,
    table: Table,
    recipe: Recipe,
    iters: int | None,
    loss: Loss,
    validate: Callable[[], dict[str, dict[str, float]]],
    best: Best,
    header: dict[str, Any],
    ids: Sequence[str] = (),
) -> Stage:
    """Set up the training of a model on a table.

    Args:
        job: of the run.
        name: of the stage.
        model: that learns.
        table: what it learns from.
        recipe: of the stage.
        iters: steps in place of the recipe's epochs; None for those.
        loss: of rows, their images and the generator that draws dropout.
        validate: as ``Stage.validate``.
        best: checkpoint to keep.
        header: of the stage's checkpoints.
        ids: of the table's rows, where they have any.
    """
    config, ranks, data = job.config, job.run.ranks, job.data
    seed, epoch = job.seed(name.removesuffix(NO_PRETRAINING)), recipe.steps(len(table))
    iters = iters or recipe.epochs * epoch
    generator = ranks.generator(seed, data.device)
    joint = None if ranks.world == 1 else torch.Generator(data.device).manual_seed(seed)
    optimizer, watch = recipe.optimizer(model, iters), Watch(config.max_gradient_norm_factor)
    sampler = GroupedSampler(data.groups(table), recipe.batch_size, seed)
    learner = SupervisedLearner(
        model,
        optimizer,
        ReadAhead(sampler, lambda rows: data.read_images(table, rows), ranks),
        lambda rows, images: loss(rows, images, generator),
        Clip(norm=CLIP_NORM),
        watch,
        ranks,
        accumulation=recipe.accumulation,
    )
    eval_every, samplers = config.eval_every or epoch, {"train": sampler}
    return Stage(
        name,
        model,
        optimizer,
        learner,
        validate,
        [best],
        iters,
        eval_every,
        samplers,
        generator,
        header,
        watch=watch,
        ids={"train": ids} if ids else {},
        ranks=ranks,
        joint_generator=joint,
    )
