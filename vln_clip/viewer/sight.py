"""What an agent sees at a frame: the first person view out of skyboxes, or a compass where there are none."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from vln_clip.connectivity import NavTables
from vln_clip.envs.render import render_views
from vln_clip.viewer import pens
from vln_clip.viewer.lettering import default_font, open_font
from vln_clip.viewer.shots import Shot
from vln_clip.viewer.skyboxes import Skyboxes
from vln_clip.viewer.traces import Trace

_VFOV_RAD = math.radians(72)
_FEET_M = 1.3  # candidates are marked so far below their cameras, near the floor
_NEAREST = 0.15  # cosine to the line of sight; what is more to the side is not drawn
_FINE = 2  # the compass is drawn so much larger and reduced


class Sight:
    """Draws the large picture of a film of one trace.

    Args:
        trace: whose eyes.
        graph: it walks on.
        skyboxes: holds every viewpoint of the trace; None for the compass.
        size_px: width and height.
    """

    def __init__(self, trace: Trace, graph: NavTables, skyboxes: Skyboxes | None, size_px: tuple[int, int]) -> None:
        self.trace, self.graph, self.skyboxes = trace, graph, skyboxes
        self.width, self.height = size_px

    def draw(self, shot: Shot) -> Image.Image:
        """Draw one frame, RGB."""
        if self.skyboxes is None:
            return self._compass(shot)
        picture = self._view(self.skyboxes, shot, shot.viewpoint, shot.zoom)
        if shot.fade:
            there = int(self.trace.viewpoints[shot.step + 1])
            picture = Image.blend(picture, self._view(self.skyboxes, shot, there, 1.0), shot.fade)
        if not shot.moved:
            self._mark_candidates(picture, shot)
        return picture

    def _view(self, skyboxes: Skyboxes, shot: Shot, viewpoint: int, zoom: float) -> Image.Image:
        views = render_views(
            skyboxes.faces(viewpoint),
            skyboxes.rotation(viewpoint),
            [shot.heading_rad],
            [shot.elevation_rad],
            self.width,
            self.height,
            2 * math.atan(math.tan(_VFOV_RAD / 2) / zoom),
        )
        return Image.fromarray(views[0].numpy())

    def _mark_candidates(self, picture: Image.Image, shot: Shot) -> None:
        """Put a badge where each candidate's floor is, at the edge where it is out of sight.

        Once the agent has decided, the chosen one is left.
        """
        size = round(self.height * 0.062)
        aside = {-1: 0, 1: 0}  # badges at the left and right edge
        for k, candidate, share, chosen in self.options(shot.step):
            if not (chosen or shot.deciding):
                continue
            fill, name = pens.CHOSEN if chosen and not shot.deciding else pens.OTHER, pens.letter(k)
            side, x, y = self._find(candidate, shot, size)
            if side:
                y = 0.42 * self.height + 2.1 * size * aside[side]
                aside[side] += 1
                edge = self.width / 2 + side * (self.width / 2 - 0.5 * size)
                pens.paste(picture, pens.arrow(90 * side, fill, round(0.8 * size)), edge, y)
                x = edge - 0.95 * side * size
            pens.paste(picture, pens.badge(name, fill, size), x, y)
            if share is not None:
                pens.tag(picture, f"{100 * share:.0f} %", x, y + size, round(size * 0.44))

    def _find(self, candidate: int, shot: Shot, size: int) -> tuple[int, float, float]:
        """Return where a candidate is seen: -1, 0 or 1 for left of the picture, in it or right of it, and x and y."""
        focal = self.height / 2 / math.tan(_VFOV_RAD / 2)
        toward = self.graph.position[candidate] - self.graph.position[shot.viewpoint] - (0, 0, _FEET_M)
        right, up, ahead = _in_camera(toward, shot.heading_rad, shot.elevation_rad)
        side = 1 if right > 0 else -1
        if ahead < _NEAREST * np.linalg.norm(toward):
            return side, 0.0, 0.0
        x, y = self.width / 2 + focal * right / ahead, self.height / 2 - focal * up / ahead
        if not size < x < self.width - size:
            return side, 0.0, 0.0
        return 0, x, min(max(y, float(size)), self.height - 1.7 * size)

    def options(self, step: int) -> list[tuple[int, int, float | None, bool]]:
        """Return number, viewpoint, probability (None in walks from files) and choice of every candidate of a step."""
        trace = self.trace
        decisions = trace.decisions or ()
        following = int(trace.viewpoints[step + 1]) if step + 1 < len(trace.viewpoints) else None
        if step < len(decisions):
            found = decisions[step]
            return [
                (k, int(v), float(found.probabilities[k]), k == found.action) for k, v in enumerate(found.candidates)
            ]
        here = int(trace.viewpoints[step])
        neighbors: Sequence[int] = self.graph.neighbor[here, : self.graph.degree[here]].tolist()
        return [(k, v, None, v == following) for k, v in enumerate(neighbors)]

    def _compass(self, shot: Shot) -> Image.Image:
        """Draw the candidates around the agent, who looks up the page."""
        width, height = self.width * _FINE, self.height * _FINE
        image = Image.new("RGB", (width, height), pens.FAINT)
        pen = ImageDraw.Draw(image)
        x0, y0, radius = width / 2, height / 2, 0.33 * height
        self._draw_rose(pen, shot, (x0, y0), radius)
        for k, candidate, share, chosen in self.options(shot.step):
            if shot.moved and not chosen:
                continue
            toward = self.graph.position[candidate] - self.graph.position[shot.viewpoint]
            turn = math.atan2(toward[0], toward[1]) - shot.heading_rad
            away = radius * (1 - 0.9 * shot.moved)  # the chosen place comes nearer
            x, y = x0 + away * math.sin(turn), y0 - away * math.cos(turn)
            fill = pens.CHOSEN if chosen and not shot.deciding else pens.OTHER
            strength = 0.35 if share is None else share
            pen.line((x0, y0, x, y), fill=fill, width=round(height * (0.004 + 0.024 * strength)))
            pens.paste(image, pens.badge(pens.letter(k), fill, round(height * 0.075)), x, y)
            outside = 1.27 * radius - (radius - away)
            text = f"{np.linalg.norm(toward):.1f} m{_slope(toward)}"
            text = text if share is None else f"{100 * share:.0f} %, {text}"
            self._say(image, text, (x0 + 1.15 * outside * math.sin(turn), y0 - outside * math.cos(turn)))
        pens.paste(image, pens.arrow(0, pens.INK, round(height * 0.085)), x0, y0)
        return image.resize((self.width, self.height), Image.Resampling.BOX)

    def _draw_rose(self, pen: ImageDraw.ImageDraw, shot: Shot, center: tuple[float, float], radius: float) -> None:
        """Draw the ring with a mark each 30° and north."""
        (x0, y0), thin = center, max(1, round(radius * 0.008))
        pen.ellipse((x0 - radius, y0 - radius, x0 + radius, y0 + radius), fill="white", outline=pens.PALE, width=thin)
        for k in range(12):
            turn = k * math.pi / 6 - shot.heading_rad
            ends = [(x0 + r * math.sin(turn), y0 - r * math.cos(turn)) for r in (0.94 * radius, radius)]
            pen.line(ends, fill=pens.PALE, width=thin)
        font = open_font(default_font(), radius * 0.1)
        north = (x0 - 0.86 * radius * math.sin(shot.heading_rad), y0 - 0.86 * radius * math.cos(shot.heading_rad))
        pen.text(north, "N", fill=pens.PALE, font=font, anchor="mm")

    def _say(self, image: Image.Image, text: str, place: tuple[float, float]) -> None:
        size = round(image.height * 0.031)
        half = open_font(default_font(), size).getlength(text) / 2 + size
        x = min(max(place[0], half), image.width - half)
        ImageDraw.Draw(image).text(
            (x, place[1]), text, fill=pens.INK, font=open_font(default_font(), size), anchor="mm"
        )


def _in_camera(toward: np.ndarray, heading_rad: float, elevation_rad: float) -> tuple[float, float, float]:
    """Turn a direction of the world into right, up and ahead of a camera."""
    x, y, z = toward.tolist()
    right = x * math.cos(heading_rad) - y * math.sin(heading_rad)
    level = x * math.sin(heading_rad) + y * math.cos(heading_rad)
    ahead = level * math.cos(elevation_rad) + z * math.sin(elevation_rad)
    return right, z * math.cos(elevation_rad) - level * math.sin(elevation_rad), ahead


def _slope(toward: np.ndarray) -> str:
    """Say whether a way leads up or down; nothing within 10 degrees."""
    rise = math.degrees(math.atan2(toward[2], math.hypot(toward[0], toward[1])))
    return "" if abs(rise) < 10 else " up" if rise > 0 else " down"
