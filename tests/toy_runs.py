"""Runs of the programs on the toy world, small enough to train in a second."""

import gzip
import json

from tests.toy_world import use_world
from vln_clip import train

FLAGS = {
    "dataset": "r2r",
    "iters": 4,
    "eval-every": 2,
    "speaker-iters": 4,
    "speaker-batch-size": 8,
    "speaker-eval-every": 2,
    "bt-iters": 4,
    "bt-eval-every": 2,
    "batch-size": 8,
    "hidden-width": 16,
    "word-width": 8,
    "action-width": 6,
    "angle-width": 8,
    "max-action": 6,
    "max-decode": 8,
    "train-batches": 1,
    "device": "cpu",
}
SMALL = [word for name, value in FLAGS.items() for word in (f"--{name}", str(value))]


class World:
    """A toy data folder that is this process's, and a finished run on it."""

    def __init__(self, folder, patch):
        self.folder, self.runs = folder, folder / "runs"
        self.data = use_world(folder, patch)
        self.features = str(self.data / "features" / "toy.safetensors")

    def train(self, *argv, features=None, name="toy"):
        words = ["--features", features or self.features, "--runs", str(self.runs), "--name", name]
        train.main([*SMALL, *words, *argv])
        return self.runs / name


def write_predictions(world, path, split="val_unseen", **changes):
    """Write the shortest paths of a split as predictions."""
    items = json.loads((world.data / "R2R" / f"R2R_{split}.json").read_text())
    found = [
        {"instr_id": f"{item['path_id']}_{k}", "trajectory": [[v, 0.0, 0.0] for v in item["path"]]}
        for item in items
        for k in range(3)
    ]
    change = changes.get("change")
    if change is not None:
        change(found)
    opener = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "wt") as file:
        json.dump(found, file)
    return str(path)
