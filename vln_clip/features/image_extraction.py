"""Grids of image files: a job that can be interrupted and shared out, like that of panoramas.

Images are read and resized in worker processes and encoded in batches of a constant size within each part, so that a
grid does not depend on which parts are made together.
"""

import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vln_clip import log
from vln_clip.encoders import Encoder
from vln_clip.encoders.base import Tap
from vln_clip.errors import InputError
from vln_clip.features.extraction import Options, Precision, device_of
from vln_clip.features.images import ImageFile, check_images, read_rgb
from vln_clip.features.job import progress_of, tell_size
from vln_clip.features.loading import in_processes, in_threads
from vln_clip.features.locate import cache_stem
from vln_clip.features.parts import IMAGES, Parts, share_of
from vln_clip.features.pictures import joint_digest
from vln_clip.features.pipeline import to_host
from vln_clip.features.recipes import Recipe
from vln_clip.features.store import StoreHeader, library_versions

IMAGES_PER_PART = 256  # 0.6 GB at 600 x 1000


@dataclass(frozen=True)
class Preparation:
    """What happens to an image before its encoder; a value, so that processes can have it."""

    recipe: Recipe

    def __call__(self, image: ImageFile) -> Tensor:
        """Read and resize an image, (3, H, W) uint8."""
        resized = self.recipe.resize(read_rgb(image.path, self.recipe.exif))
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()


def image_header(encoder: Encoder, recipe: Recipe, precision: Precision, source: str) -> StoreHeader:
    """Describe how the grids of images come about; ``source`` says which images."""
    dtype = str(Options(precision=precision).compute_dtype(device_of(encoder))).removeprefix("torch.")
    rule = encoder.transform
    return StoreHeader(
        encoder=encoder.name,
        weights=encoder.weights,
        pooling="none, grid",
        projection=f"{encoder.grid_width} channels",
        normalization="none",
        channel_order="rgb",
        image_size_px=recipe.size_px,
        resize=recipe.resize_rule,
        precision=dtype if dtype == "float32" else f"{dtype} autocast",
        source=source,
        preset=recipe.name,
        exif="applied" if recipe.exif else "ignored",
        layer=describe_layer(encoder, recipe.tap),
        channels="mean {} {} {}, std {} {} {}".format(*rule.mean, *rule.std),
        libraries=library_versions(),
    )


def describe_layer(encoder: Encoder, tap: Tap) -> str:
    """Say where a map is taken."""
    if not encoder.num_blocks:
        return "last map"
    norm, token = ("with" if chosen else "without" for chosen in (tap.ln_post, tap.keep_cls))
    block = encoder.num_blocks + 1 + tap.layer
    return f"block {block} of {encoder.num_blocks}, {norm} ln_post, {token} class token"


def plan_images(
    encoder: Encoder, images: Sequence[ImageFile], out: Path, recipe: Recipe, precision: Precision, dtype: str
) -> Parts:
    """Say what is to be made, part by part; the images are those of ``list_images``."""
    keys, digests = parts_of(images), {}
    by_key = {image.key: image for image in images}
    for name, part in keys.items():
        lines = "\n".join(f"{key} {by_key[key].size_bytes}" for key in part)
        digests[name] = hashlib.sha256(lines.encode()).hexdigest()[:16]
    folders = sorted({image.path.parent.name for image in images})
    source = ", ".join(folders[:4]) + (f" and {len(folders) - 4} other folders" if len(folders) > 4 else "")
    header = image_header(encoder, recipe, precision, source)
    return Parts(out, replace(header, pictures=joint_digest(digests)), dtype, keys, digests, IMAGES)


def parts_of(images: Sequence[ImageFile]) -> dict[str, list[str]]:
    """Return the keys of each part."""
    starts = range(0, len(images), IMAGES_PER_PART)
    return {
        f"images-{number:05d}": [image.key for image in images[start : start + IMAGES_PER_PART]]
        for number, start in enumerate(starts)
    }


def extract_images(
    encoder: Encoder,
    images: Sequence[ImageFile],
    out: Path,
    recipe: Recipe,
    precision: Precision = "auto",
    batch: int = 4,
    dtype: str = "float16",
    workers: int = 0,
) -> Path:
    """Encode image files into a folder of maps, with a progress bar; what an interrupted call left is used.

    Args:
        encoder: on the device where the work is to happen.
        images: of ``list_images``.
        out: a folder NAME.grid; appears when complete.
        recipe: of ``recipe_for``.
        precision: type of the encoder's computation.
        batch: images per forward pass.
        dtype: type in the store.
        workers: processes that read images; 0 for threads of this one.

    Returns:
        ``out``; untouched where it is complete already.
    """
    parts = plan_images(encoder, images, out, recipe, precision, dtype)
    if not parts.is_complete():
        tell_size(parts, grid_shape(encoder, recipe))
        extract_image_parts(encoder, images, parts, recipe, precision, batch, workers)
        parts.merge()
    return out


