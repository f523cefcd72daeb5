"""Rollouts and losses: hand-made examples, ended episodes, and that nothing privileged is used unasked."""

import pytest
import torch

from tests.test_follower import build
from tests.toy_world import batch_of, blind_world, toy_setting, toy_tables
from vln_clip.envs.navigation import Navigation
from vln_clip.losses import actor_critic_loss, discounted_returns, imitation_loss, word_loss
from vln_clip.rollout import greedy, roll_out, sampled, teacher_forced

GARBAGE = 77.0  # stands where the mask is False and must count nowhere


def columns(first, second):
    return torch.tensor([first, second]).t().contiguous()  # (T, B)


# Two samples, three steps. The first stops at its second step, the second is unfinished and its final state has value
# 0.5. gamma = 0.9, entropy weight 0.01, value weight 1/2.
REWARD = columns([1.0, 2.0, GARBAGE], [-1.0, 1.0, 1.0])
MASK = columns([True, True, False], [True, True, True])
LOG_PROB = columns([-0.5, -1.0, -GARBAGE], [-0.2, -0.4, -0.6])
ENTROPY = columns([0.3, 0.2, GARBAGE], [0.1, 0.1, 0.1])
VALUE = columns([2.0, 1.0, GARBAGE], [0.5, 2.0, 1.0])
BOOTSTRAP = torch.tensor([0.0, 0.5])
# First: R1 = 2, R0 = 1 + 0.9 * 2 = 2.8. Second: R2 = 1 + 0.9 * 0.5 = 1.45, R1 = 1 + 0.9 * 1.45 = 2.305,
# R0 = -1 + 0.9 * 2.305 = 1.0745.
RETURNS = columns([2.8, 2.0, 0.0], [1.0745, 2.305, 1.45])
# Advantages R - V: 0.8, 1 and 0.5745, 0.305, 0.45; per step -log p * A + A^2 / 2 - 0.01 * entropy:
# 0.4 + 0.32 - 0.003 = 0.717; 1 + 0.5 - 0.002 = 1.498; 0.1149 + 0.165025125 - 0.001 = 0.278925125;
# 0.122 + 0.0465125 - 0.001 = 0.1675125; 0.27 + 0.10125 - 0.001 = 0.37025.
TOTAL = 0.717 + 1.498 + 0.278925125 + 0.1675125 + 0.37025


def test_returns_are_discounted_and_start_from_the_bootstrap():
    torch.testing.assert_close(discounted_returns(REWARD, MASK, BOOTSTRAP, 0.9), RETURNS)


@pytest.mark.parametrize(("normalize", "divisor"), [("total", 5), ("batch", 2), ("none", 1)])
def test_the_actor_critic_loss_of_a_hand_made_example(normalize, divisor):
    loss = actor_critic_loss(LOG_PROB, ENTROPY, VALUE, REWARD, MASK, BOOTSTRAP, normalize=normalize).total
    assert loss.item() == pytest.approx(TOTAL / divisor, rel=1e-6)


def test_the_gradients_of_the_actor_critic_loss():
    log_prob, entropy, value = (x.clone().requires_grad_() for x in (LOG_PROB, ENTROPY, VALUE))
    actor_critic_loss(log_prob, entropy, value, REWARD, MASK, BOOTSTRAP).total.backward()
    advantage = (RETURNS - VALUE) * MASK
    torch.testing.assert_close(log_prob.grad, -advantage / 5)  # the advantage itself is detached
    torch.testing.assert_close(value.grad, -advantage / 5)  # of (R - V)^2 / 2
    torch.testing.assert_close(entropy.grad, -0.01 * MASK / 5)


def test_the_weights_of_the_actor_critic_loss():
    plain = {"entropy_weight": 0.0, "value_weight": 0.0, "gamma": 0.0, "normalize": "none"}
    # Without discount R is the reward, but for the bootstrap: A = 1 - 2, 2 - 1 and -1 - 0.5, 1 - 2, 1 - 1.
    loss = actor_critic_loss(LOG_PROB, ENTROPY, VALUE, REWARD, MASK, BOOTSTRAP, **plain).total
    assert loss.item() == pytest.approx(0.5 * -1 + 1 * 1 + 0.2 * -1.5 + 0.4 * -1 + 0)


def test_the_parts_of_the_actor_critic_loss():
    loss = actor_critic_loss(LOG_PROB, ENTROPY, VALUE, REWARD, MASK, BOOTSTRAP)
    # The terms of TOTAL by column, over 5 decisions.
    assert loss.policy.item() == pytest.approx((0.4 + 1 + 0.1149 + 0.122 + 0.27) / 5, rel=1e-6)
    assert loss.value.item() == pytest.approx((0.32 + 0.5 + 0.165025125 + 0.0465125 + 0.10125) / 5, rel=1e-6)
    assert loss.entropy.item() == pytest.approx(-(0.003 + 0.002 + 0.001 + 0.001 + 0.001) / 5, rel=1e-6)
    assert loss.total.item() == pytest.approx((loss.policy + loss.value + loss.entropy).item(), rel=1e-6)


