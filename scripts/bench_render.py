"""Measures frames per second of the renderer: ``python scripts/bench_render.py [--seconds 2]``.

Rows: views of single poses (as a simulator asks for them), of 36 poses at once (as feature extraction does), in two
sizes, with decoded faces kept and with the JPEG files decoded for every panorama. Every panorama has its own
rotation, as in Matterport3D; ``same pose`` repeats one. Beside it, in the same run, the first version of this
renderer (sampling grid in float64, ``grid_sample`` on float32) and the reference simulator's figure (software GL,
640 x 480, 2 cores, images kept).
"""

import itertools
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vln_clip.envs.render import load_skybox, render_views
from vln_clip.envs.warp import opencv
from vln_clip.records import NUM_VIEWS, VIEW_VFOV_RAD, view_elevation_rad, view_heading_rad

SIMULATOR_FPS = 490.0
WINDOWS = 8
LEVEL = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
HEADINGS = [view_heading_rad(view) for view in range(NUM_VIEWS)]
ELEVATIONS = [view_elevation_rad(view) for view in range(NUM_VIEWS)]
Renderer = Callable[[Tensor, np.ndarray, list[float], list[float], int, int], Tensor]


@dataclass(frozen=True)
class BenchConfig:
    """Measure frames per second of the renderer beside its first version and the reference simulator."""

    seconds: float = 2.0
    """time per figure, in windows of which the best counts"""
    face_px: int = 512
    """edge of a face"""
    threads: int = 2
    """processor threads of OpenCV and torch"""


def main() -> None:
    """Print a table of frames per second."""
    config = tyro.cli(BenchConfig)
    torch.set_num_threads(config.threads)
    cv2 = opencv()
    if cv2:
        cv2.setNumThreads(config.threads)
    drawer = f"OpenCV {cv2.__version__}" if cv2 else "torch"
    print(
        f"CPU views by {drawer}, {config.threads} threads; faces {config.face_px} px; "
        f"reference simulator {SIMULATOR_FPS:.0f} frames/s at 640x480"
    )
    with tempfile.TemporaryDirectory() as folder:
        write_skybox(Path(folder), config.face_px)
        for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
            for name, fps, first_fps in measure(Path(folder), device, config.seconds):
                ratio = f"{fps / first_fps:6.1f} x the first version ({first_fps:.0f}/s)" if first_fps else ""
                against = f"{fps / SIMULATOR_FPS:5.2f} x the simulator" if "640x480" in name else ""
                print(f"{device:5}{name:44}{fps:9.0f} frames/s  {ratio:40}  {against}".rstrip())


def measure(folder: Path, device: str, seconds: float) -> list[tuple[str, float, float]]:
    """Measure every row.

    Args:
        folder: of ``write_skybox``.
        device: where faces lie and views are drawn.
        seconds: time per measurement.

    Returns:
        Name, frames per second, frames per second of the first version (0 where it is not measured).
    """
    faces = load_skybox(folder, "0").to(device)
    poses = turned_rotations()
    rows = []
    for width, height in ((640, 480), (128, 96)):
        for kind, headings, elevations in (
            ("36 views", HEADINGS, ELEVATIONS),
            ("1 view", HEADINGS[:1], ELEVATIONS[:1]),
        ):

            def frames(draw: Renderer, same: bool = False) -> float:
                rotations = itertools.repeat(LEVEL) if same else itertools.cycle(poses)
                step = lambda: draw(faces, next(rotations), headings, elevations, width, height)  # noqa: B023, E731
                return len(headings) * rate(step, seconds, device)  # noqa: B023

            rows.append((f"{width}x{height}, {kind}, decoded", frames(render_views), frames(first_version)))
            rows.append((f"{width}x{height}, {kind}, decoded, same pose", frames(render_views, True), 0.0))

    def decode_and_draw() -> None:
        render_views(load_skybox(folder, "0").to(device), next(cycle), HEADINGS, ELEVATIONS)

    cycle = itertools.cycle(poses)
    rows.append(
        ("640x480, 36 views, JPEG files read each time", NUM_VIEWS * rate(decode_and_draw, seconds, device), 0.0)
    )
    rows.append(("panoramas, JPEG files only read", rate(lambda: load_skybox(folder, "0"), seconds, device), 0.0))
    return rows


