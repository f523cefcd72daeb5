"""The command line of captioning; see ``vln_clip.caption``. It is read before anything heavy is imported."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import tyro

from vln_clip import log
from vln_clip.launch import launched, muted_elsewhere, one_voice
from vln_clip.verbs import dispatch

if TYPE_CHECKING:
    from vln_clip.caption.config import CaptionConfig
    from vln_clip.ranks import Ranks

PROG = "python -m vln_clip.caption"


def main(argv: list[str] | None = None) -> None:
    """Run the program: the first word says what to do."""
    verbs = {"train": train, "evaluate": evaluate, "caption": caption, "retrieve": retrieve, "score": score}
    dispatch(argv, PROG, verbs)


def train(argv: list[str]) -> None:
    """Train, in as many processes as were launched."""
    with one_voice():
        with muted_elsewhere():
            settings = parse(argv)
        with launched(settings.device) as ranks:
            run_with(settings, ranks)


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

    run = work_in_run(settings, ranks, recipe.train)
    if ranks.is_main:
        print_models(run.results_file, "beam search; checkpoints chosen by CIDEr on val, *_last is the last one")


def parse(argv: list[str]) -> "CaptionConfig":
    """Parse the command line on top of the preset of its data set."""
    from vln_clip.caption.config import PRESETS, CaptionConfig
    from vln_clip.caption.data import find_dataset

    first, _ = tyro.cli(_DatasetOnly, args=argv, return_unknown_args=True, add_help=False)
    dataset = find_dataset(first.dataset)
    config = tyro.cli(CaptionConfig, args=argv, default=PRESETS[dataset], prog=f"{PROG} train")
    return replace(config, dataset=dataset)


@dataclass(frozen=True)
class _DatasetOnly:
    dataset: str = "auto"


def cli() -> None:
    """Run the program with errors told in one sentence."""
    log.program(main)


if __name__ == "__main__":
    cli()
