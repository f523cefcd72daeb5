"""Drawing the pictures of all splits and having everything written; the cached default set."""

import dataclasses
import hashlib
import json
import logging
from pathlib import Path

from PIL import Image

from vln_clip.envs.demo.config import GENERATOR_VERSION
from vln_clip.envs.demo.making import Progress, draft_of, run_jobs
from vln_clip.envs.demo.pictures import files
from vln_clip.envs.demo.pictures.annotations import FactsByHouse, write_annotations
from vln_clip.envs.demo.pictures.config import PICTURES_VERSION, PicturesConfig
from vln_clip.envs.demo.pictures.seen import Facts
from vln_clip.envs.demo.pictures.views import draw_pictures
from vln_clip.paths import cache_dir

logger = logging.getLogger(__name__)

_JPEG_QUALITY = 90


def demo_pictures(config: PicturesConfig | None = None, on_progress: Progress | None = None) -> Path:
    """Return the folder of the demo pictures with questions and captions; it is built where the cache lacks it.

    Args:
        config: what to build; None is the default set.
        on_progress: called with (houses done, houses) while it is being built.

    Returns:
        A folder with ``VQA/``, ``COCO/``, ``GQA/``, ``SNLI-VE/``, ``flickr30k/`` and ``lxmert/``, laid out like
        ``$VLN_CLIP_DATA``.
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
            files.images_of(draft, split).mkdir(parents=True)
        houses = [(split, number) for split in files.SPLITS for number in config.houses_of(split)]
        jobs = [(files.images_of(draft, split), config, split, number) for split, number in houses]
        drawn = run_jobs(_draw_house, jobs, workers, on_progress)
        facts: FactsByHouse = {split: {} for split in files.SPLITS}
        for (split, number), seen in zip(houses, drawn, strict=True):
            facts[split][number] = seen
        write_annotations(draft, config, facts)


def _draw_house(folder: Path, config: PicturesConfig, split: str, number: int) -> tuple[Facts, ...]:
    """Draw the pictures of one house and return what they show."""
    facts = []
    for picture in draw_pictures(config, number):
        file = folder / files.image_name(split, picture.facts.image_id)
        Image.fromarray(picture.rgb).save(file, quality=_JPEG_QUALITY, subsampling=0)
        facts.append(picture.facts)
    return tuple(facts)
