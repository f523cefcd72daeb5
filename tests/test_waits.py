"""How often a rollout waits for the device, and that a world which never asks it for widths shows the same."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.test_follower import build
from tests.toy_world import toy_setting
from vln_clip.rollout import greedy, roll_out, teacher_forced

MAX_STEPS = 4
WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero")  # int(), item(), bool(), tolist(); nonzero()


class CountWaits(TorchDispatchMode):
    """Counts the operations whose result the host needs before it can go on."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masked = name == "index" and any(index is not None and index.dtype == torch.bool for index in args[1])
        self.count += name in WAITS or masked
        return func(*args, **(kwargs or {}))


def waits(world, follower, batch, feedback, teacher, max_steps):
    with CountWaits() as mode:
        record = roll_out(world, follower, batch, feedback, max_steps, teacher=teacher, drop_ended=False)
    assert len(record.mask) == max_steps
    return mode.count


# Sampling is seen from outside here: torch.multinomial asks nothing of a GPU.
@pytest.mark.parametrize(("feedback", "teacher", "per_step"), [(greedy, None, 1), (teacher_forced, "shortest", 2)])
def test_a_step_waits_for_the_stop_test_and_the_teacher_alone(tmp_path, monkeypatch, feedback, teacher, per_step):
    setting, world = toy_setting(tmp_path, monkeypatch)
    world.all_columns = True
    follower, batch = build(num_words=setting.vocabulary.size), setting.table("train").batch(torch.arange(8))
    if feedback is greedy:
        feedback = never_stop
    short, long = (waits(world, follower, batch, feedback, teacher, steps) for steps in (1, 2))
    assert long - short == per_step


def never_stop(logits, teacher, rows):
    """Take the first candidate, which is a move."""
    return torch.zeros(len(logits), dtype=torch.int64)


def test_all_columns_change_nothing_but_padding(tmp_path, monkeypatch):
    setting, world = toy_setting(tmp_path, monkeypatch)
    follower, batch = build(num_words=setting.vocabulary.size), setting.table("train").batch(torch.arange(8))
    few, every = [], []
    for found in (few, every):
        world.all_columns = found is every
        record = roll_out(world, follower, batch, greedy, MAX_STEPS, keep_logits=True)
        found += [record.viewpoint, record.action_log_prob.detach(), record.entropy.detach(), record.hidden.detach()]
        found.append(max(logits.shape[1] for logits in record.logits))
    assert every.pop() == world.candidate_view.shape[1] >= few.pop()
    for a, b in zip(few, every, strict=True):
        torch.testing.assert_close(a, b)
