"""``python -m vln_clip.features inspect|convert|verify|compare FILE…``: stores, TSV and HDF5 files alike."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vln_clip import log, paths
from vln_clip.connectivity import load_graphs
from vln_clip.connectivity.graphs import read_scans
from vln_clip.envs.demo.build import demo_folder, is_complete
from vln_clip.errors import InputError
from vln_clip.extract import demo_folder as built_demo_folder
from vln_clip.features.audit import Wanted, audit, coverage
from vln_clip.features.comparison import Comparison, compare
from vln_clip.features.formats import convert
from vln_clip.features.grid_audit import verify_grids
from vln_clip.features.images import list_images
from vln_clip.features.inspection import inspect
from vln_clip.features.lookup import FeatureFile
from vln_clip.tasks.datasets import DATASETS, find_dataset, known_splits, read_split


@dataclass(frozen=True)
class Inspect:
    """Say what feature files hold."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Feature stores (.safetensors), TSV (.tsv, .tsv.gz) or HDF5 files (.hdf5, .h5), folders of grid features."""


@dataclass(frozen=True)
class Convert:
    """Convert a feature file; the endings of the names say from which format to which."""

    source: tyro.conf.Positional[Path]
    """File to read."""
    target: tyro.conf.Positional[Path]
    """File to write; replaced where it exists."""
    dtype: Literal["float16", "float32"] = "float16"
    """Type inside a store; TSV and HDF5 hold float32."""


@dataclass(frozen=True)
class Verify:
    """Check feature files: sound inside, and complete for a data set; exit status 2 where something is wrong.

    Without --dataset and --connectivity every data set at hand is looked at, and those scans must be complete of
    which the file has a viewpoint.
    """

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Feature stores, TSV or HDF5 files, folders of grid features."""
    dataset: str | None = None
    """Every viewpoint of this data set must be there; demo and demo-rxr are the generated world."""
    connectivity: Path | None = None
    """Folder with scans.txt and graphs, in place of a data set's."""
    splits: tuple[str, ...] = ()
    """Only the scans of these splits of --dataset must be there."""
    images: tuple[Path, ...] = ()
    """Every image of these folders must be in grid features of images."""


@dataclass(frozen=True)
class Compare:
    """Say how far two feature files are apart."""

    first: tyro.conf.Positional[Path]
    """Feature store, TSV or HDF5 file."""
    second: tyro.conf.Positional[Path]
    """Feature store, TSV or HDF5 file."""
    worst: int = 5
    """How many of the worst viewpoints to list."""
    min_cosine: float | None = None
    """Exit status 2 unless both files have the same viewpoints and every view this cosine."""


Command = (
    Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Convert, tyro.conf.subcommand("convert")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
)


def main(argv: list[str] | None = None) -> None:
    """Run one of the four commands."""
    command: Inspect | Convert | Verify | Compare = tyro.cli(Command, args=argv, prog="python -m vln_clip.features")
    if isinstance(command, Inspect | Verify) and not command.files:
        name = type(command).__name__.lower()
        raise InputError(f"{name} must be given at least one feature file, got none; for example: {name} FILE.tsv")
    if isinstance(command, Convert):
        count = convert(command.source, command.target, command.dtype)
        log.logger.info("%s: %d viewpoints", command.target, count)
    elif isinstance(command, Verify):
        verify(command)
    elif isinstance(command, Compare):
        compare_files(command)
    else:
        for path in command.files:
            inspect(path)


def cli() -> None:
    """Run the program."""
    log.program(main)


def verify(config: Verify) -> None:
    """Verify files; a bad one doesn't keep the others from being verified."""
    if config.splits and config.dataset is None:
        raise InputError("--splits needs --dataset, which says whose splits they are")
    maps = [path for path in config.files if path.is_dir()]
    keys = tuple(image.key for image in list_images(config.images))
    wrong = [path for path in maps if not verify_grids(path, keys)]
    if len(maps) < len(config.files):
        wanted, strict = list(_wanted(config)), bool(config.dataset or config.connectivity)
        files = [path for path in config.files if path not in maps]
        wrong += [path for path in files if not _verify(path, wanted, strict, config.splits)]
    if wrong:
        names = ", ".join(str(path) for path in wrong)
        raise InputError(f"feature files must be sound and complete, got {names} which are not (see above)")


