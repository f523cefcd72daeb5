"""One extraction job: planned, carried out scan by scan with a progress bar, alone or as one of several processes."""

import itertools
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from vln_clip import log
from vln_clip.encoders import Encoder
from vln_clip.errors import InputError
from vln_clip.features.extraction import Options, Panorama, Source, make_header
from vln_clip.features.parts import PANORAMAS, Parts, Words, is_grid, share_of
from vln_clip.features.pictures import joint_digest, picture_digests
from vln_clip.features.pipeline import extract_rows
from vln_clip.records import NUM_VIEWS

_STATUS_S = 30.0  # between lines about progress where there is no terminal


def plan_parts(
    encoder: Encoder,
    panoramas: Sequence[Panorama],
    out: Path,
    options: Options,
    origin: str,
    dtype: str,
    renderer: str,
) -> Parts:
    """Say what is to be made, scan by scan: an output, its header and its keys."""
    header, pictures = make_header(encoder, options, origin, renderer), picture_digests(panoramas)
    header = replace(header, pictures=joint_digest(pictures))
    return Parts(out, header, dtype, keys_of(panoramas), pictures)


def keys_of(panoramas: Sequence[Panorama]) -> dict[str, list[str]]:
    """Return the keys of each scan, in order."""
    keys: dict[str, list[str]] = {}
    for panorama in panoramas:
        keys.setdefault(panorama.scan, []).append(panorama.key)
    return keys


def extract_parts(
    encoder: Encoder,
    panoramas: Sequence[Panorama],
    parts: Parts,
    options: Options,
    source: Source,
    workers: int,
    share: tuple[int, int] = (0, 1),
) -> None:
    """Extract the scans that have no part yet, with a progress bar.

    Args:
        encoder: on the device where the work is to happen.
        panoramas: all of them, those of a scan together.
        parts: where finished scans go.
        options: how to encode.
        source: where pictures come from.
        workers: processes that prepare pictures; 0 for threads of this one.
        share: which share of the scans is this process's, from 0, and the number of shares.
    """
    index, count = share
    scans, missing = share_of(parts.keys, index, count), set(parts.missing())
    title = f"features {encoder.name}"
    if count > 1:
        title += f", share {index + 1} of {count}"
        log.logger.info("%s: %d of %d scans", title, len(scans), len(parts.keys))
    done = len(scans) - len(missing & set(scans))
    if done:
        log.logger.info("%s: %d of %d scans are done already", parts.folder, done, len(scans))
    mine = [panorama for panorama in panoramas if panorama.scan in scans]
    todo = [panorama for panorama in mine if panorama.scan in missing]
    with (
        progress_of(title, len(mine), len(mine) - len(todo)) as show,
        closing(extract_rows(encoder, todo, source, options, show, workers)) as rows,
    ):
        for scan, group in itertools.groupby(todo, key=lambda panorama: panorama.scan):
            with parts.writer(scan) as writer:
                for _ in group:
                    writer.add(*next(rows))


@contextmanager
def progress_of(title: str, total: int, before: int, words: Words = PANORAMAS) -> Iterator[Callable[[int], None]]:
    """Show progress: a bar with pictures/s and remaining time, or a line now and then where there is no terminal."""
    per_row, unit = (NUM_VIEWS, "views") if words == PANORAMAS else (1, words.rows)
    start_s = told_s = time.perf_counter()
    bar = log.progress()
    bar.disable |= int(os.environ.get("LOCAL_RANK", "0")) > 0  # one bar in one terminal
    with bar:
        task = bar.add_task(title, total=total, completed=before, status=words.rows)

        def show(done: int) -> None:
            nonlocal told_s
            now_s = time.perf_counter()
            speed = done / (now_s - start_s)
            bar.update(task, completed=before + done, status=f"{words.rows}, {speed * per_row:.1f} {unit}/s")
            if bar.disable and now_s - told_s > _STATUS_S:
                told_s, left_min = now_s, (total - before - done) / speed / 60
                rate = f"{speed * per_row:.1f} {unit}/s, about {left_min:.0f} min left"
                log.logger.info("%s: %d of %d %s, %s", title, before + done, total, words.rows, rate)

        yield show


def merge_when_complete(parts: Parts, shard: str | None, overwrite: bool, unit: str) -> bool:
    """Put the output together, or say what other shards have still to do.

    Args:
        parts: of the output.
        shard: ``--shard``; None where this process and its ranks make all of them.
        overwrite: replace an output that was made in another way.
        unit: what a part is, in the plural.

    Returns:
        Whether the output is there.
    """
    missing = parts.missing() if shard else []
    if missing and (overwrite or not parts.out.exists()):  # an old output is no sign of a faster process
        left = f"{len(missing)} of {len(parts.keys)} {unit} are left to other shards, e.g. {missing[0]}"
        log.logger.info("shard %s is done; %s; who finishes last merges", shard, left)
        return False
    parts.merge(overwrite)
    return True


def tell_size(parts: Parts, shape: tuple[int, ...]) -> None:
    """Say how large the output becomes; raise ``InputError`` where the disk has no room for it."""
    row_bytes = math.prod(shape) * (2 if parts.part_dtype == "float16" else 4)
    count = sum(map(len, parts.keys.values()))
    todo_bytes = row_bytes * sum(len(parts.keys[scan]) for scan in parts.missing())
    parts_and_output = todo_bytes + (0 if is_grid(parts.out) else row_bytes * count)
    try:
        parts.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"feature file {parts.out} cannot be written: its folder cannot be made ({error.strerror or error}); name "
            "another --out"
        ) from error
    free_bytes = shutil.disk_usage(parts.out.parent).free
    per_row = f"{' x '.join(map(str, shape))} {parts.part_dtype}"
    size = f"{count} {parts.words.rows} x {per_row} = {row_bytes * count / 1e9:.3g} GB"
    log.logger.info("%s: %s", parts.out, size)
    if parts_and_output > free_bytes:
        raise InputError(
            f"disk must have room for {parts_and_output / 1e9:.3g} GB ({size}, parts included), got "
            f"{free_bytes / 1e9:.3g} GB free in {parts.out.parent}; make room or name --out on another disk"
        )
