"""``python -m vln_clip.train``: trains, evaluates and submits as ``vln_clip.recipe`` says.

The command line is read before anything heavy is imported: wrong flags and ``--help`` are answered at once.
"""

from typing import TYPE_CHECKING

from vln_clip import config, log
from vln_clip.choosing import find_dataset
from vln_clip.errors import InputError
from vln_clip.launch import launched, muted_elsewhere, one_voice

if TYPE_CHECKING:
    from vln_clip.ranks import Ranks


def main(argv: list[str] | None = None) -> None:
    """Run the program, in as many processes as were launched."""
    with one_voice():
        with muted_elsewhere():
            settings = config.parse(argv, find_dataset)
        with launched(settings.device) as ranks:
            run_with(settings, ranks)


def run_with(settings: config.TrainConfig, ranks: "Ranks") -> None:
    """Open the run's folder, train, and show the results."""
    from vln_clip import recipe
    from vln_clip.report import print_results
    from vln_clip.session import work_in_run

    run = work_in_run(settings, ranks, recipe.train)
    if ranks.is_main:
        try:
            print_results(run.results_file)
        except InputError as error:
            raise InputError(f"{error}; remove it, and the same command evaluates the run again") from None


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


if __name__ == "__main__":
    cli()
