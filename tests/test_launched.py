"""Processes that ``accelerate launch`` starts: they talk through gloo, die, are restarted, and end like one."""

import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.rank_work import CPU, KINDS, gradients, open_toy, walks
from tests.toy_runs import SMALL
from tests.toy_world import use_world
from vln_clip import checkpoint, envdrop
from vln_clip.ranks import ALONE
from vln_clip.rollout import greedy

ROOT = Path(__file__).resolve().parents[1]
# Without a GPU --multi_gpu means processes that talk through gloo; --cpu would start one process only.
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--mixed_precision", "no"]
pytestmark = pytest.mark.slow


def start(words, **variables):
    """Start a Python program on the toy world of this process, one thread each."""
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | variables
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT, env=variables, **pipes)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def launch(folder, name, *words, processes=2, launcher=()):
    """Train on the toy world in some processes; one needs no launcher."""
    features = folder / "data" / "features" / "toy.safetensors"
    flags = [*SMALL, "--no-blind", "--features", features, "--runs", folder / "runs", "--name", name, *words]
    if processes == 1:
        return start(["-m", "vln_clip.train", *flags])
    return launch_program("vln_clip.train", *flags, processes=processes, launcher=launcher)


def launch_program(module, *words, processes=2, launcher=()):
    """Start a program in several processes."""
    port = ["--main_process_port", free_port(), "--num_processes", processes]
    return start([*LAUNCH, *port, *launcher, "-m", module, *words])


def ended(running, status=0):
    """Wait for the end of a program and return what it printed and told."""
    out, told = running.communicate(timeout=300)
    assert running.returncode == status, told
    return out, told


@pytest.fixture
def folder(tmp_path, monkeypatch):
    use_world(tmp_path, monkeypatch)
    return tmp_path


def test_two_processes_learn_as_one_with_the_joint_batch(folder, monkeypatch):
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    two = [start(["-m", "tests.rank_work", folder], RANK=str(k), LOCAL_RANK=str(k), **group) for k in range(2)]
    for running in two:
        ended(running)
    first, second = (load_file(folder / f"{rank}.safetensors") for rank in range(2))
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]) == (name != "drawn"), name  # gradients, weights, walks: bit for bit
    toy = open_toy()
    assert all((first[f"walks.{name}"].numpy() == array).all() for name, array in walks(toy, ALONE).items())
    monkeypatch.setattr(envdrop, "sampled", lambda generator: greedy)
    for kind in KINDS:
        for name, value in gradients(toy, ALONE, kind)[0].items():
            torch.testing.assert_close(first[f"{kind}.{name}"], value, rtol=1e-4, atol=1e-6)
    assert not torch.equal(first["drawn"], torch.rand(8, generator=ALONE.generator(3, CPU)))


def kill_a_worker(running, run):
    """Kill one of the launched workers with SIGKILL once the run has a checkpoint."""
    while not list(run.glob("checkpoints/follower/last/checkpoint.safetensors")):
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.01)
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    workers = [pid for pid in children if b"RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes()]
    os.kill(int(workers[0]), signal.SIGKILL)


def same_run(first, second):
    """Assert that two runs ended with the same weights, generators, metrics, results and submission."""
    for path in first.rglob("checkpoint.safetensors"):
        ours, theirs = checkpoint.load(path.parent), checkpoint.load(second / path.parent.relative_to(first))
        for kind in ("weights", "state"):
            found, wanted = getattr(ours, kind), getattr(theirs, kind)
            assert found.keys() == wanted.keys()
            assert all(torch.equal(value, wanted[name]) for name, value in found.items()), path
    for name in ("metrics.jsonl", "results.json", "submission_test.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_a_run_survives_the_loss_of_a_worker_bit_for_bit(folder):
    runs, words = folder / "runs", ["--bt", "--deterministic", "--iters", "8"]
    ended(launch(folder, "whole", *words))
    again = launch(folder, "again", *words)
    kill_a_worker(again, runs / "again")
    assert "SIGKILL" in ended(again, status=1)[1]
    _, told = ended(launch(folder, "again", *words))
    assert "2 processes, each with its share of every batch" in told
    restarted = launch(folder, "restarted", *words, launcher=["--max_restarts", "1"])
    kill_a_worker(restarted, runs / "restarted")
    ended(restarted)
    same_run(runs / "whole", runs / "again")
    same_run(runs / "whole", runs / "restarted")
    _, told = ended(launch(folder, "whole", *words, processes=1))
    assert "is finished" in told


def test_one_process_evaluates_what_two_have_trained_and_finds_the_same(folder):
    out, told = ended(launch(folder, "two", "--bt"))
    assert out.count("back_translated_last") == 3  # one table, of rank 0
    assert told.count("scoring 12 instructions of val_unseen") == 1
    two, one = folder / "runs" / "two", folder / "runs" / "one"
    shutil.copytree(two, one)
    (one / "results.json").unlink()
    (one / "submission_test.json").unlink()
    _, told = ended(launch(folder, "one", "--bt", processes=1))
    assert "was trained by 2 processes and goes on with 1: the same batches, but other dropout" in told
    for name in ("results.json", "submission_test.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert json.loads((two / "results.json").read_text())["val_unseen"]["back_translated"]["features"]


def test_a_signal_to_the_launcher_saves_the_step(folder):
    running = launch(folder, "x", "--iters", "100000", "--eval-every", "100000", "--save-every-min", "0.01")
    while not list((folder / "runs" / "x").glob("checkpoints/follower/last/checkpoint.safetensors")):
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    told = running.communicate(timeout=60)[1]
    assert told.count("stopped by SIGTERM: the same command goes on with") == 1
    header = checkpoint.load(folder / "runs" / "x" / "checkpoints" / "follower" / "last").header
    assert header["ranks"] == 2
    assert header["since"] == header["iteration"] > 0


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "--by", "scan", "--search", "beam", "--search-grid"],  # with every row of context
        ["submit", "--split", "val_unseen"],
        ["submit", "--search", "beam"],
    ],
)
def test_two_processes_score_and_submit_what_one_does(world, tmp_path, capsys, words):
    program, *flags = words
    out = "--json" if program == "evaluate" else "--out"
    flags = ["--checkpoint", str(world.runs / "toy"), *flags, "--device", "cpu", out]
    capsys.readouterr()
    importlib.import_module(f"vln_clip.{program}").main([*flags, str(tmp_path / "one.json")])
    told = capsys.readouterr().out
    printed, _ = ended(launch_program(f"vln_clip.{program}", *flags, tmp_path / "two.json"))
    assert (tmp_path / "two.json").read_bytes() == (tmp_path / "one.json").read_bytes()
    assert len(printed.splitlines()) == len(told.splitlines())  # once, by rank 0


def test_a_missing_checkpoint_is_told_once(folder):
    for program in ("evaluate", "submit"):
        told = ended(launch_program(f"vln_clip.{program}", "--checkpoint", folder / "none"), status=1)[1]
        assert told.count("none must be a run's folder") == 1
        assert "exitcode  : 2" in told


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--batch-size", "1"], "error: --batch-size must be at least the number of processes, 2, got 1"),
        (["--itres", "1"], "Unrecognized options: --itres"),
        (["--device", "cuda:0"], "error: --device must be auto, cpu or cuda where several processes are launched"),
    ],
)
def test_bad_input_is_told_once_and_ends_all(folder, words, sentence):
    told = ended(launch(folder, "bad", *words), status=1)[1]  # the launcher's status; the workers' is 2
    assert told.count(sentence) == 1
    assert "exitcode  : 2" in told
    assert "InputError" not in told
