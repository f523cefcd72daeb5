"""The MatterSim API by hand-made cases; the recorded states are in test_golden_mattersim.py."""

import copy
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest

from tests.toy_simulator import STEP, names, simulator
from tests.toy_world import CAMERA, entry, write_scan
from vln_clip.envs import mattersim
from vln_clip.envs.mattersim import Simulator

# The simulator's own motion test: start (10, 10) degrees, changes in degrees, expected before each change.
CHANGES = [
    (-20, 0),
    (-360, -36),
    (371, -30),
    (89, -10),
    (90, 0),
    (-90, 90),
    (-180, 5),
    (-180, -10),
    (-180, -40),
    (0, 0),
]
DISCRETE = [
    (0, 0, 12), (330, 0, 23), (300, -30, 10), (330, -30, 11), (0, -30, 0),
    (30, -30, 1), (0, 0, 12), (330, 30, 35), (300, 0, 22), (270, -30, 9),
]  # fmt: skip
CONTINUOUS = [
    (10, 10), (350, 10), (350, -26), (1, -40), (90, -40), (180, -40), (90, 50), (270, 50), (90, 40), (270, 0),
]  # fmt: skip


@pytest.mark.parametrize("old", [False, True])
def test_discretized_motion(graphs, old):
    sim = simulator(graphs, old)
    start = ("alpha", "a2", math.radians(10), math.radians(10))
    sim.newEpisode(*start) if old else sim.newEpisode(*([x] for x in start))
    for t, (heading, elevation) in enumerate(CHANGES):
        state = sim.getState() if old else sim.getState()[0]
        found = (round(math.degrees(state.heading)), round(math.degrees(state.elevation)), state.viewIndex)
        assert found == DISCRETE[t]
        assert state.step == t
        action = (0, math.radians(heading), math.radians(elevation))
        sim.makeAction(*action) if old else sim.makeAction(*([x] for x in action))


def test_continuous_motion(graphs):
    sim = simulator(graphs, discretized=False)
    assert sim.setElevationLimits(math.radians(-40), math.radians(50))
    sim.newEpisode(["alpha"], ["a2"], [math.radians(10)], [math.radians(10)])
    for expected, (heading, elevation) in zip(CONTINUOUS, CHANGES, strict=True):
        state = sim.getState()[0]
        assert math.degrees(state.heading) == pytest.approx(expected[0], abs=1e-9)
        assert math.degrees(state.elevation) == pytest.approx(expected[1], abs=1e-9)
        assert state.viewIndex == 0
        sim.makeAction([0], [math.radians(heading)], [math.radians(elevation)])


def test_locations_in_view_by_hand(graphs):
    # From a1 (0, 2.5): a2 is 2.5 m north, a0 south, a7 (5, 2) east and a little south.
    sim = simulator(graphs)
    sim.newEpisode(["alpha"], ["a1"], [0.0], [0.0])
    state = sim.getState()[0]
    assert names(state) == ["a1", "a2"]
    here, north = state.navigableLocations
    assert (here.rel_heading, here.rel_elevation, here.rel_distance) == (0.0, 0.0, 0.0)
    assert (north.ix, north.x, north.y, north.z) == (2, 0.0, 5.0, 1.5)
    assert (north.rel_heading, north.rel_elevation, north.rel_distance) == pytest.approx((0.0, 0.0, 2.5), abs=1e-6)
    sim.makeAction([0], [1], [0])  # 30 degrees to the right: nothing within 40 degrees but a2, 30 degrees left
    assert sim.getState()[0].navigableLocations[1].rel_heading == pytest.approx(-STEP, abs=1e-6)
    sim.makeAction([0], [1], [1])  # 60 degrees, looking up
    state = sim.getState()[0]
    assert names(state) == ["a1", "a7"]
    assert state.navigableLocations[1].rel_heading == pytest.approx(
        math.pi / 2 + math.atan2(0.5, 5) - 2 * STEP, abs=1e-6
    )
    assert state.navigableLocations[1].rel_elevation == pytest.approx(-STEP, abs=1e-6)


@pytest.mark.parametrize("discretized", [True, False])
def test_without_restriction_every_neighbor_by_angular_distance(graphs, discretized):
    sim = Simulator()
    sim.setNavGraphPath(str(graphs))
    sim.setRenderingEnabled(False)
    sim.setRestrictedNavigation(False)
    sim.setDiscretizedViewingAngles(discretized)
    sim.initialize()
    sim.newEpisode(["alpha"], ["a1"], [2 * STEP], [0])
    assert names(sim.getState()[0]) == ["a1", "a7", "a2", "a0"]  # 36, 60 and 120 degrees away


@pytest.mark.parametrize("discretized", [True, False])
def test_a_neighbor_straight_above_is_seen_only_without_restriction(tmp_path, discretized):
    rows = [entry("low", (0, 0, 1), ["high"], ["low", "high"]), entry("high", (0, 0, 4), ["low"], ["low", "high"])]
    folder = write_scan(tmp_path, "stairs", rows).parent
    (folder / "scans.txt").write_text("stairs\n")
    for restricted, expected in ((True, ["low"]), (False, ["low", "high"])):
        sim = Simulator()
        sim.setNavGraphPath(str(folder))
        sim.setRenderingEnabled(False)
        sim.setRestrictedNavigation(restricted)
        sim.setDiscretizedViewingAngles(discretized)
        sim.initialize()
        sim.newEpisode(["stairs"], ["low"], [0.0], [0.0])
        assert names(sim.getState()[0]) == expected


