"""Measures training speed on real R2R: ``python scripts/bench_train.py [--json FILE] [--sweep [--plot FILE]]``.

What is timed is what training does: a teacher-forced and a sampled rollout of 64 episodes each, backward, clip
and step (RMSprop), an untrained policy, real instructions, random 640-d features. The share per observation step
is the time of an iteration divided by the steps of its two rollouts. Everything runs in a fresh process with
warm caches; the reference's figures were taken on a 2-core machine with a float32 matrix product of 170 GFLOP/s.
The limit beside an iteration's time is what its multiply-adds take at this machine's speed of a large product.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

if TYPE_CHECKING:
    import torch

    from vln_clip.envdrop import FollowerLearner

REFERENCE = {"ms_per_step": 78.0, "val_unseen_s": 4.9, "startup_s": 6.0, "peak_rss_mb": 2600.0}
REFERENCE_GFLOPS = 170.0
SPOKEN_WORDS = 30  # about what a trained speaker writes; an untrained one never ends


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
    batch_size: int = 64
    """episodes per rollout"""
    max_input: int = 80
    """most tokens per instruction"""
    precision: Literal["float32", "bf16"] = "float32"
    """of the matrix products in training"""
    sweep: bool = False
    """measure instead what an iteration costs by batch size, number of scans and length of instructions"""
    plot: Path | None = None
    """of --sweep: also draw it (.png, .svg, .pdf)"""
    child: bool = False
    """measure in this process and print JSON (used internally)"""


def main() -> None:
    """Warm the caches, measure in a fresh process, print figures beside the reference's."""
    config = tyro.cli(BenchConfig)
    if config.child:
        print(json.dumps(measure(config)))
        return
    if config.sweep or config.plot:
        from bench_sweep import sweep

        sweep(config)
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
    print(
        f"an iteration has {figures['gmac_per_iteration']:.1f} billion multiply-adds and reaches "
        f"{100 * figures['share_of_peak']:.0f} % of the speed of a large product"
    )
    print(f"this machine's matrix product is {speed / REFERENCE_GFLOPS:.2f} times that of the reference's machine")
    if config.json:
        config.json.write_text(json.dumps(figures, indent=2) + "\n")


def random_store(config: BenchConfig) -> Path:
    """Return a store of random features for every viewpoint of the data set, written once into the cache."""
    import numpy as np

    from vln_clip import devices, setting
    from vln_clip.features.store import StoreHeader, write_store
    from vln_clip.paths import cache_dir

    data = setting.open_setting(config.dataset, None, devices.pick_device("cpu"))
    path = cache_dir() / "bench" / f"random_{config.dataset}_{config.width}.safetensors"
    if config.width and not path.is_file():
        rng = np.random.default_rng(0)
        draw = (rng.standard_normal((36, config.width), dtype=np.float32).astype(np.float16) for _ in data.tables.keys)
        keys = (f"{scan}_{viewpoint}" for scan, viewpoint in data.tables.keys)
        write_store(path, StoreHeader("random", source="bench_train"), zip(keys, draw, strict=True))
    return path


def build_learner(config: BenchConfig, num_scans: int | None = None) -> "FollowerLearner":
    """Return what training begins with, on random features; ``num_scans`` takes the episodes of the first scans."""
    import torch

    from vln_clip import config as configs
    from vln_clip import devices, envdrop, optimizers, setting
    from vln_clip.features import open_store
    from vln_clip.paths import cache_dir
    from vln_clip.sampler import ShuffledSampler

    device, preset = devices.pick_device(config.device), configs.PRESETS["r2r"]
    data = setting.open_setting(config.dataset, None, device, max_input=config.max_input)
    path = cache_dir() / "bench" / f"random_{config.dataset}_{config.width}.safetensors"
    world = data.world([open_store(path)] if config.width else [])
    table = data.table("train")
    follower = setting.build_follower(data, preset.model, config.width, seed=1)
    optimizer = optimizers.make_optimizer(follower, preset.follower.optimizer, preset.follower.lr)
    sampler = ShuffledSampler(len(table), config.batch_size, seed=1)
    if num_scans is not None:
        scan = world.scan[table.viewpoint].cpu()
        chosen = torch.isin(scan, scan.unique()[:num_scans]).nonzero().squeeze(1)
        sampler.order = chosen[torch.randperm(len(chosen), generator=sampler.generator)]
    generator = torch.Generator(device).manual_seed(1)
    learner = envdrop.FollowerLearner(
        world, follower, optimizer, table, sampler, preset.follower, generator, preset.follower.ml_weight
    )
    learner.setting = data  # type: ignore[attr-defined]
    return learner


