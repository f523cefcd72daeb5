"""Writing a world to disk in the public file formats, and the cached default world."""

import dataclasses
import hashlib
import json
import logging
import multiprocessing
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from PIL import Image

from vln_clip.envs.demo.config import GENERATOR_VERSION, DemoConfig
from vln_clip.envs.demo.house import CAMERA_M, House, make_house, viewpoint_id
from vln_clip.envs.demo.raycast import make_scene, render_skybox
from vln_clip.envs.demo.rxr_files import write_rxr
from vln_clip.envs.demo.world import PathRecord, World, plan_world
from vln_clip.errors import InputError
from vln_clip.files import unwritable
from vln_clip.paths import cache_dir
from vln_clip.tasks.datasets import DATASETS
from vln_clip.workers import end_with_parent

logger = logging.getLogger(__name__)

# Local axes x-right, y-down, z-forward in world axes (columns): face 3 looks along +y, heading 0.
ROTATION = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))
NUM_DUPLICATES = 2
_JPEG_QUALITY = 88

Progress = Callable[[int, int], None]


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
    try:
        _build(folder, config, workers, on_progress)
    except OSError as error:
        raise unwritable(folder, error.strerror or error, "demo world") from None
    except BrokenProcessPool:
        raise InputError(
            f"demo world {folder} cannot be built: a process that draws its pictures was killed (out of memory?); "
            "give the same command where there is more memory, or with fewer CPUs (taskset)"
        ) from None


def _build(folder: Path, config: DemoConfig, workers: int | None, on_progress: Progress | None) -> None:
    """Build a world beside its folder and put it in place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        world = plan_world(config)
        _write_graphs(draft / "connectivity", config.seed, world)
        _write_paths(draft / "R2R", world)
        write_rxr(draft / "RxR", world.rxr)
        for house in world.houses:
            _image_folder(draft, house).mkdir(parents=True)
        _draw_all(draft, config, world, workers or _num_cpus(), on_progress)
        draft.chmod(0o755)
        if hasattr(os, "sync"):
            os.sync()  # a power failure must not leave the name of a world with empty pictures
        try:
            draft.rename(folder)
        except OSError:
            if not is_complete(folder):
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


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


def _num_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _image_folder(folder: Path, house: House) -> Path:
    return folder / "scans" / house.scan / "matterport_skybox_images"


def _draw_all(folder: Path, config: DemoConfig, world: World, workers: int, on_progress: Progress | None) -> None:
    """Draw the skyboxes of every house, in processes where there is more than one worker."""
    total = len(world.houses)
    jobs = [(_image_folder(folder, house), config.seed, house.number, config.face_px) for house in world.houses]
    if workers == 1 or total == 1:
        _count((_draw_house(*job) for job in jobs), total, on_progress)
        return
    # Forked processes start at once; drawing needs neither torch nor a device.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
        with ProcessPoolExecutor(min(workers, total), context, end_with_parent, (os.getpid(),)) as pool:
            futures = [pool.submit(_draw_house, *job) for job in jobs]
            try:
                _count((future.result() for future in as_completed(futures)), total, on_progress)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _count(done: Iterable[int], total: int, on_progress: Progress | None) -> None:
    """Run through the jobs and report progress."""
    for index, _ in enumerate(done, start=1):
        if on_progress:
            on_progress(index, total)


def _draw_house(folder: Path, seed: int, number: int, face_px: int) -> int:
    """Draw the skyboxes of one house and return its number."""
    house = make_house(seed, number)
    scene = make_scene(house)
    for index, name in enumerate(house.viewpoint_ids):
        for face, image in enumerate(render_skybox(scene, index, face_px)):
            file = folder / f"{name}_skybox{face}_sami.jpg"
            Image.fromarray(image).save(file, quality=_JPEG_QUALITY, subsampling=0)
    return number


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
