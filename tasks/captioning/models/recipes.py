"""How captioning models learn and write: every constant of specification §3 and §8.2 with its default.

Names differ between the classes, so that a program may offer all of them as flags without prefixes.
"""

from dataclasses import dataclass
from math import inf
from typing import Literal

from vln_clip.errors import InputError
from vln_clip.tasks.captioning.models.beam import length_divisor


def _require(good: bool, name: str, rule: str, found: object) -> None:
    if not good:
        raise InputError(f"--{name.replace('_', '-')} must be {rule}, got {found}")


def _positive(config: object, *names: str) -> None:
    for name in names:
        _require(0 < getattr(config, name) < inf, name, "positive", getattr(config, name))


@dataclass(frozen=True)
class CaptionModelConfig:
    """Sizes and dropout of the captioning Transformer."""

    width: int = 512
    """width of words, grid cells and everything between layers"""
    hidden_width: int = 2048
    """width of the feed-forward networks"""
    num_layers: int = 6
    """layers of the encoder, and of the decoder"""
    num_heads: int = 8
    """attention heads; divides the width"""
    dropout: float = 0.1
    """dropout in both stacks and on word embeddings"""
    visual_dropout: float = 0.5
    """dropout on the embedded grid"""
    norm: Literal["torch", "reference"] = "torch"
    """layer norm of PyTorch, or the variant of the public checkpoints"""

    def __post_init__(self) -> None:
        _positive(self, "width", "hidden_width", "num_layers", "num_heads")
        even = self.width % 2 == 0 and self.width % self.num_heads == 0
        _require(even, "width", f"even and a multiple of the {self.num_heads} heads", self.width)
        for name in ("dropout", "visual_dropout"):
            _require(0 <= getattr(self, name) < 1, name, "in [0, 1)", getattr(self, name))


@dataclass(frozen=True)
class CrossEntropyRecipe:
    """Stage 1: cross entropy with Adam and Noam's schedule (§3.3)."""

    xe_epochs: float = 15
    """passes over the training images"""
    images_per_batch: int = 10
    """images of a step, in both stages"""
    captions_per_image: int = 5
    """captions of each"""
    xe_lr_factor: float = 1.0
    """factor on Noam's learning rate, whose peak is 1 / sqrt(width * xe_warmup)"""
    xe_warmup: int = 20_000
    """steps until the peak"""
    adam_beta1: float = 0.9
    """Adam's first decay, in both stages"""
    adam_beta2: float = 0.98
    """Adam's second decay, in both stages"""
    adam_eps: float = 1e-9
    """Adam's epsilon, in both stages"""
    clip_value: float = 0.1
    """largest absolute value of each entry of a gradient, in both stages"""
    eval_every: int = 3000
    """steps between validations by greedy CIDEr, in both stages"""

    def __post_init__(self) -> None:
        _positive(self, "xe_epochs", "images_per_batch", "captions_per_image", "xe_lr_factor", "xe_warmup")
        _positive(self, "adam_eps", "clip_value", "eval_every")
        for name in ("adam_beta1", "adam_beta2"):
            _require(0 <= getattr(self, name) < 1, name, "in [0, 1)", getattr(self, name))


@dataclass(frozen=True)
class SelfCriticalRecipe:
    """Stage 2: self-critical training on CIDEr-D, from the last checkpoint of stage 1 (§3.4)."""

    scst_epochs: float = 25
    """passes over the training images; 0 leaves the stage out"""
    scst_lr: float = 5e-6
    """constant learning rate"""
    samples_per_image: int = 5
    """captions drawn of each image"""
    baseline: Literal["greedy", "samples"] = "greedy"
    """what a sample must beat: the greedy caption, or the mean of the image's other samples (new self-critical)"""
    scst_max_words: int = 20
    """most words of drawn and greedy captions"""
    keep_optimizer: bool = True
    """go on with stage 1's moments, as the reference does"""

    def __post_init__(self) -> None:
        _require(0 <= self.scst_epochs < inf, "scst_epochs", "0 or more", self.scst_epochs)
        _positive(self, "scst_lr", "samples_per_image", "scst_max_words")
        enough = self.baseline == "greedy" or self.samples_per_image > 1
        _require(enough, "samples_per_image", "at least 2 for --baseline samples", self.samples_per_image)


@dataclass(frozen=True)
class WritingConfig:
    """How captions are written for test results (§3.5)."""

    beam_size: int = 5
    """beams per image; 1 is greedy"""
    max_words: int = 20
    """most words of a caption"""
    length_penalty: str = ""
    """what divides a beam's score: nothing, its length (avg) or wu_α, such as wu_0.8"""
    say_unknown: bool = False
    """let beams say the unknown word"""

    def __post_init__(self) -> None:
        _positive(self, "beam_size", "max_words")
        length_divisor(self.length_penalty)
