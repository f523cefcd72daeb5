"""Which text encoder reads the texts of a run: settings that need nothing heavy to be read."""

from dataclasses import dataclass
from math import inf
from pathlib import Path

from vln_clip.errors import InputError
from vln_clip.run_config import require


@dataclass(frozen=True)
class TextEncoderConfig:
    """What reads the texts."""

    text_encoder: str | None = None
    """encoder whose text tower reads the texts, its tokens' states in place of word vectors; by default word vectors
    of the data set's own vocabulary are learned"""
    text_weights: Path | None = None
    """file of that encoder's weights; by default the published ones"""
    train_text_encoder: bool = False
    """train the text tower too; else it is frozen and read once"""
    text_lr_factor: float = 0.1
    """learning rate of a trained text tower, as a share of the model's"""

    def __post_init__(self) -> None:
        require(0 < self.text_lr_factor < inf, "text_lr_factor", "positive", self.text_lr_factor)
        for name in ("text_weights", "train_text_encoder"):
            if getattr(self, name) and self.text_encoder is None:
                raise InputError(f"--{name.replace('_', '-')} is for --text-encoder; name one or leave it out")

    @property
    def tag(self) -> list[str]:
        """Return what the name of a run says of it, as a list of words."""
        if self.text_encoder is None:
            return []
        safe = "".join(c if c.isalnum() or c in "_+-." else "-" for c in self.text_encoder)
        return [f"text-{safe}"] + ["trained"] * self.train_text_encoder
