"""Where ``--features NAME`` is found: a file, the data folder, the cache. Extraction is the programs' matter."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from vln_clip.encoders.table import ENCODERS, PREFIXES, check_name
from vln_clip.encoders.tower_files import PREFIX as TOWER
from vln_clip.encoders.tower_files import is_tower, read_tower_header, tower_path
from vln_clip.errors import InputError, unknown_name
from vln_clip.features.formats import STORE_SUFFIX, SUFFIXES, convert, format_of, stem_of
from vln_clip.features.store import FeatureStore, open_store
from vln_clip.log import logger
from vln_clip.sources.table import FEATURES, in_folder

BLIND = "none"
# What the public files are called, without their ending.
PUBLIC_STEMS = {source.encoder: stem_of(Path(source.name)) for source in in_folder(FEATURES)}


def split_name(name: str) -> list[str]:
    """Split ``a+b`` into its parts; ``none`` has no parts, a file (also a tower's) is one part.

    Raises:
        InputError: a part is empty, or ``none`` beside others.
    """
    if name == BLIND:
        return []
    if Path(name).is_file() or (is_tower(name) and tower_path(name).is_file()):
        return [name]
    parts = name.split("+")
    if not all(parts) or BLIND in parts:
        raise InputError(f"features must be NAME, A+B, a file or none, got {name!r}")
    return parts


def is_file_name(name: str) -> bool:
    """Return whether a part of ``--features`` names a file."""
    return name.lower().endswith(SUFFIXES) and not is_tower(name)


def file_stem(name: str) -> str:
    """Return an encoder's name as a file name: ``open_clip:ARCH/TAG`` has characters that files cannot.

    A tower of one's own is named by its digest: wherever its file lies, its features are the same.
    """
    if is_tower(name):
        return f"{TOWER}-{read_tower_header(tower_path(name)).sha256[:16]}"
    name = "pixels" if name == "pixels:640" else name
    return name.replace(":", "-").replace("/", "-")


def cache_stem(name: str) -> str:
    """Return ``file_stem`` for the cache, with a digest of weights that come with the package and may be made anew."""
    if name != "clip_demo":
        return file_stem(name)
    from vln_clip.encoders.demo_clip import WEIGHTS  # imports open_clip

    return f"{name}-{hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:8]}"


def find_store(name: str, data: Path, cache: Path, key: str) -> FeatureStore | None:
    """Open the features of one name where they are on this machine.

    Args:
        name: an encoder's name, the stem of a file in ``<data>/features``, or a feature file.
        data: the data folder; only read.
        cache: the cache folder; TSV and HDF5 files are converted into it once.
        key: name of the data set in the cache, see ``dataset_key``.

    Returns:
        The open store; None where nothing is found and an encoder of this name could make it.

    Raises:
        InputError: the file is missing or damaged, or the name is unknown (with a suggestion).
    """
    if is_file_name(name):
        if not Path(name).is_file():
            raise InputError(f"features must be a file or the name of an encoder, got {name!r} which does not exist")
        return open_store(_as_store(Path(name), cache))
    for stem in (file_stem(name), PUBLIC_STEMS.get(name)):
        for suffix in SUFFIXES if stem else ():
            path = data / "features" / f"{stem}{suffix}"
            if path.is_file():
                return open_store(_as_store(path, cache))
    _check_name(name, data)
    cached = cached_path(name, cache, key)
    return open_store(cached) if cached.is_file() else None


def cached_path(name: str, cache: Path, key: str) -> Path:
    """Return where the extracted features of one encoder belong in the cache."""
    return cache / "features" / key / f"{cache_stem(name)}{STORE_SUFFIX}"


def dataset_key(dataset: str, data: Path) -> str:
    """Return a name for a data set in the cache, another one for another folder or other graphs."""
    digest = hashlib.sha256(str(data.resolve()).encode())
    for path in sorted((data / "connectivity").glob("*")):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    return f"{dataset}-{digest.hexdigest()[:12]}"


def check_width(stores: Sequence[FeatureStore], width: int, wanted_by: str) -> None:
    """Raise ``InputError`` unless the widths of the stores add up to what a checkpoint or flag asks for."""
    found = sum(store.width for store in stores)
    if found != width:
        files = ", ".join(str(store.path) for store in stores) or "no features"
        wanted = f"{wanted_by} must have {width} columns"
        raise InputError(f"features of the wrong width: {wanted}, got {found} from {files}")


def features_used(stores: Sequence[FeatureStore]) -> str:
    """Name what is really used, e.g. ``pixels standing in for clip_rn50x4``; ``none`` for a blind agent."""
    names = []
    for store in stores:
        instead_of = store.header.stand_in_for
        names.append(f"{store.name} standing in for {instead_of}" if instead_of else store.name)
    return " + ".join(names) or BLIND


def _check_name(name: str, data: Path) -> None:
    """Raise ``InputError`` unless an encoder has this name; files of the data folder count as known names."""
    prefix, _, rest = name.partition(":")
    if name in ENCODERS or (rest and prefix in PREFIXES):
        check_name(name)
        return
    files = [stem_of(path) for path in sorted((data / "features").glob("*")) if path.name.endswith(SUFFIXES)]
    raise unknown_name("features", name, [*ENCODERS, *files, BLIND, "open_clip:ARCH/TAG", "timm:NAME", "tower:PATH"])


def _as_store(path: Path, cache: Path) -> Path:
    """Return a store with a file's features: itself, or its conversion in the cache."""
    if format_of(path) == "store":
        return path
    state = path.stat()
    digest = hashlib.sha256(f"{path.resolve()} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:12]
    target = cache / "features" / "converted" / f"{stem_of(path)}-{digest}{STORE_SUFFIX}"
    if not target.is_file():
        logger.info("converting %s into the cache, once", path)
        convert(path, target)
    return target
