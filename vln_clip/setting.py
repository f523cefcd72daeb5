"""Opens what a program works with: the data set, its graphs, texts, features and worlds."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vln_clip import checkpoint, extract
from vln_clip.agents.follower import Follower
from vln_clip.agents.speaker import Speaker
from vln_clip.choosing import AUTO as AUTO
from vln_clip.choosing import find_dataset as find_dataset
from vln_clip.config import FollowerConfig, ModelConfig, from_json
from vln_clip.connectivity import NavTables
from vln_clip.connectivity.graphs import graph_path
from vln_clip.envs.compiled import compiled_table
from vln_clip.envs.episodes import EpisodeTable
from vln_clip.envs.navigation import Bank, Navigation
from vln_clip.envs.simulated import Driver, SimulatedNavigation, import_simulator
from vln_clip.errors import InputError
from vln_clip.features import FeatureStore, bank, features_used
from vln_clip.log import logger
from vln_clip.paths import cache_dir, data_dir
from vln_clip.read_tables import read_table, read_written, with_texts
from vln_clip.records import Episode
from vln_clip.tasks.datasets import ALL_LANGUAGES, DATASETS, Dataset, read_split, read_training, require_language
from vln_clip.tasks.split import Split, place_on_graph
from vln_clip.tasks.stored import StoredSplit
from vln_clip.tasks.text import Vocabulary
from vln_clip.tasks.words import TRAIN, load_vocabulary
from vln_clip.text_config import TextEncoderConfig
from vln_clip.token_reader import TokenReader, reader_of
from vln_clip.trained_tower import follower_weights, trained_features

UNSEEN = "val_unseen"
VALIDATION = (UNSEEN, "val_seen")
NEEDED = (TRAIN, UNSEEN)  # to learn from, and to choose checkpoints by
_HEADER = ("dataset", "words", "max_input", "model", "config", "features_wanted", "features", "feature_width")
NO_WORDS = Vocabulary(())  # for work that reads no instruction


def dataset_folder(dataset: str) -> Path:
    """Return the folder of a data set; the demo world is built where the cache lacks it."""
    return extract.demo_folder() if DATASETS[dataset].generated else data_dir()


@dataclass
class Setting:
    """A data set opened for work.

    Attributes:
        dataset: a row of ``tasks.datasets.DATASETS``.
        language: of the instructions: one of the data set's, or ``all``.
        data: its folder.
        device: where tensors live.
        splits: as read, by name.
        tables: graphs of every building of the splits.
        vocabulary: words.
        max_input: most tokens per instruction.
        reader: text encoder of the followers; None where they read the vocabulary's words.
    """

    dataset: Dataset
    language: str
    data: Path
    device: torch.device
    splits: dict[str, Split]
    tables: NavTables
    vocabulary: Vocabulary
    max_input: int
    reader: TokenReader | None = None
    _compiled: dict[str, EpisodeTable] = field(default_factory=dict)
    _read: dict[str, EpisodeTable] = field(default_factory=dict)

    def table(self, split: str) -> EpisodeTable:
        """Return a split as tensors with the instructions as followers read them, encoded at the first call."""
        if self.reader is None:
            return self.word_table(split)
        if split not in self._read:
            found, words = self.splits[split], self.word_table(split)
            self._read[split] = read_table(found, words, self.tables, self.reader, self.max_input)
        return self._read[split]

    def table_of(self, episode: Episode) -> EpisodeTable:
        """Return a single episode as tensors, with its instruction as followers read it."""
        tokens, length = self.vocabulary.encode_batch([episode.instruction], self.max_input, [episode.language])
        table = EpisodeTable.compile([episode], self.tables, tokens, length, self.device)
        return table if self.reader is None else with_texts(table, [episode.instruction], self.reader, self.max_input)

    def read_words(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Let the text encoder read what a speaker wrote; see ``read_written``."""
        assert self.reader is not None, "a setting with a text encoder"
        return read_written(words, self.vocabulary, self.reader, self.max_input)

    @property
    def num_leading(self) -> int:
        """Return how many tokens stand before an instruction's words as followers read it."""
        return 1 if self.reader is not None else self.vocabulary.num_leading

    def word_table(self, split: str) -> EpisodeTable:
        """Return a split as tensors with the instructions as words of the vocabulary, encoded at the first call."""
        if split not in self._compiled:
            found, episodes = self.splits[split], self.splits[split].episodes
            if isinstance(found, StoredSplit):
                table = compiled_table(found, self.tables, self.vocabulary, self.max_input, self.device)
                self._compiled[split] = table
                return table
            texts, languages = [e.instruction for e in episodes], [e.language for e in episodes]
            tokens, length = self.vocabulary.encode_batch(texts, self.max_input, languages)
            self._compiled[split] = EpisodeTable.compile(episodes, self.tables, tokens, length, self.device)
        return self._compiled[split]

    def stores(self, features: str, width: int | None = None) -> list[FeatureStore]:
        """Open features by name, extracting them where that is possible here."""
        return extract.resolve_or_extract(features, self.dataset.world, self.data, cache_dir(), self.device, width)

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
        return self.seen_by(bank(stores, self.tables.keys, self.device), simulator, cross_check, **rewards)

    def seen_by(self, seen: Bank, simulator: str = "tables", cross_check: bool = False, **rewards: float) -> Navigation:
        """Return the world seen through a bank; the rest as for ``world``."""
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
    vocabulary: Vocabulary | None = None,
    max_input: int = 80,
    language: str = ALL_LANGUAGES,
    tokenizer: str | None = None,
    train: Path | None = None,
    reader: TokenReader | None = None,
) -> Setting:
    """Read splits and graphs of a data set.

    Args:
        dataset: a row of ``tasks.datasets.DATASETS``.
        splits: names or files; None for train and val_unseen, and val_seen and the first test split where they are
            there.
        device: where tensors live.
        vocabulary: of a checkpoint; None takes the data set's public one, or builds it from the training split.
        max_input: most tokens per instruction.
        language: one of the data set's, or ``all``.
        tokenizer: what makes words of texts; None for the data set's.
        train: file to learn from in place of the data set's training split, where ``splits`` is None.
        reader: text encoder of the followers; None where they read the vocabulary's words.
    """
    found, data = DATASETS[dataset], dataset_folder(dataset)
    languages = require_language(dataset, language)
    if splits is None:
        public = (TRAIN, *VALIDATION, *found.tests[:1])
        names = [name for name in public if name in NEEDED or found.file(name, data).is_file()]
    else:
        names = list(splits)
    read = {}
    for name in names:
        learn = splits is None and name == TRAIN
        wanted = name if train is None or not learn else str(train.absolute())
        read[name] = (read_training if learn else read_split)(dataset, wanted, data, language=language)
    for name, split in read.items():
        _require_use(found, name, split, language, learn=splits is None)
    for split in read.values():
        _require_graphs(split, data / "connectivity")
    tables = NavTables.load(data / "connectivity", sorted({scan for split in read.values() for scan in split.scans}))
    # Those that are stored are placed when their table is made: once.
    placed = {
        name: split if isinstance(split, StoredSplit) else place_on_graph(split, tables) for name, split in read.items()
    }
    if vocabulary is None:
        vocabulary = load_vocabulary(found, data, languages, tokenizer or found.tokenizer, placed.get(TRAIN))
    return Setting(found, language, data, device, placed, tables, vocabulary, max_input, reader)


