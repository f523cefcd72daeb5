"""Drawing the pictures of all splits, picking questions and writing everything; the cached default set."""

import dataclasses
import hashlib
import json
import logging
from pathlib import Path

import numpy as np
from PIL import Image

from vln_clip.envs.demo.config import GENERATOR_VERSION
from vln_clip.envs.demo.making import Progress, draft_of, run_jobs
from vln_clip.envs.demo.pictures import files
from vln_clip.envs.demo.pictures.asking import candidates
from vln_clip.envs.demo.pictures.balance import pick
from vln_clip.envs.demo.pictures.captions import captions
from vln_clip.envs.demo.pictures.config import PICTURES_VERSION, PicturesConfig
from vln_clip.envs.demo.pictures.seen import Facts
from vln_clip.envs.demo.pictures.views import draw_pictures
from vln_clip.paths import cache_dir

logger = logging.getLogger(__name__)

_JPEG_QUALITY = 90
_PICK_SEED = 1_000_117


def demo_pictures(config: PicturesConfig | None = None, on_progress: Progress | None = None) -> Path:
    """Return the folder of the demo pictures with questions and captions; it is built where the cache lacks it.

    Args:
        config: what to build; None is the default set.
        on_progress: called with (houses done, houses) while it is being built.

    Returns:
        A folder with ``VQA/`` and ``COCO/``, laid out like ``$VLN_CLIP_DATA``.
    """
    config = config or PicturesConfig()
    folder = demo_pictures_folder(config)
    if not is_complete(folder):
        logger.info("drawing the demo pictures of %d houses in %s", config.num_houses, folder)
        build_pictures(folder, config, on_progress=on_progress)
    return folder


def demo_pictures_folder(config: PicturesConfig | None = None) -> Path:
    """Return where the pictures stand in the cache, or would stand; None is the default set."""
    fields = dataclasses.asdict(config or PicturesConfig())
    text = json.dumps([GENERATOR_VERSION, PICTURES_VERSION, fields], sort_keys=True)
    return cache_dir() / "demo" / f"pictures-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def is_complete(folder: Path) -> bool:
    """Tell whether the pictures stand in a folder (it is moved there as a whole)."""
    return (folder / files.KARPATHY).exists()


def build_pictures(
    folder: Path, config: PicturesConfig, workers: int | None = None, on_progress: Progress | None = None
) -> None:
    """Build the pictures; the same configuration gives the same bytes whatever the number of workers.

    Args:
        folder: where they shall stand; it appears when it is complete. Where a complete one appears meanwhile, that
            one stays.
        config: what to build.
        workers: processes that draw; None takes the CPUs of this process.
        on_progress: called with (houses done, houses).
    """
    with draft_of(folder, is_complete, "demo pictures") as draft:
        for split in files.SPLITS:
            _images(draft, split).mkdir(parents=True)
        houses = [(split, number) for split in files.SPLITS for number in houses_of(config, split)]
        jobs = [(_images(draft, split), config, split, number) for split, number in houses]
        drawn = run_jobs(_draw_house, jobs, workers, on_progress)
        facts: dict[str, dict[int, tuple[Facts, ...]]] = {split: {} for split in files.SPLITS}
        for (split, number), seen in zip(houses, drawn, strict=True):
            facts[split][number] = seen
        _write_questions(draft, config, facts)
        _write_captions(draft, config, facts)


def houses_of(config: PicturesConfig, split: str) -> range:
    """Return the numbers of the houses of a split, one of ``files.SPLITS``."""
    last_val = config.num_train_houses + config.num_val_houses
    return {
        "train2014": range(config.num_train_houses),
        "val2014": range(config.num_train_houses, last_val),
        "test2015": range(last_val, config.num_houses),
    }[split]


def _images(folder: Path, split: str) -> Path:
    return folder / "COCO" / "images" / split


def _draw_house(folder: Path, config: PicturesConfig, split: str, number: int) -> tuple[Facts, ...]:
    """Draw the pictures of one house and return what they show."""
    facts = []
    for picture in draw_pictures(config, number):
        file = folder / files.image_name(split, picture.facts.image_id)
        Image.fromarray(picture.rgb).save(file, quality=_JPEG_QUALITY, subsampling=0)
        facts.append(picture.facts)
    return tuple(facts)


def _write_questions(folder: Path, config: PicturesConfig, facts: dict[str, dict[int, tuple[Facts, ...]]]) -> None:
    """Pick and write the questions of every split."""
    for index, (split, houses) in enumerate(facts.items()):
        pictures = [seen for house in houses.values() for seen in house]
        found = [candidate for seen in pictures for candidate in candidates(config.seed, seen)]
        rng = np.random.default_rng([config.seed, index, _PICK_SEED])
        picked = pick(rng, found, config.questions_per_picture * len(pictures))
        files.write_questions(folder, config, split, picked)


def _write_captions(folder: Path, config: PicturesConfig, facts: dict[str, dict[int, tuple[Facts, ...]]]) -> None:
    """Write the captions; Karpathy's val and test splits are halves of the houses of val2014."""
    texts = {
        number: {seen.image_id: captions(config.seed, seen) for seen in house}
        for split in ("train2014", "val2014")
        for number, house in facts[split].items()
    }

    def of(numbers: range) -> dict[int, list[str]]:
        return {image_id: group for number in numbers for image_id, group in texts[number].items()}

    train, val = houses_of(config, "train2014"), houses_of(config, "val2014")
    files.write_captions(folder, config, "train2014", of(train), start=1)
    files.write_captions(folder, config, "val2014", of(val), start=1 + 5 * len(of(train)))
    test_ids = [seen.image_id for house in facts["test2015"].values() for seen in house]
    files.write_test_images(folder, config, "test2015", test_ids)
    middle = len(val) // 2
    halves = {"val": of(val[:middle]), "test": of(val[middle:])}
    files.write_karpathy(folder, {"train2014": {"train": of(train)}, "val2014": halves})
