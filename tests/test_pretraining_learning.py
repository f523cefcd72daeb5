"""What learns in CLIP-ViL_p: gradients, frozen parts, groups of weights, losses."""

import math
from dataclasses import replace

import pytest
import torch

from tests.tiny_vil import (
    MASKED,
    SIZES,
    TOKENS,
    make_encoder,
    make_images,
    make_pretraining,
    make_vil,
    seeded,
    targets,
    total,
)
from vln_clip.encoders import create_encoder
from vln_clip.tasks.pretraining.models import (
    Classifier,
    ClipVil,
    PretrainingModel,
    PretrainingOutput,
    parameter_groups,
    pretraining_losses,
)

CELL_PX = {"resnet": 32, "vit": 16}


# What learns.


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_every_weight_that_is_trained_gets_a_gradient_and_the_others_are_the_pools(kind):
    model = make_pretraining(kind=kind).train()
    images = make_images((6, 6), cell_px=CELL_PX[kind])  # all rows and columns of the tables
    total(pretraining_losses(model(TOKENS, images, MASKED, seeded()), targets())).backward()
    untrained = {name for name, value in model.named_parameters() if not value.requires_grad}
    pools = ("visual.attnpool.",) if kind == "resnet" else ("visual.proj", "visual.ln_post.")
    assert untrained
    assert all(name.startswith(tuple(f"vil.encoder.{pool}" for pool in pools)) for name in untrained)
    for name, value in model.named_parameters():
        assert name in untrained or (value.grad != 0).any() or "key.bias" in name, name  # softmax takes no offset


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_building_a_model_leaves_the_encoders_weights_as_they_are(kind):
    encoder = make_encoder(kind)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    PretrainingModel(ClipVil(encoder, SIZES, checkpointing=True), 7)
    after = encoder.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_new_weights_are_bert_like():
    vil = make_vil(sizes=replace(SIZES, width=256, num_layers=1))
    for weight in (vil.layers[0].intermediate.dense.weight, vil.visual.projection.weight, vil.visual.positions.rows):
        assert abs(weight.std().item() - 0.02) < 0.002
    assert vil.visual.norm.eps == 1e-12
    assert not vil.pooler.bias.any()
    assert not vil.word_table[0].any()  # [PAD]


def statistics(vil):
    return {name: value.clone() for name, value in vil.encoder.named_buffers() if "running" in name}


@pytest.mark.parametrize(("frozen", "change"), [(None, True), ("batch norm", False), ("encoder", False)])
def test_statistics_of_batch_norms_change_unless_frozen(frozen, change):
    vil = make_vil(freeze_batch_norm=frozen == "batch norm")
    if frozen == "encoder":
        vil.encoder.requires_grad_(False)
    vil.train()
    before = statistics(vil)
    vil(TOKENS, make_images(), seeded()).pooled.sum().backward()
    assert any(not torch.equal(before[name], value) for name, value in statistics(vil).items()) == change
    assert (vil.encoder.visual.bn1.weight.grad is None) == (frozen == "encoder")
    assert vil.encoder_learns == (frozen != "encoder")


