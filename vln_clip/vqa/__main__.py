"""The command line of VQA; see ``vln_clip.vqa``. It is read before anything heavy is imported."""

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import tyro

from vln_clip import log
from vln_clip.errors import unknown_name
from vln_clip.launch import launched, muted_elsewhere, one_voice
from vln_clip.vqa.config import PRESETS, VqaConfig

if TYPE_CHECKING:
    from vln_clip.ranks import Ranks

PROG = "python -m vln_clip.vqa"
VERBS = ("train", "evaluate", "predict")


def main(argv: list[str] | None = None) -> None:
    """Run the program: the first word says what to do."""
    words = sys.argv[1:] if argv is None else argv
    verb = words[0] if words else ""
    if verb in ("", "-h", "--help"):
        print(f"usage: {PROG} {{{','.join(VERBS)}}} [flags]   ({PROG} VERB --help lists a verb's flags)")
        return
    if verb not in VERBS:
        raise unknown_name("verb", verb, VERBS)
    if verb == "train":
        train(words[1:])
        return
    from vln_clip.vqa import using

    getattr(using, verb)(words[1:])


def train(argv: list[str]) -> None:
    """Train, in as many processes as were launched."""
    with one_voice():
        with muted_elsewhere():
            settings = parse(argv)
        with launched(settings.device) as ranks:
            run_with(settings, ranks)


def run_with(settings: VqaConfig, ranks: "Ranks") -> None:
    """Open the run's folder, train, and show the results."""
    from vln_clip.session import work_in_run
    from vln_clip.vqa import recipe
    from vln_clip.vqa.report import print_results

    run = work_in_run(settings, ranks, recipe.train)
    if ranks.is_main:
        print_results(run.results_file)


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
