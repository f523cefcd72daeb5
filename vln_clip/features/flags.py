"""Options that extraction from skyboxes and from image files share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vln_clip.errors import InputError
from vln_clip.features.extraction import Precision
from vln_clip.features.pipeline import default_workers


@dataclass(frozen=True)
class Flags:
    """Which encoder, how it computes, where the output goes, and who does which share."""

    encoder: Annotated[str, tyro.conf.arg(aliases=["--features"])]
    """A name of the table, open_clip:ARCH/TAG, timm:NAME, pixels:WIDTH or tower:PATH."""
    weights: Path | None = None
    """Local weights: safetensors, a state dict, or an OpenAI .pt archive."""
    out: Path | None = None
    """Output; by default the cache, where --features NAME finds it (some scans only: the working folder)."""
    overwrite: bool = False
    """Replace an output that was made in another way."""
    device: str | None = None
    """Device of the encoder; by default CUDA where there is one."""
    workers: int | None = None
    """Processes that prepare pictures; by default 1 beside a CPU, all cores but one beside a GPU; 0 for threads."""
    batch_size: Annotated[int | None, tyro.conf.arg(aliases=["--batch"])] = None
    """Images per forward pass; by default 36 on a CPU, 256 on a GPU (image files: 4 and 32)."""
    precision: Precision = "auto"
    """Type of the encoder's computation; auto is float16 on CUDA, float32 elsewhere."""
    image_size: tuple[int, int] | None = None
    """Height and width of the encoder's input in pixels; by default its own, or the preset's."""
    interpolation: Literal["bicubic", "bilinear"] | None = None
    """How images are resized; by default the encoder's own way, or the preset's."""
    dtype: Literal["float16", "float32"] = "float16"
    """Type inside a store."""
    grid: bool = False
    """Keep maps (C, h, w), 36 of each viewpoint, in a folder NAME.grid."""
    shard: str | None = None
    """I/N: only the I-th of N shares of the scans or images (from 1); who finishes last merges."""
    merge: bool = False
    """Only put finished parts together."""

    def num_workers(self, device: object) -> int:
        """Return the number of worker processes."""
        if self.workers is not None and self.workers < 0:
            raise InputError(f"--workers must be at least 0, got {self.workers}")
        return default_workers(str(device)) if self.workers is None else self.workers

    def share(self) -> tuple[int, int]:
        """Return which share of the work is wanted, from 0, and the number of shares."""
        if self.shard is None:
            return 0, 1
        first, slash, last = self.shard.partition("/")
        if not (slash and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
            raise InputError(f"--shard must be I/N with I from 1 to N, e.g. 2/4, got {self.shard!r}")
        return int(first) - 1, int(last)