def _verify(path: Path, wanted: list[Wanted], strict: bool, splits: tuple[str, ...]) -> bool:
    """Print what is found in one file; return whether nothing is wrong."""
    try:
        found = audit(path)
    except InputError as error:
        print(f"{path}: UNREADABLE\n  problem: {error}")
        return False
    print(found.summary())
    problems = list(found.problems)
    used = [(want, want if strict else want.touched(found.keys)) for want in wanted]
    used = [(want, part) for want, part in used if strict or part.keys]
    for want, part in used:
        line, complete = coverage(part, found.keys, len(want.keys))
        print(f"  {line}")
        if not complete and (not splits or want.name.split()[-1] in splits):
            problems.append(f"incomplete for {want.name}")
    known = {key for want, _ in used for keys in want.keys.values() for key in keys}
    extra = [key for key in found.keys if key not in known]
    if not used:
        print("  note: it has no viewpoint of a data set at hand; --dataset or --connectivity says which one to check")
    elif extra:
        print(f"  note: {len(extra):,} viewpoints are in no graph (excluded ones?), first {extra[0]}")
    for problem in problems:
        print(f"  problem: {problem}")
    whole = all(len(part.keys) == len(want.keys) for want, part in used[:1])
    complete_text = " and complete" if whole else " and complete for the scans it has"
    print(f"  {'WRONG' if problems else 'sound' + (complete_text if used else '')}")
    return not problems


def _wanted(config: Verify) -> Iterator[Wanted]:
    """Yield the viewpoints of the data sets asked for, or at hand: all their graphs, then split by split."""
    if config.connectivity:
        yield _graphs_wanted(str(config.connectivity), config.connectivity)
        return
    chosen = [DATASETS["r2r"], DATASETS["demo"]] if config.dataset is None else [find_dataset(config.dataset)]
    for dataset in chosen:
        data = demo_folder() if dataset.generated else paths.data_dir()
        if config.dataset is None and not is_complete(data):
            continue
        if dataset.generated:
            data = built_demo_folder()
        every = _graphs_wanted(f"{dataset.name} graphs", data / "connectivity")
        yield every
        splits = config.splits or [
            split for split in known_splits(dataset, data) if dataset.file(split, data).is_file()
        ]
        for split in splits:
            scans = read_split(dataset.name, split, data).scans
            yield Wanted(f"{dataset.name} {split}", {scan: every.keys[scan] for scan in scans if scan in every.keys})


def _graphs_wanted(name: str, folder: Path) -> Wanted:
    """Return every viewpoint of a connectivity folder."""
    graphs = load_graphs(folder, read_scans(folder))
    return Wanted(name, {graph.scan: tuple(f"{graph.scan}_{v}" for v in graph.viewpoint_ids) for graph in graphs})


def compare_files(config: Compare) -> None:
    """Compare two files and print the result."""
    if config.worst < 0:
        raise InputError(f"--worst must be at least 0, got {config.worst}")
    with FeatureFile(config.first) as first, FeatureFile(config.second) as second:
        found = compare(first, second, max(config.worst, 1))
    _print_comparison(config, found)
    if config.min_cosine is None:
        return
    lacking = len(found.only_first) + len(found.only_second)
    if lacking or found.num_skipped or found.lowest_cosine < config.min_cosine:
        raise InputError(
            f"the files must have the same finite viewpoints and a cosine of at least {config.min_cosine}, got "
            f"{found.lowest_cosine:.6f}, {lacking} viewpoints in one only and {found.num_skipped} not finite"
        )


def _print_comparison(config: Compare, found: Comparison) -> None:
    for path, only in ((config.first, found.only_first), (config.second, found.only_second)):
        rest = f", {len(only):,} only here, first {only[0]}" if only else ""
        print(f"{path}: {found.num_common + len(only):,} viewpoints{rest}")
    print(f"{found.num_common:,} viewpoints in both: {found.verdict()}")
    if found.num_skipped:
        print(f"  {found.num_skipped:,} left out: they have values that are not finite")
    if not found.num_views:
        return
    sizes = f"{found.mean:.3g} on average, at most {found.largest:.3g} (mean size {found.magnitude:.3g})"
    print(f"  values: differ by {sizes}")
    print(f"  cosine of views: {found.mean_cosine:.6f} on average, lowest {found.lowest_cosine:.6f}")
    print(
        f"  length of views, second / first: {found.mean_ratio:.4f} ({found.low_ratio:.4f} to {found.high_ratio:.4f})"
    )
    for minus, largest, view, key in sorted(found.worst, reverse=True)[: config.worst]:
        print(f"  worst: {key} view {view}, cosine {-minus:.6f}, largest difference {largest:.3g}")


if __name__ == "__main__":
    cli()
