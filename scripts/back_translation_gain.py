"""Measures what back-translation adds: ``python scripts/back_translation_gain.py [--seeds 1 2 3 4 5]``.

For each seed one follower and one speaker are trained; then the follower goes on twice from the same
checkpoint for as many optimizer steps, with generated instructions and without. Prints the paired gain in
val_unseen success rate and its 95 % interval (Student's t), for the best and for the last checkpoints. Runs
can be stopped and started again.
"""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from scipy import stats

from vln_clip import config, context, log, recipe, results, setting
from vln_clip.job import Job, open_job
from vln_clip.run import LAST, Run
from vln_clip.training import run_stage


@dataclass(frozen=True)
class GainConfig:
    """Compare back-translation with as many updates on labelled data alone."""

    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    """one pair of runs each"""
    dataset: str = "demo"
    """demo or r2r, with the preset of python -m vln_clip.train"""
    shared_speaker: bool = False
    """train the speaker of the first seed only and give it to all pairs; saves time, leaves its variation out"""
    features: str = "pixels"
    """as for python -m vln_clip.train"""
    runs: Path = Path("runs")
    """folder of the runs gain_<dataset>_<seed>"""
    json: Path | None = None
    """also write the figures to this file"""


def main() -> None:
    """Train what is missing and print the gain."""
    options = tyro.cli(GainConfig)
    log.setup()
    if options.shared_speaker:
        share_speaker(options)
    pairs = {seed: compare(options, seed) for seed in options.seeds}
    figures: dict[str, object] = {"pairs": pairs}
    for which in (results.BEST, LAST):
        gains = np.array([100 * (pair[which]["back_translated"] - pair[which]["continued"]) for pair in pairs.values()])
        half = float(stats.t.ppf(0.975, len(gains) - 1) * stats.sem(gains)) if len(gains) > 1 else 0.0
        figures[which] = {"mean_gain": float(gains.mean()), "half_width": half, "gains": gains.tolist()}
        print(
            f"{which}: gains {np.round(gains, 1).tolist()}, mean {gains.mean():.2f} ± {half:.2f} points of success rate"
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def open_pair(options: GainConfig, seed: int) -> Job:
    """Open the run of one seed."""
    preset = config.PRESETS[options.dataset]
    name = f"gain_{options.dataset}_{seed}"
    settings = replace(preset, features=options.features, seed=seed, runs=options.runs, name=name, bt=True, blind=False)
    return open_job(settings, Run(settings))


def share_speaker(options: GainConfig) -> None:
    """Train the first seed's speaker and copy its checkpoints to the other runs."""
    first = open_pair(options, options.seeds[0])
    run_stage(first.run, recipe.speaker_stage(first))
    first.run.close()
    for seed in options.seeds[1:]:
        other = open_pair(options, seed).run.folder / "checkpoints" / "speaker"
        shutil.copytree(first.run.folder / "checkpoints" / "speaker", other, dirs_exist_ok=True)


def compare(options: GainConfig, seed: int) -> dict[str, dict[str, float]]:
    """Return val_unseen success rates of both ways, ``{checkpoint: {way: success rate}}``."""
    job = open_pair(options, seed)
    for build in recipe.stages(job, recipe.follower_worlds(job)).values():
        run_stage(job.run, build())
    run_stage(job.run, recipe.translation_stage(job, "continued"))
    job.run.close()
    found: dict[str, dict[str, float]] = {}
    for which in (results.BEST, LAST):
        found[which] = {}
        for stage in ("follower", "back_translated", "continued"):
            follower, _ = results.load_stage(job, stage, which, job.world)
            table, max_action = job.setting.table(setting.VALIDATION[0]), job.config.follower.max_action
            scores, _ = context.score_agent(job.world, table, follower, max_action)
            found[which][stage] = scores["success_rate"]
        log.logger.info("seed %d %s: %s", seed, which, {k: round(100 * v, 1) for k, v in found[which].items()})
    return found


if __name__ == "__main__":
    main()
