"""Worlds for the tests of the gymnasium environments, and comparing what environments return."""

import numpy as np

from tests.toy_world import WIDTH, write_world
from vln_clip.envs.demo import DemoConfig, build_demo

TINY = DemoConfig(
    num_train_houses=1,
    num_unseen_houses=1,
    num_test_houses=1,
    face_px=16,
    num_train_paths=6,
    num_val_seen_paths=2,
    num_val_unseen_paths=4,
    num_test_paths=3,
    num_rxr_train_paths=4,
    num_rxr_val_seen_paths=2,
    num_rxr_val_unseen_paths=3,
    num_rxr_test_paths=2,
    num_rxr_aug_paths=5,
)
NUM_TOY_VIEWPOINTS = 21  # alpha and beta 8 each, gamma 5
NUM_TOY_ACTIONS = 4  # a2 has three candidates, and stop
FEATURE_SHAPE = (36, WIDTH)
# Every observation option as arguments; "{features}" and "{rgb}" are filled in by ``arguments``.
OPTIONS = {
    "indices": {},
    "text": {"instruction": "text"},
    "features": {"observation": "features"},
    "rgb": {"observation": "rgb", "image_size_px": (12, 16)},
}


def build_worlds(folder):
    """Write the toy world (with features) and a tiny demo world (with skyboxes); return both data folders."""
    toy, demo = write_world(folder / "toy"), folder / "demo"
    build_demo(demo, TINY, workers=1)
    return toy, demo


def arguments(name, worlds):
    """Return id and keyword arguments of an observation option: rgb needs skyboxes, which the toy world lacks."""
    toy, demo = worlds
    chosen = dict(OPTIONS[name])
    if name == "rgb":
        return "vln_clip/Demo-v0", {**chosen, "data": str(demo)}
    if name == "features":
        chosen["features"] = str(toy / "features" / "toy.safetensors")
    return "vln_clip/R2R-v0", {**chosen, "data": str(toy)}


def same(a, b, where=""):
    """Assert that two observations or infos are equal, types included."""
    assert type(a) is type(b), (where, type(a), type(b))
    if isinstance(a, dict):
        assert sorted(a) == sorted(b), where
        for key in a:
            same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{where}/{i}")
    elif isinstance(a, np.ndarray) and a.dtype == object:
        assert a.shape == b.shape, where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{where}/{i}")
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype, (where, a.dtype, b.dtype)
        assert np.array_equal(a, b), (where, a, b)
    else:
        assert a == b, (where, a, b)
