"""The benchmark of training on a GPU: refused without one, and its dry run goes through all of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.toy_world import toy_setting

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "bench_gpu.py"


def bench(*words):
    return subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    done = bench()
    assert (done.returncode, done.stdout) == (2, "")
    assert "no GPU here: unmeasured" in done.stderr


@pytest.mark.slow
def test_a_dry_run_goes_through_all_of_it(tmp_path, monkeypatch):
    toy_setting(tmp_path, monkeypatch)
    done = bench("--dry-run", "--width", "8", "--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stderr
    assert "dry run on the CPU" in done.stdout
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["iterations_per_s_4"] > 0
    assert figures["limit_iterations_per_s"] > 0
    assert "iterations_per_s_64" not in figures  # no measurement of what the goals are about