def test_imitation_is_summed_over_steps_and_averaged_over_the_batch():
    # 0.5 + 1 + 0.2 + 0.4 + 0.6 = 2.7 over two samples.
    assert imitation_loss(LOG_PROB, MASK).item() == pytest.approx(1.35)


def test_the_word_loss_is_a_mean_over_real_words():
    # Three words; <BOS> 2 -> 1 -> 2 in row 0, 2 -> 1 -> padding in row 1. Uniform logits cost log 3 per word; where
    # word 1 is asked for in row 1 the logit of 1 is 1 against 0 and 0.
    tokens = torch.tensor([[2, 1, 2], [2, 1, 0]])
    logits = torch.zeros(2, 3, 3)
    logits[1, 0, 1] = 1.0
    logits[1, 1:] = GARBAGE * torch.rand(2, 3)
    logits[0, 2] = GARBAGE * torch.rand(3)  # what comes after the last token is not asked
    log_3 = torch.tensor(3.0).log()
    wanted = (2 * log_3 + (torch.tensor(1.0).exp() + 2).log() - 1) / 3
    torch.testing.assert_close(word_loss(logits, tokens), wanted)


class Scripted:
    """Takes the given candidates: one list per batch row; after its end it stops. Its hidden state is the viewpoint."""

    def __init__(self, script):
        self.script = script

    def start(self, tokens, length, generator=None, noise=None):
        return Place(torch.arange(len(tokens)), 0, self.script)

    def step(self, obs, state):
        B, K = obs.candidate_mask.shape
        choice = [script[state.step] if state.step < len(script) else -1 for script in state.scripts()]
        action = torch.where(torch.tensor(choice) < 0, obs.stop, torch.tensor(choice))
        logits = torch.full((B, K), -10.0).scatter(1, action[:, None], 0.0).masked_fill(~obs.candidate_mask, -torch.inf)
        hidden = torch.stack([state.rows.float(), torch.full((B,), float(state.step))], 1)
        return Place(state.rows, state.step + 1, self.script), logits, hidden


class Place:
    def __init__(self, rows, step, script):
        self.rows, self.step, self.script = rows, step, script

    def scripts(self):
        return [self.script[row] for row in self.rows.tolist()]

    def select(self, kept):
        return Place(self.rows[kept], self.step, self.script)


