"""How an image file becomes the input of an encoder: the paper's recipes for VQA and captioning, and one's own.

The two recipes are quirks to be kept (specs/vl_tasks.md 1.7, 7): both destroy the aspect ratio. Pictures are resized
by Pillow, on bytes, as the released features were; everything is converted to RGB before.
"""

from dataclasses import dataclass, replace
from typing import Literal

from PIL import Image

from vln_clip.encoders.base import LAST, Encoder, Tap
from vln_clip.errors import InputError

OWN = "own"
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_MAX_SIDE_PX = 8192


@dataclass(frozen=True)
class Recipe:
    """One way from an image file to a grid.

    Attributes:
        name: of the preset, or ``own``.
        size_px: height and width of the encoder's input.
        interpolation: of Pillow.
        shortest_first: whether the shorter side is first brought to the height, the longer one to the width at most.
        exif: whether pictures are turned as their EXIF data says.
        tap: where a ViT's map is taken; networks of other kinds give their last map.
    """

    name: str
    size_px: tuple[int, int]
    interpolation: Literal["bilinear", "bicubic"]
    shortest_first: bool = False
    exif: bool = True
    tap: Tap = LAST

    def resize(self, image: Image.Image) -> Image.Image:
        """Resize an RGB picture to (height, width) ``size_px``."""
        height, width = self.size_px
        if self.shortest_first:
            size = shortest_edge_size((image.height, image.width), height, width)
            image = _resized(image, size, self.interpolation)
        return _resized(image, (height, width), self.interpolation)

    @property
    def resize_rule(self) -> str:
        """Say in words what happens to the size, for the header of feature files."""
        height, width = self.size_px
        first = f"shorter side to {height}, longer at most {width}, then " if self.shortest_first else ""
        return f"{first}both sides to {height}x{width}, {self.interpolation}, Pillow"


PRESETS = {
    "vqa": Recipe("vqa", (600, 1000), "bilinear", shortest_first=True, tap=Tap(layer=-2)),
    "caption": Recipe("caption", (448, 448), "bicubic", exif=False),
}


def recipe_for(
    encoder: Encoder,
    preset: str | None = None,
    image_size_px: tuple[int, int] | None = None,
    interpolation: Literal["bilinear", "bicubic"] | None = None,
    exif: bool | None = None,
    layer: int | None = None,
    ln_post: bool | None = None,
    keep_cls: bool | None = None,
) -> Recipe:
    """Return a preset, or one's own recipe, with some of it changed.

    Args:
        encoder: its own size and interpolation count where nothing else is said; its kind says whether a place of
            the map can be chosen.
        preset: row of ``PRESETS``; None resizes both sides to the encoder's own size.
        image_size_px: height and width.
        interpolation: of both steps.
        exif: see ``Recipe``.
        layer: see ``Tap``.
        ln_post: see ``Tap``.
        keep_cls: see ``Tap``.

    Raises:
        InputError: unknown preset, a size that gives no cell, or a place that this encoder does not have.
    """
    if preset is not None and preset not in PRESETS:
        raise InputError(f"--preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    own: Literal["bilinear", "bicubic"] = "bilinear" if encoder.transform.interpolation == "bilinear" else "bicubic"
    base = PRESETS[preset] if preset else Recipe(OWN, encoder.image_size_px, own)
    chosen = Tap(
        base.tap.layer if layer is None else layer,
        base.tap.ln_post if ln_post is None else ln_post,
        base.tap.keep_cls if keep_cls is None else keep_cls,
    )
    if not encoder.num_blocks and (layer, ln_post, keep_cls) == (None, None, None):
        chosen = LAST  # a preset's place is meant for ViTs
    recipe = replace(
        base,
        size_px=image_size_px or base.size_px,
        interpolation=interpolation or base.interpolation,
        exif=base.exif if exif is None else exif,
        tap=chosen,
    )
    recipe = replace(recipe, name=recipe.name if recipe in (base, replace(base, tap=chosen)) else OWN)
    height, width = recipe.size_px
    if min(height, width) < encoder.min_side_px or max(height, width) > _MAX_SIDE_PX:
        raise InputError(
            f"image size must be {encoder.min_side_px} to {_MAX_SIDE_PX} pixels high and wide for {encoder.name}, got "
            f"{height} {width}"
        )
    return recipe


def shortest_edge_size(size_px: tuple[int, int], shortest_px: int, longest_px: int) -> tuple[int, int]:
    """Return the size at which a picture's shorter side has some length, unless its longer side has too much then.

    Args:
        size_px: height and width.
        shortest_px: wanted length of the shorter side.
        longest_px: most that the longer side may have.

    Returns:
        Height and width, rounded to the nearest pixel, halves up, at least 1.
    """
    shorter, longer = min(size_px), max(size_px)
    scale = min(shortest_px / shorter, longest_px / longer)
    height, width = (max(int(side * scale + 0.5), 1) for side in size_px)
    return height, width


def _resized(image: Image.Image, size_px: tuple[int, int], interpolation: str) -> Image.Image:
    height, width = size_px
    return image if image.size == (width, height) else image.resize((width, height), _FILTERS[interpolation])
