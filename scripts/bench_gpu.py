"""Measures training on a GPU: ``python scripts/bench_gpu.py [--json FILE]``. Without one it says so and exits 2.

``--dry-run`` goes through all of it on the CPU instead, with few iterations of small batches, to show that it works;
what it prints then are no measurements.

Iterations per second at batch 64 and episode-steps per second at batch 1024, on real R2R (or the demo world) with
random float16 features on the device; then what bounds them: how many kernels a step launches, how long the GPU
works in it, and the limits that follow. Rollouts and tables are those of ``scripts/bench_train.py``.
"""

import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

if TYPE_CHECKING:
    from vln_clip.envdrop import FollowerLearner

GOAL_ITERATIONS_PER_S, GOAL_STEPS_PER_S = 30.0, 60_000.0
BATCH_SIZES, BATCH_SIZES_DRY = (64, 1024), (4, 8)
NO_GPU = "no GPU here: unmeasured (scripts/bench_gpu.py needs one; scripts/bench_train.py measures the CPU)"


@dataclass(frozen=True)
class BenchConfig:
    """Measure training on a GPU."""

    json: Path | None = None
    """also write the figures to this file"""
    dataset: Literal["r2r", "demo"] = "r2r"
    """r2r reads $VLN_CLIP_DATA; demo measures the demo world's episodes with the same model"""
    width: int = 640
    """width of the random features; 0 measures a blind agent"""
    iters: int = 20
    """timed iterations of each batch size"""
    warmup: int = 5
    """iterations before timing"""
    precision: Literal["float32", "bf16"] = "float32"
    """of the matrix products"""
    device: str = "cuda"
    """which GPU"""
    dry_run: bool = False
    """go through everything on the CPU, quickly: the figures mean nothing"""


def main() -> None:
    """Measure and print; exit with status 2 where there is no GPU."""
    config = tyro.cli(BenchConfig)
    import torch

    if config.dry_run:
        config = replace(config, device="cpu", iters=2, warmup=1)
    elif not torch.cuda.is_available():
        print(f"error: {NO_GPU}", file=sys.stderr)
        raise SystemExit(2)
    batch_sizes = BATCH_SIZES_DRY if config.dry_run else BATCH_SIZES
    figures: dict[str, float] = {}
    for batch_size in batch_sizes:
        figures |= measure(config, batch_size)
    figures |= profile(config, batch_sizes[0])
    goals = {"iterations_per_s_64": GOAL_ITERATIONS_PER_S, "episode_steps_per_s_1024": GOAL_STEPS_PER_S}
    where = "dry run on the CPU" if config.dry_run else torch.cuda.get_device_name(config.device)
    print(f"{where}, torch {torch.__version__}, {config.precision}")
    for name, value in figures.items():
        goal = f"   goal {goals[name]:g}: {value / goals[name]:.2f} of it" if name in goals else ""
        print(f"{name:<32}{value:>12.2f}{goal}")
    if config.json:
        config.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(config: BenchConfig, batch_size: int) -> dict[str, float]:
    """Time iterations of one batch size."""
    import torch
    from bench_train import timed

    learner, learn = training(config, batch_size)
    device = learner.world.device
    counts = count_decisions(learner)
    for _ in range(config.warmup):
        learn()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds, decisions = [], []
    for _ in range(config.iters):
        before = int(counts["decisions"])
        seconds.append(timed(learn, device))
        decisions.append(int(counts["decisions"]) - before)
    median_s = statistics.median(seconds)
    return {
        f"iterations_per_s_{batch_size}": 1 / median_s,
        f"episode_steps_per_s_{batch_size}": sum(decisions) / sum(seconds),
        f"device_memory_mb_{batch_size}": torch.cuda.max_memory_allocated(device) / 2**20,
    }


def profile(config: BenchConfig, batch_size: int) -> dict[str, float]:
    """Say what an iteration is made of: kernels per step, and the GPU's share of the time.

    On a GPU the kernels' own time is counted; in a dry run that of the CPU's operations takes its place.
    """
    from bench_train import timed
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as recorded

    learner, learn = training(config, batch_size)
    device = learner.world.device
    for _ in range(config.warmup):
        learn()
    counts, plain_s = count_decisions(learner), timed(learn, device)
    steps = int(counts["steps"])
    on_gpu = device.type == "cuda"
    with recorded(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as found:
        timed(learn, device)
    steps_profiled = int(counts["steps"]) - steps
    launches = waits = 0
    busy: list[tuple[float, str]] = []  # microseconds of each kernel, and its name
    for event in found.key_averages():
        launches += event.count * ("LaunchKernel" in event.key)
        waits += event.count * ("StreamSynchronize" in event.key)
        is_kernel = event.device_type != DeviceType.CPU and not getattr(event, "is_user_annotation", False)
        # An operation of the CPU is said to take the time of the kernels that it launched: those count themselves.
        if is_kernel or not on_gpu:
            taken_us = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            busy.append((taken_us, f"x{event.count:<6} {event.key:.90}"))
    for taken_us, name in sorted(busy, reverse=True)[:8]:
        print(f"  {taken_us / 1e3:8.2f} ms  {name}")
    busy_s = sum(taken_us for taken_us, _ in busy) / 1e6
    return {
        "launches_per_step": launches / steps_profiled,
        "waits_per_step": waits / steps_profiled,
        "gpu_busy_share": busy_s / steps_profiled * steps / plain_s,
        "limit_iterations_per_s": steps_profiled / busy_s / steps,  # were the GPU never idle
    }


def training(config: BenchConfig, batch_size: int) -> tuple["FollowerLearner", Callable[[], Any]]:
    """Return a learner on the GPU and its iteration in the precision asked for."""
    import torch
    from bench_train import BenchConfig as Shared
    from bench_train import build_learner, random_store

    from vln_clip.agents.products import learning_in

    shared = Shared(dataset=config.dataset, width=config.width, device=config.device, batch_size=batch_size)
    random_store(replace(shared, device="cpu"))
    learner = build_learner(shared)
    return learner, learning_in(torch.bfloat16 if config.precision == "bf16" else None, learner)


def count_decisions(learner: "FollowerLearner") -> dict[str, Any]:
    """Let a learner count its steps and decisions from now on; the sums stay on the device."""
    counts: dict[str, Any] = {"steps": 0, "decisions": 0}
    roll_out = type(learner)._roll_out

    def counting(batch: Any, noise: Any, sample: bool) -> Any:
        record = roll_out(learner, batch, noise, sample)
        counts["steps"] += len(record.mask)
        counts["decisions"] = counts["decisions"] + record.mask.sum()
        return record

    learner._roll_out = counting  # type: ignore[method-assign]
    return counts


if __name__ == "__main__":
    main()