@pytest.mark.parametrize("drop_ended", [True, False])
def test_a_rollout_records_decisions_places_and_distances(tmp_path, drop_ended):
    tables = toy_tables(tmp_path)
    world = blind_world(tables)
    # Row 0 stops at once. Row 1 goes a0 - a1 - a2 and stops. Row 2 goes b0 - b1 - b2 - b3 and is cut off after three
    # decisions: from b2 the candidates are b3 (north), b1 (south, first seen at step 5), b4 (west, step 8).
    batch = batch_of(tables, [("alpha", "a4", "a4"), ("alpha", "a0", "a2"), ("beta", "b0", "b3")])
    agent = Scripted([[], [0, 0], [0, 0, 0, 0]])
    record = roll_out(world, agent, batch, greedy, 3, returns=True, drop_ended=drop_ended)
    a, b = tables.index("alpha", "a0"), tables.index("beta", "b0")
    assert record.viewpoint.tolist() == [[a + 4, -1, -1, -1], [a, a + 1, a + 2, -1], [b, b + 1, b + 2, b + 3]]
    assert record.view.tolist() == [[12, -1, -1, -1], [12, 12, 12, -1], [12, 12, 12, 24]]
    assert record.mask.tolist() == [[True, True, True], [False, True, True], [False, True, True]]
    assert record.stopped.tolist() == [[True, False, False], [False, False, False], [False, True, False]]
    assert record.ended.tolist() == [True, True, False]
    assert record.num_actions.tolist() == [0, 2, 4]  # the last move of row 2 tilts up first
    assert record.unfinished.tolist() == [2]
    assert record.last_hidden.tolist() == [[2.0, 3.0]]  # row 2, asked a fourth time
    # Hidden states in the order of mask.nonzero(): (step, row).
    order = [[float(row), float(step)] for step, row in record.mask.nonzero().tolist()]
    assert record.hidden.tolist() == order
    up = (2.5**2 + 1.5**2) ** 0.5
    wanted = torch.tensor([[0, 5, 5 + up], [0, 2.5, 2.5 + up], [0, 0, up], [0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(record.distance_m, wanted)
    # Row 1: two moves towards the goal, then a stop on it; row 2 never stops.
    reward = world.reward(record.distance_m[:-1], record.distance_m[1:], record.stopped) * record.mask
    assert reward.tolist() == [[2, 1, 1], [0, 1, 1], [0, 2, 1]]


def test_a_rollout_without_unfinished_episodes_has_no_last_state(tmp_path):
    tables = toy_tables(tmp_path)
    batch = batch_of(tables, [("alpha", "a4", "a4"), ("alpha", "a0", "a2")])
    record = roll_out(blind_world(tables), Scripted([[], [0]]), batch, greedy, 9, returns=True)
    assert record.last_hidden is None
    assert record.unfinished is None
    assert len(record.mask) == 2  # it ends with the last episode


@pytest.mark.parametrize("feedback", ["teacher", "replayed"])
def test_leaving_ended_episodes_out_changes_no_loss(tmp_path, monkeypatch, feedback):
    setting, world = toy_setting(tmp_path, monkeypatch)
    batch = setting.table("train").batch(torch.arange(0, 60, 3))
    follower = build(num_words=setting.vocabulary.size)
    pick = torch.randint(1000, (8, len(batch.goal)), generator=torch.Generator().manual_seed(1))
    losses, gradients = [], []
    for drop_ended in (True, False):
        step = iter(pick)

        def replay(logits, teacher, rows, step=step):
            return next(step)[rows] % logits.isfinite().sum(1)  # some action that is there, the same for both

        choose = teacher_forced if feedback == "teacher" else replay
        record = roll_out(world, follower, batch, choose, 8, returns=True, drop_ended=drop_ended)
        bootstrap = torch.zeros(len(batch.goal))
        if record.last_hidden is not None:
            bootstrap[record.unfinished] = record.last_hidden.sum(1)
        reward = world.reward(record.distance_m[:-1], record.distance_m[1:], record.stopped)
        value = torch.zeros_like(record.entropy).masked_scatter(record.mask, record.hidden.sum(1))
        rl = actor_critic_loss(record.action_log_prob, record.entropy, value, reward, record.mask, bootstrap).total
        loss = rl + imitation_loss(record.teacher_log_prob, record.mask)
        follower.zero_grad()
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([p.grad.flatten() for p in follower.parameters() if p.grad is not None]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


class Blindfolded(Navigation):
    """Fails where anything privileged is asked for."""

    def teacher(self, viewpoint, goal):
        raise AssertionError("the teacher was asked")

    def distance_m(self, viewpoint, goal):
        raise AssertionError("a distance was asked")


@pytest.mark.parametrize("draw", [False, True])
def test_rollouts_without_teacher_and_returns_never_use_goals(tmp_path, draw):
    tables = toy_tables(tmp_path)
    blind = blind_world(tables)
    world = Blindfolded(tables, blind.bank)
    batch = batch_of(tables, [("alpha", "a0", None), ("beta", "b3", None)])
    feedback = sampled(torch.Generator().manual_seed(0)) if draw else greedy
    record = roll_out(world, build(0), batch, feedback, 5, teacher=None)
    assert record.distance_m is None
    assert not record.teacher_log_prob.any()


def test_there_are_no_returns_for_hidden_goals(tmp_path):
    tables = toy_tables(tmp_path)
    batch = batch_of(tables, [("alpha", "a0", "a1"), ("beta", "b3", None)])
    with pytest.raises(ValueError, match="no returns where the goal is hidden"):
        roll_out(blind_world(tables), Scripted([[], []]), batch, greedy, 2, teacher=None, returns=True)


def test_sampling_follows_the_policy_and_its_generator():
    logits = torch.tensor([[0.0, 1.0, -torch.inf]]).repeat(20_000, 1)
    rows = torch.arange(20_000)
    first, second = (sampled(torch.Generator().manual_seed(3))(logits, None, rows) for _ in range(2))
    assert torch.equal(first, second)
    # P(1) = e / (1 + e) = 0.731; a standard error of 0.003.
    assert first.float().mean().item() == pytest.approx(0.7311, abs=0.015)
    assert first.max() == 1


def test_log_probabilities_and_entropy_are_those_of_the_policy(tmp_path):
    tables = toy_tables(tmp_path)
    batch = batch_of(tables, [("alpha", "a0", "a1")])
    record = roll_out(blind_world(tables), Scripted([[0]]), batch, teacher_forced, 1)
    # a0 has one candidate and stop: logits 0 and -10.
    policy = torch.tensor([0.0, -10.0]).log_softmax(0)
    torch.testing.assert_close(record.action_log_prob, policy[:1, None])
    torch.testing.assert_close(record.teacher_log_prob, policy[:1, None])
    torch.testing.assert_close(record.entropy, -(policy.exp() * policy).sum()[None, None])