def rate(step: Callable[[], object], seconds: float, device: str) -> float:
    """Return calls per second in the best of a few windows: other programs on the machine only slow it down."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    step()
    wait()
    rates = []
    for _ in range(WINDOWS):
        began, calls = time.perf_counter(), 0
        while calls == 0 or time.perf_counter() - began < seconds / WINDOWS:
            step()
            wait()
            calls += 1
        rates.append(calls / (time.perf_counter() - began))
    return max(rates)


def turned_rotations(count: int = 50) -> list[np.ndarray]:
    """Return rotations of upright cameras that are turned by different angles and a little tilted."""
    turned = []
    for angle in np.linspace(0, 2 * math.pi, count, endpoint=False):
        cos, sin, tilt = math.cos(angle), math.sin(angle), 0.01 * math.sin(3 * angle)
        about_z = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
        about_x = np.array(
            [[1.0, 0.0, 0.0], [0.0, math.cos(tilt), -math.sin(tilt)], [0.0, math.sin(tilt), math.cos(tilt)]]
        )
        turned.append(about_z @ about_x @ LEVEL)
    return turned


def write_skybox(folder: Path, face_px: int) -> None:
    """Write six JPEG faces with blobs of random colors."""
    blobs = torch.randint(0, 256, (6, 3, 24, 24), generator=torch.Generator().manual_seed(0)).float()
    faces = F.interpolate(blobs, size=(face_px, face_px), mode="bilinear").permute(0, 2, 3, 1).byte()
    for face, image in enumerate(faces):
        Image.fromarray(image.numpy()).save(folder / f"0_skybox{face}_sami.jpg", quality=90)


def first_version(
    faces: Tensor, rotation: np.ndarray, headings: list[float], elevations: list[float], width: int, height: int
) -> Tensor:
    """Draw as the first version of the renderer did; its cache of grids never met a rotation again."""
    texture = F.pad(faces.permute(0, 3, 1, 2).float(), (1, 1, 1, 1), mode="replicate")
    texture = texture.transpose(0, 1).reshape(1, 3, -1, texture.shape[-1])
    chunk = max(1, 1_000_000 // (width * height))
    pieces = []
    for first in range(0, len(headings), chunk):
        angles = torch.tensor([headings[first : first + chunk], elevations[first : first + chunk]], dtype=torch.float64)
        grid = first_grid(rotation, angles, width, height, faces.shape[1]).float().to(faces.device)
        source = texture.expand(len(grid), -1, -1, -1)
        image = F.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=False)
        pieces.append(image.round_().to(torch.uint8).permute(0, 2, 3, 1))
    return torch.cat(pieces).contiguous()


def first_grid(rotation: np.ndarray, angles: Tensor, width: int, height: int, size: int) -> Tensor:
    """Compute the sampling grid of the first version, (V, H, W, 2) float64; angles are (2, V)."""
    tangent = math.tan(VIEW_VFOV_RAD / 2)
    columns = (2 * (torch.arange(width, dtype=torch.float64) + 0.5) / width - 1) * width / height * tangent
    rows = (1 - 2 * (torch.arange(height, dtype=torch.float64) + 0.5) / height) * tangent
    (sin_h, sin_e), (cos_h, cos_e) = angles.sin(), angles.cos()
    forward = torch.stack([sin_h * cos_e, cos_h * cos_e, sin_e], dim=-1)[:, None, None]
    right = torch.stack([cos_h, -sin_h, torch.zeros_like(sin_h)], dim=-1)[:, None, None]
    up = torch.linalg.cross(right, forward)
    rays = (forward + columns[:, None] * right + rows[:, None, None] * up) @ torch.from_numpy(rotation)
    x, y, z = rays.unbind(-1)
    largest, axis = rays.abs().max(dim=-1)
    positive = rays.gather(-1, axis[..., None])[..., 0] > 0
    sign = torch.where(positive, 1.0, -1.0).double()
    on_x, on_y = axis == 0, axis == 1
    face = torch.where(positive, torch.tensor([4, 5, 3])[axis], torch.tensor([2, 0, 1])[axis])
    s = torch.where(on_x, -sign * z, torch.where(on_y, -x, sign * x)) / largest
    t = torch.where(on_y, sign * z, y) / largest
    padded = size + 2
    row = (t + 1) / 2 * size + 1 + face * padded
    return torch.stack([((s + 1) / 2 * size + 1) * 2 / padded - 1, row * 2 / (6 * padded) - 1], dim=-1)


if __name__ == "__main__":
    main()
