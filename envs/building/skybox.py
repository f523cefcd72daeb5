"""Skybox faces out of equirectangular panoramas, written so that a build that was stopped goes on.

Faces stand upright whatever the tilt of the panorama, as in Matterport3D: the pose of a skybox has a heading only.
Each file carries in its JPEG comment what it was made of, and appears under its name only when complete.
"""

import functools
import hashlib
import logging
import math
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vln_clip.envs.building.frames import equirectangular_position, face_rays, level_rotation
from vln_clip.envs.building.panoramas import image_size, read_panorama
from vln_clip.envs.building.poses import PanoramaPose
from vln_clip.errors import InputError
from vln_clip.files import write_atomically
from vln_clip.workers import end_with_parent

logger = logging.getLogger(__name__)

NUM_FACES = 6
MATTERPORT_FACE_PX = 1024
_VERSION = 1  # raise it whenever the same panorama would give other pixels
_JPEG_END = b"\xff\xd9"
_BORDER_PX = 2  # what the cubic filter reads beyond the image


@dataclass(frozen=True)
class SkyboxOptions:
    """How skyboxes are written.

    Attributes:
        face_px: edge of a face; None keeps the panorama's detail, at most 1024 (Matterport3D's).
        strip_px: edge of a face in the strip; larger than the faces means as large as they.
        quality: JPEG quality, 1 to 100.
        files: the six faces, the strip that the batched MatterSim reads, or both.
    """

    face_px: int | None = None
    strip_px: int = 512
    quality: int = 92
    files: Literal["faces", "strip", "both"] = "faces"

    def __post_init__(self) -> None:
        for name, value in (("--size", self.face_px), ("--strip-size", self.strip_px)):
            if value is not None and not 8 <= value <= 8192:
                raise InputError(f"{name} must be 8 to 8192 pixels, got {value}")
        if not 1 <= self.quality <= 100:
            raise InputError(f"--quality must be 1 to 100, got {self.quality}")


@dataclass(frozen=True, eq=False)
class _Job:
    """One viewpoint to write; plain values, as it travels to another process."""

    viewpoint_id: str
    image: Path
    relative: np.ndarray  # (3, 3) skybox to panorama axes
    folder: Path
    face_px: int
    options: SkyboxOptions

    def face_file(self, face: int) -> Path:
        """Return the file of a face."""
        return self.folder / f"{self.viewpoint_id}_skybox{face}_sami.jpg"

    def outputs(self) -> dict[str, Path]:
        """Return the files to write by part: ``0`` to ``5`` and ``strip``."""
        parts = {str(face): self.face_file(face) for face in range(NUM_FACES)}
        strip = {"strip": self.folder / f"{self.viewpoint_id}_skybox_small.jpg"}
        return {"faces": parts, "strip": strip, "both": parts | strip}[self.options.files]

    def signature(self) -> bytes:
        """Return what identifies the content of the files."""
        state = self.image.stat()
        turn = np.round(self.relative, 7) + 0.0  # no negative zeros
        source = (self.image.name, state.st_size, state.st_mtime_ns, turn.tolist())
        strip_px = 0 if self.options.files == "faces" else self.options.strip_px
        made_of = (_VERSION, *source, self.face_px, strip_px, self.options.quality)
        return f"vln_clip scenes {hashlib.sha256(repr(made_of).encode()).hexdigest()[:24]}".encode()


