"""``python -m vln_clip.train``: the EnvDrop recipe from data to results, submission and table.

Follower → (with --bt) speaker → back-translation, beside a follower that sees nothing; then every split is
evaluated with the best checkpoints by val_unseen success rate, as the field reports it, and the last ones.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from vln_clip import checkpoint, config, envdrop, files, log, setting
from vln_clip.agents.baselines import RandomAgent, StopAgent
from vln_clip.agents.follower import Follower
from vln_clip.agents.speaker import Speaker
from vln_clip.config import TrainConfig
from vln_clip.envs import paths
from vln_clip.envs.episodes import EpisodeTable, ShuffledSampler, in_order
from vln_clip.envs.evaluation import predictions, score_walks, walk_split
from vln_clip.envs.navigation import Navigation
from vln_clip.features import features_used
from vln_clip.losses import word_loss
from vln_clip.report import print_results
from vln_clip.rollout import Agent, teacher_forced
from vln_clip.run import LAST, Best, Run, Stage, describe_start, run_stage
from vln_clip.setting import TEST, TRAIN, VALIDATION, Setting, build_follower, build_speaker
from vln_clip.tasks.bleu import corpus_bleu
from vln_clip.tasks.metrics import SUCCESS_RATE
from vln_clip.tasks.r2r_files import AUG_PATHS, FOLDER
from vln_clip.tasks.submission import write_submission

BEST = "best_val_unseen"
BEST_BLEU = "best_val_unseen_bleu"
DEFAULT_NUM_AUG_PATHS = 100_000
# Every purpose draws from a seed of its own; the control of back-translation shares that of what it is compared with.
SEEDS = {
    "follower": 0,
    "blind": 1,
    "speaker": 2,
    "back_translated": 3,
    "continued": 3,
    "aug_paths": 4,
    "random": 5,
    "train_rows": 6,
}


@dataclass
class Job:
    """What every stage works with."""

    config: TrainConfig
    run: Run
    setting: Setting
    world: Navigation
    features: str
    fingerprints: list[str]
    unlabelled: EpisodeTable | None = None
    unlabelled_source: str = ""

    def seed(self, purpose: str) -> int:
        """Return a seed of its own for each purpose."""
        return self.config.seed * 100 + SEEDS[purpose]

    def generator(self, purpose: str) -> torch.Generator:
        """Return a fresh generator on the device."""
        return torch.Generator(self.setting.device).manual_seed(self.seed(purpose))

    def header(self, world: Navigation) -> dict[str, Any]:
        """Return what a checkpoint must know to be used again."""
        seen = world is self.world
        return {
            "dataset": self.setting.dataset,
            "data": self.setting.versions(),
            "features_wanted": self.config.features if seen else "none",
            "features": self.features if seen else "none",
            "feature_width": world.bank.width,
            "feature_fingerprints": self.fingerprints if seen else [],
            "model": asdict(self.config.model),
            "max_action": self.config.follower.max_action,
            "max_input": self.config.follower.max_input,
            "words": list(self.setting.vocabulary.words),
            "seed": self.config.seed,
            "config": self.config.to_json(),
        }


def main(argv: list[str] | None = None) -> None:
    """Run the program."""
    settings = config.parse(argv, setting.find_dataset)
    run = Run(settings)
    if run.results_file.is_file():
        log.logger.info("%s is finished; another --name starts a new run", run.folder)
        print_results(run.results_file)
        return
    job = open_job(settings, run)
    try:
        train_and_evaluate(job)
    finally:
        run.close()
    print_results(run.results_file)
    log.logger.info("results, submission and checkpoints are in %s", run.folder)


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


def train_and_evaluate(job: Job) -> None:
    """Go through every stage, then write the submission and, last of all, the results."""
    settings = job.config
    train_follower(job, "follower", job.world)
    agents = {"follower": job.world}
    if settings.blind and settings.features != "none":
        agents["blind"] = job.setting.world([], settings.simulator, settings.cross_check, **rewards(settings))
        train_follower(job, "blind", agents["blind"])
    if settings.bt:
        train_speaker(job)
        train_back_translated(job)
        agents["back_translated"] = job.world
    results = evaluate_all(job, agents)
    setting.log_cross_check(job.world)
    write_test_submission(job, "back_translated" if settings.bt else "follower")
    files.save_json(job.run.results_file, results)


def open_job(settings: TrainConfig, run: Run) -> Job:
    """Open data set, features and world of a run, and log what it is."""
    device = setting.pick_device(settings.device)
    data = setting.open_setting(settings.dataset, None, device, max_input=settings.follower.max_input)
    stores = data.stores(settings.features)
    world = data.world(stores, settings.simulator, settings.cross_check, **rewards(settings))
    job = Job(settings, run, data, world, features_used(stores), [store.fingerprint for store in stores])
    describe_start(settings, device, job.features)
    if settings.bt:  # a bad file is told before hours of training
        job.unlabelled, job.unlabelled_source = unlabelled_paths(job)
        log.logger.info("unlabelled paths: %d, %s", len(job.unlabelled), job.unlabelled_source)
    batch = data.table(TRAIN).batch(torch.arange(min(settings.follower.batch_size, len(data.table(TRAIN)))))
    shapes = (
        f"tokens {tuple(batch.tokens.shape)}, views {tuple(job.world.observe(batch.viewpoint, batch.view).views.shape)}"
    )
    sizes = {name: len(split.episodes) for name, split in data.splits.items()}
    log.logger.info("instructions: %s; first batch: %s", sizes, shapes)
    return job


def rewards(settings: TrainConfig) -> dict[str, float]:
    """Return the rewards of the world."""
    return {"stop_reward": settings.follower.stop_reward, "progress_reward": settings.follower.progress_reward}


def train_follower(job: Job, name: str, world: Navigation) -> None:
    """Train a follower by imitation and actor-critic."""
    c = job.config.follower
    follower = build_follower(job.setting, job.config.model, world.bank.width, job.seed(name))
    learner = follower_learner(job, name, world, follower, c.ml_weight, c.lr)
    stage = follower_stage(job, name, learner, learner, c.iters, c.eval_every, {"train": learner.sampler})
    run_stage(job.run, stage)


def follower_learner(
    job: Job, name: str, world: Navigation, follower: Follower, ml_weight: float, lr: float
) -> envdrop.FollowerLearner:
    """Set a follower up to learn from the labelled episodes."""
    c, table = job.config.follower, job.setting.table(TRAIN)
    optimizer = envdrop.make_optimizer(follower, c.optimizer, lr)
    sampler = ShuffledSampler(len(table), c.batch_size, job.seed(name))
    return envdrop.FollowerLearner(world, follower, optimizer, table, sampler, c, job.generator(name), ml_weight)


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
    validation = [split for split in VALIDATION if split in job.setting.splits]

    def validate() -> dict[str, dict[str, float]]:
        learner.follower.eval()
        found = {split: score_split(job, learner.world, learner.follower, split) for split in validation}
        if rows is not None:
            walks = walk_split(learner.world, learner.follower, train, c.max_action, rows=rows)
            found[TRAIN] = score_walks(learner.world, train, walks)
        learner.follower.train()
        return found

    return Stage(
        name,
        learner.follower,
        learner.optimizer,
        learn,
        validate,
        [Best(f"best_{split}", split, SUCCESS_RATE) for split in validation],
        iters,
        eval_every,
        samplers,
        learner.generator,
        job.header(learner.world),
    )


def score_split(job: Job, world: Navigation, agent: Agent, split: str, **options: Any) -> dict[str, float]:
    """Walk a whole split and return its metrics."""
    table = job.setting.table(split)
    return score_walks(world, table, walk_split(world, agent, table, job.config.follower.max_action, **options))


def train_speaker(job: Job) -> None:
    """Train the speaker by teacher forcing; BLEU on val_unseen selects the one that back-translation uses."""
    c, table = job.config.speaker, job.setting.table(TRAIN)
    speaker = build_speaker(job.setting, job.config.model, job.world.bank.width, job.seed("speaker"))
    optimizer = envdrop.make_optimizer(speaker, c.speaker_optimizer, c.speaker_lr)
    sampler = ShuffledSampler(len(table), c.speaker_batch_size, job.seed("speaker"))
    generator = job.generator("speaker")
    clip = job.config.follower.clip_norm
    learner = envdrop.SpeakerLearner(job.world, speaker, optimizer, table, sampler, clip, generator)
    validation = [split for split in VALIDATION if split in job.setting.splits]
    best = [Best(f"best_{split}_bleu", split, "bleu") for split in validation]
    best += [Best(f"best_{split}_loss", split, "loss", sign=-1.0) for split in validation]
    stage = Stage(
        "speaker",
        speaker,
        optimizer,
        learner,
        lambda: {split: score_speaker(job, speaker, split) for split in validation},
        best,
        c.speaker_iters,
        c.speaker_eval_every,
        {"train": sampler},
        generator,
        job.header(job.world),
    )
    run_stage(job.run, stage)


@torch.no_grad()
def score_speaker(job: Job, speaker: Speaker, split: str) -> dict[str, float]:
    """Return BLEU of one greedy description per path, and loss and accuracy of words over the whole split."""
    table, vocabulary = job.setting.table(split), job.setting.vocabulary
    references: dict[str, list[list[str]]] = {}
    first: dict[str, int] = {}
    for row, episode in enumerate(table.episodes):
        references.setdefault(episode.path_id, []).append(vocabulary.tokenizer.tokenize(episode.instruction))
        first.setdefault(episode.path_id, row)
    written: list[list[str]] = []
    for rows in in_order(len(first), 128):
        walk = job.world.observe_walk(table.batch(torch.tensor(list(first.values()))[rows]))
        for words in speaker.describe(walk, job.config.speaker.max_decode).tolist():
            written.append([vocabulary.words[i] for i in vocabulary.shrink(words)])
    loss, correct, count = 0.0, 0, 0
    for rows in in_order(len(table), 128):
        batch = table.batch(rows)
        logits = speaker(job.world.observe_walk(batch), batch.tokens, batch.length)
        target = batch.tokens[:, 1:]
        real = target != 0
        loss += float(word_loss(logits, batch.tokens)) * int(real.sum())
        correct += int(((logits[:, :-1].argmax(-1) == target) & real).sum())
        count += int(real.sum())
    bleu = corpus_bleu(written, list(references.values()))
    return {"bleu": bleu, "loss": loss / count, "word_accuracy": correct / count}


def train_back_translated(job: Job, name: str = "back_translated", augment: bool = True) -> None:
    """Go on from the best follower with generated instructions; ``augment=False`` is the control without them."""
    c, follower_config = job.config.back_translation, job.config.follower
    folder = job.run.checkpoint("follower", BEST)
    saved = checkpoint.load(folder)
    width = job.world.bank.width
    follower = build_follower(job.setting, job.config.model, width, job.seed(name), c.bt_feature_dropout)
    checkpoint.restore_weights(follower, saved.weights, folder)
    lr = c.bt_lr or follower_config.lr
    learner = follower_learner(job, name, job.world, follower, c.real_weight, lr)
    iters = c.bt_iters or max(1, (c.bt_until - int(saved.header["iteration"])) // 2)
    learn: Callable[[], dict[str, float]] = learner
    samplers = {"train": learner.sampler}
    if augment:
        learn = back_translation_learner(job, learner)
        samplers["aug"] = learn.sampler
    stage = follower_stage(job, name, learner, learn, iters, c.bt_eval_every, samplers)
    if augment:
        stage.header["unlabelled_paths"] = job.unlabelled_source
    stage.header["from"] = {"iteration": saved.header["iteration"], "batch_size": follower_config.batch_size}
    run_stage(job.run, stage)


def back_translation_learner(job: Job, learner: envdrop.FollowerLearner) -> envdrop.BackTranslationLearner:
    """Set up the speaker and the unlabelled paths around a follower's learner."""
    c, data = job.config.back_translation, job.setting
    speaker = build_speaker(data, job.config.model, job.world.bank.width, job.seed("speaker"))
    folder = job.run.checkpoint("speaker", BEST_BLEU)
    checkpoint.restore_weights(speaker, checkpoint.load(folder).weights, folder)
    speaker.eval().requires_grad_(False)
    table = job.unlabelled
    assert table is not None
    sampler = ShuffledSampler(len(table), job.config.follower.batch_size, job.seed("aug_paths"))
    return envdrop.BackTranslationLearner(
        learner, speaker, table, sampler, c.aug_weight, c.bt_feature_dropout, job.config.speaker.max_decode
    )


