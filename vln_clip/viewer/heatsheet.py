"""Pictures with heat over them, one beside the other: what encoders look at for a text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vln_clip.viewer.lettering import Letters, default_font, find_font, line_height, wrap
from vln_clip.viewer.pens import INK, PALE, PAPER

_PANEL_PX, _MARGIN_PX, _GAP_PX = 400, 16, 14
_TITLE_PX, _CAPTION_PX = 21.0, 16.0
_TITLE_LINES = 6  # of a text: no encoder reads more than some of them
_UNSEEN = 0.45  # brightness of what an encoder does not see


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet.

    Attributes:
        picture: (H, W, 3) uint8 RGB.
        caption: lines below it, the first one darker than the others.
    """

    picture: np.ndarray
    caption: tuple[str, ...]


def overlay(picture: np.ndarray, heat: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Lay heat over a picture: OpenCV's JET colors added to it, and what is not seen dark and gray.

    Args:
        picture: (H, W, 3) uint8 RGB.
        heat: (H, W) float of any range; equal everywhere (nothing speaks for a text) it is blue.
        seen: (H, W) bool, somewhere True; heat is scaled to what is there.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    import cv2

    levels = np.round(_scaled(heat, seen) * 255).astype(np.uint8)
    jet = cv2.applyColorMap(levels, cv2.COLORMAP_JET)[..., ::-1].astype(np.float32) / 255
    mixed = jet + _scaled(picture.astype(np.float32), seen)
    mixed /= mixed[seen].max()
    gray = picture.astype(np.float32).mean(2, keepdims=True) / 255 * _UNSEEN
    return np.round(np.where(seen[..., None], mixed, gray).clip(0, 1) * 255).astype(np.uint8)


def _scaled(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Scale values so that those of what is seen go from 0 to 1; all 0 where they are equal."""
    low, high = values[seen].min(), values[seen].max()
    return ((values - low) / (high - low)).clip(0, 1) if high > low else np.zeros_like(values)


def draw_heatsheet(text: str, panels: Sequence[Panel], font: Path | None = None) -> Image.Image:
    """Draw pictures of one size beside each other, the text above and captions below.

    Args:
        text: what is explained, its first lines where it is long; left out, with a warning, where no font has its
            letters.
        panels: from left to right.
        font: taken for the text where it has its letters (``--font``).
    """
    height, width = panels[0].picture.shape[:2]
    scale = _PANEL_PX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = Letters(default_font(), _CAPTION_PX)
    longest = max(small.getlength(line) for panel in panels for line in panel.caption)
    column = max(size[0], min(round(longest) + 1, _PANEL_PX))
    total = len(panels) * (column + _GAP_PX) - _GAP_PX
    captions = [_caption(panel, small, column) for panel in panels]
    file = find_font(text, font)
    large = Letters(file or default_font(), _TITLE_PX)
    title = _title(text, large, total) if file else []
    top = _MARGIN_PX + round(len(title) * line_height(_TITLE_PX)) + (_GAP_PX if title else 0)
    below = round(max(map(len, captions)) * line_height(_CAPTION_PX))
    sheet = Image.new("RGB", (total + 2 * _MARGIN_PX, top + size[1] + _GAP_PX + below + _MARGIN_PX), PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, line in enumerate(title):
        large.draw(pen, (_MARGIN_PX, _MARGIN_PX + (row + 0.78) * line_height(_TITLE_PX)), line, INK)
    for number, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
        left = _MARGIN_PX + number * (column + _GAP_PX)
        resample = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
        sheet.paste(Image.fromarray(panel.picture).resize(size, resample), (left, top))
        for row, (line, which) in enumerate(caption):
            y = top + size[1] + _GAP_PX / 2 + (row + 0.78) * line_height(_CAPTION_PX)
            small.draw(pen, (left, y), line, PALE if which else INK)
    return sheet


def _title(text: str, letters: Letters, width: float) -> list[str]:
    """Break a text in quotes into lines, few of them."""
    most = round(_TITLE_LINES * width)  # letters are wider than a pixel: what is beyond is not even measured
    lines = wrap(f"“{text[:most]}”", letters, width)
    return lines if len(lines) <= _TITLE_LINES else [*lines[: _TITLE_LINES - 1], "…"]


def _caption(panel: Panel, letters: Letters, width: float) -> list[tuple[str, int]]:
    """Break a caption into lines, each with the number of the one that it is part of; of long names the middle goes."""
    found = []
    for number, told in enumerate(panel.caption):
        for line in wrap(told, letters, width):
            whole, kept = line, len(line)
            while letters.getlength(line) > width:
                kept -= 1
                line = whole[: kept // 2] + "…" + whole[kept // 2 - kept :]
            found.append((line, number))
    return found
