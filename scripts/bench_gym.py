"""Measures how fast episodes are stepped: ``python scripts/bench_gym.py [--dataset r2r] [--json FILE]``.

Rows: the bare world (``Navigation.step``; with the observation of a blind agent), ``make_vec`` with random real
actions in both autoreset modes, and one ``make``. An episode step is one decision of one episode. Threads are what
torch takes; ``OMP_NUM_THREADS=1`` measures one core.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gymnasium
import numpy as np
import torch
import tyro

import vln_clip.envs  # noqa: F401  registers the ids
from vln_clip import log

IDS = {"r2r": "vln_clip/R2R-v0", "demo": "vln_clip/Demo-v0"}


@dataclass(frozen=True)
class BenchConfig:
    """Measure episode steps per second."""

    dataset: Literal["r2r", "demo"] = "demo"
    """r2r reads $VLN_CLIP_DATA"""
    num_envs: int = 4096
    """episodes side by side"""
    seconds: float = 3.0
    """time per row"""
    json: Path | None = None
    """also write the figures to this file"""


def steps_per_second(step: Callable[[int], object], size: int, seconds: float) -> float:
    """Call ``step`` with 0, 1, … for some seconds after a warm-up; return calls times ``size`` per second."""
    for k in range(3):
        step(k)
    calls, began_s = 0, time.perf_counter()
    while time.perf_counter() - began_s < seconds:
        step(calls)
        calls += 1
    return calls * size / (time.perf_counter() - began_s)


def bare_world(config: BenchConfig) -> dict[str, float]:
    """Measure ``Navigation`` on walks that always take a real candidate."""
    env = gymnasium.make_vec(IDS[config.dataset], num_envs=config.num_envs)
    env.reset(seed=0)
    walkers = env.unwrapped.walkers  # type: ignore[attr-defined]
    world, place = walkers.world, [walkers.viewpoint, walkers.view]
    luck = torch.rand(64, config.num_envs)

    def step(k: int) -> None:
        action = (luck[k % len(luck)] * world.degree[place[0]]).long()
        place[:] = world.step(place[0], place[1], action)

    def step_and_observe(k: int) -> None:
        step(k)
        world.observe(place[0], place[1])

    return {
        "navigation_step": steps_per_second(step, config.num_envs, config.seconds),
        "navigation_step_and_observe": steps_per_second(step_and_observe, config.num_envs, config.seconds),
    }


def vector(config: BenchConfig, mode: str) -> float:
    """Measure ``make_vec`` with actions drawn evenly from all, padding and stop included, so that episodes end."""
    env = gymnasium.make_vec(IDS[config.dataset], num_envs=config.num_envs, autoreset_mode=mode)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    actions = rng.integers(env.single_action_space.n, size=(64, config.num_envs))  # type: ignore[attr-defined]
    return steps_per_second(lambda k: env.step(actions[k % len(actions)]), config.num_envs, config.seconds)


def single(config: BenchConfig) -> float:
    """Measure ``make`` with the same actions."""
    env = gymnasium.make(IDS[config.dataset], disable_env_checker=True)
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(env.action_space.n, size=4096)  # type: ignore[attr-defined]

    def step(k: int) -> None:
        _, _, terminated, truncated, _ = env.step(int(actions[k % len(actions)]))
        if terminated or truncated:
            env.reset()

    return steps_per_second(step, 1, config.seconds)


def main(argv: list[str] | None = None) -> None:
    """Measure every row, print and save them."""
    config = tyro.cli(BenchConfig, args=argv, prog="python scripts/bench_gym.py")
    figures = bare_world(config)
    figures |= {f"make_vec_{mode}": vector(config, mode) for mode in ("NextStep", "SameStep")}
    figures["make"] = single(config)
    print(f"{config.dataset}, {config.num_envs} episodes side by side, {torch.get_num_threads()} threads of torch")
    for name, value in figures.items():
        print(f"{name:<30}{value:>12,.0f} episode steps/s")
    if config.json:
        config.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    log.program(main, sys.argv[1:])
