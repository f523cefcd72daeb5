"""The instruction below a film: words light up as far as the agent attends to them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vln_clip.viewer import pens
from vln_clip.viewer.lettering import Letters, default_font, find_font, line_height, open_font
from vln_clip.viewer.traces import Trace

_SPECIAL = re.compile(r"<[A-Za-z_-]+>|\[[A-Z]+\]|<[^>]*:[^>]*>")  # tokens that stand for no word
_GLUED = re.compile(r"^[.,;:!?।)\]'’]")  # written without a space before it
LIT = (240, 180, 41)
_SIZES = (1.0, 0.85, 0.72, 0.62)  # of the font, the largest that fits is taken


@dataclass(frozen=True, eq=False)
class Caption:
    """The instruction of a trace on a strip of a film.

    Attributes:
        trace: whose instruction.
        size_px: width and height of the strip.
        font_px: largest size of the letters.
        font: given by the user, or None.
    """

    trace: Trace
    size_px: tuple[int, int]
    font_px: float
    font: Path | None = None

    @cached_property
    def words(self) -> list[tuple[int, str]]:
        """Return the drawn words with their places in the attention; -1 in walks from files."""
        if self.trace.words is None:
            return [(-1, word) for word in self.trace.episode.instruction.split()]
        return [(k, word) for k, word in enumerate(self.trace.words) if not _SPECIAL.fullmatch(word)]

    @cached_property
    def _layout(self) -> tuple[float, list[list[tuple[int, str, float]]]]:
        """Return the size of the letters and, line by line, place in the attention, word and x."""
        file = self._file
        assert file is not None
        for share in _SIZES:
            size = self.font_px * share
            lines = _set_lines(self.words, file, size, self.size_px[0])
            if len(lines) * line_height(size) <= self.size_px[1]:
                break
        return size, lines

    @cached_property
    def _file(self) -> Path | None:
        return find_font(" ".join(word for _, word in self.words), self.font)

    def draw(self, step: int) -> Image.Image:
        """Draw the strip at a step; of a text that is too long, the lines around the word attended to most."""
        image = Image.new("RGB", self.size_px, pens.PAPER)
        if self._file is None or not self.words:
            return image
        weights = self._weights(step)
        size, lines = self._layout
        shown = _visible(lines, weights, max(1, int(self.size_px[1] / line_height(size))))
        pen, letters = ImageDraw.Draw(image), Letters(self._file, size)
        for row, line in enumerate(lines[shown]):
            top = row * line_height(size)
            if weights is not None:  # below all letters: boxes of neighbors overlap
                for place, word, x in line:
                    box = (x - 0.12 * size, top, x + letters.getlength(word) + 0.12 * size, top + 1.25 * size)
                    pen.rounded_rectangle(box, radius=0.2 * size, fill=pens.mix(LIT, float(weights[place])))
            for _, word, x in line:
                letters.draw(pen, (x, top + 0.98 * size), word, pens.INK)
        for hidden, y in ((shown.start > 0, 0.0), (shown.stop < len(lines), self.size_px[1] - 0.7 * size)):
            if hidden:
                pen.text((self.size_px[0] - size, y), "…", fill=pens.PALE, font=open_font(default_font(), size))
        return image

    def _weights(self, step: int) -> np.ndarray | None:
        """Return how much each word lights up, the most attended to one fully; None where nothing is known."""
        decisions = self.trace.decisions or ()
        found = decisions[step].words if step < len(decisions) else None
        if found is None or self.trace.words is None:
            return None
        drawn = found[[place for place, _ in self.words]].max()
        return np.clip(found / max(float(drawn), 1e-6), 0, 1)


def _set_lines(
    words: Sequence[tuple[int, str]], file: Path, size: float, width: float
) -> list[list[tuple[int, str, float]]]:
    """Break words into lines, each with place, word and x."""
    letters = Letters(file, size)
    space = letters.getlength(" ") or 0.3 * size
    lines: list[list[tuple[int, str, float]]] = [[]]
    x = 0.0
    for place, word in words:
        length = letters.getlength(word)
        glued = bool(_GLUED.match(word))
        if lines[-1] and not glued and x + space + length > width - 1.2 * size:
            lines.append([])
        x = 0.15 * size if not lines[-1] else x if glued else x + space
        lines[-1].append((place, word, x))
        x += length
    return lines


def _visible(lines: Sequence[Sequence[tuple[int, str, float]]], weights: np.ndarray | None, room: int) -> slice:
    """Choose ``room`` lines, the most attended to word about in their middle."""
    if len(lines) <= room or weights is None:
        return slice(0, min(room, len(lines)))
    heat = [max(float(weights[place]) for place, _, _ in line) for line in lines]
    first = min(max(0, int(np.argmax(heat)) - room // 2), len(lines) - room)
    return slice(first, first + room)
