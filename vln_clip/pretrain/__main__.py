"""The command line of CLIP-ViL_p; see ``vln_clip.pretrain``. What a program needs is imported when its word is read."""

import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from vln_clip import log
from vln_clip.launch import run_launched
from vln_clip.pretrain.config import PRESETS, PretrainConfig
from vln_clip.run_config import parse_on_preset
from vln_clip.verbs import dispatch

if TYPE_CHECKING:
    from vln_clip.ranks import Ranks

TITLE = "accuracy; checkpoints chosen by it on val"
PROG = "python -m vln_clip.pretrain"


def main(argv: list[str] | None = None) -> None:
    """Run the program: the first word says what to do; flags alone train."""
    words = sys.argv[1:] if argv is None else argv
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        words = ["train", *words]
    dispatch(words, PROG, {"train": train, "evaluate": evaluate, "predict": predict})


def train(argv: list[str]) -> None:
    """Pre-train and fine-tune, in as many processes as were launched."""
    run_launched(partial(parse, argv), run_with)


def evaluate(argv: list[str]) -> None:
    """Score a fine-tuned checkpoint on a split."""
    from vln_clip.pretrain import using

    using.evaluate(argv)


def predict(argv: list[str]) -> None:
    """Write the result file of a split."""
    from vln_clip.pretrain import using

    using.predict(argv)


def run_with(settings: PretrainConfig, ranks: "Ranks") -> None:
    """Open the run's folder, train, and show the results."""
    from vln_clip.pretrain import recipe
    from vln_clip.report import print_models
    from vln_clip.session import work_in_run

    work_in_run(settings, ranks, recipe.train, partial(print_models, title=TITLE))


def parse(argv: list[str]) -> PretrainConfig:
    """Parse the command line on top of the preset of its data set."""
    from vln_clip.pretrain.datasets import find_dataset

    words = ["--dataset", "demo", *(word for word in argv if word != "--demo")] if "--demo" in argv else argv
    return replace(parse_on_preset(words, PRESETS, find_dataset, f"{PROG} train"), demo=False)


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


if __name__ == "__main__":
    cli()
