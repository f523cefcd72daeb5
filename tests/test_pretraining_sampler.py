"""Batches of one group each."""

import pytest
import torch
from safetensors.torch import load_file

from vln_clip.errors import InputError
from vln_clip.files import save_safetensors
from vln_clip.ranks import Ranks
from vln_clip.tasks.pretraining.sampler import GroupedSampler, in_order_by_group

GROUPS = torch.tensor([0, 1, 0, 0, 1, 0, 0, 1, 1, 0, 1, 0, 0])  # 8 of group 0, 5 of group 1


def draw(sampler, count):
    return [sampler.next().tolist() for _ in range(count)]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_batches_are_of_one_group_on_all_ranks(world):
    samplers = [GroupedSampler(GROUPS, 4, 7) for _ in range(world)]
    for _ in range(20):
        shares = [Ranks(rank, world).share(sampler.next()) for rank, sampler in enumerate(samplers)]
        joint = torch.cat(shares)
        assert len(joint) == 4
        assert len(set(GROUPS[joint].tolist())) == 1


def test_every_row_comes_once_before_any_comes_again():
    # Of the 8 rows of group 0 two batches of 4 are made in every epoch, nothing is left of them. Of the 5 of group 1
    # one is left, with which the group begins its next epoch: its rows, one after the other, are whole permutations.
    sampler = GroupedSampler(GROUPS, 4, 1)
    drawn = {0: [], 1: []}
    for batch in draw(sampler, 40):
        drawn[int(GROUPS[batch[0]])].append(batch)
    wanted = {0: {0, 2, 3, 5, 6, 9, 11, 12}, 1: {1, 4, 7, 8, 10}}
    for begin in range(0, len(drawn[0]) - 1, 2):
        assert set(drawn[0][begin] + drawn[0][begin + 1]) == wanted[0]
    counts = torch.bincount(torch.tensor(drawn[1]).flatten(), minlength=13)
    # 40 batches are 160 rows; an epoch has 13, so some 12 epochs, in each of which a row comes once but for what is
    # still to come of the last one and what is carried over.
    assert all(abs(int(counts[row]) - len(drawn[1]) * 4 / 5) <= 1.5 for row in wanted[1])
    assert sampler.batches_per_epoch == 13 / 4


def test_batches_of_an_epoch_are_mixed_and_differ_between_epochs():
    groups = torch.tensor([0, 1] * 200)
    sampler = GroupedSampler(groups, 10, 0)
    epochs = [draw(sampler, 40) for _ in range(2)]
    kinds = [int(groups[batch[0]]) for batch in epochs[0]]
    assert sorted(kinds) != kinds
    assert sorted(kinds, reverse=True) != kinds
    for batches in epochs:
        assert torch.tensor(batches).flatten().sort().values.tolist() == list(range(400))
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("stop", [0, 1, 2, 3, 4, 7, 20])
def test_a_restored_sampler_goes_on_with_the_same_batches(stop):
    sampler = GroupedSampler(GROUPS, 4, 3)
    draw(sampler, stop)
    state = {name: value.clone() for name, value in sampler.state().items()}
    wanted = draw(sampler, 30)
    other = GroupedSampler(GROUPS, 4, 3)
    other.restore(state)
    assert draw(other, 30) == wanted
    sampler.restore(state)
    assert draw(sampler, 30) == wanted


def test_reading_ahead_over_the_end_of_an_epoch_and_back_draws_it_once(monkeypatch):
    sampler = GroupedSampler(GROUPS, 4, 3)
    drawn, plan = [], sampler._drawn
    monkeypatch.setattr(sampler, "_drawn", lambda epoch, carried: (drawn.append(epoch), plan(epoch, carried))[1])
    for _ in range(30):
        sampler.next()
        before = sampler.state()
        sampler.next()
        sampler.restore(before)
    assert drawn == sorted(set(drawn))


def test_a_state_does_not_grow_with_the_rows():
    sampler = GroupedSampler(torch.arange(10_000) % 2, 64, 0)
    sampler.next()
    assert sum(value.numel() for value in sampler.state().values()) < 64 * 2 + 10


def test_a_group_smaller_than_a_batch_comes_when_epochs_have_come_together():
    # 3 rows, batches of 4: after two epochs 6 rows are there, a batch and 2 rows more.
    sampler = GroupedSampler(torch.zeros(3, dtype=torch.long), 4, 0)
    counts = torch.bincount(torch.cat([sampler.next() for _ in range(30)]))
    assert counts.tolist() == [40, 40, 40]  # 120 rows of three


def test_a_state_of_other_rows_is_refused():
    state = GroupedSampler(GROUPS, 4, 3).state()
    with pytest.raises(InputError, match=r"batch size, seed and orientations.*\[4, 3, 8, 5\], got \[4, 3, 7, 5\]"):
        GroupedSampler(GROUPS[:-1], 4, 3).restore(state)
    with pytest.raises(ValueError, match="at least one row"):
        GroupedSampler(GROUPS[:0], 4, 3)


def test_evaluation_takes_every_row_once_and_group_by_group():
    batches = [batch.tolist() for batch in in_order_by_group(GROUPS, 3)]
    assert batches == [[0, 2, 3], [5, 6, 9], [11, 12], [1, 4, 7], [8, 10]]


def test_a_checkpoint_keeps_where_a_sampler_stands(tmp_path):
    # In the first epoch nothing is carried: an empty tensor must come back from the file, too.
    sampler = GroupedSampler(GROUPS, 4, 3)
    sampler.next()
    save_safetensors(tmp_path / "state.safetensors", sampler.state())
    other = GroupedSampler(GROUPS, 4, 3)
    other.restore(load_file(tmp_path / "state.safetensors"))
    assert draw(other, 9) == draw(sampler, 9)
