"""Runs of all stages killed by SIGKILL, or stopped, at random moments and at every write, then started again."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.killed_runs import assert_same
from tests.toy_runs import SMALL
from tests.toy_world import use_world
from vln_clip.signals import EXIT_STATUS

ROOT = Path(__file__).resolve().parents[1]


class Killed:
    """Runs of every stage on one toy world, in processes that are killed; each in a folder of its own."""

    def __init__(self, folder, patch):
        self.folder, data = folder, use_world(folder, patch)
        features = str(data / "features" / "toy.safetensors")
        self.argv = [*SMALL, "--features", features, "--runs", "runs", "--name", "x", "--bt", "--deterministic"]

    def run(self, name, *flags, **plan):
        """Return the run's folder and how its processes ended; the last one is left alone."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "plan.json").write_text(
            json.dumps({"argv": [*self.argv, *flags], "log": str(folder / "log"), **plan})
        )
        command = [sys.executable, "-m", "tests.killed_runs", "plan.json"]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True)
        ends = json.loads(done.stdout.splitlines()[-1])
        assert ends[-1] == 0, (folder / "log").read_text()
        return folder / "runs" / "x", ends


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield Killed(tmp_path_factory.mktemp("killed"), patch)


@pytest.fixture(scope="module")
def whole(killed):
    return killed.run("whole")[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_run_killed_at_any_write_ends_as_if_it_had_not_been(killed, whole, seed):
    draw = random.Random(seed)
    # Every process writes its lock and config first: the later ones get to something else.
    points = [(draw.randint(1, 60), draw.random() < 0.5) for _ in range(15)]
    run, ends = killed.run(f"writes_{seed}", points=points)
    assert ends.count(-signal.SIGKILL) >= 5
    assert_same(run, whole)


@pytest.mark.slow
@pytest.mark.parametrize("first", [1, 2, 3, 4])
def test_a_run_killed_at_every_write_in_turn_ends_as_if_it_had_not_been(killed, whole, first):
    # Steps of 4 from 1 to 4: together every write of a process's first 60.
    run, ends = killed.run(f"turn_{first}", points=[(n, first % 2) for n in range(first, 61, 4)])
    assert ends.count(-signal.SIGKILL) >= 5
    assert_same(run, whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", ["killed", "stopped", "saved_often"])
def test_a_run_killed_at_any_time_ends_as_if_it_had_not_been(killed, whole, kind, seed):
    draw = random.Random(f"{kind} {seed}")
    numbers = [signal.SIGTERM, signal.SIGINT] if kind == "stopped" else [signal.SIGKILL]
    times = [(draw.uniform(0.05, 0.8), draw.choice(numbers)) for _ in range(8)]
    flags = ["--save-every-min", "0"] if kind == "saved_often" else []
    run, ends = killed.run(f"{kind}_{seed}", *flags, times=times)
    wanted = {0, EXIT_STATUS, 130, -signal.SIGTERM} if kind == "stopped" else {0, -signal.SIGKILL}
    assert set(ends) <= wanted, (run.parents[1] / "log").read_text()
    if not flags:
        assert_same(run, whole)
        return
    other = killed.folder / "saved_whole" / "runs" / "x"
    if not other.is_dir():
        killed.run("saved_whole", *flags)
    assert_same(run, other)
