"""Small captioning models with peaked distributions, for tests."""

import torch

from vln_clip.tasks.captioning.models.transformer import CaptionTransformer

SIZES = {"width": 16, "hidden_width": 32, "num_layers": 2, "num_heads": 4}


def build(vocabulary_size=12, grid_width=6, seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CaptionTransformer(vocabulary_size, grid_width, **SIZES | options).double()


def talkative(vocabulary_size=12, seed=0, sharpness=3.0, end=0.0, **options):
    """A model that says different things about different images, and ends after some words."""
    model = build(vocabulary_size, seed=seed, **options)
    with torch.no_grad():
        model.words.weight *= sharpness
        model.words.bias[0] += end
        for layer in model.decoder:  # the image counts for more than in a fresh model
            layer.image.output.weight *= 4
    return model


def grids(count=4, seed=1, width=6, height=2, cells=3):
    return torch.randn(count, width, height, cells, generator=generator(seed), dtype=torch.double)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)
