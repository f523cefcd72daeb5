"""``python -m vln_clip.extract --grid --images FOLDER…``: grids of image files; part of the program ``extract``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
import tyro

from vln_clip import log, paths
from vln_clip.encoders import Encoder, check_name, create_encoder
from vln_clip.errors import InputError
from vln_clip.features.flags import Flags
from vln_clip.features.image_extraction import (
    extract_image_parts,
    grid_shape,
    image_grid_path,
    parts_of,
    plan_images,
)
from vln_clip.features.images import list_images
from vln_clip.features.job import launched, tell_size
from vln_clip.features.parts import IMAGES, begun_parts, check_output
from vln_clip.features.recipes import OWN, Recipe, recipe_for
from vln_clip.setting import pick_device

if TYPE_CHECKING:
    from accelerate import PartialState

_FLAG = "--images"


@dataclass(frozen=True)
class ImagesConfig(Flags):
    """Extract grids (C, h, w) of the images in folders; the same command goes on where it stopped."""

    images: tuple[Path, ...] = ()
    """Folders, with their sub-folders, or files: jpg, jpeg, png, webp; file names without endings are the keys."""
    preset: Literal["vqa", "caption"] | None = None
    """The paper's recipe: vqa 600 x 1000, caption 448 x 448; by default both sides are resized to --image-size."""
    exif: bool | None = None
    """Turn pictures as their EXIF data says; by default so but for caption, as in the reference."""
    layer: int | None = None
    """Block of a ViT, -1 the last, -2 the one before; by default the last, with --preset vqa the one before."""
    ln_post: bool = False
    """Apply a ViT's last norm to the map, as MCAN's features had it."""
    keep_cls: bool = False
    """Put a ViT's class token before the patches: a map (C, 1, 1 + h * w)."""

    def recipe(self, encoder: Encoder) -> Recipe:
        """Return how images become input."""
        chosen = (self.layer, self.ln_post or None, self.keep_cls or None)
        return recipe_for(encoder, self.preset, self.image_size, self.interpolation, self.exif, *chosen)


def is_asked(words: list[str]) -> bool:
    """Return whether command-line words ask for image files."""
    return any(word == _FLAG or word.startswith(f"{_FLAG}=") for word in words)


def main(argv: list[str]) -> None:
    """Run the program on image files."""
    config = tyro.cli(ImagesConfig, args=argv, prog="python -m vln_clip.extract", description=ImagesConfig.__doc__)
    if not config.grid:
        raise InputError("--images needs --grid: image files are kept as maps (C, h, w), not as one vector each")
    check_name(config.encoder)
    if config.batch_size is not None and config.batch_size < 1:
        raise InputError(f"--batch-size must be at least 1, got {config.batch_size}")
    images = list_images(config.images)
    out = _output(config)
    if config.merge:
        begun_parts(out, parts_of(images), IMAGES).merge(config.overwrite)
        log.logger.info("%d images: %s", len(images), out)
        return
    processes = launched(config.device)
    try:
        _run(config, out, processes)
    except KeyboardInterrupt:
        log.logger.info("interrupted; finished parts are kept, the same command goes on")
        raise SystemExit(130) from None
    finally:
        if processes:
            processes.destroy_process_group()


def _run(config: ImagesConfig, out: Path, processes: "PartialState | None") -> None:
    """Encode this process's share, and put the output together where that can be done."""
    default = processes.device if processes else "cuda" if torch.cuda.is_available() else "cpu"
    device = default if config.device in (None, "auto") else pick_device(config.device)
    workers, (index, count) = config.num_workers(device), config.share()
    batch = config.batch_size or (32 if "cuda" in str(device) else 4)
    images = list_images(config.images)
    encoder = _create(config, device, processes)
    recipe = config.recipe(encoder)
    parts = plan_images(encoder, images, out, recipe, config.precision, config.dtype)
    if parts.is_complete(config.overwrite):
        log.logger.info("%d images, %s: %s is complete, nothing to do", len(images), encoder.name, out)
        return
    if processes:
        index = index * processes.num_processes + processes.process_index
        count *= processes.num_processes
    if not processes or processes.is_main_process:
        tell_size(parts, grid_shape(encoder, recipe))
    extract_image_parts(encoder, images, parts, recipe, config.precision, batch, workers, (index, count))
    if processes:
        processes.wait_for_everyone()
        if not processes.is_main_process:
            return
    missing = parts.missing() if config.shard else []
    if missing and (config.overwrite or not out.exists()):  # an old output is no sign of a faster process
        left = f"{len(missing)} of {len(parts.keys)} parts are left to other shards, e.g. {missing[0]}"
        log.logger.info("shard %s is done; %s; who finishes last merges", config.shard, left)
        return
    parts.merge(config.overwrite)
    log.logger.info("%d images, %s (%s): %s", len(images), encoder.name, encoder.weights, out)


def _create(config: ImagesConfig, device: str | torch.device, processes: "PartialState | None") -> Encoder:
    """Make the encoder; of several processes on one machine the first one fetches the weights."""
    if processes is None:
        return create_encoder(config.encoder, config.weights or True, device)
    with processes.local_main_process_first():
        return create_encoder(config.encoder, config.weights or True, device)


def _output(config: ImagesConfig) -> Path:
    """Return the folder to write; one that cannot be made is told before the work."""
    changed = (config.image_size, config.interpolation, config.exif, config.layer) != (None,) * 4
    changed |= config.ln_post or config.keep_cls
    if config.out is None and config.preset and changed:
        raise InputError("--out must be given where a preset is changed")
    out = config.out or image_grid_path(config.encoder, config.preset or OWN, config.images, paths.cache_dir())
    check_output(out, True)
    return out
