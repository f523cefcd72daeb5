"""Where images lie: loose files in folders, found by their names, and members of tar shards, by their offsets."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np

from vln_clip.errors import InputError
from vln_clip.features.images import EXTENSIONS

LOOSE = -1  # in place of a shard


class Texts(Sequence[str]):
    """Texts packed into bytes, made when they are asked for.

    Args:
        content: UTF-8 of all texts, (n,) uint8.
        end: where each ends, (N,) int64.
    """

    def __init__(self, content: np.ndarray, end: np.ndarray) -> None:
        self.content, self.end = content, end

    def __len__(self) -> int:
        return len(self.end)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        """Return one text, or some."""
        if isinstance(row, slice):
            return [self[k] for k in range(*row.indices(len(self)))]
        if not 0 <= row < len(self):
            raise IndexError(row)
        return self.content[self.end[row - 1] if row else 0 : self.end[row]].tobytes().decode()


@dataclass(frozen=True, eq=False)
class ImagePlaces:
    """I images, as a table names them.

    Attributes:
        keys: of each.
        shards: tar files.
        shard: (I,) int32, the shard that holds each, ``LOOSE`` where none does.
        offset: (I,) int64, where its content begins in the shard.
        size_bytes: (I,) int64, of its content in the shard.
    """

    keys: Sequence[str]
    shards: tuple[Path, ...] = ()
    shard: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    offset: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    size_bytes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def loose(cls, keys: Sequence[str]) -> "ImagePlaces":
        """Return the places of images that all lie in folders."""
        shard = np.full(len(keys), LOOSE, np.int32)
        return cls(keys, (), shard, np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64))


def find_files(keys: Sequence[str], roots: Sequence[Path]) -> list[str]:
    """Return the file of each key: an image of that name in one of the folders, or in a folder below.

    Where several have one, the first root counts: GQA's images and Visual Genome's are the same under one name. Visual
    Genome's archives unpack to two folders; both, or what holds them, are roots.

    Args:
        keys: names of files without their endings.
        roots: folders.

    Raises:
        InputError: a root is no folder, or images are not there.
    """
    wanted, found = set(keys), dict[str, str]()
    for root in roots:
        if not root.is_dir():
            raise InputError(f"images must be in folders, got {root}, which is none; name the folders of the images")
        for path in _image_files(root):
            key = os.path.splitext(os.path.basename(path))[0]
            if key in wanted:
                found.setdefault(key, path)
        if len(found) == len(wanted):
            break
    absent = [key for key in keys if key not in found]
    if absent:
        raise InputError(
            f"every image must be in {', '.join(map(str, roots)) or 'a folder, but none was named'}, but "
            f"{len(absent):,} of {len(keys):,} are not there, the first {absent[0]!r:.80}; put them there, or name "
            "their folders, too"
        )
    return [found[key] for key in keys]


def _image_files(root: Path) -> Iterator[str]:
    """Yield the image files below a folder in a fixed order; links are followed, hidden files left out."""
    seen = set()
    for place, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (os.path.join(place, name) for name in sorted(names) if _is_image(name))


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS) and name[0] != "."


def read_part(shard: Path, offset: int, size_bytes: int) -> bytes:
    """Return some bytes of a file.

    Raises:
        InputError: it is not there or shorter.
    """
    try:
        with shard.open("rb") as stream:
            stream.seek(offset)
            content = stream.read(size_bytes)
    except OSError as error:
        raise InputError(f"shard {shard} cannot be read: {error.strerror or error}; bring it back") from None
    if len(content) < size_bytes:
        raise InputError(
            f"shard {shard} must have {offset + size_bytes:,} bytes, got {os.path.getsize(shard):,}; it is not whole, "
            "or has changed: bring it back"
        )
    return content
