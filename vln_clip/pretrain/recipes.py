"""How CLIP-ViL_p is pre-trained and fine-tuned in the paper (specification §4.5, §4.7), and in the demo."""

from dataclasses import dataclass

from torch import nn

from vln_clip.encoders.tower_files import is_tower, read_tower_header, tower_path
from vln_clip.optimizers import JointOptimizer, make_group_optimizer
from vln_clip.schedules import EpochSteps, Linear
from vln_clip.tasks.pretraining.models import parameter_groups

BETAS, EPS, WEIGHT_DECAY = (0.9, 0.999), 1e-6, 0.01
ENCODER_WEIGHT_DECAY = 4e-4
CLIP_NORM = 1.0  # of all gradients together


@dataclass(frozen=True)
class Recipe:
    """Batches, learning rates and length of a stage.

    Attributes:
        batch_size: rows of a batch, over all processes.
        accumulation: batches per step.
        lr: highest rate of AdamW, which learns all but the encoder.
        encoder_lr: rate of SGD, which learns the encoder.
        milestones: epochs from which on the encoder's rate is a tenth of what it was.
        epochs: passes over the rows.
        planned_epochs: after which the schedule of AdamW would be 0; that of a stage may be left before.
        warmup: share of the planned steps in which the rate of AdamW rises.
        loss_scale: factor of the mean binary cross entropy; None for the number of labels.
    """

    batch_size: int
    accumulation: int
    lr: float
    encoder_lr: float
    milestones: tuple[int, ...]
    epochs: int
    planned_epochs: int
    warmup: float
    loss_scale: float | None = None

    def steps(self, num_rows: int) -> int:
        """Return the optimizer steps of an epoch, at least 1."""
        return max(1, num_rows // (self.batch_size * self.accumulation))

    def optimizer(self, model: nn.Module, iters: int) -> JointOptimizer:
        """Build both optimizers with their schedules; a frozen encoder has none.

        Args:
            model: ``PretrainingModel`` or ``Classifier``.
            iters: steps of the stage; the schedules are stretched where they are not those of ``epochs``.
        """
        epoch_steps = iters / self.epochs
        planned = max(1, round(epoch_steps * self.planned_epochs))
        linear = Linear(planned, min(round(self.warmup * planned), planned - 1))
        groups = parameter_groups(model, WEIGHT_DECAY)
        others = [group | {"schedule": linear} for group in groups.transformer]
        parts = [make_group_optimizer(others, "adamw", lr=self.lr, betas=BETAS, eps=EPS)]
        if groups.encoder:
            steps = EpochSteps(epoch_steps, 0, self.milestones, 0.1)
            group = {"params": groups.encoder, "schedule": steps}
            settings = {"lr": self.encoder_lr, "weight_decay": ENCODER_WEIGHT_DECAY}
            parts.append(make_group_optimizer([group], "sgd", **settings))
        return JointOptimizer(*parts)


@dataclass(frozen=True)
class Recipes:
    """The stages of a size of model.

    Attributes:
        first: masked words and matching.
        second: question answering, too; with a fresh optimizer.
        tasks: fine-tuning, by task.
    """

    first: Recipe
    second: Recipe
    tasks: dict[str, Recipe]


_VQA = Recipe(32, 8, 5e-5, 1e-3, (2,), 5, 5, 0.05, loss_scale=500.0)
# The other two were never released: LXMERT's rate and epochs for GQA, VQA's for SNLI-VE.
_TASKS = {
    "vqa": _VQA,
    "gqa": Recipe(32, 8, 1e-5, 1e-3, (2,), 4, 4, 0.05, loss_scale=500.0),
    "snli_ve": Recipe(32, 8, 5e-5, 1e-3, (2,), 5, 5, 0.05),
}
PAPER = Recipes(
    Recipe(256, 2, 1e-4, 3e-3, (12, 17), 9, 20, 0.025),
    Recipe(256, 2, 5e-5, 3e-3, (4, 8), 11, 11, 0.025),
    _TASKS,
)
PAPER_X4 = Recipes(
    Recipe(240, 2, 5e-5, 3e-3, (12, 17), 9, 20, 0.025),
    Recipe(240, 2, 2.75e-5, 3e-3, (4, 9), 11, 11, 0.025),
    _TASKS,
)
_DEMO_TASK = Recipe(64, 1, 1e-3, 1e-3, (), 1, 1, 0.05)
DEMO = Recipes(
    Recipe(64, 1, 1e-3, 1e-3, (), 1, 2, 0.05),
    Recipe(64, 1, 1e-3, 1e-3, (), 1, 1, 0.05),
    dict.fromkeys(_TASKS, _DEMO_TASK),
)


def recipes_for(size: str, encoder: str) -> Recipes:
    """Return the recipes of a size of model (``paper`` or ``demo``) with an encoder, be it in a file or untrained."""
    if size == "demo":
        return DEMO
    name = read_tower_header(tower_path(encoder)).encoder if is_tower(encoder) else encoder
    return PAPER_X4 if name.removeprefix("random:") == "clip_rn50x4" else PAPER
