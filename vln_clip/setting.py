"""Opens what a program works with: the data set, its graphs, texts, features and worlds."""

import ctypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vln_clip import checkpoint, extract
from vln_clip.agents.follower import Follower
from vln_clip.agents.speaker import Speaker
from vln_clip.config import ModelConfig, from_json
from vln_clip.connectivity import NavTables
from vln_clip.connectivity.graphs import graph_path
from vln_clip.envs.episodes import EpisodeTable
from vln_clip.envs.navigation import Navigation
from vln_clip.envs.simulated import Driver, SimulatedNavigation, import_simulator
from vln_clip.errors import InputError, unknown_name
from vln_clip.features import FeatureStore, bank, features_used
from vln_clip.log import logger
from vln_clip.paths import cache_dir, data_dir
from vln_clip.tasks import r2r
from vln_clip.tasks.text import FILE_HEAD, Vocabulary

TRAIN = "train"
TEST = "test"
VALIDATION = ("val_unseen", "val_seen")
NEEDED = (TRAIN, "val_unseen")  # to learn from, and to choose checkpoints by
DATASETS = ("auto", "demo", "r2r")


def find_dataset(name: str) -> str:
    """Turn ``auto`` into ``r2r`` where the data folder holds it, else ``demo``, and say which."""
    if name not in DATASETS:
        raise unknown_name("--dataset", name, DATASETS)
    if name != "auto":
        return name
    if (data_dir() / "R2R" / "R2R_train.json").is_file() and (data_dir() / "connectivity").is_dir():
        logger.info("data set: r2r, found in %s (--dataset demo takes the demo world)", data_dir())
        return "r2r"
    logger.info(
        "data set: demo, the world this package generates (real R2R: put R2R/ and connectivity/ into %s, or set "
        "VLN_CLIP_DATA to the folder that has them; the README says where to get them)",
        data_dir().absolute(),
    )
    return "demo"


def dataset_folder(dataset: str) -> Path:
    """Return the folder of a data set; the demo world is built where the cache lacks it."""
    return extract.demo_folder() if dataset == "demo" else data_dir()


def pick_device(name: str) -> torch.device:
    """Return the device of ``--device``; ``auto`` takes a GPU where there is one."""
    _keep_freed_memory()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        usable = device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < torch.cuda.device_count())
    except RuntimeError:
        usable = False
    if not usable:
        gpus = torch.cuda.device_count()
        raise InputError(f"--device must be auto, cpu or one of this machine's {gpus} GPUs (cuda:N), got {name!r}")
    return device


def _keep_freed_memory() -> None:
    """Let glibc keep large blocks that are freed; other C libraries go on as they are.

    Else every large tensor is handed back to the kernel, which clears its pages for the next one: a sixth of
    the time of an evaluation on a CPU.
    """
    trim_threshold, mmap_threshold = -1, -3  # of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(mmap_threshold, 2**30)
        mallopt(trim_threshold, 2**31 - 1)