def unlabelled_paths(job: Job) -> tuple[EpisodeTable, str]:
    """Read the paths of ``--aug-paths`` or of the data set, or sample some; also say which."""
    c, data = job.config.back_translation, job.setting
    train = data.table(TRAIN)
    file = c.aug_paths or data.data / FOLDER / AUG_PATHS
    if c.aug_paths is not None or (c.num_aug_paths is None and file.is_file()):
        table = paths.read_paths(file, data.dataset, data.data, data.tables, data.device)
        paths.require_buildings(file, table, train, data.tables)
        return table, f"of {file.name}, sha256 {hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"
    count, seed = c.num_aug_paths or DEFAULT_NUM_AUG_PATHS, job.seed("aug_paths")
    return paths.sample_paths(data.tables, train, count, seed, data.device), f"sampled with seed {seed}"


def load_stage(job: Job, stage: str, which: str, world: Navigation) -> Follower:
    """Load a trained follower of this run."""
    folder = job.run.checkpoint(stage, which)
    follower = build_follower(job.setting, job.config.model, world.bank.width, seed=0)
    checkpoint.restore_weights(follower, checkpoint.load(folder).weights, folder)
    return follower.eval()


def evaluate_all(job: Job, agents: dict[str, Navigation]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return ``{split: {row: {metric: value}}}``; every row names the features it really saw."""
    results: dict[str, dict[str, dict[str, Any]]] = {}
    scored = [name for name in job.setting.splits if job.setting.table(name).has_goals]
    for split in scored:
        generator = job.generator("random")
        rows: dict[str, dict[str, Any]] = {
            "random": score_split(job, job.world, RandomAgent(generator), split) | {"features": "none"},
            "shortest_path": score_split(job, job.world, StopAgent(), split, feedback=teacher_forced)
            | {"features": "none"},
        }
        for name in ("blind", "follower", "back_translated"):
            if name not in agents:
                continue
            world = agents[name]
            used = {"features": job.features if world is job.world else "none"}
            rows[name] = score_split(job, world, load_stage(job, name, BEST, world), split) | used
            if name != "blind":
                rows[f"{name}_last"] = score_split(job, world, load_stage(job, name, LAST, world), split) | used
        if job.config.features == "none":
            rows["blind"] = rows["follower"]
        results[split] = rows
    return results


def write_test_submission(job: Job, stage: str) -> None:
    """Write the leaderboard file of the test split, and beside it what it was made with."""
    if TEST not in job.setting.splits:
        log.logger.warning("there is no test split in %s: no submission written", job.setting.data)
        return
    table = job.setting.table(TEST)
    follower = load_stage(job, stage, BEST, job.world)
    walks = walk_split(job.world, follower, table, job.config.follower.max_action)
    path = job.run.folder / f"submission_{TEST}.json"
    write_submission(path, predictions(job.world, table, walks))
    about = {"agent": stage, "checkpoint": BEST, "features": job.features, "config": job.config.to_json()}
    if job.unlabelled is not None:
        about["unlabelled_paths"] = job.unlabelled_source
    files.save_json(path.with_suffix(".about.json"), about)


if __name__ == "__main__":
    cli()
