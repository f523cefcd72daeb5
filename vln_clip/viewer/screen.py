"""Puts the frames of a film together: sight, map with progress, probabilities, instruction."""

import functools
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vln_clip.connectivity import NavTables
from vln_clip.records import SUCCESS_RADIUS_M
from vln_clip.tasks.metrics import NAV_ERROR, SUCCESS_RATE
from vln_clip.viewer import pens
from vln_clip.viewer.captions import Caption
from vln_clip.viewer.lettering import default_font, open_font
from vln_clip.viewer.maps import Walks, was_cut_off
from vln_clip.viewer.shots import Shot
from vln_clip.viewer.sight import Sight
from vln_clip.viewer.skyboxes import Skyboxes
from vln_clip.viewer.smallmap import small_map
from vln_clip.viewer.traces import Trace

_SIGHT_WIDTH, _SIGHT_HEIGHT, _MAP_HEIGHT = 0.64, 0.77, 0.66  # shares of the frame, and of the height of the sight
_FINE = 2  # what is drawn over the map is drawn so much larger and reduced
_MOST_BARS = 7


class Screen:
    """Draws frames of one trace.

    Args:
        trace: what is filmed.
        graph: it walks on.
        skyboxes: of every viewpoint of the trace; None for the compass.
        size_px: of a frame, width and height.
        font: for the instruction, given by the user, or None.
    """

    def __init__(
        self, trace: Trace, graph: NavTables, skyboxes: Skyboxes | None, size_px: tuple[int, int], font: Path | None
    ) -> None:
        self.trace, self.graph = trace, graph
        self.width, self.height = size_px
        self._unit = self.height / 720
        self._sight_px = (round(self.width * _SIGHT_WIDTH), round(self.height * _SIGHT_HEIGHT))
        self.sight = Sight(trace, graph, skyboxes, self._sight_px)
        self._walks = Walks([trace], graph)
        map_share = _MAP_HEIGHT if trace.decisions is not None else 0.92
        self._map_px = (self.width - self._sight_px[0], round(self._sight_px[1] * map_share))
        self._map = small_map(self._walks, self._map_px, agents=False, dpi=140 * self._unit)
        margin = round(14 * self._unit)
        strip = (self.width - 2 * margin, self.height - self._sight_px[1] - round(40 * self._unit) - margin // 2)
        self._caption = Caption(trace, strip, 24 * self._unit, font)
        self._ground = functools.lru_cache(2)(self._draw_ground)

    def draw(self, shot: Shot) -> np.ndarray:
        """Draw one frame, (H, W, 3) uint8 RGB."""
        image = self._ground(shot.step, shot.deciding).copy()
        image.paste(self.sight.draw(shot), (0, 0))
        if shot.step + 1 == len(self.trace.viewpoints) and not shot.deciding:
            x, y = self._sight_px[0] / 2, self._sight_px[1] - 40 * self._unit
            pens.tag(image, end_text(self.trace), x, y, round(24 * self._unit))
        image.paste(self._draw_map(shot), (self._sight_px[0], 0))
        return np.asarray(image)

    def _draw_ground(self, step: int, deciding: bool) -> Image.Image:
        """Draw what stays the same during a step: instruction, probabilities, titles."""
        unit, margin = self._unit, round(14 * self._unit)
        image = Image.new("RGB", (self.width, self.height), pens.PAPER)
        pen = ImageDraw.Draw(image)
        episode = self.trace.episode
        forced = self.trace.decisions is not None and any(decision.forced for decision in self.trace.decisions)
        facts = [self.trace.agent, f"episode {episode.instr_id}", f"building {episode.scan}"]
        facts += ["some moves chosen by hand"] if forced else []
        top = self._sight_px[1] + round(8 * unit)
        pen.text((margin, top), ", ".join(facts), fill=pens.PALE, font=open_font(default_font(), 17 * unit))
        image.paste(self._caption.draw(step), (margin, top + round(29 * unit)))
        self._draw_bars(image, step, deciding)
        return image

    def _draw_bars(self, image: Image.Image, step: int, deciding: bool) -> None:
        """Draw the probabilities of a decision, the largest first."""
        unit, pen = self._unit, ImageDraw.Draw(image)
        left, top = self._sight_px[0] + 14 * unit, self._map_px[1] + 6 * unit
        font = open_font(default_font(), 17 * unit)
        decisions = self.trace.decisions
        total = len(decisions) if decisions is not None else len(self.trace.viewpoints)
        head = f"step {min(step + 1, total)} of {total}"
        if decisions is None or step >= len(decisions):
            pen.text((left, top), head, fill=pens.INK, font=font)
            return
        decision = decisions[step]
        head += "" if decision.value is None else f", value {decision.value:.1f}"
        pen.text((left, top), head + (", chosen by hand" if decision.forced else ""), fill=pens.INK, font=font)
        order = np.argsort(-decision.probabilities, kind="stable")[:_MOST_BARS].tolist()
        height = min(24 * unit, (self._sight_px[1] - top - 28 * unit) / max(len(order), 1))
        small, stop = open_font(default_font(), 0.66 * height), len(decision.candidates)
        room = self.width - left - 120 * unit
        for row, action in enumerate(order):
            y = top + 28 * unit + (row + 0.5) * height
            fill = pens.CHOSEN if action == decision.action and not deciding else pens.OTHER
            share = float(decision.probabilities[action])
            name = "stop" if action == stop else pens.letter(action)
            pen.text((left, y), name, fill=pens.INK, font=small, anchor="lm")
            bar = (left + 46 * unit, y - 0.33 * height, left + 46 * unit + max(1.0, share * room), y + 0.33 * height)
            pen.rectangle(bar, fill=fill)
            pen.text((bar[2] + 6 * unit, y), f"{100 * share:.0f} %", fill=pens.INK, font=small, anchor="lm")

    def _draw_map(self, shot: Shot) -> Image.Image:
        """Draw the way so far and where the agent is and looks."""
        width, height = self._map_px
        over = Image.new("RGBA", (width * _FINE, height * _FINE), (*pens.OTHER, 0))
        pen = ImageDraw.Draw(over)
        visited = self.trace.viewpoints[: shot.step + 1].tolist()
        places = [self.graph.position[viewpoint] for viewpoint in visited]
        floors = [self._walks.floor[viewpoint] for viewpoint in visited]
        if shot.moved:
            there = int(self.trace.viewpoints[shot.step + 1])
            places.append(places[-1] + shot.moved * (self.graph.position[there] - places[-1]))
            floors.append(self._walks.floor[there] if shot.moved > 0.5 else floors[-1])
        for k in range(1, len(places)):
            for floor in {floors[k - 1], floors[k]}:
                ends = [tuple(_FINE * value for value in self._map.spot(p, floor)) for p in (places[k - 1], places[k])]
                pen.line(ends, fill=(*pens.OTHER, 255), width=round(5 * self._unit) * _FINE)
                for x, y in ends:
                    radius = 2.5 * self._unit * _FINE
                    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(*pens.OTHER, 255))
        over = over.resize((width, height), Image.Resampling.BOX)
        image = Image.fromarray(self._map.picture)
        image.paste(over, (0, 0), over)
        turn = round(math.degrees(shot.heading_rad) / 3) * 3 % 360
        x, y = self._map.spot(places[-1], floors[-1])
        pens.paste(image, pens.arrow(turn, pens.CHOSEN, max(8, round(30 * self._unit))), x, y)
        return image


def end_text(trace: Trace) -> str:
    """Say how a walk ended."""
    end = f"cut off after {len(trace.viewpoints) - 1} moves" if was_cut_off(trace) else "stopped"
    if trace.metrics is None:
        return f"{end}; the goal is hidden"
    result = "success" if trace.metrics[SUCCESS_RATE] else f"failure, {SUCCESS_RADIUS_M:g} m would do"
    return f"{end} {trace.metrics[NAV_ERROR]:.1f} m from the goal: {result}"
