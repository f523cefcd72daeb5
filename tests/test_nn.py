"""Building blocks against the plain modules they replace: values, gradients, dropout statistics."""

import math

import pytest
import torch
from torch import nn

from vln_clip.agents.nn import (
    RaggedLSTM,
    attend,
    dot,
    drop_features,
    feature_scale,
    lstm_cell,
    step_linear,
)
from vln_clip.dropout import dropout, keep_mask, keep_probability


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("length", [[3, 5, 1, 5], [4, 4], [1], [2, 6, 6, 3, 1]])
def test_ragged_lstm_equals_the_packed_lstm(bidirectional, length):
    ours = RaggedLSTM(4, 3, bidirectional).double()
    plain = nn.LSTM(4, 3, batch_first=True, bidirectional=bidirectional).double()
    plain.load_state_dict(ours.state_dict())
    B, L = len(length), max(length) + 1  # one column of padding in every row
    x = torch.randn(B, L, 4, dtype=torch.double, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    lengths = torch.tensor(length)

    output, hidden, cell = ours(x, lengths)
    packed = nn.utils.rnn.pack_padded_sequence(y, lengths, batch_first=True, enforce_sorted=False)
    wanted, (wanted_hidden, wanted_cell) = plain(packed)
    wanted, _ = nn.utils.rnn.pad_packed_sequence(wanted, batch_first=True, total_length=L)
    torch.testing.assert_close(output, wanted)
    torch.testing.assert_close(hidden, wanted_hidden)
    torch.testing.assert_close(cell, wanted_cell)

    factors = [torch.randn_like(part) for part in (output, hidden, cell)]  # every result takes part in the loss
    sum((a * b).sum() for a, b in zip((output, hidden, cell), factors, strict=True)).backward()
    sum((a * b).sum() for a, b in zip((wanted, wanted_hidden, wanted_cell), factors, strict=True)).backward()
    torch.testing.assert_close(x.grad, y.grad)
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(dict(ours.named_parameters())[name].grad, parameter.grad)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("learning", [False, True])
def test_ragged_lstm_over_rows_of_a_table_equals_that_over_the_inputs(bidirectional, learning):
    lstm = RaggedLSTM(4, 3, bidirectional).double()
    table = torch.randn(6, 4, dtype=torch.double, requires_grad=True)
    index, length = torch.tensor([[0, 5, 2], [3, 3, 0]]), torch.tensor([3, 2])
    with torch.set_grad_enabled(learning):
        ours, wanted = lstm(table, length, index), lstm(table[index], length)
    for a, b in zip(ours, wanted, strict=True):
        torch.testing.assert_close(a, b)
    if learning:
        gradients = [torch.autograd.grad(sum(part.sin().sum() for part in found), table) for found in (ours, wanted)]
        torch.testing.assert_close(*gradients)


def test_ragged_lstm_passes_the_numerical_gradient_check():
    lstm = RaggedLSTM(2, 2, bidirectional=True).double()
    x = torch.randn(3, 3, 2, dtype=torch.double, requires_grad=True)
    names = list(dict(lstm.named_parameters()))

    def run(x, *values):
        return torch.func.functional_call(lstm, dict(zip(names, values, strict=True)), (x, torch.tensor([2, 3, 1])))

    assert torch.autograd.gradcheck(run, (x, *lstm.parameters()))


def test_single_lstm_steps_equal_the_sequence():
    lstm = RaggedLSTM(4, 3)
    x = torch.randn(2, 5, 4)
    whole, hidden, cell = lstm(x, torch.tensor([5, 5]))
    h = c = torch.zeros(2, 3)
    for t in range(5):
        h, c = lstm.step(x[:, t], h, c)
        torch.testing.assert_close(h, whole[:, t])
    torch.testing.assert_close(h, hidden[0])
    torch.testing.assert_close(c, cell[0])


def test_the_lstm_cell_is_pytorch_s():
    plain = nn.LSTMCell(4, 3)
    x, h, c = torch.randn(2, 4), torch.randn(2, 3), torch.randn(2, 3)
    gates = x @ plain.weight_ih.t() + plain.bias_ih + h @ plain.weight_hh.t() + plain.bias_hh
    for ours, wanted in zip(lstm_cell(gates, c), plain(x, (h, c)), strict=True):
        torch.testing.assert_close(ours, wanted)


class TestStepLinear:
    """A weight used at several steps, each input made of the output before."""

    def leaves(self):
        return torch.randn(3, 3), torch.randn(3), torch.randn(2, 3)

    def loss(self, linear, x):
        first = linear(x)
        second = linear(torch.tanh(first))
        linear(second)  # computed and not used
        return (second * second).sum() + first.sin().sum()  # `first` is used twice

    def plain(self, weight, bias, x):
        values = [v.clone().requires_grad_() for v in (weight, bias, x)]
        self.loss(lambda y: nn.functional.linear(y, values[0], values[1]), values[2]).backward()
        return [v.grad for v in values]

    def ours(self, weight, bias, x):
        values = [v.clone().requires_grad_() for v in (weight, bias, x)]
        return values, self.loss(step_linear(values[0], values[1]), values[2])

    def test_gradients_equal_the_plain_linear(self):
        leaves = self.leaves()
        values, loss = self.ours(*leaves)
        loss.backward()
        for value, wanted in zip(values, self.plain(*leaves), strict=True):
            torch.testing.assert_close(value.grad, wanted)

    def test_gradients_are_right_under_autograd_grad(self):
        leaves = self.leaves()
        values, loss = self.ours(*leaves)
        for found, wanted in zip(torch.autograd.grad(loss, values), self.plain(*leaves), strict=True):
            torch.testing.assert_close(found, wanted)

    def test_a_second_backward_pass_counts_once_more(self):
        leaves = self.leaves()
        values, loss = self.ours(*leaves)
        loss.backward(retain_graph=True)
        loss.backward()
        for value, wanted in zip(values, self.plain(*leaves), strict=True):
            torch.testing.assert_close(value.grad, 2 * wanted)

    def test_the_gradient_of_the_input_alone_leaves_nothing_behind(self):
        leaves = self.leaves()
        values, loss = self.ours(*leaves)
        wanted = self.plain(*leaves)
        (found,) = torch.autograd.grad(loss, [values[2]], retain_graph=True)
        torch.testing.assert_close(found, wanted[2])
        loss.backward()
        torch.testing.assert_close(values[0].grad, wanted[0])

    def test_an_unused_weight_gets_no_gradient(self):
        weight, other = torch.randn(3, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
        step_linear(weight)(other)
        other.sum().backward()
        assert weight.grad is None

    def test_a_weight_without_bias_and_an_input_without_gradient(self):
        weight, x = torch.randn(4, 3, requires_grad=True), torch.randn(2, 3)
        step_linear(weight)(x).sum().backward()
        torch.testing.assert_close(weight.grad, x.sum(0).expand(4, 3))

    def test_without_gradients_it_is_the_plain_product(self):
        weight, bias, x = self.leaves()
        with torch.no_grad():
            assert torch.equal(step_linear(weight, bias)(x), nn.functional.linear(x, weight, bias))


def test_dropout_keeps_the_share_and_the_mean():
    # 200,000 entries: the share kept has a standard error of 0.001, the mean of the result one of 0.0016.
    x = torch.ones(1000, 200)
    dropped = dropout(x, 0.3, generator())
    assert (dropped != 0).float().mean().item() == pytest.approx(0.7, abs=0.005)
    assert dropped.mean().item() == pytest.approx(1, abs=0.008)
    torch.testing.assert_close(dropped.unique(), torch.tensor([0, 1 / keep_probability(0.3)]))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.6, 0.9])
