"""How a picture comes onto the canvas: resized by the rule of CLIP-ViL_p, then padded to one of two orientations.

Orientation is decided once, from the resized size: the released code grouped by the original size and padded by the
resized one, so that pictures one or two pixels from square were cropped (specs/vl_tasks.md 4.2).
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from vln_clip.features.images import to_rgb

LANDSCAPE, PORTRAIT = 0, 1
NAMES = ("landscape", "portrait")


@dataclass(frozen=True)
class CanvasSize:
    """What pictures are brought to.

    Attributes:
        short_px: side to which the shorter side of a picture is brought, and of the canvas.
        long_px: what the longer side may have, and that of the canvas; squares and portraits are padded to
            ``long_px`` rows, others to ``long_px`` columns.
    """

    short_px: int = 384
    long_px: int = 640

    def __post_init__(self) -> None:
        if not 1 <= self.short_px <= self.long_px:
            raise ValueError(f"a canvas must have 1 <= short_px <= long_px, got {self.short_px} and {self.long_px}")

    def shape(self, orientation: int) -> tuple[int, int]:
        """Return rows and columns of the canvas."""
        return (self.short_px, self.long_px) if orientation == LANDSCAPE else (self.long_px, self.short_px)

    def resized(self, width_px: int, height_px: int) -> tuple[int, int]:
        """Return height and width of a picture after resizing.

        The longer side can become a few pixels longer than the canvas, as 1024x300 becomes 641 wide.

        Raises:
            ValueError: the picture is so thin that nothing is left of its shorter side.
        """
        low, high = min(width_px, height_px), max(width_px, height_px)
        short = self.short_px
        if short * high > self.long_px * low:
            short = round(self.long_px * low / high)
        if short < 1:
            raise ValueError(f"{width_px}x{height_px} pixels are too thin for {self.long_px} pixels of length")
        long = short * high // low
        return (short, long) if height_px <= width_px else (long, short)

    def orientation(self, width_px: int, height_px: int) -> int:
        """Return ``LANDSCAPE`` where the resized picture is wider than high, else ``PORTRAIT``."""
        height, width = self.resized(width_px, height_px)
        return LANDSCAPE if width > height else PORTRAIT

    def fit(self, image: Image.Image, convert_after_resize: bool = False) -> np.ndarray:
        """Resize a picture and put it into the middle of its black canvas.

        Args:
            image: of any mode.
            convert_after_resize: convert to RGB after resizing, as the released code does, which differs for palettes
                (Pillow takes their nearest pixels) and transparency.

        Returns:
            (3, H, W) uint8.
        """
        height, width = self.resized(image.width, image.height)
        if not convert_after_resize:
            image = to_rgb(image)
        image = to_rgb(image.resize((width, height), Image.Resampling.BILINEAR))
        canvas = self.shape(LANDSCAPE if width > height else PORTRAIT)
        return _padded(np.asarray(image), canvas)


def margins(length: int, room: int) -> tuple[int, int]:
    """Return the pixels before and after a picture that is to have ``room``: the odd one before.

    Negative ones are cropped; there the odd one is after the picture.
    """
    missing = room - length
    return -(-missing // 2), missing // 2


def _padded(pixels: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
    """Center pixels (h, w, 3) on a canvas and return (3, H, W)."""
    into, kept = [], []
    for length, room in zip(pixels.shape, canvas, strict=False):
        before, after = margins(length, room)
        into.append(slice(max(before, 0), room - max(after, 0)))
        kept.append(slice(max(-before, 0), length - max(-after, 0)))
    result = np.zeros((3, *canvas), np.uint8)
    result[:, into[0], into[1]] = pixels[kept[0], kept[1]].transpose(2, 0, 1)
    return result
