"""Whole VQA models against the same computation written out with PyTorch's own modules and functions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.toy_vqa import TOKENS, C, build, copy_attention, copy_layer, grids
from vln_clip.normalization import ReferenceNorm

PADDING = TOKENS == 0


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def normed(layer, x):
    """A linear layer by its direction and length, and a ReLU."""
    weight = layer.linear.parametrizations.weight
    direction = weight.original1 / weight.original1.pow(2).sum().sqrt()
    return torch.relu(F.linear(x, weight.original0 * direction, layer.linear.bias))


def test_pythia_forward():
    model, grid = build("pythia").double(), grids().double()
    words, _ = model.words.lstm(F.embedding(TOKENS, model.words.embedding.weight))  # (B, L, D)
    look = model.question_attention
    hidden = torch.relu(F.conv1d(words.transpose(1, 2), look.hidden.weight[..., None], look.hidden.bias))
    weights = F.conv1d(hidden, look.score.weight[..., None], look.score.bias).softmax(2)  # (B, 2, L)
    question = torch.cat([(weights[:, i, :, None] * words).sum(1) for i in range(2)], 1)

    cells = grid.permute(0, 2, 3, 1).reshape(3, 12, C)
    look = model.image_attention
    product = normed(look.image, cells) * normed(look.question, question)[:, None]
    attention = look.score(product).squeeze(2).softmax(1)
    seen = (attention[..., None] * cells).sum(1)
    fused = normed(model.image_fusion, seen) * normed(model.question_fusion, question)
    text, image = model.text_classifier, model.image_classifier
    found = model(TOKENS, grid)
    torch.testing.assert_close(found.answer_logits, text[1](normed(text[0], fused)) + image[1](normed(image[0], fused)))
    torch.testing.assert_close(found.attention, attention.view(3, 3, 4))


def plain_layers(layers, kind):
    """PyTorch's layers with the weights of ours; for openvqa's normalization too."""
    found = []
    for layer in layers:
        plain = kind(16, 2, 32, 0.0, batch_first=True).double()
        copy_layer(layer, plain)
        for i, norm in enumerate(layer.norms, 1):
            if isinstance(norm, ReferenceNorm):
                setattr(plain, f"norm{i}", norm)
        if kind is nn.TransformerDecoderLayer:
            copy_attention(layer.guidance, plain.multihead_attn)
        found.append(plain)
    return found


def pooled(pool, x, padding, glimpse=0):
    """A weighted mean and its weights."""
    scores = pool.score(torch.relu(pool.hidden(x)))[..., glimpse]
    weights = scores.masked_fill(padding, -torch.inf).softmax(1)
    return (weights[..., None] * x).sum(1), weights


def read_and_look(model, cells):
    """Words and cells (B, N, D) after all attention layers."""
    words, _ = model.words.lstm(F.embedding(TOKENS, model.words.embedding.weight))
    for layer in plain_layers(model.question_layers, nn.TransformerEncoderLayer):
        words = layer(words, src_key_padding_mask=PADDING)
    for layer in plain_layers(model.image_layers, nn.TransformerDecoderLayer):
        cells = layer(cells, words, memory_key_padding_mask=PADDING)
    return words, cells


def test_mcan_forward():
    model, grid = build("mcan_small").double(), grids().double() + 0.1
    words, cells = read_and_look(model, model.cells(grid.permute(0, 2, 3, 1).reshape(3, 12, C)))
    question, _ = pooled(model.question_pool, words, PADDING)
    seen, weights = pooled(model.image_pool, cells, torch.zeros(3, 12, dtype=torch.bool))
    fused = model.question_fusion(question) + model.image_fusion(seen)
    found = model(TOKENS, grid)
    deviation, mean = torch.std_mean(fused, 1, keepdim=True)
    norm = model.norm.weight * (fused - mean) / (deviation + 1e-6) + model.norm.bias
    torch.testing.assert_close(found.answer_logits, model.classifier(norm))
    torch.testing.assert_close(found.attention, weights.view(3, 3, 4))


def test_movie_mcan_forward():
    model, grid = build("movie_mcan").double(), grids().double()
    image = F.pad(grid, (0, 1, 0, 2))  # to 5 × 5
    words, cells = read_and_look(model, model.cells(image.permute(0, 2, 3, 1).reshape(3, 25, C)))
    condition, _ = pooled(model.question_pool, words, PADDING, glimpse=0)
    question, _ = pooled(model.question_pool, words, PADDING, glimpse=1)
    seen, weights = pooled(model.image_pool, cells, torch.zeros(3, 25, dtype=torch.bool))
    branches = model.fusion(question, model.movie(image, condition), seen)
    found = model(TOKENS, grid)
    for logits, classify, branch in zip(found.logits, model.classifiers, branches, strict=True):
        torch.testing.assert_close(logits, classify(branch))
    torch.testing.assert_close(found.attention, weights.view(3, 5, 5)[:, :3, :4])
