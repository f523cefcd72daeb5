"""The frame of every training program: one run's folder opened, worked in and closed, signals handled in order."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vln_clip import files, log, signals
from vln_clip.determinism import deterministic
from vln_clip.devices import pick_device
from vln_clip.errors import InputError
from vln_clip.ranks import Ranks
from vln_clip.run import Run
from vln_clip.run_config import ConfigT
from vln_clip.stage import Stage
from vln_clip.training import run_stage


def work_in_run(
    settings: ConfigT, ranks: Ranks, work: Callable[[Run[ConfigT]], Any], show: Callable[[Path], None]
) -> None:
    """Open the folder of a run, work there unless the run is finished, and show its ``results.json``.

    Args:
        settings: of the run.
        ranks: who work together; the first one shows.
        work: ends with the results file in its place.
        show: called with that file.

    Raises:
        SystemExit: with ``signals.EXIT_STATUS``, after a signal; all is saved.
    """
    with ranks.together():
        run = Run(settings, ranks)
    try:
        if ranks.from_main(run.results_file.is_file):
            log.logger.info("%s is finished; another --name starts a new run", run.folder)
        else:
            with run.stops:
                work(run)
    except (Exception, signals.StopRequestedError):
        if run.stops.requested is None:
            raise
        # Libraries turn what a signal raises in their midst into errors of their own.
        log.logger.info("stopped by %s: the same command goes on with %s", run.stops.requested, run.folder)
        raise SystemExit(signals.EXIT_STATUS) from None
    finally:
        run.close()
    if ranks.is_main:
        try:
            show(run.results_file)
        except InputError as error:
            raise InputError(f"{error}; remove it, and the same command evaluates the run again") from None


@contextmanager
def computing(run: Run[ConfigT]) -> Iterator[torch.device]:
    """Give the device of a run, within ``--deterministic`` where that is asked for."""
    device = pick_device(run.ranks.device or run.config.device)
    if not run.config.deterministic:
        yield device
        return
    with deterministic(run.folder, device, run.ranks):
        yield device


def train_stages(run: Run[Any], stages: Mapping[str, Callable[[], Stage]]) -> None:
    """Go through the stages of a run; each is set up when those before it are trained."""
    for build in stages.values():
        run_stage(run, build())


def save_results(run: Run[Any], results: Mapping[str, Any]) -> None:
    """Write the results of a run, the last thing to do: they say that it is finished."""
    with run.ranks.together():
        if run.ranks.is_main:
            files.save_json(run.results_file, results)
