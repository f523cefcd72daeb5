"""Skyboxes for the toy buildings: faces of large colored squares, other ones at every viewpoint."""

import numpy as np
from PIL import Image

from tests.toy_world import ALPHA, GAMMA

FACE_PX = 32
SQUARES = 4  # along an edge


def write_skyboxes(data, seed=0):
    """Write the skyboxes of alpha, beta and gamma into a data folder."""
    rng = np.random.default_rng(seed)
    names = {"alpha": list(ALPHA), "beta": [f"b{name[1]}" for name in ALPHA], "gamma": list(GAMMA)}
    for scan, viewpoints in names.items():
        folder = data / "scans" / scan / "matterport_skybox_images"
        folder.mkdir(parents=True)
        for viewpoint in viewpoints:
            for face in range(6):
                squares = rng.integers(0, 256, (SQUARES, SQUARES, 3), dtype=np.uint8)
                image = Image.fromarray(squares).resize((FACE_PX, FACE_PX), Image.Resampling.NEAREST)
                image.save(folder / f"{viewpoint}_skybox{face}_sami.jpg", quality=95)
