"""The follower: sizes, names, gradients, padding, what it can learn. Its numbers: tests/test_golden_follower.py."""

from dataclasses import replace

import pytest
import torch

from tests.toy_world import WIDTH, batch_of, blind_world, toy_setting, toy_tables
from vln_clip.agents.follower import Follower
from vln_clip.config import FollowerConfig
from vln_clip.envdrop import FollowerLearner
from vln_clip.envs.evaluation import score_walks, walk_split
from vln_clip.losses import imitation_loss
from vln_clip.rollout import greedy, roll_out, teacher_forced
from vln_clip.sampler import ShuffledSampler

SMALL = {"angle_width": 8, "word_width": 8, "action_width": 6, "hidden_width": 16}


def build(feature_width=WIDTH, num_words=30, seed=0, **changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Follower(num_words, feature_width, **(SMALL | changes))


def learner(world, follower, table, batch_size=8, lr=1e-2, **config):
    constants = FollowerConfig(batch_size=batch_size, max_action=8, **config)
    optimizer = torch.optim.Adam(follower.parameters(), lr=lr)
    sampler = ShuffledSampler(len(table), batch_size, seed=0)
    return FollowerLearner(world, follower, optimizer, table, sampler, constants, torch.Generator().manual_seed(0), 0.2)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("width", "decoder"), [(512, 5_124_160), (640, 5_648_448), (1024, 7_221_312), (2048, 11_415_616)]
)
def test_parameter_counts_are_the_reference_s(width, decoder):
    # Specification §5.1, V = 992 and A = 128; the reference's decoder also holds the output matrices of its two
    # feature attentions, (512 + F) x 512 each with F = D + 128, which it never uses.
    follower = Follower(992, width)
    assert count(follower.encoder) == 1_569_280
    assert count(follower.critic) == 263_169
    assert count(follower.decoder) == decoder - 2 * (512 + width + 128) * 512


def test_parameters_have_the_names_of_reference_checkpoints():
    stems = {name.rsplit(".", 1)[0] for name in build().state_dict()}
    assert stems == {
        "encoder.embedding",
        "encoder.lstm",
        "encoder.encoder2decoder",
        "decoder.embedding.0",
        "decoder.lstm",
        "decoder.feat_att_layer.linear_in",
        "decoder.attention_layer.linear_in",
        "decoder.attention_layer.linear_out",
        "decoder.candidate_att_layer.linear_in",
        "critic.state2value.0",
        "critic.state2value.3",
    }


@pytest.mark.parametrize("width", [WIDTH, 0])
def test_the_gradient_reaches_every_parameter(tmp_path, monkeypatch, width):
    setting, world = toy_setting(tmp_path, monkeypatch)
    follower = build(width, setting.vocabulary.size)
    world = world if width else setting.world([])
    learn = learner(world, follower, setting.table("train"))
    learn.imitate(setting.table("train").batch(torch.arange(8)), 1.0)
    taught = {name: parameter.grad for name, parameter in follower.named_parameters() if not name.startswith("critic")}
    assert all(grad is not None and grad.abs().sum() > 0 for grad in taught.values())
    follower.zero_grad()
    numbers = learn.reinforce(setting.table("train").batch(torch.arange(8)))
    for name, parameter in follower.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    parts = ("loss/policy", "loss/value", "loss/entropy")
    assert set(numbers) == {"loss/reinforcement", *parts, "rollout/entropy_nat", "rollout/reward", "rollout/steps"}
    assert numbers["loss/reinforcement"] == pytest.approx(sum(numbers[part] for part in parts), rel=1e-4, abs=1e-6)


def test_the_logit_of_stop_is_zero_and_padding_is_out(tmp_path):
    tables = toy_tables(tmp_path)
    batch = batch_of(tables, [("alpha", "a2", None), ("alpha", "a0", None), ("gamma", "g4", None)])
    world = blind_world(tables)
    follower = build(0)
    record = roll_out(world, follower, batch, greedy, 3, teacher=None, keep_logits=True)
    first = record.logits[0]
    assert first.shape == (3, 4)
    for row, stop in enumerate([3, 1, 0]):  # degrees of a2, a0 and g4
        assert first[row, stop] == 0
        assert torch.isneginf(first[row, stop + 1 :]).all()
        assert torch.isfinite(first[row, :stop]).all()


def decide(follower, tables, batch):
    world = blind_world(tables)
    with torch.no_grad():
        return roll_out(world, follower, batch, teacher_forced, 6, keep_logits=True, drop_ended=False).logits


