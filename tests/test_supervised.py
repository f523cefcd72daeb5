"""The step that supervised tasks share: sums over ranks' shares, clipping, reading ahead, divergence."""

import pytest
import torch
from torch import nn

from tests.rank_work import in_threads
from vln_clip.divergence import DivergedError
from vln_clip.ranks import ALONE, Ranks
from vln_clip.sampler import ShuffledSampler
from vln_clip.supervised import GRADIENT_NORM, Clip, LossSum, ReadAhead, SupervisedLearner

VALUES = torch.tensor([1.0, 2.0, 3.0, 6.0])


def learner(clip=None, values=VALUES, lr=1.0):
    """One weight w, loss of a row (w * value): gradient = mean of the values."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    batches = ReadAhead(ShuffledSampler(4, 4, seed=0), lambda rows: values[rows])

    def loss(rows, data):
        return LossSum(model(data[:, None]).sum(), torch.tensor(len(rows)), {"mean_value": data.sum()})

    return SupervisedLearner(model, torch.optim.SGD(model.parameters(), lr), batches, loss, clip or Clip())


def test_a_step_follows_the_mean_over_rows():
    learn = learner()
    found = learn()
    # mean of 1, 2, 3, 6 is 3: that is the gradient, its norm, and minus the weight after a step of rate 1
    assert found == {"loss": 0.0, "mean_value": 3.0, GRADIENT_NORM: 3.0}
    assert learn.model.weight.item() == -3.0


@pytest.mark.parametrize(("clip", "weight"), [(Clip(norm=1.5), -1.5), (Clip(value=0.1), -0.1), (Clip(norm=9.0), -3.0)])
def test_gradients_are_clipped_by_norm_or_value_and_the_norm_before_is_told(clip, weight):
    learn = learner(clip)
    assert learn()[GRADIENT_NORM] == 3.0
    assert learn.model.weight.item() == pytest.approx(weight)


@pytest.mark.parametrize("mean", [True, False])
def test_ranks_take_the_step_of_one_with_the_joint_batch(mean):
    def step(ranks):
        learn = learner(Clip(norm=9.0))
        learn.ranks, learn.mean = ranks, mean
        learn.batches = ReadAhead(ShuffledSampler(4, 3, seed=0), lambda rows: VALUES[rows], ranks)
        found = learn()
        return learn.model.weight.item(), found

    weight, found = step(ALONE)
    for other, logged in in_threads(2, step):  # with 2 of the rows, and 1
        assert other == pytest.approx(weight)
        assert logged == pytest.approx(found)
    assert -weight == pytest.approx(found["mean_value"] * (1 if mean else 3))


def test_ranks_sum_counts_on_the_device_of_the_losses():
    """NCCL sums nothing on the CPU; ``meta`` stands for a device other than that."""
    summed = []

    class Elsewhere(Ranks):
        def sum(self, values):
            summed.append(values.device.type)
            return values

    model = nn.Linear(1, 1, bias=False, device="meta")
    batches = ReadAhead(ShuffledSampler(4, 4, seed=0), lambda rows: VALUES[rows].to("meta"))

    def loss(rows, data):
        return LossSum(model(data[:, None]).sum(), torch.tensor(len(rows)))

    learn = SupervisedLearner(model, torch.optim.SGD(model.parameters(), 1.0), batches, loss, ranks=Elsewhere())
    assert learn._accumulate()["loss"].device.type == "meta"
    assert summed == ["meta"]


def test_reading_ahead_does_not_move_the_sampler_and_gives_every_batch_its_own_data():
    loaded = []
    plain, ahead = ShuffledSampler(10, 3, seed=1), ShuffledSampler(10, 3, seed=1)

    def load(rows):
        loaded.append(rows)
        return rows * 2

    batches = ReadAhead(ahead, load)
    for _ in range(8):
        rows, data = batches.next()
        assert torch.equal(rows, plain.next())
        assert torch.equal(data, rows * 2)
        assert ahead.state()["cursor"] == plain.state()["cursor"]
        assert torch.equal(ahead.state()["generator"], plain.state()["generator"])
    batches._pool.shutdown()
    assert len(loaded) == 9  # each of the 8 once, and the one that comes


def test_a_sampler_that_was_put_back_is_followed():
    sampler = ShuffledSampler(10, 3, seed=1)
    state = sampler.state()
    batches = ReadAhead(sampler, lambda rows: rows + 1)
    first, _ = batches.next()
    batches.next()
    sampler.restore(state)
    rows, data = batches.next()
    assert torch.equal(rows, first)
    assert torch.equal(data, first + 1)


def test_what_fails_while_reading_ahead_is_raised_when_the_batch_is_wanted():
    def load(rows):
        if 9 in rows:
            raise ValueError("row 9 is damaged")
        return rows

    batches = ReadAhead(ShuffledSampler(10, 5, seed=1), load)
    with pytest.raises(ValueError, match="row 9 is damaged"):
        [batches.next() for _ in range(2)]


def test_a_step_with_nan_is_not_taken():
    learn = learner(values=VALUES * torch.nan)
    with pytest.raises(DivergedError, match="loss is nan"):
        learn()
    assert learn.model.weight.item() == 0.0


def test_batches_of_one_step_count_alike_and_objectives_add_up():
    model = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(model.weight)
    batches = ReadAhead(ShuffledSampler(4, 2, seed=0), lambda rows: VALUES[rows])

    def loss(rows, data):
        out = model(data[:, None])  # the first objective is about all rows, the second about none
        zero = out.sum() * 0
        return LossSum(
            torch.stack([out[:, 0].sum(), zero]),
            torch.tensor([len(rows), 0]),
            {"rows": torch.tensor([2, 0])},
            ("a", "b"),
        )

    learn = SupervisedLearner(model, torch.optim.SGD(model.parameters(), 1.0), batches, loss, accumulation=2)
    found = learn()
    # two batches of two of 1, 2, 3, 6 in some order: the mean of their means is 3 again
    assert model.weight.flatten().tolist() == [-3.0, 0.0]
    assert found["loss"] == found["loss/a"] == found["loss/b"] == 0.0
    assert (found["rows/a"], found["rows/b"]) == (1.0, 0.0)


def test_running_statistics_are_those_of_all_ranks():
    def statistics(ranks):
        model = nn.BatchNorm1d(1)
        model.running_mean.fill_(float(ranks.rank))
        ranks.average_buffers(model)
        return model.running_mean.item(), model.num_batches_tracked.item()

    assert list(in_threads(2, statistics)) == [(0.5, 0), (0.5, 0)]
