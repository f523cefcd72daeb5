"""How views are encoded, and what that costs. Where images come from is the caller's matter (``Source``)."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from vln_clip.encoders import Encoder, check_name, create_encoder
from vln_clip.encoders.base import Crop, Preprocess
from vln_clip.encoders.tower_files import is_tower
from vln_clip.errors import InputError
from vln_clip.features.store import StoreHeader, library_versions
from vln_clip.records import NUM_VIEWS, VIEW_HEIGHT_PX, VIEW_WIDTH_PX
from vln_clip.sources.download import offline

_TIMED_VIEWS = 2
_MAX_RENDER_PX = 32767  # what OpenCV can address
_FOR_SMALL_IMAGES = ("pixels", "clip_demo")  # made for the demo: never too slow, and nothing need be fetched
Precision = Literal["auto", "float32", "float16", "bfloat16"]


@dataclass(frozen=True, eq=False)
class Panorama:
    """One viewpoint to encode.

    Attributes:
        scan: building.
        viewpoint_id: id.
        folder: where its skybox is.
        rotation: (3, 3) skybox camera to world.
    """

    scan: str
    viewpoint_id: str
    folder: Path
    rotation: np.ndarray

    @property
    def key(self) -> str:
        """Return the key of feature files."""
        return f"{self.scan}_{self.viewpoint_id}"


class Source(Protocol):
    """Where the pictures of a panorama come from."""

    def load(self, panorama: Panorama) -> Tensor:
        """Read the skybox, (6, S, S, 3) uint8 RGB on the CPU; called from threads and worker processes."""
        ...

    def draw(self, faces: Tensor, panorama: Panorama, size_px: tuple[int, int]) -> Tensor:
        """Render the 36 views at (width, height), (36, H, W, 3) uint8 RGB on the device of ``faces``."""
        ...


@dataclass(frozen=True)
class Options:
    """How views are encoded; all of it but the batch is recorded in the header.

    Attributes:
        channel_order: ``bgr`` swaps red and blue, as the released CLIP features had it (specs/vln.md P15).
        normalize: ``l2`` scales every vector to length 1 (in a grid, the vector of each cell).
        crop: crop policy; None for the encoder's own.
        render_size_px: width and height of rendered views; None for 640 x 480 (``pixels``, ``clip_demo``: their own).
        batch: images per forward pass; batches reach over viewpoints, not over scans.
        image_size_px: height and width of the encoder's input; None for its own.
        interpolation: how images are resized; None for the encoder's own way.
        precision: type of the encoder's computation; ``auto`` is float16 on CUDA, float32 elsewhere.
        grid: whether maps (36, C, h, w) are wanted, not vectors (36, D).
    """

    channel_order: Literal["rgb", "bgr"] = "rgb"
    normalize: Literal["none", "l2"] = "none"
    crop: Crop | None = None
    render_size_px: tuple[int, int] | None = None
    batch: int = NUM_VIEWS
    image_size_px: tuple[int, int] | None = None
    interpolation: Literal["bicubic", "bilinear"] | None = None
    precision: Precision = "auto"
    grid: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        sizes = {"render size": self.render_size_px, "image size": self.image_size_px, "batch size": (self.batch,)}
        for name, values in sizes.items():
            if values and min(values) < 1:
                raise InputError(f"{name} must be at least 1, got {' '.join(map(str, values))}")
        if self.render_size_px and max(self.render_size_px) > _MAX_RENDER_PX:
            width, height = self.render_size_px
            raise InputError(f"render size must be at most {_MAX_RENDER_PX} by {_MAX_RENDER_PX}, got {width} {height}")

    def size_px(self, encoder: Encoder) -> tuple[int, int]:
        """Return width and height of the rendered views."""
        if self.render_size_px:
            return self.render_size_px
        height, width = encoder.image_size_px
        return (width, height) if encoder.for_small_images else (VIEW_WIDTH_PX, VIEW_HEIGHT_PX)

    def transform(self, encoder: Encoder) -> Preprocess:
        """Return the encoder's preprocessing with these options."""
        rule = encoder.transform.with_crop(self.crop)
        if self.image_size_px and rule.crop == "full":
            raise InputError(
                f"image size needs a crop of center or squash, got full, {encoder.name}'s own; give --crop"
            )
        return replace(
            rule,
            size_px=self.image_size_px or rule.size_px,
            interpolation=self.interpolation or rule.interpolation,
        )

    def compute_dtype(self, device: torch.device) -> torch.dtype:
        """Return the type of the encoder's computation on a device."""
        name = self.precision
        if name == "auto":
            name = "float16" if device.type == "cuda" else "float32"
        return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[name]