def extract_image_parts(
    encoder: Encoder,
    images: Sequence[ImageFile],
    parts: Parts,
    recipe: Recipe,
    precision: Precision,
    batch: int,
    workers: int,
    share: tuple[int, int] = (0, 1),
) -> None:
    """Encode the parts of one share that are not there yet; bad image files are told of before the first one.

    Args: see ``extract_images``; ``share`` is which share is this process's, from 0, and the number of shares.
    """
    index, count = share
    names, missing = share_of(parts.keys, index, count), set(parts.missing())
    title = f"grids {encoder.name}" + (f", share {index + 1} of {count}" if count > 1 else "")
    if count > 1:
        log.logger.info("%s: %d of %d parts", title, len(names), len(parts.keys))
    todo = [name for name in names if name in missing]
    if len(todo) < len(names):
        log.logger.info("%s: %d of %d parts are done already", parts.folder, len(names) - len(todo), len(names))
    by_key = {image.key: image for image in images}
    groups = [[by_key[key] for key in parts.keys[name]] for name in todo]
    wanted, total = sum(map(len, groups)), sum(len(parts.keys[name]) for name in names)
    with progress_of("image files", wanted, 0, IMAGES) as show:
        check_images(list(itertools.chain(*groups)), encoder.min_side_px, show)
    with (
        progress_of(title, total, total - wanted, IMAGES) as show,
        closing(image_rows(encoder, groups, recipe, precision, batch, workers, parts.dtype, show)) as rows,
    ):
        for name in todo:
            with parts.writer(name) as writer:
                for _ in parts.keys[name]:
                    writer.add(*next(rows))


def image_rows(
    encoder: Encoder,
    groups: Sequence[Sequence[ImageFile]],
    recipe: Recipe,
    precision: Precision,
    batch: int,
    workers: int = 0,
    dtype: str = "float16",
    on_progress: Callable[[int], None] = lambda done: None,
) -> Generator[tuple[str, np.ndarray], None, None]:
    """Yield key and (C, h, w) array of each image, in order; the next images are read meanwhile.

    Batches do not reach over groups. On a GPU two batches are on their way while a third is launched.
    """
    device, flat = device_of(encoder), list(itertools.chain(*groups))
    on_gpu, prepare = device.type == "cuda", Preparation(recipe)
    prepared = in_processes(prepare, flat, workers) if workers else in_threads(prepare, flat, 2)
    waiting: deque[tuple[Sequence[ImageFile], Tensor, torch.cuda.Event | None]] = deque()
    done = 0

    def rows(launched: int) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the grids of the batches before the last ``launched`` ones."""
        nonlocal done
        while len(waiting) > launched:
            part, grids, event = waiting.popleft()
            if event:
                event.synchronize()
            for image, grid in zip(part, grids.numpy(), strict=True):
                yield image.key, grid
                done += 1
                on_progress(done)

    try:
        for group in groups:
            for start in range(0, len(group), batch):
                part = group[start : start + batch]
                inputs = _stacked([next(prepared) for _ in part], on_gpu).to(device, non_blocking=True)
                grids = encode_grids(encoder, inputs, recipe, precision).to(getattr(torch, dtype))
                waiting.append((part, *to_host(grids)))
                yield from rows(2 if on_gpu else 0)
    except InputError:
        yield from rows(0)  # what was on its way may be the end of a part
        raise
    yield from rows(0)


def encode_grids(encoder: Encoder, images: Tensor, recipe: Recipe, precision: Precision = "auto") -> Tensor:
    """Encode resized images.

    Args:
        encoder: decides the device.
        images: (B, 3, H, W) uint8 RGB on that device.
        recipe: says where a ViT's map is taken.
        precision: type of the computation.

    Returns:
        (B, C, h, w) float32.
    """
    dtype = Options(precision=precision).compute_dtype(images.device)
    mixed = torch.autocast(images.device.type, dtype=dtype, enabled=dtype != torch.float32)
    with torch.no_grad(), mixed:  # what inference mode makes could not be trained on
        return encoder.tapped_grid(encoder.transform.scale(images), recipe.tap).float()


def grid_shape(encoder: Encoder, recipe: Recipe) -> tuple[int, ...]:
    """Return the shape (C, h, w) of one image's grid, found by encoding an empty image."""
    empty = torch.zeros(1, 3, *recipe.size_px, dtype=torch.uint8, device=device_of(encoder))
    return tuple(encode_grids(encoder, empty, recipe, "float32").shape[1:])


def image_grid_path(encoder: str, recipe: str, folders: Sequence[Path], cache: Path) -> Path:
    """Return where the grids of some folders of images belong in the cache.

    Args:
        encoder: registry name.
        recipe: name of the preset, or ``own``.
        folders: of images, in any order.
        cache: the cache folder.
    """
    digest = hashlib.sha256("\n".join(sorted(str(folder.resolve()) for folder in folders)).encode()).hexdigest()
    return cache / "features" / f"images-{digest[:12]}" / f"{cache_stem(encoder)}-{recipe}.grid"


def _stacked(images: list[Tensor], pinned: bool) -> Tensor:
    """Put images into one batch, in page-locked memory where it goes to a GPU."""
    batch = torch.empty(len(images), *images[0].shape, dtype=torch.uint8, pin_memory=pinned)
    return torch.stack(images, out=batch)
