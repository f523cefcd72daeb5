"""Visual Genome's own files: a list of images with the phrases of their regions, or with questions and answers."""

import sys
from collections.abc import Iterator
from pathlib import Path

from vln_clip.errors import InputError
from vln_clip.tasks.pretraining.records import Pair
from vln_clip.tasks.vqa.documents import number, objects, text
from vln_clip.tasks.vqa.questions import shown


def read_regions(path: Path) -> Iterator[Pair]:
    """Yield the phrase of every region of ``region_descriptions.json`` with its image; the region is not kept.

    Raises:
        InputError: missing or malformed file.
    """
    for image, where, region in _items(path, "regions"):
        yield Pair(image, text(region, "phrase", where))


def read_questions(path: Path) -> Iterator[Pair]:
    """Yield every question of ``question_answers.json`` with its image and its one answer.

    Raises:
        InputError: missing or malformed file.
    """
    for image, where, asked in _items(path, "qas"):
        yield Pair(image, text(asked, "question", where), {sys.intern(text(asked, "answer", where)): 1.0})


def _items(path: Path, name: str) -> Iterator[tuple[str, str, dict]]:
    """Yield key of the image, place and content of the items that images have."""
    for where, image in objects(path):
        key, items = str(number(image, "id", where)), image.get(name)
        if not isinstance(items, list):
            found = ", ".join(f"{member:.40}" for member in list(image)[:8])
            raise InputError(
                f"{where} must have the list {name!r}, got the members {found}; is it such a file of Visual Genome?"
            )
        for index, item in enumerate(items):
            if not isinstance(item, dict):
                raise InputError(f"{where}: {name} {index} must be an object, got {shown(item)}")
            yield key, f"{where}, {name} {index}", item
