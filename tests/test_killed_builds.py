"""The demo world and features on it, by processes that are killed at random moments: the same bytes in the end."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_demo import digests

ROOT = Path(__file__).resolve().parents[1]


def built(cache, seed=0, kills=0):
    """Return how the processes ended that built a world and its features in a cache, all but the last one killed."""
    cache.mkdir()
    command = [sys.executable, "-m", "tests.killed_builds", str(cache), str(seed), str(kills)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "VLN_CLIP_OFFLINE": "1"}
    running = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, start_new_session=True)
    out = running.communicate(timeout=300)[0]
    with pytest.raises(ProcessLookupError):  # nobody goes on drawing for a process that is gone
        os.killpg(running.pid, 0)
    ends = json.loads(out)
    assert ends[-1] == 0, (cache / "log").read_text()
    return ends


def results(cache):
    """Return the digest of every file of a cache but logs and what killed processes were writing."""
    found = digests(cache)
    return {name: digest for name, digest in found.items() if ".tmp" not in name and name != "log"}


@pytest.mark.slow
def test_worlds_and_features_of_killed_processes_are_those_of_one_that_was_not(tmp_path):
    assert built(tmp_path / "whole") == [0]
    whole = results(tmp_path / "whole")
    assert len([name for name in whole if name.endswith("_sami.jpg")]) > 100
    assert "features.safetensors" in whole
    cache = tmp_path / "killed"
    ends = built(cache, kills=6)
    assert ends.count(-signal.SIGKILL) >= 7, ends  # after the output is there nothing is written
    assert results(cache) == whole
    told = (cache / "log").read_text()
    assert "Traceback" not in told, told
