"""Batched navigation: snapping, observing, stepping, teacher, reward; and recorded episodes of the reference."""

import math

import numpy as np
import pytest
import torch

from tests.golden import SHARED, load_json, needs_shared
from tests.toy_world import batch_of, blind_world, toy_tables, write_features
from vln_clip.connectivity import NavTables
from vln_clip.envs.evaluation import simulator_poses
from vln_clip.envs.navigation import Navigation, snap_view
from vln_clip.features import bank, open_store
from vln_clip.records import Batch


@pytest.fixture
def tables(tmp_path):
    return toy_tables(tmp_path / "graphs")


@pytest.fixture
def world(tables, tmp_path):
    store = open_store(write_features(tmp_path / "toy.safetensors", tables))
    return Navigation(tables, bank(store, tables.keys))


def places(tables, *names):
    scans = {"a": "alpha", "b": "beta", "g": "gamma"}
    return torch.tensor([tables.index(scans[name[0]], name) for name in names])


@pytest.mark.parametrize(
    ("degrees", "view"),
    [  # half a step rounds away from zero after wrapping to [0, 360): 15 -> 30, 345 -> 360 = 0
        (0, 12),
        (14.9, 12),
        (15, 13),
        (45, 14),
        (345, 12),
        (344.9, 23),
        (-15, 12),
        (-15.1, 23),
        (-30, 23),
        (360, 12),
        (376, 13),
        (720 + 90, 15),
    ],
)
def test_start_headings_snap_as_in_the_simulator(degrees, view):
    # Written as a multiple of pi/12, as the simulator's ties are: 15 deg = pi / 12 exactly.
    heading = torch.tensor([degrees / 15 * (math.pi / 12)], dtype=torch.float64)
    assert snap_view(heading).tolist() == [view]


def test_rounded_full_turns_snap_to_north():
    assert snap_view(torch.tensor([2 * math.pi, -1e-17, -0.0], dtype=torch.float64)).tolist() == [12, 12, 12]


def test_an_observation_shows_views_candidates_and_stop(tables, world):
    # a2 has three candidates, a0 one, g4 none; the widest place needs four columns.
    viewpoint = places(tables, "a2", "a0", "g4")
    obs = world.observe(viewpoint, torch.tensor([12, 15, 24]))
    assert obs.views.shape == (3, 36, 8)
    assert obs.candidates.shape == (3, 4, 8)
    assert obs.candidate_angles.shape == (3, 4, 4)
    assert obs.stop.tolist() == [3, 1, 0]
    assert obs.candidate_mask.tolist() == [[True] * 4, [True, True, False, False], [True, False, False, False]]
    # Candidates of a2 are shown by views 24, 15 and 18 (tests/test_connectivity.py).
    assert torch.equal(obs.candidates[0, :3], obs.views[0, [24, 15, 18]])
    real_moves = torch.arange(4) < obs.stop[:, None]
    assert not obs.candidates[~real_moves].any()
    assert not obs.candidate_angles[~real_moves].any()
    assert obs.candidates[real_moves].any(1).all()


def test_angles_are_relative_to_the_heading_and_absolute_in_elevation(tables, world):
    # At a0 looking east (90 deg): a1 lies north, -90 deg to the left. View 0 (north, 30 deg down) likewise.
    obs = world.observe(places(tables, "a0"), torch.tensor([15]))
    assert obs.candidate_angles[0, 0].tolist() == pytest.approx([-1, 0, 0, 1], abs=1e-6)
    assert obs.view_angles[0, 0].tolist() == pytest.approx([-1, 0, -0.5, math.sqrt(3) / 2], abs=1e-6)
    assert obs.own_angles[0].tolist() == pytest.approx([1, 0, 0, 1], abs=1e-6)
    # Looking up (view 24 + 3) changes only what the agent knows of itself.
    up = world.observe(places(tables, "a0"), torch.tensor([27]))
    assert torch.equal(up.candidate_angles, obs.candidate_angles)
    assert torch.equal(up.view_angles, obs.view_angles)
    assert up.own_angles[0].tolist() == pytest.approx([1, 0, 0.5, math.sqrt(3) / 2], abs=1e-6)


def test_observing_does_not_change_the_features(tables, world):
    before = world.bank.views(places(tables, "a0")).clone()
    world.observe(places(tables, "a0"), torch.tensor([12])).candidates.fill_(7)
    assert torch.equal(world.bank.views(places(tables, "a0")), before)


