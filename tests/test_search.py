"""State-factored search against a plain one, and the walk it costs. What is chosen: tests/test_rescoring.py."""

import itertools
from dataclasses import fields, replace

import pytest
import torch

from tests.test_follower import build
from tests.toy_world import WIDTH, batch_of, blind_world, toy_setting, toy_tables
from vln_clip.agents.speaker import Speaker
from vln_clip.envs import mattersim
from vln_clip.envs.exploration import exploration, walk_through
from vln_clip.envs.search import Candidates, search
from vln_clip.envs.simulated import Driver, SimulatedNavigation
from vln_clip.rescoring import Weighting, speaker_log_prob
from vln_clip.rollout import GUIDE, greedy, roll_out, teacher_forced
from vln_clip.searched import search_split
from vln_clip.searching import Search

SEEDS = (0, 1, 2, 3, 5)
STOP = 36


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The toy data set and its world with features."""
    return toy_setting(tmp_path, monkeypatch)


class Moody:
    """An untrained follower that here and there surely stops and elsewhere surely goes on, by what it remembers."""

    def __init__(self, setting, seed):
        self.follower = build(WIDTH, setting.vocabulary.size, seed=seed).eval()
        with torch.no_grad():
            self.follower.decoder.candidate_att_layer.linear_in.weight.mul_(8)
        self.start = self.follower.start

    def step(self, obs, state):
        state, logits, hidden = self.follower.step(obs, state)
        mood = -5 + 7 * torch.sin(4 * state.attended.sum(1, keepdim=True))
        return state, logits.scatter_add(1, obs.stop[:, None], mood), hidden


def opinionated(setting, seed=0):
    return Moody(setting, seed)


def talker(setting, seed=0):
    """Return an untrained speaker."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = {"angle_width": 8, "word_width": 8, "hidden_width": 16}
        return Speaker(setting.vocabulary.size, WIDTH, **sizes).eval()


def whole(setting, split="val_unseen"):
    table = setting.table(split)
    return table.batch(torch.arange(len(table)))


def rows_of(batch, rows):
    part = batch.select(torch.tensor(rows))
    return replace(part, tokens=part.tokens[:, : int(part.length.max())])


@torch.no_grad()
def plain_search(world, agent, batch, beam_size, max_expansions=300):
    """Search one episode with a dictionary: return [(score, [(viewpoint, view), ...])] and expanded viewpoints."""
    start = int(batch.viewpoint[0]), int(batch.view[0])
    opened = {"start": (0.0, [start], agent.start(batch.tokens, batch.length))}
    closed, found, expanded = set(), [], []
    while opened and len(found) < beam_size:
        able = [k for k in opened if len(expanded) < max_expansions or k[1] == STOP]
        if not able:
            break
        best = max(able, key=lambda k: opened[k][0])
        score, walk, state = opened.pop(best)
        closed.add(best)
        if best[1] == STOP:
            found.append((score, walk))
            continue
        here, view = walk[-1]
        expanded.append(here)
        state, logits, _ = agent.step(world.observe(torch.tensor([here]), torch.tensor([view])), state)
        for action, log_prob in enumerate(logits.log_softmax(1)[0].tolist()):
            if action == int(world.degree[here]):
                new, way = (here, STOP), walk
            else:
                new = int(world.neighbor[here, action]), int(world.candidate_view[here, action])
                way = [*walk, new]
            if new not in closed and (new not in opened or score + log_prob > opened[new][0]):
                opened[new] = score + log_prob, way, state
    return found, expanded


def walks_of(found, row):
    """Return what a search found in the form of ``plain_search``."""
    walks = []
    for k in range(int(found.mask[row].sum())):
        n = int(found.num_decisions[row, k])
        places = zip(found.viewpoint[row, k, :n].tolist(), found.view[row, k, :n].tolist(), strict=True)
        walks.append((float(found.log_prob[row, k]), list(places)))
    return walks


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("beam_size", "max_expansions"), [(1, 300), (5, 300), (8, 3), (50, 300)])
def test_a_batched_search_is_a_plain_one_episode_by_episode(toy, seed, beam_size, max_expansions):
    (setting, world), batch = toy, whole(toy[0])
    follower = opinionated(setting, seed)
    found = search(world, follower, batch, beam_size, max_expansions)
    assert int(found.num_decisions.max()) > 1
    for row in range(len(batch.viewpoint)):
        wanted, expanded = plain_search(world, follower, rows_of(batch, [row]), beam_size, max_expansions)
        walks = walks_of(found, row)
        assert [walk for _, walk in walks] == [walk for _, walk in wanted]
        assert [score for score, _ in walks] == pytest.approx([score for score, _ in wanted], abs=1e-5)
        assert [v for v in found.expanded[row].tolist() if v >= 0] == expanded


