"""Attention over the instruction against the plain one: values and gradients, while episodes leave."""

import torch

from vln_clip.agents.nn import attend, dot
from vln_clip.agents.recall import Recall

B, L, H = 3, 4, 2
LENGTH = torch.tensor([2, 4, 3])
MASK = torch.arange(L) < LENGTH[:, None]
STEPS = ((0, 1, 2), (0, 1, 2), (0, 2), (2,))  # who is still there


def plain(values, query, rows):
    rows = torch.tensor(rows)
    return attend(dot(values[rows], query), values[rows], MASK[rows])


def rollout(values, queries, recall):
    """Read at every step with a query that depends on what was read before; sum up something of each."""
    total, before, state = values.new_zeros(()), (0, 1, 2), Recall.of(values, MASK)
    for rows, query in zip(STEPS, queries, strict=True):
        if recall and rows != before:
            state = state.select(torch.tensor([before.index(row) for row in rows]))
        before, query = rows, query[list(rows)] * (1 + total)
        read, weights = state(query) if recall else plain(values, query, rows)
        assert weights.shape[0] == len(rows)
        total = total + read.sin().sum()
    return total


def leaves():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(B, L, H, dtype=torch.double, generator=generator).requires_grad_()
    return values, torch.randn(len(STEPS), B, H, dtype=torch.double, generator=generator).requires_grad_()


def test_values_and_gradients_are_those_of_plain_attention():
    found = []
    for recall in (True, False):
        values, queries = leaves()
        total = rollout(values, queries, recall)
        total.backward()
        found.append((total.detach(), values.grad, queries.grad))
    for ours, wanted in zip(*found, strict=True):
        torch.testing.assert_close(ours, wanted)
    assert bool((found[0][1][0, 2:] == 0).all())  # padding


def test_a_second_backward_pass_and_one_for_queries_alone_add_nothing_of_each_other():
    values, queries = leaves()
    total = rollout(values, queries, True)
    alone = torch.autograd.grad(total, queries, retain_graph=True)[0]
    first = torch.autograd.grad(total, (values, queries), retain_graph=True)
    second = torch.autograd.grad(total, (values, queries))
    torch.testing.assert_close(alone, first[1])
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b)


def test_weights_have_no_gradient_and_evaluation_reads_the_same():
    values, queries = leaves()
    read, weights = Recall.of(values, MASK)(queries[0])
    assert not weights.requires_grad
    assert read.requires_grad
    with torch.no_grad():
        again, same = Recall.of(values, MASK)(queries[0])
    torch.testing.assert_close(read, again)
    torch.testing.assert_close(weights, same)


def test_as_many_entries_are_kept_as_the_longest_has():
    values, _ = leaves()
    kept = Recall.of(values, MASK).select(torch.tensor([2, 0]))
    assert kept.values.shape == (2, 3, H)
    assert kept.rows.tolist() == [2, 0]
    assert kept.select(torch.tensor([1])).rows.tolist() == [0]
