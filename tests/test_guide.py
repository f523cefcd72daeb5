"""Annotated paths that are not the shortest: teacher, speaker's walks, the nDTW reward, unlabelled paths."""

import itertools
import math

import numpy as np
import pytest
import torch

from tests.golden import SHARED, needs_shared
from tests.test_rollout_losses import Scripted
from tests.toy_world import batch_of, blind_world, toy_setting, toy_tables
from vln_clip.connectivity import NavTables
from vln_clip.envs.episodes import EpisodeTable
from vln_clip.envs.fidelity import fidelity_reward, prefix_ndtw
from vln_clip.envs.paths import sample_winding_paths, trace
from vln_clip.records import Episode
from vln_clip.rollout import GUIDE, greedy, roll_out, teacher_forced
from vln_clip.tasks.datasets import read_split
from vln_clip.tasks.metrics import score_indices
from vln_clip.tasks.split import place_on_graph

# From a0 to a4 the shortest way is a0-a1-a2-a4; the guide goes round by a7 and a5.
ROUND = ("a0", "a1", "a7", "a5", "a4")


@pytest.fixture
def tables(tmp_path):
    return toy_tables(tmp_path)


@pytest.fixture
def world(tables):
    return blind_world(tables)


def guided(tables, *paths, scan="alpha"):
    """Return a batch whose guides are the paths."""
    batch = batch_of(tables, [(scan, path[0], path[-1]) for path in paths])
    batch.guide = torch.full((len(paths), max(map(len, paths))), -1)
    for row, path in enumerate(paths):
        batch.guide[row, : len(path)] = torch.tensor([tables.index(scan, name) for name in path])
    return batch


def test_the_guide_leads_along_the_annotated_path_and_stops_at_its_end(tables, world):
    batch = guided(tables, ROUND, ("a3", "a2"), ("a6",))
    record = roll_out(world, Scripted([[], [], []]), batch, teacher_forced, 10, teacher=GUIDE)
    assert record.viewpoint[:, :5].tolist() == torch.nn.functional.pad(batch.guide, (0, 0)).tolist()
    assert record.ended.all()
    assert record.mask.sum(0).tolist() == [5, 2, 1]  # the stop is a decision too
    shortest = roll_out(world, Scripted([[], [], []]), batch, teacher_forced, 10)
    names = [tables.viewpoint_ids[i] for i in shortest.viewpoint[0] if i >= 0]
    assert names == ["a0", "a1", "a2", "a4"]


def test_a_guide_does_not_know_the_way_back(tables, world):
    batch = guided(tables, ROUND)
    # Away from the guide: a1 then a2 in place of a7.
    with pytest.raises(ValueError, match="only be asked on its own path"):
        roll_out(world, Scripted([[0, 0, 0]]), batch, greedy, 10, teacher=GUIDE)
    batch.guide = None
    with pytest.raises(ValueError, match="no guide where paths are hidden"):
        roll_out(world, Scripted([[]]), batch, teacher_forced, 10, teacher=GUIDE)


def test_the_speaker_describes_the_annotated_path(tables, world):
    batch = guided(tables, ROUND, ("a3", "a2"), ("a6",))
    viewpoint, view, action = world.walk(batch)
    names = [[tables.viewpoint_ids[i] for i in row] for row in viewpoint]
    assert names == [list(ROUND), ["a3", "a2", "a2", "a2", "a2"], ["a6"] * 5]
    # a1 lies north of a0 (view 12), a7 nearly east of a1 (15), a5 north of a7 (12), a4 west of a5 (21);
    # a2 lies south of a3 and below it, tan = 1.5 / 2.5: level 0, view 6.
    assert view.tolist() == [[12, 12, 15, 12, 21], [12, 6, 6, 6, 6], [12] * 5]
    assert world.observe_walk(batch).length.tolist() == [5, 2, 1]
    stops = world.degree[viewpoint]
    assert (action == stops).tolist() == [[False] * 4 + [True], [False] + [True] * 4, [True] * 5]


def test_walks_along_shortest_guides_are_those_of_the_teacher(tables, world):
    routes = [("a0", "a6"), ("a7", "a3"), ("a5", "a5"), ("a4", "a0")]
    paths = [[tables.index("alpha", name) for name in route] for route in routes]
    shortest = [[tables.viewpoint_ids[i] for i in tables.shortest_path(*path)] for path in paths]
    batch = guided(tables, *shortest)
    ours = world.walk(batch)
    batch.guide = None
    for found, wanted in zip(ours, world.walk(batch), strict=True):
        assert torch.equal(found, wanted)


def test_ndtw_of_every_beginning_is_the_metric_of_that_walk(tables, world):
    batch = guided(tables, ROUND, ("a3", "a2", "a4", "a5"))
    walk = torch.tensor([[tables.index("alpha", f"a{i}") for i in row] for row in ((0, 1, 2, 4), (3, 2, 1, 7))])
    found = prefix_ndtw(world, walk, batch.guide)
    for t in range(4):
        scores = score_indices(walk[:, : t + 1].numpy(), np.zeros(2), batch.guide.numpy(), tables)
        assert found[t].tolist() == pytest.approx(scores["ndtw"].tolist(), abs=1e-12)


