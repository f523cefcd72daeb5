"""The captioning Transformer: its parts against other ways to compute them, caching, dropout, learning, writing."""

import math

import pytest
import torch
from torch import nn

from tests.captioner import SAID, build, generator, grids, half_taught, learn, rows
from vln_clip.normalization import ReferenceNorm
from vln_clip.tasks.captioning.models.decoding import greedy, said_mask, sample, sample_to_learn
from vln_clip.tasks.captioning.models.layers import Attention, RepeatableDropout, sinusoids
from vln_clip.tasks.captioning.models.losses import caption_loss
from vln_clip.tasks.captioning.models.transformer import MAX_POSITIONS


def captions(seed=0, shape=(3, 4, 7)):
    tokens = torch.randint(0, 12, shape, generator=generator(seed))
    tokens[..., 0] = 0
    return tokens


def test_the_reference_norm_has_an_unbiased_deviation_and_epsilon_outside_the_root():
    # (1, 2, 6): mean 3, squares 4 + 1 + 9 = 14, deviation √(14 / 2) = √7; then times 2 plus 1, 1 and 1.
    norm = ReferenceNorm(3, eps=0.5).double()
    with torch.no_grad():
        norm.weight.fill_(2.0)
        norm.bias.fill_(1.0)
    wanted = [2 * difference / (math.sqrt(7) + 0.5) + 1 for difference in (-2, -1, 3)]
    assert norm(torch.tensor([1.0, 2.0, 6.0], dtype=torch.double)).tolist() == pytest.approx(wanted)


