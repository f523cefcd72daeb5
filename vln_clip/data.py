"""``python -m vln_clip.data [list|get|verify|make]``: what data there is, where from, and whether it is sound.

``list`` also builds the demo world, ``get`` downloads public files, ``make`` makes R4R. The work is ``datafolder``'s.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vln_clip import log, paths, setting
from vln_clip.connectivity import NavTables
from vln_clip.datafolder import get, listing, verify
from vln_clip.errors import InputError
from vln_clip.sources.overrides import current_sources
from vln_clip.tasks import r4r
from vln_clip.tasks.datasets import DATASETS, find_dataset, known_splits, read_split
from vln_clip.tasks.split import place_on_graph

DEFAULT_VERB = "list"
R4R_SPLITS = ("train", "val_seen", "val_unseen")
DESCRIPTION = "Data sets: what is there, and what can be made of it. Without a word for what to do it lists."
Sources = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


@dataclass(frozen=True)
class List:
    """Say what the data folder holds and lacks, with licences and addresses, and what can be run now.

    Builds the demo world where it is asked for and not there yet.
    """

    dataset: str | None = None
    """only this data set; demo and demo-rxr are generated, others are looked for in $VLN_CLIP_DATA"""
    json: Path | None = None
    """also write the list to this file"""
    source: Sources = ()
    """NAME=ADDRESS: another address for a file or a folder (may be repeated; $VLN_CLIP_SOURCES names a JSON file)"""


@dataclass(frozen=True)
class Get:
    """Download public files into the data folder; what is there and right is kept, what arrives is checked."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """files or folders of the data folder, e.g. R2R/R2R_train.json or connectivity/"""
    dataset: str | None = None
    """annotations and graphs of r2r or rxr"""
    features: str | None = None
    """public features of an encoder, or of several: A+B (several GB each)"""
    optional: bool = False
    """with --dataset also what few need: unlabelled paths, the other vocabulary, people's walks"""
    out: Path | None = None
    """data folder to fill; by default $VLN_CLIP_DATA"""
    source: Sources = ()
    """NAME=ADDRESS: another address for a file or a folder (may be repeated; $VLN_CLIP_SOURCES names a JSON file)"""
    overwrite: bool = False
    """fetch again what is there"""


@dataclass(frozen=True)
class Verify:
    """Check every known file of the data folder; exit status 2 where something is wrong."""

    dataset: str | None = None
    """only this data set; by default all that are there"""
    pose_traces: tuple[str, ...] = ()
    """splits of RxR of which every instruction must have its guide's pose trace"""


@dataclass(frozen=True)
class Make:
    """Make a data set of another: r4r joins pairs of R2R's paths into long ones (Room-for-Room)."""

    what: tyro.conf.Positional[Literal["r4r"]]
    """what to make"""
    out: Path
    """folder for R4R_<split>.json"""
    dataset: Literal["r2r", "demo"] = "r2r"
    """whose paths to join; r2r looks into $VLN_CLIP_DATA, demo takes the demo world"""
    splits: tuple[str, ...] = ()
    """which; by default those of train, val_seen and val_unseen that are there"""
    overwrite: bool = False
    """replace files that are there"""


Command = (
    Annotated[List, tyro.conf.subcommand(DEFAULT_VERB)]
    | Annotated[Get, tyro.conf.subcommand("get")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[Make, tyro.conf.subcommand("make")]
)


def main(argv: list[str] | None = None) -> None:
    """Run one of the commands."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        words.insert(0, DEFAULT_VERB)
    command: List | Get | Verify | Make = tyro.cli(
        Command, args=words, prog="python -m vln_clip.data", description=DESCRIPTION
    )
    if isinstance(command, Make):
        make_r4r(command)
    elif isinstance(command, Get):
        sources = current_sources(command.source)
        wanted = get.choose(sources, command.names, command.dataset, command.features, command.optional)
        get.get(wanted, command.out or paths.data_dir(), command.overwrite)
    elif isinstance(command, Verify):
        verify_files(command)
    else:
        list_files(command)


def list_files(config: List) -> None:
    """Print what the data folder holds and lacks."""
    dataset = DATASETS[setting.find_dataset(config.dataset)] if config.dataset else None
    datasets = [dataset] if dataset else listing.real_datasets()
    folders = {found.name: setting.dataset_folder(found.name) for found in datasets}
    for found in datasets:
        folder = folders[found.name]
        splits = [name for name in known_splits(found, folder) if found.file(name, folder).is_file()]
        if splits or dataset:
            log.logger.info("%s: %s; splits: %s", found.name, folder.absolute(), ", ".join(splits) or "none")
    is_generated = dataset is not None and dataset.generated
    files = [] if is_generated else listing.rows(current_sources(config.source), paths.data_dir(), dataset)
    if files:
        print("\n".join(listing.show(files)), end="\n\n")
    print("\n".join(listing.show_runnable(datasets, folders)))
    if config.json:
        listing.save(config.json, files, datasets, folders)


def verify_files(config: Verify) -> None:
    """Check the files of one data set, or of all that are there."""
    for split in config.pose_traces:
        if find_dataset(config.dataset or "rxr").folder != "RxR":
            raise InputError(f"--pose-traces {split} needs RxR, got --dataset {config.dataset}")
    if config.dataset is None:
        verify.verify(verify.at_hand(paths.data_dir()), paths.data_dir(), config.pose_traces)
    else:
        dataset = DATASETS[setting.find_dataset(config.dataset)]
        verify.verify([dataset], setting.dataset_folder(dataset.name), config.pose_traces)


def make_r4r(config: Make) -> None:
    """Write R4R's files of some splits; every target is looked at before the first is written."""
    data = setting.dataset_folder(config.dataset)
    source = DATASETS[config.dataset]
    here = tuple(name for name in R4R_SPLITS if source.file(name, data).is_file())
    splits = config.splits or here or R4R_SPLITS[:1]  # reading that says where the file can be had
    for name in splits:
        if "/" in name or "@" in name:
            raise InputError(f"--splits must be names of splits for make r4r, got {name!r}")
        target = config.out / r4r.file_name(name)
        if target.exists() and not config.overwrite:
            raise InputError(f"file {target} exists already; --overwrite replaces it")
    for name in splits:
        split = read_split(config.dataset, name, data)
        tables = NavTables.load(data / "connectivity", split.scans)
        target = config.out / r4r.file_name(name)
        items = r4r.join_paths(place_on_graph(split, tables), tables)
        num_paths, num_instructions = r4r.write_r4r(target, items)
        log.logger.info("%s: %d paths, %d instructions", target, num_paths, num_instructions)


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


if __name__ == "__main__":
    cli()
