"""The VQA models as wholes: sizes, invariances, gradients, what they can learn."""

import pytest
import torch

from tests.toy_vqa import SIZES, TOKENS, A, C, V, build, grids
from vln_clip.normalization import ReferenceNorm
from vln_clip.tasks.vqa.models import RECIPES, build_vqa_model, make_optimizer, vqa_loss

BRANCHES = {"pythia": 1, "movie_mcan": 3, "mcan_small": 1}
NAMES = list(SIZES)
EMPTY = torch.zeros(1, 5, dtype=torch.int64)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_models_answer_and_show_where_they_looked(name, dtype):
    found = build(name)(TOKENS, grids(dtype=dtype))
    assert [(tuple(logits.shape), logits.dtype) for logits in found.logits] == [((3, A), torch.float32)] * BRANCHES[
        name
    ]
    assert found.answer_logits is found.logits[0]
    assert found.attention.shape == (3, 3, 4)
    assert not found.attention.requires_grad
    share = found.attention.sum((1, 2))
    if name == "movie_mcan":  # 12 of 25 cells are the grid's
        assert ((share > 0) & (share < 1)).all()
    else:
        torch.testing.assert_close(share, torch.ones(3))


# Parameters of the reference's sizes with 1 000 words, a grid of 2 560 channels (RN50x4) and 3 129 answers, in and out
# of each matrix with its bias:
#   LSTM(300 → d): 4 d (300 + d) + 8 d;  attention: 4 (d² + d);  feed-forward: 2 d f + f + d;  LayerNorm: 2 d.
#   Normed linear layers have one number more than plain ones.
PYTHIA = {
    "words": 300_000 + 5_431_296,
    "question_attention": 524_288 + 512 + 1_024 + 2,
    "image_input": 2_560,
    "image_attention": (12_800_000 + 5_001) + (10_240_000 + 5_001) + 5_001,
    "image_fusion": 12_805_001,
    "question_fusion": 10_245_001,
    "text_classifier": (1_500_000 + 301) + (938_700 + 3_129),
    "image_classifier": (25_000_000 + 5_001) + (15_645_000 + 3_129),
}
# A MoVie block from c channels: 256 c; 1024 c + c; 256 c + 256; 9 · 256²; 256 · 1024; 2 · 1024 · 256 + 49; the first
# also 1024 c. With c = 2560 that is 7 932 721, with c = 1024 it is 2 950 449.
MOVIE_MCAN = {
    "words": 300_000 + 5_431_296,
    "question_layers": 6 * (4_198_400 + 8_393_728 + 2 * 2_048),
    "question_pool": 524_288 + 512 + 1_024 + 2,
    "image_input": 2_560,
    "cells": 2_621_440 + 1_024,
    "image_layers": 6 * (2 * 4_198_400 + 8_393_728 + 3 * 2_048),
    "image_pool": 524_288 + 512 + 512 + 1,
    "movie": 7_932_721 + 3 * 2_950_449 + 2_048,
    "fusion": 6 * (2_097_152 + 2_048) + 3 * 4_096,
    "classifiers": 3 * (6_408_192 + 3_129),
}
MCAN_SMALL = {
    "words": 300_000 + 1_667_072,
    "question_layers": 6 * (1_050_624 + 2_099_712 + 2 * 1_024),
    "question_pool": 262_144 + 512 + 512 + 1,
    "question_fusion": 524_288 + 1_024,
    "image_input": 2_560,
    "cells": 1_310_720 + 512,
    "image_layers": 6 * (2 * 1_050_624 + 2_099_712 + 3 * 1_024),
    "image_pool": 263_169,
    "image_fusion": 525_312,
    "norm": 2_048,
    "classifier": 3_204_096 + 3_129,
}
MCAN_LARGE = {
    "words": 300_000 + 5_431_296,
    "question_layers": 6 * (4_198_400 + 8_393_728 + 2 * 2_048),
    "question_pool": 525_313,
    "question_fusion": 2_097_152 + 2_048,
    "image_input": 2_560,
    "cells": 2_622_464,
    "image_layers": 6 * (2 * 4_198_400 + 8_393_728 + 3 * 2_048),
    "image_pool": 525_313,
    "image_fusion": 2_099_200,
    "norm": 4_096,
    "classifier": 6_408_192 + 3_129,
}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("pythia", PYTHIA), ("movie_mcan", MOVIE_MCAN), ("mcan_small", MCAN_SMALL), ("mcan_large", MCAN_LARGE)],
)
def test_default_sizes_are_those_of_the_reference(name, wanted):
    with torch.device("meta"):
        model = build_vqa_model(name, 1_000, 2_560, 3_129)
    found = {part: sum(p.numel() for p in module.parameters()) for part, module in model.named_children()}
    assert found == wanted


