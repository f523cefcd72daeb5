"""From panoramas to rows of features: pictures are prepared ahead, then encoded in batches of a constant size."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vln_clip.encoders import Encoder
from vln_clip.encoders.base import Preprocess
from vln_clip.errors import InputError
from vln_clip.features.extraction import Options, Panorama, Source, device_of, encode_images, fit_views
from vln_clip.features.loading import in_processes, in_threads
from vln_clip.records import NUM_VIEWS


@dataclass(frozen=True, eq=False)
class Preparation:
    """What happens to a panorama before its encoder; a value, so that processes can have it.

    Attributes:
        source: where pictures come from.
        size_px: width and height of rendered views.
        transform: preprocessing.
        channel_order: ``rgb`` or ``bgr``.
        draws: whether calling it also renders; on a GPU that is better done there.
    """

    source: Source
    size_px: tuple[int, int]
    transform: Preprocess
    channel_order: str
    draws: bool

    def __call__(self, panorama: Panorama) -> Tensor:
        """Read a skybox, and render and fit its views: (36, 3, h, w) uint8; or return its faces only."""
        faces = self.source.load(panorama)
        return self.draw(faces, panorama) if self.draws else faces

    def draw(self, faces: Tensor, panorama: Panorama) -> Tensor:
        """Render and fit the views on the device of the faces."""
        return fit_views(self.source.draw(faces, panorama, self.size_px), self.transform, self.channel_order)


def extract_rows(
    encoder: Encoder,
    panoramas: Sequence[Panorama],
    source: Source,
    options: Options,
    on_progress: Callable[[int], None] = lambda done: None,
    workers: int = 0,
) -> Generator[tuple[str, np.ndarray], None, None]:
    """Render and encode panoramas; the next skyboxes are read, and on the CPU rendered, meanwhile.

    Networks get batches of a constant size that reach over the viewpoints of a scan (the last of a scan may be
    smaller), so that features do not depend on which scans are encoded together. Encoders that are no network
    work on one panorama per CPU core: their operations are too small to be split.

    Args:
        encoder: on the device where the work is to happen.
        panoramas: what to encode, those of a scan together.
        source: where pictures come from.
        options: how to encode.
        on_progress: called with the number of panoramas done.
        workers: processes that prepare pictures; 0 prepares them in two threads of this process.

    Yields:
        Key and (36, D) or (36, C, h, w) float32 array of each panorama, in order.
    """
    device = device_of(encoder)
    transform = options.transform(encoder)
    prepare = Preparation(source, options.size_px(encoder), transform, options.channel_order, device.type == "cpu")
    rows: Iterator[np.ndarray]
    if encoder.trainable or device.type != "cpu":
        rows = _batched_rows(encoder, panoramas, prepare, options, workers)
    else:
        rows = in_threads(
            lambda panorama: encode_images(encoder, prepare(panorama), options).numpy(), panoramas, num_cpus(), True
        )
    for done, panorama in enumerate(panoramas, 1):
        yield panorama.key, next(rows)
        on_progress(done)


def _batched_rows(
    encoder: Encoder, panoramas: Sequence[Panorama], prepare: Preparation, options: Options, workers: int
) -> Iterator[np.ndarray]:
    """Yield the features of each panorama; on a GPU two batches are on their way while a third is launched."""
    device = device_of(encoder)
    on_gpu = device.type == "cuda"
    prepared = in_processes(prepare, panoramas, workers, on_gpu) if workers else in_threads(prepare, panoramas, 2)
    waiting: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()
    have: list[np.ndarray] = []

    def rows(launched: int) -> Iterator[np.ndarray]:
        """Yield whole panoramas of the batches before the last ``launched`` ones."""
        while len(waiting) > launched:
            features, event = waiting.popleft()
            if event:
                event.synchronize()
            have[:] = [np.concatenate([*have, features.numpy()])]
            while have and len(have[0]) >= NUM_VIEWS:
                yield have[0][:NUM_VIEWS]
                have[0] = have[0][NUM_VIEWS:]

    try:
        for images in _batches(panoramas, prepared, prepare, device, options.batch):
            waiting.append(to_host(encode_images(encoder, images, options)))
            yield from rows(2 if on_gpu else 0)
    except InputError:
        yield from rows(0)  # what was on its way may be the end of a scan
        raise
    yield from rows(0)


def _batches(
    panoramas: Sequence[Panorama], prepared: Iterator[Tensor], prepare: Preparation, device: torch.device, batch: int
) -> Iterator[Tensor]:
    """Cut the views of each scan into batches, (batch, 3, h, w) on the device."""
    for _, group in itertools.groupby(panoramas, key=lambda panorama: panorama.scan):
        held: Tensor | None = None
        for panorama in group:  # pictures are taken one by one: a scan must not fail by the one after it
            views = next(prepared).to(device, non_blocking=True)
            views = views if prepare.draws else prepare.draw(views, panorama)
            held = views if held is None else torch.cat([held, views])
            while len(held) >= batch:
                yield held[:batch]
                held = held[batch:]
        if held is not None and len(held):
            yield held


def to_host(features: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """Start copying features into this machine's memory; they are there when the event has happened."""
    if features.device.type != "cuda":
        return features.cpu(), None
    host = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
    host.copy_(features, non_blocking=True)
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(features.device))
    return host, event


def num_cpus() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(device: torch.device | str) -> int:
    """Return how many worker processes keep an encoder busy: one beside a CPU, nearly all cores beside a GPU."""
    return min(max(num_cpus() - 1, 1), 16) if torch.device(device).type == "cuda" else 1
