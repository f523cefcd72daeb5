"""Recipes of captioning are those of the specification, and refuse what cannot be."""

import pytest

from vln_clip.errors import InputError
from vln_clip.tasks.captioning.models.recipes import (
    CaptionModelConfig,
    CrossEntropyRecipe,
    SelfCriticalRecipe,
    WritingConfig,
)


def test_the_defaults_are_those_of_the_specification():
    xe, scst, writing, model = CrossEntropyRecipe(), SelfCriticalRecipe(), WritingConfig(), CaptionModelConfig()
    assert (xe.images_per_batch, xe.captions_per_image, xe.xe_epochs, xe.xe_warmup) == (10, 5, 15, 20_000)
    assert (xe.adam_beta1, xe.adam_beta2, xe.adam_eps, xe.clip_value, xe.eval_every) == (0.9, 0.98, 1e-9, 0.1, 3000)
    # §8.1: the peak at step 20 000 is 3.125e-4.
    assert xe.xe_lr_factor * (model.width * xe.xe_warmup) ** -0.5 == pytest.approx(3.125e-4)
    assert (scst.scst_epochs, scst.scst_lr, scst.samples_per_image, scst.baseline) == (25, 5e-6, 5, "greedy")
    assert (writing.beam_size, writing.max_words, writing.length_penalty, scst.scst_max_words) == (5, 20, "", 20)
    assert (model.num_layers, model.hidden_width, model.num_heads) == (6, 2048, 8)
    assert (model.dropout, model.visual_dropout) == (0.1, 0.5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: CaptionModelConfig(width=30, num_heads=4),
            "--width must be even and a multiple of the 4 heads, got 30",
        ),
        (lambda: CaptionModelConfig(visual_dropout=1.0), r"--visual-dropout must be in \[0, 1\), got 1.0"),
        (lambda: CrossEntropyRecipe(xe_warmup=0), "--xe-warmup must be positive, got 0"),
        (lambda: CrossEntropyRecipe(xe_epochs=float("nan")), "--xe-epochs must be positive, got nan"),
        (lambda: CrossEntropyRecipe(adam_beta2=1.0), r"--adam-beta2 must be in \[0, 1\), got 1.0"),
        (lambda: SelfCriticalRecipe(scst_epochs=-1), "--scst-epochs must be 0 or more, got -1"),
        (
            lambda: SelfCriticalRecipe(baseline="samples", samples_per_image=1),
            "--samples-per-image must be at least 2 for --baseline samples, got 1",
        ),
        (lambda: WritingConfig(beam_size=0), "--beam-size must be positive, got 0"),
        (lambda: WritingConfig(length_penalty="wu"), "length penalty must be empty, avg or wu_α"),
    ],
)
def test_impossible_values_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_names_differ_between_the_classes():
    names = [
        name
        for kind in (CaptionModelConfig, CrossEntropyRecipe, SelfCriticalRecipe, WritingConfig)
        for name in kind.__dataclass_fields__
    ]
    assert len(names) == len(set(names))
