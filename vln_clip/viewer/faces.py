"""Faces of skyboxes for people to look at.

Houses of the generated world are drawn anew, finer than the files that agents see (96 pixels a face); whatever an agent
is fed comes from those files and not from here.
"""

import functools
from pathlib import Path

import torch
from torch import Tensor

from vln_clip.envs.demo import DemoConfig, demo_folder
from vln_clip.envs.demo.house import make_house
from vln_clip.envs.demo.raycast import Scene, make_scene, render_skybox
from vln_clip.envs.skybox import load_skybox

DEMO_FACE_PX = 256


def load_faces(folder: Path, viewpoint_id: str) -> Tensor:
    """Return the six faces around a viewpoint, (6, S, S, 3) uint8.

    Args:
        folder: with its skybox files, ``scans/<scan>/matterport_skybox_images`` of a data folder.
        viewpoint_id: its id.

    Raises:
        InputError: its skybox files are missing or damaged.
    """
    if len(folder.parents) < 3 or not is_demo(folder.parents[2]):
        return load_skybox(folder, viewpoint_id)
    scene = _scene(folder.parent.name)
    index = scene.house.viewpoint_ids.index(viewpoint_id)
    return torch.from_numpy(render_skybox(scene, index, DEMO_FACE_PX))


def is_demo(data: Path) -> bool:
    """Tell whether a data folder is the generated world."""
    return data == demo_folder()


@functools.lru_cache(maxsize=16)
def _scene(scan: str) -> Scene:
    """Build a house of the world anew; its scan id ends in its number."""
    house = make_house(DemoConfig().seed, int(scan.removeprefix("demo")))
    assert house.scan == scan, (house.scan, scan)
    return make_scene(house)