def test_the_reference_norm_of_equal_entries_has_a_gradient():
    x = torch.full((2, 4), 3.0, requires_grad=True)
    ReferenceNorm(4)(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_positions_interleave_sine_and_cosine():
    # Width 4: frequencies 1 and 10000^(-2/4) = 0.01.
    wanted = [math.sin(3), math.cos(3), math.sin(0.03), math.cos(0.03)]
    assert sinusoids(5, 4)[3].tolist() == pytest.approx(wanted)


def test_attention_equals_the_one_of_pytorch():
    ours, plain = Attention(8, 2).double(), nn.MultiheadAttention(8, 2, batch_first=True).double()
    with torch.no_grad():
        plain.in_proj_weight.copy_(ours.inputs.weight)
        plain.in_proj_bias.copy_(ours.inputs.bias)
    plain.out_proj.load_state_dict(ours.output.state_dict())
    x, memory = (torch.randn(2, count, 8, dtype=torch.double) for count in (3, 5))
    wanted, _ = plain(x, memory, memory)
    torch.testing.assert_close(ours.mix(ours.queries(x), *ours.keys_and_values(memory)), wanted)
    # Without a weight dropped, the way of training is the same.
    mixed = ours.mix(ours.queries(x), *ours.keys_and_values(memory), drop=lambda weights: weights)
    torch.testing.assert_close(mixed, wanted)


def test_fresh_weights_are_xavier_uniform_but_for_the_visual_embedding():
    model = build(vocabulary_size=60, grid_width=24)
    # Xavier: √(6 / (in + out)). Width 16: queries, keys and values 16 + 16, feed-forward 16 + 32, words 16 + 60.
    for matrix, ends in [
        *[(part, 32) for part in model.decoder[1].image.inputs.weight.chunk(3)],
        (model.encoder[0].attention.output.weight, 32),
        (model.encoder[0].feed_forward.inner.weight, 48),
        (model.embedding.weight, 76),
        (model.words.weight, 76),
    ]:
        bound = math.sqrt(6 / ends)
        assert 0.9 * bound < matrix.abs().max().item() <= bound
    bound = math.sqrt(1 / 24)  # PyTorch's own: 1 / √in
    assert 0.9 * bound < model.visual.weight.abs().max().item() <= bound


@pytest.mark.parametrize("norm", ["torch", "reference"])
@pytest.mark.parametrize("dropped", [False, True])
def test_cached_words_equal_whole_captions(norm, dropped):
    model = build(norm=norm)
    memory, tokens = model.encode(grids(3)), captions()
    noise = RepeatableDropout(generator(), 9) if dropped else None
    with torch.no_grad():
        state = model.begin(memory, 4, 9)
        steps = torch.stack([model.step(tokens[..., now], state, noise) for now in range(7)], 2)
        torch.testing.assert_close(steps, model.decode(memory, tokens, noise), rtol=0, atol=1e-12)


def test_followed_captions_equal_whole_ones():
    """Captions that go on from others, as beams do, see the words of those."""
    model, tokens = half_taught(), captions(1, (2, 3, 5))
    memory = model.encode(grids(2))
    state = model.begin(memory, 3, 6)
    written = tokens[..., :0]
    for now in range(5):
        parents = torch.randint(0, 3, (2, 3), generator=generator(now)) if now else torch.arange(3).expand(2, 3)
        state.follow(parents)
        written = torch.cat([written.gather(1, parents[..., None].expand_as(written)), tokens[..., now, None]], -1)
        step = model.step(tokens[..., now], state)
        torch.testing.assert_close(step, model.decode(memory, written)[:, :, -1], rtol=0, atol=1e-12)


def test_later_words_and_padding_do_not_change_earlier_scores():
    model, tokens = build(), captions()
    other = tokens.clone()
    other[..., 4:] = 0
    grid = grids(3)
    torch.testing.assert_close(model(grid, tokens)[:, :, :4], model(grid, other)[:, :, :4], rtol=0, atol=1e-12)
    torch.testing.assert_close(model(grid, tokens[..., :4]), model(grid, other)[:, :, :4], rtol=0, atol=1e-12)


def test_an_image_and_a_caption_do_not_depend_on_those_beside_them():
    model, tokens, grid = build(), captions(), grids(3)
    together = model(grid, tokens)
    torch.testing.assert_close(model(grid[1:2], tokens[1:2, 2:3]), together[1:2, 2:3], rtol=0, atol=1e-12)


def test_half_precision_grids_are_taken():
    model = build()
    grid = grids(3).half()
    assert model.encode(grid).dtype == torch.double
    torch.testing.assert_close(model.encode(grid), model.encode(grid.double()))


def gradients(model, grid):
    tokens = rows(SAID)
    caption_loss(model(grid, tokens[..., :-1], generator()), tokens[..., 1:], said_mask(tokens[..., 1:])).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("norm", ["torch", "reference"])
def test_gradients_reach_every_parameter(norm):
    for name, gradient in gradients(build(norm=norm), grids()).items():
        assert torch.isfinite(gradient).all(), name
        assert gradient.any(), name


@pytest.mark.parametrize("norm", ["torch", "reference"])
def test_without_images_gradients_reach_every_parameter_but_what_chooses_among_cells(norm):
    """There is one cell: what the decoder looks for in the image does not matter."""
    for name, gradient in gradients(build(grid_width=None, norm=norm), None).items():
        assert torch.isfinite(gradient).all(), name
        assert gradient.any() or ".image_norm." in name, name


def test_dropout_comes_from_the_generator_alone():
    model, grid, tokens = build(), grids(3), captions()
    first, second, other = (model(grid, tokens, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.allclose(first, other)
    assert torch.equal(model(grid, tokens), model(grid, tokens))


@pytest.mark.parametrize("norm", ["torch", "reference"])
def test_one_batch_is_learned_by_heart_and_written_again(norm):
    model = build(norm=norm, dropout_p=0.0, visual_dropout_p=0.0)
    losses = learn(model, 120)
    # A guess among 12 indices costs log 12 = 2.5.
    assert losses[0] > 2
    assert losses[-1] < 0.1
    assert greedy(model, model.encode(grids()), 8).tokens.tolist() == rows(SAID)[..., 1:].tolist()


def test_without_images_all_captions_are_equal():
    model = build(grid_width=None)
    memory = model.encode(None, num_images=3)
    tokens = greedy(model, memory, 6).tokens
    assert memory.shape == (3, 1, 16)
    assert (tokens == tokens[:1]).all()


@pytest.mark.parametrize(
    ("grid_width", "shape", "message"),
    [
        (6, None, r"grid must be \(B, 6, h, w\), got None"),
        (6, (2, 5, 3, 3), r"grid must be \(B, 6, h, w\), got \(2, 5, 3, 3\)"),
        (6, (2, 9, 6), r"got \(2, 9, 6\)"),
        (None, (2, 6, 3, 3), r"grid must be None, as the model has no images, got \(2, 6, 3, 3\)"),
    ],
)
def test_grids_of_other_shapes_are_refused(grid_width, shape, message):
    with pytest.raises(ValueError, match=message):
        build(grid_width=grid_width).encode(None if shape is None else torch.zeros(shape))


def test_captions_longer_than_the_positions_are_refused():
    with pytest.raises(ValueError, match=f"at most {MAX_POSITIONS} words, got {MAX_POSITIONS + 1}"):
        build()(grids(1), torch.zeros(1, 1, MAX_POSITIONS + 1, dtype=torch.int64))


def test_widths_that_heads_cannot_share_are_refused():
    with pytest.raises(ValueError, match="multiple of num_heads=4, got 18"):
        build(width=18)


def test_greedy_captions_take_the_likeliest_word_after_each_prefix():
    model = half_taught()
    memory = model.encode(grids())
    found = greedy(model, memory, 6)
    for image, words in enumerate(found.tokens[:, 0].tolist()):
        for now, word in enumerate(words):
            log_prob = model.decode(memory[image : image + 1], torch.tensor([[[0, *words[:now]]]]))[0, 0, -1]
            assert word == log_prob.argmax().item()
            said = log_prob.log_softmax(-1)[word].item()
            assert found.log_prob[image, 0, now].item() == pytest.approx(said, abs=1e-5)
            if word == 0:
                assert not any(words[now:])
                assert not found.log_prob[image, 0, now + 1 :].any()
                break


def test_samples_follow_the_models_probabilities():
    model = half_taught()
    memory = model.encode(grids(1))
    words = sample(model, memory, 4000, generator(), max_words=1).tokens[0, :, 0]
    probability = model.decode(memory, torch.zeros(1, 1, 1, dtype=torch.int64))[0, 0, 0].softmax(-1)
    share = words.bincount(minlength=12) / 4000
    # Three standard deviations of a share p of 4000 draws are at most 3 · √(0.25 / 4000) = 0.024.
    torch.testing.assert_close(share.double(), probability, rtol=0, atol=0.024)


def test_a_low_temperature_is_greedy():
    model = half_taught()
    memory = model.encode(grids())
    drawn = sample(model, memory, 3, generator(), temperature=1e-4, max_words=8)
    wanted = greedy(model, memory, 8)
    assert (drawn.tokens == wanted.tokens).all()
    torch.testing.assert_close(drawn.log_prob, wanted.log_prob.expand_as(drawn.log_prob), atol=1e-6, rtol=1e-6)
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        sample(model, memory, 3, generator(), temperature=0)


def test_samples_come_from_the_generator_alone():
    model = half_taught()
    memory = model.encode(grids())
    first, second, other = (sample(model, memory, 3, generator(seed)).tokens for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_learning_samples_know_the_probabilities_they_were_drawn_with(monkeypatch):
    """The pass that has gradients sees the words and the dropout of the one that drew."""
    model = build(seed=3, dropout_p=0.3)
    learn(model, 30)
    drawn = []
    monkeypatch.setattr(
        "vln_clip.tasks.captioning.models.decoding.sample",
        lambda *args, **options: drawn.append(sample(*args, **options)) or drawn[-1],
    )
    found = sample_to_learn(model, grids(), 3, generator(), max_words=10)
    assert torch.equal(found.tokens, drawn[0].tokens)
    assert found.tokens.shape == (7, 3, 10)
    assert found.log_prob.requires_grad
    torch.testing.assert_close(found.log_prob.detach(), drawn[0].log_prob, atol=1e-5, rtol=1e-5)
    silent = model.decode(model.encode(grids()), torch.nn.functional.pad(found.tokens[..., :-1], (1, 0)))
    silent = silent.log_softmax(-1).gather(-1, found.tokens[..., None]).squeeze(-1)
    mask = said_mask(found.tokens)
    assert (silent - found.log_prob)[mask].abs().max() > 0.01  # dropout there was


def test_learning_samples_may_end_at_once():
    model = build()
    with torch.no_grad():
        model.words.bias[0] = 100.0
    found = sample_to_learn(model, grids(2), 2, generator(), max_words=5)
    assert not found.tokens.any()
    assert found.log_prob.shape == (2, 2, 5)
