"""Pictures of the emulated simulator: the real one's recorded ones, and a colored cube known by hand."""

import copy
import json
import math

import numpy as np
import pytest
from PIL import Image

from tests.golden import SHARED, needs_shared
from tests.toy_world import write_graphs
from vln_clip.envs.mattersim import Simulator

RENDER = SHARED / "golden" / "render"
COLORS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (250, 0, 250), (0, 250, 250)]  # of faces 0 to 5
FORWARD, RIGHT, UP = 3, 4, 0


def recorded(name):
    rows = json.loads((RENDER / "views" / f"index_{name}.json").read_text())
    return [row for row in rows if (RENDER / "views" / row["file"]).is_file()]


@needs_shared
@pytest.mark.parametrize("old", [True, False], ids=["older", "batched"])
@pytest.mark.parametrize(("name", "count"), [("cont", 8), ("disc", 45), ("disc640", 3)])
def test_recorded_pictures(name, count, old):
    rows = recorded(name)
    assert len(rows) == count
    for row in rows:
        sim = Simulator()
        sim.setNavGraphPath(str(SHARED / "data" / "connectivity"))
        sim.setDatasetPath(str(RENDER / "skyboxes" if old else RENDER / "skyboxes" / "v1" / "scans"))
        sim.setDiscretizedViewingAngles(name != "cont")
        sim.setCameraResolution(row["width"], row["height"])
        sim.setCameraVFOV(math.radians(row["vfov_deg"]))
        start = (row["scan"], row["viewpointId"], row["heading"], row["elevation"])
        sim.newEpisode(*start) if old else sim.newEpisode(*([x] for x in start))
        state = sim.getState() if old else sim.getState()[0]
        expected = np.asarray(Image.open(RENDER / "views" / row["file"]).convert("RGB"))
        assert (state.rgb.dtype, state.rgb.shape) == (np.uint8, expected.shape)
        difference = np.abs(state.rgb[..., ::-1].astype(int) - expected)
        assert difference.mean() <= 0.1, row["file"]
        assert (difference.max(-1) > 3).mean() <= 0.001, row["file"]


@pytest.fixture
def data(tmp_path):
    """A data folder in which a2 and a3 have plainly colored faces, a2 with depth: every range 2 m."""
    write_graphs(tmp_path / "connectivity")
    folder = tmp_path / "scans" / "alpha" / "matterport_skybox_images"
    folder.mkdir(parents=True)
    for name in ("a2", "a3"):
        for face, color in enumerate(COLORS):
            Image.new("RGB", (32, 32), color).save(folder / f"{name}_skybox{face}_sami.jpg", quality=95)
    Image.fromarray(np.full((32, 192), 8000, np.uint16)).save(folder / "a2_skybox_depth_small.png")
    return tmp_path


def simulator(data, depth=False, batch_size=1):
    sim = Simulator()
    sim.setNavGraphPath(str(data / "connectivity"))
    sim.setDatasetPath(str(data / "scans"))
    sim.setDiscretizedViewingAngles(True)
    sim.setCameraResolution(41, 31)
    sim.setCameraVFOV(math.radians(60))
    sim.setDepthEnabled(depth)
    sim.setBatchSize(batch_size)
    sim.initialize()
    return sim


def middle(state):
    return tuple(state.rgb[15, 20, ::-1].tolist())


def test_pictures_follow_the_pose_in_blue_green_red(data):
    sim = simulator(data, batch_size=2)
    sim.newEpisode(["alpha"] * 2, ["a2"] * 2, [0.0, math.pi / 2], [0.0, 0.0])
    states = sim.getState()
    assert [middle(state) for state in states] == [pytest.approx(COLORS[face], abs=3) for face in (FORWARD, RIGHT)]
    kept = states[0].rgb
    assert states[0].navigableLocations[1].viewpointId == "a3"
    sim.makeAction([1, 0], [1, -1], [0, 0])
    sim.makeAction([0, 0], [1, -1], [0, 0])
    sim.makeAction([0, 0], [1, -1], [0, 0])
    assert [middle(state) for state in states] == [pytest.approx(COLORS[face], abs=3) for face in (RIGHT, FORWARD)]
    assert tuple(kept[15, 20, ::-1].tolist()) == pytest.approx(COLORS[FORWARD], abs=3)


def test_depth_is_measured_along_the_optical_axis(data):
    sim = simulator(data, depth=True)
    sim.newEpisode(["alpha"], ["a2"], [0.0], [0.0])
    depth = sim.getState()[0].depth
    assert (depth.dtype, depth.shape) == (np.uint16, (31, 41))
    assert depth[15, 20] == 8000
    # The corner's ray: 20 and 15 pixels from the middle, focal length 15.5 / tan 30° = 26.8 pixels.
    focal = 15.5 / math.tan(math.pi / 6)
    assert depth[0, 0] == pytest.approx(8000 * focal / math.hypot(20, 15, focal), abs=1)


def test_missing_and_broken_pictures_are_value_errors(data):
    sim = simulator(data)
    with pytest.raises(ValueError, match=r"skybox files must all exist in .*a1_skybox0_sami\.jpg"):
        sim.newEpisode(["alpha"], ["a1"], [0.0], [0.0])
    file = data / "scans" / "alpha" / "matterport_skybox_images" / "a3_skybox2_sami.jpg"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"must be a complete JPEG, got .*a3_skybox2"):
        sim.newEpisode(["alpha"], ["a3"], [0.0], [0.0])
    sim = simulator(data, depth=True)
    with pytest.raises(ValueError, match=r"a3_skybox_depth_small\.png"):
        sim.newEpisode(["alpha"], ["a3"], [0.0], [0.0])


def test_a_missing_picture_moves_nobody(data):
    sim = simulator(data, batch_size=2)
    sim.newEpisode(["alpha"] * 2, ["a3", "a2"], [math.pi, -math.pi / 2], [0.0, 0.0])
    sim.makeAction([0, 0], [0, -1], [0, 0])  # the second agent looks south, where a1 has no pictures
    sim.makeAction([0, 0], [0, -1], [0, 0])
    sim.makeAction([0, 0], [0, -1], [0, 0])
    before = [copy.copy(state) for state in sim.getState()]
    names = [location.viewpointId for location in before[1].navigableLocations]
    with pytest.raises(ValueError, match="a1_skybox0"):
        sim.makeAction([1, names.index("a1")], [0, 0], [0, 0])
    for state, old in zip(sim.getState(), before, strict=True):
        assert (state.location, state.step, state.heading) == (old.location, old.step, old.heading)
        assert state.rgb is old.rgb


@pytest.mark.parametrize(("size", "kept"), [(1, 1), (5, 2)])
def test_the_cache_keeps_so_many_panoramas(data, size, kept):
    sim = Simulator()
    sim.setNavGraphPath(str(data / "connectivity"))
    sim.setDatasetPath(str(data / "scans"))
    sim.setCacheSize(size)
    sim.initialize()
    for name in ("a2", "a3", "a2"):
        sim.newEpisode(["alpha"], [name], [0.0], [0.0])
    assert len(sim._camera._kept) == kept
