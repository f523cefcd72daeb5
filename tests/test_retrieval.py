"""Recall and CLIPScore on vectors whose cosines are known."""

import pytest
import torch

from vln_clip.tasks.captioning import retrieval
from vln_clip.tasks.captioning.retrieval import (
    best_ranks,
    clip_scores,
    image_index,
    reference_clip_scores,
    retrieval_recalls,
)

# Rows are queries of the groups 0, 1, 2; the gallery has the groups 0, 0, 1, 2. As queries are unit vectors, the
# columns of the gallery are read as its similarities.
SIMILARITY = torch.tensor([[0.9, 0.1, 0.5, 0.2], [0.8, 0.7, 0.6, 0.9], [0.3, 0.1, 0.2, 0.3]])
GROUPS = torch.tensor([0, 0, 1, 2])


@pytest.mark.parametrize("block", [1, 4, 9, 1 << 24])
def test_ranks_follow_a_matrix_whatever_the_block(monkeypatch, block):
    monkeypatch.setattr(retrieval, "_BLOCK_ELEMENTS", block)
    ranks = best_ranks(torch.eye(3), SIMILARITY.T.contiguous(), torch.arange(3), GROUPS)
    # 0: its 0.9 is the largest. 1: its 0.6 comes after 0.9, 0.8, 0.7. 2: its 0.3 comes after the equal 0.3 of another.
    assert ranks.tolist() == [0, 3, 1]


def test_recalls_count_both_directions():
    # three images, the first with two texts: cosines 1 and 0.6 to it; the text of image 1 is nearest to image 2
    images = torch.eye(3)
    texts = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.6, 0.8], [0.0, 0.0, 1.0]])
    recalls = retrieval_recalls(images, texts, GROUPS)
    # texts: 0 finds its image first; 1 second (0.6 after 0.8); 2 second (0.6 after 0.8); 3 first -> 2 of 4
    # images: 0 finds text 0 first; 1 has 0.6 after the 0.8 of text 1: second; 2 first -> 2 of 3
    assert recalls == pytest.approx(
        {"image_R@1": 0.5, "image_R@5": 1, "image_R@10": 1, "text_R@1": 2 / 3, "text_R@5": 1, "text_R@10": 1}
    )


def test_vectors_that_are_all_the_same_find_nothing():
    same = torch.nn.functional.normalize(torch.ones(20, 4), dim=1)
    assert set(retrieval_recalls(same, same, torch.arange(20)).values()) == {0.0}


def test_recalls_of_perfect_vectors_are_one():
    vectors = torch.nn.functional.normalize(torch.randn(30, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    assert set(retrieval_recalls(vectors, vectors.repeat_interleave(5, 0), image_index([5] * 30)).values()) == {1.0}


def test_clip_score_is_the_cosine_stretched_and_never_negative():
    images = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    texts = torch.tensor([[0.6, 0.8], [-1.0, 0.0], [1.0, 0.0]])
    assert clip_scores(images, texts).tolist() == pytest.approx([1.5, 0.0, 2.5])  # 2.5 * 0.6, below 0, 2.5 * 1


def test_reference_score_is_the_harmonic_mean_with_the_nearest_reference():
    texts = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    references = torch.tensor([[0.6, 0.8], [0.8, 0.6], [-1.0, 0.0], [0.0, 1.0]])
    found = reference_clip_scores(torch.tensor([1.6, 1.5, 0.0, 1.0]), texts, references, torch.tensor([0, 0, 1, 2]))
    # 0: nearest 0.8, 2 * 1.6 * 0.8 / 2.4; 1: nearest below 0, so 0; 2: both 0; 3: no reference
    assert found[:3].tolist() == pytest.approx([2 * 1.6 * 0.8 / 2.4, 0.0, 0.0])
    assert found[3].isnan()


def test_captions_know_their_image():
    assert image_index([2, 0, 3]).tolist() == [0, 0, 2, 2, 2]