def write_skyboxes(
    folder: Path,
    poses: Sequence[PanoramaPose],
    images: Sequence[Path],
    options: SkyboxOptions | None = None,
    workers: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the skyboxes of a scan.

    Args:
        folder: ``scans/<scan>/matterport_skybox_images``.
        poses: N of them.
        images: the panorama of each.
        options: sizes and files.
        workers: processes.
        on_progress: called with (viewpoints done, viewpoints).

    Returns:
        How many were there already, made from the same images in the same way.

    Raises:
        InputError: an image is half-written, or a file cannot be written; what is finished stays.
    """
    options = options or SkyboxOptions()
    face_px = options.face_px or default_face_px(max(image_size(image)[0] for image in images))
    jobs = [
        _Job(pose.viewpoint_id, image, _relative(pose), folder, face_px, options)
        for pose, image in zip(poses, images, strict=True)
    ]
    _warn_of_older_faces(jobs)
    waiting = [job for job in jobs if not _is_done(job)]
    kept = len(jobs) - len(waiting)
    for count, _ in enumerate(_run(waiting, workers), start=kept + 1):
        if on_progress:
            on_progress(count, len(jobs))
    return kept


def default_face_px(width_px: int) -> int:
    """Return the edge of a face as sharp in its middle as a panorama of this width, even, at most 1024."""
    return min(MATTERPORT_FACE_PX, max(8, 2 * math.ceil(width_px / math.pi / 2)))


def skybox_rotation(pose: PanoramaPose) -> np.ndarray:
    """Return the rotation of a viewpoint's skybox, (3, 3): the panorama's heading, upright."""
    return level_rotation(pose.heading_rad)


def to_faces(panorama: np.ndarray, relative: np.ndarray, face_px: int) -> np.ndarray:
    """Resample an equirectangular picture into six faces: area-averaged where it is finer, then a cubic filter.

    Args:
        panorama: (H, W, 3) uint8, W = 2H.
        relative: (3, 3) rotation from skybox axes to the panorama's.
        face_px: edge S of a face.

    Returns:
        (6, S, S, 3) uint8.
    """
    panorama = _reduced(panorama, face_px)
    height_px, width_px, _ = panorama.shape
    finer = 2 if width_px > 1.25 * math.pi * face_px else 1  # else detail between samples would be lost
    texture = _wrap(torch.tensor(panorama).permute(2, 0, 1)[None].float())
    rows = tuple(np.round(relative, 12).reshape(9).tolist())
    faces = []
    for face in range(NUM_FACES):
        grid = _sampling_grid(rows, face, face_px * finer, width_px, height_px)
        drawn = F.grid_sample(texture, grid, mode="bicubic", padding_mode="border", align_corners=False)
        drawn = F.avg_pool2d(drawn, finer) if finer > 1 else drawn  # (1, 3, S, S)
        faces.append(drawn[0].round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0))
    return torch.stack(faces).numpy()


def _relative(pose: PanoramaPose) -> np.ndarray:
    return pose.rotation.T @ skybox_rotation(pose)


def _reduced(panorama: np.ndarray, face_px: int) -> np.ndarray:
    """Area-average a picture by the largest whole factor that keeps the detail of a face and the shape 2:1."""
    width_px = panorama.shape[1]
    factor = max(1, int(width_px / (math.pi * face_px)))
    while width_px % (2 * factor):
        factor -= 1
    return np.asarray(Image.fromarray(panorama).reduce(factor)) if factor > 1 else panorama


def _wrap(image: Tensor) -> Tensor:
    """Continue a picture over its left and right edge and over its poles, (1, 3, H + 4, W + 4)."""
    half = image.shape[-1] // 2
    above = image[:, :, :_BORDER_PX].flip(2).roll(half, dims=3)
    below = image[:, :, -_BORDER_PX:].flip(2).roll(half, dims=3)
    tall = torch.cat([above, image, below], dim=2)
    return torch.cat([tall[..., -_BORDER_PX:], tall, tall[..., :_BORDER_PX]], dim=3)


@functools.lru_cache(maxsize=NUM_FACES)
def _sampling_grid(relative: tuple[float, ...], face: int, face_px: int, width_px: int, height_px: int) -> Tensor:
    """Compute where the pixels of a face read the texture of ``_wrap``, (1, S, S, 2) float32 for ``grid_sample``."""
    rays = face_rays(face, face_px) @ np.array(relative).reshape(3, 3).T
    size = np.array([width_px, height_px])
    place = (equirectangular_position(rays) * size + _BORDER_PX) / (size + 2 * _BORDER_PX) * 2 - 1
    return torch.from_numpy(place[None].astype(np.float32))


def _warn_of_older_faces(jobs: Sequence[_Job]) -> None:
    """Say when faces lie beside a strip that alone is written: readers take the faces first."""
    older = [job for job in jobs if job.options.files == "strip" and job.face_file(0).exists()]
    if older:
        logger.warning(
            "%d viewpoints have faces of another build in %s, which are read in place of the strips; delete them, or "
            "write both with --files both", len(older), older[0].folder,
        )  # fmt: skip


def _is_done(job: _Job) -> bool:
    """Tell whether every file of a viewpoint is there to its end, made of the same image in the same way."""
    signature = job.signature()
    try:
        for file in job.outputs().values():
            with file.open("rb") as stream, Image.open(stream) as image:
                same = image.info.get("comment") == signature
                stream.seek(-len(_JPEG_END), os.SEEK_END)
                if not same or stream.read() != _JPEG_END:
                    return False
    except OSError:
        return False
    return True


def _run(jobs: Sequence[_Job], workers: int) -> Iterator[str]:
    """Write viewpoints, in processes where there is more than one worker; yields ids as they are done."""
    if workers <= 1 or len(jobs) <= 1:
        yield from map(_write, jobs)
        return
    # Forked processes start at once; each works with one thread, as the workers of torch's data loaders do.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
        with ProcessPoolExecutor(min(workers, len(jobs)), context, _start_worker, (os.getpid(),)) as pool:
            futures = [pool.submit(_write, job) for job in jobs]
            try:
                for future in as_completed(futures):
                    yield future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _start_worker(parent: int) -> None:
    """Prepare a process: one thread, and an interruption is the parent's to handle, so that no file is lost half."""
    end_with_parent(parent)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write(job: _Job) -> str:
    """Write the files of one viewpoint and return its id."""
    faces = to_faces(read_panorama(job.image), job.relative, job.face_px)
    signature = job.signature()
    for part, file in job.outputs().items():
        picture = _strip(faces, job.options.strip_px) if part == "strip" else Image.fromarray(faces[int(part)])
        save = functools.partial(
            picture.save, format="JPEG", quality=job.options.quality, subsampling=0, comment=signature
        )
        write_atomically(file, save)
    return job.viewpoint_id


def _strip(faces: np.ndarray, strip_px: int) -> Image.Image:
    """Put the six faces side by side, area-averaged to ``strip_px`` where they are larger."""
    size = min(strip_px, faces.shape[1])
    strip = Image.new("RGB", (NUM_FACES * size, size))
    for number, face in enumerate(faces):
        strip.paste(Image.fromarray(face).resize((size, size), Image.Resampling.BOX), (number * size, 0))
    return strip


def num_cpus() -> int:
    """Return the CPUs of this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
