"""The R2R files as the public repositories hand them out: names, addresses, hashes, sizes.

Addresses move and die, so they only appear in messages; ``sources`` of a missing file is for the reader to follow.
"""

from dataclasses import dataclass
from pathlib import Path

from vln_clip.tasks.datasets import Dataset
from vln_clip.tasks.split import OWN_VERSION

AUG_PATHS_ADDRESS = "http://www.cs.unc.edu/~airsplay/aug_paths.json"
DROPBOX = "https://www.dropbox.com/s"
ENVDROP = "https://raw.githubusercontent.com/airsplay/R2R-EnvDrop/master/tasks/R2R/data"


@dataclass(frozen=True)
class PublicFile:
    """One public file.

    Attributes:
        address: where it was published.
        sha256: of the version that EnvDrop, CLIP-ViL and this project's recorded results used.
        num_paths: paths in that version; 0 where the file is no split.
        other_size: bytes of the other version that circulates (other white space in a few instructions,
            another first viewpoint in five val_seen paths); None where there is only one.
    """

    address: str
    sha256: str
    num_paths: int = 0
    other_size: int | None = None


PUBLIC_FILES = {
    "R2R_train.json": PublicFile(
        f"{DROPBOX}/hh5qec8o5urcztn/R2R_train.json?dl=1",
        "e7333a78386e12a72219a5b55a1d8dfb87e45b63408c060b2d44c66a5e12c523",
        4675,
        3996672,
    ),
    "R2R_val_seen.json": PublicFile(
        f"{DROPBOX}/8ye4gqce7v8yzdm/R2R_val_seen.json?dl=1",
        "b9fa5a68e28e289de5e078a770660aa166d88c73fca9e0ee4a19f5168aac1343",
        340,
        292756,
    ),
    "R2R_val_unseen.json": PublicFile(
        f"{DROPBOX}/p6hlckr70a07wka/R2R_val_unseen.json?dl=1",
        "e12fb134dd14a4617d27cdaab560d9029b4bee5b3c740645de49dfb9e2ff585a",
        783,
        665674,
    ),
    "R2R_test.json": PublicFile(
        f"{DROPBOX}/w4pnbwqamwzdwd1/R2R_test.json?dl=1",
        "f7e28b527ab7fd209010439b327269c18d315888c68ecc81486ef20d58046f10",
        1391,
    ),
    "train_vocab.txt": PublicFile(
        f"{ENVDROP}/train_vocab.txt", "5e35817e16eea0eb7ad24b41cd153776b13c9976cc65fa583e691e8ac5c0cec0"
    ),
    "trainval_vocab.txt": PublicFile(
        f"{ENVDROP}/trainval_vocab.txt", "eed3624ed64c42a89b23b3e28f8b0548b28dcf3f6ff05b5efd3303bc3244ea58"
    ),
}
KNOWN_VERSION, OTHER_VERSION, UNKNOWN_VERSION = "envdrop", "other public version", "unknown"


def remedy(dataset: Dataset, split: str) -> str:
    """Say how a split of a data set in this format can be had."""
    public = PUBLIC_FILES.get(dataset.files.format(split=split))
    if dataset.name == "r4r":
        return "make it of R2R: python -m vln_clip.data make r4r --out FOLDER/R4R"
    if dataset.name == "r2r" and public is not None:
        return f"download {public.address}"
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
    return OTHER_VERSION if num_bytes == public.other_size else UNKNOWN_VERSION
