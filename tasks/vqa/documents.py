"""What the readers of question files share: streams of objects, and checks of their members."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from vln_clip.errors import InputError
from vln_clip.reading import check_value
from vln_clip.tasks.documents import FOREIGN
from vln_clip.tasks.json_stream import JsonStream
from vln_clip.tasks.vqa.questions import shown

NUMPY_MAGIC = b"\x93NUMPY"
_PROBED_BYTES = 64


def require_json(path: Path) -> bytes:
    """Refuse files that are something else; return the first bytes of the others.

    Raises:
        InputError: the file is missing, unreadable, or an archive, a pickle or an MMF imdb, which is pickles inside.
    """
    try:
        with path.open("rb") as stream:
            begin = stream.read(_PROBED_BYTES)
    except FileNotFoundError:
        raise InputError(f"file {path} does not exist") from None
    except (OSError, ValueError) as error:
        raise InputError(f"file {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if begin.startswith(NUMPY_MAGIC):
        raise InputError(
            f"file {path} must be JSON, but is a NumPy file; MMF's imdb files hold pickled objects, which can run code "
            "when they are read: give the questions and annotations of VQA v2 that they were made of"
        )
    foreign = next((what for magic, what in FOREIGN.items() if begin.lstrip().startswith(magic)), None)
    if foreign is not None:
        raise InputError(f"file {path} must be JSON, but is {foreign}")
    return begin


def objects(path: Path) -> Iterator[tuple[str, dict]]:
    """Yield place and content of each object of an array; memory does not grow with the file.

    Raises:
        InputError: what ``JsonStream`` and ``checked`` raise.
    """
    require_json(path)
    for where, item in JsonStream(path):
        try:
            check_value(item)
        except ValueError as error:
            raise InputError(f"{where} must be JSON, but: {error}") from None
        yield where, item


def text(item: Mapping[str, object], name: str, where: str) -> str:
    """Return a member that must be a text."""
    value = item.get(name)
    if not isinstance(value, str):
        raise InputError(f"{where} must have the text {name!r}, got {_found(item, name)}")
    return value


def number(item: Mapping[str, object], name: str, where: str) -> int:
    """Return a member that must be a whole number, not negative and below 2^63."""
    value = item.get(name)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise InputError(f"{where} must have the whole number {name!r}, got {_found(item, name)}")
    return value


def optional_text(item: Mapping[str, object], name: str, where: str) -> str:
    """Return a member that may be absent but else must be a text."""
    return text(item, name, where) if item.get(name) is not None else ""


def _found(item: Mapping[str, object], name: str) -> str:
    """Say what stands in place of a member."""
    if name in item:
        return shown(item[name])
    return f"only {', '.join(f'{key:.40}' for key in list(item)[:8]) or 'nothing'}"
