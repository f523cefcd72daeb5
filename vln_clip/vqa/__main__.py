"""The command line of VQA; see ``vln_clip.vqa``. It is read before anything heavy is imported."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import tyro

from vln_clip import log
from vln_clip.launch import launched, muted_elsewhere, one_voice
from vln_clip.verbs import dispatch
from vln_clip.vqa.config import PRESETS, VqaConfig

if TYPE_CHECKING:
    from vln_clip.ranks import Ranks

PROG = "python -m vln_clip.vqa"


def main(argv: list[str] | None = None) -> None:
    """Run the program: the first word says what to do."""
    dispatch(argv, PROG, {"train": train, "evaluate": evaluate, "predict": predict, "zeroshot": zeroshot})


def train(argv: list[str]) -> None:
    """Train, in as many processes as were launched."""
    with one_voice():
        with muted_elsewhere():
            settings = parse(argv)
        with launched(settings.device) as ranks:
            run_with(settings, ranks)


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

    run = work_in_run(settings, ranks, recipe.train)
    if ranks.is_main:
        print_models(run.results_file, "official accuracy; checkpoints chosen by it on val, *_last is the last one")


def parse(argv: list[str]) -> VqaConfig:
    """Parse the command line on top of the preset of its data set."""
    from vln_clip.vqa.data import find_dataset

    first, _ = tyro.cli(_DatasetOnly, args=argv, return_unknown_args=True, add_help=False)
    dataset = find_dataset(first.dataset)
    config = tyro.cli(VqaConfig, args=argv, default=PRESETS[dataset], prog=f"{PROG} train")
    return replace(config, dataset=dataset)


@dataclass(frozen=True)
class _DatasetOnly:
    dataset: str = "auto"


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


if __name__ == "__main__":
    cli()
