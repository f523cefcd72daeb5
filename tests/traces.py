"""Hand-made traces in a house of two floors, for tests of pictures.

h0 to h3 at cameras of 1.5 m, h4 on the stairs, h5 to h7 at 4.5 m; each joined to the next (metres):

    h7 (0, 6) -- h6 (2.5, 6) -- h5 (5, 6)
                                 |
                                h4 (5, 4), z 2.9
                                 |
    h1 (0, 2.5) - h2 (2.5, 2.5) - h3 (5, 2.5)
     |
    h0 (0, 0)
"""

from itertools import pairwise

import numpy as np

from tests.toy_world import entry, write_scan
from vln_clip.connectivity import NavTables
from vln_clip.records import Episode
from vln_clip.viewer.traces import Decision, Trace

PLACES = (
    (0, 0, 1.5),
    (0, 2.5, 1.5),
    (2.5, 2.5, 1.5),
    (5, 2.5, 1.5),
    (5, 4, 2.9),
    (5, 6, 4.5),
    (2.5, 6, 4.5),
    (0, 6, 4.5),
)
ENGLISH = "Leave the kitchen, go up the stairs & stop at the $5 lamp."
HINDI = "रसोई की ओर जाइए और वहाँ रुकिए।"
SCORES = {"success_rate": 0.0, "ndtw": 0.4321, "nav_error": 4.5}


def two_floors(folder) -> NavTables:
    """Return the tables of the house."""
    names = [f"h{i}" for i in range(len(PLACES))]
    rows = [
        entry(name, place, [names[j] for j in (i - 1, i + 1) if 0 <= j < len(names)], names)
        for i, (name, place) in enumerate(zip(names, PLACES, strict=True))
    ]
    write_scan(folder, "house", rows)
    return NavTables.load(folder, ("house",), cache=False)


def episode(path: str | None = "01234567", start: str = "0", text: str = ENGLISH, instr_id: str = "7_0") -> Episode:
    """Return an episode in the house; digits name viewpoints, None hides the goal."""
    names = tuple(f"h{digit}" for digit in path) if path else None
    return Episode(instr_id, "7", "house", f"h{start}", 0.4, text, names)


def walk(tables, digits, agent="follower", of=None, decided=True, stopped=True, forced=(), scores=SCORES) -> Trace:
    """Return the trace of a walk along viewpoints given as digits; without decisions it is one of a file."""
    of = of or episode(start=digits[0])
    viewpoints = np.array([tables.index("house", f"h{digit}") for digit in digits])
    decisions = _decisions(tables, viewpoints, stopped, forced, len(of.instruction.split())) if decided else None
    headings = [of.heading_rad]
    for here, there in pairwise(viewpoints):
        x, y = (tables.position[there] - tables.position[here])[:2]
        headings.append(float(np.arctan2(x, y)))
    words = tuple(of.instruction.split()) if decided else None
    metrics = None if of.path is None else dict(scores)
    level = np.zeros(len(viewpoints))
    return Trace(agent, of, viewpoints, np.array(headings), level, decisions, words, metrics=metrics)


def _decisions(tables, viewpoints, stopped, forced, num_words) -> list[Decision]:
    rng = np.random.default_rng(0)
    decisions = []
    for t, here in enumerate(viewpoints.tolist()):
        candidates = tables.neighbor[here, : tables.degree[here]]
        last = t + 1 == len(viewpoints)
        if last and not stopped:
            break
        action = len(candidates) if last else candidates.tolist().index(viewpoints[t + 1])
        probabilities = np.full(len(candidates) + 1, 0.3 / len(candidates), dtype=np.float32)
        probabilities[action] = 0.7
        words = rng.dirichlet(np.ones(num_words) / 3).astype(np.float32)
        decisions.append(Decision(candidates, probabilities, action, words, forced=t in forced))
    return decisions


def write_font(file, characters) -> None:
    """Write a font in which each of some characters is a square of its own size."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    letters = sorted(set(characters))
    names = [".notdef", *(f"u{ord(letter):04X}" for letter in letters)]
    glyphs = {}
    for k, name in enumerate(names):
        pen, edge = TTGlyphPen(None), 200 + 10 * k
        pen.moveTo((50, 0))
        for corner in ((50, edge), (edge, edge), (edge, 0)):
            pen.lineTo(corner)
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap(dict(zip(map(ord, letters), names[1:], strict=True)))
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(names, (700, 50)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(str(file))
