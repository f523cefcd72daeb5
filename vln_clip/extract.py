"""Extract features of the 36 views from skyboxes: ``python -m vln_clip.extract --encoder NAME``.

Finished scans are kept as parts (``features.parts``), so an interrupted run goes on, and several processes share
the work: ``accelerate launch -m vln_clip.extract …``, or ``--shard I/N`` in jobs of one's own. Also what other
programs use to get features that are not there yet: ``resolve_or_extract``, with the rule by which ``pixels`` stands
in for networks in the demo world.
"""

import itertools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from torch import Tensor

from vln_clip import log, paths
from vln_clip.connectivity import load_graphs
from vln_clip.encoders import Encoder, check_name, create_encoder, pooled_width
from vln_clip.encoders.base import Crop
from vln_clip.envs.render import NUM_FACES, load_skybox, panorama_views
from vln_clip.errors import InputError
from vln_clip.features import FeatureStore, check_width, dataset_key, find_store, open_store, split_name
from vln_clip.features.extraction import Options, Panorama, Source, affordable_encoder, estimate_s, row_shape
from vln_clip.features.flags import Flags
from vln_clip.features.grid import GRID_SUFFIX
from vln_clip.features.job import extract_parts, keys_of, merge_when_complete, plan_parts, tell_size
from vln_clip.features.locate import cached_path, file_stem
from vln_clip.features.parts import begun_parts, check_output
from vln_clip.features.pipeline import default_workers
from vln_clip.launch import launched, muted_elsewhere, one_voice
from vln_clip.ranks import Ranks
from vln_clip.records import NUM_VIEWS
from vln_clip.sources.table import MATTERPORT_TERMS, features_of
from vln_clip.tasks.datasets import find_dataset

DEMO_LIMIT_S = 300.0
RENDERER = "skybox renderer 2"  # change it whenever other pixels come out


class Skyboxes:
    """Views rendered from skybox files."""

    def load(self, panorama: Panorama) -> Tensor:
        """Read the six faces; see ``Source.load``."""
        return load_skybox(panorama.folder, panorama.viewpoint_id)

    def draw(self, faces: Tensor, panorama: Panorama, size_px: tuple[int, int]) -> Tensor:
        """Render the 36 views; see ``Source.draw``."""
        return panorama_views(faces, panorama.rotation, *size_px)


def list_panoramas(data: Path, name: str, scans: Sequence[str] | None = None) -> list[Panorama]:
    """List every included viewpoint with its skybox folder.

    Args:
        data: the data folder with ``connectivity`` and ``scans`` (or ``v1/scans``).
        name: the features wanted, for the message.
        scans: only these; None for all of ``scans.txt``.

    Raises:
        InputError: a scan has no skyboxes; the message says where features or images can be had.
    """
    return [
        Panorama(graph.scan, viewpoint_id, folder, rotation)
        for graph in load_graphs(data / "connectivity", scans)
        for folder in [_skybox_folder(data, graph.scan, name)]
        for viewpoint_id, rotation in zip(graph.viewpoint_ids, graph.rotation, strict=True)
    ]


def find_skybox_folder(data: Path, scan: str) -> Path | None:
    """Return the folder with the skyboxes of a scan, None where the data folder has none."""
    return next((folder for folder in _skybox_folders(data, scan) if folder.is_dir()), None)


def _skybox_folders(data: Path, scan: str) -> list[Path]:
    return [data / root / scan / "matterport_skybox_images" for root in ("scans", "v1/scans")]


def _skybox_folder(data: Path, scan: str, name: str) -> Path:
    folder = find_skybox_folder(data, scan)
    if folder is not None:
        return folder
    usual, source = _skybox_folders(data, scan)[0], features_of(name)
    public = f" (vln-clip data get {source.name} fetches {source.address})" if source else ""
    raise InputError(
        f"features {name!r} must be in {data / 'features'}{public} or be extracted from skyboxes, but scan {scan} has "
        f"none in {usual}; Matterport3D's images can be had after signing its terms of use, {MATTERPORT_TERMS}"
    )


def check_skyboxes(panoramas: Sequence[Panorama]) -> None:
    """Raise ``InputError`` where a viewpoint has no skybox files; the files themselves are not opened."""
    for folder, group in itertools.groupby(panoramas, key=lambda panorama: panorama.folder):
        names = {entry.name for entry in os.scandir(folder)}
        lacking = [panorama.viewpoint_id for panorama in group if not has_skybox(panorama.viewpoint_id, names)]
        if lacking:
            raise InputError(
                f"every viewpoint must have its skybox in {folder}, six files ID_skybox0_sami.jpg to 5 or "
                f"ID_skybox_small.jpg, got {len(lacking)} without, e.g. {lacking[0]}; download the scan again"
            )


def has_skybox(viewpoint_id: str, names: set[str]) -> bool:
    """Return whether the skybox files of a viewpoint are all among the names in a folder."""
    faces = {f"{viewpoint_id}_skybox{face}_sami.jpg" for face in range(NUM_FACES)}
    return faces <= names or (not faces & names and f"{viewpoint_id}_skybox_small.jpg" in names)