def measure(config: BenchConfig) -> dict[str, float]:
    """Measure in this process."""
    import torch

    import vln_clip.recipe  # noqa: F401  all that training imports: the clock starts after it
    from vln_clip.agents.products import learning_in
    from vln_clip.envs.evaluation import walk_split

    started = time.perf_counter()
    learner = build_learner(config)
    first_step: list[float] = []
    hook = learner.follower.decoder.register_forward_hook(lambda *_: first_step.append(time.perf_counter()))
    learner()
    hook.remove()
    startup_s = first_step[0] - started
    device, follower = learner.world.device, learner.follower

    validation = learner.setting.table("val_unseen")  # type: ignore[attr-defined]
    follower.eval()
    walks = [
        timed(lambda: walk_split(learner.world, follower, validation, learner.config.max_action), device)
        for _ in range(4)
    ]
    follower.train()
    dtype = torch.bfloat16 if config.precision == "bf16" else None
    found = iteration_cost(learner, learning_in(dtype, learner), config)
    others = {name: learning_in(dtype, learn) for name, learn in other_learners(learner, config.batch_size).items()}
    figures = {
        **found,
        "val_unseen_s": statistics.median(walks[1:]),  # warm: the first reads the features
        "startup_s": startup_s,
        **{f"{name}_ms": 1e3 * median_s(learn, device, config.iters // 4) for name, learn in others.items()},
    }
    figures["matmul_gflops"] = matmul_gflops(device)
    if dtype is not None:
        figures["matmul_bf16_gflops"] = matmul_gflops(device, dtype)
    peak = figures.get("matmul_bf16_gflops", figures["matmul_gflops"])
    figures["limit_ms_per_iteration"] = 2e3 * figures["gmac_per_iteration"] / peak
    figures["share_of_peak"] = figures["limit_ms_per_iteration"] / figures["ms_per_iteration"]
    return figures


def matmul_gflops(device: "torch.device", dtype: "torch.dtype | None" = None) -> float:
    """Return the speed of a large matrix product, in 1e9 floating-point operations per second."""
    import torch

    a = torch.randn(1024, 1024, device=device, dtype=dtype)
    return 2 * 1024**3 / min(timed(lambda: a @ a, device) for _ in range(20)) / 1e9


def iteration_cost(learner: "FollowerLearner", learn: Callable[[], object], config: BenchConfig) -> dict[str, float]:
    """Time iterations and count their steps and multiply-adds."""
    # The policy stays untrained: the optimizer steps, but with a learning rate of zero.
    for group in learner.optimizer.param_groups:
        group["lr"] = 0.0
    per_step, per_iteration, steps = [], [], []
    for i in range(config.warmup + config.iters):
        count = count_steps(learner)
        seconds = timed(learn, learner.world.device)
        if i >= config.warmup:
            per_iteration.append(1e3 * seconds)
            per_step.append(1e3 * seconds / count[0])
            steps.append(count[0])
    peak_rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # counting multiply-adds takes its own
    return {
        "peak_rss_mb": peak_rss_mb,
        "ms_per_step": statistics.median(per_step),
        "ms_per_iteration": statistics.mean(per_iteration),
        "steps_per_iteration": statistics.mean(steps),
        "gmac_per_iteration": statistics.mean(multiply_adds(learn) / 1e9 for _ in range(3)),
    }


def other_learners(learner: "FollowerLearner", batch_size: int) -> dict[str, Callable[[], object]]:
    """Return an iteration of the speaker and one of back-translation; its unlabelled paths are those of training."""
    from vln_clip import config as configs
    from vln_clip import envdrop, optimizers, setting
    from vln_clip.sampler import ShuffledSampler

    preset, table, world = configs.PRESETS["r2r"], learner.table, learner.world
    speaker = setting.build_speaker(learner.setting, preset.model, world.bank.width, seed=1)  # type: ignore[attr-defined]
    optimizer = optimizers.make_optimizer(speaker, preset.speaker.speaker_optimizer, 0.0)
    samplers = [ShuffledSampler(len(table), batch_size, seed=2) for _ in range(2)]
    clip_norm = preset.follower.clip_norm
    translation = preset.back_translation
    return {
        "speaker": envdrop.SpeakerLearner(world, speaker, optimizer, table, samplers[0], clip_norm, learner.generator),
        "back_translation": envdrop.BackTranslationLearner(
            learner, speaker, table, samplers[1], translation.aug_weight, translation.bt_feature_dropout, SPOKEN_WORDS
        ),
    }


def multiply_adds(run: Callable[[], object]) -> int:
    """Return how many multiply-adds the matrix products of one call take."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        total = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            name = func.overloadpacket.__name__.rstrip("_")
            if name in ("mm", "bmm", "addmm", "baddbmm"):
                a, b = args[-2:]
                self.total += a.numel() * b.shape[-1]
            return func(*args, **(kwargs or {}))

    with Counting() as mode:
        run()
    return mode.total


def median_s(run: Callable[[], object], device: "torch.device", iters: int) -> float:
    """Return the median seconds of some calls after one."""
    run()
    return statistics.median(timed(run, device) for _ in range(max(iters, 3)))


def count_steps(learner: "FollowerLearner") -> list[int]:
    """Let the next iteration count its observation steps; the list is filled while it runs."""
    count = [0]
    roll_out = type(learner)._roll_out

    def counting(batch: Any, noise: Any, sample: bool) -> Any:
        record = roll_out(learner, batch, noise, sample)
        count[0] += len(record.mask)
        return record

    learner._roll_out = counting  # type: ignore[method-assign]
    return count


def timed(run: Callable[[], object], device: "torch.device") -> float:
    """Return the seconds of one call, waiting for the device."""
    import torch

    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
