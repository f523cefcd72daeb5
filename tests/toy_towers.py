"""Two towers that know three colors: what an image mostly shows, and what a text names. All scores follow by hand."""

import torch
from PIL import Image

from vln_clip.encoders.base import Encoder, Preprocess
from vln_clip.encoders.text import TextEncoder, make_tokenizer

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class ColorEncoder(Encoder):
    """The mean color of an image, as it is: (B, 3), white (1, 1, 1)."""

    def __init__(self):
        super().__init__()
        self.name, self.pooled_width, self.image_size_px, self.min_side_px = "colors", 3, (4, 4), 4
        self.transform = Preprocess((4, 4), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    def pooled(self, images):
        return images.mean((2, 3))


class ColorWords(TextEncoder):
    """How often a text names each color, (N, 3); (1, 1, 1) where it names none."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.name, self.width, self.context_length, self.logit_scale, self.weights = "colors", 3, 77, 10.0, "none"
        self._tokenizer = make_tokenizer(77)
        self.rows = 0  # that were encoded

    def encode_joined(self, begin, ends):
        return self.encode_tokens(self.join(begin, ends))

    def encode_tokens(self, tokens):
        self.rows += len(tokens)
        ids = [self.words(name)[0] for name in COLORS]
        counts = torch.stack([(tokens == one).sum(1) for one in ids], 1).float()
        return torch.where(counts.sum(1, keepdim=True) > 0, counts, torch.ones(3))


def use_colors(monkeypatch):
    """Let programs find these towers under any name."""
    text = ColorWords()
    monkeypatch.setattr("vln_clip.features.matching.create_encoder", lambda *_: ColorEncoder())
    monkeypatch.setattr("vln_clip.features.matching.create_text_encoder", lambda *_: text)
    return text


def write_image(path, color):
    """Write a picture of one color, wider than high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), COLORS.get(color, color)).save(path)
