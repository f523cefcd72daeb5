"""What ``vln_clip.pretrain`` does with a run's folder: stages of pre-training, fine-tuning with and without."""

from collections.abc import Callable
from functools import partial

from vln_clip import log
from vln_clip.encoders.tower_files import save_tower
from vln_clip.pretrain import finetuning, pretraining
from vln_clip.pretrain.config import PretrainConfig
from vln_clip.pretrain.job import FIRST, SECOND, Job, open_job
from vln_clip.run import Run
from vln_clip.session import computing, save_results, train_stages
from vln_clip.stage import Stage

TOWER = "tower.safetensors"


def train(run: Run[PretrainConfig]) -> None:
    """Train, evaluate and write what a run is for."""
    with computing(run) as device:
        job = run.ranks.first_here(lambda: open_job(run, device))
        train_stages(run, stages(job))
        if run.config.pretrain:
            export_tower(job)
        save_results(run, finetuning.evaluate_all(job))
    log.logger.info("results, checkpoints and result files are in %s", run.folder)


def stages(job: Job) -> dict[str, Callable[[], Stage]]:
    """Return what sets up each stage, in their order."""
    found: dict[str, Callable[[], Stage]] = {}
    if job.config.pretrain:
        if job.config.has_first_stage:
            found[FIRST] = partial(pretraining.first, job)
        found[SECOND] = partial(pretraining.second, job)
    for task, pretrained in job.config.fine_tuned:
        found[finetuning.row_name(task, pretrained)] = partial(finetuning.stage, job, task, pretrained)
    return found


def export_tower(job: Job) -> None:
    """Write the pre-trained image encoder as a file, so that other programs can see with it (``tower:PATH``)."""
    with job.run.ranks.together():
        if job.run.ranks.is_main:
            model = pretraining.load(job)
            path = job.run.folder / TOWER
            # Pre-training reads the map alone, so that the encoder's own pool does not fit it any more.
            save_tower(model.vil.encoder, path, f"pre-trained by {job.run.folder.name}", pooling="mean")
            log.logger.info("the pre-trained encoder is in %s (--features tower:%s)", path, path)
