"""``python -m vln_clip.train``: trains, evaluates and submits as ``vln_clip.recipe`` says.

The command line is read before anything heavy is imported: wrong flags and ``--help`` are answered at once.
"""

from functools import partial
from typing import TYPE_CHECKING

from vln_clip import config, log
from vln_clip.choosing import find_dataset
from vln_clip.launch import run_launched

if TYPE_CHECKING:
    from vln_clip.ranks import Ranks


def main(argv: list[str] | None = None) -> None:
    """Run the program, in as many processes as were launched."""
    run_launched(partial(config.parse, argv, find_dataset), run_with)


def run_with(settings: config.TrainConfig, ranks: "Ranks") -> None:
    """Open the run's folder, train, and show the results."""
    from vln_clip import recipe
    from vln_clip.report import print_results
    from vln_clip.session import work_in_run

    work_in_run(settings, ranks, recipe.train, print_results)


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


if __name__ == "__main__":
    cli()