def test_padding_does_not_change_the_decisions(tmp_path):
    tables = toy_tables(tmp_path)
    routes = [("alpha", "a0", "a2"), ("alpha", "a4", "a6")]
    short = batch_of(tables, routes)
    length = torch.tensor([3, 3])
    padded = replace(short, tokens=torch.tensor([[5, 3, 2, 0, 0, 0], [5, 3, 2, 0, 0, 0]]), length=length)
    with_longer = replace(short, tokens=torch.tensor([[5, 3, 2, 0, 0], [5, 7, 8, 9, 2]]), length=torch.tensor([3, 5]))
    follower = build(0)
    plain = decide(follower, tables, short)
    for a, b in zip(plain, decide(follower, tables, padded), strict=True):
        torch.testing.assert_close(a, b)
    for a, b in zip(plain, decide(follower, tables, with_longer), strict=True):
        torch.testing.assert_close(a[0], b[0])
        assert not torch.allclose(a[1, :2], b[1, :2])


def test_the_reference_s_pooling_depends_on_the_batch(tmp_path):
    tables = toy_tables(tmp_path)
    routes = [("alpha", "a0", "a2"), ("alpha", "a4", "a6")]
    short = batch_of(tables, routes)
    longer = replace(short, tokens=torch.tensor([[5, 3, 2, 0, 0], [5, 7, 8, 9, 2]]), length=torch.tensor([3, 5]))
    follower = build(0, pool_padding=True)
    alone, together = decide(follower, tables, short), decide(follower, tables, longer)
    assert not torch.allclose(alone[0][0, :1], together[0][0, :1], atol=1e-6)
    # Without padding in the batch both poolings are one.
    for a, b in zip(alone, decide(build(0), tables, short), strict=True):
        torch.testing.assert_close(a, b)


def test_an_episode_does_not_depend_on_its_batch_mates(tmp_path, monkeypatch):
    setting, world = toy_setting(tmp_path, monkeypatch)
    table = setting.table("val_seen")
    follower = build(num_words=setting.vocabulary.size).eval()
    together = walk_split(world, follower, table, 8)
    alone = walk_split(world, follower, table, 8, batch_size=1)
    T = alone.viewpoint.shape[1]
    assert together.viewpoint[:, :T].tolist() == alone.viewpoint.tolist()
    assert together.num_actions.tolist() == alone.num_actions.tolist()


def test_dropout_is_drawn_from_the_rollout_s_generator_alone(tmp_path, monkeypatch):
    setting, world = toy_setting(tmp_path, monkeypatch)
    batch = setting.table("train").batch(torch.arange(6))
    follower = build(num_words=setting.vocabulary.size)

    def loss(seed):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        record = roll_out(world, follower, batch, teacher_forced, 8, generator=generator)
        return imitation_loss(record.teacher_log_prob, record.mask).item()

    torch.manual_seed(0)
    first = loss(1)
    torch.manual_seed(5)
    assert loss(1) == first
    assert loss(2) != first
    assert loss(None) == loss(None) != first


