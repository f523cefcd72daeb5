"""Grid features: maps of vectors, (36, C, h, w) of a panorama or (C, h, w) of an image, in a folder of files.

``NAME.grid/`` holds one safetensors file per scan (or other share of the data) and ``index.json`` with the keys of
each; files are memory-mapped and opened when a key of theirs is asked for. Maps are too large for one file and for
being copied: the folder is filled under another name and gets its own when it is complete.
"""

import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from torch import Tensor

from vln_clip.errors import InputError
from vln_clip.features.store import GRID_FORMAT, StoreHeader, read_tensors
from vln_clip.files import save_json
from vln_clip.reading import read_json

GRID_SUFFIX = ".grid"
_INDEX = "index.json"


@dataclass(frozen=True, eq=False)
class GridStore:
    """An open folder of maps.

    Attributes:
        path: the folder.
        header: how the maps came about.
        keys: file name to the keys of its rows.
    """

    path: Path
    header: StoreHeader
    keys: dict[str, tuple[str, ...]]

    @cached_property
    def rows(self) -> dict[str, tuple[str, int]]:
        """Return file and row of each key."""
        return {key: (name, row) for name, keys in self.keys.items() for row, key in enumerate(keys)}

    @cached_property
    def _open(self) -> dict[str, Tensor]:
        return {}

    def __getitem__(self, key: str) -> Tensor:
        """Return the map of a key, memory-mapped: (36, C, h, w) or (C, h, w)."""
        if key not in self.rows:
            raise KeyError(f"{key} has no grid features in {self.path}")
        name, row = self.rows[key]
        return self._maps(name)[row]

    def check_files(self) -> None:
        """Open every file, without reading its maps.

        Raises:
            InputError: one is damaged, or not the one that the index tells of.
        """
        for name in self.keys:
            self._maps(name)

    def _maps(self, name: str) -> Tensor:
        if name not in self._open:
            header, features, keys = read_tensors(self.path / name, GRID_FORMAT)
            header = replace(header, pictures=self.header.pictures)  # a file's are those of its scan
            if keys != self.keys[name] or header != self.header:
                raise InputError(f"{self.path / name} must be the file that {_INDEX} tells of, got another one")
            self._open[name] = features
        return self._open[name]


def write_index(folder: Path, header: StoreHeader, keys: dict[str, tuple[str, ...]]) -> None:
    """Write what a folder of maps holds; the last thing to do."""
    save_json(folder / _INDEX, {"format": GRID_FORMAT, "header": asdict(header), "keys": keys})


def open_grid(path: Path) -> GridStore:
    """Open a folder of maps.

    Raises:
        InputError: it is missing, incomplete or damaged.
    """
    if not (path / _INDEX).is_file():
        raise InputError(f"grid features must be a complete folder NAME{GRID_SUFFIX}, got {path} without {_INDEX}")
    index = read_json(path / _INDEX)
    try:
        keys = _keys(index["keys"])  # type: ignore[index]
        header = StoreHeader.from_json(json.dumps(index["header"]))  # type: ignore[index]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path / _INDEX} must be the index of grid features, got damaged content") from error
    missing = [name for name in keys if not (path / name).is_file()]
    if missing:
        raise InputError(f"grid features must have all files of {_INDEX}, got {path} without {missing[0]}")
    return GridStore(path, header, keys)


def _keys(content: object) -> dict[str, tuple[str, ...]]:
    """Check the keys of each file; a file must lie in the folder itself."""
    if not isinstance(content, dict):
        raise ValueError("keys are no object")
    for name, keys in content.items():
        if Path(name).name != name or "\0" in name:
            raise ValueError(f"{name!r:.80} is no name of a file")
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise ValueError(f"keys of {name!r:.80} are no texts")
    return {name: tuple(keys) for name, keys in content.items()}