def test_a_world_without_features_has_width_0(tables):
    obs = blind_world(tables).observe(places(tables, "a2"), torch.tensor([12]))
    assert obs.views.shape == (1, 36, 0)
    assert obs.candidates.shape == (1, 4, 0)


def test_a_world_of_isolated_viewpoints_offers_only_stop(tables):
    obs = blind_world(tables).observe(places(tables, "g4", "g4"), torch.tensor([12, 13]))
    assert obs.candidate_mask.tolist() == [[True], [True]]
    assert obs.stop.tolist() == [0, 0]


def test_a_step_moves_and_looks_along_the_candidate_s_view(tables, world):
    viewpoint, view = places(tables, "a2", "a2", "a2"), torch.tensor([13, 13, 13])
    there, looking = world.step(viewpoint, view, torch.tensor([0, 2, 3]))
    assert there.tolist() == places(tables, "a3", "a1", "a2").tolist()
    assert looking.tolist() == [24, 18, 13]  # the third stops, and keeps looking as it did


def test_moves_are_counted_in_simulator_actions(tables, world):
    # From view 13 at a2 to view 24: one tilt up, eleven right turns (step 1 to 12), one move; to view 18: five turns
    # and a move; stopping is no action.
    viewpoint, view = places(tables, "a2", "a2", "a2"), torch.tensor([13, 13, 13])
    assert world.num_actions(view, viewpoint, torch.tensor([0, 2, 3])).tolist() == [13, 6, 0]


def test_simulator_poses_tilt_then_turn_right_then_move(tables, world):
    a2, a3 = places(tables, "a2", "a3").tolist()
    poses = list(simulator_poses(world, [a2, a3], [22, 24]))
    up = math.pi / 6
    steps = [("a2", 10, 0), ("a2", 10, up), ("a2", 11, up), ("a2", 0, up), ("a3", 0, up)]
    assert [pose[0] for pose in poses] == [name for name, _, _ in steps]
    for (_, heading, elevation), (_, step, wanted) in zip(poses, steps, strict=True):
        assert (heading, elevation) == pytest.approx((step * math.pi / 6, wanted))


def test_the_teacher_follows_the_shortest_path_and_stops_at_the_goal(tables, world):
    viewpoint = places(tables, "a2", "a2", "a1", "a5")
    goal = places(tables, "a6", "a2", "a5", "a1")
    # a2 -> a4 is candidate 1; at the goal stop is the degree, 3; a1 -> a2: the candidates of a1 are, by first sight,
    # a2 (north), a7 (bearing 95.7 deg), a0 (south); a5 -> a4, which is west (270 deg): last, after a6 and a7.
    assert world.teacher(viewpoint, goal).tolist() == [1, 3, 0, 2]


def test_there_is_no_teacher_for_hidden_or_unreachable_goals(tables, world):
    with pytest.raises(ValueError, match="no teacher where the goal is hidden"):
        world.teacher(places(tables, "a0", "a1"), torch.tensor([2, -1]))
    for start, goal in (("g0", "g2"), ("g0", "g4"), ("a0", "b0")):
        with pytest.raises(ValueError, match="the goal can't be reached"):
            world.teacher(places(tables, start), places(tables, goal))


def test_the_teacher_may_stop_on_an_isolated_viewpoint(tables, world):
    assert world.teacher(places(tables, "g4"), places(tables, "g4")).tolist() == [0]


def test_distances_equal_the_tables(tables, world):
    viewpoint = places(tables, "a0", "a1", "g0", "a0")
    goal = places(tables, "a2", "a5", "g2", "b0")
    assert world.distance_m(viewpoint, goal).tolist() == [5, 7.5, math.inf, math.inf]


def test_the_reward_table(tables, world):
    # (before, after, stopped) -> EnvDrop's reward; strict at 3 m; equal distances, also inf, give 0.
    table = [
        (4.0, 2.9, False, 1.0),
        (2.9, 4.0, False, -1.0),
        (4.0, 4.0, False, 0.0),
        (math.inf, math.inf, False, 0.0),
        (2.9, 2.9, True, 2.0),
        (3.0, 3.0, True, -2.0),
        (math.inf, math.inf, True, -2.0),
    ]
    before, after, stopped, wanted = (torch.tensor(column) for column in zip(*table, strict=True))
    assert world.reward(before, after, stopped).tolist() == wanted.tolist()
    other = Navigation(tables, world.bank, stop_reward=5.0, progress_reward=0.5)
    assert other.reward(before, after, stopped).tolist() == [0.5, -0.5, 0, 0, 5, -5, -5]


