"""Scripted agents on the toy world, and the random agent on real R2R."""

import math

import numpy as np
import pytest
import torch

from tests.golden import SHARED, needs_shared
from tests.toy_world import batch_of, blind_world, toy_setting, toy_tables
from vln_clip.agents.baselines import RandomAgent, StopAgent
from vln_clip.connectivity import NavTables
from vln_clip.envs.episodes import EpisodeTable
from vln_clip.envs.evaluation import predictions, score_walks, walk_split
from vln_clip.rollout import greedy, roll_out, teacher_forced
from vln_clip.tasks.datasets import read_split
from vln_clip.tasks.split import place_on_graph


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def walk_randomly(tables, routes, seed=0, **options):
    world = blind_world(tables)
    return roll_out(world, RandomAgent(generator(seed), **options), batch_of(tables, routes), greedy, 35, teacher=None)


def everywhere(tables):
    return [(scan, name, None) for scan, name in tables.keys]


def test_the_random_agent_moves_five_times_along_edges_and_stops(tmp_path):
    tables = toy_tables(tmp_path)
    record = walk_randomly(tables, everywhere(tables) * 5)
    viewpoint = record.viewpoint.numpy()
    isolated = tables.degree[viewpoint[:, 0]] == 0
    assert (viewpoint[~isolated] >= 0).sum(1).tolist() == [6] * int((~isolated).sum())
    assert (viewpoint[isolated] >= 0).sum(1).tolist() == [1] * 5  # g4 has no way out: it stops at once
    assert record.ended.all()
    moved = viewpoint[~isolated, :6]
    assert tables.is_edge(moved[:, :-1], moved[:, 1:]).all()


def test_the_random_agent_s_number_of_moves_is_an_option(tmp_path):
    tables = toy_tables(tmp_path)
    record = walk_randomly(tables, [("alpha", "a0", None)], max_moves=2)
    assert (record.viewpoint >= 0).sum(1).tolist() == [3]


def test_the_random_agent_depends_on_its_generator_alone(tmp_path):
    tables = toy_tables(tmp_path)
    routes = everywhere(tables)
    torch.manual_seed(0)
    first = walk_randomly(tables, routes, seed=1).viewpoint
    torch.manual_seed(1)
    assert torch.equal(first, walk_randomly(tables, routes, seed=1).viewpoint)
    assert not torch.equal(first, walk_randomly(tables, routes, seed=2).viewpoint)


def test_the_random_agent_walks_to_what_is_ahead(tmp_path):
    # Its camera turns right from where it looked until something is within 40 deg, and takes the nearest to the center.
    tables = toy_tables(tmp_path)
    world = blind_world(tables)
    batch = batch_of(tables, everywhere(tables) * 20)
    agent = RandomAgent(generator())
    state = agent.start(batch.tokens, batch.length)
    turned, logits, _ = agent.step(world.observe(batch.viewpoint, batch.view), state)
    for row, here in enumerate(batch.viewpoint.tolist()):
        degree = int(tables.degree[here])
        chosen = int(logits[row].argmax())
        if degree == 0:
            assert chosen == 0
            continue
        for turns in range(12):
            heading = (int(state.heading_step[row]) + turns) % 12 * math.pi / 6
            right = [math.remainder(t - heading, 2 * math.pi) for t in tables.bearing_rad[here, :degree]]
            ahead = [
                (math.hypot(offset, up), k)
                for k, (offset, up) in enumerate(zip(right, tables.elevation_rad[here, :degree], strict=True))
                if abs(offset) < math.radians(40)
            ]
            if ahead:
                break
        assert chosen == min(ahead)[1]
        assert int(turned.heading_step[row]) == (int(state.heading_step[row]) + turns) % 12


def test_the_random_agent_keeps_its_camera_s_heading(tmp_path):
    # Facing east at a2 it goes to a4, from there on to a5, and there, still facing east, turns right until a7 in the
    # south is within 40 deg (at 150 deg), then walks on with the camera at 150 deg.
    tables = toy_tables(tmp_path)
    agent = RandomAgent(generator(), max_moves=3)
    agent.start = lambda tokens, length, *_: RandomAgent.start(agent, tokens, length).select(torch.tensor([0]))
    for seed in range(200):
        agent.generator = generator(seed)
        if int(torch.randint(12, (1,), generator=generator(seed))) == 3:
            break
    batch = batch_of(tables, [("alpha", "a2", None)])
    record = roll_out(blind_world(tables), agent, batch, greedy, 35, teacher=None)
    assert [tables.viewpoint_ids[i] for i in record.viewpoint[0].tolist() if i >= 0] == ["a2", "a4", "a5", "a7"]


def test_the_stop_agent_stays(tmp_path, monkeypatch):
    setting, world = toy_setting(tmp_path, monkeypatch)
    table = setting.table("val_seen")
    walks = walk_split(world, StopAgent(), table, 10)
    assert walks.viewpoint[:, 0].tolist() == table.viewpoint.tolist()
    assert (walks.viewpoint >= 0).sum(1).tolist() == [1] * len(table)
    scores = score_walks(world, table, walks)
    assert (scores["lengths"], scores["steps"], scores["success_rate"]) == (0, 0, 0)


def test_teacher_forcing_is_the_shortest_path(tmp_path, monkeypatch):
    setting, world = toy_setting(tmp_path, monkeypatch)
    table = setting.table("val_unseen")
    walks = walk_split(world, StopAgent(), table, 10, feedback=teacher_forced)
    scores = score_walks(world, table, walks)
    assert scores["nav_error"] == 0
    assert scores["success_rate"] == scores["spl"] == scores["ndtw"] == scores["sdtw"] == 1
    for row, path in enumerate(table.reference()):
        walked = walks.viewpoint[row]
        assert walked[walked >= 0].tolist() == path[path >= 0].tolist()
    for prediction, count in zip(predictions(world, table, walks), walks.num_actions, strict=True):
        assert len(prediction.trajectory) - 1 == count  # turns in place are written out, and counted


@needs_shared
def test_the_random_agent_reaches_its_published_success_rate_on_r2r():
    # Anderson et al. 2018 report 16.3 % on val_unseen; 2,349 walks have a standard error of 0.8 %.
    data = SHARED / "data"
    split = read_split("r2r", "val_unseen", data)
    tables = NavTables.load(data / "connectivity", split.scans, cache=False)
    episodes = place_on_graph(split, tables).episodes
    ones = np.ones((len(episodes), 1), dtype=np.int64)
    table = EpisodeTable.compile(episodes, tables, ones, ones[:, 0])
    world = blind_world(tables)
    scores = score_walks(world, table, walk_split(world, RandomAgent(generator()), table, 35, batch_size=1024))
    assert 0.13 < scores["success_rate"] < 0.19
    assert scores["num_instructions"] == 2349
    assert scores["nav_error"] == pytest.approx(9.2, abs=0.5)  # published: 9.23 m
