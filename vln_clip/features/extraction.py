"""Extraction: panoramas in, rows of features out. Where images come from is the caller's matter (``Source``)."""

import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from vln_clip.encoders import Encoder, check_name, create_encoder
from vln_clip.encoders.base import Crop
from vln_clip.encoders.weights import offline
from vln_clip.errors import InputError
from vln_clip.features.store import StoreHeader, library_versions
from vln_clip.records import NUM_VIEWS, VIEW_HEIGHT_PX, VIEW_WIDTH_PX

_TIMED_VIEWS = 2
Result = TypeVar("Result")


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
        """Read the skybox, (6, S, S, 3) uint8 RGB on the CPU; called from threads."""
        ...

    def draw(self, faces: Tensor, panorama: Panorama, size_px: tuple[int, int]) -> Tensor:
        """Render the 36 views at (width, height), (36, H, W, 3) uint8 RGB on the device of ``faces``."""
        ...


@dataclass(frozen=True)
class Options:
    """How views are encoded; all of it is recorded in the header.

    Attributes:
        channel_order: ``bgr`` swaps red and blue, as the released CLIP features had it (specs/vln.md P15).
        normalize: ``l2`` scales every view's vector to length 1.
        crop: crop policy; None for the encoder's own.
        render_size_px: width and height of rendered views; None for 640 x 480 (``pixels``: its own).
        batch: views per forward pass.
    """

    channel_order: Literal["rgb", "bgr"] = "rgb"
    normalize: Literal["none", "l2"] = "none"
    crop: Crop | None = None
    render_size_px: tuple[int, int] | None = None
    batch: int = NUM_VIEWS

    def size_px(self, encoder: Encoder) -> tuple[int, int]:
        """Return width and height of the rendered views."""
        if self.render_size_px:
            return self.render_size_px
        height, width = encoder.image_size_px
        return (VIEW_WIDTH_PX, VIEW_HEIGHT_PX) if encoder.trainable else (width, height)


def make_header(encoder: Encoder, options: Options, source: str) -> StoreHeader:
    """Describe how features come about."""
    transform = encoder.transform.with_crop(options.crop)
    return StoreHeader(
        encoder=encoder.name,
        weights=encoder.weights,
        pooling=encoder.pooling,
        projection=f"{encoder.pooled_width} columns, the encoder's pooled output",
        normalization=options.normalize,
        channel_order=options.channel_order,
        render_size_px=options.size_px(encoder),
        image_size_px=(0, 0) if transform.crop == "full" else encoder.image_size_px,
        resize=transform.resize_rule,
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
        (N, D) float32 on the encoder's device.
    """
    device = _device_of(encoder)
    transform = encoder.transform.with_crop(options.crop)
    images = views.to(device).permute(0, 3, 1, 2)
    images = images.flip(1) if options.channel_order == "bgr" else images.contiguous()
    with torch.inference_mode():
        features = torch.cat([encoder.pooled(transform(chunk)) for chunk in images.split(options.batch)])
    features = features.float()
    return torch.nn.functional.normalize(features, dim=1) if options.normalize == "l2" else features


def extract_rows(
    encoder: Encoder,
    panoramas: Sequence[Panorama],
    source: Source,
    options: Options,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Iterator[tuple[str, np.ndarray]]:
    """Render and encode panoramas; the next skyboxes are read meanwhile.

    Networks get one panorama after the other. Encoders that are no network work on one panorama per CPU core:
    their operations are too small to be split.

    Yields:
        Key and (36, D) float32 array of each panorama, in order.
    """
    size_px, device = options.size_px(encoder), _device_of(encoder)

    def encode(faces: Tensor, panorama: Panorama) -> np.ndarray:
        views = source.draw(faces.to(device), panorama, size_px)
        return encode_views(encoder, views, options).cpu().numpy()

    if encoder.trainable or device.type != "cpu":
        loaded = _in_order(source.load, panoramas, num_threads=2)
        rows: Iterator[np.ndarray] = (
            encode(faces, panorama) for faces, panorama in zip(loaded, panoramas, strict=True)
        )
    else:
        rows = _in_order(lambda panorama: encode(source.load(panorama), panorama), panoramas, _num_cpus(), single=True)
    for done, (panorama, row) in enumerate(zip(panoramas, rows, strict=True), 1):
        yield panorama.key, row
        on_progress(done)


def _in_order(
    work: Callable[[Panorama], Result], panoramas: Sequence[Panorama], num_threads: int, single: bool = False
) -> Iterator[Result]:
    """Yield the results of some work in the order of the panoramas; threads run a little ahead.

    ``single`` lets every thread's tensor operations run in that thread alone.
    """
    threads_before = torch.get_num_threads()
    prepare = (lambda: torch.set_num_threads(1)) if single else None
    try:
        with ThreadPoolExecutor(num_threads, initializer=prepare) as pool:
            waiting: deque[Future[Result]] = deque()
            coming = iter(panoramas)
            waiting.extend(pool.submit(work, panorama) for panorama in itertools.islice(coming, 2 * num_threads))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(work, panorama) for panorama in itertools.islice(coming, 1))
                yield result
    finally:
        if single:
            torch.set_num_threads(threads_before)  # the setting leaks into threads that start later


def _num_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def estimate_s(
    encoder: Encoder, panoramas: Sequence[Panorama], source: Source, options: Options, limit_s: float = float("inf")
) -> float:
    """Time one batch of the encoder and the rendering of one panorama, and return what all panoramas would take.

    Where the encoder alone is over ``limit_s``, rendering is not timed.
    """
    device, (width, height) = _device_of(encoder), options.size_px(encoder)
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
    name: str, panoramas: Sequence[Panorama], source: Source, device: torch.device | str, limit_s: float
) -> tuple[Encoder | None, str]:
    """Return an encoder with its weights where extraction takes at most ``limit_s`` here, else None and why not.

    The time is taken with random weights, so that nothing is fetched in vain.
    """
    check_name(name)
    if name.partition(":")[0] == "pixels":
        return create_encoder(name, device=device), ""
    if offline():  # then the weights are here or not; without them there is nothing to time
        try:
            create_encoder(name, True)
        except InputError:
            return None, "neither are its weights (the network is switched off)"
    total_s = estimate_s(create_encoder(name, False, device), panoramas, source, Options(), limit_s)
    if total_s > limit_s:
        return None, f"extracting them would take about {total_s / 60:.0f} minutes on this machine"
    try:
        return create_encoder(name, True, device), ""
    except InputError as error:
        return None, str(error).split(";")[0]


def _device_of(encoder: Encoder) -> torch.device:
    return next(itertools.chain(encoder.parameters(), encoder.buffers())).device
