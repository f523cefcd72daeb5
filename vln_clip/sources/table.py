"""Every address this project knows: what lies there, its size and hash, under which terms, what needs it.

The only place where addresses are written. They are those that the public repositories give; several are known to be
moved or dead, so users can name others (``overrides``). What is not known is None or ``unknown``, never a guess.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from vln_clip.sources.graphs import GRAPH_SHA256

R2R, RXR, CONNECTIVITY, FEATURES = "R2R/", "RxR/", "connectivity/", "features/"
SPLIT, VOCABULARY, GUIDE, FOLLOWER, GRAPH, ROWS, ARCHIVE = (
    "split",
    "vocabulary",
    "guide",
    "follower",
    "graph",
    "rows",
    "archive",
)
SIMULATOR_REPOSITORY = "https://github.com/peteanderson80/Matterport3DSimulator"
MATTERPORT_TERMS = "https://niessner.github.io/Matterport/"
CONNECTIVITY_BYTES = 23_848_184  # all of its files
RXR_BUCKET = "gs://rxr-data"
_DROPBOX = "https://www.dropbox.com/s"
_ENVDROP = "https://raw.githubusercontent.com/airsplay/R2R-EnvDrop/master/tasks/R2R/data"
_GRAPHS = "https://raw.githubusercontent.com/peteanderson80/Matterport3DSimulator/master/connectivity"
_CLIP_VIL = "https://nlp.cs.unc.edu/data/vln_clip"
_BUCKET = "https://storage.googleapis.com/rxr-data"
_R2R_TERMS = "research use, Matterport3D's terms"
_OF_PICTURES = "unknown; of Matterport3D's pictures"
UNKNOWN, NO_COMMAND = "unknown", "no command"


@dataclass(frozen=True)
class Source:
    """One public file.

    Attributes:
        name: where it belongs in the data folder.
        address: where it was published.
        kind: how its content is checked, one of the constants above.
        terms: licence in a few words.
        needed_for: commands.
        num_bytes: size, None where unknown.
        sha256: of the version that this project's recorded results used; None where unknown.
        size_mb: packed size as the publisher states it, in 10^6 bytes; 0 where nothing is stated.
        num_paths: of a split, in every public version; 0 where it is no split.
        other_num_bytes: size of the other version that circulates; None where there is only one.
        needed: a data set cannot be trained on without it.
        extra: useful to few; fetched with its data set only where that is asked for.
        encoder: whose features it holds, for ``--features``.
    """

    name: str
    address: str
    kind: str
    terms: str
    needed_for: str
    num_bytes: int | None = None
    sha256: str | None = None
    size_mb: float = 0.0
    num_paths: int = 0
    other_num_bytes: int | None = None
    needed: bool = False
    extra: bool = False
    encoder: str = ""

    @property
    def folder(self) -> str:
        """Return the part of the data folder that it belongs to, with a slash behind it."""
        return self.name.partition("/")[0] + "/"

    @property
    def file_name(self) -> str:
        """Return its name inside that folder."""
        return self.name.partition("/")[2]

    @property
    def remote_name(self) -> str:
        """Return its name at its address."""
        return PurePosixPath(urlsplit(self.address).path).name

    @property
    def size_text(self) -> str:
        """Return its size for people."""
        if self.num_bytes is not None:
            return f"{self.num_bytes:,} B"
        return f"{self.size_mb:g} MB" if self.size_mb else UNKNOWN


@dataclass(frozen=True)
class ByHand:
    """Files that nothing downloads: where they belong, whom to ask, why nobody else does."""

    name: str
    address: str
    why: str
    terms: str
    needed_for: str


def _r2r(split: str, key: str, num_bytes: int, sha256: str, num_paths: int, other: int | None = None) -> Source:
    use = {"train": "train", "val_unseen": "train, evaluate", "val_seen": "evaluate", "test": "submit"}[split]
    return Source(
        f"{R2R}R2R_{split}.json",
        f"{_DROPBOX}/{key}/R2R_{split}.json?dl=1",
        SPLIT,
        _R2R_TERMS,
        use,
        num_bytes,
        sha256,
        num_paths=num_paths,
        other_num_bytes=other,
        needed=split in ("train", "val_unseen"),
    )


def _vocabulary(name: str, num_bytes: int, sha256: str, use: str) -> Source:
    return Source(
        f"{R2R}{name}",
        f"{_ENVDROP}/{name}",
        VOCABULARY,
        UNKNOWN,
        use,
        num_bytes,
        sha256,
        extra=use == NO_COMMAND,
    )


def _rxr(stem: str, size_mb: float) -> Source:
    needed = stem in ("train_guide", "val_unseen_guide")
    kind = GUIDE if stem.endswith("guide") else FOLLOWER
    use = "train" if stem.startswith("train") else "submit" if stem.startswith("test") else "evaluate"
    use = "train, evaluate" if stem == "val_unseen_guide" else use
    use = use if kind == GUIDE else "evaluate --predictions"
    name = f"rxr_{stem}.jsonl.gz"
    return Source(
        f"{RXR}{name}",
        f"{_BUCKET}/{name}",
        kind,
        "CC BY 4.0",
        use,
        size_mb=size_mb,
        needed=needed,
        extra=kind == FOLLOWER,
    )


def _graph(name: str, sha256: str) -> Source:
    terms = "MIT (simulator's repository)"
    return Source(f"{CONNECTIVITY}{name}", f"{_GRAPHS}/{name}", GRAPH, terms, "everything", sha256=sha256, needed=True)


def _features(stem: str, encoder: str) -> Source:
    name = f"{stem}.tsv"
    return Source(
        f"{FEATURES}{name}",
        f"{_CLIP_VIL}/features/{name}",
        ROWS,
        _OF_PICTURES,
        f"--features {encoder}",
        encoder=encoder,
    )


SOURCES = {
    source.name: source
    for source in (
        _r2r(
            "train",
            "hh5qec8o5urcztn",
            3996676,
            "e7333a78386e12a72219a5b55a1d8dfb87e45b63408c060b2d44c66a5e12c523",
            4675,
            3996672,
        ),
        _r2r(
            "val_seen",
            "8ye4gqce7v8yzdm",
            292714,
            "b9fa5a68e28e289de5e078a770660aa166d88c73fca9e0ee4a19f5168aac1343",
            340,
            292756,
        ),
        _r2r(
            "val_unseen",
            "p6hlckr70a07wka",
            665675,
            "e12fb134dd14a4617d27cdaab560d9029b4bee5b3c740645de49dfb9e2ff585a",
            783,
            665674,
        ),
        _r2r(
            "test",
            "w4pnbwqamwzdwd1",
            860083,
            "f7e28b527ab7fd209010439b327269c18d315888c68ecc81486ef20d58046f10",
            1391,
        ),
        _vocabulary(
            "train_vocab.txt", 6639, "5e35817e16eea0eb7ad24b41cd153776b13c9976cc65fa583e691e8ac5c0cec0", "train"
        ),
        _vocabulary(
            "trainval_vocab.txt",
            7279,
            "eed3624ed64c42a89b23b3e28f8b0548b28dcf3f6ff05b5efd3303bc3244ea58",
            NO_COMMAND,
        ),
        Source(
            f"{R2R}aug_paths.json",
            "http://www.cs.unc.edu/~airsplay/aug_paths.json",
            SPLIT,
            UNKNOWN,
            "train --bt",
            extra=True,
        ),
        _rxr("train_guide", 72.1),
        _rxr("val_seen_guide", 12.9),
        _rxr("val_unseen_guide", 12.0),
        _rxr("test_standard_public_guide", 1.9),
        _rxr("test_challenge_public_guide", 1.9),
        _rxr("train_follower", 12.8),
        _rxr("val_seen_follower", 1.4),
        _rxr("val_unseen_follower", 1.6),
        Source(f"{RXR}RxR.zip", f"{_CLIP_VIL}/RxR.zip", ARCHIVE, UNKNOWN, NO_COMMAND, extra=True),
        *(_graph(name, sha256) for name, sha256 in GRAPH_SHA256.items()),
        _features("CLIP-ResNet-50-views", "clip_rn50"),
        _features("CLIP-ResNet-101-views", "clip_rn101"),
        _features("CLIP-ResNet-50x4-views", "clip_rn50x4"),
        _features("CLIP-ViT-B-32-views", "clip_vit_b32"),
        _features("grid-feat-rn50-BGR-views", "grid-feat-rn50-BGR-views"),
        _features("grid-feat-x101-BGR-views", "grid-feat-x101-BGR-views"),
        Source(
            f"{FEATURES}ResNet-152-imagenet.tsv",
            f"{_DROPBOX}/o57kxh2mn5rkx4o/ResNet-152-imagenet.zip?dl=1",
            ROWS,
            _OF_PICTURES,
            "--features imagenet_resnet152",
            encoder="imagenet_resnet152",
        ),
    )
}

_VLN_CE = "https://github.com/jacobkrantz/VLN-CE"
_OTHER_SETS = "this project knows no address of the files themselves"
BY_HAND = {
    files.name: files
    for files in (
        ByHand(
            "scans/",
            MATTERPORT_TERMS,
            "Matterport3D's pictures can be had only after signing its terms of use",
            "Matterport3D's terms",
            "extract",
        ),
        ByHand(
            "RxR/pose_traces/",
            f"{RXR_BUCKET}/pose_traces",
            "pose traces are tens of GB in a Google bucket: copy them with its own tools",
            UNKNOWN,
            "tasks/pose_traces.py",
        ),
        ByHand("XL-R2R/", "the authors of XL-R2R", _OTHER_SETS, UNKNOWN, "--dataset xl-r2r"),
        ByHand(
            "R4R/",
            "R2R: python -m vln_clip.data make r4r --out FOLDER/R4R",
            "R4R is made of R2R on this machine",
            "as R2R",
            "--dataset r4r",
        ),
        ByHand("R2R-CE/", f"the VLN-CE repository ({_VLN_CE})", _OTHER_SETS, UNKNOWN, "--dataset r2r-ce"),
        ByHand("RxR-CE/", f"the VLN-CE repository ({_VLN_CE})", _OTHER_SETS, UNKNOWN, "--dataset rxr-ce"),
    )
}


def in_folder(folder: str) -> list[Source]:
    """Return the sources of one part of the data folder, e.g. ``R2R/``."""
    return [source for source in SOURCES.values() if source.folder == folder]


def of_dataset(name: str, optional: bool = False) -> list[Source]:
    """Return what a data set consists of, its graphs included, no features.

    Args:
        name: of a data set; others than ``r2r`` and ``rxr`` have graphs alone.
        optional: also what no command asks for by itself: unlabelled paths, people's walks, other projects' files.
    """
    folder = {"r2r": R2R, "rxr": RXR}.get(name)
    every = in_folder(folder) if folder else []
    return [source for source in (*every, *in_folder(CONNECTIVITY)) if optional or not source.extra]


def features_of(name: str) -> Source | None:
    """Return the public file with the features of an encoder, None where there is none."""
    return next((source for source in in_folder(FEATURES) if source.encoder == name), None)
