"""The contract of an encoder and the preprocessing that belongs to it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vln_clip.errors import InputError

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF_MEAN, HALF_STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

Crop = Literal["center", "squash", "full"]


@dataclass(frozen=True)
class Preprocess:
    """Turn images into model input: resize, crop, scale to [0, 1], subtract mean, divide by std.

    Attributes:
        size_px: height and width of the result (ignored by ``full``).
        mean: per channel, of values in [0, 1].
        std: per channel.
        crop: ``center`` resizes the shorter side and crops the middle; ``squash`` resizes both sides;
            ``full`` keeps the image as it is.
        interpolation: ``bicubic`` or ``bilinear``, both antialiased on uint8 as PIL does.
    """

    size_px: tuple[int, int]
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    crop: Crop = "center"
    interpolation: str = "bicubic"

    def __call__(self, images: Image.Image | Tensor) -> Tensor:
        """Preprocess one PIL image, or uint8 RGB tensors of one size.

        Args:
            images: a PIL image, or (3, h, w) or (B, 3, h, w) uint8.

        Returns:
            (3, h, w) or (B, 3, h, w) float32, on the device of the input.
        """
        if isinstance(images, Image.Image):
            images = torch.from_numpy(np.array(images.convert("RGB"))).permute(2, 0, 1)
        if images.dtype != torch.uint8 or images.shape[-3] != 3:
            found = f"{tuple(images.shape)} {images.dtype}"
            raise InputError(f"images must be uint8 with 3 channels before height and width, got {found}")
        batch = self.scale(self.fit(images if images.ndim == 4 else images[None]))
        return batch if images.ndim == 4 else batch[0]

    def fit(self, batch: Tensor) -> Tensor:
        """Resize and crop only: what may happen in another process, while images are still bytes.

        Args:
            batch: (B, 3, h, w) uint8.

        Returns:
            (B, 3, h', w') with whole numbers, uint8 on the CPU.
        """
        return self._crop(self._resize(batch))

    def scale(self, batch: Tensor) -> Tensor:
        """Turn fitted images into model input, (B, 3, h, w) float32: scale to [0, 1], normalize channels."""
        batch = batch.to(torch.float32, copy=True).div_(255)
        mean, std = (batch.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return batch.sub_(mean).div_(std)

    def with_crop(self, crop: Crop | None) -> "Preprocess":
        """Return the same preprocessing with another crop policy; None keeps it."""
        return replace(self, crop=crop) if crop else self

    @property
    def resize_rule(self) -> str:
        """Say in words what happens to the size, for the header of feature files."""
        height, width = self.size_px
        if self.crop == "full":
            return "none"
        rule = "shorter side, center crop" if self.crop == "center" else "both sides"
        return f"{rule} to {height}x{width}, {self.interpolation}"

    def _resize(self, batch: Tensor) -> Tensor:
        height, width = batch.shape[-2:]
        if self.crop == "center":  # the longer side floors, as torchvision's Resize does
            scale = max(self.size_px[0] / height, self.size_px[1] / width)
            size = (max(int(height * scale + 1e-6), self.size_px[0]), max(int(width * scale + 1e-6), self.size_px[1]))
        else:
            size = self.size_px if self.crop == "squash" else (height, width)
        if size == (height, width):
            return batch
        exact = batch if batch.device.type == "cpu" else batch.float()  # uint8 antialiasing exists on CPU only
        resized = F.interpolate(exact, size=size, mode=self.interpolation, antialias=True, align_corners=False)
        return resized if resized.dtype == torch.uint8 else resized.round_().clamp_(0, 255)

    def _crop(self, batch: Tensor) -> Tensor:
        if self.crop != "center":
            return batch
        top, left = ((have - want) / 2 for have, want in zip(batch.shape[-2:], self.size_px, strict=True))
        top, left = round(top), round(left)
        return batch[..., top : top + self.size_px[0], left : left + self.size_px[1]]


@dataclass(frozen=True)
class Tap:
    """Where in a ViT a grid is taken; the default is what ``Encoder.grid`` gives.

    Attributes:
        layer: block whose output is taken, counted from the end: -1 is the last one, -2 the one before.
        ln_post: whether the tower's last norm is applied, in the tower itself to the class token only.
        keep_cls: whether the class token comes along, which leaves no rectangle: the map is then (C, 1, 1 + h * w),
            the class token first.
    """

    layer: int = -1
    ln_post: bool = False
    keep_cls: bool = False


LAST = Tap()


class Encoder(nn.Module):
    """What every encoder offers; subclasses fill the attributes and the two methods.

    Attributes:
        name: the registry name it was made under.
        architecture: registry name of the network where ``name`` is a file's; else empty.
        pooled_width: D of ``pooled``.
        grid_width: C of ``grid``.
        image_size_px: native height and width.
        transform: preprocessing from PIL or uint8 to model input.
        trainable: whether gradients reach weights; False for fixed functions.
        for_small_images: whether it was made for the demo's small pictures: views are rendered at ``image_size_px``
            in place of 640 x 480, and pictures taken as they are.
        weights: where the weights come from, with a hash where there is a file; ``random`` for none.
        pooling: how ``pooled`` comes about, in words.
        num_blocks: blocks of a ViT, whose tokens ``tapped_grid`` can give; 0 for other networks.
        min_side_px: shortest side of an image of which a map has at least one cell.
    """

    name: str
    pooled_width: int
    grid_width: int
    image_size_px: tuple[int, int]
    transform: Preprocess
    architecture: str = ""
    trainable: bool = True
    for_small_images: bool = False
    weights: str = "random"
    pooling: str = ""
    num_blocks: int = 0
    min_side_px: int = 31

    def pooled(self, images: Tensor) -> Tensor:
        """Encode images as one vector each.

        Args:
            images: transformed images of any size, (B, 3, h, w) float32.

        Returns:
            (B, D) float32, not normalized.
        """
        raise NotImplementedError

    def grid(self, images: Tensor) -> Tensor:
        """Encode images as a map of vectors.

        Args:
            images: transformed images of any size, (B, 3, h, w) float32.

        Returns:
            (B, C, h', w') float32; for h' and w' see the encoder.
        """
        raise NotImplementedError

    def tapped_grid(self, images: Tensor, tap: Tap) -> Tensor:
        """Encode images as a map of vectors taken somewhere in a ViT.

        Args:
            images: as for ``grid``.
            tap: where; other networks know the default only.

        Returns:
            (B, C, h', w') float32, or (B, C, 1, 1 + h' * w') with the class token.

        Raises:
            InputError: this encoder has no such place.
        """
        if tap != LAST:
            raise InputError(
                f"layer, ln_post and class token can be chosen for a ViT only, got {self.name} which is none; leave "
                "--layer, --ln-post and --keep-cls out"
            )
        return self.grid(images)

    def check_tap(self, tap: Tap) -> None:
        """Raise ``InputError`` where a ViT has fewer blocks than a tap asks for."""
        if self.num_blocks and not -self.num_blocks <= tap.layer <= -1:
            raise InputError(
                f"layer of {self.name} must be -{self.num_blocks} to -1, counted from the last block, got {tap.layer}"
            )

    def pooled_with_map(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images so that the gradient of ``pooled`` reaches the last map that it is made of, and nothing more.

        Args:
            images: transformed images of any size, (B, 3, h, w) float32.

        Returns:
            ``pooled(images)``, (B, D), and that map, (B, C, h', w'): a leaf of the first one's graph. It is the one
            of ``grid`` in ResNets; the patches that enter the last block in ViTs, whose ``grid`` comes too late to
            reach the class token; the raw statistics of the cells in ``pixels``.

        Raises:
            InputError: this encoder has no such map.
        """
        raise InputError(
            "heat maps need an encoder that pools one map (pixels, a CLIP or ImageNet ResNet, a ViT with class token), "
            f"got {self.name}; leave --saliency out"
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return ``pooled(images)``."""
        return self.pooled(images)


def with_class_token(grid: Tensor, token: Tensor) -> Tensor:
    """Put a class token before a map: (B, C, h, w) and (B, 1, C) to (B, C, 1, 1 + h * w)."""
    return torch.cat([token.transpose(1, 2), grid.flatten(2)], 2)[:, :, None]


def pool_from(grid: Tensor, pool: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Pool a map as the leaf of a graph; see ``Encoder.pooled_with_map``."""
    grid = grid.detach().requires_grad_()
    with torch.enable_grad():
        return pool(grid), grid


def pool_from_block(
    block: nn.Module, run: Callable[[], Tensor], size: tuple[int, int], num_prefix: int, batch_first: bool = True
) -> tuple[Tensor, Tensor]:
    """Run a ViT with the patches that enter ``block`` as the leaf of the graph; see ``Encoder.pooled_with_map``.

    Args:
        block: called with tokens (B, N, C), or (N, B, C) without ``batch_first``.
        run: the whole network; returns (B, D).
        size: height and width of the grid of patches.
        num_prefix: class and register tokens, which come first.
        batch_first: order of axes of the tokens.
    """
    leaves: list[Tensor] = []

    def tap(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        tokens = inputs[0] if batch_first else inputs[0].transpose(0, 1)
        leaf = tokens[:, num_prefix:].transpose(1, 2).unflatten(2, size).detach().requires_grad_()  # (B, C, h, w)
        leaves.append(leaf)
        torch.set_grad_enabled(True)  # from here on, until `no_grad` below ends: nothing is kept of earlier blocks
        tokens = torch.cat([tokens[:, :num_prefix], leaf.flatten(2).transpose(1, 2)], 1)
        return (tokens if batch_first else tokens.transpose(0, 1), *inputs[1:])

    handle: RemovableHandle = block.register_forward_pre_hook(tap)
    try:
        with torch.no_grad():
            pooled = run()
    finally:
        handle.remove()
    return pooled, leaves[0]
