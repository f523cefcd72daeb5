"""Fonts and line breaks for pictures: which font has the letters of a text, and how the text is drawn with it.

matplotlib's own font, DejaVu Sans, has Latin, Greek and Cyrillic. Scripts whose letters change with their neighbors
(Devanagari, Telugu) are drawn by Pillow with raqm, which matplotlib before 3.11 can't.
"""

import functools
import logging
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from vln_clip.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

logger = logging.getLogger(__name__)

_PX_PER_PT = 5  # of text that is drawn as a picture
_INK = (26, 26, 26)
_LINE = 1.35  # height of a line, in sizes of the font
_IDEOGRAPH = "\u3000-\u9fff\uac00-\ud7af\uff00-\uffef"  # lines may break beside each of them
_PIECE = re.compile(rf"[{_IDEOGRAPH}]|[^\s{_IDEOGRAPH}]+\s*")


def default_font() -> Path:
    """Return DejaVu Sans, which comes with matplotlib."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def find_font(text: str, given: Path | None = None) -> Path | None:
    """Return a font file that has the letters of a text; None, and a warning once per script, where there is none.

    Args:
        text: to be drawn.
        given: font that is taken before all others where it has the letters (``--font``).

    Raises:
        InputError: the given font cannot be read.
    """
    letters = frozenset(character for character in text if unicodedata.category(character)[0] in "LMN")
    if given is not None and not _characters(given):
        raise InputError(f"--font must be a TrueType or OpenType file, got {given}, which cannot be read as one")
    found = _search(letters, given)
    if found is not None and needs_shaping(text) and not features.check("raqm"):
        _warn_once("Pillow is installed without raqm, which other scripts need", "reinstall Pillow from its wheel")
        return None
    if found is None:
        lacking = sorted(letters - _characters(default_font()))
        script = unicodedata.name(lacking[0], "other").split()[0].capitalize()
        package = "fonts-noto-cjk" if script in ("Cjk", "Hangul", "Hiragana", "Katakana") else "fonts-noto-core"
        _warn_once(f"no font on this machine has {script} letters", f"install one (Debian: {package}) or give --font")
    return found


def needs_shaping(text: str) -> bool:
    """Tell whether letters of a text change with their neighbors or run from right to left."""
    return any("\u0590" <= character < "\u1e00" or "\ua800" <= character < "\uac00" for character in text)


def wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Break a text into lines of at most ``width`` (in the unit of the font's size) where words allow it."""
    lines = [""]
    for piece in _PIECE.findall(" ".join(text.split())):
        if lines[-1] and font.getlength(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


@functools.lru_cache(maxsize=64)
def open_font(file: Path, size: float) -> ImageFont.FreeTypeFont:
    """Open a font for Pillow."""
    return ImageFont.truetype(str(file), size)


def lines_picture(lines: Sequence[str], file: Path, size_px: float, color: tuple[int, int, int]) -> np.ndarray:
    """Draw lines of text on nothing.

    Returns:
        (h, w, 4) uint8 RGBA; a line is ``line_height(size_px)`` high.
    """
    font = open_font(file, size_px)
    width = max(1, *(int(font.getlength(line)) + 2 for line in lines))
    image = Image.new("RGBA", (width, max(1, round(len(lines) * line_height(size_px)))), (*color, 0))
    pen = ImageDraw.Draw(image)
    for row, line in enumerate(lines):
        pen.text((0, (row + 0.78) * line_height(size_px)), line, fill=(*color, 255), font=font, anchor="ls")
    return np.asarray(image)


def draw_lines(axis: "Axes", lines: Sequence[str], file: Path, size_pt: float, corner: tuple[float, float]) -> None:
    """Draw lines of text on axes whose unit is the point: as text where matplotlib can, else as a picture.

    Args:
        axis: to draw on.
        lines: of text.
        file: the font.
        size_pt: of the letters.
        corner: left and top.
    """
    from matplotlib.font_manager import FontProperties

    left, top = corner
    if needs_shaping("".join(lines)):
        limits = axis.get_xlim(), axis.get_ylim()
        picture = lines_picture(lines, file, size_pt * _PX_PER_PT, _INK)
        height, width = (length / _PX_PER_PT for length in picture.shape[:2])
        axis.imshow(picture, extent=(left, left + width, top - height, top), aspect="auto", interpolation="antialiased")
        axis.set_xlim(*limits[0])
        axis.set_ylim(*limits[1])
        return
    look = None if file == default_font() else FontProperties(fname=str(file))
    color = tuple(channel / 255 for channel in _INK)
    for row, line in enumerate(lines):
        y = top - (row + 0.78) * line_height(size_pt)
        # A dollar sign would begin a formula.
        axis.text(left, y, line, fontproperties=look, fontsize=size_pt, va="baseline", color=color, parse_math=False)


def line_height(size: float) -> float:
    """Return the distance of two lines of text."""
    return _LINE * size


@functools.lru_cache(maxsize=256)
def _search(letters: frozenset[str], given: Path | None) -> Path | None:
    first = [] if given is None else [given]
    for file in (*first, default_font()):
        if letters <= _characters(file):
            return file
    return next((file for file in _system_fonts() if letters <= _characters(file)), None)


@functools.cache
def _system_fonts() -> list[Path]:
    """Return the fonts of this machine: upright and regular ones first, by name."""
    from matplotlib.font_manager import findSystemFonts

    files = sorted(map(Path, findSystemFonts()), key=lambda file: file.name)
    odd = re.compile("bold|italic|oblique|light|thin|black|condensed|mono|medium", re.IGNORECASE)
    return sorted(files, key=lambda file: (bool(odd.search(file.stem)), "sans" not in file.stem.lower()))


@functools.lru_cache(maxsize=512)
def _characters(file: Path) -> frozenset[str]:
    """Return what a font file has glyphs for; nothing where it is no font."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(str(file)).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()


@functools.cache
def _warn_once(what: str, advice: str) -> None:
    logger.warning(f"{what}: instructions in it are left out of pictures, which name the episode only; {advice}")
