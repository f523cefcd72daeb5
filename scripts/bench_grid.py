"""Measures reading grids in batches of random keys: ``python scripts/bench_grid.py [--num-images N …]``.

A store and the same maps as one .npy file each, as released features are, are written to a temporary folder and read
once, so that the system has them in memory. Then batches are read from the store, and from the files one by one in the
usual way (``numpy.load``, then ``torch.stack``), in turns; the ratio is that of the medians.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from vln_clip.features.grid import open_grid, write_index
from vln_clip.features.image_extraction import IMAGES_PER_PART
from vln_clip.features.store import StoreHeader, StoreWriter

GOAL_GB_PER_S = 2.0


@dataclass(frozen=True)
class BenchConfig:
    """Compare batches from a store with .npy files."""

    num_images: int = 512
    """images in the store"""
    shape: tuple[int, int, int] = (2048, 18, 31)
    """channels, rows and columns: by default what --preset vqa gives with clip_rn50"""
    batch_sizes: tuple[int, ...] = (16, 64, 128)
    """images per batch"""
    rounds: int = 20
    """batches of each kind"""
    folder: Path | None = None
    """where to write; by default the system's temporary folder"""


def main() -> None:
    """Print a table."""
    config = tyro.cli(BenchConfig)
    with tempfile.TemporaryDirectory(dir=config.folder) as name:
        keys = write_both(Path(name), config)
        store = open_grid(Path(name) / "x.grid")
        read_all(Path(name))
        row_bytes = int(np.prod(config.shape)) * 2
        size = " x ".join(map(str, config.shape))
        print(f"{len(keys)} images of {size} float16, {row_bytes * len(keys) / 1e9:.2f} GB")
        rng = np.random.default_rng(0)
        for batch in config.batch_sizes:
            ways: dict[str, Callable[[list[str]], Tensor]] = {
                "store": store.read,
                "npy": lambda wanted: one_by_one(Path(name) / "npy", wanted),
            }
            seconds: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(config.rounds):
                wanted = [keys[i] for i in rng.integers(0, len(keys), batch)]
                for way, read in ways.items():
                    start_s = time.perf_counter()
                    read(wanted)
                    seconds[way].append(time.perf_counter() - start_s)
            speeds = {way: [batch * row_bytes / time_s / 1e9 for time_s in times] for way, times in seconds.items()}
            middle = {way: statistics.median(found) for way, found in speeds.items()}
            told = [f"{way} {middle[way]:.2f} GB/s (best {max(speeds[way]):.2f})" for way in ways]
            ratio = middle["store"] / middle["npy"]
            print(f"batch {batch}: {', '.join(told)}, ratio {ratio:.1f}; goal {GOAL_GB_PER_S:.0f} GB/s")


def write_both(folder: Path, config: BenchConfig) -> list[str]:
    """Write the same random maps as a store and as files; return their keys."""
    (folder / "x.grid").mkdir()
    (folder / "npy").mkdir()
    keys = [f"COCO_val2014_{i:012d}" for i in range(config.num_images)]
    index, header = {}, StoreHeader("random")
    generator = torch.Generator().manual_seed(0)
    for start in range(0, len(keys), IMAGES_PER_PART):
        part = keys[start : start + IMAGES_PER_PART]
        name = f"images-{start // IMAGES_PER_PART:05d}.safetensors"
        with StoreWriter(folder / "x.grid" / name, header, grid=True) as writer:
            for key in part:
                grid = torch.rand(config.shape, generator=generator).half()
                writer.add(key, grid)
                np.save(folder / "npy" / f"{key}.npy", grid.permute(1, 2, 0).contiguous().numpy()[None])
        index[name] = tuple(part)
    write_index(folder / "x.grid", header, index)
    return keys


def read_all(folder: Path) -> None:
    """Read every file once."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                while stream.read(1 << 24):
                    pass


def one_by_one(folder: Path, keys: list[str]) -> Tensor:
    """Read files one after the other, (B, h, w, C)."""
    return torch.stack([torch.from_numpy(np.load(folder / f"{key}.npy"))[0] for key in keys])


if __name__ == "__main__":
    main()
