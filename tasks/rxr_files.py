"""The RxR files as their bucket hands them out: names, addresses, sizes.

Their hashes are not known, so nothing here tells versions apart. The demo world's RxR data has the same names.
"""

from dataclasses import dataclass

from vln_clip.tasks.datasets import Dataset

BUCKET = "https://storage.googleapis.com/rxr-data"


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


def remedy(dataset: Dataset, split: str) -> str:
    """Say how a guide file can be had."""
    public = PUBLIC_FILES.get(dataset.file_name(split))
    return "make it" if public is None else f"download {public.address} ({public.size_mb:g} MB)"
