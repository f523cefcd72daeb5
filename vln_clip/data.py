"""``python -m vln_clip.data``: says what the data folder holds, and builds the demo world."""

from dataclasses import dataclass
from typing import Literal

import tyro

from vln_clip import log, setting
from vln_clip.tasks.r2r_files import PUBLIC_FILES, known_splits


@dataclass(frozen=True)
class DataConfig:
    """Say which data sets are on this machine and where the missing files can be had."""

    dataset: Literal["auto", "demo", "r2r"] = "auto"
    """demo builds the demo world where it is not there yet"""


def main(argv: list[str] | None = None) -> None:
    """Run the program."""
    config = tyro.cli(DataConfig, args=argv, prog="python -m vln_clip.data")
    dataset = setting.find_dataset(config.dataset)
    folder = setting.dataset_folder(dataset)
    log.logger.info("%s: %s", dataset, folder.absolute())
    splits = [name for name in known_splits(folder) if (folder / "R2R" / f"R2R_{name}.json").is_file()]
    log.logger.info("splits: %s", ", ".join(splits) or "none")
    if dataset == "r2r":
        for name, public in PUBLIC_FILES.items():
            if not (folder / "R2R" / name).is_file():
                log.logger.info("missing: R2R/%s, from %s", name, public.address)


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


if __name__ == "__main__":
    cli()
