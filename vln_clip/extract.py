"""Extract features of the 36 views from skyboxes: ``python -m vln_clip.extract --features NAME``.

Also what other programs use to get features that are not there yet: ``resolve_or_extract``, with the rule by
which ``pixels`` stands in for networks in the demo world.
"""

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
from vln_clip.envs.render import load_skybox, panorama_views
from vln_clip.errors import InputError
from vln_clip.features import FeatureStore, check_width, dataset_key, find_store, open_store, split_name
from vln_clip.features.extraction import Options, Panorama, Source, affordable_encoder, extract_rows, make_header
from vln_clip.features.formats import format_of, write_rows
from vln_clip.features.locate import PUBLIC_ADDRESS, PUBLIC_STEMS, cached_path, file_stem

DEMO_LIMIT_S = 300.0
MATTERPORT = "https://niessner.github.io/Matterport/"


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


def _skybox_folder(data: Path, scan: str, name: str) -> Path:
    tried = [data / root / scan / "matterport_skybox_images" for root in ("scans", "v1/scans")]
    for folder in tried:
        if folder.is_dir():
            return folder
    stem = PUBLIC_STEMS.get(name)
    public = f" (public: {PUBLIC_ADDRESS}{stem}.tsv)" if stem and stem.startswith("CLIP") else ""
    raise InputError(
        f"features {name!r} must be in {data / 'features'}{public} or be extracted from skyboxes, but scan {scan} has "
        f"none in {tried[0]}; Matterport3D's images can be had after signing its terms of use, {MATTERPORT}"
    )


def extract_features(
    encoder: Encoder,
    panoramas: Sequence[Panorama],
    out: Path,
    options: Options | None = None,
    source: Source | None = None,
    origin: str = "",
    dtype: Literal["float16", "float32"] = "float16",
) -> Path:
    """Extract features into one file, with a progress bar.

    Args:
        encoder: on the device where the work is to happen.
        panoramas: what to encode, in the order of the rows.
        out: a store, TSV or HDF5 file by its name; appears when complete.
        options: how to encode.
        source: where pictures come from; None for skybox files.
        origin: the data set, for the header.
        dtype: type inside a store.

    Returns:
        ``out``.
    """
    options = options or Options()
    with log.progress() as bar:
        task = bar.add_task(f"features {encoder.name}", total=len(panoramas), status="viewpoints")
        rows = extract_rows(
            encoder, panoramas, source or Skyboxes(), options, lambda done: bar.update(task, completed=done)
        )
        write_rows(out, make_header(encoder, options, origin), rows, dtype)
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
            store = open_store(extract_features(encoder, panoramas, cached_path(part, cache, key), origin=dataset))
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
    encoder, reason = affordable_encoder(name, panoramas, source, device, DEMO_LIMIT_S)
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
    store = open_store(extract_features(encoder, panoramas, path, source=source, origin="demo"))
    return store if encoder.name == name else store.standing_in_for(name)


@dataclass(frozen=True)
class Config:
    """Extract features of the 36 views of every viewpoint from skyboxes."""

    features: str
    """Encoder: a name of the table, open_clip:ARCH/TAG, timm:NAME or pixels:WIDTH."""
    dataset: Literal["demo", "r2r"] = "r2r"
    """Whose viewpoints; r2r reads $VLN_CLIP_DATA, demo the generated world."""
    data: Path | None = None
    """Folder with connectivity and scans, in place of the data set's own."""
    scans: tuple[str, ...] = ()
    """Only these scans; none given means all."""
    weights: Path | None = None
    """Local weights: safetensors, a state dict, or an OpenAI .pt archive."""
    out: Path | None = None
    """File to write; by default the cache, where --features NAME finds it."""
    format: Literal["store", "tsv", "hdf5"] = "store"
    """Format of the file where --out is not given."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Device of the encoder."""
    batch: int = 36
    """Views per forward pass."""
    channel_order: Literal["rgb", "bgr"] = "rgb"
    """bgr swaps red and blue as the released CLIP features had it."""
    normalize: Literal["none", "l2"] = "none"
    """l2 scales each view's features to length 1."""
    crop: Crop | None = None
    """Crop policy; by default the encoder's own."""
    render_size: tuple[int, int] | None = None
    """Width and height of rendered views in pixels; by default 640 480 (pixels: 128 96)."""
    dtype: Literal["float16", "float32"] = "float16"
    """Type inside a store."""


def main(argv: list[str] | None = None) -> None:
    """Run the program."""
    config = tyro.cli(Config, args=argv, prog="python -m vln_clip.extract", description=Config.__doc__)
    check_name(config.features)
    data = config.data or (demo_folder() if config.dataset == "demo" else paths.data_dir())
    options = Options(config.channel_order, config.normalize, config.crop, config.render_size, config.batch)
    out = config.out or _default_out(config, data, options)
    format_of(out)  # a wrong ending is told before the work
    panoramas = list_panoramas(data, config.features, config.scans or None)
    encoder = create_encoder(config.features, config.weights or True, config.device)
    extract_features(encoder, panoramas, out, options, origin=config.dataset, dtype=config.dtype)
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


def _default_out(config: Config, data: Path, options: Options) -> Path:
    """Return the file in the cache where ``--features NAME`` finds these features."""
    if config.format != "store":
        return Path(file_stem(config.features) + (".tsv" if config.format == "tsv" else ".hdf5"))
    if options != Options(batch=options.batch) or config.scans:
        raise InputError("--out must be given where views are encoded in another way than by default, or only some")
    return cached_path(config.features, paths.cache_dir(), dataset_key(config.dataset, data))


if __name__ == "__main__":
    cli()
