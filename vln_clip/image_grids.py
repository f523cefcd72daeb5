"""Where the image grids of ``--features NAME`` come from, for VQA and captioning: found, or extracted on demand.

Wired here and not in the core, because the demo's rule by which ``pixels`` stands in for networks belongs to programs.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vln_clip import log, paths
from vln_clip.encoders import Encoder, check_name, create_encoder
from vln_clip.errors import InputError
from vln_clip.features.extraction import affordable_encoder
from vln_clip.features.grid import GRID_SUFFIX, GridReader, GridStore
from vln_clip.features.image_extraction import encode_grids, extract_images, image_grid_path
from vln_clip.features.images import ImageFile, list_images
from vln_clip.features.locate import file_stem
from vln_clip.features.opening import open_image_grids, open_store
from vln_clip.features.pipeline import default_workers
from vln_clip.features.recipes import Recipe, recipe_for

BLIND, DEMO = "none", "demo"
DEMO_LIMIT_S = 300.0
STAND_IN = "pixels:128"  # what its grids know fits; more columns would only fill the disk
DEMO_IMAGES_PX = (192, 256)  # the demo's pictures as they are
_TIMED_IMAGES = 4


@dataclass(frozen=True)
class GridsWanted:
    """What ``--features`` asks for.

    Attributes:
        name: an encoder, a folder or file of grids, or ``none``.
        preset: row of ``features.recipes.PRESETS``; ``demo`` for the demo's small pictures.
        data: the data folder; only read.
        folders: of images, in the data folder; those that are not there are left out.
    """

    name: str
    preset: str
    data: Path
    folders: Sequence[str]

    @property
    def image_folders(self) -> list[Path]:
        """Return the folders that are there."""
        return [self.data / folder for folder in self.folders if (self.data / folder).is_dir()]

    def cached_path(self, encoder: str) -> Path:
        """Return where the grids of an encoder belong in the cache."""
        return image_grid_path(encoder, self.preset, self.image_folders, paths.cache_dir())


def find_grids(wanted: GridsWanted, device: torch.device) -> GridReader | None:
    """Open the grids of images, extracting them where they are not on this machine yet.

    Returns:
        Where grids are read from; None for ``none``.

    Raises:
        InputError: unknown name, damaged or other grids, or neither grids nor images.
    """
    if wanted.name == BLIND:
        return None
    if Path(wanted.name).exists():
        return open_image_grids(Path(wanted.name))
    if ("/" in wanted.name and ":" not in wanted.name) or wanted.name.endswith(GRID_SUFFIX):
        raise InputError(
            f"--features must be an encoder or grid features that are there, got {wanted.name}, which does not exist"
        )
    check_name(wanted.name)
    for path in (_public_path(wanted), wanted.cached_path(wanted.name)):
        if path.exists():
            return open_image_grids(path, wanted.name, wanted.preset if wanted.preset != DEMO else None)
    if not wanted.image_folders:
        raise InputError(
            f"grid features {wanted.name!r} must be in {_public_path(wanted)} or be extracted from images, but "
            f"{wanted.data / wanted.folders[0]} is not there; put the images or the features there, or name a folder "
            "of grids with --features"
        )
    images = list_images(wanted.image_folders)
    if wanted.preset == DEMO:
        return _demo_grids(wanted, images, device)
    return _extract(wanted, create_encoder(wanted.name, True, device), images)


def _public_path(wanted: GridsWanted) -> Path:
    return wanted.data / "features" / f"{file_stem(wanted.name)}-{wanted.preset}{GRID_SUFFIX}"


def _extract(wanted: GridsWanted, encoder: Encoder, images: Sequence[ImageFile]) -> GridStore:
    """Encode images into the cache."""
    out, device = wanted.cached_path(encoder.name), next(iter([*encoder.parameters(), *encoder.buffers()])).device
    batch = 32 if device.type == "cuda" else 4
    recipe = _recipe(wanted, encoder)
    return open_store(extract_images(encoder, images, out, recipe, batch=batch, workers=default_workers(device)))


def _recipe(wanted: GridsWanted, encoder: Encoder) -> Recipe:
    """Return how images become the encoder's input; the demo's pictures are too small for the paper's sizes."""
    if wanted.preset != DEMO:
        return recipe_for(encoder, wanted.preset)
    return recipe_for(encoder, image_size_px=DEMO_IMAGES_PX if encoder.for_small_images else None)


def _demo_grids(wanted: GridsWanted, images: Sequence[ImageFile], device: torch.device) -> GridStore:
    """Make grids of the demo's pictures: the real ones where that takes at most 5 minutes, else ``pixels``."""

    def seconds(encoder: Encoder) -> float:
        return _seconds(encoder, _recipe(wanted, encoder), len(images), device)

    encoder, reason = affordable_encoder(wanted.name, seconds, device, DEMO_LIMIT_S)
    if encoder is not None:
        return _extract(wanted, encoder, images)
    log.logger.warning(
        f"NOTE: {wanted.name} grids are not on this machine and {reason}; {STAND_IN} grids stand in. The real ones: "
        f"--features NAME.grid, made by python -m vln_clip.extract --grid --images ... --encoder {wanted.name}"
    )
    path = wanted.cached_path(STAND_IN)
    store = open_store(path) if path.exists() else _extract(wanted, create_encoder(STAND_IN, device=device), images)
    return replace(store, header=replace(store.header, stand_in_for=wanted.name))


def _seconds(encoder: Encoder, recipe: Recipe, num_images: int, device: torch.device) -> float:
    """Estimate how long encoding takes, from a few empty images."""
    empty = torch.zeros(_TIMED_IMAGES, 3, *recipe.size_px, dtype=torch.uint8, device=device)
    encode_grids(encoder, empty, recipe)
    begun_s = time.perf_counter()
    encode_grids(encoder, empty, recipe)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - begun_s) / _TIMED_IMAGES * num_images


def place_of(grids: GridReader | None) -> str:
    """Name where grids lie, for messages."""
    path = getattr(grids, "path", None)
    return "none" if grids is None else str(path or grids.header.source)


def features_used(grids: GridReader | None) -> str:
    """Name what a model really sees; ``none`` where it sees nothing."""
    if grids is None:
        return BLIND
    name, instead_of = grids.header.encoder or "unknown", grids.header.stand_in_for
    return f"{name} standing in for {instead_of}" if instead_of else name


def describe_grids(grids: GridReader | None) -> dict[str, Any]:
    """Return what a checkpoint notes of the grids, so that a picture of one's own can be seen alike."""
    if grids is None:
        return {}
    keys = ("encoder", "weights", "preset", "image_size_px", "resize", "layer", "exif", "stand_in_for")
    found = {key: getattr(grids.header, key) for key in keys} | {"shape": grids.shape}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


def require_alike(grids: GridReader | None, noted: Mapping[str, Any], folder: Path) -> None:
    """Raise ``InputError`` unless grids are made as those that a checkpoint was trained on.

    Args:
        grids: that it is to be used with.
        noted: what ``describe_grids`` said of those that it was trained on.
        folder: of the checkpoint, for the message.
    """
    here = describe_grids(grids)
    other = next((key for key in {**noted, **here} if noted.get(key) != here.get(key)), None)
    if other is not None:
        raise InputError(
            f"features of another encoder or recipe: {folder} was trained on grids with {other.replace('_', ' ')} "
            f"{noted.get(other)!r}, got {here.get(other)!r} in {place_of(grids)}; bring those back, or train with these"
        )
