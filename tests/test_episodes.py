"""Episode tables, samplers, and the unlabelled paths of back-translation."""

import json
from collections import Counter

import numpy as np
import pytest
import torch

from tests.golden import SHARED, needs_shared
from tests.toy_world import path_item, scan_rows, toy_setting, toy_tables, write_graphs, write_scan
from vln_clip.connectivity import NavTables
from vln_clip.envs.episodes import EpisodeTable
from vln_clip.envs.paths import count_hops, from_episodes, read_paths, sample_paths
from vln_clip.errors import InputError
from vln_clip.records import Episode
from vln_clip.sampler import ShuffledSampler, in_order
from vln_clip.tasks.datasets import read_split
from vln_clip.tasks.split import place_on_graph
from vln_clip.tasks.text import Vocabulary


@pytest.fixture
def tables(tmp_path):
    return toy_tables(tmp_path / "connectivity")


def episode(name, path, heading=0.0, scan="alpha"):
    return Episode(name, name.split("_")[0], scan, path[0], heading, "go", tuple(path) if len(path) > 1 else None)


def compiled(tables, episodes, length=None):
    count = len(episodes)
    tokens = np.tile(np.arange(1, 5), (count, 1))
    return EpisodeTable.compile(episodes, tables, tokens, np.full(count, 4) if length is None else np.array(length))


def test_episodes_become_index_tensors(tables):
    table = compiled(tables, [episode("1_0", ["a0", "a1", "a2"], 0.3), episode("2_0", ["b4", "b5"], 6.2, "beta")])
    a, b = tables.index("alpha", "a0"), tables.index("beta", "b0")
    assert len(table) == 2
    assert table.viewpoint.tolist() == [a, b + 4]
    assert table.view.tolist() == [13, 12]  # 17 deg snaps to 30, 355 deg to 0
    assert table.goal.tolist() == [a + 2, b + 5]
    assert table.reference().tolist() == [[a, a + 1, a + 2], [b + 4, b + 5, -1]]
    assert table.has_goals


def test_paths_of_equal_names_in_two_buildings_are_two_paths(tmp_path):
    write_scan(write_graphs(tmp_path), "twin", scan_rows("alpha"))
    tables = NavTables.load(tmp_path, ("alpha", "twin"), cache=False)
    path = ["a0", "a1", "a2"]
    table = compiled(tables, [episode("1_0", path), episode("2_0", path, scan="twin")])
    a, b = tables.index("alpha", "a0"), tables.index("twin", "a0")
    assert a != b
    assert table.viewpoint.tolist() == [a, b]
    assert table.goal.tolist() == [a + 2, b + 2]
    assert table.reference().tolist() == [[a, a + 1, a + 2], [b, b + 1, b + 2]]


def test_a_hidden_goal_is_minus_one(tables):
    table = compiled(tables, [episode("1_0", ["a0"]), episode("2_0", ["a1"])])
    assert table.goal.tolist() == [-1, -1]
    assert table.reference().shape == (2, 0)
    assert not table.has_goals


def test_an_unknown_viewpoint_is_bad_input(tables):
    with pytest.raises(InputError, match="no included viewpoint 'ax'"):
        compiled(tables, [episode("1_0", ["a0", "ax"])])


def test_a_batch_is_cut_to_its_longest_instruction(tables):
    table = compiled(tables, [episode(f"{i}_0", ["a0", "a1"]) for i in range(3)], [4, 2, 3])
    batch = table.batch(torch.tensor([2, 1]))
    assert batch.tokens.shape == (2, 3)
    assert batch.length.tolist() == [3, 2]
    assert batch.episode.tolist() == [2, 1]


def test_a_batch_cannot_be_changed_through_its_table(tables):
    table = compiled(tables, [episode(f"{i}_0", ["a0", "a1"]) for i in range(3)])
    table.batch(torch.tensor([0, 1])).tokens.fill_(9)
    assert table.batch(torch.tensor([0])).tokens.tolist() == [[1, 2, 3, 4]]


def test_batches_follow_the_reference_s_rule():
    # Ten items in batches of four: two slices, then the last two and, after a shuffle of the whole list, two of its
    # head; the cursor goes on behind those (specification §4).
    sampler = ShuffledSampler(10, 4, seed=3)
    first = sampler.order.tolist()
    assert sorted(first) == list(range(10))
    assert sampler.next().tolist() == first[:4]
    assert sampler.next().tolist() == first[4:8]
    mixed = sampler.next().tolist()
    second = sampler.order.tolist()
    assert sorted(second) == list(range(10))
    assert second != first
    assert mixed == first[8:] + second[:2]
    assert sampler.next().tolist() == second[2:6]
    assert sampler.next().tolist() == second[6:10]
    # Nothing is left: the next batch begins a new order.
    third = sampler.next().tolist()
    assert third == sampler.order.tolist()[:4]