def make_header(encoder: Encoder, options: Options, source: str, renderer: str = "") -> StoreHeader:
    """Describe how features come about; ``renderer`` says what drew the views."""
    transform, device = options.transform(encoder), device_of(encoder)
    dtype = str(options.compute_dtype(device)).removeprefix("torch.")
    vector = f"{encoder.pooled_width} columns, the encoder's pooled output"
    return StoreHeader(
        encoder=encoder.name,
        weights=encoder.weights,
        pooling="none, grid" if options.grid else encoder.pooling,
        projection=f"{encoder.grid_width} channels, the encoder's last map" if options.grid else vector,
        normalization=options.normalize,
        channel_order=options.channel_order,
        render_size_px=options.size_px(encoder),
        image_size_px=(0, 0) if transform.crop == "full" else transform.size_px,
        resize=transform.resize_rule,
        precision=dtype if dtype == "float32" else f"{dtype} autocast",
        renderer=f"{renderer} on {device.type}" if renderer else "",
        source=source,
        libraries=library_versions(),
    )


def encode_views(encoder: Encoder, views: Tensor, options: Options) -> Tensor:
    """Encode rendered views.

    Args:
        encoder: decides the device.
        views: (N, H, W, 3) uint8 RGB.
        options: see ``Options``.

    Returns:
        (N, D), or (N, C, h, w) for a grid, float32 on the encoder's device.
    """
    images = fit_views(views.to(device_of(encoder)), options.transform(encoder), options.channel_order)
    return torch.cat([encode_images(encoder, chunk, options) for chunk in images.split(options.batch)])


def fit_views(views: Tensor, transform: Preprocess, channel_order: str) -> Tensor:
    """Resize and crop rendered views: (N, H, W, 3) uint8 RGB to (N, 3, h, w), uint8 on the CPU."""
    images = views.permute(0, 3, 1, 2)
    return transform.fit(images.flip(1) if channel_order == "bgr" else images.contiguous())


def encode_images(encoder: Encoder, images: Tensor, options: Options) -> Tensor:
    """Encode fitted images in one forward pass.

    Args:
        encoder: decides the device.
        images: of ``fit_views``, on that device.
        options: see ``Options``.

    Returns:
        (N, D), or (N, C, h, w) for a grid, float32.
    """
    dtype = options.compute_dtype(images.device)
    mixed = torch.autocast(images.device.type, dtype=dtype, enabled=dtype != torch.float32)
    with torch.inference_mode(), mixed:
        inputs = options.transform(encoder).scale(images)
        features = (encoder.grid(inputs) if options.grid else encoder.pooled(inputs)).float()
    return torch.nn.functional.normalize(features, dim=1) if options.normalize == "l2" else features


def row_shape(encoder: Encoder, options: Options) -> tuple[int, ...]:
    """Return the shape of one panorama's features: (36, D), or (36, C, h, w) found by encoding an empty image."""
    if not options.grid:
        return NUM_VIEWS, encoder.pooled_width
    width, height = options.size_px(encoder)
    return NUM_VIEWS, *encode_views(encoder, torch.zeros(1, height, width, 3, dtype=torch.uint8), options).shape[1:]


def estimate_s(
    encoder: Encoder, panoramas: Sequence[Panorama], source: Source, options: Options, limit_s: float = float("inf")
) -> float:
    """Time one batch of the encoder and the rendering of one panorama, and return what all panoramas would take.

    Where the encoder alone is over ``limit_s``, rendering is not timed.
    """
    device, (width, height) = device_of(encoder), options.size_px(encoder)
    few = torch.zeros(NUM_VIEWS if device.type == "cuda" else _TIMED_VIEWS, height, width, 3, dtype=torch.uint8)
    encode_s = min(
        _seconds(device, lambda: encode_views(encoder, few, options)) for _ in range(2)
    )  # the first warms up
    total_s = encode_s * NUM_VIEWS / len(few) * len(panoramas)
    if total_s > limit_s:
        return total_s

    def draw() -> None:
        source.draw(source.load(panoramas[0]).to(device), panoramas[0], (width, height))

    return total_s + min(_seconds(device, draw) for _ in range(2)) * len(panoramas)


def _seconds(device: torch.device, work: Callable[[], object]) -> float:
    """Return the time that some work takes until the device has finished."""
    start_s = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start_s


def affordable_encoder(
    name: str, seconds: Callable[[Encoder], float], device: torch.device | str, limit_s: float
) -> tuple[Encoder | None, str]:
    """Return an encoder with its weights where extraction takes at most ``limit_s`` here, else None and why not.

    Args:
        name: of the encoder.
        seconds: estimates how long extraction takes; called with random weights, so that nothing is fetched in vain.
        device: where it runs.
        limit_s: that it may take.
    """
    check_name(name)
    is_small = name.removeprefix("random:").partition(":")[0] in _FOR_SMALL_IMAGES
    if is_small or is_tower(name):  # nothing may stand in for a tower of one's own
        return create_encoder(name, device=device), ""
    if offline():  # then the weights are here or not; without them there is nothing to time
        try:
            create_encoder(name, True)
        except InputError:
            return None, "neither are its weights (the network is switched off)"
    total_s = seconds(create_encoder(name, False, device))
    if total_s > limit_s:
        return None, f"extracting them would take about {total_s / 60:.0f} minutes on this machine"
    try:
        return create_encoder(name, True, device), ""
    except InputError as error:
        return None, str(error).split(";")[0]


def device_of(encoder: Encoder) -> torch.device:
    """Return the device of an encoder."""
    return next(itertools.chain(encoder.parameters(), encoder.buffers())).device
