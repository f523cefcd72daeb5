"""Extraction that can be interrupted and shared out: each finished scan is a part beside the output.

Parts are ``.<output name>.parts/<scan>.safetensors``; one appears when its scan is complete. Image files have no
scans: some hundreds of them in a row count as one. Whoever finds all of
them puts the output together and removes the folder. Parts are never mixed: all have one header.
"""

import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vln_clip.errors import InputError
from vln_clip.features.formats import format_of, note_path, read_header, read_rows, require_h5py, write_rows
from vln_clip.features.grid import GRID_SUFFIX, open_grid, write_index
from vln_clip.features.pictures import joint_digest
from vln_clip.features.store import (
    FORMAT,
    GRID_FORMAT,
    StoreHeader,
    StoreWriter,
    cannot_write,
    open_store,
    read_tensors,
)
from vln_clip.log import logger


class Words(NamedTuple):
    """What one part, its rows, one row's pieces and what rows are made from are called in messages."""

    part: str
    rows: str
    pictures: str


PANORAMAS = Words("scan", "viewpoints", "skybox images or poses")
IMAGES = Words("part", "images", "image files")


def is_grid(out: Path) -> bool:
    """Return whether an output is a folder of maps, by its name."""
    return out.name.endswith(GRID_SUFFIX)


def check_output(out: Path, grid: bool) -> None:
    """Raise ``InputError`` where an output has a wrong ending or kind, or needs a package that is missing."""
    if grid:
        if not is_grid(out):
            raise InputError(f"--out of --grid must be a folder name that ends in {GRID_SUFFIX}, got {str(out)!r}")
        if out.is_file():
            raise InputError(f"--out of --grid must be a folder, got {out} which is a file; name another one")
        return
    kind = format_of(out)
    if out.is_dir():
        raise InputError(f"--out must be a file, got {out} which is a folder; name another one")
    if kind == "hdf5":
        require_h5py(out)


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of one output.

    Attributes:
        out: feature file, or a folder of maps by its ending.
        header: how the features come about.
        dtype: type inside a store.
        keys: the keys of each scan, scans and keys in the order of the output.
        pictures: digest of each scan's pictures (``features.pictures``); the header has their joint one.
        words: for messages.
    """

    out: Path
    header: StoreHeader
    dtype: str
    keys: dict[str, list[str]]
    pictures: dict[str, str]
    words: Words = PANORAMAS

    @property
    def folder(self) -> Path:
        """Return where the parts are."""
        return parts_folder(self.out)

    def path(self, scan: str) -> Path:
        """Return the file of one part."""
        return self.folder / f"{scan}.safetensors"

    @property
    def part_dtype(self) -> str:
        """Return the type inside the parts: the output's, which is float32 in TSV and HDF5 files."""
        return self.dtype if is_grid(self.out) or format_of(self.out) == "store" else "float32"

    def writer(self, scan: str) -> StoreWriter:
        """Return the writer of one part."""
        header = replace(self.header, pictures=self.pictures[scan])
        return StoreWriter(self.path(scan), header, self.part_dtype, grid=is_grid(self.out))

    def missing(self) -> list[str]:
        """Return the scans that have no part yet; damaged parts and those of other pictures are told and count too.

        Raises:
            InputError: a part was made in another way.
        """
        return [scan for scan in self.keys if not self._is_finished(scan)]

    def _is_finished(self, scan: str) -> bool:
        path = self.path(scan)
        if not path.is_file():
            return False
        try:
            header, features, keys = read_tensors(path, GRID_FORMAT if is_grid(self.out) else FORMAT)
        except InputError as error:
            logger.warning(f"{self.words.part} {scan} is done again, its part is damaged: {error}")
            return False
        found = str(features.dtype).removeprefix("torch.")
        differences = replace(header, pictures=self.header.pictures).differences(self.header)
        differences += [f"dtype {found!r} instead of {self.part_dtype!r}"] if found != self.part_dtype else []
        differences += [] if keys == tuple(self.keys[scan]) else [f"other {self.words.rows}"]
        if differences:
            raise InputError(
                f"parts of one feature file must be made in one way, got {path} with {differences[0]}; go on with the "
                f"options it was begun with, name another --out, or remove {self.folder}"
            )
        if _changed(header.pictures, self.pictures[scan]):
            what = f"{self.words.part} {scan} is done again"
            logger.warning(f"{what}: its {self.words.pictures} have changed since {path} was made")
            return False
        return True

    def is_complete(self, overwrite: bool = False) -> bool:
        """Return whether the output is there already.

        Args:
            overwrite: take an output that was made in another way for missing.

        Raises:
            InputError: it is there, but damaged or made in another way.
        """
        if not self.out.exists() or overwrite:
            return False
        try:
            differences = self._output_differences()
        except InputError as error:
            raise InputError(
                f"{error}; replace the output {self.out} with --overwrite, or name another --out"
            ) from error
        if differences:
            raise InputError(
                f"output must be a new file or what this command makes, got {self.out} with {differences[0]}; name "
                "another --out, or replace it with --overwrite"
            )
        return True

    def _output_differences(self) -> list[str]:
        if is_grid(self.out):
            grid = open_grid(self.out)
            grid.check_files()
            header: StoreHeader | None = grid.header
            keys = list(grid.rows)
        else:
            header = read_header(self.out)
            stored = format_of(self.out) == "store"
            keys = list(open_store(self.out).keys) if stored else [key for key, _ in read_rows(self.out)]
        if header is None:
            return ["features of unknown origin"]
        same = replace(header, libraries=self.header.libraries, pictures=self.header.pictures)
        differences = same.differences(self.header)
        wanted = [key for scan in self.keys.values() for key in scan]
        if sorted(keys) != sorted(wanted):
            differences.append(f"{len(keys)} {self.words.rows} instead of {len(wanted)} or other ones")
        if _changed(header.pictures, self.header.pictures):
            differences.append(f"features of other {self.words.pictures} than those that are here now")
        return differences

    def merge(self, overwrite: bool = False) -> None:
        """Put the output together and remove the parts; several processes may do so at once.

        Args:
            overwrite: replace an output that is there.

        Raises:
            InputError: parts are missing, or the output cannot be written; the parts stay.
        """
        before = _identity(self.out)
        try:
            if overwrite or not self.is_complete():  # else another process was faster
                self._check_finished()
                self._publish(overwrite)
        except InputError:  # another process may have been faster meanwhile, and have taken the parts away
            if _identity(self.out) in (None, before) or not self.is_complete():
                raise
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove_merged(self) -> None:
        """Remove parts that are not newer than the output: who put them together was killed before it could.

        Newer ones are of processes that replace the output (``overwrite``).
        """
        with suppress(OSError):  # others do the same
            merged_ns = self.out.stat().st_mtime_ns
            for path in self.folder.iterdir():
                if path.stat().st_mtime_ns <= merged_ns:
                    path.unlink()
            self.folder.rmdir()  # refused where something is left

    def _check_finished(self) -> None:
        missing = self.missing()
        if missing:
            raise InputError(
                f"all {len(self.keys)} {self.words.part}s must be extracted before their parts are merged, got "
                f"{len(missing)} missing in {self.folder}, e.g. {missing[0]}; run the same command for them"
            )

    def _publish(self, overwrite: bool) -> None:
        if is_grid(self.out):
            self._publish_grid(overwrite)
            return
        ending = self.out.name.partition(".")[2]
        merged = self.folder / f"merged-{uuid.uuid4().hex[:8]}.{ending}"
        write_rows(merged, self.header, self._rows(), self.dtype)
        with cannot_write(self.out):
            if note_path(merged).is_file():
                note_path(merged).replace(note_path(self.out))
            merged.replace(self.out)

    def _publish_grid(self, overwrite: bool) -> None:
        with cannot_write(self.out):
            write_index(self.folder, self.header, {self.path(scan).name: tuple(self.keys[scan]) for scan in self.keys})
            if gone := [scan for scan in self.keys if not self.path(scan).is_file()]:
                raise InputError(f"parts must stay until they are merged, got no {self.path(gone[0])} any more")
            for leftover in self.folder.glob(".*"):  # of processes that were killed
                leftover.unlink(missing_ok=True)
            if not (overwrite and self.out.is_dir()):
                self.folder.rename(self.out)
                return
            replaced = self.out.with_name(f".{self.out.name}.{uuid.uuid4().hex[:8]}")
            self.out.rename(replaced)
            try:
                self.folder.rename(self.out)
            except OSError:
                replaced.rename(self.out)
                raise
            shutil.rmtree(replaced, ignore_errors=True)

    def _rows(self) -> Iterator[tuple[str, np.ndarray]]:
        for scan in self.keys:
            store = open_store(self.path(scan))
            for key, row in zip(store.keys, store.features, strict=True):
                yield key, row.numpy()


