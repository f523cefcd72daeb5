"""The speaker and a back-translation rollout against the unmodified reference."""

import numpy as np
import pytest
import torch

from tests.golden import SHARED, array, load_arrays, load_json, needs_shared
from tests.test_golden_follower import (
    RecordedFeatures,
    build_batch,
    build_follower,
    check_gradients,
    check_steps,
    check_trajectories,
)
from vln_clip.agents.speaker import Speaker, as_instruction
from vln_clip.connectivity import NavTables
from vln_clip.envs.navigation import Navigation
from vln_clip.losses import imitation_loss, word_loss
from vln_clip.rollout import roll_out, teacher_forced

pytestmark = needs_shared


@pytest.fixture(scope="module")
def trace():
    return load_json("speaker_trace.json.gz")


@pytest.fixture(scope="module")
def setting(trace):
    items = trace["meta"]["batch"]
    tables = NavTables.load(SHARED / "data" / "connectivity", sorted({i["scan"] for i in items}), cache=False)
    world = Navigation(tables, RecordedFeatures(load_arrays("speaker_features.npz"), tables))
    return world, build_batch(items, tables), [i["instr_id"] for i in items]


@pytest.fixture
def speaker():
    weights = load_arrays("speaker_weights.npz")
    speaker = Speaker(992, 16, angle_width=8, word_width=16, hidden_width=32, dropout_p=0.0, feature_dropout_p=0.0)
    names = {name: "speaker_" + name for name in speaker.state_dict()}
    speaker.load_state_dict({name: torch.from_numpy(weights[theirs]) for name, theirs in names.items()})
    return speaker


def test_teacher_forcing_equals_the_reference(trace, setting, speaker):
    run = trace["runs"]["teacher_forcing"]
    world, batch, _ = setting
    walk = world.observe_walk(batch)
    context = speaker.encoder(walk, None, None)
    np.testing.assert_allclose(context.detach().numpy(), array(run["context"]), atol=1e-5)
    logits = speaker(walk, batch.tokens, batch.length)
    loss = word_loss(logits, batch.tokens)
    loss.backward()
    assert loss.item() == pytest.approx(run["loss"], rel=1e-5)
    real = (batch.tokens != 0).numpy()
    L = real.shape[1]
    assert (logits.argmax(-1).numpy() == np.array(run["logits_argmax"])[:, :L])[real].all()
    np.testing.assert_allclose(
        logits.logsumexp(-1).detach().numpy()[real], array(run["logsumexp"])[:, :L][real], atol=1e-4
    )
    np.testing.assert_allclose(
        logits[:, 0, :8].detach().numpy(), array(run["logits_first_word_first8"]).reshape(-1, 8), atol=1e-4
    )
    for name, wanted in run["grad_norms"].items():
        parameter = dict(speaker.named_parameters())[name.removeprefix("speaker_")]
        assert float(parameter.grad.norm()) == pytest.approx(wanted, rel=1e-3), name


def test_greedy_words_equal_the_reference(trace, setting, speaker):
    world, batch, _ = setting
    words = speaker.describe(world.observe_walk(batch), 40)
    assert words.tolist() == [row[: words.shape[1]] for row in trace["runs"]["greedy"]["words"]]


def test_back_translation_rollout_equals_the_reference(trace, setting, speaker):
    run = trace["runs"]["back_translation"]
    world, batch, instr_ids = setting
    noise = torch.from_numpy(array(run["noise"]).astype(np.float32))
    words = speaker.describe(world.observe_walk(batch), 40, noise)
    assert words.tolist() == [row[: words.shape[1]] for row in run["generated_words"]]
    batch.tokens, batch.length = as_instruction(words, speaker.bos)
    assert batch.tokens.tolist() == run["instr_encoding"]
    follower = build_follower(load_arrays("speaker_weights.npz"))
    record = roll_out(world, follower, batch, teacher_forced, 12, noise=noise, keep_logits=True)
    loss = 0.6 * imitation_loss(record.teacher_log_prob, record.mask)
    loss.backward()
    assert loss.item() == pytest.approx(run["loss"], rel=1e-4)
    check_steps(record, run, instr_ids)
    check_gradients(follower, run)
    check_trajectories(record, run, instr_ids, world)
