"""The table of encoders and the one function that makes one."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from vln_clip.encoders.base import Encoder
from vln_clip.encoders.tower_files import is_tower, read_tower_header, tower_path
from vln_clip.errors import InputError, unknown_name
from vln_clip.registry import resolve

if TYPE_CHECKING:
    from vln_clip.encoders.text import TextEncoder

ENCODERS = {
    "clip_rn50": "vln_clip.encoders.clip:create",
    "clip_rn101": "vln_clip.encoders.clip:create",
    "clip_rn50x4": "vln_clip.encoders.clip:create",
    "clip_vit_b32": "vln_clip.encoders.clip:create",
    "clip_vit_b16": "vln_clip.encoders.clip:create",
    "clip_vit_l14": "vln_clip.encoders.clip:create",
    "imagenet_resnet50": "vln_clip.encoders.towers:create",
    "imagenet_resnet101": "vln_clip.encoders.towers:create",
    "imagenet_resnet152": "vln_clip.encoders.towers:create",
    "bit_m_r50": "vln_clip.encoders.towers:create",
    "bit_m_r101": "vln_clip.encoders.towers:create",
    "vit_b32_in21k": "vln_clip.encoders.towers:create",
    "pixels": "vln_clip.encoders.pixels:create",
    "clip_demo": "vln_clip.encoders.demo_clip:create",
}
PREFIXES = {
    "open_clip": "vln_clip.encoders.clip:create",
    "timm": "vln_clip.encoders.towers:create",
    "pixels": "vln_clip.encoders.pixels:create",
    "tower": "vln_clip.encoders.tower_files:create",
    "random": "vln_clip.encoders.untrained:create",
}

TEXT_TOWERS = {  # factory of the image tower: of text
    "vln_clip.encoders.clip:create": "vln_clip.encoders.text:create",
    "vln_clip.encoders.tower_files:create": "vln_clip.encoders.tower_files:create_text",
    "vln_clip.encoders.demo_clip:create": "vln_clip.encoders.demo_clip:create_text",
}


class Widths(NamedTuple):
    """Widths of an encoder's two outputs, known without building it."""

    pooled: int
    grid: int


WIDTHS = {
    "clip_rn50": Widths(1024, 2048),
    "clip_rn101": Widths(512, 2048),
    "clip_rn50x4": Widths(640, 2560),
    "clip_vit_b32": Widths(512, 768),
    "clip_vit_b16": Widths(512, 768),
    "clip_vit_l14": Widths(768, 1024),
    "imagenet_resnet50": Widths(2048, 2048),
    "imagenet_resnet101": Widths(2048, 2048),
    "imagenet_resnet152": Widths(2048, 2048),
    "bit_m_r50": Widths(2048, 2048),
    "bit_m_r101": Widths(2048, 2048),
    "vit_b32_in21k": Widths(768, 768),
    "pixels": Widths(640, 640),
    "clip_demo": Widths(256, 512),
}


def check_name(name: str) -> None:
    """Raise ``InputError`` unless ``name`` is a row or has a known prefix; towers must be there."""
    prefix, colon, rest = name.partition(":")
    if prefix == "random" and rest:
        return check_name(rest)
    if name in ENCODERS or (colon and rest and prefix in PREFIXES):
        if is_tower(name):
            check_name(read_tower_header(tower_path(name)).encoder)
        return
    shown = [*ENCODERS, "open_clip:ARCH/TAG", "timm:NAME", "pixels:WIDTH", "random:NAME", "tower:PATH"]
    raise unknown_name("encoder", name, shown)


def create_encoder(name: str, pretrained: bool | Path | str = True, device: torch.device | str = "cpu") -> Encoder:
    """Make an encoder, in evaluation mode.

    Args:
        name: a row of ``ENCODERS``, ``open_clip:ARCH/TAG``, ``timm:NAME``, ``pixels:WIDTH``, ``random:NAME`` or
            ``tower:PATH``.
        pretrained: True finds the published weights on this machine or downloads them; False leaves random
            weights; a path names a local file (safetensors, a state dict, an OpenAI ``.pt`` archive).
        device: where it runs.

    Returns:
        The encoder; gradients are on, wrap in ``torch.inference_mode`` where none are wanted.

    Raises:
        InputError: unknown name, or the weights are missing, unreachable or of another architecture.
    """
    factory = resolve("encoder", {name: _row(name)}, name)
    _require_file(name, pretrained)
    encoder: Encoder = factory(name, pretrained)
    return encoder.to(device).eval()


def create_text_encoder(
    name: str, pretrained: bool | Path | str = True, device: torch.device | str = "cpu"
) -> "TextEncoder":
    """Make the text tower that belongs to an encoder's image tower, in evaluation mode.

    Args:
        name: a CLIP row of ``ENCODERS``, ``open_clip:ARCH/TAG``, or ``tower:PATH`` of a file that holds both towers.
        pretrained: as for ``create_encoder``; the same file holds both towers.
        device: where it runs.

    Raises:
        InputError: unknown name, an encoder without a text tower, or weights as for ``create_encoder``.
    """
    require_text_tower(name)
    factory = resolve("text tower", {name: TEXT_TOWERS[_row(name)]}, name)
    _require_file(name, pretrained)
    encoder: TextEncoder = factory(name, pretrained)
    return encoder.to(device).eval()


def require_text_tower(name: str, what: str = "comparing texts with images") -> None:
    """Raise ``InputError`` where an encoder sees images only; ``what`` needs its text tower."""
    row = read_tower_header(tower_path(name)).encoder if is_tower(name) else name
    if _row(row) not in TEXT_TOWERS:
        known = [row for row, factory in ENCODERS.items() if factory in TEXT_TOWERS]
        raise InputError(
            f"{what} needs an encoder with a text tower, one of {', '.join(known)} or "
            f"open_clip:ARCH/TAG, got {name!r} which sees images only"
        )


def require_comparable(name: str) -> None:
    """Raise ``InputError`` where an encoder has no text tower, or one whose vectors lie elsewhere than its images'."""
    require_text_tower(name)
    if is_tower(name) and read_tower_header(tower_path(name)).pooling == "mean":
        raise InputError(
            f"comparing texts with images needs a tower that pools as it did with its texts, got {name!r} which "
            "averages its map; save it with pooling='own'"
        )


def _row(name: str) -> str:
    """Return the factory of a name."""
    check_name(name)
    return ENCODERS[name] if name in ENCODERS else PREFIXES[name.partition(":")[0]]


def _require_file(name: str, pretrained: bool | Path | str) -> None:
    if isinstance(pretrained, (str, Path)) and not Path(pretrained).is_file():
        raise InputError(f"weights of {name} must be a file, got {str(pretrained)!r} which does not exist")


def pooled_width(name: str) -> int:
    """Return the width of an encoder's pooled features; builds the model only for names outside the table."""
    check_name(name)
    if name in WIDTHS:
        return WIDTHS[name].pooled
    return create_encoder(name, pretrained=False).pooled_width
