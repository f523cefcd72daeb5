"""Image encoders under short names: CLIP towers, ImageNet and BiT networks, anything open_clip or timm has, and pixels.

``create_encoder(name)`` is the one way in. An encoder is an option of every program, never a rewrite: it
turns images of any size into a pooled vector and a grid of vectors, and knows its own preprocessing. Those that
were trained on texts have a second tower, of ``create_text_encoder(name)``.
"""

from vln_clip.encoders.base import Encoder, Preprocess
from vln_clip.encoders.table import ENCODERS, check_name, create_encoder, create_text_encoder, pooled_width

__all__ = ["ENCODERS", "Encoder", "Preprocess", "check_name", "create_encoder", "create_text_encoder", "pooled_width"]
