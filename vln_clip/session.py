"""The frame of every training program: one run's folder opened, worked in and closed, signals handled in order."""

from collections.abc import Callable
from typing import Any

from vln_clip import log, signals
from vln_clip.ranks import Ranks
from vln_clip.run import ConfigT, Run


def work_in_run(settings: ConfigT, ranks: Ranks, work: Callable[[Run[ConfigT]], Any]) -> Run[ConfigT]:
    """Open the folder of a run and work there, unless the run is finished.

    Returns:
        The run, closed; its ``results_file`` is there.

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
    return run