def test_moving_keeps_the_heading_and_takes_the_old_states_index(graphs):
    sim = simulator(graphs)
    sim.newEpisode(["alpha"], ["a2"], [math.pi / 2], [0.0])
    assert names(sim.getState()[0]) == ["a2", "a4"]
    sim.makeAction([1], [-1], [1])
    state = sim.getState()[0]
    assert (state.location.viewpointId, state.step) == ("a4", 1)
    assert (state.heading, state.elevation) == (2 * STEP, STEP)


def test_batched_states_are_live_and_lists_that_were_handed_out_stay(graphs):
    sim = simulator(graphs, batch_size=2)
    sim.newEpisode(["alpha", "beta"], ["a2", "b2"], [0.0, 0.0], [0.0, 0.0])
    states = sim.getState()
    listed = states[0].navigableLocations
    sim.makeAction([1, 0], [0, 0], [0, 0])
    assert sim.getState()[0] is states[0]
    assert states[0].location.viewpointId == "a3"
    assert [location.viewpointId for location in listed] == ["a2", "a3"]
    with pytest.raises(AttributeError):
        listed[0].rel_heading = 1.0
    frozen = copy.deepcopy(states[0])
    sim.makeAction([0, 0], [1, 0], [0, 0])
    assert (frozen.viewIndex, states[0].viewIndex) == (12, 13)


def test_the_list_of_states_is_the_callers(graphs):
    sim = simulator(graphs, batch_size=2)
    sim.newEpisode(["alpha"] * 2, ["a2"] * 2, [0.0] * 2, [0.0] * 2)
    sim.getState().pop()
    assert len(sim.getState()) == 2


def test_copies_and_pickles_of_states_hold_what_can_be_seen(graphs):
    sim = simulator(graphs)
    sim.newEpisode(["alpha"], ["a2"], [0.0], [0.0])
    again = pickle.loads(pickle.dumps(sim.getState()[0]))
    assert (again.navigableLocations, again.viewIndex, again.scanId) == (
        sim.getState()[0].navigableLocations,
        12,
        "alpha",
    )
    assert len(pickle.dumps(sim.getState()[0].navigableLocations)) < 1000
    assert copy.deepcopy(sim.getState()[0]) is not sim.getState()[0]


def test_numbers_of_other_libraries_become_floats(graphs):
    sim = simulator(graphs, discretized=False)
    sim.newEpisode(["alpha"], ["a2"], np.array([0.5], np.float32), [np.int64(0)])
    for _ in range(200):
        sim.makeAction(np.array([0]), np.array([0.1], np.float32), np.array([0.0], np.float32))
    state = sim.getState()[0]
    assert type(state.heading) is type(state.elevation) is float
    assert state.heading == pytest.approx((0.5 + 200 * float(np.float32(0.1))) % (2 * math.pi), abs=1e-9)


def test_older_states_are_copies_with_points(graphs):
    sim = simulator(graphs, old=True)
    sim.newEpisode("alpha", "a2", 0.0, 0.0)
    state = sim.getState()
    sim.makeAction(1, 0, 0)
    assert state.location.viewpointId == "a2"
    assert sim.getState().location.point == [0.0, 7.5, 3.0]
    with pytest.raises(TypeError, match="rendering was switched off"):
        _ = state.rgb


def test_pictures_are_black_where_rendering_is_off(graphs):
    sim = simulator(graphs)
    sim.newEpisode(["alpha"], ["a2"], [0.0], [0.0])
    state = sim.getState()[0]
    assert (state.rgb.shape, state.rgb.dtype, state.rgb.any()) == ((480, 640, 3), np.uint8, False)
    assert (state.depth.shape, state.depth.dtype) == ((480, 640), np.uint16)


def test_the_first_episode_decides_where_no_initializer_was_called(graphs):
    for old in (False, True):
        sim = Simulator()
        sim.setNavGraphPath(str(graphs))
        sim.setRenderingEnabled(False)
        if old:
            sim.newEpisode("alpha", "a2", 0, 0)
            assert sim.getState().location.viewpointId == "a2"
        else:
            sim.newEpisode(["alpha"], ["a2"], [0], [0])
            assert sim.getState()[0].location.viewpointId == "a2"


def test_random_episodes_keep_the_heading_and_vary_the_place(graphs):
    sim = simulator(graphs, discretized=False)
    places = set()
    for _ in range(30):
        sim.newRandomEpisode(["alpha"])
        places.add(sim.getState()[0].location.viewpointId)
        assert sim.getState()[0].heading == 0.8264762952590881
    assert len(places) > 4
    assert "ax" not in places
    again = simulator(graphs, discretized=True)
    again.newRandomEpisode(["alpha"])
    assert again.getState()[0].heading == 1.0471975511965976


def test_an_empty_viewpoint_is_a_random_one_in_the_older_api(graphs):
    sim = simulator(graphs, old=True)
    sim.newEpisode("alpha", "", 0, 0)
    assert sim.getState().location.viewpointId.startswith("a")


def test_world_up_of_the_toy_camera():
    assert np.linalg.det(np.array(CAMERA)) == pytest.approx(1)  # what the recorded poses are too


def test_importing_the_simulator_does_not_load_pytorch():
    code = "import sys; import vln_clip.envs.mattersim; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names():
    assert {"Simulator", "SimState", "ViewPoint"} <= set(vars(mattersim))
