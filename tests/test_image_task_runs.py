"""Runs of VQA and captioning that are killed, stopped or shared by processes end as one that is left alone."""

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
from tests.toy_pictures import ROOT, SMALL_CAPTION, SMALL_VQA, WRITING, Pictures, program
from vln_clip import checkpoint
from vln_clip.signals import EXIT_STATUS

TASKS = {
    "vqa": ("vln_clip.vqa.__main__", ["train", *SMALL_VQA, "--model", "pythia"], "submission_test.json"),
    "caption": ("vln_clip.caption.__main__", ["train", *SMALL_CAPTION, *WRITING], "captions_test_transformer.json"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield Pictures(tmp_path_factory.mktemp("pictures"), patch)


@pytest.fixture
def world(made, monkeypatch):
    made.point(monkeypatch)
    # Programs of their own find no Java either, whose metrics take seconds.
    monkeypatch.setenv("PATH", str(made.folder))
    return made


def run_to_end(world, task, name, **plan):
    """Return the folder of a run whose processes are killed as planned, and how they ended."""
    module, words, _ = TASKS[task]
    folder = world.folder / task / name
    folder.mkdir(parents=True)
    argv = [*words, "--features", str(world.grids), "--runs", "runs", "--name", "x", "--deterministic"]
    (folder / "plan.json").write_text(json.dumps({"argv": argv, "log": "log", "program": module, **plan}))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.killed_runs", "plan.json"]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True)
    ends = json.loads(done.stdout.splitlines()[-1])
    assert ends[-1] == 0, (folder / "log").read_text()
    return folder / "runs" / "x", ends


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_run_that_is_killed_and_stopped_ends_as_if_it_had_not_been(world, task):
    whole, _ = run_to_end(world, task, "whole")
    draw = random.Random(task)
    points = [(draw.randint(3, 40), draw.random() < 0.5) for _ in range(4)]
    times = [(draw.uniform(0.1, 1.0), draw.choice([signal.SIGTERM, signal.SIGINT])) for _ in range(3)]
    run, ends = run_to_end(world, task, "hit", points=points, times=times)
    assert ends.count(-signal.SIGKILL) >= 2
    assert set(ends) <= {0, EXIT_STATUS, 130, -signal.SIGTERM, -signal.SIGKILL}
    assert_same(run, whole)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_two_processes_train_and_one_goes_on_to_the_same_results(world, task, tmp_path):
    module, words, file = TASKS[task]
    flags = [*words, "--features", world.grids, "--runs", tmp_path, "--name", "x"]
    _, told = ended(launch_program(module, *flags))
    assert told.count("results, checkpoints and result") == 1
    run = tmp_path / "x"
    kept = {name: (run / name).read_bytes() for name in ("results.json", file)}
    for name in kept:
        (run / name).unlink()
    status, _, told = program(module, *flags)
    assert status == 0, told
    assert "was trained by 2 processes and goes on with 1" in told
    assert kept == {name: (run / name).read_bytes() for name in kept}
    if task == "vqa":  # Pythia draws nothing but its batches
        alone = world.vqa("alone", "--model", "pythia", "--question-only") / "checkpoints" / "pythia" / "last"
        wanted, found = (checkpoint.load(folder).weights for folder in (alone, run / "checkpoints" / "pythia" / "last"))
        for name, value in wanted.items():
            # A bias before a softmax has no gradient but rounding, of which Adamax makes whole steps.
            if not name.endswith("score.bias"):
                torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)
