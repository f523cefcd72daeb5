"""Small things that pictures of a film are made of: badges, arrows, bars, with smooth edges."""

import functools
import math

import numpy as np
from PIL import Image, ImageDraw

from vln_clip.viewer.lettering import default_font, open_font

Color = tuple[int, int, int]
INK, PALE, PAPER, FAINT = (26, 26, 26), (128, 136, 144), (255, 255, 255), (236, 239, 242)
CHOSEN, OTHER = (213, 94, 0), (0, 114, 178)  # the map's colors of agents; these read on photographs, too
_FINE = 4  # sprites are drawn so much larger and reduced


@functools.lru_cache(maxsize=256)
def badge(text: str, fill: Color, size_px: int) -> Image.Image:
    """Return a disc with a letter, RGBA."""
    edge = size_px * _FINE
    image = Image.new("RGBA", (edge, edge), (*fill, 0))
    pen = ImageDraw.Draw(image)
    pen.ellipse((0, 0, edge - 1, edge - 1), fill=(*PAPER, 255))
    rim = edge * 0.07
    pen.ellipse((rim, rim, edge - 1 - rim, edge - 1 - rim), fill=(*fill, 255))
    font = open_font(default_font(), edge * 0.52)
    pen.text((edge / 2, edge / 2), text, fill=(*PAPER, 255), font=font, anchor="mm")
    return image.resize((size_px, size_px), Image.Resampling.BOX)


@functools.lru_cache(maxsize=512)
def arrow(turn_deg: int, fill: Color, size_px: int) -> Image.Image:
    """Return an arrowhead that points ``turn_deg`` to the right of up, RGBA."""
    edge = size_px * _FINE
    image = Image.new("RGBA", (edge, edge), (*PAPER, 0))
    pen = ImageDraw.Draw(image)
    for scale, color in ((0.5, PAPER), (0.39, fill)):
        corners = []
        for angle, length in ((0.0, 1.0), (2.45, 0.95), (math.pi, 0.4), (-2.45, 0.95)):
            angle += math.radians(turn_deg)
            reach = length * scale * edge
            corners.append((edge / 2 + reach * math.sin(angle), edge / 2 - reach * math.cos(angle)))
        pen.polygon(corners, fill=(*color, 255))
    return image.resize((size_px, size_px), Image.Resampling.BOX)


def paste(image: Image.Image, sprite: Image.Image, x: float, y: float) -> None:
    """Put a sprite on a picture, its middle at (x, y)."""
    image.paste(sprite, (round(x - sprite.width / 2), round(y - sprite.height / 2)), sprite)


def tag(image: Image.Image, text: str, x: float, y: float, size_px: int, fill: Color = INK) -> None:
    """Write a short text in a white box, its middle at (x, y)."""
    font = open_font(default_font(), size_px)
    half = font.getlength(text) / 2 + size_px * 0.35
    pen = ImageDraw.Draw(image)
    box = (x - half, y - size_px * 0.72, x + half, y + size_px * 0.72)
    pen.rounded_rectangle(box, radius=size_px * 0.35, fill=PAPER)
    pen.text((x, y), text, fill=fill, font=font, anchor="mm")


def letter(candidate: int) -> str:
    """Return the letter that a candidate is called by: A to Z, then A1 and so on."""
    name = chr(ord("A") + candidate % 26)
    return name if candidate < 26 else f"{name}{candidate // 26}"


def mix(fill: Color, weight: float) -> Color:
    """Return a color thinned with white; weight 1 is the color itself."""
    mixed = np.array(PAPER) + weight * (np.array(fill) - PAPER)
    return (int(mixed[0]), int(mixed[1]), int(mixed[2]))
