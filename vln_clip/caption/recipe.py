"""What ``vln_clip.caption train`` does with a run's folder: cross entropy, self-critical training, results."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from vln_clip import checkpoint, log
from vln_clip.caption.config import CaptionConfig
from vln_clip.caption.data import TRAIN, VAL, CaptionData
from vln_clip.caption.learning import CrossEntropy, SelfCritical
from vln_clip.caption.model import BEST, LAST, NO_IMAGE, TRANSFORMER, XE_SUFFIX, build, header
from vln_clip.caption.scoring import score_split, written
from vln_clip.caption.writing import Writer
from vln_clip.devices import product_type
from vln_clip.divergence import Watch
from vln_clip.image_grids import features_used
from vln_clip.run import Run, describe_start
from vln_clip.sampler import ShuffledSampler
from vln_clip.schedules import Constant, Noam, Schedule
from vln_clip.session import computing, save_results, train_stages
from vln_clip.stage import Best, Stage
from vln_clip.supervised import Clip, ReadAhead, SupervisedLearner
from vln_clip.tasks.captioning.cider import CiderD
from vln_clip.tasks.captioning.metrics import score_captions
from vln_clip.tasks.captioning.models.recipes import WritingConfig
from vln_clip.tasks.captioning.models.transformer import CaptionTransformer
from vln_clip.tasks.captioning.results import write_results

GREEDY = WritingConfig(beam_size=1)
CIDER = "CIDEr"
SEEDS = {f"{TRANSFORMER}{XE_SUFFIX}": 0, TRANSFORMER: 1, f"{NO_IMAGE}{XE_SUFFIX}": 2, NO_IMAGE: 3}


@dataclass
class Job:
    """What every stage of a run works with."""

    run: Run[CaptionConfig]
    data: CaptionData

    @property
    def config(self) -> CaptionConfig:
        """Return the run's configuration."""
        return self.run.config

    def seed(self, stage: str) -> int:
        """Return a seed of its own for each stage."""
        return self.config.seed * 100 + SEEDS[stage]

    @property
    def rows(self) -> dict[str, bool]:
        """Return the models of a run and whether each sees."""
        sees = {TRANSFORMER: True} if self.data.grids is not None else {}
        return sees | ({NO_IMAGE: False} if self.config.no_image or not sees else {})

    def model(self, sees: bool, seed: int = 0) -> CaptionTransformer:
        """Build a captioner with fresh weights."""
        width = self.data.grid_width if sees else None
        return build(self.config.model, self.data.vocabulary.size, width, seed).to(self.data.device)

    def iterations(self, epochs: float) -> int:
        """Return the steps of so many passes over the training images."""
        return round(epochs * len(self.data.table(TRAIN)) / self.config.xe.images_per_batch)

    def load(self, stage: str, which: str, sees: bool) -> CaptionTransformer:
        """Load a trained captioner of this run."""
        folder = self.run.checkpoint(stage, which)
        model = self.model(sees)
        checkpoint.restore_weights(model, self.run.ranks.from_main(lambda: checkpoint.load(folder)).weights, folder)
        return model.eval()


def train(run: Run[CaptionConfig]) -> None:
    """Train, evaluate and write what a run is for."""
    with computing(run) as device:
        job = run.ranks.first_here(lambda: open_job(run, device))
        train_stages(run, stages(job))
        save_results(run, evaluate_all(job))
    log.logger.info("results, checkpoints and result files are in %s", run.folder)


def open_job(run: Run[CaptionConfig], device: torch.device) -> Job:
    """Open data and grids of a run, and log what it is."""
    job = Job(run, CaptionData(run.config, device))
    run.ranks.require_rows("--images-per-batch", run.config.xe.images_per_batch)
    describe_start(run.config, device, features_used(job.data.grids))
    tables = {split: job.data.table(split) for split in (TRAIN, VAL)}
    sizes = {split: (len(table), len(table.labels)) for split, table in tables.items()}
    log.logger.info("images and captions: %s; %d words", sizes, len(job.data.vocabulary.words))
    grid = tuple(job.data.grids.shape) if job.data.grids is not None else ()
    xe = run.config.xe
    log.logger.info("first batch: captions %s, grid %s", (xe.images_per_batch, xe.captions_per_image, 18), grid)
    return job


def stages(job: Job) -> dict[str, Callable[[], Stage]]:
    """Return what sets up each stage, in their order: self-critical training begins with the last of cross entropy."""
    found: dict[str, Callable[[], Stage]] = {}
    for name, sees in job.rows.items():
        found[f"{name}{XE_SUFFIX}"] = partial(cross_entropy_stage, job, f"{name}{XE_SUFFIX}", sees)
        if job.config.scst.scst_epochs:
            found[name] = partial(self_critical_stage, job, name, sees)
    return found


def cross_entropy_stage(job: Job, name: str, sees: bool) -> Stage:
    """Set up the first stage: captions of people, word by word, with Noam's schedule."""
    xe = job.config.xe
    model = job.model(sees, job.seed(name))
    schedule = Noam(job.config.model.width, xe.xe_warmup)
    return _stage(job, name, sees, model, xe.xe_lr_factor, schedule, job.iterations(xe.xe_epochs))


def self_critical_stage(job: Job, name: str, sees: bool) -> Stage:
    """Set up the second stage: captions of its own, as far as they score better than others of its own."""
    scst, before = job.config.scst, f"{name}{XE_SUFFIX}"
    saved = job.run.ranks.from_main(lambda: checkpoint.load(job.run.checkpoint(before, LAST)))
    model = job.model(sees)
    checkpoint.restore_weights(model, saved.weights, job.run.checkpoint(before, LAST))
    stage = _stage(job, name, sees, model, scst.scst_lr, Constant(), job.iterations(scst.scst_epochs))
    if scst.keep_optimizer:
        checkpoint.restore_optimizer(stage.optimizer, checkpoint.section(saved.state, "optimizer"))
    stage.header["from"] = {"iteration": saved.header["iteration"]}
    return stage


