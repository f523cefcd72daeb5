"""Rendered views of a world as bytes, memory-mapped: what an encoder that is being trained looks at again and again.

A file of the cache holds the views of one building, resized and cropped for one encoder; encoders of one input size
share it. Features follow from views and weights; whoever keeps the weights fixed stores features instead.
"""

import hashlib
import itertools
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vln_clip import files
from vln_clip.encoders import Encoder
from vln_clip.errors import InputError
from vln_clip.features.extraction import Options, Panorama, Source
from vln_clip.features.loading import in_threads
from vln_clip.features.pictures import picture_digests
from vln_clip.features.pipeline import Preparation, num_cpus
from vln_clip.records import NUM_VIEWS

FOLDER = "views"  # of the cache


@dataclass(frozen=True)
class ViewRecipe:
    """How the views of a world become an encoder's input, but for its normalization.

    Attributes:
        preparation: from a panorama to (36, 3, h, w) uint8.
        size_px: height and width of the result.
        renderer: what draws the views.
    """

    preparation: Preparation
    size_px: tuple[int, int]
    renderer: str

    @classmethod
    def of(cls, encoder: Encoder, source: Source, renderer: str) -> "ViewRecipe":
        """Return the recipe by which features of this encoder are extracted by default."""
        options = Options()
        transform, (width, height) = options.transform(encoder), options.size_px(encoder)
        size = (height, width) if transform.crop == "full" else transform.size_px
        return cls(Preparation(source, (width, height), transform, "rgb", draws=True), size, renderer)

    @property
    def name(self) -> str:
        """Return a name for the folder of the cache; encoders that are fed alike share it."""
        rule, (width, height) = self.preparation.transform.resize_rule, self.preparation.size_px
        digest = hashlib.sha256(f"{self.renderer} {width} {height} {rule}".encode()).hexdigest()[:12]
        return f"{self.size_px[0]}x{self.size_px[1]}-{digest}"

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of a panorama's views."""
        return NUM_VIEWS, 3, *self.size_px


class RenderedViews:
    """The views of every viewpoint of a world, read from files of the cache that are rendered where they lack.

    Args:
        panoramas: of every global viewpoint index, those of a scan together.
        recipe: how views are made.
        cache: the cache folder.

    Attributes:
        panoramas: as given.
    """

    def __init__(self, panoramas: Sequence[Panorama], recipe: ViewRecipe, cache: Path):
        self.panoramas, self._recipe = list(panoramas), recipe
        self._scans = [
            (scan, list(group)) for scan, group in itertools.groupby(panoramas, key=lambda panorama: panorama.scan)
        ]
        digests = picture_digests(panoramas)
        self._paths = [cache / FOLDER / recipe.name / f"{scan}-{digests[scan]}.npy" for scan, _ in self._scans]
        self._place = [(number, row) for number, (_, group) in enumerate(self._scans) for row in range(len(group))]
        self._opened: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._place)

    @property
    def num_bytes(self) -> int:
        """Return the size of all files together."""
        return len(self) * math.prod(self._recipe.shape)

    def render_missing(self, on_progress: Callable[[int], None] = lambda done: None) -> None:
        """Render the buildings whose files are not in the cache.

        Args:
            on_progress: called with the number of viewpoints that are there.

        Raises:
            InputError: the disk has no room, or a picture is damaged.
        """
        missing = [number for number, path in enumerate(self._paths) if not path.is_file()]
        done = len(self) - sum(len(self._scans[number][1]) for number in missing)
        if missing:
            self._require_room((len(self) - done) * math.prod(self._recipe.shape))
        on_progress(done)
        for number in missing:
            _, group = self._scans[number]
            files.write_atomically(self._paths[number], partial(self._render, group=group))
            done += len(group)
            on_progress(done)

    def read(self, index: Sequence[int]) -> Tensor:
        """Return the views of viewpoints (n,), (n, 36, 3, h, w) uint8 on the CPU."""
        views = np.empty((len(index), *self._recipe.shape), dtype=np.uint8)
        for place, viewpoint in zip(views, index, strict=True):
            number, row = self._place[viewpoint]
            place[:] = self._open(number)[row]
        return torch.from_numpy(views)

    def _open(self, number: int) -> np.ndarray:
        """Map the file of a scan."""
        if number not in self._opened:
            path, (_, group) = self._paths[number], self._scans[number]
            try:
                found = np.load(path, mmap_mode="r", allow_pickle=False)
                wanted = (len(group), *self._recipe.shape)
                if found.shape != wanted or found.dtype != np.uint8:
                    raise ValueError(f"its shape must be {wanted} of bytes, got {found.shape} {found.dtype}")
            except (OSError, ValueError, EOFError, SyntaxError) as error:
                raise InputError(
                    f"{path} must hold rendered views, but can't be read: {error!s:.200}; remove it, and the same "
                    "command renders them again"
                ) from None
            files.mark_used(path)
            self._opened[number] = found
        return self._opened[number]

    def _render(self, path: Path, group: Sequence[Panorama]) -> None:
        """Write the views of a building; views are drawn in threads."""
        views = np.lib.format.open_memmap(path, "w+", np.uint8, (len(group), *self._recipe.shape))
        for place, drawn in zip(views, in_threads(self._recipe.preparation, group, num_cpus()), strict=True):
            place[:] = drawn.numpy()
        views.flush()

    def _require_room(self, num_bytes: int) -> None:
        folder = self._paths[0].parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise files.unwritable(folder, error.strerror or error, "folder") from error
        free = shutil.disk_usage(folder).free
        if num_bytes > free:
            raise InputError(
                f"rendered views of {len(self):,} viewpoints need {num_bytes / 1e9:.3g} GB, got {free / 1e9:.3g} GB "
                f"free in {folder}; make room, or set VLN_CLIP_CACHE to another disk"
            )
