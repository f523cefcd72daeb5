"""Writing a world to disk in the public file formats, and the cached default world."""

import dataclasses
import hashlib
import json
import logging
from pathlib import Path

import numpy as np
from PIL import Image

from vln_clip.envs.demo.config import GENERATOR_VERSION, DemoConfig
from vln_clip.envs.demo.house import CAMERA_M, House, make_house, viewpoint_id
from vln_clip.envs.demo.making import Progress, draft_of, run_jobs
from vln_clip.envs.demo.raycast import make_scene, render_skybox
from vln_clip.envs.demo.rxr_files import write_rxr
from vln_clip.envs.demo.world import PathRecord, World, plan_world
from vln_clip.paths import cache_dir
from vln_clip.tasks.datasets import DATASETS

logger = logging.getLogger(__name__)

# Local axes x-right, y-down, z-forward in world axes (columns): face 3 looks along +y, heading 0.
ROTATION = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))
NUM_DUPLICATES = 2
_JPEG_QUALITY = 88


def build_demo(
    folder: Path, config: DemoConfig, workers: int | None = None, on_progress: Progress | None = None
) -> None:
    """Build a world; the same configuration gives the same bytes whatever the number of workers.

    Args:
        folder: where it shall stand, laid out like ``$VLN_CLIP_DATA``; it appears when it is complete. Where a
            complete one appears meanwhile, that one stays.
        config: what to build.
        workers: processes that draw the pictures; None takes the CPUs of this process.
        on_progress: called with (houses done, houses).

    Raises:
        InputError: the folder cannot be written to, the disk is full, or a process that draws was killed.
    """
    with draft_of(folder, is_complete, "demo world") as draft:
        world = plan_world(config)
        _write_graphs(draft / "connectivity", config.seed, world)
        _write_paths(draft / "R2R", world)
        write_rxr(draft / "RxR", world.rxr)
        for house in world.houses:
            _image_folder(draft, house).mkdir(parents=True)
        jobs = [(_image_folder(draft, house), config.seed, house.number, config.face_px) for house in world.houses]
        run_jobs(_draw_house, jobs, workers, on_progress)


def demo_data(config: DemoConfig | None = None, on_progress: Progress | None = None) -> Path:
    """Return the folder of a world, laid out like ``$VLN_CLIP_DATA``; it is built where the cache lacks it.

    Args:
        config: what to build; None is the default world.
        on_progress: called with (houses done, houses) while it is being built.
    """
    config = config or DemoConfig()
    folder = demo_folder(config)
    if not is_complete(folder):
        logger.info("building the demo world of %d houses in %s", config.num_houses, folder)
        build_demo(folder, config, on_progress=on_progress)
    return folder


def demo_folder(config: DemoConfig | None = None) -> Path:
    """Return where a world stands in the cache, or would stand; None is the default world."""
    text = json.dumps([GENERATOR_VERSION, dataclasses.asdict(config or DemoConfig())], sort_keys=True)
    return cache_dir() / "demo" / hashlib.sha256(text.encode()).hexdigest()[:16]


def is_complete(folder: Path) -> bool:
    """Tell whether a world stands in a folder (it is moved there as a whole)."""
    return (folder / "connectivity" / "scans.txt").exists()


def _image_folder(folder: Path, house: House) -> Path:
    return folder / "scans" / house.scan / "matterport_skybox_images"


def _draw_house(folder: Path, seed: int, number: int, face_px: int) -> None:
    """Draw the skyboxes of one house."""
    house = make_house(seed, number)
    scene = make_scene(house)
    for index, name in enumerate(house.viewpoint_ids):
        for face, image in enumerate(render_skybox(scene, index, face_px)):
            file = folder / f"{name}_skybox{face}_sami.jpg"
            Image.fromarray(image).save(file, quality=_JPEG_QUALITY, subsampling=0)


def _write_graphs(folder: Path, seed: int, world: World) -> None:
    """Write scans.txt and the connectivity files."""
    folder.mkdir()
    for house in world.houses:
        rows = _connectivity(seed, house)
        (folder / f"{house.scan}_connectivity.json").write_text(json.dumps(rows))
    (folder / "scans.txt").write_text("".join(f"{house.scan}\n" for house in world.houses))


def _connectivity(seed: int, house: House) -> list[dict[str, object]]:
    """Return the rows of a connectivity file.

    As in the real files a few rows are overlapping duplicates that are not included: they stand between the
    others, so that who forgets to skip them goes astray.
    """
    num = len(house.points)
    rng = np.random.default_rng([seed, house.number, num])
    copied = rng.choice(num, NUM_DUPLICATES, replace=False)
    order = [(index, True) for index in range(num)]
    for index in copied.tolist():
        order.insert(int(rng.integers(1, len(order))), (index, False))
    sources = np.array([index for index, _ in order])
    joined = house.joined[np.ix_(sources, sources)]
    rows: list[dict[str, object]] = []
    for position, (index, included) in enumerate(order):
        shift = 0.0 if included else 0.07
        x, y = (house.points[index] + shift).tolist()
        name = house.viewpoint_ids[index] if included else viewpoint_id(seed, house.number, 10_000 + position)
        pose = [*ROTATION[0], x, *ROTATION[1], y, *ROTATION[2], CAMERA_M, 0.0, 0.0, 0.0, 1.0]
        links = joined[position].tolist()
        row = {"image_id": name, "pose": pose, "included": included, "visible": links, "unobstructed": links}
        rows.append({**row, "height": CAMERA_M})
    return rows


def _write_paths(folder: Path, world: World) -> None:
    """Write the R2R files and ``aug_paths.json``; the test split shows only where its paths start."""
    folder.mkdir()
    for split, records in world.splits.items():
        rows = [_r2r_row(record, hide_goal=split == "test") for record in records]
        (folder / f"R2R_{split}.json").write_text(json.dumps(rows, indent=1))
    # As in the public file every unlabelled path has one instruction, which nobody reads.
    rows = [_r2r_row(record, hide_goal=False) | {"instructions": [""]} for record in world.unlabelled]
    (folder / DATASETS["demo"].aug_paths).write_text(json.dumps(rows, indent=1))


def _r2r_row(record: PathRecord, hide_goal: bool) -> dict[str, object]:
    """Return one path as the R2R files hold it."""
    return {
        "distance": record.distance,
        "scan": record.scan,
        "path_id": record.path_id,
        "path": list(record.path[:1] if hide_goal else record.path),
        "heading": record.heading,
        "instructions": list(record.instructions),
    }
