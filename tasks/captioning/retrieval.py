"""How well vectors of texts and images find each other: recall among the first K, and CLIPScore.

Axes: Q queries, G gallery, N images, M captions, D width. Vectors have length 1, so that products are cosines.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

RECALL_AT = (1, 5, 10)
SCORE_WEIGHT = 2.5  # Hessel et al. 2021, section 3: it spreads the cosines of ViT-B/32 over 0 to 1
SCORE_PREFIX = "A photo depicts "  # likewise, before every caption
_BLOCK_ELEMENTS = 1 << 24  # of a similarity matrix, of which only so much is ever there: 64 MB


def best_ranks(queries: Tensor, gallery: Tensor, query_group: Tensor, gallery_group: Tensor) -> Tensor:
    """Return how far down each query finds the first item of its group.

    An item of another group that is as similar as the best one of the query's own comes before it: vectors that are
    all the same find nothing.

    Args:
        queries: (Q, D) float32.
        gallery: (G, D) float32, on the same device.
        query_group: (Q,) int64.
        gallery_group: (G,) int64; every query has an item of its group.

    Returns:
        (Q,) int64, 0 where the first item is right.
    """
    ranks = []
    rows = max(_BLOCK_ELEMENTS // max(len(gallery), 1), 1)
    for part, group in zip(queries.split(rows), query_group.split(rows), strict=True):
        similarity = part @ gallery.T  # (q, G)
        own = group[:, None] == gallery_group
        best = similarity.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
        assert bool(best.isfinite().all()), "an item of every query's group"
        ranks.append(((similarity >= best) & ~own).sum(1))
    return torch.cat(ranks)


def retrieval_recalls(images: Tensor, texts: Tensor, image_of: Tensor) -> dict[str, float]:
    """Return the recalls of image–text retrieval in both directions.

    Args:
        images: (N, D) float32, of length 1.
        texts: (M, D) float32, of length 1.
        image_of: (M,) int64, the image that each text is about; every image has one at least.

    Returns:
        ``image_R@K``: share of texts whose image is among the first K images; ``text_R@K``: share of images one of
        whose texts is among the first K texts.
    """
    every = torch.arange(len(images), device=images.device)
    found = {
        "image": best_ranks(texts, images, image_of, every),
        "text": best_ranks(images, texts, every, image_of),
    }
    return {f"{name}_R@{k}": (ranks < k).double().mean().item() for name, ranks in found.items() for k in RECALL_AT}


def clip_scores(images: Tensor, texts: Tensor) -> Tensor:
    """Return CLIPScore, 2.5 · max(cos, 0), of images (M, D) and their captions (M, D), of length 1: (M,) float32."""
    return SCORE_WEIGHT * (images * texts).sum(1).clamp(min=0)


def reference_clip_scores(scores: Tensor, texts: Tensor, references: Tensor, text_of: Tensor) -> Tensor:
    """Return RefCLIPScore: the harmonic mean of CLIPScore and the largest cosine to a reference, 0 where one is 0.

    Args:
        scores: of ``clip_scores``, (M,).
        texts: vectors of the captions, (M, D), of length 1.
        references: vectors of people's captions, (R, D), of length 1.
        text_of: (R,) int64, the caption that each reference is to be compared with.

    Returns:
        (M,) float32; nan for a caption without reference.
    """
    cosines = (references * texts[text_of]).sum(1).clamp(min=0)
    nearest = torch.full_like(scores, torch.nan)
    for_each = nearest.new_full(nearest.shape, -1).scatter_reduce(0, text_of, cosines, "amax")
    nearest = torch.where(for_each < 0, nearest, for_each)
    both = scores + nearest
    return torch.where(both == 0, both, 2 * scores * nearest / both)


def image_index(counts: Sequence[int]) -> Tensor:
    """Return the image of each caption, (M,) int64, from the number of captions of each image."""
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts, dtype=torch.int64))
