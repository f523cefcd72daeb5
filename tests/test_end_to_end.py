"""Training the encoder with the follower: gradients, memory, what is kept, and what is refused."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.test_follower import build, learner
from tests.tiny_clip import NAME, stand_in
from tests.toy_world import toy_setting
from vln_clip.config import EncoderConfig, TrainConfig, parse
from vln_clip.encoders import create_encoder
from vln_clip.end_to_end import PICTURES, free_parameters, open_views, require_encoder, with_encoder
from vln_clip.envs.navigation import Navigation
from vln_clip.errors import InputError
from vln_clip.features.encoded import EncodedViews
from vln_clip.setting import TRAIN

NUM_VIEWPOINTS = 16 + 5  # of the toy buildings


class NoiseViews:
    """Rendered views of random noise, small ones; notes which were read."""

    def __init__(self):
        generator = torch.Generator().manual_seed(3)
        self.pictures = torch.randint(0, 256, (NUM_VIEWPOINTS, 36, 3, 32, 32), generator=generator, dtype=torch.uint8)
        self.read_rows = []

    def read(self, index):
        self.read_rows += index
        return self.pictures[list(index)]


def tower(patch, kind="resnet"):
    """A tiny encoder whose statistics and norms are not the initial ones."""
    stand_in(patch, kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        encoder = create_encoder(NAME, False)
        for module in encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.data.uniform_(0.5, 1.5)  # the last ones of blocks are made zero
    free_parameters(encoder, norms=False)
    return encoder


class OneGraph(EncodedViews):
    """The same bank in one graph, from pictures to losses: what two passes must equal."""

    def views(self, index):
        for row in set(index.tolist()) - self._features.keys():
            self._features[row] = self._encode(self.rendered.pictures[row])
        return torch.stack([self._features[row] for row in index.tolist()])


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield toy_setting(tmp_path_factory.mktemp("world"), patch)[0]


def learner_through(bank, toy, batch_size=3, **config):
    """A small learner in the toy world that sees through a bank."""
    world = Navigation(toy.tables, bank)
    return learner(world, build(feature_width=bank.width), toy.table(TRAIN), batch_size, **config)


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_equal_gradients(own, direct):
    """Compare by the largest entry; a bias of attention's keys has but rounding errors."""
    assert own.keys() == direct.keys()
    for name, value in own.items():
        if name.endswith("k_proj.bias"):
            continue
        torch.testing.assert_close(
            value, direct[name], rtol=1e-3, atol=1e-4 * float(direct[name].abs().max()), msg=name
        )


@pytest.mark.parametrize(
    ("kind", "rollout", "micro_batch"),
    [("resnet", "imitation", 20), ("resnet", "reinforcement", 100), ("vit", "imitation", 36)],
)
def test_two_passes_give_the_gradients_of_one_graph(toy, monkeypatch, kind, rollout, micro_batch):
    found = []
    for make in (EncodedViews, OneGraph):
        bank = make(tower(monkeypatch, kind), NoiseViews(), micro_batch)
        learn = learner_through(bank, toy, feedback="teacher" if rollout == "imitation" else "sample")
        learn.ml_weight = 0.0
        bank.begin_step()
        learn.accumulate()
        if make is EncodedViews:
            bank.backward()
        found += [gradients(bank.encoder), gradients(learn.follower)]
    assert_equal_gradients(found[0], found[2])
    assert_equal_gradients(found[1], found[3])
    frozen = {name for name, parameter in bank.encoder.named_parameters() if not parameter.requires_grad}
    assert found[0].keys() == {name for name, _ in bank.encoder.named_parameters()} - frozen
    assert all(float(value.abs().max()) > 0 for name, value in found[0].items() if "k_proj.bias" not in name)


def test_gradients_of_several_rollouts_add_up(toy, monkeypatch):
    both, parts = (learner_through(EncodedViews(tower(monkeypatch), NoiseViews(), 36), toy) for _ in range(2))
    both.world.bank.begin_step()
    both.accumulate()
    both.world.bank.backward()
    for work in (lambda: parts.imitate(parts._draw(), parts.ml_weight), lambda: parts.reinforce(parts._draw())):
        parts.world.bank.begin_step()
        work()
        parts.world.bank.backward()
    assert_equal_gradients(*(gradients(learn.world.bank.encoder) for learn in (both, parts)))


def peak_bytes(toy, patch, batch_size, micro_batch):
    """Return the most bytes that graphs kept of the encoder at once in one step."""
    bank = EncodedViews(tower(patch), NoiseViews(), micro_batch)
    learn = learner_through(bank, toy, batch_size, feedback="teacher")
    kept = SimpleNamespace(now=0, peak=0)

    class Kept:
        def __init__(self, tensor):
            self.tensor = tensor
            kept.now += tensor.nbytes
            kept.peak = max(kept.peak, kept.now)

        def __del__(self):
            kept.now -= self.tensor.nbytes

    encode = bank._encode

    def watched(images):
        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda held: held.tensor):
            return encode(images)

    bank._encode = watched
    bank.begin_step()
    learn.accumulate()
    assert kept.peak == 0  # the first pass keeps nothing
    bank.backward()
    assert kept.now == 0
    return kept.peak, bank.num_encoded