def test_environment_noise_replaces_feature_dropout(tmp_path, monkeypatch):
    setting, world = toy_setting(tmp_path, monkeypatch)
    batch = setting.table("train").batch(torch.arange(6))
    follower = build(num_words=setting.vocabulary.size, dropout_p=0.0, feature_dropout_p=0.9)

    def logits(noise, seed=None, width=WIDTH):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        record = roll_out(world, follower, batch, teacher_forced, 8, generator=generator, noise=noise, keep_logits=True)
        return torch.cat([step.flatten() for step in record.logits])

    noise = torch.tensor([0.0, 2.0] * (WIDTH // 2))
    torch.testing.assert_close(logits(noise, 1), logits(noise, 2))
    torch.testing.assert_close(logits(torch.ones(WIDTH)), logits(None))
    # Noise on the features equals features multiplied by it.
    features = world.bank._parts[0][0]
    wanted = logits(noise)
    world.bank._parts[0] = (features.float() * noise, world.bank._parts[0][1])
    torch.testing.assert_close(logits(None), wanted)


def test_it_overfits_one_batch(tmp_path, monkeypatch):
    setting, world = toy_setting(tmp_path, monkeypatch)
    table = setting.table("train")
    follower = build(num_words=setting.vocabulary.size, hidden_width=32, dropout_p=0.0, feature_dropout_p=0.0)
    learn = learner(world, follower, table)
    rows = torch.arange(0, 36, 3)
    losses = []
    for _ in range(60):
        learn.optimizer.zero_grad()
        losses.append(learn.imitate(table.batch(rows), 1.0)["loss/imitation"])
        learn.update()
    assert losses[-1] < 0.05 * losses[0]
    scores = score_walks(world, table, walk_split(world, follower, table, 8, rows=rows))
    assert (scores["success_rate"], scores["spl"]) == (1.0, 1.0)


def test_imitation_and_reinforcement_use_two_batches(tmp_path, monkeypatch):
    setting, world = toy_setting(tmp_path, monkeypatch)
    table = setting.table("train")
    learn = learner(world, build(num_words=setting.vocabulary.size), table)
    drawn = learn.sampler.order.tolist()
    seen = []
    monkeypatch.setattr(learn, "imitate", lambda batch, weight: seen.append((weight, batch.episode.tolist())) or {})
    monkeypatch.setattr(learn, "reinforce", lambda batch: seen.append((None, batch.episode.tolist())) or {})
    learn.accumulate()
    assert seen == [(0.2, drawn[:8]), (None, drawn[8:16])]
    learn.ml_weight = 0.0  # no imitation: the batch is not drawn either
    learn.accumulate()
    assert seen[2:] == [(None, drawn[16:24])]
    learn.config = replace(learn.config, feedback="teacher", teacher_weight=3.0)
    learn.accumulate()
    assert seen[3:] == [(3.0, drawn[24:32])]


def test_encoder_and_decoder_are_clipped_each_and_the_critic_is_not(tmp_path, monkeypatch):
    setting, world = toy_setting(tmp_path, monkeypatch)
    follower = build(num_words=setting.vocabulary.size)
    learn = learner(world, follower, setting.table("train"), clip_norm=1e-3)
    learn.optimizer = torch.optim.SGD(follower.parameters(), lr=0.0)
    numbers = learn()

    def norm(part):
        return torch.cat([p.grad.flatten() for p in follower.get_submodule(part).parameters()]).norm().item()

    assert norm("encoder") == pytest.approx(1e-3, rel=1e-2)
    assert norm("decoder") == pytest.approx(1e-3, rel=1e-2)
    assert norm("critic") > 1e-2
    assert numbers["optimizer/decoder_gradient_norm"] > 1e-3
    assert numbers["optimizer/critic_gradient_norm"] == pytest.approx(norm("critic"), rel=1e-4)


def test_attention_is_kept_where_it_was_paid_and_without_gradient(tmp_path, monkeypatch):
    setting, world = toy_setting(tmp_path, monkeypatch)
    follower = build(num_words=setting.vocabulary.size)
    batch = setting.table("val_unseen").batch(torch.tensor([0, 1]))
    before = follower.start(batch.tokens, batch.length)
    assert before.looked is None
    assert before.read is None
    obs = world.observe(batch.viewpoint, batch.view)
    hidden = follower.step(obs, before)[2].detach()
    # A token whose encoding is the very query, and a view likewise, draw all attention.
    text, views = before.text.values.detach().clone(), obs.views.float().clone()
    text[0, 2] = 1000 * before.weights.text_in(hidden)[0]
    after = follower.step(obs, replace(before, text=replace(before.text, values=text)))[0]
    assert int(after.read[0].argmax()) == 2
    assert float(after.read[0, 2]) > 0.99
    views[1, 7] = 1000 * before.weights.views(before.attended)[1, :WIDTH].detach()
    after = follower.step(replace(obs, views=views), before)[0]
    assert float(after.looked[1, 7]) > 0.99
    for attention in (after.looked, after.read):
        torch.testing.assert_close(attention.sum(1), torch.ones(2))
        assert not attention.requires_grad
    padding = torch.arange(after.read.shape[1]) >= batch.length[:, None]
    assert padding.any()
    assert float(after.read[padding].max()) == 0


def test_attention_leaves_with_its_episodes(tmp_path, monkeypatch):
    setting, world = toy_setting(tmp_path, monkeypatch)
    follower = build(num_words=setting.vocabulary.size)
    batch = setting.table("val_unseen").batch(torch.arange(3))
    start = follower.start(batch.tokens, batch.length)
    assert start.select(torch.tensor([1])).read is None
    state = follower.step(world.observe(batch.viewpoint, batch.view), start)[0]
    kept = state.select(torch.tensor([2, 0]))
    assert torch.equal(kept.looked, state.looked[[2, 0]])
    assert torch.equal(kept.read, state.read[[2, 0], : kept.text.mask.shape[1]])
    elsewhere = state.with_memory(state.memory)  # what was attended to at another place is not known
    assert elsewhere.looked is None
    assert elsewhere.read is None