def test_only_openvqa_normalizes_by_the_unbiased_deviation():
    kinds = {name: {type(m) for m in build(name).modules() if "Norm" in type(m).__name__} for name in NAMES}
    assert kinds["mcan_small"] == {ReferenceNorm}
    assert kinds["movie_mcan"] == {torch.nn.LayerNorm}


def test_unknown_model_is_refused():
    with pytest.raises(ValueError, match="must be one of pythia, movie_mcan, mcan_small, mcan_large, got 'butd'"):
        build_vqa_model("butd", V, C, A)


@pytest.mark.parametrize("name", NAMES)
def test_answers_do_not_depend_on_the_batch(name):
    model, grid = build(name).double(), grids().double()
    together = model(TOKENS, grid)
    alone = [model(TOKENS[i : i + 1], grid[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together.answer_logits, torch.cat([one.answer_logits for one in alone]))
    torch.testing.assert_close(together.attention, torch.cat([one.attention for one in alone]))


@pytest.mark.parametrize(
    ("name", "options", "same"),
    [
        ("pythia", {}, False),
        ("pythia", {"mask_padding": True}, True),
        ("movie_mcan", {}, True),
        ("mcan_small", {}, True),
    ],
)
def test_padding_of_questions_changes_answers_of_pythia_alone(name, options, same):
    model, grid = build(name, **options).double(), grids().double()
    longer = torch.cat([TOKENS, torch.zeros(3, 4, dtype=torch.int64)], 1)
    short, long = (model(tokens, grid).answer_logits for tokens in (TOKENS, longer))
    assert torch.allclose(short, long) == same


def test_cells_of_zeros_are_no_cells_to_mcan():
    model, grid = build("mcan_small").double(), grids().double() + 0.1
    padded = torch.nn.functional.pad(grid, (0, 2, 0, 3))
    found, wanted = model(TOKENS, padded), model(TOKENS, grid)
    torch.testing.assert_close(found.answer_logits, wanted.answer_logits)
    torch.testing.assert_close(found.attention[:, :3, :4], wanted.attention)
    assert not found.attention[:, 3:].any()


def test_movie_mcan_sees_the_padding_unless_it_is_left_out():
    padding, bare = build("movie_mcan").double(), build("movie_mcan", pad_to=None).double()
    bare.load_state_dict(padding.state_dict())
    grid = grids().double()
    by_hand = torch.nn.functional.pad(grid, (0, 1, 0, 2))  # 3 × 4 in the corner of 5 × 5
    found = padding(TOKENS, grid).answer_logits
    torch.testing.assert_close(found, bare(TOKENS, by_hand).answer_logits)
    assert not torch.allclose(found, bare(TOKENS, grid).answer_logits)


@pytest.mark.parametrize("name", NAMES)
def test_image_and_question_both_change_the_answers(name):
    model = build(name)
    answers = model(TOKENS[:1], grids(1, C, 3, 4)).answer_logits
    assert not torch.allclose(answers, model(TOKENS[:1], grids(1, C, 3, 4)).answer_logits)
    grid = grids(1, C, 3, 4)
    assert not torch.allclose(model(TOKENS[:1], grid).answer_logits, model(TOKENS[1:2], grid).answer_logits)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("image", [True, False])
def test_an_empty_question_gives_numbers_and_gradients(name, image):
    model = build(name)
    tokens = torch.cat([TOKENS, EMPTY])
    found = model(tokens, grids(4, C, 3, 4) if image else None, torch.Generator().manual_seed(0))
    vqa_loss(found, torch.rand(4, A)).backward()
    assert found.answer_logits.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_an_image_of_zeros_alone_gives_numbers():
    for name in NAMES:
        found = build(name)(TOKENS, torch.zeros(3, C, 3, 4))
        assert found.answer_logits.isfinite().all()
        assert found.attention.isfinite().all()


# Added to all scores of a softmax alike, they change nothing: their gradients are zero, up to rounding.
WITHOUT_EFFECT = ("key.bias", "_attention.score.bias", "_pool.score.bias")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dropped", [False, True])
def test_gradients_reach_every_parameter(name, dropped):
    model = build(name)
    found = model(TOKENS, grids(), torch.Generator().manual_seed(0) if dropped else None)
    vqa_loss(found, torch.rand(3, A)).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert [n for n in without if not n.endswith(WITHOUT_EFFECT)] == ["image_input.no_image"]


@pytest.mark.parametrize("name", NAMES)
def test_without_images_a_learned_vector_takes_their_place(name):
    model = build(name)
    found = model(TOKENS, None)
    assert found.attention is None
    vqa_loss(found, torch.rand(3, A)).backward()
    assert model.image_input.no_image.grad.all()
    torch.nn.init.normal_(model.image_input.no_image)
    assert not torch.allclose(model(TOKENS, None).answer_logits, found.answer_logits)


@pytest.mark.parametrize("name", ["movie_mcan", "mcan_small", "pythia"])
def test_dropout_draws_from_the_generator_alone(name):
    model, grid = build(name, dropout_p=0.1), grids()
    state = torch.random.get_rng_state()
    first, again, other = (model(TOKENS, grid, torch.Generator().manual_seed(s)).answer_logits for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(model.train()(TOKENS, grid).answer_logits, model.eval()(TOKENS, grid).answer_logits)
    assert torch.equal(torch.random.get_rng_state(), state)


def has_bfloat16_lstm():
    """CPUs without AVX512 have none; --precision bf16 is refused there."""
    with torch.autocast("cpu", torch.bfloat16):
        try:
            torch.nn.LSTM(2, 2)(torch.zeros(1, 1, 2))
        except RuntimeError:
            return False
    return True


@pytest.mark.skipif(not has_bfloat16_lstm(), reason="this CPU has no LSTM in bfloat16")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("image", [True, False])
@pytest.mark.parametrize("learning", [True, False])
def test_models_multiply_in_bfloat16_where_they_are_told_to(name, image, learning):
    model, grid = build(name), grids(4, C, 3, 4, dtype=torch.float16) if image else None
    tokens = torch.cat([TOKENS, EMPTY])
    generator = torch.Generator().manual_seed(0) if learning else None
    with torch.autocast("cpu", torch.bfloat16):
        found = model(tokens, grid, generator)
    vqa_loss(found, torch.rand(4, A)).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    if not learning:
        torch.testing.assert_close(found.answer_logits.float(), model(tokens, grid).answer_logits, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_state_survives_a_file(name, tmp_path):
    model, other, grid = build(name), build(name), grids()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert torch.equal(model(TOKENS, grid).answer_logits, other(TOKENS, grid).answer_logits)


@pytest.mark.parametrize(("name", "lr"), [("pythia", 2e-2), ("movie_mcan", 1e-2), ("mcan_small", 1e-2)])
def test_models_learn_one_batch_by_heart(name, lr):
    fewer = {} if name == "pythia" else {"num_layers": 1}
    model, grid, generator = build(name, **fewer), grids(8, C, 2, 2), torch.Generator().manual_seed(0)
    tokens = torch.tensor([[3, 1, 4]]).repeat(8, 1)  # one question: only the images tell the answers apart
    targets = torch.nn.functional.one_hot(torch.arange(8) % A, A).float()
    recipe = RECIPES[name]
    optimizer = make_optimizer(model, recipe)
    for group in optimizer.param_groups:
        group["lr"] = lr
    for _ in range(80):
        optimizer.zero_grad()
        vqa_loss(model(tokens, grid, generator), targets, recipe.reduction).backward()
        if recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
    with torch.no_grad():
        found = model(tokens, grid)
    assert found.best().tolist() == targets.argmax(1).tolist()
    assert vqa_loss(found, targets) < 0.2
