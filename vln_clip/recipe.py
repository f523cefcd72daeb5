"""What ``vln_clip.train`` does with a run's folder: the EnvDrop recipe from data to results and submission.

Follower → (with --bt) speaker → back-translation, beside a follower that sees nothing; then every split is
evaluated with the best checkpoints by val_unseen success rate, as the field reports it, and the last ones.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from vln_clip import checkpoint, envdrop, files, log, optimizers, paths, setting
from vln_clip.agents.follower import Follower
from vln_clip.agents.products import learning_in
from vln_clip.config import TrainConfig
from vln_clip.devices import product_type
from vln_clip.divergence import Watch
from vln_clip.end_to_end import with_encoder
from vln_clip.envs.navigation import Navigation
from vln_clip.job import Job, Unlabelled, criteria, open_job, pre_explored_paths, rewards
from vln_clip.results import (
    BACK_TRANSLATED,
    BEST,
    PRE_EXPLORED,
    evaluate_all,
    write_test_submission,
)
from vln_clip.run import Run
from vln_clip.sampler import ShuffledSampler
from vln_clip.session import computing, save_results, train_stages
from vln_clip.setting import TRAIN, build_follower, build_speaker, find_checkpoint
from vln_clip.stage import Best, Stage
from vln_clip.start import require_width, tell_other_features
from vln_clip.trained_tower import describe_encoder, follower_weights, joint_model
from vln_clip.validation import FollowerValidation, SpeakerValidation, validation_splits

COMPILED = ("tables", "splits", "pairs", "image_sizes")  # folders of the cache whose files can be made again in minutes
BEST_BLEU = "best_val_unseen_bleu"


def train(run: Run[TrainConfig]) -> None:
    """Train, evaluate and write what a run is for."""
    settings, ranks = run.config, run.ranks
    if ranks.is_main:
        files.remove_temporaries(paths.cache_dir().glob(f"*/{files.TEMPORARY}"))
        for folder in COMPILED:
            files.remove_unused(paths.cache_dir() / folder)
    with computing(run):
        train_and_evaluate(ranks.first_here(lambda: open_job(settings, run)))
    log.logger.info("results, submission and checkpoints are in %s", run.folder)


def train_and_evaluate(job: Job) -> None:
    """Go through every stage, then write the submission and, last of all, the results."""
    settings = job.config
    worlds = follower_worlds(job)
    train_stages(job.run, stages(job, worlds))
    results = evaluate_all(job, worlds)
    setting.log_cross_check(job.world)
    with job.ranks.together():
        write_test_submission(job, BACK_TRANSLATED if settings.bt else "follower")
    if PRE_EXPLORED in worlds:
        with job.ranks.together():
            write_test_submission(job, PRE_EXPLORED, f"_{PRE_EXPLORED}")
    save_results(job.run, results)


def follower_worlds(job: Job) -> dict[str, Navigation]:
    """Return what each follower of a run sees, by stage."""
    settings = job.config
    worlds = {"follower": job.world}
    if settings.blind and settings.features != "none":
        worlds["blind"] = job.setting.world([], settings.simulator, settings.cross_check, **rewards(settings))
    if settings.bt:
        worlds[BACK_TRANSLATED] = job.world
    if settings.back_translation.pre_explore:
        worlds[PRE_EXPLORED] = job.world
    return worlds


def stages(job: Job, worlds: dict[str, Navigation]) -> dict[str, Callable[[], Stage]]:
    """Return what sets up each stage, in their order: some begin with checkpoints of those before."""
    every: dict[str, Callable[[], Stage]] = {
        name: partial(label_stage, job, name, worlds[name]) for name in ("follower", "blind") if name in worlds
    }
    if BACK_TRANSLATED in worlds:
        every["speaker"] = partial(speaker_stage, job)
        every[BACK_TRANSLATED] = lambda: translation_stage(job, unlabelled=job.unlabelled)
    if PRE_EXPLORED in worlds:
        every[PRE_EXPLORED] = lambda: translation_stage(job, PRE_EXPLORED, BACK_TRANSLATED, pre_explored_paths(job))
    return every


def label_stage(job: Job, name: str, world: Navigation) -> Stage:
    """Set up a follower that learns by imitation and actor-critic, where asked for together with its encoder."""
    c = job.config.follower
    follower = build_follower(job.setting, job.config.model, world.bank.width, job.seed(name))
    start = job.config.start
    if world is job.world and start is not None:
        begin_with(follower, find_checkpoint(start), job)
    learner = follower_learner(job, name, world, follower, c.ml_weight, c.lr)
    if world is not job.world or job.views is None:
        return follower_stage(job, name, learner, learner, c.iters, c.eval_every, {"train": learner.sampler})
    learn = with_encoder(learner, job.views, job.config.encoder.encoder_lr)
    stage = follower_stage(job, name, learner, learn, c.iters, c.eval_every, {"train": learner.sampler})
    stage.model = joint_model(follower, job.views.encoder)
    stage.header |= describe_encoder(job.views.encoder)
    return stage


def begin_with(follower: Follower, folder: Path, job: Job) -> None:
    """Give a follower the weights of a checkpoint that ``require_start`` has let pass."""
    saved, features = checkpoint.load(folder), job.config.features
    require_width(folder, saved.header, features, job.world.bank.width)
    tell_other_features(folder, saved.header, features, job.fingerprints)
    checkpoint.restore_weights(follower, follower_weights(saved), folder)
    seen, iteration = saved.header.get("features"), saved.header.get("iteration")
    log.logger.info("the follower begins with %s (features %s, iteration %s)", folder, seen, iteration)


def follower_learner(
    job: Job, name: str, world: Navigation, follower: Follower, ml_weight: float, lr: float
) -> envdrop.FollowerLearner:
    """Set a follower up to learn from the labelled episodes."""
    c, table = job.config.follower, job.setting.table(TRAIN)
    optimizer = optimizers.make_optimizer(follower, c.optimizer, lr)
    if follower.encoder.tower is not None:
        set_apart(optimizer, follower.encoder.tower, lr * job.config.text.text_lr_factor)
    sampler = ShuffledSampler(len(table), c.batch_size, job.seed(name))
    watch = Watch(job.config.max_gradient_norm_factor)
    own, joint = job.generators(name)
    return envdrop.FollowerLearner(
        world, follower, optimizer, table, sampler, c, own, ml_weight, watch, job.ranks, joint
    )


def set_apart(optimizer: torch.optim.Optimizer, part: nn.Module, lr: float) -> None:
    """Give a part of a model a learning rate of its own, before the first step."""
    (group,) = optimizer.param_groups
    own = list(part.parameters())
    known = set(own)
    group["params"] = [parameter for parameter in group["params"] if parameter not in known]
    optimizer.add_param_group({"params": own, "lr": lr})


def follower_stage(
    job: Job,
    name: str,
    learner: envdrop.FollowerLearner,
    learn: Callable[[], dict[str, float]],
    iters: int,
    eval_every: int,
    samplers: dict[str, ShuffledSampler],
) -> Stage:
    """Describe the training of a follower, validated by greedy decoding."""
    c = job.config.follower
    train, rows = job.setting.table(TRAIN), None
    if c.train_batches:
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(job.seed("train_rows")))
        rows = order[: c.train_batches * c.batch_size]
    validate = FollowerValidation(job, name, learner.world, learner.follower, rows)
    best = [
        Best(f"best_{split}{suffix}", split, metric)
        for split in validation_splits(job)
        for suffix, metric in criteria(job)
    ]
    return Stage(
        name,
        learner.follower,
        learner.optimizer,
        learning_in(product_type(job.config.precision, job.setting.device), learn),
        validate,
        best,
        iters,
        eval_every,
        samplers,
        learner.generator,
        job.header(learner.world),
        validate.look,
        learner.watch,
        {"train": train.ids},
        job.ranks,
        learner.joint_generator,
    )


def speaker_stage(job: Job) -> Stage:
    """Set up a speaker that learns by teacher forcing; BLEU on val_unseen selects the one for back-translation."""
    c, table = job.config.speaker, job.setting.word_table(TRAIN)
    speaker = build_speaker(job.setting, job.config.model, job.world.bank.width, job.seed("speaker"))
    optimizer = optimizers.make_optimizer(speaker, c.speaker_optimizer, c.speaker_lr)
    sampler = ShuffledSampler(len(table), c.speaker_batch_size, job.seed("speaker"))
    generator, joint = job.generators("speaker")
    clip = job.config.follower.clip_norm
    watch = Watch(job.config.max_gradient_norm_factor)
    learner = envdrop.SpeakerLearner(job.world, speaker, optimizer, table, sampler, clip, generator, watch, job.ranks)
    validate, validation = SpeakerValidation(job, speaker), validation_splits(job)
    best = [Best(f"best_{split}_bleu", split, "bleu") for split in validation]
    best += [Best(f"best_{split}_loss", split, "loss", sign=-1.0) for split in validation]
    return Stage(
        "speaker",
        speaker,
        optimizer,
        learning_in(product_type(job.config.precision, job.setting.device), learner),
        validate,
        best,
        c.speaker_iters,
        c.speaker_eval_every,
        {"train": sampler},
        generator,
        job.header(job.world),
        validate.look,
        watch,
        {"train": table.ids},
        job.ranks,
        joint,
    )


def translation_stage(
    job: Job, name: str = BACK_TRANSLATED, start: str = "follower", unlabelled: Unlabelled | None = None
) -> Stage:
    """Set up a follower that goes on from the best of a stage with generated instructions, or with labels alone."""
    c, follower_config = job.config.back_translation, job.config.follower
    saved = job.load(start, BEST)
    width = job.world.bank.width
    follower = build_follower(job.setting, job.config.model, width, job.seed(name), c.bt_feature_dropout)
    checkpoint.restore_weights(follower, saved.weights, job.run.checkpoint(start, BEST))
    lr = c.bt_lr or follower_config.lr
    learner = follower_learner(job, name, job.world, follower, c.real_weight, lr)
    iters = c.bt_iters or max(1, (c.bt_until - int(saved.header["iteration"])) // 2)
    learn: Callable[[], dict[str, float]] = learner
    samplers = {"train": learner.sampler}
    if unlabelled is not None:
        learn = back_translation_learner(job, learner, unlabelled)
        samplers["aug"] = learn.sampler
    stage = follower_stage(job, name, learner, learn, iters, c.bt_eval_every, samplers)
    if unlabelled is not None:
        stage.header["unlabelled_paths"] = unlabelled.source
    stage.header["from"] = {"iteration": saved.header["iteration"], "batch_size": follower_config.batch_size}
    return stage


def back_translation_learner(
    job: Job, learner: envdrop.FollowerLearner, unlabelled: Unlabelled
) -> envdrop.BackTranslationLearner:
    """Set up the speaker and the unlabelled paths around a follower's learner."""
    c, data = job.config.back_translation, job.setting
    speaker = build_speaker(data, job.config.model, job.world.bank.width, job.seed("speaker"))
    folder = job.run.checkpoint("speaker", BEST_BLEU)
    checkpoint.restore_weights(speaker, job.load("speaker", BEST_BLEU).weights, folder)
    speaker.eval().requires_grad_(False)
    sampler = ShuffledSampler(len(unlabelled.table), job.config.follower.batch_size, job.seed("aug_paths"))
    tags = [data.vocabulary.tag(language) for language in data.vocabulary.languages]
    return envdrop.BackTranslationLearner(
        learner,
        speaker,
        unlabelled.table,
        sampler,
        c.aug_weight,
        c.bt_feature_dropout,
        job.config.speaker.max_decode,
        torch.tensor(tags, device=data.device) if tags else None,
        None if data.reader is None else data.read_words,
    )
