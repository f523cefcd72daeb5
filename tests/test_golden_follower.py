"""The follower against the unmodified reference listener: logits, losses, gradients, trajectories."""

import math

import numpy as np
import pytest
import torch

from tests.golden import SHARED, array, load_arrays, load_json, needs_shared
from vln_clip.agents.follower import Follower
from vln_clip.connectivity import NavTables
from vln_clip.envs.navigation import Navigation, snap_view
from vln_clip.losses import actor_critic_loss, imitation_loss
from vln_clip.records import Batch
from vln_clip.rollout import greedy, roll_out, teacher_forced

pytestmark = needs_shared
MAX_STEPS = 12


class RecordedFeatures:
    def __init__(self, arrays, tables, dtype=torch.float32):
        width = next(iter(arrays.values())).shape[1]
        self.features = torch.zeros(len(tables.viewpoint_ids), 36, width, dtype=dtype)
        for name, value in arrays.items():
            scan, viewpoint = name.split("_", 1)
            self.features[tables.index(scan, viewpoint)] = torch.from_numpy(value)

    def views(self, index):
        return self.features[index]


def build_follower(weights, num_words=992, feature_width=16):
    follower = Follower(
        num_words,
        feature_width,
        angle_width=8,
        word_width=16,
        action_width=8,
        hidden_width=32,
        dropout_p=0.0,
        feature_dropout_p=0.0,
        pool_padding=True,
    )
    own = follower.state_dict()
    follower.load_state_dict({name: torch.from_numpy(weights[name]) for name in own})
    return follower


def build_batch(items, tables, tokens=None):
    tokens = torch.tensor([item["instr_encoding"] for item in items]) if tokens is None else tokens
    length = (tokens != 0).sum(1)
    start = torch.tensor([tables.index(i["scan"], i["path"][0]) for i in items])
    goal = torch.tensor([tables.index(i["scan"], i["path"][-1]) for i in items])
    view = snap_view(torch.tensor([i["heading"] for i in items]))
    return Batch(torch.arange(len(items)), tokens[:, : int(length.max())], length, start, view, goal)


@pytest.fixture(scope="module")
def trace():
    return load_json("listener_trace.json.gz")


@pytest.fixture(scope="module")
def setting(trace):
    items = trace["meta"]["batch"]
    tables = NavTables.load(SHARED / "data" / "connectivity", sorted({i["scan"] for i in items}), cache=False)
    world = Navigation(tables, RecordedFeatures(load_arrays("listener_features.npz"), tables))
    return world, build_batch(items, tables), [i["instr_id"] for i in items]


def recorded_actions(run, instr_ids):
    """Return a feedback that replays the sampled actions; rows of the recording are length-sorted."""
    column = {name: i for i, name in enumerate(run["order"])}
    actions = torch.tensor(run["actions_permuted_order"])  # (T, B)
    actions = actions[:, [column[name] for name in instr_ids]]
    step = iter(range(len(actions)))
    return lambda logits, teacher, rows: actions[next(step)][rows]


def check_steps(record, run, instr_ids, width=1e-4):
    column = {name: i for i, name in enumerate(run["order"])}
    assert len(record.logits) == min(len(run["steps"]), MAX_STEPS)
    for step, (logits, rows) in enumerate(zip(record.logits, record.rows, strict=True)):
        wanted = array(run["steps"][step]["logit"])
        for row, values in zip(rows.tolist(), logits.detach().numpy(), strict=True):
            expected = wanted[column[instr_ids[row]]][: len(values)]
            real = np.isfinite(values)  # the reference recorded its logits before masking the padding
            np.testing.assert_allclose(values[real], expected[real], atol=width)


def check_gradients(modules, run):
    for name, wanted in run["grad_norms"].items():
        parameter = dict(modules.named_parameters())[name]
        assert float(parameter.grad.norm()) == pytest.approx(wanted, rel=1e-3), name


def check_trajectories(record, run, instr_ids, world):
    recorded = {t["instr_id"]: t["path"] for t in run["trajectories"]}
    for row, name in enumerate(instr_ids):
        path = [world.tables.viewpoint_ids[v] for v in record.viewpoint[row].tolist() if v >= 0]
        moves = [p[0] for p in recorded[name]]
        assert path == [v for i, v in enumerate(moves) if i == 0 or v != moves[i - 1]]
        assert int(record.num_actions[row]) == len(moves) - 1


def run_recorded(follower, setting, run, feedback, **options):
    world, batch, _ = setting
    follower.zero_grad()
    return roll_out(world, follower, batch, feedback, MAX_STEPS, keep_logits=True, **options)


@pytest.mark.parametrize("drop_ended", [True, False])
@pytest.mark.parametrize(("name", "feedback"), [("teacher", teacher_forced), ("argmax", greedy)])
def test_imitation_rollouts_equal_the_reference(trace, setting, name, feedback, drop_ended):
    run = trace["runs"][name]
    follower = build_follower(load_arrays("listener_weights.npz"))
    record = run_recorded(follower, setting, run, feedback, drop_ended=drop_ended)
    loss = 0.2 * imitation_loss(record.teacher_log_prob, record.mask)
    loss.backward()
    assert loss.item() == pytest.approx(run["loss"], rel=1e-4)
    check_steps(record, run, setting[2])
    check_gradients(follower, run)
    check_trajectories(record, run, setting[2], setting[0])


@pytest.mark.parametrize("drop_ended", [True, False])
def test_sampled_rollout_equals_the_reference(trace, setting, drop_ended):
    run = trace["runs"]["sample"]
    follower = build_follower(load_arrays("listener_weights.npz"))
    feedback = recorded_actions(run, setting[2])
    record = run_recorded(follower, setting, run, feedback, returns=True, drop_ended=drop_ended)
    value = torch.zeros_like(record.entropy).masked_scatter(record.mask, follower.critic(record.hidden, None))
    bootstrap = torch.zeros(len(record.ended))
    if record.last_hidden is not None:
        bootstrap[record.unfinished] = follower.critic(record.last_hidden, None).detach()
    rewards = setting[0].reward(record.distance_m[:-1], record.distance_m[1:], record.stopped)
    loss = actor_critic_loss(record.action_log_prob, record.entropy, value, rewards, record.mask, bootstrap).total
    loss.backward()
    assert int(record.mask.sum()) == run["logs"]["total"][0]
    assert math.isclose(loss.item(), run["loss"], rel_tol=1e-4)
    check_steps(record, run, setting[2])
    check_gradients(follower, run)
    check_trajectories(record, run, setting[2], setting[0])