def test_a_list_smaller_than_a_batch_is_repeated():
    sampler = ShuffledSampler(3, 8, seed=0)
    batch = sampler.next()
    assert len(batch) == 8
    assert sorted(Counter(batch.tolist()).values()) == [2, 3, 3]
    assert len(sampler.next()) == 8
    assert sorted(set(batch.tolist())) == [0, 1, 2]


def test_a_sampler_goes_on_where_its_state_was_taken():
    sampler = ShuffledSampler(7, 3, seed=5)
    sampler.next()
    state = {name: value.clone() for name, value in sampler.state().items()}
    following = [sampler.next().tolist() for _ in range(9)]
    other = ShuffledSampler(7, 3, seed=99)
    other.restore(state)
    assert [other.next().tolist() for _ in range(9)] == following


def test_the_same_seed_gives_the_same_batches():
    first, second, third = (ShuffledSampler(20, 6, seed) for seed in (1, 1, 2))
    batches = [[sampler.next().tolist() for _ in range(5)] for sampler in (first, second, third)]
    assert batches[0] == batches[1] != batches[2]


def test_an_empty_list_has_no_batches():
    with pytest.raises(ValueError, match="at least one item"):
        ShuffledSampler(0, 4, seed=0)


def test_evaluation_takes_every_item_once_longest_first():
    assert [part.tolist() for part in in_order(5, 2)] == [[0, 1], [2, 3], [4]]
    length = torch.tensor([3, 9, 3, 5])
    assert [part.tolist() for part in in_order(4, 3, length)] == [[1, 3, 0], [2]]


def test_a_batch_has_only_so_many_tokens():
    length = torch.tensor([3, 5, 1, 5])
    assert [part.tolist() for part in in_order(4, 3, length, 10)] == [[1, 3], [0, 2]]  # 2 rows of 5, then 2 of 3
    assert [part.tolist() for part in in_order(4, 3, length, 4)] == [[1], [3], [0], [2]]  # 5 are too many even alone


def test_sampled_paths_look_like_the_labelled_ones(tables):
    # Labelled: 2 hops of 5 m (a0-a2) twice, 3 hops (a0-a4, 7.5 m) once, in alpha only.
    labelled = compiled(
        tables,
        [episode("1_0", ["a0", "a1", "a2"]), episode("2_0", ["a2", "a1", "a0"]), episode("3_0", ["a0", "a1", "a4"])],
    )
    drawn = sample_paths(tables, labelled, 3000, seed=0)
    start, goal = drawn.viewpoint.numpy(), drawn.goal.numpy()
    assert {tables.scans[s] for s in tables.scan_index[start]} == {"alpha"}
    hops = count_hops(tables, start, goal, limit=8)
    assert set(hops) == {2, 3}
    assert (tables.distance_m(start, goal) >= 5.0).all()
    # Numbers of hops occur as often as among the labelled: 2/3 and 1/3, within four standard errors.
    assert (hops == 2).mean() == pytest.approx(2 / 3, abs=4 * np.sqrt(2 / 9 / 3000))
    assert ((drawn.view >= 12) & (drawn.view < 24)).all()
    assert len(drawn.view.unique()) == 12
    # a2 - a3 and the like, 2.9 m, are too short; every pair of 2 hops that fits is drawn.
    pairs = {(int(a), int(b)) for a, b, hop in zip(start, goal, hops, strict=True) if hop == 2}
    possible = {
        (a, b)
        for a in range(8)
        for b in range(8)
        if len(tables.shortest_path(a, b)) == 3 and tables.distance_m(a, b) >= 5
    }
    assert pairs == possible
    assert drawn.batch(torch.arange(3000)).tokens.shape == (3000, 1)
    assert drawn.has_goals


def test_sampled_paths_depend_on_the_seed_alone(tables):
    labelled = compiled(tables, [episode("1_0", ["a0", "a1", "a2"])])
    first, second, other = (sample_paths(tables, labelled, 50, seed) for seed in (1, 1, 2))
    assert torch.equal(first.viewpoint, second.viewpoint)
    assert torch.equal(first.goal, second.goal)
    assert torch.equal(first.view, second.view)
    assert not torch.equal(first.viewpoint, other.viewpoint)


