"""The public R2R files: which versions of them circulate, and how a missing one can be had."""

from pathlib import Path

from vln_clip.sources.table import R2R, in_folder
from vln_clip.tasks.datasets import Dataset
from vln_clip.tasks.split import OWN_VERSION

PUBLIC_FILES = {source.file_name: source for source in in_folder(R2R) if source.sha256}
KNOWN_VERSION, OTHER_VERSION, UNKNOWN_VERSION = "envdrop", "other public version", "unknown"


def remedy(dataset: Dataset, split: str) -> str:
    """Say how a split of a data set in this format can be had."""
    public = PUBLIC_FILES.get(dataset.files.format(split=split))
    if dataset.name == "r4r":
        return "make it of R2R: python -m vln_clip.data make r4r --out FOLDER/R4R"
    if dataset.name == "r2r" and public is not None:
        return f"download {public.address} with vln-clip data get {public.name}"
    return f"put the file that the authors of {dataset.folder} published there"


def version_of(file: Path, sha256: str, num_bytes: int) -> str:
    """Name the version of a file by its hash: of the public R2R files there are two.

    Args:
        file: where it lies; only its name counts.
        sha256: of its unpacked content.
        num_bytes: size of its unpacked content.

    Returns:
        ``KNOWN_VERSION``, ``OTHER_VERSION`` (told by its size), ``UNKNOWN_VERSION``, or ``OWN_VERSION`` for a file
        that has no public counterpart.
    """
    public = PUBLIC_FILES.get(file.name.removesuffix(".gz"))
    if public is None:
        return OWN_VERSION
    if sha256 == public.sha256:
        return KNOWN_VERSION
    return OTHER_VERSION if num_bytes == public.other_num_bytes else UNKNOWN_VERSION
