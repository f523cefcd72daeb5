"""What ``vln_clip.vqa train`` does with a run's folder: the model and its question-only twin, results, submission."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vln_clip import checkpoint, log
from vln_clip.devices import product_type
from vln_clip.divergence import Watch
from vln_clip.image_grids import features_used
from vln_clip.run import Run, describe_start
from vln_clip.sampler import ShuffledSampler
from vln_clip.session import computing, save_results, train_stages
from vln_clip.stage import Best, Stage
from vln_clip.supervised import Clip, LossSum, ReadAhead, SupervisedLearner
from vln_clip.tasks.vqa.models import RECIPES, Recipe, VqaModel, make_optimizer, vqa_loss
from vln_clip.tasks.vqa.results import write_results
from vln_clip.tasks.vqa.vocabulary import AnswerVocabulary
from vln_clip.token_reader import open_reader
from vln_clip.vqa.answering import Answerer, score
from vln_clip.vqa.config import VqaConfig
from vln_clip.vqa.data import VqaData
from vln_clip.vqa.model import BEST, LAST, QUESTION_ONLY, build, header

MOST_COMMON = "most_common"
SUBMISSION = "submission_test.json"
SEEDS = {"model": 0, QUESTION_ONLY: 1, "validation": 2}


@dataclass
class Job:
    """What every stage of a run works with."""

    run: Run[VqaConfig]
    data: VqaData

    @property
    def config(self) -> VqaConfig:
        """Return the run's configuration."""
        return self.run.config

    def seed(self, purpose: str) -> int:
        """Return a seed of its own for each purpose."""
        return self.config.seed * 100 + SEEDS[purpose]

    @property
    def recipe(self) -> Recipe:
        """Return how the model is trained."""
        base = RECIPES[self.config.model]
        return replace(
            base, batch_size=self.config.batch_size or base.batch_size, lr=self.config.learning_rate or base.lr
        )

    @property
    def rows(self) -> dict[str, bool]:
        """Return the models of a run and whether each sees."""
        sees = {self.config.model: True} if self.data.grids is not None else {}
        return sees | ({QUESTION_ONLY: False} if self.config.question_only or not sees else {})


def train(run: Run[VqaConfig]) -> None:
    """Train, evaluate and write what a run is for."""
    with computing(run) as device:
        job = run.ranks.first_here(lambda: open_job(run, device))
        train_stages(run, stages(job))
        save_results(run, evaluate_all(job))
    log.logger.info("results, checkpoints and result file are in %s", run.folder)


def open_job(run: Run[VqaConfig], device: torch.device) -> Job:
    """Open data and grids of a run, and log what it is."""
    job = Job(run, VqaData(run.config, device, reader=open_reader(run.config.text, device)))
    run.ranks.require_rows("--batch-size", job.recipe.batch_size)
    describe_start(run.config, device, features_used(job.data.grids))
    train_table, val = job.data.table(job.data.train_splits), job.data.table(job.data.row.val)
    covered = float(train_table.answerable.float().mean())
    log.logger.info(
        "questions: %d to learn from (%s), %d of %s; %d words, %d answers, which cover %.1f %% of the questions",
        *(len(train_table), job.data.train_splits, len(val), job.data.row.val),
        *(len(job.data.words), len(job.data.answers), 100 * covered),
    )
    if job.data.row.val in job.data.train_splits.split("+"):
        log.logger.warning(
            "%s is learned from, too: its accuracy shows how much was learned by heart", job.data.row.val
        )
    grid = tuple(job.data.grids.shape) if job.data.grids is not None else ()
    log.logger.info("first batch: tokens %s, grid %s", (job.recipe.batch_size, *train_table.tokens.shape[1:]), grid)
    return job


def stages(job: Job) -> dict[str, Callable[[], Stage]]:
    """Return what sets up each stage, in their order."""
    return {name: partial(stage, job, name, sees) for name, sees in job.rows.items()}


