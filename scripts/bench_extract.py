"""Measures feature extraction against its encoder alone: ``python scripts/bench_extract.py [--encoder NAME …]``.

Skyboxes are written to a temporary folder (smooth random pictures, JPEG, six faces each). What is timed, in one
process and with random weights: the encoder on random tensors in batches of the same size, before and after; the
program's own extraction of those skyboxes into a feature file, from its start to the finished file; and the time of
each step of preparing one panorama on one core. Extraction can reach the encoder's speed where preparing pictures
hides behind it: beside a GPU in the other cores, on a CPU only as far as it costs little.
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
from PIL import Image

from vln_clip.encoders import Encoder, create_encoder
from vln_clip.extract import Skyboxes, extract_features
from vln_clip.features.extraction import Options, Panorama, fit_views
from vln_clip.features.pipeline import default_workers
from vln_clip.records import NUM_VIEWS

GOALS = {"clip_rn50x4": 0.9, "clip_vit_b32": 0.8}  # share of the bare encoder's speed
ROTATION = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


@dataclass(frozen=True)
class BenchConfig:
    """Compare extraction from skyboxes with the bare encoder."""

    encoders: tuple[str, ...] = tuple(GOALS)
    """encoders, with random weights"""
    viewpoints: int = 0
    """panoramas to extract; 0 takes 4 on a CPU, 400 on a GPU"""
    face_px: int = 1024
    """edge of a skybox face; Matterport3D's are 1024, its strips 512"""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """where the encoder runs"""
    batch_size: int = 0
    """images per forward pass; 0 takes 36 on a CPU, 256 on a GPU"""
    workers: int = -1
    """processes that prepare pictures; -1 takes the program's default"""


def main() -> None:
    """Print a table."""
    config = tyro.cli(BenchConfig)
    on_gpu = torch.device(config.device).type == "cuda"
    count = config.viewpoints or (400 if on_gpu else 4)
    options = Options(batch=config.batch_size or (256 if on_gpu else NUM_VIEWS))
    workers = default_workers(config.device) if config.workers < 0 else config.workers
    where = torch.cuda.get_device_name() if on_gpu else f"{torch.get_num_threads()} threads"
    print(f"{count} panoramas of {config.face_px} px, batch {options.batch}, {workers} workers, {where}")
    with tempfile.TemporaryDirectory() as folder:
        panoramas = write_skyboxes(Path(folder), count, config.face_px)
        for name in config.encoders:
            measure(create_encoder(name, False, config.device), panoramas, options, workers, Path(folder))


def write_skyboxes(folder: Path, count: int, face_px: int) -> list[Panorama]:
    """Write skyboxes of smooth random colors with some noise, so that JPEG has the usual work; a few, used in turn."""
    rng = np.random.default_rng(0)
    names = [f"v{i}" for i in range(count)]
    for name in names[:16]:
        for face in range(6):
            coarse = Image.fromarray(rng.integers(0, 255, (24, 24, 3), np.uint8))
            smooth = np.asarray(coarse.resize((face_px, face_px), Image.Resampling.BICUBIC), np.int16)
            noisy = np.clip(smooth + rng.integers(-12, 12, smooth.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"{name}_skybox{face}_sami.jpg", quality=90)
    for i, name in enumerate(names[16:], 16):
        for face in range(6):
            (folder / f"{name}_skybox{face}_sami.jpg").hardlink_to(folder / f"v{i % 16}_skybox{face}_sami.jpg")
    return [Panorama("bench", name, folder, ROTATION) for name in names]


def measure(encoder: Encoder, panoramas: list[Panorama], options: Options, workers: int, folder: Path) -> None:
    """Measure one encoder and print its lines."""
    passes = max(2, len(panoramas) * NUM_VIEWS // options.batch // 2)  # half of them before, half after
    before = bare_views_s(encoder, options, passes)
    start_s = time.perf_counter()
    out = folder / f"{encoder.name.replace('/', '-')}.safetensors"
    extract_features(encoder, panoramas, out, options, workers=workers)
    ours = len(panoramas) * NUM_VIEWS / (time.perf_counter() - start_s)
    bare = statistics.mean([before, bare_views_s(encoder, options, passes)])
    goal = f" (goal {GOALS[encoder.name]:.0%})" if encoder.name in GOALS else ""
    print(f"{encoder.name}: extraction {ours:.1f} views/s, bare encoder {bare:.1f}: {ours / bare:.1%}{goal}")
    steps = preparation_s(encoder, panoramas[0], options)
    told = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in steps.items())
    print(f"  one panorama: {told} on one core; encoder {NUM_VIEWS / bare:.3f} s")


def bare_views_s(encoder: Encoder, options: Options, passes: int) -> float:
    """Return the images per second of the encoder alone on random tensors, after one pass to warm up."""
    device = next(encoder.parameters()).device
    images = torch.randn(options.batch, 3, *encoder.image_size_px, device=device)
    dtype = options.compute_dtype(device)
    with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):

        def run(times: int) -> float:
            start_s = time.perf_counter()
            for _ in range(times):
                encoder.pooled(images)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            return time.perf_counter() - start_s

        run(1)
        return passes * options.batch / run(passes)


def preparation_s(encoder: Encoder, panorama: Panorama, options: Options) -> dict[str, float]:
    """Return the seconds of each step before the encoder, on one core, the best of three."""
    source, size_px, threads = Skyboxes(), options.size_px(encoder), torch.get_num_threads()
    torch.set_num_threads(1)
    faces = source.load(panorama)
    views = source.draw(faces, panorama, size_px)
    steps: dict[str, Callable[[], object]] = {
        "read": lambda: source.load(panorama),
        "render": lambda: source.draw(faces, panorama, size_px),
        "resize": lambda: fit_views(views, options.transform(encoder), "rgb"),
    }
    times = {name: min(_seconds(step) for _ in range(3)) for name, step in steps.items()}
    torch.set_num_threads(threads)
    return times


def _seconds(step: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    step()
    return time.perf_counter() - start_s


if __name__ == "__main__":
    main()
