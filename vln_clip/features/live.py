"""Grids that an encoder makes when they are asked for: for those who cannot store a terabyte, and for new pictures."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from vln_clip.encoders import Encoder
from vln_clip.errors import InputError
from vln_clip.features.extraction import Precision, device_of
from vln_clip.features.grid import num_threads
from vln_clip.features.image_extraction import Preparation, encode_grids, grid_shape, image_header
from vln_clip.features.images import ImageFile
from vln_clip.features.recipes import Recipe


class ImageGrids:
    """A frozen encoder and image files, read like a ``GridStore``.

    Attributes:
        header: how the grids come about; equal to that of a store made in the same way.
        shape: C, h and w.
        image_keys: of all images.
    """

    def __init__(
        self,
        encoder: Encoder,
        images: Sequence[ImageFile],
        recipe: Recipe,
        precision: Precision = "auto",
        batch: int = 32,
        dtype: torch.dtype = torch.float16,
    ):
        self._encoder, self._recipe, self._precision = encoder, recipe, precision
        self._images = {image.key: image for image in images}
        self._batch, self._dtype = batch, dtype
        self._prepare = Preparation(recipe)
        self._pool = ThreadPoolExecutor(num_threads())  # Pillow leaves other threads alone while it decodes
        self._coming: dict[str, Future[Tensor]] = {}
        self.header = image_header(encoder, recipe, precision, "image files")
        self.shape = grid_shape(encoder, recipe)

    @property
    def image_keys(self) -> tuple[str, ...]:
        """Return the keys of all images."""
        return tuple(self._images)

    def __contains__(self, key: object) -> bool:
        return key in self._images

    def prefetch(self, keys: Sequence[str]) -> None:
        """Begin to read the images of the next call of ``read``, which then finds them in memory."""
        for key in dict.fromkeys(keys):
            if key not in self._coming:
                self._coming[key] = self._pool.submit(self._prepare, self._image(key))

    def read(self, keys: Sequence[str]) -> Tensor:
        """Encode the images of some keys, (B, C, h, w) on the encoder's device; a key may come twice.

        Raises:
            InputError: a key is not there, or its file is damaged.
        """
        self.prefetch(keys)
        unique = list(dict.fromkeys(keys))
        grids = []
        for start in range(0, len(unique), self._batch):
            images = torch.stack([self._coming.pop(key).result() for key in unique[start : start + self._batch]])
            inputs = images.to(device_of(self._encoder))
            grids.append(encode_grids(self._encoder, inputs, self._recipe, self._precision).to(self._dtype))
        if not grids:
            return torch.empty(0, *self.shape, dtype=self._dtype, device=device_of(self._encoder))
        place = {key: row for row, key in enumerate(unique)}
        found = torch.cat(grids)
        return found if unique == list(keys) else found[[place[key] for key in keys]]

    def _image(self, key: str) -> ImageFile:
        if key not in self._images:
            raise InputError(f"image {key} must be among the {len(self._images):,} images given, got no such one")
        return self._images[key]
