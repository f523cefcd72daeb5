"""Small captioning models, fresh ones and some that have begun to learn, for tests."""

from functools import cache

import torch

from vln_clip.tasks.captioning.models.decoding import said_mask
from vln_clip.tasks.captioning.models.losses import caption_loss
from vln_clip.tasks.captioning.models.transformer import CaptionTransformer

SIZES = {"width": 16, "hidden_width": 32, "num_layers": 2, "num_heads": 4}


def build(vocabulary_size=12, grid_width=6, seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CaptionTransformer(vocabulary_size, grid_width, **SIZES | options).double()


# Captions of the images that ``grids`` returns, of different lengths.
SAID = [[3, 1, 4, 1, 5], [9, 2], [6, 5, 3, 5, 8, 9, 7], [9, 3], [2], [3, 1, 8, 4], [6, 5, 3, 2]]


def rows(captions, length=9):
    """Rows as a caption table makes them: 0, the words, 0 and padding, (B, 1, length)."""
    return torch.tensor([[[0, *words, *[0] * (length - 1 - len(words))]] for words in captions])


def learn(model, num_steps, seed=0):
    """Teach a model ``SAID``; return the loss before every step."""
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    grid, target, noise = grids(len(SAID)), rows(SAID), generator(seed)
    losses = []
    for _ in range(num_steps):
        logits = model(grid, target[..., :-1], noise)
        losses.append(caption_loss(logits, target[..., 1:], said_mask(target[..., 1:])))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    return [loss.item() for loss in losses]


@cache
def half_taught(seed=0):
    """A model that has begun to learn: sure of some words, undecided about others."""
    model = build(seed=seed)
    learn(model, 60, seed)
    return model.requires_grad_(False)


def grids(count=7, seed=1, width=6, height=2, cells=3):
    return torch.randn(count, width, height, cells, generator=generator(seed), dtype=torch.double)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)
