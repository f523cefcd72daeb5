"""CLIP-ViL_p's model: what BERT computes, positions, sampling, dropout, gradients, and groups of weights."""

from dataclasses import replace

import pytest
import torch

from tests.tiny_vil import MASKED, SIZES, TOKENS, make_images, make_pretraining, make_vil, seeded, targets, total
from vln_clip.errors import InputError
from vln_clip.tasks.pretraining.models import (
    Classifier,
    PretrainingModel,
    VilSizes,
    pretraining_losses,
)
from vln_clip.tasks.pretraining.models.layers import bert_config, run_layer
from vln_clip.tasks.pretraining.models.visual import GridPositions, VisualInput, sample_cells

CELL_PX = {"resnet": 32, "vit": 16}


def bert_of(vil):
    """Return transformers' own model, attention written out, with the weights of ours."""
    from transformers import BertModel

    config = bert_config(vil.sizes)
    config._attn_implementation = "eager"
    bert = BertModel(config).eval()
    bert.embeddings.load_state_dict(vil.embeddings.state_dict())
    bert.encoder.layer.load_state_dict(vil.layers.state_dict())
    bert.pooler.dense.load_state_dict(vil.pooler.state_dict())
    return bert


# What is computed.


def test_layers_over_a_text_give_what_transformers_bert_gives():
    vil = make_vil().eval()
    mask = TOKENS != 0
    with torch.no_grad():
        states = vil.embeddings(TOKENS)
        for layer in vil.layers:
            states = run_layer(layer, states, mask[:, None, None])
        expected = bert_of(vil)(TOKENS, attention_mask=mask.long())
    assert torch.allclose(states[mask], expected.last_hidden_state[mask], atol=1e-5)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_text_and_cells_are_one_sequence_whose_text_padding_alone_is_masked(kind):
    vil = make_vil(kind).eval()
    images = make_images(cell_px=CELL_PX[kind])
    bert = bert_of(vil)
    with torch.no_grad():
        found = vil(TOKENS, images)
        grid = vil.encoder.grid(images)  # (3, C, 2, 3)
        assert grid.shape[2:] == (2, 3)
        places = vil.visual.positions
        grid = grid + (places.rows[:2, None] + places.columns[None, :3]).permute(2, 0, 1)
        cells = vil.visual.norm(vil.visual.projection(grid.flatten(2).transpose(1, 2)))
        joint = torch.cat([bert.embeddings(TOKENS), cells], 1)
        bias = torch.zeros(3, 1, 1, 12).masked_fill_(
            torch.cat([TOKENS == 0, torch.zeros(3, 6) > 0], 1)[:, None, None], -1e4
        )
        for layer in bert.encoder.layer:
            joint = run_layer(layer, joint, bias)  # -10,000 on padded text, as the reference has it
    assert torch.allclose(found.text[TOKENS != 0], joint[:, :6][TOKENS != 0], atol=1e-5)
    assert torch.allclose(found.vision, joint[:, 6:], atol=1e-5)
    assert torch.allclose(found.pooled, bert.pooler.dense(joint[:, 0]), atol=1e-5)  # and no tanh


def test_padding_does_not_change_what_is_told():
    model = make_pretraining().eval()
    images = make_images()
    with torch.no_grad():
        short = model(TOKENS, images, MASKED)
        more = torch.zeros(3, 5, dtype=torch.int64)
        long = model(torch.cat([TOKENS, more], 1), images, torch.cat([MASKED, more.bool()], 1))
        alone = model(TOKENS[1:2, :3], images[1:2], MASKED[1:2, :3])
    for name in ("words", "matching", "answers"):
        assert torch.allclose(getattr(short, name), getattr(long, name), atol=1e-5)
    assert torch.allclose(short.answers[1:2], alone.answers, atol=1e-5)


def test_words_are_scored_by_the_table_of_embeddings_at_masked_places_only():
    model = make_pretraining().eval()
    with torch.no_grad():
        output = model(TOKENS, make_images(), MASKED)
        text = model.vil(TOKENS, make_images()).text
        table = model.vil.embeddings.word_embeddings.weight
        expected = model.words.transform(text[2, 3]) @ table.T + model.words.bias
    assert output.words.shape == (3, 50)
    assert output.matching.shape == (3, 2)
    assert output.answers.shape == (3, 7)
    assert torch.allclose(output.words[2], expected, atol=1e-5)
    assert sum(name.endswith("word_embeddings.weight") for name in model.state_dict()) == 1


