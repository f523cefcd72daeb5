"""``python -m vln_clip.data [list|make]``: says what the data folder holds, builds the demo world, makes R4R."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vln_clip import log, setting
from vln_clip.connectivity import NavTables
from vln_clip.errors import InputError
from vln_clip.features.locate import PUBLIC_ADDRESS, PUBLIC_STEMS
from vln_clip.tasks import r4r, rxr_files
from vln_clip.tasks.datasets import DATASETS, PUBLIC_SPLITS, Dataset, known_splits, read_split
from vln_clip.tasks.r2r_files import AUG_PATHS_ADDRESS, PUBLIC_FILES
from vln_clip.tasks.split import place_on_graph

CONNECTIVITY_ADDRESS = "https://github.com/peteanderson80/Matterport3DSimulator (its connectivity folder)"
SOURCES = {
    "r4r": "R2R: python -m vln_clip.data make r4r",
    "xl-r2r": "the authors of XL-R2R",
    "r2r-ce": "the VLN-CE repository (https://github.com/jacobkrantz/VLN-CE)",
    "rxr-ce": "the VLN-CE repository (https://github.com/jacobkrantz/VLN-CE)",
}
DEFAULT_VERB = "list"
R4R_SPLITS = ("train", "val_seen", "val_unseen")
DESCRIPTION = "Data sets: what is there, and what can be made of it. Without a word for what to do it lists."


@dataclass(frozen=True)
class List:
    """Say what the data folder holds and where the missing files can be had; build the demo world."""

    dataset: str = "r2r"
    """a data set by name; demo and demo-rxr build the demo world where it is not there yet, others are looked for in
    $VLN_CLIP_DATA"""


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


Command = Annotated[List, tyro.conf.subcommand(DEFAULT_VERB)] | Annotated[Make, tyro.conf.subcommand("make")]


def main(argv: list[str] | None = None) -> None:
    """Run one of the commands."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        words.insert(0, DEFAULT_VERB)
    command: List | Make = tyro.cli(Command, args=words, prog="python -m vln_clip.data", description=DESCRIPTION)
    if isinstance(command, Make):
        make_r4r(command)
    else:
        list_files(command)


def list_files(config: List) -> None:
    """Log what the data folder holds and lacks."""
    dataset = DATASETS[setting.find_dataset(config.dataset)]
    folder = setting.dataset_folder(dataset.name)
    splits = [name for name in known_splits(dataset, folder) if dataset.file(name, folder).is_file()]
    log.logger.info("%s: %s; splits: %s", dataset.name, folder.absolute(), ", ".join(splits) or "none")
    if not dataset.generated:
        for name, address in missing(dataset, folder).items():
            log.logger.info("missing: %s, from %s", name, address)


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


def missing(dataset: Dataset, folder: Path) -> dict[str, str]:
    """Return the parts of a data set that a data folder lacks, and where each can be had."""
    if dataset.name == "rxr":
        names = {f"RxR/{name}": public.address for name, public in rxr_files.PUBLIC_FILES.items()}
        wanted = {name: address for name, address in names.items() if not (folder / name.removesuffix(".gz")).is_file()}
    elif dataset.name == "r2r":
        wanted = {f"R2R/{name}": public.address for name, public in PUBLIC_FILES.items()}
        wanted["R2R/aug_paths.json"] = f"{AUG_PATHS_ADDRESS} (optional: without it --bt samples such paths)"
    else:
        places = (dataset.file(split, folder) for split in (*PUBLIC_SPLITS, *dataset.tests))
        wanted = {str(place.relative_to(folder)): SOURCES[dataset.name] for place in places if not place.is_file()}
    wanted["connectivity/scans.txt"] = CONNECTIVITY_ADDRESS
    if not any((folder / "features").glob("*")):
        wanted["features/*"] = f"{PUBLIC_ADDRESS}{PUBLIC_STEMS['clip_rn50x4']}.tsv, or vln-clip extract makes them"
    return {name: address for name, address in wanted.items() if not (folder / name).is_file()}


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


if __name__ == "__main__":
    cli()
