"""Pictures and texts of what a walker faces: panorama, map, compass. They never show the goal or the teacher."""

import math
import textwrap
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vln_clip.envs.gym.source import Source
from vln_clip.envs.gym.walkers import Walkers
from vln_clip.envs.render import render_views
from vln_clip.records import view_elevation_rad, view_heading_rad

WIDTH_PX, MAP_PX, STRIP_PX = 960, 400, 192
_TEXT_PX = 76  # height of the lines above everything
_STRIPS = 24  # narrow views side by side come close to a cylinder
_MARGIN_PX = 28
_FLOOR_M = 1.5  # viewpoints farther up or down are on another floor
_INK, _PALE, _TRAIL, _MOVE, _SELF = (40, 40, 40), (205, 205, 205), (214, 96, 77), (33, 102, 172), (0, 0, 0)


class Painter:
    """Draws walkers of one source; frames of one painter have one size.

    Attributes:
        has_skyboxes: every building of the split has a folder of skyboxes, so frames begin with a panorama.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        scans = {episode.scan for episode in source.table.episodes}
        self.has_skyboxes = all(source.skybox_folder(scan).is_dir() for scan in scans)
        self._font, self._small = ImageFont.load_default(16), ImageFont.load_default(13)

    def frame(self, walkers: Walkers, index: int) -> np.ndarray:
        """Draw walker ``index``: instruction, panorama where there are skyboxes, map, compass; (H, 960, 3) uint8."""
        top = _TEXT_PX + (STRIP_PX if self.has_skyboxes else 0)
        image = Image.new("RGB", (WIDTH_PX, top + MAP_PX), "white")
        pen = ImageDraw.Draw(image)
        lines = textwrap.wrap(self._instruction(walkers, index), 112)[:3]
        pen.multiline_text((10, 6), "\n".join(lines), fill=_INK, font=self._font)
        if self.has_skyboxes:
            self._panorama(image, walkers, index)
        self._map(pen, (0, top), walkers, index)
        self._compass(pen, (WIDTH_PX * 3 // 4, top + MAP_PX // 2), walkers, index)
        return np.asarray(image).copy()

    def text(self, walkers: Walkers, index: int) -> str:
        """Describe walker ``index`` in lines: instruction, place, and one line per action."""
        viewpoint, view = int(walkers.viewpoint[index]), int(walkers.view[index])
        scan, viewpoint_id = self.source.tables.keys[viewpoint]
        heading, tilt = math.degrees(view_heading_rad(view)), math.degrees(view_elevation_rad(view))
        lines = [
            f"{self.source.table.episodes[int(walkers.row[index])].instr_id}: {self._instruction(walkers, index)}",
            f"decision {int(walkers.steps[index])} of {walkers.options.max_steps}, building {scan}, viewpoint "
            f"{viewpoint_id}, looking {heading:.0f} deg clockwise from +y, {tilt:+.0f} deg up",
            "   0  stop",
        ]
        for action, (turn, rise, length_m) in enumerate(self._candidates(viewpoint, view), start=1):
            lines.append(f"  {action:2}  {_direction(turn)}{_slope(rise)}, {length_m:.1f} m")
        return "\n".join(lines)

    def _instruction(self, walkers: Walkers, index: int) -> str:
        return " ".join(self.source.table.episodes[int(walkers.row[index])].instruction.split())

    def _candidates(self, viewpoint: int, view: int) -> list[tuple[float, float, float]]:
        """Return turn to the right in (-π, π], elevation and length of every candidate."""
        tables = self.source.tables
        found = []
        for k in range(int(tables.degree[viewpoint])):
            turn = float(tables.bearing_rad[viewpoint, k]) - view_heading_rad(view)
            length_m = np.linalg.norm(tables.position[tables.neighbor[viewpoint, k]] - tables.position[viewpoint])
            turn = math.atan2(math.sin(turn), math.cos(turn))
            found.append((turn, float(tables.elevation_rad[viewpoint, k]), float(length_m)))
        return found

    def _panorama(self, image: Image.Image, walkers: Walkers, index: int) -> None:
        """Paste the full turn, the agent's heading in the middle, with the actions at their bearings."""
        viewpoint, view = int(walkers.viewpoint[index]), int(walkers.view[index])
        width = WIDTH_PX // _STRIPS
        step = 2 * math.pi / _STRIPS
        vfov_rad = 2 * math.atan(math.tan(step / 2) * STRIP_PX / width)
        headings = [view_heading_rad(view) + (k - (_STRIPS - 1) / 2) * step for k in range(_STRIPS)]
        views = render_views(
            self.source.faces(viewpoint),
            self.source.rotation[viewpoint],
            headings,
            [0.0] * _STRIPS,
            width,
            STRIP_PX,
            vfov_rad,
        )
        strip = views.permute(1, 0, 2, 3).reshape(STRIP_PX, WIDTH_PX, 3).numpy()
        image.paste(Image.fromarray(strip), (0, _TEXT_PX))
        pen = ImageDraw.Draw(image)
        for action, (turn, rise, _) in enumerate(self._candidates(viewpoint, view), start=1):
            x = WIDTH_PX / 2 + turn / (2 * math.pi) * WIDTH_PX
            down = 0.5 - math.tan(rise) / (2 * math.tan(vfov_rad / 2))
            y = _TEXT_PX + STRIP_PX * min(max(down, 0.1), 0.9)
            for edge in (-WIDTH_PX, 0, WIDTH_PX):  # what is behind shows at both ends
                self._badge(pen, (x + edge, y), str(action), _MOVE)

    def _map(self, pen: ImageDraw.ImageDraw, corner: tuple[int, int], walkers: Walkers, index: int) -> None:
        """Draw the building's graph from above, +y up: this floor dark, others pale, the way so far in red."""
        tables, here = self.source.tables, int(walkers.viewpoint[index])
        members = np.flatnonzero(tables.scan_index == tables.scan_index[here])
        at = _scaling(tables.position[members], corner)
        height_m = tables.position[:, 2] - tables.position[here, 2]
        for member in sorted(members, key=lambda m: -abs(float(height_m[m]))):
            same = abs(float(height_m[member])) < _FLOOR_M
            for other in tables.neighbor[member, : tables.degree[member]]:
                shade = (150, 150, 150) if same and abs(float(height_m[other])) < _FLOOR_M else (230, 230, 230)
                pen.line([at(tables.position[member]), at(tables.position[other])], fill=shade, width=1)
            _dot(pen, at(tables.position[member]), 3, _INK if same else _PALE)
        trail = walkers.trail[index][walkers.trail[index] >= 0]
        pen.line([at(tables.position[v]) for v in trail], fill=_TRAIL, width=4)
        for action, other in enumerate(tables.neighbor[here, : tables.degree[here]], start=1):
            self._badge(pen, at(tables.position[other]), str(action), _MOVE)
        _arrow(pen, at(tables.position[here]), view_heading_rad(int(walkers.view[index])), 13)

    def _compass(self, pen: ImageDraw.ImageDraw, center: tuple[int, int], walkers: Walkers, index: int) -> None:
        """Draw the actions around the agent, who looks up the page; steps up and down are told in words."""
        radius = MAP_PX // 2 - 70
        x0, y0 = center
        pen.ellipse([x0 - radius, y0 - radius, x0 + radius, y0 + radius], outline=_PALE, width=2)
        _arrow(pen, center, 0.0, 16)
        viewpoint, view = int(walkers.viewpoint[index]), int(walkers.view[index])
        pen.text((x0 - 170, y0 - MAP_PX // 2 + 8), "0: stop", fill=_INK, font=self._small)
        done = f"decision {int(walkers.steps[index])} of {walkers.options.max_steps}"
        pen.text((x0 + 80, y0 - MAP_PX // 2 + 8), done, fill=_INK, font=self._small)
        for action, (turn, rise, length_m) in enumerate(self._candidates(viewpoint, view), start=1):
            place = (x0 + radius * math.sin(turn), y0 - radius * math.cos(turn))
            self._badge(pen, place, str(action), _MOVE)
            label = f"{length_m:.1f} m{_slope(rise)}"
            outside = (x0 + (radius + 34) * math.sin(turn), y0 - (radius + 34) * math.cos(turn))
            pen.text(outside, label, fill=_INK, font=self._small, anchor="mm")

    def _badge(self, pen: ImageDraw.ImageDraw, place: tuple[float, float], label: str, fill: tuple[int, ...]) -> None:
        """Draw a numbered disc."""
        _dot(pen, place, 10, fill)
        pen.text(place, label, fill="white", font=self._small, anchor="mm")


def _scaling(position: np.ndarray, corner: tuple[int, int]) -> Callable[[np.ndarray], tuple[float, float]]:
    """Return the function from world positions to pixels of a map that holds all of ``position`` (n, 3)."""
    low, high = position[:, :2].min(0), position[:, :2].max(0)
    room = np.array([WIDTH_PX // 2, MAP_PX]) - 2 * _MARGIN_PX
    px_per_m = float((room / np.maximum(high - low, 1.0)).min())
    middle = (low + high) / 2

    def at(place: np.ndarray) -> tuple[float, float]:
        x, y = (place[:2] - middle) * px_per_m
        return corner[0] + WIDTH_PX / 4 + float(x), corner[1] + MAP_PX / 2 - float(y)

    return at


def _dot(pen: ImageDraw.ImageDraw, place: tuple[float, float], radius: int, fill: tuple[int, ...]) -> None:
    x, y = place
    pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)


def _arrow(pen: ImageDraw.ImageDraw, place: tuple[float, float], heading_rad: float, size: int) -> None:
    """Draw a triangle that points along a heading, clockwise from up."""
    corners = []
    for turn, length in ((0.0, 1.0), (2.5, 0.8), (-2.5, 0.8)):
        angle = heading_rad + turn
        corners.append((place[0] + size * length * math.sin(angle), place[1] - size * length * math.cos(angle)))
    pen.polygon(corners, fill=_SELF)


def _direction(turn_rad: float) -> str:
    """Say where something is, relative to the line of sight."""
    degrees = round(math.degrees(turn_rad))
    if abs(degrees) <= 5:
        return "ahead"
    if abs(degrees) >= 175:
        return "behind"
    return f"{abs(degrees)} deg {'right' if degrees > 0 else 'left'}"


def _slope(rise_rad: float) -> str:
    """Say whether a way leads up or down; nothing within 10 degrees."""
    degrees = round(math.degrees(rise_rad))
    return "" if abs(degrees) < 10 else f" {'up' if degrees > 0 else 'down'}"