def _require_use(dataset: Dataset, name: str, split: Split, language: str, learn: bool) -> None:
    """Check that a split has something to do, and (``learn``) goals to learn from."""
    if not split.episodes:
        what = "" if language == ALL_LANGUAGES else f" in the language {language!r}"
        raise InputError(f"{split.file} must hold at least one instruction with a word{what}, got none")
    if learn and split.goal_hidden and name not in dataset.tests:
        raise InputError(f"{split.file} must have paths with goals, got only starts; is it the test split?")


def _require_graphs(split: Split, folder: Path) -> None:
    """Check that the graph of every scan of a split is there."""
    for scan in split.scans:
        if not scan.replace("-", "").replace("_", "").isalnum():
            raise InputError(f"{split.file}: scan must be letters, digits, - and _, got {scan!r}")
        try:
            graph_path(folder, scan)
        except InputError as error:
            raise InputError(f"{split.file} names the scan {scan!r}, but {error}") from None


def build_follower(
    setting: Setting, model: ModelConfig, feature_width: int, seed: int, feature_dropout: float | None = None
) -> Follower:
    """Build a follower with weights drawn from ``seed``, on the setting's device."""
    reader = setting.reader
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        follower = Follower(
            setting.vocabulary.size if reader is None else None,
            feature_width,
            angle_width=model.angle_width,
            word_width=model.word_width if reader is None else reader.width,
            action_width=model.action_width,
            hidden_width=model.hidden_width,
            dropout_p=model.dropout,
            feature_dropout_p=model.feature_dropout if feature_dropout is None else feature_dropout,
            pool_padding=model.pool_padding,
            tower=None if reader is None else reader.own_tower(),
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
        stores: those features, none for a blind follower.
        reward: which reward it was trained by (``FollowerConfig.reward``); the world gives them in that size.
    """

    follower: Follower
    world: Navigation
    setting: Setting
    header: dict[str, Any]
    features: str
    stores: Sequence[FeatureStore]
    reward: str


def _language_of(folder: Path, header: dict[str, Any], vocabulary: Vocabulary, dataset: str) -> str:
    """Return the language that a checkpoint is used in: its own where the data set has it, else all of them."""
    own, spoken = header.get("language", ALL_LANGUAGES), DATASETS[dataset].languages
    learned = DATASETS[header["dataset"]].languages if own == ALL_LANGUAGES else (own,)
    known = [language for language in spoken if language in learned]
    if len(known) == len(spoken):
        return ALL_LANGUAGES
    if len(known) == 1:
        logger.info(
            "language: %s, the only one of %s that %s has learned (--language names others)", *known, dataset, folder
        )
        return known[0]
    if vocabulary.languages or not known:
        raise InputError(
            f"{folder} has learned {', '.join(learned)}, but {dataset} is in {', '.join(spoken)}; --language names one"
        )
    return ALL_LANGUAGES


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


def run_of(folder: Path) -> Path | None:
    """Return the run that a checkpoint's folder lies in (RUN/checkpoints/STAGE/WHICH), None where it is in none."""
    parents = folder.absolute().parents
    return parents[2] if len(parents) > 2 and parents[1].name == "checkpoints" else None


def load_follower(
    path: Path,
    dataset: str | None,
    splits: Sequence[str],
    device: torch.device,
    features: str | None = None,
    simulator: str = "tables",
    cross_check: bool = False,
    language: str | None = None,
) -> LoadedFollower:
    """Open a checkpoint, the data set and language it was trained on (or others), its features (or others as wide)."""
    folder = find_checkpoint(path)
    saved = checkpoint.load(folder)
    header = saved.header
    if "max_action" not in header or header.get("stage") == "speaker":
        raise InputError(f"{folder} must be a follower's checkpoint, but is one of stage {header.get('stage')!r}")
    lacking = [name for name in _HEADER if name not in header]
    if lacking:
        raise InputError(
            f"{folder} was saved by another version of this package: it lacks {', '.join(lacking)}; train anew"
        )
    vocabulary = Vocabulary.from_json(header["words"])
    dataset = dataset or str(header["dataset"])
    language = language or _language_of(folder, header, vocabulary, dataset)
    text = from_json(TextEncoderConfig, header["config"].get("text", {}))
    setting = open_setting(
        dataset,
        splits,
        device,
        vocabulary=vocabulary,
        max_input=header["max_input"],
        language=language,
        reader=reader_of(header.get("text_encoder"), text, device, folder),
    )
    own = None if features else trained_features(saved, folder)
    stores = setting.stores(features or own or header["features_wanted"], header["feature_width"])
    used = header["features"] if own else features_used(stores)
    if features is None and used != header["features"]:
        raise InputError(
            f"{folder} was trained with {header['features']} features, but here {used} ones are found; bring the old "
            "ones back, or accept others with --features"
        )
    if (
        features is None
        and own is None
        and [store.fingerprint for store in stores] != header.get("feature_fingerprints", [])
    ):
        logger.warning("%s: the %s features found here are not the ones it was trained with", folder, used)
    model = from_json(ModelConfig, header["model"])
    follower = build_follower(setting, model, header["feature_width"], seed=0)
    checkpoint.restore_weights(follower, follower_weights(saved), folder)
    trained = asdict(FollowerConfig()) | header["config"]["follower"]  # an older run lacks what came after it
    sizes = {name: trained[name] for name in ("stop_reward", "progress_reward")}
    world = setting.world(stores, simulator, cross_check, **sizes)
    return LoadedFollower(follower.eval(), world, setting, header, used, stores, trained["reward"])
