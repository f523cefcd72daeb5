"""Heat maps: the gradient through the agent, what they mark, and what stops them."""

from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.toy_world import point_to
from vln_clip.encoders.base import Preprocess
from vln_clip.envs.episodes import EpisodeTable
from vln_clip.errors import InputError
from vln_clip.features import open_store
from vln_clip.setting import load_follower
from vln_clip.viewer.saliency import SaliencyMaker, _over_whole_views, add_saliency, decision_gradients, view_gradients
from vln_clip.viewer.tracing import trace_instruction, trace_rows

SPLIT = "val_unseen"


@pytest.fixture
def loaded(seeing, monkeypatch):
    point_to(seeing.folder, monkeypatch)
    return load_follower(seeing.runs / "toy", None, [SPLIT], torch.device("cpu"))


@pytest.fixture
def traces(loaded):
    return trace_rows(loaded, SPLIT, None, "toy")


class Shown:
    """A bank that shows given views."""

    name = "shown"

    def __init__(self, views):
        self.seen, self.width = views, views.shape[1]

    def views(self, index):
        return self.seen[None]


def first_step(loaded, trace):
    """Return state, viewpoint and view of a trace before its first decision."""
    setting, episode = loaded.setting, trace.episode
    tokens, length = setting.vocabulary.encode_batch([episode.instruction], setting.max_input, [episode.language])
    batch = EpisodeTable.compile([episode], setting.tables, tokens, length).batch(torch.tensor([0]))
    with torch.no_grad():
        return loaded.follower.start(batch.tokens, batch.length), batch.viewpoint, batch.view


def log_prob(loaded, state, viewpoint, view, action, seen):
    """Return the log-probability of an action with views (36, D) seen in place of the world's."""
    world = copy(loaded.world)
    world.bank = Shown(seen)
    with torch.no_grad():
        _, logits, _ = loaded.follower.step(world.observe(viewpoint, view), state)
    return float(logits.double().log_softmax(1)[0, action])


def test_the_gradient_by_the_views_is_that_of_finite_differences(loaded, traces):
    state, viewpoint, view = first_step(loaded, traces[0])
    seen = loaded.world.bank.views(viewpoint)[0].float()
    generator = torch.Generator().manual_seed(1)
    for action in range(int(loaded.world.degree[viewpoint]) + 1):
        _, gradient = view_gradients(loaded, state, viewpoint, view, action)
        direction = (
            gradient / gradient.norm() + 0.1 * torch.randn(seen.shape, generator=generator) / seen.numel() ** 0.5
        )
        ends = [log_prob(loaded, state, viewpoint, view, action, seen + 0.02 * sign * direction) for sign in (1, -1)]
        assert float((gradient * direction).sum()) == pytest.approx((ends[0] - ends[1]) / 0.04, rel=0.02)


def test_gradients_of_all_actions_weighted_by_probability_cancel(loaded, traces):
    # The sum over actions of p · d log p is the derivative of the sum of p, which is always 1.
    decision = traces[0].decisions[0]
    state, viewpoint, view = first_step(loaded, traces[0])
    gradients = [view_gradients(loaded, state, viewpoint, view, a)[1] for a in range(len(decision.probabilities))]
    total = sum(float(p) * gradient for p, gradient in zip(decision.probabilities, gradients, strict=True))
    assert float(total.abs().max()) < 1e-5
    assert max(float(gradient.abs().max()) for gradient in gradients) > 1e-3


def test_a_replay_remembers_what_came_before(loaded, traces):
    trace = max(traces, key=lambda trace: len(trace.decisions))
    gradients = decision_gradients(loaded, trace)
    assert len(gradients) == len(trace.decisions) > 1
    state, viewpoint, view = first_step(loaded, trace)
    for decision, gradient in zip(trace.decisions, gradients, strict=True):
        assert float(np.exp(log_prob(loaded, state, viewpoint, view, decision.action, views(loaded, viewpoint)))) == (
            pytest.approx(float(decision.probabilities[decision.action]), abs=1e-5)
        )
        state, expected = view_gradients(loaded, state, viewpoint, view, decision.action)
        assert torch.equal(gradient, expected)
        viewpoint, view = loaded.world.step(viewpoint, view, torch.tensor([decision.action]))


def views(loaded, viewpoint):
    return loaded.world.bank.views(viewpoint)[0].float()


def test_every_decision_gets_heat_maps_and_stays_as_it_was(loaded, traces):
    filled = add_saliency(traces[:3], loaded)
    for before, after in zip(traces, filled, strict=False):
        assert len(after.decisions) == len(before.decisions)
        for old, new in zip(before.decisions, after.decisions, strict=True):
            assert new.saliency.shape == (36, 6, 8)
            assert new.saliency.dtype == np.float32
            assert (new.saliency.min(), new.saliency.max()) == (0, 1)
            assert replace(new, saliency=None).probabilities is old.probabilities
    assert not np.allclose(filled[0].decisions[0].saliency, filled[1].decisions[0].saliency)  # other words


def test_forced_actions_are_explained_too(loaded):
    heading, text = 0.0, "Walk to the kitchen."
    given = [trace_instruction(loaded, "beta", "b1", heading, text, "en", (a,), False) for a in (0, 1)]
    one, other = (trace.decisions[0].saliency for trace in add_saliency(given, loaded))
    assert not np.allclose(one, other)


