"""Result files in the format of the COCO captioning server: ``[{"image_id": int, "caption": str}]``."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from vln_clip.errors import InputError
from vln_clip.files import save_json
from vln_clip.limits import MAX_CAPTION_CHARS
from vln_clip.reading import read_json
from vln_clip.tasks.captioning.words import split_words
from vln_clip.tasks.problems import DUPLICATE, MALFORMED, MISSING, UNKNOWN, Problem, require_none

EMPTY = "empty captions"
NAME = "names that the server does not know"
SERVER_NAME = re.compile(r"captions_(val2014|test2014)_[A-Za-z0-9-]+_results\.json")
NUM_NAMED = 3


def write_results(path: Path, captions: Mapping[int, str]) -> None:
    """Write a result file, by ascending image id."""
    save_json(
        path, [{"image_id": image_id, "caption": captions[image_id]} for image_id in sorted(captions)], indent=None
    )


def read_results(path: Path) -> dict[int, str]:
    """Read the captions of a result file by image id; other keys of its items are ignored.

    Raises:
        InputError: missing or malformed file, or an image that has two captions.
    """
    captions, problems = _read(path)
    require_none(problems)
    return captions


def validate_results(path: Path, image_ids: Collection[int]) -> tuple[list[Problem], list[Problem]]:
    """Check that a result file has one caption with words for every image.

    Args:
        path: the file.
        image_ids: of the split.

    Returns:
        Problems, and warnings about what a server may not take.

    Raises:
        InputError: missing file, or no JSON list.
    """
    captions, problems = _read(path)
    known = set(image_ids)
    problems += _group(path, UNKNOWN, "image ids must be of the split", [i for i in captions if i not in known])
    problems += _group(path, MISSING, "every image must have a caption", sorted(known - captions.keys()))
    empty = [i for i, caption in captions.items() if not split_words(caption)]
    problems += _group(path, EMPTY, "every caption must have words", empty)
    warnings = []
    if not SERVER_NAME.fullmatch(path.name):
        wanted = "captions_{val2014,test2014}_<name>_results.json"
        warnings.append(Problem(NAME, f"the COCO server takes files named {wanted}, got {path.name!r:.80}", str(path)))
    return problems, warnings


def _read(path: Path) -> tuple[dict[int, str], list[Problem]]:
    """Return the captions that are well-formed, and what is wrong with the other items."""
    content = read_json(path)
    if not isinstance(content, list):
        raise InputError(f"file {path} must be a JSON list of objects with 'image_id' and 'caption'")
    captions: dict[int, str] = {}
    problems = []
    for number, item in enumerate(content):
        place = f"{path}: item {number}"
        fault = _fault(item)
        if fault:
            problems.append(Problem(MALFORMED, fault, place, row=number))
        elif item["image_id"] in captions:
            message = f"every image must have one caption, got image_id {item['image_id']} again"
            problems.append(Problem(DUPLICATE, message, place, row=number))
        else:
            captions[item["image_id"]] = item["caption"]
    return captions, problems


def _fault(item: object) -> str:
    """Return what is wrong with an item, empty for nothing."""
    if not isinstance(item, dict):
        return f"items must be objects with 'image_id' and 'caption', got {item!r:.60}"
    image_id, caption = item.get("image_id"), item.get("caption")
    if type(image_id) is not int or not 0 <= image_id < 1 << 63:
        return f"image_id must be a whole number from 0 to 2^63, got {image_id!r:.40}"
    if not isinstance(caption, str):
        return f"caption must be a text, got {caption!r:.60}"
    if len(caption) > MAX_CAPTION_CHARS:
        return f"caption must have at most {MAX_CAPTION_CHARS:,} characters, got {len(caption):,}"
    return ""


def _group(path: Path, kind: str, rule: str, image_ids: list[int]) -> list[Problem]:
    """Return one problem for all images with the same fault, or none."""
    if not image_ids:
        return []
    named = ", ".join(map(str, image_ids[:NUM_NAMED])) + (", …" if len(image_ids) > NUM_NAMED else "")
    message = f"{rule}, got {len(image_ids):,} where it is not so: {named}"
    return [Problem(kind, message, str(path), tuple(map(str, image_ids)))]
