"""The two stages of pre-training: masked words and matching, then answers, too."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vln_clip import checkpoint
from vln_clip.devices import product_type
from vln_clip.pretrain.answering import BATCH_SIZE
from vln_clip.pretrain.datasets import TRAIN, VAL
from vln_clip.pretrain.job import BEST, FIRST, LAST, SECOND, Job
from vln_clip.pretrain.model import build_pretraining, header
from vln_clip.pretrain.stages import make_stage
from vln_clip.stage import Best, Stage
from vln_clip.supervised import LossSum
from vln_clip.tasks.pretraining.models import PretrainingModel, pretraining_losses
from vln_clip.tasks.pretraining.records import PretrainingBatch
from vln_clip.tasks.pretraining.sampler import in_order_by_group


def first(job: Job) -> Stage:
    """Set up masked words and matching."""
    return _stage(job, FIRST, with_answers=False)


def second(job: Job) -> Stage:
    """Set up all three objectives, from the weights of the first stage if there is one, and with fresh optimizers."""
    return _stage(job, SECOND, with_answers=True)


def load(job: Job) -> PretrainingModel:
    """Return the model that pre-training of this run ended with."""
    folder = job.run.checkpoint(SECOND, LAST)
    model = build_pretraining(job.config, job.data, seed=0, weights=False)
    checkpoint.restore_weights(model, checkpoint.load(folder).weights, folder)
    return model.eval()


def _stage(job: Job, name: str, with_answers: bool) -> Stage:
    """Set up a stage."""
    config, data = job.config, job.data
    recipe, table = job.adapted(job.recipes.second if with_answers else job.recipes.first), data.pairs(TRAIN)
    model = build_pretraining(config, data, job.seed("model"))
    if with_answers and config.has_first_stage:
        folder = job.run.checkpoint(FIRST, LAST)
        saved = job.run.ranks.from_main(lambda: checkpoint.load(folder))
        checkpoint.restore_weights(model, saved.weights, folder)
    objective = Objective(job, model, with_answers)

    def loss(rows: Tensor, images: Tensor, generator: torch.Generator) -> LossSum:
        return objective(table.batch(rows, drawing(generator)), images, generator)

    iters = config.pretraining_iters[with_answers] if config.pretraining_iters else None
    best, validation = Best(BEST, VAL, "loss", sign=-1.0), Validation(job, objective)
    return make_stage(job, name, model, table, recipe, iters, loss, validation, best, header(config, data, None))


def drawing(generator: torch.Generator) -> torch.Generator:
    """Return a generator on the CPU, where the tables lie, of a seed drawn from one on any device."""
    seed = torch.randint(2**62, (1,), generator=generator, device=generator.device)
    return torch.Generator().manual_seed(int(seed))


@dataclass(frozen=True)
class Objective:
    """What a model loses on a batch.

    Attributes:
        job: of the run.
        model: being trained.
        with_answers: the second stage's third objective.
    """

    job: Job
    model: PretrainingModel
    with_answers: bool

    def __call__(self, batch: PretrainingBatch, images: Tensor, generator: torch.Generator) -> LossSum:
        """Return sums over the objectives, in the order of ``names``, and what of them was right."""
        data = self.job.data
        dtype = product_type(self.job.config.precision, data.device)
        batch = batch.to(data.device)
        with torch.autocast(data.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            output = self.model(batch.tokens, data.scale(images), batch.masked, generator)
        losses = pretraining_losses(output, batch)
        right = {
            "words": output.words.argmax(1) == batch.words,
            "matching": output.matching.argmax(1) == batch.matched,
            "answers": output.answers.argmax(1) == batch.answer,
        }
        return LossSum(
            torch.stack([losses[name][0] for name in self.names]),
            torch.stack([losses[name][1] for name in self.names]),
            {"accuracy": torch.stack([right[name].sum() for name in self.names])},
            self.names,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Return the objectives."""
        return ("words", "matching", "answers") if self.with_answers else ("words", "matching")


class Validation:
    """Scores a model on pairs of val, the same ones every time with the same words masked and the same cells seen."""

    def __init__(self, job: Job, objective: Objective) -> None:
        self.job, self.objective, self.table = job, objective, job.data.pairs(VAL)
        order = torch.randperm(len(self.table), generator=torch.Generator().manual_seed(job.seed("validation")))
        self.rows = order[: job.config.eval_rows].sort().values

    @torch.inference_mode()
    def __call__(self) -> dict[str, dict[str, float]]:
        """Return ``{split: {metric: value}}``."""
        self.objective.model.eval()
        data, ranks = self.job.data, self.job.run.ranks
        groups = data.groups(self.table)[self.rows]
        sums = torch.zeros(3, len(self.objective.names), device=data.device)
        for number, part in ranks.deal(list(enumerate(in_order_by_group(groups, BATCH_SIZE)))):
            rows = self.rows[part]
            generator = torch.Generator().manual_seed(self.job.seed("validation") + number)
            batch = self.table.batch(rows, generator)
            lost = self.objective(batch, data.read_images(self.table, rows), generator)
            sums += torch.stack([lost.total, lost.count, lost.shown["accuracy"]]).float()
        total, count, right = ranks.sum(sums).cpu()
        means = {"loss": (total / count.clamp(min=1)).sum().item()}
        for name, values in (("loss", total), ("accuracy", right)):
            means |= {
                f"{name}_{which}": value.item()
                for which, value in zip(self.objective.names, values / count.clamp(min=1), strict=True)
            }
        return {VAL: means}
