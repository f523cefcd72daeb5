"""What an iteration costs by batch size, number of scans and length of instructions: ``bench_train.py --sweep``.

Each row is measured in this process, one after another; the features are on the disk or in memory as in training.
"""

import resource
from dataclasses import replace

from bench_train import BenchConfig, build_learner, iteration_cost, random_store

BATCH_SIZES = (16, 32, 64, 128, 256)
SCANS = (1, 8, 61)
LENGTHS = (10, 20, 40, 80)


def sweep(config: BenchConfig) -> None:
    """Print a table for each of the three; the other two stay as configured."""
    import torch

    from vln_clip.agents.products import learning_in

    random_store(config)
    dtype = torch.bfloat16 if config.precision == "bf16" else None

    def row(what: str, changed: BenchConfig, num_scans: int | None = None) -> None:
        learner = build_learner(changed, num_scans)
        cost = iteration_cost(learner, learning_in(dtype, learner), replace(changed, warmup=1))
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        per_episode_ms = cost["ms_per_iteration"] / (2 * changed.batch_size)  # an iteration has two rollouts
        shown = f"{cost['ms_per_iteration']:>10.0f}{per_episode_ms:>14.2f}{cost['steps_per_iteration']:>8.1f}"
        print(f"{what:<28}{shown}{cost['gmac_per_iteration']:>8.1f}{peak_mb:>14.0f}", flush=True)

    print(f"{'':<28}{'ms':>10}{'ms/episode':>14}{'steps':>8}{'GMAC':>8}{'peak so far MB':>14}")
    for size in BATCH_SIZES:
        row(f"batch size {size}", replace(config, batch_size=size))
    for count in SCANS:
        row(f"scans {count}", config, count)
    for length in LENGTHS:
        row(f"tokens at most {length}", replace(config, max_input=length))
