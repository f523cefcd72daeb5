"""Pictures of the generated world for people: finer than the agents' files, and of the same scenes."""

import numpy as np
import pytest

from tests.gym_world import TINY
from vln_clip.envs.demo import build_demo
from vln_clip.envs.skybox import load_skybox
from vln_clip.viewer import faces


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces") / "world"
    build_demo(folder, TINY, workers=1)
    return folder


def somewhere(world):
    """Return a skybox folder of a world and the id of a viewpoint in it."""
    folder = sorted((world / "scans").iterdir())[0] / "matterport_skybox_images"
    return folder, sorted(folder.iterdir())[0].name.split("_")[0]


def test_houses_of_the_demo_world_are_drawn_finer(world, monkeypatch):
    monkeypatch.setattr(faces, "demo_folder", lambda: world)
    monkeypatch.setattr(faces, "DemoConfig", lambda: TINY)
    faces._scene.cache_clear()
    folder, viewpoint_id = somewhere(world)
    fine, coarse = faces.load_faces(folder, viewpoint_id).numpy(), load_skybox(folder, viewpoint_id).numpy()
    faces._scene.cache_clear()
    assert fine.shape == (6, faces.DEMO_FACE_PX, faces.DEMO_FACE_PX, 3)
    S = coarse.shape[1]
    picked = (np.arange(S) + 0.5) * faces.DEMO_FACE_PX / S
    seen = fine[:, picked.astype(int)][:, :, picked.astype(int)]
    assert np.median(np.abs(seen.astype(int) - coarse.astype(int))) < 8  # edges and JPEG differ, scenes do not


def test_other_skyboxes_are_read_as_they_are(world):
    folder, viewpoint_id = somewhere(world)
    assert np.array_equal(faces.load_faces(folder, viewpoint_id), load_skybox(folder, viewpoint_id))