def test_memory_is_that_of_a_micro_batch_whatever_the_batch(toy, monkeypatch):
    small, few = peak_bytes(toy, monkeypatch, 1, 36)
    large, many = peak_bytes(toy, monkeypatch, 4, 36)
    half, _ = peak_bytes(toy, monkeypatch, 1, 18)
    assert many > 2 * few
    assert small == large
    assert half < 0.6 * large  # but for the weights that are kept too


def test_a_step_encodes_each_visited_viewpoint_once_and_reads_it_twice(toy, monkeypatch):
    views = NoiseViews()
    bank = EncodedViews(tower(monkeypatch), views, 36)
    learn = with_encoder(learner_through(bank, toy, feedback="teacher"), bank, lr=1e-3)
    table = toy.table(TRAIN)
    order = learn.learner.sampler.state()
    batch = table.batch(learn.learner.sampler.next())
    learn.learner.sampler.restore(order)
    visited = set(learn.learner.world.walk(batch)[0].flatten().tolist())
    numbers = learn()
    assert sorted(views.read_rows) == sorted([*visited, *visited])
    assert numbers[PICTURES] == 36 * len(visited)


def test_a_step_moves_both_models_and_keeps_statistics(toy, monkeypatch):
    bank = EncodedViews(tower(monkeypatch), NoiseViews(), 36)
    learn = with_encoder(learner_through(bank, toy), bank, lr=1e-3)
    before = {name: value.clone() for name, value in bank.encoder.state_dict().items()}
    follower = {name: value.clone() for name, value in learn.learner.follower.state_dict().items()}
    numbers = learn()
    norms = {name for name, module in bank.encoder.named_modules() if isinstance(module, nn.BatchNorm2d)}
    moved = {name for name, value in bank.encoder.state_dict().items() if not torch.equal(value, before[name])}
    learned = {name for name, parameter in bank.encoder.named_parameters() if parameter.requires_grad}
    assert moved == learned
    assert not {name.rpartition(".")[0] for name in moved} & norms
    assert any(not torch.equal(value, follower[name]) for name, value in learn.learner.follower.state_dict().items())
    assert numbers["optimizer/tower_gradient_norm"] > 0
    # Adam's first step is the learning rate in the direction of the gradient.
    step = (bank.encoder.visual.conv1.weight.detach() - before["visual.conv1.weight"]).abs()
    assert float(step.max()) == pytest.approx(1e-3, rel=1e-2)


def test_features_follow_the_weights_and_are_kept_between_steps(toy, monkeypatch):
    views = NoiseViews()
    bank = EncodedViews(tower(monkeypatch), views, 36)
    learn = with_encoder(learner_through(bank, toy), bank, lr=1e-2)
    index = torch.tensor([3, 0, 3])
    before = bank.views(index)
    assert torch.equal(before[0], before[2])
    assert not before.requires_grad
    count = len(views.read_rows)
    assert torch.equal(bank.views(index), before)
    assert len(views.read_rows) == count
    learn()
    assert not torch.allclose(bank.views(index), before)


def test_norms_learn_only_when_asked_for(monkeypatch):
    encoder = tower(monkeypatch)
    frozen = [name for name, parameter in encoder.named_parameters() if not parameter.requires_grad]
    assert len(frozen) == 2 * sum(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())
    free_parameters(encoder.train(), norms=True)
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    assert not any(module.training for module in encoder.modules())


# Bad input.

NAMES = {
    "none": "a blind agent",
    "clip_rn50+clip_vit_b32": "several encoders",
    "x/features.safetensors": "a file of features",
}


@pytest.mark.parametrize("features", NAMES)
def test_only_one_encoder_can_be_trained(features):
    with pytest.raises(InputError, match=f"--train-encoder needs one encoder .*, which is {NAMES[features]}; name"):
        require_encoder(features)


def settings_with(features):
    return TrainConfig(features=features, encoder=EncoderConfig(train_encoder=True))


def test_features_without_pictures_are_not_enough(toy):
    told = r"needs the pictures of every building, .* got none of 3 of 3, e.g. alpha, in .*scans; Matterport3D's can be"
    with pytest.raises(InputError, match=told):
        open_views(settings_with("clip_rn50"), toy.data, toy.tables, torch.device("cpu"))


@pytest.mark.parametrize(("name", "value"), [("encoder_lr", 0.0), ("encoder_micro_batch", 0)])
def test_numbers_must_be_positive(name, value):
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} must be positive, got 0"):
        EncoderConfig(**{name: value})


def test_back_translation_comes_afterwards():
    told = r"--train-encoder trains follower and encoder alone, got --bt too; .* --features tower:RUN/checkpoints/"
    with pytest.raises(InputError, match=told):
        TrainConfig(bt=True, encoder=EncoderConfig(train_encoder=True))


def test_the_flag_names_the_run_and_is_off_by_default():
    config = parse(["--dataset", "r2r", "--train-encoder"], lambda name: name)
    assert config.run_name == "r2r_clip_rn50x4_end_to_end"
    assert not TrainConfig().encoder.train_encoder
