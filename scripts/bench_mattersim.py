"""Measures simulator states per second on one core: ``python scripts/bench_mattersim.py [--json FILE]``.

Random walks through every building of ``$VLN_CLIP_DATA/connectivity``, discretised, rendering off; every step reads
the state and its navigable locations. The real simulator, one core: 191,000 states/s alone, 161,000 at batch 64.
The tensor environment takes the same kind of walk (candidate indices and geometry, no features).
"""

import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from vln_clip import log

REFERENCE = {"alone_per_s": 191_000.0, "batch_per_s": 161_000.0}


@dataclass(frozen=True)
class BenchConfig:
    """Measure states per second of the MatterSim emulation and of the tensor environment."""

    json: Path | None = None
    """also write the figures to this file"""
    steps: int = 200_000
    """states per measurement"""
    episode: int = 50
    """states per episode"""
    batch: int = 64
    """agents of the batched simulator"""
    tensor_batch: int = 4096
    """episodes of the tensor environment"""
    threads: int = 1
    """cores of the tensor environment"""


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    config = tyro.cli(BenchConfig, args=argv)
    from vln_clip.connectivity import read_scans
    from vln_clip.paths import data_dir

    scans = read_scans(data_dir() / "connectivity")
    figures = {
        "first_episode_s": first_episode(scans[0]),
        "alone_per_s": walk(scans, 1, config, old=False),
        "alone_old_api_per_s": walk(scans, 1, config, old=True),
        "batch_per_s": walk(scans, config.batch, config, old=False),
        "tensor_per_s": walk_tensors(config),
    }
    for name, value in figures.items():
        beside = f"   real {REFERENCE[name]:,.0f}: {value / REFERENCE[name]:.2f} of it" if name in REFERENCE else ""
        print(f"{name:<22}{value:>14,.2f}{beside}")
    if config.json:
        config.json.write_text(json.dumps(figures, indent=2) + "\n")


def first_episode(scan: str) -> float:
    """Return the seconds from the import to the first state, in a fresh process."""
    code = f"""
import time
start = time.perf_counter()
from vln_clip.envs import mattersim
simulator = mattersim.Simulator()
simulator.setRenderingEnabled(False)
simulator.initialize()
simulator.newRandomEpisode([{scan!r}])
assert simulator.getState()[0].navigableLocations
print(time.perf_counter() - start)
"""
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def walk(scans: list[str], batch_size: int, config: BenchConfig, old: bool) -> float:
    """Walk at random; return states per second, buildings already read."""
    from vln_clip.envs.mattersim import Simulator

    simulator = Simulator()
    simulator.setRenderingEnabled(False)
    simulator.setDiscretizedViewingAngles(True)
    simulator.setCameraResolution(640, 480)
    simulator.setCameraVFOV(1.0471975511965976)
    simulator.setBatchSize(batch_size)
    if old:
        simulator.init()
    else:
        simulator.initialize()
    rng = random.Random(1)
    draws = [rng.random() for _ in range(10_007)]
    turns = [rng.choice((-1.0, 0.0, 1.0)) for _ in range(10_007)]
    for scan in scans:  # read every building once
        simulator.newEpisode(scan, "", 0, 0) if old else simulator.newRandomEpisode([scan] * batch_size)
    states = seconds = drawn = 0.0
    while states < config.steps:
        names = rng.choices(scans, k=batch_size)
        simulator.newEpisode(names[0], "", 0, 0) if old else simulator.newRandomEpisode(names)
        start = time.perf_counter()
        for _ in range(config.episode):
            now = [simulator.getState()] if old else simulator.getState()
            index, heading = [], []
            for state in now:
                drawn = (drawn + 1) % 10_007
                index.append(int(draws[int(drawn)] * len(state.navigableLocations)))
                heading.append(turns[int(drawn)])
            if old:
                simulator.makeAction(index[0], heading[0], 0)
            else:
                simulator.makeAction(index, heading, [0.0] * batch_size)
        seconds += time.perf_counter() - start
        states += config.episode * batch_size
    return states / seconds


def walk_tensors(config: BenchConfig) -> float:
    """Walk at random in the tensor environment; return episode-steps per second."""
    import torch

    from vln_clip.connectivity import NavTables
    from vln_clip.envs.navigation import Navigation
    from vln_clip.features import bank
    from vln_clip.paths import data_dir

    torch.set_num_threads(config.threads)
    tables = NavTables.load(data_dir() / "connectivity")
    world = Navigation(tables, bank([], tables.keys, torch.device("cpu")))
    generator = torch.Generator().manual_seed(1)
    viewpoint = torch.randint(len(tables.keys), (config.tensor_batch,), generator=generator)
    view = torch.full_like(viewpoint, 12)
    best = 0.0
    for _ in range(20):
        draws = torch.rand(20, config.tensor_batch, generator=generator)
        start = time.perf_counter()
        for draw in draws:
            observation = world.observe(viewpoint, view)
            action = (draw * (observation.stop + 1)).long()
            viewpoint, view = world.step(viewpoint, view, action)
        best = max(best, 20 * config.tensor_batch / (time.perf_counter() - start))
    return best


if __name__ == "__main__":
    log.program(main)