def stage(job: Job, name: str, sees: bool) -> Stage:
    """Set up the training of a model."""
    config, data, recipe, ranks = job.config, job.data, job.recipe, job.run.ranks
    table, seed = data.table(data.train_splits), job.seed("model" if sees else QUESTION_ONLY)
    model = build(config, data, seed)
    generator = ranks.generator(seed, data.device)
    joint = None if ranks.world == 1 else torch.Generator(data.device).manual_seed(seed)
    optimizer = make_optimizer(model, recipe, config.text.text_lr_factor)
    sampler = ShuffledSampler(len(table), recipe.batch_size, seed)
    dtype = product_type(config.precision, data.device)
    watch = Watch(config.max_gradient_norm_factor)

    def load(rows: Tensor) -> Tensor | None:
        return data.read_grids(table, rows.to(data.device)) if sees else None

    def loss(rows: Tensor, grid: Tensor | None) -> LossSum:
        batch = table.batch(rows.to(data.device))
        assert batch.targets is not None, "training questions have answers"
        with torch.autocast(data.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            output = model(batch.tokens, grid, generator)
        hit = batch.targets.gather(1, output.best(data.answers.unknown)[:, None]).sum()
        return LossSum(
            vqa_loss(output, batch.targets, "sum"), torch.tensor(len(rows)), {"train/accuracy": hit.detach()}
        )

    learner = SupervisedLearner(
        model,
        optimizer,
        ReadAhead(sampler, load, ranks),
        loss,
        Clip(norm=recipe.clip_norm),
        watch,
        ranks,
        mean=recipe.reduction == "mean",
    )
    iters, schedule = recipe.plan(len(table) / recipe.batch_size, config.iters)
    return Stage(
        name,
        model,
        optimizer,
        learner,
        Validation(job, Answerer(model, data, sees, ranks)),
        [Best(BEST, data.row.val, "accuracy")],
        iters,
        config.eval_every,
        {"train": sampler},
        generator,
        header(config, data, sees),
        watch=watch,
        ids={"train": [str(name) for name in table.question_ids]},
        ranks=ranks,
        joint_generator=joint,
        schedule=schedule,
    )


class Validation:
    """Scores a model on questions of the validation split, the same ones every time."""

    def __init__(self, job: Job, answerer: Answerer) -> None:
        self.split, self.answerer = job.data.row.val, answerer
        self.table = job.data.table(self.split)
        order = torch.randperm(len(self.table), generator=torch.Generator().manual_seed(job.seed("validation")))
        self.rows = order[: job.config.eval_questions].sort().values.to(job.data.device)

    def __call__(self) -> dict[str, dict[str, float]]:
        """Return ``{split: {metric: value}}``."""
        chosen = self.answerer.choose(self.table, self.rows)
        return {self.split: self.table.accuracy(self.rows, chosen[self.rows])}


def evaluate_all(job: Job) -> dict[str, dict[str, dict[str, Any]]]:
    """Score every model of a run on the validation split, and write the results file of the test split."""
    split, data = job.data.row.val, job.data
    questions = data.questions(split)
    log.logger.info("scoring %d questions of %s", len(questions), split)
    found: dict[str, dict[str, Any]] = {
        MOST_COMMON: score(questions, [most_common(data)] * len(questions), job.config.normalization)
        | {"features": "none"}
    }
    for name, sees in reversed(job.rows.items()):  # context first
        found[name] = _score(job, name, BEST, sees)
        same = iteration_of(job, name, BEST) == iteration_of(job, name, LAST)
        found[f"{name}_last"] = found[name] if same else _score(job, name, LAST, sees)
    if data.has_test:
        write_submission(job)
    return {split: found}


def _score(job: Job, stage: str, which: str, sees: bool) -> dict[str, Any]:
    """Score a checkpoint on the validation split."""
    data, split = job.data, job.data.row.val
    answerer = Answerer(load_stage(job, stage, which), data, sees, job.run.ranks)
    used = features_used(data.grids if sees else None)
    answers = answerer.answers(data.table(split))
    return score(data.questions(split), answers, job.config.normalization) | {"features": used}


def most_common(data: VqaData) -> str:
    """Return the most frequent answer to the training questions, what a model without eyes and ears would say."""
    return AnswerVocabulary.build(data.questions(data.train_splits), 0, data.row.normalize).answers[0]


def load_stage(job: Job, name: str, which: str) -> VqaModel:
    """Load a trained model of this run."""
    folder = job.run.checkpoint(name, which)
    saved = job.run.ranks.from_main(lambda: checkpoint.load(folder))
    model = build(job.config, job.data, seed=0)
    checkpoint.restore_weights(model, saved.weights, folder)
    return model.eval()


def iteration_of(job: Job, name: str, which: str) -> int:
    """Return when a checkpoint of this run was saved."""
    return int(job.run.ranks.from_main(lambda: checkpoint.load(job.run.checkpoint(name, which)).header["iteration"]))


def write_submission(job: Job) -> None:
    """Answer the test split with the best checkpoint of the model that sees, where all of its images can be seen."""
    name, sees = next(iter(job.rows.items()))
    split = job.data.row.test
    num_unseen = job.data.num_unseen(split) if sees else 0
    if num_unseen:
        log.logger.warning(
            "no result file of %s: %d of its %d questions ask about images without features; with them, "
            "python -m vln_clip.vqa predict --checkpoint %s writes it",
            *(split, num_unseen, len(job.data.questions(split)), job.run.folder),
        )
        return
    answerer = Answerer(load_stage(job, name, BEST), job.data, sees, job.run.ranks)
    answers = answerer.answers(job.data.table(split))
    with job.run.ranks.together():
        if job.run.ranks.is_main:
            write_results(job.run.folder / SUBMISSION, job.data.questions(split), answers, job.data.row.style)