@dataclass
class Setting:
    """A data set opened for work.

    Attributes:
        dataset: ``r2r`` or ``demo``.
        data: its folder.
        device: where tensors live.
        splits: as read, by name.
        tables: graphs of every building of the splits.
        vocabulary: words.
        max_input: most tokens per instruction.
    """

    dataset: str
    data: Path
    device: torch.device
    splits: dict[str, r2r.Split]
    tables: NavTables
    vocabulary: Vocabulary
    max_input: int
    _compiled: dict[str, EpisodeTable] = field(default_factory=dict)

    def table(self, split: str) -> EpisodeTable:
        """Return a split as tensors; its text is encoded at the first call."""
        if split not in self._compiled:
            episodes = self.splits[split].episodes
            tokens, length = self.vocabulary.encode_batch([e.instruction for e in episodes], self.max_input)
            self._compiled[split] = EpisodeTable.compile(episodes, self.tables, tokens, length, self.device)
        return self._compiled[split]

    def stores(self, features: str, width: int | None = None) -> list[FeatureStore]:
        """Open features by name, extracting them where that is possible here."""
        return extract.resolve_or_extract(features, self.dataset, self.data, cache_dir(), self.device, width)

    def world(
        self, stores: Sequence[FeatureStore], simulator: str = "tables", cross_check: bool = False, **rewards: float
    ) -> Navigation:
        """Return the world seen through some features; none make a blind one.

        Args:
            stores: features.
            simulator: ``tables``, or ``mattersim`` to ask that module for candidates and moves.
            cross_check: ask it and compare all it says with the tables.
            rewards: as for ``Navigation``.
        """
        seen = bank(stores, self.tables.keys, self.device)
        if simulator == "tables" and not cross_check:
            return Navigation(self.tables, seen, self.device, **rewards)
        driver = Driver(import_simulator(), self.data / "connectivity")
        return SimulatedNavigation(driver, self.tables, seen, self.device, cross_check=cross_check, **rewards)

    def versions(self) -> dict[str, dict[str, str]]:
        """Return hash and version of every annotation file, for the files that a run writes."""
        return {name: {"sha256": split.sha256, "version": split.version} for name, split in self.splits.items()}


def open_setting(
    dataset: str,
    splits: Sequence[str] | None,
    device: torch.device,
    *,
    words: Sequence[str] | None = None,
    max_input: int = 80,
) -> Setting:
    """Read splits and graphs of a data set.

    Args:
        dataset: ``r2r`` or ``demo``.
        splits: names or files; None for train and val_unseen, and val_seen and test where they are there.
        device: where tensors live.
        words: vocabulary of a checkpoint without the special words; None takes ``R2R/train_vocab.txt``, or builds it
            from the training split.
        max_input: most tokens per instruction.
    """
    data = dataset_folder(dataset)
    if splits is None:
        public = (TRAIN, *VALIDATION, TEST)
        names = [name for name in public if name in NEEDED or (data / "R2R" / f"R2R_{name}.json").is_file()]
    else:
        names = list(splits)
    read = {name: r2r.read_split(dataset, name, data) for name in names}
    if splits is None:
        for name, split in read.items():
            _require_use(name, split)
    for split in read.values():
        _require_graphs(split, data / "connectivity")
    tables = NavTables.load(data / "connectivity", sorted({scan for split in read.values() for scan in split.scans}))
    placed = {name: r2r.place_on_graph(split, tables) for name, split in read.items()}
    vocabulary = Vocabulary(words) if words is not None else _vocabulary(dataset, data, placed.get(TRAIN))
    return Setting(dataset, data, device, placed, tables, vocabulary, max_input)


def _require_use(name: str, split: r2r.Split) -> None:
    """Check that a split can be trained on or scored."""
    if not split.episodes:
        raise InputError(f"{split.file} must hold at least one instruction with a word, got none")
    if split.goal_hidden and name != TEST:
        raise InputError(f"{split.file} must have paths with goals, got only starts; is it the test split?")


def _require_graphs(split: r2r.Split, folder: Path) -> None:
    """Check that the graph of every scan of a split is there."""
    for scan in split.scans:
        if not scan.replace("-", "").replace("_", "").isalnum():
            raise InputError(f"{split.file}: scan must be letters, digits, - and _, got {scan!r}")
        try:
            graph_path(folder, scan)
        except InputError as error:
            raise InputError(f"{split.file} names the scan {scan!r}, but {error}") from None


def _vocabulary(dataset: str, data: Path, train: r2r.Split | None) -> Vocabulary:
    """Read the public vocabulary, or build one from the training split by the same rule."""
    path = data / "R2R" / "train_vocab.txt"
    if path.is_file():
        return Vocabulary.read(path)
    split = train or r2r.read_split(dataset, TRAIN, data)
    vocabulary = Vocabulary.build(e.instruction for e in split.episodes)
    if dataset == "r2r":
        logger.info("%s is not there: built a vocabulary of %d words from the training split", path, vocabulary.size)
    return vocabulary


