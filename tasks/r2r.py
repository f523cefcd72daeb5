"""Reading Room-to-Room files: every field checked, one episode per instruction.

XL-R2R, R4R and the demo world are written in the same format and read by the same code. Instruction ids are
``<path_id>_<k>``, k the position in ``instructions``.
"""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

from vln_clip.errors import InputError
from vln_clip.reading import is_finite, parse_json, read_bytes
from vln_clip.records import Episode
from vln_clip.tasks import r2r_files
from vln_clip.tasks.datasets import Dataset, split_file
from vln_clip.tasks.split import OWN_VERSION, Split, subset

logger = logging.getLogger(__name__)

FIELDS = ("scan", "path_id", "path", "heading", "instructions")


def read_split(
    dataset: Dataset, name: str, number: int | None, data: Path, languages: tuple[str, ...], keep_empty: bool
) -> Split:
    """Read and check a split; arguments as in ``datasets.read_split``, ``number`` of its paths."""
    file = split_file(dataset, name, data, r2r_files.remedy(dataset, name))
    items, sha256, num_bytes = read_items(file)
    version = r2r_files.version_of(file, sha256, num_bytes) if dataset.name == "r2r" else OWN_VERSION
    _report_version(version, file, len(items))
    goal_hidden = all(len(item["path"]) == 1 for item in items)
    found = (episode for item in subset(items, number) for episode in _episodes(item, goal_hidden, languages[0]))
    episodes = list(found)
    kept = episodes if keep_empty else [episode for episode in episodes if episode.instruction.strip()]
    if len(kept) < len(episodes):
        logger.info("%s: dropped %d episodes whose instruction has no word", file, len(episodes) - len(kept))
    places = {str(item["path_id"]): f"item {position}" for position, item in enumerate(items)}
    return Split(kept, file, sha256, version, goal_hidden, places=places)


def read_items(file: Path) -> tuple[list[dict], str, int]:
    """Return the checked items of a file, packed or not, and hash and size of its unpacked content.

    Raises:
        InputError: missing or malformed file; the message names file and field.
    """
    content = read_bytes(file)
    return _checked_items(parse_json(content, file), file), hashlib.sha256(content).hexdigest(), len(content)


def _checked_items(items: object, file: Path) -> list[dict]:
    """Return the file's items, each with every field of the right type."""
    if not isinstance(items, list) or not items:
        raise InputError(f"file {file} must be a JSON list of paths with at least one, got {_kind(items)}")
    seen = set()
    for position, item in enumerate(items):
        if not isinstance(item, dict):
            raise InputError(f"{file}: item {position} must be an object, got {_kind(item)}")
        missing = [field for field in FIELDS if field not in item]
        if missing:
            raise InputError(f"{file}: item {position}: field {missing[0]!r} is missing")
        fault = _fault(item)
        if fault:
            raise InputError(f"{file}: item {position} (path_id {item['path_id']!r:.40}): {fault}")
        path_id = str(item["path_id"])
        if path_id in seen:
            raise InputError(f"{file}: item {position}: path_id must be unique, got {path_id:.40} again")
        seen.add(path_id)
    return items


def _fault(item: dict) -> str | None:
    """Return what is wrong with the types of an item's fields, None if nothing is."""
    path_id, heading = item["path_id"], item["heading"]
    if isinstance(path_id, bool) or not isinstance(path_id, int | str):
        return f"path_id must be a number or a string, got {_kind(path_id)}"
    if not isinstance(item["scan"], str):
        return f"scan must be a string, got {_kind(item['scan'])}"
    if not is_finite(heading):
        return f"heading must be a finite number of radians, got {heading!r:.40}"
    for field, what in (("path", "viewpoint ids"), ("instructions", "texts")):
        values = item[field]
        if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
            return f"{field} must be a list of {what} with at least one, got {values!r:.80}"
    return None


def _kind(value: object) -> str:
    """Name a JSON value for a message."""
    return f"an empty {type(value).__name__}" if value in ([], {}) else f"{type(value).__name__} {value!r:.60}"


def _episodes(item: dict, goal_hidden: bool, language: str) -> Iterable[Episode]:
    """Yield one episode per instruction of an item."""
    path_id, path = str(item["path_id"]), tuple(item["path"])
    hidden_path = None if goal_hidden else path
    for k, text in enumerate(item["instructions"]):
        heading_rad = float(item["heading"])
        yield Episode(f"{path_id}_{k}", path_id, item["scan"], path[0], heading_rad, text, hidden_path, language)


def _report_version(version: str, file: Path, num_paths: int) -> None:
    """Warn where a public split is not the version that the published numbers come from."""
    if version == r2r_files.OTHER_VERSION:
        logger.warning("%s is the other version in circulation (a few instructions and starts differ)", file)
    if version == r2r_files.UNKNOWN_VERSION:
        usual = r2r_files.PUBLIC_FILES[file.name.removesuffix(".gz")].num_paths
        logger.warning("%s is no known version of R2R: %d paths, usually %d", file, num_paths, usual)