def test_one_batch_is_learned_by_heart():
    model = make_pretraining(sizes=replace(SIZES, dropout=0.0)).train()
    groups = parameter_groups(model)
    optimizer = torch.optim.AdamW([*groups.transformer, {"params": groups.encoder}], lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = total(pretraining_losses(model(TOKENS, make_images(), MASKED), targets()))
        loss.backward()
        optimizer.step()
    assert loss < 0.1  # from log 50 + log 2 + log 7 = 6.55


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("vil.embeddings.word_embeddings.weight", "decayed"),
        ("vil.embeddings.LayerNorm.weight", "undecayed"),
        ("vil.layers.0.attention.self.query.weight", "decayed"),
        ("vil.layers.0.attention.output.LayerNorm.weight", "undecayed"),
        ("vil.layers.1.output.dense.bias", "undecayed"),
        ("vil.visual.projection.weight", "decayed"),
        ("vil.visual.norm.weight", "decayed"),  # as in the reference, whose name is visn_layer_norm
        ("vil.visual.norm.bias", "undecayed"),
        ("vil.visual.positions.rows", "decayed"),
        ("words.transform.LayerNorm.weight", "undecayed"),
        ("words.bias", "undecayed"),
        ("answers.2.weight", "decayed"),  # as in the reference: logit_fc.2
        ("vil.encoder.visual.conv1.weight", "encoder"),
        ("vil.encoder.visual.bn1.bias", "encoder"),
        ("vil.encoder.visual.attnpool.c_proj.weight", None),
    ],
)
def test_each_weight_is_in_its_group(name, group):
    model = make_pretraining()
    groups = parameter_groups(model, weight_decay=0.3)
    decayed, undecayed = groups.transformer
    assert (decayed["weight_decay"], undecayed["weight_decay"]) == (0.3, 0.0)
    found = {"decayed": decayed["params"], "undecayed": undecayed["params"], "encoder": groups.encoder}
    weight = model.get_parameter(name)
    assert [key for key, values in found.items() if any(value is weight for value in values)] == [group] * bool(group)
    trained = [value for value in model.parameters() if value.requires_grad]
    assert sum(map(len, found.values())) == len(trained)


def test_a_frozen_encoder_is_in_no_group():
    model = make_pretraining()
    model.vil.encoder.requires_grad_(False)
    assert parameter_groups(model).encoder == []


# Losses.


def test_losses_are_sums_with_their_counts():
    # even logits: log 50 for each of 3 words, log 2 for each of 3 pairs, log 7 for the one answer
    output = PretrainingOutput(torch.zeros(3, 50), torch.zeros(3, 2), torch.zeros(3, 7))
    losses = pretraining_losses(output, targets())
    assert list(losses) == ["words", "matching", "answers"]
    expected = {"words": (3 * math.log(50), 3), "matching": (3 * math.log(2), 3), "answers": (math.log(7), 1)}
    for name, (loss, count) in losses.items():
        assert (loss.item(), count.item()) == (pytest.approx(expected[name][0]), expected[name][1])


def test_where_nothing_is_asked_the_losses_are_zero_with_zero_gradients():
    model = make_pretraining().train()
    output = model(TOKENS, make_images(), torch.zeros_like(MASKED), seeded())
    assert output.words.shape == (0, 50)
    losses = pretraining_losses(output, targets(words=(), answer=(-1, -1, -1)))
    assert [(losses[name][0].item(), losses[name][1].item()) for name in ("words", "answers")] == [(0, 0), (0, 0)]
    (losses["words"][0] + losses["answers"][0]).backward()
    assert all(not value.grad.any() for value in model.answers.parameters())
    assert all(value.grad is None or not value.grad.any() for value in model.vil.parameters())


def test_without_an_answer_head_there_is_no_loss_of_answers():
    output = PretrainingOutput(torch.zeros(3, 50), torch.zeros(3, 2), None)
    assert list(pretraining_losses(output, targets())) == ["words", "matching"]


def test_an_encoder_without_weights_needs_no_optimizer():
    vil = ClipVil(create_encoder("pixels:64"), SIZES, checkpointing=True).train()
    model = Classifier(vil, 3)
    assert model(TOKENS, torch.rand(3, 3, 48, 64), seeded()).shape == (3, 3)
    assert not vil.encoder_learns
    assert parameter_groups(model).encoder == []


@pytest.mark.parametrize("checkpointing", [False, True])
def test_mixed_precision_gives_losses_in_single_precision_and_finite_gradients(checkpointing):
    model = make_pretraining(num_patches=4, checkpointing=checkpointing).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(TOKENS, make_images(), MASKED, seeded())
        losses = pretraining_losses(output, targets())
    assert output.answers.dtype == torch.bfloat16
    assert all(loss.dtype == torch.float32 for loss, _ in losses.values())
    total(losses).backward()
    assert all(value.grad.isfinite().all() for value in model.parameters() if value.requires_grad)
