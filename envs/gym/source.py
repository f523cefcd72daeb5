"""Opens what an environment shows: episodes, graphs, words, features and skyboxes of one data set."""

import functools
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vln_clip.connectivity import NavTables, load_graphs, read_scans
from vln_clip.connectivity.graphs import graph_path
from vln_clip.envs.demo import demo_data
from vln_clip.envs.episodes import EpisodeTable
from vln_clip.envs.gym.options import Options
from vln_clip.envs.navigation import Navigation
from vln_clip.envs.render import load_skybox, panorama_views
from vln_clip.errors import InputError
from vln_clip.features import FeatureBank, FeatureStore, bank, dataset_key, find_store, split_name
from vln_clip.paths import cache_dir, data_dir
from vln_clip.tasks.datasets import Dataset, find_dataset, read_split, require_language
from vln_clip.tasks.split import place_on_graph
from vln_clip.tasks.text import Vocabulary
from vln_clip.tasks.words import load_vocabulary

logger = logging.getLogger(__name__)

_CACHED_PANORAMAS = 256  # 130 MB at the default size of the pictures


@dataclass(frozen=True, eq=False)
class Source:
    """An opened data set. Graphs are those of every building of the folder, so spaces do not depend on the split.

    Attributes:
        dataset: which one.
        data: its folder.
        tables: graphs.
        table: episodes of the split.
        vocabulary: words of the tokens.
        world: navigation, with the features of ``observation="features"`` or none.
    """

    dataset: Dataset
    data: Path
    tables: NavTables
    table: EpisodeTable
    vocabulary: Vocabulary
    world: Navigation

    @property
    def features(self) -> FeatureBank:
        """Return the features of every viewpoint; width 0 without any."""
        assert isinstance(self.world.bank, FeatureBank)
        return self.world.bank

    def skybox_folder(self, scan: str) -> Path:
        """Return where the skyboxes of a building belong."""
        return self.data / "scans" / scan / "matterport_skybox_images"

    def require_skyboxes(self) -> None:
        """Raise ``InputError`` where a building of the split has no folder of skyboxes."""
        scans = sorted({episode.scan for episode in self.table.episodes})
        lacking = [scan for scan in scans if not self.skybox_folder(scan).is_dir()]
        if lacking:
            raise InputError(
                f"observation 'rgb' needs the skybox images of every building, but {self.skybox_folder(lacking[0])} is "
                f"missing ({len(lacking)} of {len(scans)} buildings); download them from Matterport3D, or take "
                "observation='indices' or 'features'"
            )

    @functools.cached_property
    def rotation(self) -> np.ndarray:
        """Return camera-to-world rotations of every viewpoint, (N, 3, 3)."""
        graphs = load_graphs(self.data / "connectivity", self.tables.scans)
        return np.concatenate([graph.rotation for graph in graphs])

    def faces(self, viewpoint: int) -> torch.Tensor:
        """Return the six skybox faces of a viewpoint; a missing or broken file is an ``InputError``."""
        scan, viewpoint_id = self.tables.keys[viewpoint]
        return load_skybox(self.skybox_folder(scan), viewpoint_id)

    @functools.cached_property
    def pictures(self) -> "Pictures":
        """Return the rendered views, kept for the viewpoints seen last."""
        return Pictures(self)


class Pictures:
    """The 36 views of panoramas as pictures; the last ``_CACHED_PANORAMAS`` stay in memory."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.views = functools.lru_cache(_CACHED_PANORAMAS)(self._views)

    def __reduce__(self) -> tuple[type["Pictures"], tuple[Source]]:
        """Pickle without what is kept: the cache can't be."""
        return Pictures, (self.source,)

    def _views(self, viewpoint: int, size_px: tuple[int, int]) -> np.ndarray:
        """Render (36, H, W, 3) uint8."""
        rotation = self.source.rotation[viewpoint]
        return panorama_views(self.source.faces(viewpoint), rotation, size_px[1], size_px[0]).numpy()


def open_source(dataset: str, options: Options) -> Source:
    """Read everything that an environment needs.

    Raises:
        InputError: folder, split, graphs, features or skyboxes are missing or malformed.
    """
    found = find_dataset(dataset)
    languages = require_language(dataset, options.language)
    data = _folder(found, options)
    split = read_split(dataset, options.split, data, language=options.language)
    if not split.episodes:
        raise InputError(f"{split.file} must hold at least one instruction with a word, got none")
    scans = list(dict.fromkeys([*read_scans(data / "connectivity"), *split.scans]))
    for scan in split.scans:
        graph_path(data / "connectivity", scan)
    tables = NavTables.load(data / "connectivity", scans)
    episodes = place_on_graph(split, tables).episodes
    vocabulary = load_vocabulary(found, data, languages, found.tokenizer)
    texts, spoken = [episode.instruction for episode in episodes], [episode.language for episode in episodes]
    tokens, length = vocabulary.encode_batch(texts, options.max_tokens or found.max_tokens, spoken)
    table = EpisodeTable.compile(episodes, tables, tokens, length)
    stores = [] if options.features is None else _stores(found, data, str(options.features))
    source = Source(found, data, tables, table, vocabulary, Navigation(tables, bank(stores, tables.keys)))
    if options.observation == "rgb":
        source.require_skyboxes()
    return source


def _folder(dataset: Dataset, options: Options) -> Path:
    """Return the data folder; the demo world is built where it is not there yet."""
    if not dataset.generated and options.demo is not None:
        raise InputError(
            f"demo must only be given for the generated world (vln_clip/Demo-v0, vln_clip/DemoRxR-v0), got it for "
            f"{dataset.name!r}"
        )
    if options.folder is not None:
        if options.demo is not None:
            raise InputError("data and demo must not both be given: data names a world that stands, demo builds one")
        return options.folder
    return demo_data(options.demo_config, on_progress=_tell) if dataset.generated else data_dir()


def _tell(done: int, total: int) -> None:
    """Say why the first environment of a demo world takes its time."""
    if done == 1:
        logger.warning("the demo world of %d houses is being built, once; it stays in %s", total, cache_dir())


def _stores(dataset: Dataset, data: Path, name: str) -> list[FeatureStore]:
    """Open features that are on this machine; extraction is the programs' matter."""
    stores = []
    for part in split_name(name):
        store = find_store(part, data, cache_dir(), dataset_key(dataset.world, data))
        if store is None:
            raise InputError(
                f"features must be on this machine, got {part!r} which are not, neither in {data / 'features'} nor in "
                f"the cache; make them with: python -m vln_clip.extract --features {part} --dataset {dataset.world}"
            )
        stores.append(store)
    if not stores:
        raise InputError("features must hold something to see, got 'none'; observation='indices' is the blind one")
    return stores