def test_keep_probabilities_are_those_asked_for(p):
    assert keep_probability(p) == pytest.approx(1 - p, abs=1 / 65536)
    kept = keep_mask(torch.Size([501, 399]), p, generator(1), torch.device("cpu")).float().mean().item()
    assert kept == pytest.approx(1 - p, abs=5 * math.sqrt(p * (1 - p) / 199_899) + 1e-4)


def test_dropout_is_the_identity_in_evaluation():
    x = torch.randn(3, 4)
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, generator()) is x


def test_dropout_depends_on_its_generator_alone():
    x = torch.ones(50)
    assert torch.equal(dropout(x, 0.5, generator(3)), dropout(x, 0.5, generator(3)))
    assert not torch.equal(dropout(x, 0.5, generator(3)), dropout(x, 0.5, generator(4)))


def test_dropout_masks_neighbouring_entries_independently():
    # Four masks come of one 64-bit draw: the products of neighbours must be kept as often as chance says.
    kept = keep_mask(torch.Size([100_000]), 0.5, generator(), torch.device("cpu")).float().view(-1, 4)
    for i in range(4):
        for j in range(i):
            assert (kept[:, i] * kept[:, j]).mean().item() == pytest.approx(0.25, abs=0.015)


def test_feature_dropout_is_unbiased_once_scaled():
    features = torch.full((40, 36, 50), 2.0, dtype=torch.float16)
    dropped = drop_features(features, 0.4, generator())
    assert dropped.dtype == torch.float32
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert (dropped * feature_scale(0.4, generator())).mean().item() == pytest.approx(2, abs=0.03)


def test_feature_dropout_does_not_depend_on_the_stored_type():
    features = torch.randn(4, 36, 7).half()
    half = drop_features(features, 0.3, generator(5))
    single = drop_features(features.float(), 0.3, generator(5))
    assert torch.equal(half, single)
    assert (half == 0).float().mean().item() == pytest.approx(0.3, abs=0.06)


def test_feature_dropout_leaves_the_stored_features_alone():
    features = torch.randn(4, 36, 7).half()
    before = features.clone()
    drop_features(features, 0.5, generator())
    drop_features(features, 0.5, None).fill_(0)
    assert torch.equal(features, before)


def test_evaluation_and_width_0_drop_nothing():
    features = torch.randn(2, 36, 5).half()
    assert torch.equal(drop_features(features, 0.5, None), features.float())
    assert feature_scale(0.5, None) == 1.0
    assert drop_features(features[..., :0], 0.5, generator()).shape == (2, 36, 0)


def test_attention_ignores_masked_entries():
    values = torch.tensor([[[1.0], [3.0], [100.0]]])
    mask = torch.tensor([[True, True, False]])
    mean, weights = attend(torch.zeros(1, 3), values, mask)
    assert mean.tolist() == [[2.0]]
    assert weights.tolist() == [[0.5, 0.5, 0.0]]


def test_dot_is_the_product_of_every_key_with_the_query():
    keys, query = torch.randn(2, 5, 3), torch.randn(2, 3)
    torch.testing.assert_close(dot(keys, query), (keys * query[:, None]).sum(-1))