def test_an_exhausted_building_ends_the_search(toy):
    # beta has 8 viewpoints: so many stops, one after the other; every state is expanded once, 16 poses and the start.
    setting, world = toy
    found = search(world, opinionated(setting), whole(setting), 50)
    assert found.mask.sum(1).tolist() == [8] * 12
    assert set((found.expanded >= 0).sum(1).tolist()) == {17}


@pytest.mark.parametrize("seed", SEEDS)
def test_scores_are_teacher_forced_log_probabilities(toy, seed):
    setting, world = toy
    follower, batch = opinionated(setting, seed), whole(setting)
    found = search(world, follower, batch, 5)
    for k in range(5):
        path = found.viewpoint[:, k]
        forced = roll_out(world, follower, replace(batch, guide=path), teacher_forced, 40, teacher=GUIDE)
        torch.testing.assert_close(
            forced.teacher_log_prob.sum(0).detach().double(), found.log_prob[:, k], atol=1e-5, rtol=0
        )
    assert bool((found.log_prob.diff(dim=1) <= 0).all())  # finished in this order


def test_the_first_walk_is_as_likely_as_greedy_decoding_where_its_prefixes_were_kept(toy):
    # A state keeps one memory, of the likeliest way into it: where another way displaced greedy's, nothing is promised.
    compared = []
    for seed in range(8):
        setting, world = toy
        follower, batch = opinionated(setting, seed), whole(setting)
        record = roll_out(world, follower, batch, greedy, 30, teacher=None)
        found = search(world, follower, batch, 50)  # all ends
        scores = record.action_log_prob.sum(0).detach()
        for row in record.ended.nonzero().squeeze(1).tolist():
            path = [v for v in record.viewpoint[row].tolist() if v >= 0]
            if path in [[v for v, _ in walk] for _, walk in walks_of(found, row)]:
                compared.append(len(path))
                assert float(found.log_prob[row, 0]) >= float(scores[row]) - 1e-5
    assert len(compared) >= 8
    assert max(compared) >= 3


def test_an_episode_does_not_depend_on_its_batch(toy):
    setting, world = toy
    follower, speaker, batch = opinionated(setting), talker(setting), whole(setting, "train")
    found = search(world, follower, batch, 4)
    said = speaker_log_prob(world, speaker, batch, found)
    for rows in ([3], [68, 5, 40]):
        part = rows_of(batch, rows)
        alone = search(world, follower, part, 4)
        for row, whole_row in enumerate(rows):
            assert [walk for _, walk in walks_of(alone, row)] == [walk for _, walk in walks_of(found, whole_row)]
        torch.testing.assert_close(alone.log_prob, found.log_prob[rows], atol=1e-5, rtol=0)
        torch.testing.assert_close(speaker_log_prob(world, speaker, part, alone), said[rows], atol=1e-4, rtol=0)


def test_the_exploration_of_a_hand_made_search(tmp_path):
    # Expanded a1, a2, a7, a4, a2: a1-a2, back a2-a1-a7, then a4 is known from a2 alone: a7-a1-a2-a4 (the shorter
    # a7-a5-a4 is not known, a5 was not visited), a4-a2; then home a2-a1.
    tables = toy_tables(tmp_path)
    world = blind_world(tables)
    a = [tables.index("alpha", f"a{i}") for i in range(8)]
    expanded = torch.tensor([[a[1], a[2], a[7], a[4], a[2]], [a[3], -1, -1, -1, -1]])
    walk = exploration(world, expanded)
    assert walk.tolist() == [[a[i] for i in (1, 2, 1, 7, 1, 2, 4, 2, 1)], [a[3], *[-1] * 8]]
    length_m = world.distance_m(walk[0, :-1], walk[0, 1:]).sum()
    side = (5**2 + 0.5**2) ** 0.5  # a1-a7
    assert float(length_m) == pytest.approx(2.5 + 2.5 + side + side + 2.5 + 2.5 + 2.5 + 2.5)


