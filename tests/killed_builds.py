"""Builds a tiny demo world and extracts its features in forked children that are killed: ``test_killed_builds.py``.

Run as a program of its own, so that what is forked has no threads: ``python -m tests.killed_builds CACHE SEED KILLS``.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from tests.killed_runs import start, wait
from tests.test_demo import TINY
from vln_clip import extract
from vln_clip.envs.demo import demo_data

NUM_WRITES = 5  # renames of a build: the world, three parts, the output


def build(argv):
    """Make what a program makes that finds neither world nor features in its cache."""
    (out,) = argv
    words = ["--encoder", "pixels", "--render-size", "16", "12", "--device", "cpu", "--out", out]
    extract.main([*words, "--data", str(demo_data(TINY))])


def main():
    """Kill at random times, the world being built mostly, then at random writes; print how all ended."""
    cache, draw, kills = Path(sys.argv[1]), random.Random(int(sys.argv[2])), int(sys.argv[3])
    os.environ["VLN_CLIP_CACHE"] = str(cache)
    argv, log, ends = [str(cache / "features.safetensors")], cache / "log", []
    for _ in range(kills):
        child = start(argv, log, main=build)
        time.sleep(draw.uniform(0.05, 1.0))
        os.kill(child, signal.SIGKILL)
        ends.append(wait(child))
    for _ in range(kills):
        ends.append(wait(start(argv, log, (draw.randint(1, NUM_WRITES), draw.random() < 0.5), build)))
    ends.append(wait(start(argv, log, main=build)))
    print(json.dumps(ends))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
