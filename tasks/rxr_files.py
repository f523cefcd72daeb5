"""How a missing RxR file can be had. Hashes are not known; the demo world's RxR data has the same names."""

from vln_clip.sources.table import RXR, in_folder
from vln_clip.tasks.datasets import Dataset

PUBLIC_FILES = {source.file_name: source for source in in_folder(RXR) if source.size_mb}


def remedy(dataset: Dataset, split: str) -> str:
    """Say how a guide file can be had."""
    public = PUBLIC_FILES.get(dataset.file_name(split))
    if public is None:
        return "make it"
    return f"download {public.address} ({public.size_mb:g} MB) with vln-clip data get {public.name}"
