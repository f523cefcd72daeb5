"""A third-party learner on our environments."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gym_world import TINY
from vln_clip.envs.demo import DemoConfig, build_demo

ROOT = Path(__file__).resolve().parents[1]
needs_ppo = pytest.mark.skipif(
    importlib.util.find_spec("stable_baselines3") is None,
    reason="stable-baselines3 is not installed (pip install -e '.[ppo]')",
)
HOUSES = DemoConfig(
    num_train_houses=10,
    num_unseen_houses=5,
    num_test_houses=1,
    face_px=8,
    num_train_paths=150,
    num_val_seen_paths=5,
    num_val_unseen_paths=150,
    num_test_paths=1,
    num_rxr_train_paths=0,
    num_rxr_val_seen_paths=0,
    num_rxr_val_unseen_paths=0,
    num_rxr_test_paths=0,
    num_rxr_aug_paths=0,
)


def run(script, *words, **environment):
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, str(ROOT / "scripts" / script), *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=variables)


@needs_ppo
@pytest.mark.slow
def test_ppo_learns_point_goals_and_beats_chance(tmp_path):
    build_demo(tmp_path / "demo", HOUSES)
    done = run("train_ppo.py", "--data", tmp_path / "demo", "--steps", 12_288, VLN_CLIP_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    found = dict(re.findall(r"^(\w+) +([\d.]+) ± [\d.]+ % success on 150 paths", done.stdout, re.MULTILINE))
    # Of 150 paths one more or less is 0.7 points; 20 points are five standard deviations of the difference.
    assert float(found["ppo"]) > float(found["random"]) + 20


@needs_ppo
@pytest.mark.slow
def test_too_few_steps_are_told(tmp_path):
    done = run("train_ppo.py", "--steps", 100)
    assert done.returncode == 2
    assert done.stderr.strip() == "error: --steps must be at least 128 * num_envs = 2048, got 100"


@pytest.mark.slow
def test_the_benchmark_prints_every_row(tmp_path):
    # The default world is the cache's: a tiny one takes its place by its configuration's name.
    code = (
        "import sys, gymnasium, scripts.bench_gym as bench; "
        f"gymnasium.spec('vln_clip/Demo-v0').kwargs['data'] = {str(tmp_path / 'demo')!r}; "
        "bench.main(['--num-envs', '8', '--seconds', '0.05'])"
    )
    build_demo(tmp_path / "demo", TINY, workers=1)
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "VLN_CLIP_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, env=variables, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(\w+) +([\d,]+) episode steps/s$", done.stdout, re.MULTILINE)
    assert [name for name, _ in rows] == [
        "navigation_step",
        "navigation_step_and_observe",
        "make_vec_NextStep",
        "make_vec_SameStep",
        "make",
    ]
    assert all(int(value.replace(",", "")) > 0 for _, value in rows)
