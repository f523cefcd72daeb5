"""Fine-tuning on one task: from a pre-trained model, or from what pre-training would have begun with."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vln_clip import checkpoint, files, log
from vln_clip.devices import product_type
from vln_clip.pretrain.answering import Answerer, result_rows, score
from vln_clip.pretrain.datasets import TEST, TRAIN, VAL
from vln_clip.pretrain.job import BEST, LAST, NO_PRETRAINING, SECOND, Job
from vln_clip.pretrain.model import build_classifier, header, start_from
from vln_clip.pretrain.stages import make_stage
from vln_clip.stage import Best, Stage
from vln_clip.supervised import LossSum
from vln_clip.tasks.pretraining.models import Classifier

MAJORITY = "_majority"


def stage(job: Job, task: str, pretrained: bool) -> Stage:
    """Set up the fine-tuning of a task."""
    config, data = job.config, job.data
    recipe, table = job.adapted(job.recipes.tasks[task]), data.table(task, TRAIN)
    model = build_classifier(config, data, task, job.seed("model"))
    if pretrained:
        start_from(model, _source(job), config, data, task)
    dtype = product_type(config.precision, data.device)
    scale = recipe.loss_scale or float(table.num_answers)

    def loss(rows: Tensor, images: Tensor, generator: torch.Generator) -> LossSum:
        targets = table.targets(rows).to(data.device)
        with torch.autocast(data.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            logits = model(table.tokens[rows].to(data.device), data.scale(images), generator)
        hit = targets.gather(1, logits.argmax(1, keepdim=True)).sum()
        total = task_loss(logits.float(), targets, task, scale)
        return LossSum(total, torch.tensor(len(rows)), {"train/accuracy": hit.detach()})

    return make_stage(
        job,
        row_name(task, pretrained),
        model,
        table,
        recipe,
        config.finetuning_iters,
        loss,
        Validation(job, task, Answerer(model, data, job.run.ranks)),
        Best(BEST, VAL, "accuracy"),
        header(config, data, task),
        [str(name) for name in table.question_ids],
    )


def row_name(task: str, pretrained: bool) -> str:
    """Return the name of a task's stage and of its row in ``results.json``."""
    return task if pretrained else task + NO_PRETRAINING


def task_loss(logits: Tensor, targets: Tensor, task: str, scale: float) -> Tensor:
    """Return the sum over rows of a task's loss.

    Args:
        logits: (B, K).
        targets: (B, K) scores; of entailment one 1 in a row.
        task: of ``config.TASKS``.
        scale: factor of the mean over labels of the binary cross entropy.
    """
    if task == "snli_ve":
        return torch.nn.functional.cross_entropy(logits, targets.argmax(1), reduction="sum")
    bits = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    return bits * (scale / targets.shape[1])


def _source(job: Job) -> Path:
    """Return where the pre-trained weights of a run's tasks are."""
    if job.config.init is not None:
        return job.config.init
    return job.run.checkpoint(SECOND, LAST)


class Validation:
    """Scores a model on rows of val, the same ones every time."""

    def __init__(self, job: Job, task: str, answerer: Answerer) -> None:
        self.answerer, self.task, self.table = answerer, task, job.data.table(task, VAL)
        order = torch.randperm(len(self.table), generator=torch.Generator().manual_seed(job.seed("validation")))
        self.rows = order[: job.config.eval_rows].sort().values

    def __call__(self) -> dict[str, dict[str, float]]:
        """Return ``{split: {metric: value}}``."""
        chosen = self.answerer.choose(self.task, VAL, self.rows)
        return {VAL: {"accuracy": self.table.scores(self.rows, chosen[self.rows]).mean().item()}}


def evaluate_all(job: Job) -> dict[str, dict[str, dict[str, Any]]]:
    """Score every fine-tuned model of a run on val, and write the result files of test splits."""
    found: dict[str, dict[str, Any]] = {}
    for task in job.config.tasks:
        log.logger.info("scoring %d rows of %s", len(job.data.table(task, VAL)), task)
        found[task + MAJORITY] = _majority(job, task) | {"features": "none"}
        starts = [pretrained for other, pretrained in job.config.fine_tuned if other == task]
        for pretrained in sorted(starts):  # context first
            name = row_name(task, pretrained)
            found[name] = _score(job, task, name)
        write_result_file(job, task, row_name(task, max(starts)))
    return {VAL: found}


def _score(job: Job, task: str, name: str) -> dict[str, Any]:
    """Score the best checkpoint of a stage on all of val."""
    answerer = Answerer(load_stage(job, task, name), job.data, job.run.ranks)
    return score(job.data, task, VAL, answerer.labels(task, VAL)) | {"features": job.data.encoder_used()}


def _majority(job: Job, task: str) -> dict[str, float]:
    """Score the label that most training rows have, what a model without eyes and ears would say."""
    train, names = job.data.table(task, TRAIN), job.data.labels(task).answers
    totals = torch.zeros(train.num_answers + 1).index_add_(
        0, train.target_index.flatten().long(), train.target_score.flatten()
    )
    best = names[int(totals[:-1].argmax())]
    return score(job.data, task, VAL, [best] * len(job.data.questions(task, VAL)))


def load_stage(job: Job, task: str, name: str) -> Classifier:
    """Load the best fine-tuned model of a stage of this run."""
    folder = job.run.checkpoint(name, BEST)
    saved = job.run.ranks.from_main(lambda: checkpoint.load(folder))
    model = build_classifier(job.config, job.data, task, seed=0, weights=False)
    checkpoint.restore_weights(model, saved.weights, folder)
    return model.eval()


def write_result_file(job: Job, task: str, name: str) -> None:
    """Answer the test split of a task, where there is one, with the best model of a stage."""
    if not job.data.has(task, TEST):
        return
    answerer = Answerer(load_stage(job, task, name), job.data, job.run.ranks)
    rows = result_rows(job.data, task, TEST, answerer.labels(task, TEST))
    with job.run.ranks.together():
        if job.run.ranks.is_main:
            files.save_json(job.run.folder / f"{task}_test_predict.json", rows, indent=None)
