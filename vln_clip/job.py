"""What every stage of a training run works with: configuration, data, world, seeds and unlabelled paths."""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from vln_clip import checkpoint, devices, log, setting
from vln_clip.checkpoint import Checkpoint
from vln_clip.config import TrainConfig
from vln_clip.encoders import pooled_width
from vln_clip.end_to_end import open_views, require_encoder
from vln_clip.envs import paths
from vln_clip.envs.episodes import EpisodeTable
from vln_clip.envs.navigation import Navigation
from vln_clip.features import features_used
from vln_clip.features.encoded import EncodedViews
from vln_clip.ranks import Ranks
from vln_clip.run import Run, describe_start
from vln_clip.setting import TRAIN, UNSEEN, Setting, find_checkpoint
from vln_clip.start import require_start, require_width
from vln_clip.tasks.metrics import NDTW, SUCCESS_RATE
from vln_clip.token_reader import open_reader

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
    "pre_explored": 7,
    "pre_explored_paths": 8,
}


@dataclass
class Job:
    """What every stage works with.

    Attributes:
        config: of the run.
        run: its folder.
        setting: the data set.
        world: with the features that agents see.
        features: what those really are.
        fingerprints: of their files, or the weights that a trained encoder begins with.
        views: what ``world`` sees where the encoder is trained too; else None.
        unlabelled: paths for back-translation.
    """

    config: TrainConfig
    run: Run[TrainConfig]
    setting: Setting
    world: Navigation
    features: str
    fingerprints: list[str]
    views: EncodedViews | None = None
    unlabelled: "Unlabelled | None" = None

    def seed(self, purpose: str) -> int:
        """Return a seed of its own for each purpose."""
        return self.config.seed * 100 + SEEDS[purpose]

    @property
    def ranks(self) -> Ranks:
        """Return who work together."""
        return self.run.ranks

    def generator(self, purpose: str) -> torch.Generator:
        """Return a fresh generator on the device, which draws the same on all ranks."""
        return torch.Generator(self.setting.device).manual_seed(self.seed(purpose))

    def generators(self, purpose: str) -> tuple[torch.Generator, torch.Generator | None]:
        """Return a fresh generator of this rank's own, and one for all ranks where there are several."""
        own = self.ranks.generator(self.seed(purpose), self.setting.device)
        return own, None if self.ranks.world == 1 else self.generator(purpose)

    def load(self, stage: str, which: str) -> Checkpoint:
        """Read a checkpoint of this run; the first rank does, for all."""
        return self.ranks.from_main(lambda: checkpoint.load(self.run.checkpoint(stage, which)))

    def header(self, world: Navigation) -> dict[str, Any]:
        """Return what a checkpoint must know to be used again."""
        seen = world is self.world
        return {
            "dataset": self.setting.dataset.name,
            "language": self.setting.language,
            "data": self.setting.versions(),
            "features_wanted": self.config.features if seen else "none",
            "features": self.features if seen else "none",
            "feature_width": world.bank.width,
            "feature_fingerprints": self.fingerprints if seen else [],
            "model": asdict(self.config.model),
            "max_action": self.config.follower.max_action,
            "max_input": self.config.follower.max_input,
            "words": self.setting.vocabulary.to_json(),
            "seed": self.config.seed,
            "config": self.config.to_json(),
        } | ({} if self.setting.reader is None else {"text_encoder": self.setting.reader.to_json()})


def criteria(job: Job) -> list[tuple[str, str]]:
    """Return by which metrics checkpoints are chosen, with the suffix of their folders: RxR's have nDTW as well."""
    return [("", SUCCESS_RATE)] + [("_ndtw", NDTW)] * job.setting.dataset.is_multilingual