def test_moves_along_the_path_are_rewarded_and_stops_by_ndtw(tables, world):
    world.stop_reward, world.progress_reward = 2.0, 0.5
    # Row 0 follows its guide to the end; row 1 walks away from a3 (a2, a1, a0) and stops far from the goal.
    batch = guided(tables, ROUND, ("a3", "a2", "a4", "a5"))
    shown = {tuple(pair): i for pair, i in _columns(tables).items()}
    follow = [shown[pair] for pair in itertools.pairwise(ROUND)]
    astray = [shown[pair] for pair in (("a3", "a2"), ("a2", "a1"), ("a1", "a0"))]
    record = roll_out(world, Scripted([follow, astray]), batch, greedy, 10, teacher=None, returns=True)
    reward = fidelity_reward(world, record, batch.guide)
    assert reward[:, 0].tolist() == [0.5] * 4 + [2.0]
    # a2 is on the path; a1 and a0 lead away from it (2.5 m and 5 m more to warp); the stop fails.
    assert reward[:4, 1].tolist() == [0.5, -0.5, -0.5, -2.0]


def test_a_stop_near_the_goal_is_worth_the_ndtw_reached(tables, world):
    batch = guided(tables, ("a0", "a1", "a2"))
    record = roll_out(world, Scripted([[_columns(tables)["a0", "a1"]]]), batch, greedy, 5, teacher=None, returns=True)
    reward = fidelity_reward(world, record, batch.guide)
    # a0-a1 against a0-a1-a2: a2 is warped onto a1 at 2.5 m; 2.5 m before the goal is a success.
    assert reward[1].item() == pytest.approx(2.0 * math.exp(-2.5 / 9))


def _columns(tables):
    """Return which candidate leads from one viewpoint of alpha to a neighbour."""
    found = {}
    for i, (scan, name) in enumerate(tables.keys):
        for column, j in enumerate(tables.neighbor[i][: tables.degree[i]]):
            if scan == "alpha":
                found[name, tables.viewpoint_ids[j]] = column
    return found


def test_unlabelled_winding_paths_look_like_the_labelled_ones(tables):
    routes = [ROUND, ("a3", "a2", "a4", "a5", "a7"), ("a6", "a5", "a4")]
    episodes = [Episode(f"{k}_0", str(k), "alpha", path[0], 0.0, "go", tuple(path)) for k, path in enumerate(routes)]
    ones = np.ones((3, 1), dtype=np.int64)
    labelled = EpisodeTable.compile(episodes, tables, ones, ones[:, 0])
    drawn = sample_winding_paths(tables, labelled, 300, seed=0)
    paths = drawn.reference()
    length = (paths >= 0).sum(1)
    assert set(length) == {3, 5}
    assert 0.55 < (length == 5).mean() < 0.78  # two of three labelled paths have four hops
    hops = paths[:, 1:] >= 0
    assert tables.is_edge(paths[:, :-1][hops], paths[:, 1:][hops]).all()
    assert all(len(set(row[row >= 0])) == n for row, n in zip(paths, length, strict=True))
    assert {tables.keys[i][0] for i in drawn.viewpoint.tolist()} == {"alpha"}
    walked_m = [tables.distance_m(row[: n - 1], row[1:n]).sum() for row, n in zip(paths, length, strict=True)]
    direct_m = tables.distance_m(drawn.viewpoint.numpy(), drawn.goal.numpy())
    assert (np.array(walked_m) > direct_m + 1e-6).mean() > 0.1
    again = sample_winding_paths(tables, labelled, 300, seed=0)
    assert np.array_equal(again.reference(), paths)
    assert torch.equal(again.view, drawn.view)


def test_traces_are_the_shortest_paths(tables):
    pairs = [(a, b) for a in range(8) for b in range(8)]
    start, goal = np.array(pairs).T
    for row, (a, b) in zip(trace(tables, start, goal), pairs, strict=True):
        assert row[row >= 0].tolist() == tables.shortest_path(a, b)
    g0, g2 = tables.index("gamma", "g0"), tables.index("gamma", "g2")
    assert trace(tables, np.array([g0]), np.array([g2])).tolist() == [[g0, -1]]


def test_guides_are_known_where_goals_are(tmp_path, monkeypatch):
    setting, _ = toy_setting(tmp_path, monkeypatch)
    batch = setting.table("train").batch(torch.tensor([0, 3]))
    assert batch.guide is not None
    assert batch.guide.shape[0] == 2
    assert setting.table("test").batch(torch.tensor([0])).guide is None


@needs_shared
def test_r2r_training_paths_are_the_teacher_s():
    # So following annotated paths changes nothing for the reference's speaker (golden README: teacher.json.gz).
    data = SHARED / "data"
    split = read_split("r2r", "train@300", data)
    tables = NavTables.load(data / "connectivity", split.scans, cache=False)
    episodes = place_on_graph(split, tables).episodes
    ones = np.ones((len(episodes), 1), dtype=np.int64)
    table = EpisodeTable.compile(episodes, tables, ones, ones[:, 0])
    batch, world = table.batch(torch.arange(len(table))), blind_world(tables)
    ours = world.walk(batch)
    batch.guide = None
    for found, wanted in zip(ours, world.walk(batch), strict=True):
        assert torch.equal(found, wanted)