def test_sampling_never_draws_unreachable_pairs(tables):
    labelled = compiled(tables, [episode("1_0", ["g0", "g1"], scan="gamma")])
    drawn = sample_paths(tables, labelled, 100, seed=0)
    assert np.isfinite(tables.distance_m(drawn.viewpoint.numpy(), drawn.goal.numpy())).all()


def test_hops_are_counted_along_shortest_paths(tables):
    a = tables.index("alpha", "a0")
    g = tables.index("gamma", "g0")
    start, goal = np.array([a, a, a, g, g]), np.array([a, a + 1, a + 6, g + 1, g + 2])
    assert count_hops(tables, start, goal, limit=9).tolist() == [0, 1, 5, 1, -1]
    assert count_hops(tables, start, goal, limit=4).tolist() == [0, 1, -1, 1, -1]


@pytest.mark.parametrize("whole", [True, False])
def test_path_files_may_hold_whole_paths_or_their_ends(tables, tmp_path, whole):
    items = [path_item(i, tables, "alpha", *route) for i, route in enumerate([("a0", "a4"), ("a6", "a1")])]
    for item in items:
        item["instructions"] = [""]  # never read
        item["path"] = item["path"] if whole else [item["path"][0], item["path"][-1]]
    path = tmp_path / "aug_paths.json"
    path.write_text(json.dumps(items))
    table = read_paths(path, "r2r", tmp_path, tables)
    assert table.viewpoint.tolist() == [0, 6]
    assert table.goal.tolist() == [4, 1]
    assert table.batch(torch.arange(2)).tokens.shape == (2, 1)


def test_a_path_counts_once_however_many_instructions_it_has(tables):
    episodes = [episode("1_0", ["a0", "a1"]), episode("1_1", ["a0", "a1"]), episode("2_0", ["a3", "a2"])]
    assert from_episodes(episodes, tables).viewpoint.tolist() == [0, 3]


def test_path_files_need_goals(tables):
    with pytest.raises(InputError, match="paths for back-translation must have a goal, but path 1 has only a start"):
        from_episodes([episode("1_0", ["a0"])], tables)


def test_a_missing_path_file_is_bad_input(tables, tmp_path):
    with pytest.raises(InputError, match=r"aug_paths.json"):
        read_paths(tmp_path / "aug_paths.json", "r2r", tmp_path, tables)


def test_the_toy_data_set_compiles(tmp_path, monkeypatch):
    setting, _ = toy_setting(tmp_path, monkeypatch)
    assert list(setting.splits) == ["train", "val_unseen", "val_seen", "test"]
    assert [len(setting.table(name)) for name in setting.splits] == [69, 12, 12, 12]
    assert [setting.table(name).has_goals for name in setting.splits] == [True, True, True, False]
    table = setting.table("train")
    tokens = table.batch(torch.arange(len(table))).tokens
    assert tokens[:, 0].eq(setting.vocabulary.bos).all()


@needs_shared
def test_sampled_paths_of_the_real_training_split_have_its_statistics(tmp_path):
    # R2R: 4 to 6 hops, at least 5 m (specification §2.1).
    data = SHARED / "data"
    split = read_split("r2r", "train@400", data)
    tables = NavTables.load(data / "connectivity", split.scans, cache=False)
    paths = {e.path_id: e for e in place_on_graph(split, tables).episodes}
    tokens, length = Vocabulary([]).encode_batch(["x"] * len(paths), 3)
    labelled = EpisodeTable.compile(list(paths.values()), tables, tokens, length)
    drawn = sample_paths(tables, labelled, 2000, seed=0)
    start, goal = drawn.viewpoint.numpy(), drawn.goal.numpy()
    ours = count_hops(tables, start, goal, 10)
    theirs = count_hops(tables, labelled.viewpoint.numpy(), labelled.goal.numpy(), 10)
    assert set(ours) <= set(theirs) <= {3, 4, 5, 6}
    assert ours.mean() == pytest.approx(theirs.mean(), abs=0.1)
    assert tables.distance_m(start, goal).min() >= 5.0


def test_listed_scans_are_the_default(tmp_path):
    assert NavTables.load(write_graphs(tmp_path, ("gamma", "alpha")), cache=False).scans == ("gamma", "alpha")
