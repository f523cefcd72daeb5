"""The world driven by a MatterSim module; our own emulation stands in for the real one, honest or lying."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch

from tests.golden import SHARED, needs_shared
from tests.toy_world import batch_of, entry, toy_tables, write_scan
from vln_clip import evaluate, log
from vln_clip.connectivity import NavTables
from vln_clip.envs import mattersim
from vln_clip.envs.navigation import Navigation
from vln_clip.envs.simulated import Driver, SimulatedNavigation, SimulatorMismatchError, import_simulator
from vln_clip.features import bank


class OldSimulator:
    """Our emulation behind the older API only."""

    def __init__(self):
        self._sim = mattersim.Simulator()

    def __getattr__(self, name):
        if name == "initialize":
            raise AttributeError(name)
        return getattr(self._sim, name)


class Turned(mattersim.Simulator):
    """Lies about the heading in which neighbors are seen."""

    def getState(self):
        states = super().getState()
        for state in states:
            state._locations = tuple(
                location._replace(rel_heading=location.rel_heading + 1e-4) if k else location
                for k, location in enumerate(state._locations)
            )
        return states


class Lazy(mattersim.Simulator):
    """Turns by two steps when asked for one, once it has moved."""

    def makeAction(self, index, heading, elevation):
        super().makeAction(index, heading, elevation)
        if index[0]:
            super().makeAction([0], [1], [0])


class Walled(mattersim.Simulator):
    """Hides one neighbor."""

    def getState(self):
        states = super().getState()
        for state in states:
            state._locations = tuple(location for location in state._locations if location.viewpointId != "a7")
        return states


class Stiff(mattersim.Simulator):
    """Does not tilt down."""

    def makeAction(self, index, heading, elevation):
        super().makeAction(index, heading, [max(0.0, elevation[0])])


class Far(mattersim.Simulator):
    """Lies about distances."""

    def getState(self):
        states = super().getState()
        for state in states:
            state._locations = tuple(location._replace(rel_distance=3.0) for location in state._locations)
        return states


class Elsewhere(mattersim.Simulator):
    """Knows other buildings."""

    def newEpisode(self, scanId, viewpointId=None, heading=0.0, elevation=0.0):
        raise IndexError("map::at")


def module(simulator=mattersim.Simulator):
    return SimpleNamespace(Simulator=simulator)


def worlds(tmp_path, simulator=mattersim.Simulator, cross_check=True):
    tables = toy_tables(tmp_path / "connectivity")
    seen = bank([], tables.keys)
    driver = Driver(module(simulator), tmp_path / "connectivity")
    return Navigation(tables, seen), SimulatedNavigation(driver, tables, seen, cross_check=cross_check)


@pytest.mark.parametrize("simulator", [mattersim.Simulator, OldSimulator])
def test_a_simulator_and_the_tables_show_the_same_world(tmp_path, simulator):
    ours, driven = worlds(tmp_path, simulator)
    assert driven.driver.batched == (simulator is mattersim.Simulator)
    viewpoint = torch.arange(len(ours.tables.keys))
    for view in (0, 14, 35):
        a, b = (world.observe(viewpoint, torch.full_like(viewpoint, view)) for world in (ours, driven))
        assert torch.equal(a.candidate_mask, b.candidate_mask)
        torch.testing.assert_close(a.candidate_angles, b.candidate_angles, atol=1e-6, rtol=0)
        for action in range(4):
            places = (viewpoint, torch.full_like(viewpoint, view), torch.full_like(viewpoint, action))
            for x, y in zip(ours.step(*places), driven.step(*places), strict=True):
                assert torch.equal(x, y)
    assert driven.num_swept == len(viewpoint)
    assert driven.num_moves > 20
    batch = batch_of(ours.tables, [("alpha", "a0", "a6"), ("gamma", "g2", "g3")])
    for x, y in zip(ours.walk(batch), driven.walk(batch), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize(
    ("simulator", "message"),
    [
        (Far, r"alpha, a0 to a1: distance differs by -5.00e-01 m"),
        (Elsewhere, r"alpha, a0: the simulator does not start there \(map::at\); does it read the same connectivity"),
        (Turned, r"alpha, a0 to a1: bearing differs by .*e-0\d rad"),
        (Walled, r"alpha, a1: neighbors in order: the tables say \['a2', 'a7', 'a0'\], the simulator \['a2', 'a0'\]"),
        (
            Lazy,
            r"a0, view 12, to a1: place, view, actions: the tables say \(1, 12, 1\), the simulator \(1, 13, 2\)",
        ),
    ],
)
def test_the_first_difference_is_named(tmp_path, simulator, message):
    _, driven = worlds(tmp_path, simulator)
    with pytest.raises(SimulatorMismatchError, match=message):
        driven.walk(batch_of(driven.tables, [("alpha", "a0", "a7")]))


def test_a_simulator_that_never_gets_there_is_told(tmp_path):
    _, driven = worlds(tmp_path, Stiff)
    with pytest.raises(SimulatorMismatchError, match="from view 35 to 12 ends at view 24 of the simulator"):
        driven.step(torch.tensor([0]), torch.tensor([35]), torch.tensor([0]))


def test_without_cross_check_the_simulator_is_believed(tmp_path):
    ours, driven = worlds(tmp_path, Turned, cross_check=False)
    place = torch.tensor([0]), torch.tensor([12])
    a, b = ours.observe(*place).candidate_angles, driven.observe(*place).candidate_angles
    assert float((a - b).abs().max()) == pytest.approx(1e-4, rel=0.01)
    assert int(ours.tables.degree[0]) == 1  # the tables themselves are as they were


def test_a_neighbor_halfway_between_two_views_is_shown_by_the_first(tmp_path):
    # 15, 45, ... 345 degrees around a hub; the last lies between views 23 and 12, and 12 comes first in the sweep.
    spokes = {f"s{k:02}": math.radians(15 + 30 * k) for k in range(12)}
    names = ["hub", *spokes]
    rows = [entry("hub", (0, 0, 1.5), list(spokes), names)]
    rows += [
        entry(name, (2 * math.sin(turn), 2 * math.cos(turn), 1.5), ["hub"], names) for name, turn in spokes.items()
    ]
    folder = write_scan(tmp_path, "wheel", rows).parent
    (folder / "scans.txt").write_text("wheel\n")
    tables = NavTables.load(folder, ["wheel"], cache=False)
    driven = SimulatedNavigation(Driver(module(), folder), tables, bank([], tables.keys), cross_check=True)
    driven.observe(torch.arange(13), torch.full((13,), 12))
    view = dict(zip(tables.neighbor[0].tolist(), tables.view[0].tolist(), strict=True))
    assert view[12] == 12
    assert all(view[k] in (11 + k, 12 + k) for k in range(1, 12))  # the last bits of float32 decide


def test_without_the_module_a_clear_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "MatterSim", None)
    with pytest.raises(ValueError, match=r"--cross-check need the module MatterSim, .* leave them out"):
        import_simulator()


def test_evaluating_with_a_cross_check(world, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "MatterSim", module())
    words = ["--checkpoint", str(world.runs / "toy"), "--split", "val_unseen"]
    log.program(evaluate.main, [*words, "--json", str(tmp_path / "a.json")])
    log.program(evaluate.main, [*words, "--json", str(tmp_path / "b.json"), "--cross-check"])
    assert "moves, no difference between simulator and tables" in capsys.readouterr().err
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()


def test_training_with_a_cross_check(own_world, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "MatterSim", module())
    with caplog.at_level("INFO", logger="vln_clip"):
        own_world.train("--bt", "--simulator", "mattersim", "--cross-check", name="checked")
    assert "no difference between simulator and tables" in caplog.text
    assert (own_world.runs / "checked" / "results.json").is_file()


def test_a_prediction_file_cannot_be_cross_checked(world, capsys):
    with pytest.raises(SystemExit) as stop:
        log.program(evaluate.main, ["--predictions", "p.json", "--cross-check"])
    assert stop.value.code == 2
    assert "are for --checkpoint" in capsys.readouterr().err


@needs_shared
def test_every_edge_of_some_real_buildings():
    # Isolated viewpoints, several components and the largest degree among them.
    scans = ["JF19kD82Mey", "29hnd4uzFmX", "q9vSo1VnCiC"]
    folder = SHARED / "data" / "connectivity"
    tables = NavTables.load(folder, scans, cache=False)
    driven = SimulatedNavigation(Driver(module(), folder), tables, bank([], tables.keys), cross_check=True)
    viewpoint = torch.arange(len(tables.keys))
    for action in range(tables.neighbor.shape[1]):
        driven.step(viewpoint, (viewpoint * 7 + action) % 36, torch.full_like(viewpoint, action))
    assert driven.num_moves == int(tables.degree.sum())
    assert math.isclose(driven.num_swept, len(tables.keys))
