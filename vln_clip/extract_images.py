"""``python -m vln_clip.extract --grid --images FOLDER…``: grids of image files; part of the program ``extract``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from vln_clip import log, paths
from vln_clip.devices import pick_device
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
from vln_clip.features.images import ImageFile, list_images
from vln_clip.features.job import merge_when_complete, tell_size
from vln_clip.features.parts import IMAGES, begun_parts, check_output
from vln_clip.features.recipes import OWN, Recipe, recipe_for
from vln_clip.launch import launched, muted_elsewhere, one_voice
from vln_clip.ranks import Ranks

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
    """Run the program on image files, in as many processes as were launched."""
    with one_voice():
        with muted_elsewhere():
            about = ImagesConfig.__doc__
            config = tyro.cli(ImagesConfig, args=argv, prog="python -m vln_clip.extract", description=about)
        if not config.grid:
            raise InputError("--images needs --grid: image files are kept as maps (C, h, w), not as one vector each")
        check_name(config.encoder)
        if config.batch_size is not None and config.batch_size < 1:
            raise InputError(f"--batch-size must be at least 1, got {config.batch_size}")
        try:
            with launched(config.device or "auto") as ranks:
                _run(config, list_images(config.images), _output(config), ranks)
        except KeyboardInterrupt:
            log.logger.info("interrupted; finished parts are kept, the same command goes on")
            raise SystemExit(130) from None


def _run(config: ImagesConfig, images: Sequence[ImageFile], out: Path, ranks: Ranks) -> None:
    """Encode this process's share, and put the output together where that can be done."""
    if config.merge:
        if ranks.is_main:
            begun_parts(out, parts_of(images), IMAGES).merge(config.overwrite)
        log.logger.info("%d images: %s", len(images), out)
        return
    device = pick_device(ranks.device or config.device or "auto")
    workers, (index, count) = config.num_workers(device), config.share()
    batch = config.batch_size or (32 if device.type == "cuda" else 4)
    encoder = ranks.first_here(lambda: create_encoder(config.encoder, config.weights or True, device))
    recipe = config.recipe(encoder)
    parts = plan_images(encoder, images, out, recipe, config.precision, config.dtype)
    if parts.is_complete(config.overwrite):
        parts.remove_merged()
        log.logger.info("%d images, %s: %s is complete, nothing to do", len(images), encoder.name, out)
        return
    index, count = index * ranks.world + ranks.rank, count * ranks.world
    if ranks.is_main:
        tell_size(parts, grid_shape(encoder, recipe))
    extract_image_parts(encoder, images, parts, recipe, config.precision, batch, workers, (index, count))
    ranks.gather(None)  # who has the small shares waits for the others
    if not ranks.is_main:
        return
    if merge_when_complete(parts, config.shard, config.overwrite, "parts"):
        log.logger.info("%d images, %s (%s): %s", len(images), encoder.name, encoder.weights, out)


def _output(config: ImagesConfig) -> Path:
    """Return the folder to write; one that cannot be made is told before the work."""
    changed = (config.image_size, config.interpolation, config.exif, config.layer) != (None,) * 4
    changed |= config.ln_post or config.keep_cls
    if config.out is None and config.preset and changed:
        raise InputError("--out must be given where a preset is changed")
    out = config.out or image_grid_path(config.encoder, config.preset or OWN, config.images, paths.cache_dir())
    check_output(out, True)
    return out