def extract_features(
    encoder: Encoder,
    panoramas: Sequence[Panorama],
    out: Path,
    options: Options | None = None,
    source: Source | None = None,
    origin: str = "",
    dtype: Literal["float16", "float32"] = "float16",
    workers: int = 0,
) -> Path:
    """Extract features into one file, with a progress bar; what an interrupted call left is used.

    Args:
        encoder: on the device where the work is to happen.
        panoramas: what to encode, in the order of the rows, those of a scan together.
        out: a store, TSV or HDF5 file, or a folder of maps, by its name; appears when complete.
        options: how to encode.
        source: where pictures come from; None for skybox files.
        origin: the data set, for the header.
        dtype: type inside a store.
        workers: processes that prepare pictures; 0 for threads of this one.

    Returns:
        ``out``; untouched where it is complete already.
    """
    options, source = options or Options(), source or Skyboxes()
    renderer = RENDERER if isinstance(source, Skyboxes) else type(source).__name__
    parts = plan_parts(encoder, panoramas, out, options, origin, dtype, renderer)
    if parts.is_complete():
        parts.remove_merged()
    else:
        extract_parts(encoder, panoramas, parts, options, source, workers)
        parts.merge()
    return out


def resolve_or_extract(
    name: str,
    dataset: str,
    data: Path,
    cache: Path,
    device: torch.device | str = "cpu",
    width: int | None = None,
    wanted_by: str = "--features",
) -> list[FeatureStore]:
    """Open the features of ``--features NAME``, making them where they are not on this machine yet.

    Args:
        name: ``NAME``, ``A+B``, a file, or ``none``.
        dataset: ``demo`` lets ``pixels`` stand in for networks that cannot be run here.
        data: folder with connectivity, skyboxes and features.
        cache: the cache folder.
        device: where encoders run.
        width: total width that a checkpoint asks for, None for any.
        wanted_by: who asks for that width, for the message.

    Returns:
        One open store per part; ``features_used`` names them. Empty for ``none``.

    Raises:
        InputError: unknown name, wrong width, or (not in the demo) missing skyboxes or weights.
    """
    key = dataset_key(dataset, data)
    stores = []
    for part in split_name(name):
        store = find_store(part, data, cache, key)
        if store is None and dataset == "demo":
            store = demo_features(part, data, cache, device)
        if store is None:
            panoramas = list_panoramas(data, part)  # before any weights are fetched
            encoder = create_encoder(part, True, device)
            check_skyboxes(panoramas)
            path, workers = cached_path(part, cache, key), default_workers(device)
            store = open_store(extract_features(encoder, panoramas, path, origin=dataset, workers=workers))
        stores.append(store)
    if width is not None:
        check_width(stores, width, wanted_by)
    return stores


def demo_features(
    name: str, data: Path, cache: Path, device: torch.device | str = "cpu", source: Source | None = None
) -> FeatureStore:
    """Make features of the demo world: the real ones where that takes at most 5 minutes, else ``pixels``.

    Args:
        name: one encoder.
        data: the demo world's folder.
        cache: the cache folder.
        device: where encoders run.
        source: where pictures come from; None for skybox files.

    Returns:
        The store; ``header.stand_in_for`` is set where ``pixels`` stands in.
    """
    key, source = dataset_key("demo", data), source or Skyboxes()
    panoramas = list_panoramas(data, name)

    def seconds(encoder: Encoder) -> float:
        return estimate_s(encoder, panoramas, source, Options(), DEMO_LIMIT_S)

    encoder, reason = affordable_encoder(name, seconds, device, DEMO_LIMIT_S)
    stands_in = encoder is None
    if encoder is None:
        width = pooled_width(name)
        log.logger.warning(
            f"NOTE: {name} features are not on this machine and {reason}; pixels features of the same width ({width}) "
            f"stand in. The real ones: python -m vln_clip.extract --features {name} --dataset demo"
        )
        stand_in = "pixels" if width == pooled_width("pixels") else f"pixels:{width}"
        ready = find_store(stand_in, data, cache, key)
        if ready is not None:
            return ready.standing_in_for(name)
        encoder = create_encoder(stand_in, device=device)
    path = cached_path(encoder.name, cache, key)
    workers = default_workers(device)
    store = open_store(extract_features(encoder, panoramas, path, source=source, origin="demo", workers=workers))
    return store.standing_in_for(name) if stands_in else store