def open_job(settings: TrainConfig, run: Run[TrainConfig]) -> Job:
    """Open data set, features and world of a run, and log what it is."""
    device = devices.pick_device(run.ranks.device or settings.device)
    reader = open_reader(settings.text, device)
    run.ranks.require_rows("--batch-size", settings.follower.batch_size)
    if settings.bt:
        run.ranks.require_rows("--speaker-batch-size", settings.speaker.speaker_batch_size)
    data = setting.open_setting(
        settings.dataset,
        None,
        device,
        max_input=settings.follower.max_input,
        language=settings.language,
        tokenizer=settings.tokenizer,
        train=settings.train,
        reader=reader,
    )
    if settings.start is not None:
        require_start(settings.start, data)
    job = _end_to_end_job(settings, run, data) if settings.encoder.train_encoder else _job(settings, run, data)
    describe_start(settings, device, job.features)
    if run.ranks.world > 1:
        log.logger.info("%d processes, each with its share of every batch", run.ranks.world)
    if settings.bt:  # a bad file is told before hours of training
        job.unlabelled = unlabelled_paths(job)
        log.logger.info("unlabelled paths: %d, %s", len(job.unlabelled.table), job.unlabelled.source)
    batch = data.table(TRAIN).batch(torch.arange(min(settings.follower.batch_size, len(data.table(TRAIN)))))
    shapes = (
        f"tokens {tuple(batch.tokens.shape)}, views {tuple(job.world.observe(batch.viewpoint, batch.view).views.shape)}"
    )
    sizes = {name: len(split.episodes) for name, split in data.splits.items()}
    log.logger.info("instructions: %s; first batch: %s", sizes, shapes)
    return job


def _job(settings: TrainConfig, run: Run[TrainConfig], data: Setting) -> Job:
    """Open the world with stored features."""
    stores = data.stores(settings.features)
    world = data.world(stores, settings.simulator, settings.cross_check, **rewards(settings))
    return Job(settings, run, data, world, features_used(stores), [store.fingerprint for store in stores])


def _end_to_end_job(settings: TrainConfig, run: Run[TrainConfig], data: Setting) -> Job:
    """Open the world with features of an encoder that is trained."""
    require_encoder(settings.features)
    if settings.start is not None:  # rendering all views takes long
        folder = find_checkpoint(settings.start)
        width = pooled_width(settings.features)
        require_width(folder, checkpoint.load(folder).header, settings.features, width)
    views = open_views(settings, data.data, data.tables, data.device)
    world = data.seen_by(views, settings.simulator, settings.cross_check, **rewards(settings))
    return Job(settings, run, data, world, f"{settings.features} trained end to end", [views.encoder.weights], views)


def rewards(settings: TrainConfig) -> dict[str, float]:
    """Return the rewards of the world."""
    return {"stop_reward": settings.follower.stop_reward, "progress_reward": settings.follower.progress_reward}


@dataclass
class Unlabelled:
    """Paths without instructions for back-translation, and where they came from."""

    table: EpisodeTable
    source: str


def unlabelled_paths(job: Job) -> Unlabelled:
    """Read the paths of ``--aug-paths`` or of the data set, or sample some."""
    c, data = job.config.back_translation, job.setting
    file = c.aug_paths or data.data / data.dataset.folder / data.dataset.aug_paths
    if c.aug_paths is not None or (c.num_aug_paths is None and file.is_file()):
        table = paths.read_paths(file, data.dataset.name, data.data, data.tables, data.device)
        paths.require_buildings(file, table, data.table(TRAIN), data.tables)
        return Unlabelled(table, f"of {file.name}, sha256 {hashlib.sha256(file.read_bytes()).hexdigest()[:16]}")
    return sampled_paths(job, "aug_paths")


def pre_explored_paths(job: Job) -> Unlabelled:
    """Sample paths in the buildings of val_unseen and test, which the standard setting keeps unseen."""
    data = job.setting
    splits = [name for name in (UNSEEN, *data.dataset.tests) if name in data.splits]
    scans = np.concatenate([data.tables.scan_index[data.table(name).viewpoint.cpu().numpy()] for name in splits])
    found = sampled_paths(job, "pre_explored_paths", scans)
    return Unlabelled(found.table, f"{found.source} in the buildings of {' and '.join(splits)}")


def sampled_paths(job: Job, purpose: str, scans: np.ndarray | None = None) -> Unlabelled:
    """Sample paths like the training split's, in its buildings or in others (indices, as often as they shall occur)."""
    data = job.setting
    count, seed = job.config.back_translation.num_aug_paths or DEFAULT_NUM_AUG_PATHS, job.seed(purpose)
    sample = paths.sample_winding_paths if data.dataset.winding else paths.sample_paths
    table = sample(data.tables, data.table(TRAIN), count, seed, data.device, scans)
    return Unlabelled(table, f"sampled with seed {seed}")
