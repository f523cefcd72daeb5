"""The MatterSim API by hand-made cases; the recorded states are in test_golden_mattersim.py."""

import copy
import math
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

from tests.toy_world import CAMERA, entry, write_graphs, write_scan
from vln_clip.envs import mattersim
from vln_clip.envs.mattersim import Simulator

STEP = math.pi / 6


@pytest.fixture
def graphs(tmp_path):
    return write_graphs(tmp_path / "connectivity")


def simulator(graphs, old=False, batch_size=1, discretized=True):
    sim = Simulator()
    sim.setNavGraphPath(str(graphs))
    sim.setRenderingEnabled(False)
    sim.setDiscretizedViewingAngles(discretized)
    sim.setCameraResolution(640, 480)
    sim.setCameraVFOV(math.radians(60))
    sim.setBatchSize(batch_size)
    if old:
        sim.init()
    else:
        sim.initialize()
    return sim


def names(state):
    return [location.viewpointId for location in state.navigableLocations]


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


@pytest.mark.parametrize(
    ("start", "error", "message"),
    [
        ((["alphb"], ["a2"], [0], [0]), IndexError, "did you mean 'alpha'"),
        ((["alpha"], ["nope"], [0], [0]), ValueError, "Could not find viewpointId nope"),
        ((["alpha"], ["ax"], [0], [0]), ValueError, "ax is excluded"),
        ((["alpha"], [], [0], [0]), IndexError, "viewpointId must have one entry"),
        (("alpha", ["a2"], [0], [0]), TypeError, "scanId must be a list"),
        ((["alpha"], ["a2"], 0.0, [0]), TypeError, "heading must be a list"),
    ],
)
def test_bad_starts_of_the_batched_api(graphs, start, error, message):
    sim = simulator(graphs)
    with pytest.raises(error, match=message):
        sim.newEpisode(*start)


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (([5], [0], [0]), ValueError),
        (([-1], [0], [0]), TypeError),
        (([0.5], [0], [0]), TypeError),
        ((0, 0, 0), TypeError),
        (([], [0], [0]), IndexError),
        (([0], [], [0]), IndexError),
    ],
)
def test_bad_actions_of_the_batched_api(graphs, action, error):
    sim = simulator(graphs)
    sim.newEpisode(["alpha"], ["a2"], [0], [0])
    with pytest.raises(error):
        sim.makeAction(*action)


@pytest.mark.parametrize(("bad", "error"), [("a", TypeError), (math.nan, ValueError), (math.inf, ValueError)])
def test_one_bad_angle_moves_nobody(graphs, bad, error):
    sim = simulator(graphs, batch_size=2)
    sim.newEpisode(["alpha"] * 2, ["a2"] * 2, [0, 0], [0, 0])
    for action in (([1, 0], [0, bad], [0, 0]), ([1, 0], [0, 0], [0, bad])):
        with pytest.raises(error, match="must be"):
            sim.makeAction(*action)
    with pytest.raises(error, match="must be"):
        sim.newEpisode(["alpha"] * 2, ["a0"] * 2, [0, bad], [0, 0])
    assert [(state.location.viewpointId, state.step) for state in sim.getState()] == [("a2", 0)] * 2


def test_one_bad_action_moves_nobody(graphs):
    sim = simulator(graphs, batch_size=2)
    sim.newEpisode(["alpha"] * 2, ["a2"] * 2, [0, 0], [0, 0])
    with pytest.raises(ValueError, match="Invalid action index: 7 in environment 1 of 2"):
        sim.makeAction([1, 7], [0, 0], [0, 0])
    assert [state.location.viewpointId for state in sim.getState()] == ["a2", "a2"]


@pytest.mark.parametrize("start", [("alphb", "a2"), ("alpha", "nope"), ("alpha", "ax")])
def test_bad_starts_of_the_older_api(graphs, start):
    with pytest.raises(ValueError, match=r"alphb|nope|ax"):
        simulator(graphs, old=True).newEpisode(*start, 0, 0)


