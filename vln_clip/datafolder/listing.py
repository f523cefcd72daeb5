"""Lists what a data folder holds and lacks: files with licence, address and use; then what can be run now."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vln_clip.datafolder.structure import find_present
from vln_clip.features.formats import SUFFIXES, stem_of
from vln_clip.features.locate import BLIND, PUBLIC_STEMS, cached_path, dataset_key
from vln_clip.files import save_json
from vln_clip.paths import cache_dir
from vln_clip.sources.table import BY_HAND, CONNECTIVITY, CONNECTIVITY_BYTES, FEATURES, Source
from vln_clip.tasks.datasets import DATASETS, PUBLIC_SPLITS, Dataset
from vln_clip.tasks.words import TRAIN

NEEDED = (TRAIN, "val_unseen")
PAPERS_ENCODER = "clip_rn50x4"


@dataclass(frozen=True)
class Row:
    """One line of the list.

    Attributes:
        name: file or folder inside the data folder.
        present: what is there, in words: ``yes``, ``no``, ``12/91``; ``yes as NAME`` for another format.
        num_bytes: size of what is there, else as published; None where unknown.
        size: size for people.
        terms: licence.
        address: where it comes from.
        needed_for: commands.
        required: its data set cannot be trained on without it.
    """

    name: str
    present: str
    num_bytes: int | None
    size: str
    terms: str
    address: str
    needed_for: str
    required: bool = False


def rows(sources: dict[str, Source], data: Path, dataset: Dataset | None) -> list[Row]:
    """Return what belongs to a data set, or to all of them."""
    folders = [*dict.fromkeys(source.folder for source in sources.values())]
    own = f"{dataset.folder}/" if dataset else None
    shown = [folder for folder in folders if own in (None, folder) or folder in (CONNECTIVITY, FEATURES)]
    found: list[Row] = []
    for folder in shown:
        members = [source for source in sources.values() if source.folder == folder]
        found += [_graph_row(members, data)] if folder == CONNECTIVITY else [_row(source, data) for source in members]
    for hand in BY_HAND.values():
        if own in (None, hand.name) or hand.name == "scans/" or (own == "RxR/" and hand.name.startswith(own)):
            present = "yes" if any((data / hand.name).glob("*")) else "no"
            found.append(Row(hand.name, present, None, "unknown", hand.terms, hand.address, hand.needed_for))
    return found


def _row(source: Source, data: Path) -> Row:
    file = find_present(source, data)
    present = "no" if file is None else "yes" if file == data / source.name else f"yes, {file.name}"
    num_bytes = source.num_bytes if file is None else file.stat().st_size
    size = source.size_text if file is None else size_text(file.stat().st_size)
    return Row(source.name, present, num_bytes, size, source.terms, source.address, source.needed_for, source.needed)


def size_text(num_bytes: int) -> str:
    """Return a size for people, exact below a gigabyte."""
    return f"{num_bytes:,} B" if num_bytes < 1e9 else f"{num_bytes / 1e9:.1f} GB"


def _graph_row(members: Sequence[Source], data: Path) -> Row:
    files = [file for source in members if (file := data / source.name).is_file()]
    own = len(list((data / CONNECTIVITY).glob("*"))) - len(files)
    present = "yes" if len(files) == len(members) else f"{len(files)}/{len(members)}" if files else "no"
    if own > 0:
        present += f", {own} own" if files else f", but {own} own"
    num_bytes = sum(file.stat().st_size for file in files) if files else CONNECTIVITY_BYTES
    folder = members[0].address.rpartition("/")[0] + "/"
    return Row(
        CONNECTIVITY,
        present,
        num_bytes,
        f"{num_bytes:,} B",
        members[0].terms,
        folder,
        members[0].needed_for,
        required=True,
    )


def show(found: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the list, at most 100 columns but for long addresses."""
    yield f"{'file':<43} {'there':<5} {'size':>12}  needed for"
    for row in found:
        yield f"{row.name:<43} {row.present.partition(',')[0]:<5} {row.size:>12}  {row.needed_for}"
        also = row.present.partition(", ")[2]
        use = "required" if row.required else "optional"
        yield f"    {use}; terms: {row.terms}{f'; there is {also}' if also else ''}"
        yield f"    {row.address}"


def feature_names(dataset: Dataset, data: Path) -> list[str]:
    """Return the names that ``--features`` finds in the data folder and in the cache; encoders' for public names."""
    public = {stem: encoder for encoder, stem in PUBLIC_STEMS.items()}
    extracted = cached_path(BLIND, cache_dir(), dataset_key(dataset.world, data)).parent
    files = [*(data / FEATURES).glob("*"), *extracted.glob("*")]
    stems = {stem_of(file) for file in files if file.name.endswith(SUFFIXES)}
    return sorted(public.get(stem, stem) for stem in stems)


def runnable(dataset: Dataset, data: Path) -> dict[str, str]:
    """Return what can be done with a data set now: yes or no, by command, with the reason."""
    here = [name for name in (*PUBLIC_SPLITS, *dataset.tests) if dataset.file(name, data).is_file()]
    graphs = (data / CONNECTIVITY / "scans.txt").is_file()
    lacking = [str(dataset.file(name, data).relative_to(data)) for name in NEEDED if name not in here]
    lacking += [] if graphs else [CONNECTIVITY]
    more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
    blind = f"no: {lacking[0]}{more} missing" if lacking else "yes"
    scored = [name for name in here if name in PUBLIC_SPLITS]
    told = {"train --features none (blind)": blind}
    if not lacking:
        names = feature_names(dataset, data)
        told["train --features"] = ", ".join(names) or "none at hand"
        if dataset.generated:
            told["train --features"] = "any encoder, its features are made when asked for"
        elif PAPERS_ENCODER not in names:
            how = "extract" if any((data / "scans").glob("*")) else f"data get --features {PAPERS_ENCODER}"
            told[f"train --features {PAPERS_ENCODER}"] = f"no: missing (vln-clip {how})"
    if graphs and here:
        told["evaluate"] = ", ".join(scored) or "no: no split with goals"
        tests = [name for name in here if name in dataset.tests]
        told["submit"] = ", ".join(tests) or (
            "no: no test split there" if dataset.tests else "no: it has no test split"
        )
    return told


def show_runnable(datasets: Sequence[Dataset], folder_of: dict[str, Path]) -> Iterator[str]:
    """Yield what can be run now, data set by data set."""
    yield "what you can run now"
    for dataset in datasets:
        told = runnable(dataset, folder_of[dataset.name])
        for number, (command, answer) in enumerate(told.items()):
            yield f"{'' if number else dataset.name:<9} {command:<30} {answer}"


def save(file: Path, found: Sequence[Row], datasets: Sequence[Dataset], folder_of: dict[str, Path]) -> None:
    """Write the list as JSON."""
    runs = {dataset.name: runnable(dataset, folder_of[dataset.name]) for dataset in datasets}
    save_json(file, {"files": [vars(row) for row in found], "runnable": runs})


def real_datasets() -> list[Dataset]:
    """Return the data sets that are not generated."""
    return [dataset for dataset in DATASETS.values() if not dataset.generated]
