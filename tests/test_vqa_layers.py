"""The blocks of the VQA models against hand-computed numbers and against the plain modules they equal."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.toy_vqa import copy_attention, copy_layer
from vln_clip.normalization import ReferenceNorm
from vln_clip.tasks.vqa.models.inputs import ImageInput, WordLSTM
from vln_clip.tasks.vqa.models.layers import (
    AttentionPool,
    GuidedLayer,
    MultiHeadAttention,
    SelfAttentionLayer,
    padding_bias,
)
from vln_clip.tasks.vqa.models.movie import Movie, MovieBottleneck, SqueezeExcite
from vln_clip.tasks.vqa.models.movie_mcan import BranchFusion
from vln_clip.tasks.vqa.models.pythia import ImageAttention, NormedLinear, QuestionAttention

MASK = torch.tensor([[True, True, True], [True, False, False]])
KEEPS_ALL = 1e-6  # a dropout that rounds to none, but takes the way of training


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def randn(*shape):
    return torch.randn(*shape, dtype=torch.double)


def test_std_layer_norm_divides_by_the_unbiased_deviation_plus_epsilon():
    norm = ReferenceNorm(2, eps=0.5).double()
    # Mean 2, deviations -1 and 1, unbiased variance 2 / (2 - 1): ±1 / (√2 + 0.5).
    wanted = 1 / (math.sqrt(2) + 0.5)
    torch.testing.assert_close(norm(torch.tensor([1.0, 3.0]).double()), torch.tensor([-wanted, wanted]).double())


def test_std_layer_norm_of_equal_entries_is_zero_with_finite_gradients():
    x = torch.full((1, 3), 7.0, requires_grad=True)
    y = ReferenceNorm(3)(x)
    (y * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert y.tolist() == [[0, 0, 0]]
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("training", [False, True])
def test_attention_equals_the_plain_module(training):
    ours = MultiHeadAttention(8, 2, KEEPS_ALL).double()
    plain = nn.MultiheadAttention(8, 2, batch_first=True).double()
    copy_attention(ours, plain)
    x, context = randn(2, 5, 8), randn(2, 3, 8)
    generator = torch.Generator() if training else None
    found = ours(x, context, padding_bias(MASK, x.dtype), generator)
    torch.testing.assert_close(found, plain(x, context, context, key_padding_mask=~MASK)[0])


def test_attention_weights_are_dropped_in_training():
    attention = MultiHeadAttention(4, 1, 0.5).double()
    nn.init.eye_(attention.value.weight)
    nn.init.eye_(attention.output.weight)
    for part in (attention.value, attention.output):
        nn.init.zeros_(part.bias)
    context = torch.ones(1, 1, 4, dtype=torch.double)
    # One key has weight 1: kept it is scaled to 2, dropped it is 0, for all entries of a query alike.
    found = attention(randn(1, 200, 4), context, None, torch.Generator().manual_seed(0))
    assert (found == found[..., :1]).all()
    assert set(found.flatten().tolist()) == {0.0, 2.0}


def test_a_width_that_heads_cannot_share_is_refused():
    with pytest.raises(ValueError, match="width must be a multiple of the number of heads, 3, got 8"):
        MultiHeadAttention(8, 3, 0.1)


def test_self_attention_layer_normalizes_after_the_residual():
    ours = SelfAttentionLayer(8, 2, 16, KEEPS_ALL).double()
    plain = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=False).double()
    copy_layer(ours, plain)
    x = randn(2, 3, 8)
    found = ours(x, padding_bias(MASK, x.dtype), None)
    torch.testing.assert_close(found, plain.train()(x, src_key_padding_mask=~MASK))


def test_guided_layer_looks_at_itself_then_at_its_guide():
    ours = GuidedLayer(8, 2, 16, KEEPS_ALL).double()
    plain = nn.TransformerDecoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=False).double()
    copy_layer(ours, plain)
    copy_attention(ours.guidance, plain.multihead_attn)
    x, guide = randn(2, 5, 8), randn(2, 3, 8)
    found = ours(x, guide, None, padding_bias(MASK, x.dtype), None)
    torch.testing.assert_close(found, plain(x, guide, memory_key_padding_mask=~MASK))


def test_layers_take_another_normalization():
    layer = GuidedLayer(8, 2, 16, 0.1, ReferenceNorm)
    assert [type(norm) for norm in layer.norms] == [ReferenceNorm] * 3


def test_attention_pool_weighs_with_a_network_of_two_layers():
    pool = AttentionPool(2, 2, 2, 0.1).double()
    with torch.no_grad():
        pool.hidden.weight.copy_(torch.eye(2))
        pool.hidden.bias.zero_()
        pool.score.weight.copy_(torch.tensor([[math.log(3), 0.0], [0.0, 0.0]]))
        pool.score.bias.zero_()
    x = torch.tensor([[[1.0, 0.0], [-1.0, 4.0], [9.0, 9.0]]]).double()
    mask = torch.tensor([[True, True, False]])
    # Hidden layers relu(1, 0) and relu(-1, 4); scores of glimpse 0: ln 3 and 0, so 3/4 and 1/4; of glimpse 1 even.
    means, weights = pool(x, mask, None)
    torch.testing.assert_close(weights, torch.tensor([[[0.75, 0.25, 0.0], [0.5, 0.5, 0.0]]]).double())
    torch.testing.assert_close(means, torch.tensor([[[0.5, 1.0], [0.0, 2.0]]]).double())


def test_attention_pool_of_padding_alone_is_even():
    _, weights = AttentionPool(2, 2, 1, 0.1)(torch.randn(1, 4, 2), torch.zeros(1, 4, dtype=torch.bool), None)
    assert weights.tolist() == [[[0.25] * 4]]


def test_normed_linear_has_one_length_for_the_whole_matrix():
    layer = NormedLinear(2, 2).double()
    state = {
        "linear.bias": torch.tensor([1.0, -100.0]),
        "linear.parametrizations.weight.original0": torch.tensor(10.0),
        "linear.parametrizations.weight.original1": torch.tensor([[3.0, 0.0], [0.0, 4.0]]),
    }
    layer.load_state_dict(state)
    # The matrix has length 5 and is brought to 10: rows (6, 0) and (0, 8). A length per row would give 10 and 10.
    assert layer(torch.tensor([1.0, 1.0]).double()).tolist() == [7.0, 0.0]  # relu of 6 + 1 and 8 - 100


@pytest.mark.parametrize(("mask_padding", "wanted"), [(False, [3.0, 3.0]), (True, [2.0, 2.0])])
def test_question_attention_reads_padding_unless_told_not_to(mask_padding, wanted):
    attention = QuestionAttention(1, 2, 2, mask_padding)
    nn.init.zeros_(attention.score.weight)  # even weights
    words, mask = torch.tensor([[[1.0], [3.0], [5.0]]]), torch.tensor([[True, True, False]])
    # Of 1, 3 and a padding of 5 the mean is 3; without the padding it is 2. Two glimpses stand side by side.
    torch.testing.assert_close(attention(words, mask), torch.tensor([wanted]))


def test_image_attention_equals_the_product_laid_out():
    attention = ImageAttention(5, 4, 6, KEEPS_ALL).double()
    cells, question = randn(2, 7, 5), randn(2, 4)
    product = attention.image(cells) * attention.question(question)[:, None]
    wanted = attention.score(product).squeeze(2).softmax(1)
    torch.testing.assert_close(attention(cells, question, None), wanted)
    torch.testing.assert_close(attention(cells, question, torch.Generator()), wanted)


def test_squeeze_excite_weighs_channels_then_cells():
    block = SqueezeExcite(4).double()
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).double().view(1, 4, 1, 1).repeat(1, 1, 1, 2)
    x[..., 1] = 0
    with torch.no_grad():
        block.squeeze.weight.fill_(0.2)  # channel means 0.5, 1, 1.5, 2: one hidden unit of 0.2 · 5 = 1
        block.excite.weight.copy_(torch.tensor([[0.0], [0.0], [math.log(3)], [0.0]]))  # σ(0) = 1/2, σ(ln 3) = 3/4
        block.gate.weight.zero_()
        block.gate.weight[0, 0, 3, 3] = math.log(3) / 1.4375
    # Channels become 0.5, 1, 2.25, 2, of mean 1.4375 at the first cell: gate σ(ln 3) = 3/4. The second cell is 0.
    wanted = torch.tensor([0.375, 0.75, 1.6875, 1.5]).double()
    torch.testing.assert_close(block(x)[0, :, 0, 0], wanted)
    assert not block(x)[..., 1].any()


def plain_bottleneck(block, x, question):
    """What a bottleneck computes, convolution by convolution."""
    weighed = x * block.weigh(question)[:, :, None, None]
    reduced = F.conv2d(x, block.reduce.weight[..., None, None])
    modulation = F.conv2d(weighed, block.reduce_weighed.weight[..., None, None], block.reduce_weighed.bias)
    hidden = torch.relu(F.conv2d(torch.relu(reduced + modulation), block.convolve.weight, padding=1))
    out = block.excite(F.conv2d(hidden, block.expand.weight))
    return torch.relu(out + (x if block.shortcut is None else F.conv2d(x, block.shortcut.weight)))


@pytest.mark.parametrize(("in_width", "shortcut"), [(5, True), (8, True), (8, False)])
def test_bottleneck_equals_its_convolutions_one_by_one(in_width, shortcut):
    block = MovieBottleneck(in_width, 3, 8, 4, shortcut).double()
    x, question = randn(2, in_width, 4, 3).requires_grad_(), randn(2, 4).requires_grad_()
    found, wanted = block(x, question), plain_bottleneck(block, x, question)
    torch.testing.assert_close(found, wanted)
    inputs = [x, question, *block.parameters()]
    factor = torch.randn_like(found)
    gradients = [torch.autograd.grad((y * factor).sum(), inputs) for y in (found, wanted)]
    torch.testing.assert_close(*gradients)


def test_movie_averages_the_image_and_normalizes():
    movie = Movie(5, 3, 8, 4, num_blocks=2).double()
    image, question = randn(2, 5, 4, 3), randn(2, 4)
    x = movie.blocks[1](movie.blocks[0](image, question), question)
    torch.testing.assert_close(movie(image, question), F.layer_norm(x.mean((2, 3)), [8]))
    assert [block.shortcut is None for block in movie.blocks] == [False, True]


def test_branches_see_all_the_movie_view_and_the_attended_view():
    fusion = BranchFusion(3, 4).double()
    inputs = [randn(2, 3).requires_grad_() for _ in range(3)]  # question, movie, attended
    factor = randn(2, 4)
    seen = []
    for branch in fusion(*inputs):
        gradients = torch.autograd.grad((branch * factor).sum(), inputs, retain_graph=True, allow_unused=True)
        seen.append([gradient is not None for gradient in gradients])
    assert seen == [[True, True, True], [False, True, False], [True, False, True]]
    linear = fusion.all_question(inputs[0]) + fusion.all_movie(inputs[1]) + fusion.all_attended(inputs[2])
    torch.testing.assert_close(fusion(*inputs)[0], F.layer_norm(linear, [4]))


def test_grid_stands_in_the_corner_of_its_padding():
    image = ImageInput(1, pad_to=3)(torch.tensor([[[[1.0, 2.0]]]], dtype=torch.float16), 1)
    assert image.dtype == torch.float32
    assert image.tolist() == [[[[1, 2, 0], [0, 0, 0], [0, 0, 0]]]]


def test_no_image_is_one_learned_cell():
    entry = ImageInput(3, pad_to=32)
    nn.init.normal_(entry.no_image)
    image = entry(None, 2)
    assert image.shape == (2, 3, 1, 1)
    assert (image[:, :, 0, 0] == entry.no_image).all()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (2, 3, 4, 4),
            r"grid must be \(2, 5, h, w\), one of the encoder's width for each question, got \(2, 3, 4, 4\)",
        ),
        ((1, 5, 4, 4), r"grid must be \(2, 5, h, w\).*got \(1, 5, 4, 4\)"),
        ((2, 5, 16), r"grid must be \(2, 5, h, w\).*got \(2, 5, 16\)"),
        ((2, 5, 9, 4), "grid must be at most pad_to = 8 cells high and wide, got 9 × 4"),
    ],
)
def test_grids_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        ImageInput(5, pad_to=8)(torch.zeros(shape), 2)


def test_word_vectors_are_where_training_begins():
    vectors = torch.arange(6.0).view(3, 2) + 1
    words = WordLSTM(3, 2, 4, vectors)
    assert words.embedding.weight.tolist() == [[0, 0], [3, 4], [5, 6]]  # padding is zero
    assert words.embedding.weight.requires_grad
    words(torch.tensor([[1, 2, 0]])).sum().backward()
    assert words.embedding.weight.grad[0].tolist() == [0, 0]
    assert words.embedding.weight.grad[1:].all()


def test_word_vectors_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"word_vectors must be \(3, 2\), words by word_width, got \(3, 5\)"):
        WordLSTM(3, 2, 4, torch.zeros(3, 5))


@pytest.mark.parametrize("shape", [(2, 0), (3,)])
def test_tokens_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"tokens must be \(B, L\) with L at least 1"):
        WordLSTM(3, 2, 4, None)(torch.zeros(shape, dtype=torch.int64))
