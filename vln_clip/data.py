"""``python -m vln_clip.data``: says what the data folder holds, and builds the demo world."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from vln_clip import log, setting
from vln_clip.features.locate import PUBLIC_ADDRESS, PUBLIC_STEMS
from vln_clip.tasks.datasets import find_dataset, known_splits
from vln_clip.tasks.r2r_files import AUG_PATHS_ADDRESS, PUBLIC_FILES

CONNECTIVITY_ADDRESS = "https://github.com/peteanderson80/Matterport3DSimulator (its connectivity folder)"


@dataclass(frozen=True)
class DataConfig:
    """Say what the data folder holds and where the missing files can be had; build the demo world."""

    dataset: Literal["r2r", "demo"] = "r2r"
    """r2r looks into $VLN_CLIP_DATA; demo builds the demo world where it is not there yet"""


def main(argv: list[str] | None = None) -> None:
    """Run the program."""
    config = tyro.cli(DataConfig, args=argv, prog="python -m vln_clip.data")
    folder = setting.dataset_folder(config.dataset)
    dataset = find_dataset(config.dataset)
    splits = [name for name in known_splits(dataset, folder) if dataset.file(name, folder).is_file()]
    log.logger.info("%s: %s; splits: %s", config.dataset, folder.absolute(), ", ".join(splits) or "none")
    if config.dataset == "r2r":
        for name, address in missing(folder).items():
            log.logger.info("missing: %s, from %s", name, address)


def missing(folder: Path) -> dict[str, str]:
    """Return the parts of R2R that a data folder lacks, and where each can be had."""
    wanted = {f"R2R/{name}": public.address for name, public in PUBLIC_FILES.items()}
    wanted["R2R/aug_paths.json"] = f"{AUG_PATHS_ADDRESS} (optional: without it --bt samples such paths)"
    wanted["connectivity/scans.txt"] = CONNECTIVITY_ADDRESS
    if not any((folder / "features").glob("*")):
        wanted["features/*"] = f"{PUBLIC_ADDRESS}{PUBLIC_STEMS['clip_rn50x4']}.tsv, or vln-clip extract makes them"
    return {name: address for name, address in wanted.items() if not (folder / name).is_file()}


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


if __name__ == "__main__":
    cli()
