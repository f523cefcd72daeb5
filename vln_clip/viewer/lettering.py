"""Fonts and line breaks for pictures: which font has the letters of a text, and how the text is drawn with it.

matplotlib's own font, DejaVu Sans, has Latin, Greek and Cyrillic. Scripts whose letters change with their neighbors
(Devanagari, Telugu) are drawn by Pillow with raqm, which matplotlib before 3.11 can't.
"""

import functools
import itertools
import logging
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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

    Letters of DejaVu Sans may be lacking (many fonts of other scripts hold no Latin ones): ``Letters`` takes them from
    there.

    Args:
        text: to be drawn.
        given: font that is taken before all others where it has the letters (``--font``).

    Raises:
        InputError: the given font cannot be read.
    """
    letters = _letters_in(text)
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
        named = "Chinese" if script == "Cjk" else script
        _warn_once(f"no font on this machine has {named} letters", f"install one (Debian: {package}) or give --font")
    return found


def needs_shaping(text: str) -> bool:
    """Tell whether letters of a text change with their neighbors or run from right to left."""
    return any("\u0590" <= character < "\u1e00" or "\ua800" <= character < "\uac00" for character in text)


@dataclass(frozen=True)
class Letters:
    """A font at a size; what it lacks and DejaVu Sans has is drawn with that.

    Attributes:
        file: the font.
        size: of the letters.
    """

    file: Path
    size: float

    def getlength(self, text: str) -> float:
        """Return the length of a line of text, in the unit of the size."""
        return sum(open_font(file, self.size).getlength(run) for run, file in self._runs(text))

    def draw(self, pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, fill: tuple[int, ...]) -> None:
        """Draw a line of text from a place on its baseline."""
        x, y = place
        for run, file in self._runs(text):
            font = open_font(file, self.size)
            pen.text((x, y), run, fill=fill, font=font, anchor="ls")
            x += font.getlength(run)

    def _runs(self, text: str) -> Iterator[tuple[str, Path]]:
        """Cut a text into pieces of one font."""
        own, other = _characters(self.file), _characters(default_font())
        for borrowed, run in itertools.groupby(text, lambda c: c not in own and c in other):
            yield "".join(run), default_font() if borrowed else self.file


def wrap(text: str, letters: Letters, width: float) -> list[str]:
    """Break a text into lines of at most ``width`` (in the unit of the letters' size) where words allow it."""
    lines = [""]
    for piece in _PIECE.findall(" ".join(text.split())):
        if lines[-1] and letters.getlength(lines[-1] + piece.rstrip()) > width:
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
    letters = Letters(file, size_px)
    width = max(1, *(int(letters.getlength(line)) + 2 for line in lines))
    image = Image.new("RGBA", (width, max(1, round(len(lines) * line_height(size_px)))), (*color, 0))
    pen = ImageDraw.Draw(image)
    for row, line in enumerate(lines):
        letters.draw(pen, (0, (row + 0.78) * line_height(size_px)), line, (*color, 255))
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
    text = "".join(lines)
    if needs_shaping(text) or not _letters_in(text) <= _characters(file):
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


def _letters_in(text: str) -> frozenset[str]:
    """Return the letters, marks and digits of a text."""
    return frozenset(character for character in text if unicodedata.category(character)[0] in "LMN")


def line_height(size: float) -> float:
    """Return the distance of two lines of text."""
    return _LINE * size


@functools.lru_cache(maxsize=256)
def _search(letters: frozenset[str], given: Path | None) -> Path | None:
    first = [] if given is None else [given]
    own = letters - _characters(default_font())
    for file in (*first, default_font()):
        if (own if file == given else letters) <= _characters(file):
            return file
    return next((file for file in _system_fonts() if own <= _characters(file)), None)


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
    logger.warning(f"{what}: texts in it are left out of pictures; {advice}")
