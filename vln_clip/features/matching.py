"""Image files and texts as vectors of one space, for what compares them: zero-shot answers, retrieval, CLIPScore.

Images get the encoder's own preprocessing, as the towers were trained; what is compared is up to the caller.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vln_clip import log
from vln_clip.devices import pick_device
from vln_clip.encoders import Encoder, Preprocess, create_encoder, create_text_encoder
from vln_clip.encoders.table import require_comparable
from vln_clip.errors import InputError
from vln_clip.features.extraction import Options, Precision
from vln_clip.features.images import ImageFile, check_images, list_images, read_rgb
from vln_clip.features.job import progress_of
from vln_clip.features.loading import in_processes, in_threads
from vln_clip.features.parts import IMAGES, Words
from vln_clip.features.pipeline import default_workers
from vln_clip.run_config import require

if TYPE_CHECKING:
    from vln_clip.encoders.text import TextEncoder

TEXTS = Words("batch", "texts", "texts")
RANDOM = "random weights"
_BATCH = {"cpu": 128, "cuda": 1024}  # texts
_IMAGE_BATCH = {"cpu": 16, "cuda": 128}


@dataclass(frozen=True)
class MatchingConfig:
    """Which encoder compares texts with images, and how it runs."""

    features: str
    """encoder with a text tower: clip_rn50, clip_vit_b32, ..., open_clip:ARCH/TAG"""
    weights: Path | None = None
    """file of both towers' weights; by default those published, from this machine or the hub"""
    random_weights: bool = False
    """leave the weights random: shows that everything runs, every number is chance"""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto takes a GPU where there is one"""
    precision: Precision = "auto"
    """of the towers' computation; auto is float16 on CUDA, float32 elsewhere"""
    batch: int | None = None
    """texts at a time; by default 128 on a CPU, 1024 on a GPU"""

    def __post_init__(self) -> None:
        require(self.batch is None or self.batch > 0, "batch", "positive", self.batch)
        if self.random_weights and self.weights is not None:
            raise InputError(f"one of --weights and --random-weights may be given, got both (file {self.weights})")


class Matcher:
    """Both towers of an encoder.

    Attributes:
        device: that both run on.
        batch: texts at a time.
        label: what tables call the encoder; random weights are named in it.
    """

    def __init__(self, image: Encoder, text: "TextEncoder", config: MatchingConfig, device: torch.device):
        self.image, self.text, self.device = image, text, device
        self.batch = config.batch or _BATCH[device.type]
        self.label = f"{image.name} with {RANDOM}" if config.random_weights else image.name
        self._dtype = Options(precision=config.precision).compute_dtype(device)

    @classmethod
    def create(cls, config: MatchingConfig) -> "Matcher":
        """Make the towers that ``--features`` names.

        Raises:
            InputError: no text tower, or no weights.
        """
        require_comparable(config.features)
        device = pick_device(config.device)
        pretrained: bool | Path = config.weights or not config.random_weights
        if config.random_weights:
            log.logger.warning(
                f"NOTE: --random-weights: {config.features} knows nothing, every number that follows is chance"
            )
            torch.manual_seed(0)  # chance, but the same every time
        image = create_encoder(config.features, pretrained, device)
        text = create_text_encoder(config.features, pretrained, device)
        return cls(image, text, config, device)

    def encode_images(self, images: Sequence[ImageFile]) -> Tensor:
        """Encode image files, (N, D) float32 of length 1, on the device.

        Raises:
            InputError: a file is damaged or too small.
        """
        check_images(images, self.image.min_side_px)
        prepare, workers = Fitting(self.image.transform), default_workers(self.device)
        on_gpu, size = self.device.type == "cuda", _IMAGE_BATCH[self.device.type]
        prepared = iter(in_processes(prepare, images, workers) if on_gpu else in_threads(prepare, images, 2))
        found = []
        with progress_of(f"images {self.label}", len(images), 0, IMAGES) as show:
            for start in range(0, len(images), size):
                batch = torch.stack(list(islice(prepared, size))).to(self.device)
                with self.computing():
                    found.append(self.image.pooled(self.image.transform.scale(batch)).float())
                show(min(start + size, len(images)))
        return _unit(torch.cat(found))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode texts, (N, D) float32 of length 1, on the device; short ones together, which costs less."""
        rows = [self.text.words(text) for text in texts]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        found = torch.empty(len(rows), self.text.width, device=self.device)
        with progress_of(f"texts {self.label}", len(rows), 0, TEXTS) as show:
            for start in range(0, len(order), self.batch):
                part = order[start : start + self.batch]
                found[part] = self.encode_tokens(self.text.pack([rows[i] for i in part]))
                show(start + len(part))
        return found

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Encode one batch of packed tokens, (N, L) int64, to (N, D) float32 of length 1."""
        with self.computing():
            return _unit(self.text.encode_tokens(tokens).float())

    def encode_joined(self, begin: Sequence[int], ends: Tensor) -> Tensor:
        """Encode one text joined to one batch of others, (N, D) float32 of length 1; see ``TextEncoder``."""
        with self.computing():
            return _unit(self.text.encode_joined(begin, ends).float())

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute without gradients in the wanted precision."""
        mixed = torch.autocast(self.device.type, dtype=self._dtype, enabled=self._dtype != torch.float32)
        with torch.inference_mode(), mixed:
            yield

    def synchronized_s(self) -> float:
        """Return the time when all that was launched is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


@dataclass(frozen=True)
class Fitting:
    """Read and resize an image file for an encoder; a value, so that processes can have it."""

    transform: Preprocess

    def __call__(self, image: ImageFile) -> Tensor:
        """Return (3, h, w) uint8."""
        pixels = torch.from_numpy(np.array(read_rgb(image.path))).permute(2, 0, 1)
        return self.transform.fit(pixels[None].contiguous())[0]


def find_images(data: Path, folders: Sequence[str], keys: Sequence[str]) -> list[ImageFile]:
    """Return the image files of some keys, in their order.

    Args:
        data: the data folder.
        folders: of images in it; those that are not there are left out.
        keys: file names without ending.

    Raises:
        InputError: no folder is there, or an image is in none of them.
    """
    places = [data / folder for folder in folders if (data / folder).is_dir()]
    if not places:
        raise InputError(f"images must be in {data / folders[0]}, which does not exist; put them there")
    by_key = {image.key: image for image in list_images(places)}
    absent = [key for key in keys if key not in by_key]
    if absent:
        raise InputError(
            f"every image must be in {', '.join(map(str, places))}, but {len(absent):,} of {len(keys):,} are not "
            f"there, the first {absent[0]!r:.80}; add the folder that holds them"
        )
    return [by_key[key] for key in keys]


def drawn(count: int, limit: int | None, seed: int) -> list[int]:
    """Return which of ``count`` things are taken, in their order: all, or ``limit`` of them drawn with a seed."""
    if limit is None or limit >= count:
        return list(range(count))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:limit].tolist())


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=1)
