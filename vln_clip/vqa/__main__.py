"""The command line of VQA; see ``vln_clip.vqa``. What a program needs is imported when its word is read."""

from functools import partial
from typing import TYPE_CHECKING

from vln_clip import log
from vln_clip.launch import run_launched
from vln_clip.run_config import parse_on_preset
from vln_clip.verbs import dispatch
from vln_clip.vqa.config import PRESETS, VqaConfig

if TYPE_CHECKING:
    from vln_clip.ranks import Ranks

TITLE = "official accuracy; checkpoints chosen by it on val, *_last is the last one"
PROG = "python -m vln_clip.vqa"


def main(argv: list[str] | None = None) -> None:
    """Run the program: the first word says what to do."""
    dispatch(argv, PROG, {"train": train, "evaluate": evaluate, "predict": predict, "zeroshot": zeroshot})


def train(argv: list[str]) -> None:
    """Train, in as many processes as were launched."""
    run_launched(partial(parse, argv), run_with)


def evaluate(argv: list[str]) -> None:
    """Score a checkpoint, or a result file."""
    from vln_clip.vqa import using

    using.evaluate(argv)


def predict(argv: list[str]) -> None:
    """Write the result file of a split, or check one."""
    from vln_clip.vqa import using

    using.predict(argv)


def zeroshot(argv: list[str]) -> None:
    """Let an encoder with a text tower answer without training."""
    from vln_clip.vqa import zeroshot

    zeroshot.main(argv)


def run_with(settings: VqaConfig, ranks: "Ranks") -> None:
    """Open the run's folder, train, and show the results."""
    from vln_clip.report import print_models
    from vln_clip.session import work_in_run
    from vln_clip.vqa import recipe

    work_in_run(settings, ranks, recipe.train, partial(print_models, title=TITLE))


def parse(argv: list[str]) -> VqaConfig:
    """Parse the command line on top of the preset of its data set."""
    from vln_clip.vqa.data import find_dataset

    return parse_on_preset(argv, PRESETS, find_dataset, f"{PROG} train")


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


if __name__ == "__main__":
    cli()
