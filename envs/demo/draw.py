"""Maps of generated houses, for looking at them: rooms, doors, furniture, viewpoints and edges."""

import itertools
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vln_clip.envs.demo.floorplan import Rect, wall_rects
from vln_clip.envs.demo.house import House
from vln_clip.envs.demo.palette import COLORS, ROOM_TYPES

_MARGIN_M = 0.4


def draw_map(house: House, file: Path, px_per_m: int = 64, path: tuple[int, ...] = ()) -> None:
    """Draw a house from above, +y up, and save it.

    Args:
        house: what to draw.
        file: PNG to write.
        px_per_m: scale.
        path: viewpoints (indices) of a path to mark.
    """
    span = max(room.x1 for room in house.plan.rooms), max(room.y1 for room in house.plan.rooms)
    width, height = ((extent + 2 * _MARGIN_M) * px_per_m for extent in span)
    image = Image.new("RGB", (int(width), int(height)), "white")
    pen = ImageDraw.Draw(image)

    def at(x: float, y: float) -> tuple[float, float]:
        return (x + _MARGIN_M) * px_per_m, height - (y + _MARGIN_M) * px_per_m

    def box(rect: Rect) -> list[tuple[float, float]]:
        return [at(rect[0], rect[3]), at(rect[2], rect[1])]

    for room in house.plan.rooms:
        pen.rectangle(box((room.x0, room.y0, room.x1, room.y1)), fill=ROOM_TYPES[room.kind].floor_rgb[0])
        pen.text(at(room.x0 + 0.15, room.y1 - 0.1), room.kind, fill="black")
    for x0, y0, x1, y1 in wall_rects(house.plan).tolist():
        pen.rectangle(box((x0, y0, x1, y1)), fill="dimgray")
    for thing in sorted(house.things, key=lambda thing: not thing.flat):
        color = COLORS[thing.color] if thing.color else (235, 235, 235)
        pen.rectangle(box(thing.rect), fill=color, outline="black")
        if thing.name != "doorway":
            pen.text(at(thing.rect[0] + 0.05, thing.rect[3]), thing.name, fill="white" if sum(color) < 330 else "black")
    for start, end in np.argwhere(np.triu(house.joined)).tolist():
        pen.line([at(*house.points[start]), at(*house.points[end])], fill="gray", width=2)
    for start, end in itertools.pairwise(path):
        pen.line([at(*house.points[start]), at(*house.points[end])], fill="red", width=6)
    for index, (x, y) in enumerate(house.points.tolist()):
        px, py = at(x, y)
        pen.ellipse([px - 6, py - 6, px + 6, py + 6], fill="white", outline="black")
        pen.text((px + 7, py - 5), str(index), fill="black")
    image.save(file)
