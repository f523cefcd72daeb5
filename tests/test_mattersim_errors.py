"""What the MatterSim API refuses, and what warns."""

import math
import warnings

import pytest

from tests.toy_simulator import STEP, names, simulator
from tests.toy_world import entry, write_scan
from vln_clip.envs.mattersim import Simulator


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
