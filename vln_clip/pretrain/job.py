"""A run of CLIP-ViL_p with its data: what every stage works with."""

from dataclasses import dataclass, replace
from zlib import crc32

import torch

from vln_clip import log
from vln_clip.pretrain.config import PretrainConfig
from vln_clip.pretrain.data import VilData
from vln_clip.pretrain.recipes import Recipe, Recipes, recipes_for
from vln_clip.run import Run, describe_start

FIRST, SECOND, NO_PRETRAINING = "pretraining_1", "pretraining_2", "_no_pretraining"
BEST, LAST = "best_val", "last"


@dataclass
class Job:
    """What every stage of a run works with."""

    run: Run[PretrainConfig]
    data: VilData

    @property
    def config(self) -> PretrainConfig:
        """Return the run's configuration."""
        return self.run.config

    @property
    def recipes(self) -> Recipes:
        """Return how the stages are trained."""
        return recipes_for(self.config.size, self.config.encoder)

    def adapted(self, recipe: Recipe) -> Recipe:
        """Return a stage's recipe with what the user changed."""
        return replace(
            recipe,
            batch_size=self.config.batch_size or recipe.batch_size,
            accumulation=self.config.accumulation or recipe.accumulation,
        )

    def seed(self, purpose: str) -> int:
        """Return a seed of its own for each purpose."""
        return self.config.seed * 1000 + crc32(purpose.encode()) % 1000


def open_job(run: Run[PretrainConfig], device: torch.device) -> Job:
    """Open the data of a run, and log what it is."""
    config, data = run.config, VilData(run.config, device)
    job = Job(run, data)
    recipes = job.recipes
    for recipe in (recipes.first, recipes.second, *recipes.tasks.values()):
        run.ranks.require_rows("--batch-size", job.adapted(recipe).batch_size)
    describe_start(config, device, data.encoder_used())
    for line in data.describe():
        log.logger.info(line)
    return job