@dataclass(frozen=True)
class Config(Flags):
    """Extract features of the 36 views of every viewpoint from skyboxes; the same command goes on where it stopped.

    With --grid --images FOLDER of image files instead, which has options of its own: --images FOLDER --help.
    """

    dataset: str = "r2r"
    """Whose viewpoints; r2r, rxr and the like read $VLN_CLIP_DATA, demo and demo-rxr the generated world."""
    data: Path | None = None
    """Folder with connectivity and scans, in place of the data set's own."""
    scans: tuple[str, ...] = ()
    """Only these scans; none given means all."""
    format: Literal["store", "tsv", "hdf5"] = "store"
    """Format of the file where --out is not given."""
    channel_order: Literal["rgb", "bgr"] = "rgb"
    """bgr swaps red and blue as the released CLIP features had it."""
    normalize: Literal["none", "l2"] = "none"
    """l2 scales each view's features (of a grid: each cell's) to length 1."""
    crop: Crop | None = None
    """Crop policy; by default the encoder's own."""
    render_size: tuple[int, int] | None = None
    """Width and height of rendered views in pixels; by default 640 480 (pixels and clip_demo: 128 96)."""

    def options(self, device: str | torch.device) -> Options:
        """Return how views are encoded."""
        batch = self.batch_size if self.batch_size is not None else 256 if "cuda" in str(device) else NUM_VIEWS
        view = (self.channel_order, self.normalize, self.crop, self.render_size)
        return Options(*view, batch, self.image_size, self.interpolation, self.precision, self.grid)


def main(argv: list[str] | None = None) -> None:
    """Run the program, in as many processes as were launched."""
    from vln_clip.extract_images import is_asked
    from vln_clip.extract_images import main as extract_images

    words = sys.argv[1:] if argv is None else argv
    if is_asked(words):
        extract_images(words)
        return
    with one_voice():
        with muted_elsewhere():
            config = tyro.cli(Config, args=argv, prog="python -m vln_clip.extract", description=Config.__doc__)
        check_name(config.encoder)
        try:
            with launched(config.device or "auto") as ranks:
                extract_or_merge(config, ranks)
        except KeyboardInterrupt:
            log.logger.info("interrupted; finished scans are kept, the same command goes on")
            raise SystemExit(130) from None


def extract_or_merge(config: Config, ranks: Ranks) -> None:
    """Do what the flags ask for; each rank extracts its share of the scans, and the first one merges."""
    world = find_dataset(config.dataset).world
    data = config.data or (ranks.first_here(demo_folder) if world == "demo" else paths.data_dir())
    out = _output(config, data)
    panoramas = list_panoramas(data, config.encoder, tuple(dict.fromkeys(config.scans)) or None)
    if config.merge:
        if ranks.is_main:
            begun_parts(out, keys_of(panoramas)).merge(config.overwrite)
        log.logger.info("%d viewpoints: %s", len(panoramas), out)
        return
    check_skyboxes(panoramas)
    _run(config, panoramas, out, ranks)


def _run(config: Config, panoramas: Sequence[Panorama], out: Path, ranks: Ranks) -> None:
    """Extract this process's share, and put the output together where that can be done."""
    from vln_clip.devices import pick_device

    device = pick_device(ranks.device or config.device or "auto")
    options, workers, (index, count) = config.options(device), config.num_workers(device), config.share()
    encoder = ranks.first_here(lambda: create_encoder(config.encoder, config.weights or True, device))
    parts = plan_parts(encoder, panoramas, out, options, find_dataset(config.dataset).world, config.dtype, RENDERER)
    if parts.is_complete(config.overwrite):
        parts.remove_merged()
        log.logger.info("%d viewpoints, %s: %s is complete, nothing to do", len(panoramas), encoder.name, out)
        return
    index, count = index * ranks.world + ranks.rank, count * ranks.world
    if ranks.is_main:
        tell_size(parts, row_shape(encoder, options))
    extract_parts(encoder, panoramas, parts, options, Skyboxes(), workers, (index, count))
    ranks.gather(None)  # who has the small shares waits for the others
    if not ranks.is_main:
        return
    if merge_when_complete(parts, config.shard, config.overwrite, "scans"):
        log.logger.info("%d viewpoints, %s (%s): %s", len(panoramas), encoder.name, encoder.weights, out)


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


def demo_folder() -> Path:
    """Return the demo world's folder, building it with a progress bar where the cache lacks it."""
    from vln_clip.envs.demo import demo_data

    with log.progress() as bar:
        task = bar.add_task("demo world", total=None, status="houses", visible=False)
        return demo_data(on_progress=lambda done, total: bar.update(task, completed=done, total=total, visible=True))


def _output(config: Config, data: Path) -> Path:
    """Return the file to write; one that cannot be made is told before the work."""
    out = config.out or _default_out(config, data)
    check_output(out, config.grid)
    return out


def _default_out(config: Config, data: Path) -> Path:
    """Return the file in the cache where ``--features NAME`` finds these features, or one in the working folder."""
    stem = file_stem(config.encoder)
    if config.format != "store" and not config.grid:
        return Path(stem + (".tsv" if config.format == "tsv" else ".hdf5"))
    options = config.options("cpu")
    if options != Options(batch=options.batch, grid=config.grid):
        raise InputError("--out must be given where views are encoded in another way than by default")
    if config.scans:
        return Path(stem + (GRID_SUFFIX if config.grid else ".safetensors"))
    cached = cached_path(config.encoder, paths.cache_dir(), dataset_key(find_dataset(config.dataset).world, data))
    return cached.with_suffix(GRID_SUFFIX) if config.grid else cached


if __name__ == "__main__":
    cli()