def test_covering_what_is_marked_takes_more_than_covering_as_much_elsewhere(loaded, traces):
    maker, losses = SaliencyMaker(loaded, int(traces[0].viewpoints[0])), []
    for trace in traces:
        state, viewpoint, view = first_step(loaded, trace)
        decision = maker.add(trace).decisions[0]
        marked = torch.from_numpy(decision.saliency)
        marked = marked >= marked.flatten().topk(86).values[-1]  # a twentieth
        cells = maker._pooled_with_map(int(viewpoint))[1].detach()

        def lost(mask, cells=cells, trace=trace, at=(state, viewpoint, view, decision.action)):
            mean = cells.mean((2, 3), keepdim=True)
            covered = torch.where(mask[:, None], mean, cells)
            seen = maker.encoder._pool(covered.permute(0, 2, 3, 1))
            return log_prob(loaded, *at, views(loaded, at[1])) - log_prob(loaded, *at, seen)

        elsewhere = [lost(marked.view(3, 12, 6, 8).roll(turn, 1).flatten(0, 1)) for turn in range(1, 12)]
        losses.append((lost(marked), np.mean(elsewhere)))
    marked_loss, other_loss = np.mean(losses, axis=0)
    assert marked_loss > 0.01
    assert marked_loss > 3 * abs(other_loss)


@pytest.mark.parametrize(
    ("transform", "shape", "expected"),
    [
        (Preprocess((96, 128), crop="squash"), (6, 8), (6, 8)),
        (Preprocess((96, 96), crop="squash"), (7, 7), (9, 12)),  # squares of the model are no squares of the view
        (Preprocess((96, 96)), (7, 7), (9, 12)),
        (Preprocess((96, 128), crop="full"), (3, 4), (3, 4)),
    ],
)
def test_maps_cover_whole_views_in_square_cells(transform, shape, expected):
    assert _over_whole_views(torch.ones(36, *shape), transform, (128, 96)).shape == (36, *expected)


def test_nothing_is_said_of_what_an_encoder_crops_away():
    # Of a view 128 wide, a square crop takes the middle 96: columns 16 to 112, cells 1.5 to 10.5 of 12.
    found = _over_whole_views(torch.ones(36, 9, 9), Preprocess((96, 96)), (128, 96))
    assert found.shape == (36, 9, 12)
    assert found[:, 4, [0, 11]].abs().max() == 0
    assert torch.allclose(found[:, 4, 2:10], torch.ones(36, 8))


def test_an_agent_that_sees_nothing_has_no_heat_maps(loaded, traces):
    with pytest.raises(InputError, match="--saliency needs an agent that sees"):
        add_saliency(traces[:1], replace(loaded, stores=[]))


def test_missing_skyboxes_are_told(loaded, traces, tmp_path):
    (tmp_path / "connectivity").symlink_to(loaded.setting.data / "connectivity")
    elsewhere = replace(loaded, setting=replace(loaded.setting, data=tmp_path))
    with pytest.raises(InputError, match=r"--saliency needs skyboxes, but .* has none of viewpoint b0 of beta"):
        add_saliency(traces[:1], elsewhere)


def test_features_of_another_making_are_told(loaded, traces):
    store = loaded.stores[0]
    other = replace(store, features=store.features.flip(2))
    with pytest.raises(InputError, match=r"does not make of the skyboxes here: they differ by \d+% at beta_b0"):
        add_saliency(traces[:1], replace(loaded, stores=[other]))


def test_features_of_no_encoder_are_told(loaded, traces):
    toy = open_store(loaded.setting.data / "features" / "toy.safetensors")
    with pytest.raises(InputError, match=r"--saliency needs the encoder of the features; toy: .*encoder"):
        add_saliency(traces[:1], replace(loaded, stores=[toy]))


def test_weights_that_are_not_here_are_told(loaded, traces, monkeypatch):
    monkeypatch.setenv("VLN_CLIP_OFFLINE", "1")
    store = loaded.stores[0]
    other = replace(store, header=replace(store.header, encoder="clip_rn50"))
    with pytest.raises(InputError, match="--saliency needs the encoder of the features; clip_rn50: the weights of"):
        add_saliency(traces[:1], replace(loaded, stores=[other]))


def test_of_features_side_by_side_the_first_with_a_map_is_shown(loaded, traces):
    # The agent reads [toy | pixels]: toy has no encoder, so the last 96 columns are explained.
    toy = open_store(loaded.setting.data / "features" / "toy.safetensors")
    maker = SaliencyMaker(replace(loaded, stores=[toy, loaded.stores[0]]), int(traces[0].viewpoints[0]))
    assert maker.columns == slice(8, 104)
    alone = SaliencyMaker(loaded, int(traces[0].viewpoints[0]))
    gradient = torch.randn(36, 96, generator=torch.Generator().manual_seed(0))
    both = torch.cat([torch.randn(36, 8), gradient], 1)
    place = int(traces[0].viewpoints[0])
    assert np.array_equal(maker.heat_maps(place, both), alone.heat_maps(place, gradient))
