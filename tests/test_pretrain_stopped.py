"""Runs of CLIP-ViL_p that are killed, stopped or shared by processes end as one that is left alone."""

import json
import os
import random
import signal
import subprocess
import sys

import pytest
import torch

from tests.killed_runs import assert_same
from tests.test_launched import ended, launch_program
from tests.toy_pictures import ROOT, results
from tests.toy_vil import SHORT, SMALL, VilWorld
from vln_clip import checkpoint
from vln_clip.signals import EXIT_STATUS

WORDS = [*SMALL, *SHORT, "--tasks", "snli_ve", "--no-compare", "--accumulation", "2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield VilWorld(tmp_path_factory.mktemp("vil"), patch)


@pytest.fixture
def world(made, monkeypatch):
    made.point(monkeypatch)
    return made


def run_to_end(world, name, **plan):
    """Return the folder of a run whose processes are killed as planned, and how they ended."""
    folder = world.folder / name
    folder.mkdir()
    argv = [*WORDS, "--runs", "runs", "--name", "x", "--deterministic"]
    (folder / "plan.json").write_text(
        json.dumps({"argv": argv, "log": "log", "program": "vln_clip.pretrain.__main__", **plan})
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.killed_runs", "plan.json"]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True)
    ends = json.loads(done.stdout.splitlines()[-1])
    assert ends[-1] == 0, (folder / "log").read_text()
    return folder / "runs" / "x", ends


@pytest.mark.slow
def test_a_run_that_is_killed_and_stopped_ends_as_if_it_had_not_been(world):
    whole, _ = run_to_end(world, "whole")
    draw = random.Random("vil")
    points = [(draw.randint(3, 30), draw.random() < 0.5) for _ in range(4)]
    times = [(draw.uniform(0.2, 3.0), draw.choice([signal.SIGTERM, signal.SIGINT])) for _ in range(3)]
    run, ends = run_to_end(world, "killed", points=points, times=times)
    assert ends.count(-signal.SIGKILL) >= 2
    assert set(ends) <= {0, -signal.SIGKILL, -signal.SIGTERM, EXIT_STATUS, 130}
    assert_same(run, whole)


@pytest.mark.slow
def test_two_processes_share_every_batch_and_have_one_model(world):
    words = [*WORDS, "--runs", str(world.folder / "shared"), "--name", "x"]
    _, told = ended(launch_program("vln_clip.pretrain", *words))
    assert told.count("results, checkpoints and result") == 1
    run = world.folder / "shared" / "x"
    assert results(run)["val"].keys() == {"snli_ve", "snli_ve_majority"}
    state = checkpoint.load(run / "checkpoints" / "pretraining_1" / "last").state
    assert {"generator_0", "generator_1"} <= state.keys()
    assert not torch.equal(state["generator_0"], state["generator_1"])
    assert int(state["sampler_train.cursor"]) == 8  # joint batches: 4 steps of 2