def _stage(
    job: Job, name: str, sees: bool, model: CaptionTransformer, lr: float, schedule: Schedule, iters: int
) -> Stage:
    """Set up the training of a captioner."""
    config, data, ranks, seed = job.config, job.data, job.run.ranks, job.seed(name)
    table, xe = data.table(TRAIN), config.xe
    generator = ranks.generator(seed, data.device)
    joint = None if ranks.world == 1 else torch.Generator(data.device).manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr, (xe.adam_beta1, xe.adam_beta2), xe.adam_eps)
    sampler = ShuffledSampler(len(table), xe.images_per_batch, seed)
    watch = Watch(config.max_gradient_norm_factor)
    dtype = product_type(config.precision, data.device)
    if name.endswith(XE_SUFFIX):
        loss: Any = CrossEntropy(model, table, generator, xe.captions_per_image, dtype)
    else:
        loss = SelfCritical(model, table, generator, config.scst, CiderD(data.counts, data.device), dtype)
    batches = ReadAhead(sampler, partial(data.read_grids, table) if sees else _nothing, ranks)
    return Stage(
        name,
        model,
        optimizer,
        SupervisedLearner(model, optimizer, batches, loss, Clip(value=xe.clip_value), watch, ranks),
        Validation(job, Writer(model, data.vocabulary, GREEDY, ranks), sees),
        [Best(BEST, VAL, CIDER)],
        iters,
        xe.eval_every,
        {"train": sampler},
        generator,
        header(config, data, sees),
        watch=watch,
        ids={"train": table.images},
        ranks=ranks,
        joint_generator=joint,
        schedule=schedule,
    )


def _nothing(rows: torch.Tensor) -> None:
    """Read nothing for a model that sees nothing."""


class Validation:
    """Scores greedy captions of the validation split by CIDEr."""

    def __init__(self, job: Job, writer: Writer, sees: bool) -> None:
        self.job, self.writer, self.sees = job, writer, sees
        self.references = job.data.references(VAL)

    def __call__(self) -> dict[str, dict[str, float]]:
        """Return ``{split: {metric: value}}``."""
        captions = written(self.writer, self.job.data, VAL, self.sees)
        return {VAL: score_captions(captions, self.references, (CIDER,), "own").metrics}


@dataclass(frozen=True)
class Scored:
    """A row of the results: which checkpoint of which stage it is of.

    Attributes:
        name: of the row.
        stage: of training.
        which: checkpoint of the stage.
        sees: False for the captioner without images.
        iteration: of the checkpoint.
    """

    name: str
    stage: str
    which: str
    sees: bool
    iteration: int


def evaluate_all(job: Job) -> dict[str, dict[str, dict[str, Any]]]:
    """Score every captioner of a run on the validation and test splits, and write their result files."""
    results: dict[str, dict[str, dict[str, Any]]] = {}
    rows, ranks = scored_rows(job), job.run.ranks
    for split in job.data.splits:
        log.logger.info("writing and scoring captions of %d images of %s", len(job.data.images(split)), split)
        results[split], known = {}, dict[tuple[str, int], tuple[dict[int, str], dict[str, Any]]]()
        for row in reversed(rows):
            weights = row.stage, row.iteration
            if weights not in known:
                known[weights] = _captions_and_scores(job, row, split)
            captions, found = known[weights]
            with ranks.together():
                if ranks.is_main:
                    write_results(job.run.folder / f"captions_{split}_{row.name}.json", captions)
            results[split][row.name] = found
    return results


def _captions_and_scores(job: Job, row: Scored, split: str) -> tuple[dict[int, str], dict[str, Any]]:
    """Write and score the captions of a split."""
    writer = Writer(job.load(row.stage, row.which, row.sees), job.data.vocabulary, job.config.writing, job.run.ranks)
    captions = written(writer, job.data, split, row.sees)
    found = job.run.ranks.from_main(lambda: score_split(captions, job.data.references(split)))
    return captions, found | {"features": features_used(job.data.grids if row.sees else None)}


def scored_rows(job: Job) -> list[Scored]:
    """Return the rows of the results, the most important first."""
    found = []
    for name, sees in job.rows.items():
        xe, has_both = f"{name}{XE_SUFFIX}", bool(job.config.scst.scst_epochs)
        named = [(name, _selected(job, name) if has_both else xe, BEST)]
        named += [(xe, xe, BEST)] if has_both else []
        named += [(f"{name}_last", name if has_both else xe, LAST)]
        found += [Scored(*row, sees, _header(job, *row[1:])["iteration"]) for row in named]
    return found


def _selected(job: Job, name: str) -> str:
    """Return the stage whose best is the captioner: that of self-critical training where it beats cross entropy's.

    The reference's ``load_best_score``.
    """
    xe = f"{name}{XE_SUFFIX}"
    before, after = (float(_header(job, stage, BEST)["scores"][VAL][CIDER]) for stage in (xe, name))
    if after > before:
        return name
    log.logger.info(
        "%s: self-critical training does not beat cross entropy on val (greedy CIDEr %.3f, %.3f before), whose best "
        "checkpoint remains the best",
        *(name, after, before),
    )
    return xe


def _header(job: Job, stage: str, which: str) -> dict[str, Any]:
    """Return what a checkpoint of this run says."""
    return job.run.ranks.from_main(lambda: checkpoint.load(job.run.checkpoint(stage, which)).header)
