"""VQA models by name."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from vln_clip.tasks.vqa.models.mcan import Mcan
from vln_clip.tasks.vqa.models.movie_mcan import MovieMcan
from vln_clip.tasks.vqa.models.pythia import Pythia

VqaModel = Pythia | MovieMcan | Mcan

MODELS: dict[str, Callable[..., VqaModel]] = {
    "pythia": Pythia,
    "movie_mcan": MovieMcan,
    "mcan_small": Mcan,
    "mcan_large": partial(Mcan, width=1024, feed_forward_width=4096, fusion_width=2048),
}


def build_vqa_model(
    name: str,
    vocabulary_size: int | None,
    grid_width: int,
    num_answers: int,
    word_vectors: Tensor | None = None,
    **sizes: int | float | bool | nn.Module | None,
) -> VqaModel:
    """Build a model with the reference's sizes.

    Args:
        name: one of ``MODELS``.
        vocabulary_size: number of question words, padding (word 0) included; None where a text tower reads them.
        grid_width: C of the image grid.
        num_answers: A.
        word_vectors: (vocabulary_size, word_width) to start from; None for random ones.
        sizes: other arguments of the model's class, in place of its defaults.
    """
    if name not in MODELS:
        raise ValueError(f"the VQA model must be one of {', '.join(MODELS)}, got {name!r}")
    return MODELS[name](vocabulary_size, grid_width, num_answers, word_vectors, **sizes)