def test_a_known_short_cut_is_taken(tmp_path):
    # Around the ring a1 a2 a4 a5 a7: when a7 has been visited, a1 is one hop away, not four.
    tables = toy_tables(tmp_path)
    a = [tables.index("alpha", f"a{i}") for i in range(8)]
    walk = exploration(blind_world(tables), torch.tensor([[a[i] for i in (1, 2, 4, 5, 7)]]))
    assert walk.tolist() == [[a[i] for i in (1, 2, 4, 5, 7, 1)]]


@pytest.mark.parametrize("seed", SEEDS)
def test_explorations_go_along_edges_and_visit_all_that_was_expanded(toy, seed):
    setting, world = toy
    batch = whole(setting, "train")
    found = search(world, opinionated(setting, seed), batch, 6)
    explored = exploration(world, found.expanded)
    for row in range(len(explored)):
        walk, expanded = ([v for v in part[row].tolist() if v >= 0] for part in (explored, found.expanded))
        assert walk[0] == walk[-1] == int(batch.viewpoint[row])
        assert all(b in world.neighbor[a, : world.degree[a]].tolist() for a, b in itertools.pairwise(walk))
        remaining = iter(walk)
        assert all(v in remaining for v, _ in itertools.groupby(expanded))  # in this order
        # No place is entered before it is expanded: routes lead through explored ones alone.
        assert list(dict.fromkeys(walk)) == list(dict.fromkeys(expanded))
    view, num_actions = walk_through(world, batch.view, explored)
    assert bool(((view >= 0) == (explored >= 0)).all())
    assert bool((num_actions >= (explored >= 0).sum(1) - 1).all())


def test_the_whole_walk_is_the_exploration_then_the_chosen_walk(toy):
    setting, world = toy
    table = setting.table("val_unseen")
    found = search_split(world, opinionated(setting), table, Search(alpha=0.0), batch_size=5)
    chosen = found.best(Weighting(0.0))
    full, short = found.walks(world, chosen), found.walks(world, chosen, explore=False)
    assert full.rows.tolist() == list(range(12))
    for row in range(12):
        explored = [v for v in found.explored[row].tolist() if v >= 0]
        walk = [v for v in short.viewpoint[row].tolist() if v >= 0]
        assert [v for v in full.viewpoint[row].tolist() if v >= 0] == [*explored, *walk[1:]]
        assert walk[0] == int(table.viewpoint[row])


def test_a_search_needs_room():
    with pytest.raises(ValueError, match="at least 1, got 0 and 300"):
        search(None, None, None, 0)


def test_a_search_does_not_read_goals(toy):
    setting, world = toy
    batch = whole(setting)
    hidden = replace(batch, goal=torch.full_like(batch.goal, -1), guide=None)
    first, second = (search(world, opinionated(setting), each, 3) for each in (batch, hidden))
    for f in fields(Candidates):
        assert torch.equal(getattr(first, f.name), getattr(second, f.name))


def test_a_start_without_neighbors_is_stopped_at(tmp_path):
    tables = toy_tables(tmp_path)
    world, batch = blind_world(tables), batch_of(tables, [("gamma", "g4", None), ("gamma", "g0", None)])
    found = search(world, build(0).eval(), batch, 2)
    assert found.num_decisions[0].tolist() == [1, 0]
    assert found.log_prob[0].tolist() == [0.0, -torch.inf]
    assert exploration(world, found.expanded)[0].tolist()[:2] == [tables.index("gamma", "g4"), -1]


def test_a_search_in_the_simulator_is_the_same(tmp_path, toy):
    setting, world = toy
    driver = Driver(mattersim, setting.data / "connectivity")
    simulated = SimulatedNavigation(driver, setting.tables, world.bank, cross_check=True)
    batch, follower = whole(setting), opinionated(setting)
    first, second = (search(each, follower, batch, 3) for each in (world, simulated))
    assert torch.equal(first.viewpoint, second.viewpoint)
    assert torch.equal(first.view, second.view)
    torch.testing.assert_close(first.log_prob, second.log_prob, atol=1e-5, rtol=0)
    explored = exploration(simulated, second.expanded)
    assert torch.equal(explored, exploration(world, first.expanded))
    walked = walk_through(simulated, batch.view, explored)
    assert all(torch.equal(a, b) for a, b in zip(walked, walk_through(world, batch.view, explored), strict=True))
    assert simulated.num_moves > 100