def test_a_walk_waits_at_the_goal(tables, world):
    batch = batch_of(tables, [("alpha", "a0", "a2"), ("alpha", "a4", "a4"), ("gamma", "g0", "g1")])
    viewpoint, view, action = world.walk(batch)
    a0, a1, a2, a4, g0, g1 = places(tables, "a0", "a1", "a2", "a4", "g0", "g1").tolist()
    assert viewpoint.tolist() == [[a0, a1, a2], [a4, a4, a4], [g0, g1, g1]]
    assert view.tolist() == [[12, 12, 12], [12, 12, 12], [12, 15, 15]]  # g1 lies east of g0
    assert action[:, -1].tolist() == [3, 2, 1]  # stop
    walk = world.observe_walk(batch)
    assert walk.length.tolist() == [3, 1, 2]
    assert walk.mask.tolist() == [[True] * 3, [True, False, False], [True, True, False]]
    assert walk.views.shape == (3, 3, 36, 8)
    assert walk.actions.shape == (3, 3, 8)
    assert torch.equal(walk.actions[0, 0], world.bank.views(places(tables, "a0"))[0, 12])
    stopped = torch.tensor([[False, False, True], [True, True, True], [False, True, True]])
    assert not walk.actions[stopped].any()
    assert not walk.action_angles[stopped].any()
    assert walk.action_angles[~stopped].any(1).all()
    # Relative to the heading at that point of the walk: g0 looks north, at g1 the agent looks east.
    assert walk.view_angles[2, 0, 12].tolist() == pytest.approx([0, 1, 0, 1], abs=1e-6)
    assert walk.view_angles[2, 1, 15].tolist() == pytest.approx([0, 1, 0, 1], abs=1e-6)


@pytest.fixture(scope="module")
def recorded():
    return load_json("teacher.json.gz")["episodes"]


@pytest.fixture(scope="module")
def real_world(recorded):
    scans = sorted({episode["scan"] for episode in recorded})
    return blind_world(NavTables.load(SHARED / "data" / "connectivity", scans, cache=False))


@needs_shared
def test_recorded_teacher_walks_are_reproduced(recorded, real_world):
    tables = real_world.tables
    assert len(recorded) == 210
    start = torch.tensor([tables.index(e["scan"], e["path"][0]) for e in recorded])
    goal = torch.tensor([tables.index(e["scan"], e["path"][-1]) for e in recorded])
    view = snap_view(torch.tensor([e["heading"] for e in recorded], dtype=torch.float64))
    tokens = torch.ones(len(recorded), 1, dtype=torch.int64)
    viewpoints, views, actions = real_world.walk(Batch(start, tokens, tokens[:, 0], start, view, goal))
    for row, episode in enumerate(recorded):
        T = len(episode["steps"])
        for t, step in enumerate(episode["steps"]):
            here = int(viewpoints[row, t])
            degree = int(tables.degree[here])
            assert tables.viewpoint_ids[here] == step["viewpoint"]
            assert int(views[row, t]) == step["viewIndex"]
            assert int(actions[row, t]) == step["teacher_action"]
            assert degree == step["n_candidates"]
            assert [tables.viewpoint_ids[i] for i in tables.neighbor[here, :degree]] == step["candidate_viewpoints"]
            assert tables.view[here, :degree].tolist() == step["candidate_pointIds"]
            distance_m = float(real_world.distance_m(viewpoints[row, t, None], goal[row, None])[0])
            assert distance_m == pytest.approx(step["distance"], abs=1e-6)
            following = int(viewpoints[row, min(t + 1, T - 1)])
            assert tables.viewpoint_ids[following] == step["teacher"]
        poses = simulator_poses(real_world, viewpoints[row, :T].tolist(), views[row, :T].tolist())
        for ours, theirs in zip(poses, episode["sim_trajectory"], strict=True):
            assert ours[0] == theirs[0]
            assert ours[1:] == pytest.approx(theirs[1:], abs=1e-6)


@needs_shared
def test_recorded_next_steps_from_anywhere_are_reproduced(recorded, real_world):
    tables, checked = real_world.tables, 0
    for episode in recorded:
        goal = tables.index(episode["scan"], episode["path"][-1])
        for place in episode["from_random_viewpoints"]:
            here = tables.index(episode["scan"], place["viewpoint"])
            following = int(tables.next_hop(np.array(here), np.array(goal)))
            assert tables.viewpoint_ids[following] == place["next"]
            assert float(tables.distance_m(here, goal)) == pytest.approx(place["distance"], abs=1e-6)
            assert len(tables.shortest_path(here, goal)) - 1 == place["hops"]
            checked += 1
    assert checked >= 1000
