"""Measures training speed on real R2R: ``python scripts/bench_train.py [--json FILE]``.

What is timed is what training does: a teacher-forced and a sampled rollout of 64 episodes each, backward, clip
and step (RMSprop), an untrained policy, real instructions, random 640-d features. The share per observation step
is the time of an iteration divided by the steps of its two rollouts. Everything runs in a fresh process with
warm caches; the reference's figures were taken on a 2-core machine with a float32 matrix product of 170 GFLOP/s.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

REFERENCE = {"ms_per_step": 78.0, "val_unseen_s": 4.9, "startup_s": 6.0, "peak_rss_mb": 2600.0}
REFERENCE_GFLOPS = 170.0


@dataclass(frozen=True)
class BenchConfig:
    """Measure training speed, evaluation, start-up and memory."""

    json: Path | None = None
    """also write the figures to this file"""
    dataset: Literal["r2r", "demo"] = "r2r"
    """r2r reads $VLN_CLIP_DATA; demo measures the demo world's episodes with the same model"""
    width: int = 640
    """width of the random features; 0 measures a blind agent"""
    iters: int = 20
    """timed iterations"""
    warmup: int = 3
    """iterations before timing"""
    device: str = "cpu"
    """where to measure"""
    child: bool = False
    """measure in this process and print JSON (used internally)"""


def main() -> None:
    """Warm the caches, measure in a fresh process, print figures beside the reference's."""
    config = tyro.cli(BenchConfig)
    if config.child:
        print(json.dumps(measure(config)))
        return
    from vln_clip import log

    log.setup()
    random_store(config)
    command = [sys.executable, __file__, *sys.argv[1:], "--child"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    figures = json.loads(done.stdout.splitlines()[-1])
    for name, value in figures.items():
        beside = ""
        if name in REFERENCE and config.dataset == "r2r":
            beside = f"   reference {REFERENCE[name]:g}: {REFERENCE[name] / value:.1f} times ours"
        print(f"{name:<20}{value:>10.2f}{beside}")
    speed = figures["matmul_gflops"]
    print(f"this machine's matrix product is {speed / REFERENCE_GFLOPS:.2f} times that of the reference's machine")
    if config.json:
        config.json.write_text(json.dumps(figures, indent=2) + "\n")


def random_store(config: BenchConfig) -> Path:
    """Return a store of random features for every viewpoint of the data set, written once into the cache."""
    import numpy as np

    from vln_clip import setting
    from vln_clip.features.store import StoreHeader, write_store
    from vln_clip.paths import cache_dir

    data = setting.open_setting(config.dataset, None, setting.pick_device("cpu"))
    path = cache_dir() / "bench" / f"random_{config.dataset}_{config.width}.safetensors"
    if config.width and not path.is_file():
        rng = np.random.default_rng(0)
        draw = (rng.standard_normal((36, config.width), dtype=np.float32).astype(np.float16) for _ in data.tables.keys)
        keys = (f"{scan}_{viewpoint}" for scan, viewpoint in data.tables.keys)
        write_store(path, StoreHeader("random", source="bench_train"), zip(keys, draw, strict=True))
    return path


def measure(config: BenchConfig) -> dict[str, float]:
    """Measure in this process."""
    import torch

    from vln_clip import config as configs
    from vln_clip import envdrop, setting
    from vln_clip.envs.episodes import ShuffledSampler
    from vln_clip.envs.evaluation import walk_split
    from vln_clip.features import open_store
    from vln_clip.paths import cache_dir

    started = time.perf_counter()
    device = setting.pick_device(config.device)
    preset = configs.PRESETS["r2r"]
    data = setting.open_setting(config.dataset, None, device)
    path = cache_dir() / "bench" / f"random_{config.dataset}_{config.width}.safetensors"
    world = data.world([open_store(path)] if config.width else [])
    table = data.table("train")
    follower = setting.build_follower(data, preset.model, config.width, seed=1)
    optimizer = envdrop.make_optimizer(follower, preset.follower.optimizer, preset.follower.lr)
    sampler = ShuffledSampler(len(table), preset.follower.batch_size, seed=1)
    generator = torch.Generator(device).manual_seed(1)
    weight = preset.follower.ml_weight
    learner = envdrop.FollowerLearner(world, follower, optimizer, table, sampler, preset.follower, generator, weight)
    first_step: list[float] = []
    hook = follower.decoder.register_forward_hook(lambda *_: first_step.append(time.perf_counter()))
    learner()
    hook.remove()
    startup_s = first_step[0] - started

    validation = data.table("val_unseen")
    follower.eval()
    walks = [
        timed(lambda: walk_split(world, follower, validation, preset.follower.max_action), device) for _ in range(4)
    ]
    follower.train()
    # The policy stays untrained: the optimizer steps, but with a learning rate of zero.
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    per_step, steps = [], []
    for i in range(config.warmup + config.iters):
        count = count_steps(learner)
        seconds = timed(learner, device)
        if i >= config.warmup:
            per_step.append(1e3 * seconds / count[0])
            steps.append(count[0])
    a = torch.randn(1024, 1024, device=device)
    matmul_s = min(timed(lambda: a @ a, device) for _ in range(20))
    return {
        "ms_per_step": statistics.median(per_step),
        "steps_per_iteration": statistics.mean(steps),
        "val_unseen_s": statistics.median(walks[1:]),  # warm: the first reads the features
        "startup_s": startup_s,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "matmul_gflops": 2 * 1024**3 / matmul_s / 1e9,
    }


def count_steps(learner: "object") -> list[int]:
    """Let the next iteration count its observation steps; the list is filled while it runs."""
    count = [0]
    roll_out = type(learner)._roll_out  # type: ignore[attr-defined]

    def counting(batch: object, noise: object, sample: bool) -> object:
        record = roll_out(learner, batch, noise, sample)
        count[0] += len(record.mask)
        return record

    learner._roll_out = counting  # type: ignore[attr-defined]
    return count


def timed(run: "object", device: "object") -> float:
    """Return the seconds of one call, waiting for the device."""
    import torch

    start = time.perf_counter()
    run()  # type: ignore[operator]
    if getattr(device, "type", "cpu") == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