def test_a_model_without_answers_and_a_classifier():
    vil = make_vil().eval()
    assert PretrainingModel(vil, None)(TOKENS, make_images(), MASKED).answers is None
    classifier = Classifier(vil, 3)
    assert classifier(TOKENS, make_images()).shape == (3, 3)
    first, activation, norm, last = classifier.head
    assert (first.out_features, last.in_features, norm.eps) == (64, 64, 1e-12)  # twice the width of 32
    assert isinstance(activation, torch.nn.GELU)
    assert activation.approximate == "none"


def test_an_empty_text_is_read_without_nan():
    model = make_pretraining().train()
    tokens = TOKENS.clone()
    tokens[1] = 0
    output = model(tokens, make_images(), MASKED, seeded())
    total(pretraining_losses(output, targets())).backward()
    assert all(value.isfinite().all() for value in (output.words, output.matching, output.answers))
    assert all(value.grad.isfinite().all() for value in model.parameters() if value.requires_grad)


# Positions and sampling.


def test_a_cell_gets_the_vector_of_its_row_and_that_of_its_column():
    places = GridPositions(6, 4, 0.02)
    added = places(torch.zeros(1, 4, 2, 3))
    for row in range(2):
        for column in range(3):
            assert torch.equal(added[0, :, row, column], places.rows[row] + places.columns[column])


@pytest.mark.parametrize(("cells", "fits"), [((6, 6), True), ((7, 2), False), ((2, 7), False)])
def test_a_grid_larger_than_its_positions_is_refused_and_never_interpolated(cells, fits):
    vil = make_vil().eval()
    if fits:
        assert vil(TOKENS, make_images(cells)).vision.shape == (3, 36, 32)
        return
    with pytest.raises(InputError, match=rf"num_positions = 6 rows and columns, got {cells[0]} x {cells[1]} cells"):
        vil(TOKENS, make_images(cells))


def test_100_distinct_cells_of_240_are_drawn_for_each_image_evenly():
    cells = torch.arange(240.0).expand(400, 240)[:, :, None]
    drawn = sample_cells(cells, 100, seeded())[:, :, 0]
    assert drawn.shape == (400, 100)
    assert all(len(set(row.tolist())) == 100 for row in drawn)
    assert len({tuple(sorted(row.tolist())) for row in drawn}) == 400  # each image has its own
    counts = torch.bincount(drawn.flatten().long(), minlength=240)
    # each cell is drawn with probability 100 / 240: 166.7 times of 400, standard deviation 9.9; five of them
    assert counts.min() > 117
    assert counts.max() < 216


@pytest.mark.parametrize("count", [6, 100])
def test_fewer_cells_than_asked_for_are_all_taken_in_their_order(count):
    cells = torch.randn(2, 6, 4)
    assert torch.equal(sample_cells(cells, count, seeded()), cells)


def test_cells_are_drawn_in_evaluation_too():
    vil = make_vil(num_patches=4).eval()
    with torch.no_grad():
        first, again, other = (vil(TOKENS, make_images(), seeded(seed)) for seed in (1, 1, 2))
        whole = make_vil().eval()(TOKENS, make_images())
    assert first.vision.shape == (3, 4, 32)
    assert whole.vision.shape == (3, 6, 32)
    assert torch.equal(first.pooled, again.pooled)
    assert not torch.equal(first.pooled, other.pooled)
    with pytest.raises(ValueError, match="num_patches = 4 cells are drawn by a generator, got None"):
        vil(TOKENS, make_images())


# Dropout and checkpointing.