@pytest.mark.parametrize("index", [5, -1])
def test_bad_actions_of_the_older_api(graphs, index):
    sim = simulator(graphs, old=True)
    sim.newEpisode("alpha", "a2", 0, 0)
    with pytest.raises(ValueError, match="Invalid action index"):
        sim.makeAction(index, 0, 0)


def test_acting_too_early(graphs):
    with pytest.raises(RuntimeError, match="newEpisode must be called"):
        Simulator().makeAction([0], [0], [0])
    with pytest.raises(ValueError, match="Invalid action index"):
        simulator(graphs).makeAction([0], [0], [0])
    with pytest.raises(RuntimeError, match="newEpisode must be called"):
        simulator(graphs, old=True).makeAction(0, 0, 0)


def test_a_building_without_viewpoints(tmp_path):
    folder = write_scan(tmp_path, "void", [entry("x", (0, 0, 0), [], ["x"], included=False)]).parent
    (folder / "scans.txt").write_text("void\n")
    with pytest.raises(RuntimeError, match="no viewpoint to start at"):
        simulator(folder).newRandomEpisode(["void"])


def test_missing_graphs(tmp_path):
    with pytest.raises(ValueError, match=r"scans\.txt is missing"):
        simulator(tmp_path).newEpisode(["alpha"], ["a2"], [0], [0])


def test_settings_that_come_too_late_warn(graphs):
    sim = simulator(graphs)
    with pytest.warns(UserWarning, match="setDiscretizedViewingAngles has no effect after initialisation"):
        sim.setDiscretizedViewingAngles(False)
    sim.newEpisode(["alpha"], ["a1"], [STEP], [0])
    assert names(sim.getState()[0]) == ["a1", "a2"]
    with pytest.warns(UserWarning, match="changes which locations are navigable"):
        sim.setCameraVFOV(math.radians(30))  # 20 degrees to each side
    sim.makeAction([0], [0], [0])
    assert names(sim.getState()[0]) == ["a1"]
    sim.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sim.setDiscretizedViewingAngles(False)
    with pytest.raises(RuntimeError, match="newEpisode must be called"):
        sim.makeAction([0], [0], [0])


def test_late_changes_of_the_view_warn_where_they_are_made(graphs):
    sim = simulator(graphs)
    with pytest.warns(UserWarning, match="not the pictures") as told:
        sim.setCameraResolution(320, 240)
    assert told[0].filename == __file__


@pytest.mark.parametrize("size", [(640, 0), (-1, 480)])
def test_impossible_pictures_are_refused(size):
    with pytest.raises(ValueError, match="at least 1 pixel each way"):
        Simulator().setCameraResolution(*size)


@pytest.mark.parametrize("vfov", [0.0, -1.0, 60.0])
def test_impossible_fields_of_view_are_refused(vfov):
    with pytest.raises(ValueError, match="must be radians between 0 and π"):
        Simulator().setCameraVFOV(vfov)


@pytest.mark.parametrize("limits", [(-2, 0.5), (-0.5, 2), (0.1, 0.5), (-0.5, -0.1)])
def test_impossible_elevation_limits_change_nothing(graphs, limits):
    sim = simulator(graphs, discretized=False)
    assert not sim.setElevationLimits(*limits)
    sim.newEpisode(["alpha"], ["a1"], [0], [1.5])
    assert sim.getState()[0].elevation == 0.94


def test_missing_skyboxes_are_a_value_error(graphs, tmp_path):
    sim = Simulator()
    sim.setNavGraphPath(str(graphs))
    sim.setDatasetPath(str(tmp_path / "scans"))
    sim.initialize()
    with pytest.raises(ValueError, match=r"skyboxes of scan alpha .* setRenderingEnabled\(False\)"):
        sim.newEpisode(["alpha"], ["a2"], [0], [0])


def test_world_up_of_the_toy_camera():
    assert np.linalg.det(np.array(CAMERA)) == pytest.approx(1)  # what the recorded poses are too


def test_importing_the_simulator_does_not_load_pytorch():
    code = "import sys; import vln_clip.envs.mattersim; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names():
    assert {"Simulator", "SimState", "ViewPoint"} <= set(vars(mattersim))
