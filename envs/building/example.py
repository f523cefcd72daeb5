"""A building to try: one house of the demo world as a visitor with a panorama camera would bring it home.

Writes ``panoramas/*.jpg``, ``depth/*.png`` and ``poses.csv``. Each panorama is turned another way, and the camera
hangs a little askew, as real ones do, so that what is built out of it shows whether the poses are understood.
"""

import csv
import functools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vln_clip.envs.building.frames import FACE_AXES, equirectangular_rays, level_rotation, tilted_rotation
from vln_clip.envs.demo.config import DemoConfig
from vln_clip.envs.demo.house import CAMERA_M, House, make_house
from vln_clip.envs.demo.raycast import Scene, make_scene, render_skybox, skybox_range
from vln_clip.envs.render import render_equirectangular
from vln_clip.errors import InputError
from vln_clip.files import write_atomically

DEPTH_UNIT_M = 0.00025
_TILT_RAD = math.radians(3)
_JPEG_QUALITY = 92
_MAX_WIDTH_PX = 4096  # Matterport3D's faces of 1024 pixels need 1024 π; drawing takes over 1 GB per thread here
COLUMNS = ("image", "x_m", "y_m", "z_m", "heading_deg", "pitch_deg", "roll_deg", "camera_height_m")


def write_example(
    folder: Path,
    house: int = 0,
    width_px: int = 1024,
    workers: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write panoramas, depth and poses of one demo house.

    Args:
        folder: where to.
        house: number of the house in the demo world.
        width_px: width of a panorama, a multiple of 4 from 64 to 4096.
        workers: threads.
        on_progress: called with (panoramas done, panoramas).

    Returns:
        The number of panoramas.
    """
    if house < 0:
        raise InputError(f"--house must be at least 0, got {house}")
    if not 64 <= width_px <= _MAX_WIDTH_PX or width_px % 4:
        raise InputError(f"--width must be a multiple of 4 from 64 to {_MAX_WIDTH_PX} pixels, got {width_px}")
    plan = make_house(DemoConfig().seed, house)
    scene = make_scene(plan)
    turns = np.random.default_rng([house, 7]).uniform((0, -1, -1), (2 * math.pi, 1, 1), (len(plan.points), 3))
    turns[:, 1:] *= _TILT_RAD
    rows = list(_table(plan, turns))
    draw = functools.partial(_write_panorama, folder, scene, turns, width_px)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for count, _ in enumerate(pool.map(draw, range(len(rows))), start=1):
            if on_progress:
                on_progress(count, len(rows))
    write_atomically(folder / "poses.csv", functools.partial(_write_table, rows))
    return len(rows)


def _face_pixels(rays: np.ndarray, size_px: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the face that rays (skybox axes) hit, and row and column there, pixel centers at whole numbers."""
    along = rays @ FACE_AXES.reshape(18, 3).T  # (..., 18): right, down, out of each face
    along = along.reshape(*rays.shape[:-1], 6, 3)
    face = along[..., 2].argmax(axis=-1)
    right, down, out = np.moveaxis(np.take_along_axis(along, face[..., None, None], axis=-2)[..., 0, :], -1, 0)
    return face, (down / out + 1) / 2 * size_px - 0.5, (right / out + 1) / 2 * size_px - 0.5


def _table(house: House, turns: np.ndarray) -> Iterator[dict[str, str]]:
    """Yield the rows of the table of poses."""
    for index, ((x, y), (heading, pitch, roll)) in enumerate(zip(house.points.tolist(), turns.tolist(), strict=True)):
        angles = (f"{math.degrees(angle):.4f}" for angle in (heading, pitch, roll))
        values = (f"pano-{index:03d}.jpg", f"{x:.4f}", f"{y:.4f}", f"{CAMERA_M:.4f}", *angles, f"{CAMERA_M:.2f}")
        yield dict(zip(COLUMNS, values, strict=True))


def _write_table(rows: list[dict[str, str]], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _write_panorama(folder: Path, scene: Scene, turns: np.ndarray, width_px: int, index: int) -> None:
    """Draw one panorama and its depth."""
    # The world is turned so that its heading 0, the middle of the picture, is where the camera looks.
    turned = level_rotation(0) @ tilted_rotation(*turns[index].tolist()).T @ level_rotation(0)
    size_px = width_px // 16 * 6  # sharper than the panorama, whose W pixels go round: a face needs W / π
    faces = torch.from_numpy(render_skybox(scene, index, size_px))
    picture = Image.fromarray(render_equirectangular(faces, turned, width_px).numpy())
    save = functools.partial(picture.save, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)
    write_atomically(folder / "panoramas" / f"pano-{index:03d}.jpg", save)
    face, row, column = _face_pixels(equirectangular_rays(width_px) @ level_rotation(0).T @ turned, size_px)
    row, column = (np.clip(np.rint(place), 0, size_px - 1).astype(int) for place in (row, column))
    units = np.clip(skybox_range(scene, index, size_px)[face, row, column] / DEPTH_UNIT_M, 1, 65535)
    depth = Image.fromarray(units.round().astype(np.uint16))
    write_atomically(folder / "depth" / f"pano-{index:03d}.png", functools.partial(depth.save, format="PNG"))
