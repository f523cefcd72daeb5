"""Losses, optimizers and recipes of the VQA models against the paper's table."""

import math

import pytest
import torch
from torch import nn

from vln_clip.schedules import EpochSteps, Steps
from vln_clip.tasks.vqa.models import RECIPES, VqaOutput, build_vqa_model, make_optimizer, vqa_loss
from vln_clip.tasks.vqa.models.build import MODELS

LN2 = math.log(2)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def output(*branches):
    return VqaOutput(tuple(torch.tensor(branch) for branch in branches), None)


ZEROS = [[0.0, 0.0]]  # a logit of 0 costs ln 2, whatever the target


@pytest.mark.parametrize(
    ("branches", "targets", "options", "wanted"),
    [
        ([ZEROS], [[1.0, 0.0]], {}, 2 * LN2),  # the mean of two entries, times two answers
        ([ZEROS, ZEROS, ZEROS], [[0.3, 0.0]], {}, 6 * LN2),  # branches add up
        ([ZEROS * 2], [[1.0, 0.0], [0.0, 0.0]], {}, 2 * LN2),
        ([ZEROS * 2], [[1.0, 0.0], [0.0, 0.0]], {"reduction": "sum"}, 4 * LN2),
        # σ(ln 3) = 3/4: -0.6 ln(3/4) - 0.4 ln(1/4); the second answer costs ln 2.
        ([[[math.log(3), 0.0]]], [[0.6, 0.0]], {}, -0.6 * math.log(0.75) + 0.4 * math.log(4) + LN2),
    ],
)
def test_loss_is_the_binary_cross_entropy_times_the_answers(branches, targets, options, wanted):
    assert vqa_loss(output(*branches), torch.tensor(targets), **options).item() == pytest.approx(wanted, rel=1e-6)


def test_loss_without_questions_is_zero():
    logits = torch.zeros(0, 5, requires_grad=True)
    loss = vqa_loss(VqaOutput((logits,), None), torch.zeros(0, 5))
    loss.backward()
    assert loss.item() == 0


def test_loss_of_bfloat16_logits_is_summed_in_float32():
    logits = torch.zeros(1, 3_001, dtype=torch.bfloat16)
    loss = vqa_loss(VqaOutput((logits,), None), torch.zeros(1, 3_001))
    assert loss.item() == pytest.approx(3_001 * LN2, rel=1e-5)  # bfloat16 has two digits


def test_targets_over_other_answers_are_refused():
    with pytest.raises(ValueError, match=r"targets must be \(1, 2\), questions by answers, got \(1, 3\)"):
        vqa_loss(output(ZEROS), torch.zeros(1, 3))


@pytest.mark.parametrize(("unknown", "best"), [(None, [0, 2]), (0, [1, 2])])
def test_first_branch_answers_and_an_unknown_answer_is_never_given(unknown, best):
    found = output([[5.0, 4.0, 1.0], [0.0, 1.0, 2.0]], [[0.0, 0.0, 9.0], [9.0, 0.0, 0.0]])
    assert found.best(unknown).tolist() == best
    assert found.answer_logits[0, 0] == 5  # as it was


# Batch, optimizer, rate, betas, epsilon, clipping, steps or epochs: §8.2 of the specification.
@pytest.mark.parametrize(
    ("name", "batch_size", "kind", "lr", "betas", "eps", "clip_norm", "reduction", "iterations", "epochs"),
    [
        ("pythia", 512, torch.optim.Adamax, 1e-2, (0.9, 0.999), 1e-8, 0.25, "mean", 22_000, None),
        ("movie_mcan", 64, torch.optim.AdamW, 5e-5, (0.9, 0.98), 1e-9, None, "mean", 236_000, None),
        ("mcan_small", 64, torch.optim.Adam, 1e-4, (0.9, 0.98), 1e-9, None, "sum", None, 13),
        ("mcan_large", 64, torch.optim.Adam, 7e-5, (0.9, 0.98), 1e-9, None, "sum", None, 13),
    ],
)
def test_recipes_are_those_of_the_paper(
    name, batch_size, kind, lr, betas, eps, clip_norm, reduction, iterations, epochs
):
    recipe = RECIPES[name]
    assert (recipe.batch_size, recipe.clip_norm, recipe.reduction) == (batch_size, clip_norm, reduction)
    assert (recipe.iterations, recipe.epochs) == (iterations, epochs)
    optimizer = make_optimizer(nn.Linear(1, 1), recipe)
    (group,) = optimizer.param_groups
    assert type(optimizer) is kind
    assert [group[key] for key in ("lr", "betas", "eps", "weight_decay")] == [lr, betas, eps, 0.0]


def test_every_model_has_a_recipe():
    assert RECIPES.keys() == MODELS.keys()


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("pythia", {0: 0.2, 1_000: 1.0, 15_000: 0.1, 18_000: 0.01, 20_000: 0.001, 21_000: 0.0001}),
        ("movie_mcan", {0: 0.25, 54_000: 1.0, 180_000: 0.2, 216_000: 0.04}),
        ("mcan_small", {0: 0.25, 100: 0.5, 200: 0.75, 300: 1.0, 1_000: 0.2, 1_200: 0.04}),
    ],
)
def test_schedules_are_those_of_the_paper(name, factors):
    total, schedule = RECIPES[name].plan(iterations_per_epoch=100)
    assert total == (RECIPES[name].iterations or 1_300)
    assert {iteration: schedule(iteration) for iteration in factors} == pytest.approx(factors)


def test_a_shorter_run_goes_through_the_whole_schedule():
    assert RECIPES["pythia"].plan(100, 220) == (220, Steps((150, 180, 200, 210), 0.1, 10, 0.2))
    assert RECIPES["mcan_small"].plan(100, 26) == (26, EpochSteps(2))


def test_a_trained_image_encoder_learns_at_a_tenth_of_the_rate():
    encoder = nn.Conv2d(4, 3, 1)
    model = build_vqa_model("pythia", 5, 3, 2, word_width=2, hidden_width=2, fusion_width=16, image_encoder=encoder)
    others, own = make_optimizer(model, RECIPES["pythia"]).param_groups
    assert (others["lr"], own["lr"]) == (1e-2, pytest.approx(1e-3))
    assert {id(p) for p in own["params"]} == {id(p) for p in encoder.parameters()}
    assert len(others["params"]) + 2 == len(list(model.parameters()))
    model(torch.tensor([[1]]), torch.randn(1, 4, 2, 2).half()).logits[0].sum().backward()
    assert encoder.weight.grad.abs().sum() > 0