def learn(model, generator):
    """Return the loss of one step, its gradients and the buffers after it."""
    output = model(TOKENS, make_images(), MASKED, generator)
    loss = total(pretraining_losses(output, targets()))
    loss.backward()
    gradients = {name: value.grad.clone() for name, value in model.named_parameters() if value.requires_grad}
    return loss.detach(), gradients, {name: value.clone() for name, value in model.named_buffers()}


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_checkpointing_changes_neither_dropout_nor_gradients_nor_statistics(kind):
    found = []
    for checkpointing in (False, True):
        model = make_pretraining(kind=kind, num_patches=4, checkpointing=checkpointing).train()
        torch.manual_seed(17 if checkpointing else 71)  # PyTorch's own generator must play no part
        found.append(learn(model, seeded()))
    plain, recomputed = found
    assert torch.equal(plain[0], recomputed[0])
    for before, after in zip(plain[1:], recomputed[1:], strict=True):
        assert before.keys() == after.keys()
        for name, value in before.items():
            assert torch.allclose(value, after[name], atol=1e-6), name
    if kind == "resnet":
        assert any(name.endswith("num_batches_tracked") and value == 1 for name, value in recomputed[2].items())


def test_checkpointing_keeps_less_for_the_backward_pass():
    kept = []
    for checkpointing in (False, True):
        model = make_pretraining(checkpointing=checkpointing).train()
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            model(TOKENS, make_images(), MASKED, seeded())
        kept.append(sum(sizes))
    assert kept[1] < 0.7 * kept[0]


def test_dropout_is_that_of_the_generator_and_pytorchs_own_stays_where_it_is():
    model = make_pretraining(num_patches=4).train()
    before = torch.get_rng_state()
    first, again, other = (model(TOKENS, make_images(), MASKED, seeded(seed)).matching for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(ValueError, match="dropout is drawn by a generator while training, got None"):
        model.vil(TOKENS, make_images())


# Bad input.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 30}, "width must be a multiple of num_heads, 4, got 30"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
    ],
)
def test_impossible_sizes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SIZES, **change)


def test_defaults_are_those_of_bert_base():
    sizes = VilSizes(30522)
    assert (sizes.width, sizes.num_layers, sizes.num_heads, sizes.feed_forward_width) == (768, 12, 12, 3072)
    assert (sizes.max_tokens, sizes.dropout, sizes.num_positions) == (512, 0.1, 25)


@pytest.mark.parametrize(
    ("tokens", "images", "message"),
    [
        (torch.zeros(3, 13).long(), make_images(), r"L from 1 to 12, got \(3, 13\)"),
        (torch.zeros(3, 0).long(), make_images(), r"L from 1 to 12, got \(3, 0\)"),
        (TOKENS, make_images(batch=2), r"images must be \(3, 3, H, W\), one a text, got \(2, 3, 64, 96\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(tokens, images, message):
    with pytest.raises(ValueError, match=message):
        make_vil().eval()(tokens, images)


def test_masks_and_targets_of_other_shapes_are_refused():
    model = make_pretraining().eval()
    with pytest.raises(ValueError, match=r"masked must be \(3, 6\) bool, got \(3, 5\)"):
        model(TOKENS, make_images(), MASKED[:, :5])
    output = model(TOKENS, make_images(), MASKED)
    with pytest.raises(ValueError, match=r"targets must be \(3,\), one for each row of logits, got \(2,\)"):
        pretraining_losses(output, targets(words=(1, 2)))
    with pytest.raises(ValueError, match="num_patches must be at least 1"):
        make_vil(num_patches=0)


def test_a_random_projection_can_begin_with_standardized_channels():
    torch.manual_seed(0)
    sizes = VilSizes(10, width=8, num_layers=1, num_heads=1, feed_forward_width=8)
    part = VisualInput(4, sizes, None)
    grid = torch.rand(6, 4, 3, 5) * torch.tensor([1.0, 10.0, 1.0, 1.0])[:, None, None] + 7
    weight = part.projection.weight.clone()
    part.standardize(grid)
    cells = part.projection(grid.flatten(2).transpose(1, 2)).flatten(0, 1)
    torch.testing.assert_close(cells.mean(0), torch.zeros(8), atol=1e-4, rtol=0)
    spread = grid.flatten(2).transpose(1, 2).flatten(0, 1).std(0)
    # a channel of ten times the spread counts a tenth, but for a tenth of the mean spread that is added
    torch.testing.assert_close(part.projection.weight, weight / (spread + 0.1 * spread.mean()))
