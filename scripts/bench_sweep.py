"""What an iteration costs by batch size, number of scans and length of instructions: ``bench_train.py --sweep``.

Each row is measured in this process, one after another; the features are on the disk or in memory as in training.
``--plot FILE`` also draws the table, beside what its multiply-adds take at the speed of a large product.
"""

import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from bench_train import BenchConfig, build_learner, iteration_cost, matmul_gflops, random_store

from vln_clip.agents.products import learning_in

BATCH_SIZES = (16, 32, 64, 128, 256)
SCANS = (1, 8, 61)
LENGTHS = (10, 20, 40, 80)
Curve = dict[int, dict[str, float]]


def sweep(config: BenchConfig) -> None:
    """Print a table for each of the three; the other two stay as configured."""
    random_store(config)
    print(f"{'':<28}{'ms':>10}{'ms/episode':>14}{'steps':>8}{'GMAC':>8}{'peak so far MB':>14}")
    curves = {
        "batch size": _curve("batch size", BATCH_SIZES, config, lambda size: (replace(config, batch_size=size), None)),
        "scans": _curve("scans", SCANS, config, lambda count: (config, count)),
        "tokens at most": _curve("tokens at most", LENGTHS, config, lambda n: (replace(config, max_input=n), None)),
    }
    if config.plot:
        draw(curves, matmul_gflops(torch.device(config.device), product_type(config)), config.plot)
        print(config.plot)


def product_type(config: BenchConfig) -> torch.dtype | None:
    """Return what products are taken in; None for the type of the weights."""
    return torch.bfloat16 if config.precision == "bf16" else None


def _curve(
    what: str, values: tuple[int, ...], config: BenchConfig, change: Callable[[int], tuple[BenchConfig, int | None]]
) -> Curve:
    """Measure an iteration for each value, and print a row for each."""
    dtype, found = product_type(config), Curve()
    for value in values:
        changed, num_scans = change(value)
        learner = build_learner(changed, num_scans)
        cost = found[value] = iteration_cost(learner, learning_in(dtype, learner), replace(changed, warmup=1))
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        per_episode_ms = cost["ms_per_iteration"] / (2 * changed.batch_size)  # an iteration has two rollouts
        shown = f"{cost['ms_per_iteration']:>10.0f}{per_episode_ms:>14.2f}{cost['steps_per_iteration']:>8.1f}"
        print(f"{f'{what} {value}':<28}{shown}{cost['gmac_per_iteration']:>8.1f}{peak_mb:>14.0f}", flush=True)
    return found


def draw(curves: dict[str, Curve], gflops: float, path: Path) -> None:
    """Draw cost against each of the three, both axes from zero, so that what is proportional looks so."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    for axes, (what, curve) in zip(figure.subplots(1, len(curves)), curves.items(), strict=True):
        values = list(curve)
        axes.plot(values, [cost["ms_per_iteration"] for cost in curve.values()], "o-", label="measured")
        limits = [2e3 * cost["gmac_per_iteration"] / gflops for cost in curve.values()]
        axes.plot(values, limits, "--", color="gray", label=f"its products at {gflops:.0f} GFLOP/s")
        axes.set(xlabel=what, ylabel="ms per iteration", xlim=(0, None), ylim=(0, None))
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)
