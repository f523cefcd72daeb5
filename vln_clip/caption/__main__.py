"""The command line of captioning; see ``vln_clip.caption``. What a program needs is imported when its word is read."""

from functools import partial
from typing import TYPE_CHECKING

from vln_clip import log
from vln_clip.launch import run_launched
from vln_clip.run_config import parse_on_preset
from vln_clip.verbs import dispatch

if TYPE_CHECKING:
    from vln_clip.caption.config import CaptionConfig
    from vln_clip.ranks import Ranks

TITLE = "beam search; checkpoints chosen by CIDEr on val, *_last is the last one"
PROG = "python -m vln_clip.caption"


def main(argv: list[str] | None = None) -> None:
    """Run the program: the first word says what to do."""
    verbs = {"train": train, "evaluate": evaluate, "caption": caption, "retrieve": retrieve, "score": score}
    dispatch(argv, PROG, verbs)


def train(argv: list[str]) -> None:
    """Train, in as many processes as were launched."""
    run_launched(partial(parse, argv), run_with)


def evaluate(argv: list[str]) -> None:
    """Score a checkpoint, or a result file."""
    from vln_clip.caption import using

    using.evaluate(argv)


def caption(argv: list[str]) -> None:
    """Write captions of image files."""
    from vln_clip.caption import using

    using.caption(argv)


def retrieve(argv: list[str]) -> None:
    """Let captions find their images, and images their captions."""
    from vln_clip.caption import matching

    matching.retrieve(argv)


def score(argv: list[str]) -> None:
    """Score a result file with an encoder."""
    from vln_clip.caption import matching

    matching.score(argv)


def run_with(settings: "CaptionConfig", ranks: "Ranks") -> None:
    """Open the run's folder, train, and show the results."""
    from vln_clip.caption import recipe
    from vln_clip.report import print_models
    from vln_clip.session import work_in_run

    work_in_run(settings, ranks, recipe.train, partial(print_models, title=TITLE))


def parse(argv: list[str]) -> "CaptionConfig":
    """Parse the command line on top of the preset of its data set."""
    from vln_clip.caption.config import PRESETS
    from vln_clip.caption.data import find_dataset

    return parse_on_preset(argv, PRESETS, find_dataset, f"{PROG} train")


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


if __name__ == "__main__":
    cli()
