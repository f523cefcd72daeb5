"""The RxR files as their bucket hands them out: names, addresses, sizes.

Their hashes are not known, so nothing here tells versions apart. The demo world's RxR data has the same names.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vln_clip.errors import InputError, unknown_name

FOLDER = "RxR"
BUCKET = "https://storage.googleapis.com/rxr-data"
DATASET, DEMO_DATASET = "rxr", "demo-rxr"
GUIDE, FOLLOWER = "guide", "follower"
# What stands for a split in file names; of the test splits only starts are public.
STEMS = {
    "train": "train",
    "val_seen": "val_seen",
    "val_unseen": "val_unseen",
    "test_standard": "test_standard_public",
    "test_challenge": "test_challenge_public",
}
ENDINGS = (".jsonl.gz", ".jsonl")


@dataclass(frozen=True)
class PublicFile:
    """One public file: where it was published, and its packed size as the bucket states it."""

    address: str
    size_mb: float


PUBLIC_FILES = {
    f"rxr_{stem}.jsonl.gz": PublicFile(f"{BUCKET}/rxr_{stem}.jsonl.gz", size_mb)
    for stem, size_mb in (
        ("train_guide", 72.1),
        ("val_seen_guide", 12.9),
        ("val_unseen_guide", 12.0),
        ("test_standard_public_guide", 1.9),
        ("test_challenge_public_guide", 1.9),
        ("train_follower", 12.8),
        ("val_seen_follower", 1.4),
        ("val_unseen_follower", 1.6),
    )
}


def split_file(split: str, data: Path, dataset: str = DATASET, kind: str = GUIDE) -> Path:
    """Return the file of a split: a path where the name holds a ``/``, else ``<data>/RxR/rxr_<split>_<kind>.jsonl.gz``.

    An unpacked ``.jsonl`` serves where the archive is not there.

    Args:
        split: name or path, without ``@N``.
        data: data folder.
        dataset: ``"rxr"`` or ``"demo-rxr"``; only the messages differ.
        kind: ``GUIDE`` for instructions, ``FOLLOWER`` for people who followed them.

    Raises:
        InputError: unknown split (nearest name suggested), or a file that is not there (says where to get it).
    """
    if "/" in split:
        return Path(split)
    name = f"rxr_{STEMS.get(split, split)}_{kind}"
    files = [data / FOLDER / f"{name}{ending}" for ending in ENDINGS]
    for file in files:
        if file.is_file():
            return file
    known = known_splits(data, kind)
    if split not in known:
        raise unknown_name("split", split, known)
    public = PUBLIC_FILES[files[0].name]
    remedy = f"download {public.address} ({public.size_mb:g} MB)"
    if dataset == DEMO_DATASET:
        remedy = "build the demo world: python -m vln_clip.data"
    raise InputError(
        f"file {files[0]} of split {split!r} is missing; {remedy}, or set VLN_CLIP_DATA to its data folder"
    )


def known_splits(data: Path, kind: str = GUIDE) -> list[str]:
    """Return the names of the splits in a data folder, after the public ones."""
    public = [split for split, stem in STEMS.items() if f"rxr_{stem}_{kind}.jsonl.gz" in PUBLIC_FILES]
    return [*public, *sorted(set(_splits_here(data, kind)) - set(public))]


def _splits_here(data: Path, kind: str) -> Iterator[str]:
    """Yield the splits whose file is in a data folder."""
    names = {stem: split for split, stem in STEMS.items()}
    for file in (data / FOLDER).glob(f"rxr_*_{kind}.jsonl*"):
        if match := re.fullmatch(rf"rxr_(.+)_{kind}\.jsonl(\.gz)?", file.name):
            yield names.get(match[1], match[1])