def build_follower(
    setting: Setting, model: ModelConfig, feature_width: int, seed: int, feature_dropout: float | None = None
) -> Follower:
    """Build a follower with weights drawn from ``seed``, on the setting's device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        follower = Follower(
            setting.vocabulary.size,
            feature_width,
            angle_width=model.angle_width,
            word_width=model.word_width,
            action_width=model.action_width,
            hidden_width=model.hidden_width,
            dropout_p=model.dropout,
            feature_dropout_p=model.feature_dropout if feature_dropout is None else feature_dropout,
            pool_padding=model.pool_padding,
        )
    return follower.to(setting.device)


def build_speaker(setting: Setting, model: ModelConfig, feature_width: int, seed: int) -> Speaker:
    """Build a speaker with weights drawn from ``seed``, on the setting's device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        speaker = Speaker(
            setting.vocabulary.size,
            feature_width,
            angle_width=model.angle_width,
            word_width=model.word_width,
            hidden_width=model.hidden_width,
            dropout_p=model.speaker_dropout,
            feature_dropout_p=model.speaker_feature_dropout,
        )
    return speaker.to(setting.device)


@dataclass(frozen=True)
class LoadedFollower:
    """A follower from a checkpoint with the world it sees.

    Attributes:
        follower: the model.
        world: with the checkpoint's features.
        setting: the data set with the checkpoint's vocabulary.
        header: of the checkpoint.
        features: what the world's features really are.
    """

    follower: Follower
    world: Navigation
    setting: Setting
    header: dict[str, Any]
    features: str


def log_cross_check(world: Navigation) -> None:
    """Say what a world compared with a simulator, if it did."""
    if isinstance(world, SimulatedNavigation) and world.cross_check:
        logger.info(
            "cross-check: %d viewpoints with their candidates and %d moves, no difference between simulator and tables",
            world.num_swept,
            world.num_moves,
        )


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint folder that a path means: itself, or the best follower of a run's folder."""
    if (path / checkpoint.FILE).is_file():
        return path
    for stage in ("back_translated", "follower"):
        folder = path / "checkpoints" / stage / "best_val_unseen"
        if (folder / checkpoint.FILE).is_file():
            return folder
    raise InputError(f"{path} must be a run's folder or a checkpoint folder, but there is no {checkpoint.FILE} in it")


def load_follower(
    path: Path,
    dataset: str | None,
    splits: Sequence[str],
    device: torch.device,
    features: str | None = None,
    simulator: str = "tables",
    cross_check: bool = False,
) -> LoadedFollower:
    """Open a checkpoint, the data set it was trained on (or another) and its features (or others as wide)."""
    folder = find_checkpoint(path)
    saved = checkpoint.load(folder)
    header = saved.header
    if "max_action" not in header or header.get("stage") == "speaker":
        raise InputError(f"{folder} must be a follower's checkpoint, but is one of stage {header.get('stage')!r}")
    words = header["words"][len(FILE_HEAD) : -1]  # saved with the special words, <BOS> last
    setting = open_setting(dataset or header["dataset"], splits, device, words=words, max_input=header["max_input"])
    stores = setting.stores(features or header["features_wanted"], header["feature_width"])
    used = features_used(stores)
    if features is None and used != header["features"]:
        raise InputError(
            f"{folder} was trained with {header['features']} features, but here {used} ones are found; bring the old "
            "ones back, or accept others with --features"
        )
    if features is None and [store.fingerprint for store in stores] != header["feature_fingerprints"]:
        logger.warning("%s: the %s features found here are not the ones it was trained with", folder, used)
    model = from_json(ModelConfig, header["model"])
    follower = build_follower(setting, model, header["feature_width"], seed=0)
    checkpoint.restore_weights(follower, saved.weights, folder)
    world = setting.world(stores, simulator, cross_check)
    return LoadedFollower(follower.eval(), world, setting, header, used)