def _changed(before: str, now: str) -> bool:
    """Return whether two digests of pictures differ; files of older versions and other programs have none."""
    return bool(before and now and before != now)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file or folder from the one that replaces it; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def parts_folder(out: Path) -> Path:
    """Return where the parts of an output are."""
    return out.with_name(f".{out.name}.parts")


def begun_parts(out: Path, keys: dict[str, list[str]], words: Words = PANORAMAS) -> Parts:
    """Return the parts that are there, whatever options they were made with: the first one speaks for all.

    Args:
        out: the output.
        keys: the keys of each scan.
        words: for messages.

    Raises:
        InputError: there is none.
    """
    folder, format_ = parts_folder(out), GRID_FORMAT if is_grid(out) else FORMAT
    paths = {scan: folder / f"{scan}.safetensors" for scan in keys}
    begun = {scan: read_tensors(path, format_)[:2] for scan, path in paths.items() if path.is_file()}
    for header, features in begun.values():
        pictures = {scan: begun[scan][0].pictures if scan in begun else "" for scan in keys}
        dtype = str(features.dtype).removeprefix("torch.")
        return Parts(out, replace(header, pictures=joint_digest(pictures)), dtype, keys, pictures, words)
    raise InputError(
        f"--merge needs parts of {out}, got none in {folder}; extract {words.part}s first, with the same --out"
    )


def share_of(keys: Mapping[str, Sequence[str]], index: int, count: int) -> list[str]:
    """Return the scans of one of several shares, about equally large: the largest scan goes to the smallest share.

    Args:
        keys: the keys of each scan.
        index: which share, from 0.
        count: number of shares.
    """
    loads, shares = [0] * count, [set[str]() for _ in range(count)]
    for scan in sorted(keys, key=lambda scan: (-len(keys[scan]), scan)):
        smallest = loads.index(min(loads))
        loads[smallest] += len(keys[scan])
        shares[smallest].add(scan)
    return [scan for scan in keys if scan in shares[index]]
