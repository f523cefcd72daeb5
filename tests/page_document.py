"""A small document for the page, made by hand: every kind of episode that the page must know how to show."""

import base64
import io
import itertools
import math

import numpy as np
from PIL import Image

LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
WIDTH_PX = 256
SCRIPT = "Walk to <script>document.title = 'broken'</script> & stop </script> <!-- here"
HINDI = "सोफ़े के पास से होकर दरवाज़े पर रुकें"


def encode(weights):
    """One character per weight: level k of 64 stands for (k / 63)²."""
    return "".join(LEVELS[round(63 * math.sqrt(weight))] for weight in weights)


def scan(name, columns, floors):
    """Return a grid of viewpoints 2 m apart, ``columns`` x 2 on every floor; floors joined at their first place."""
    ids, x, y, z, floor, edges = [], [], [], [], [], []
    for level in range(floors):
        first = len(ids)
        for row in range(2):
            for column in range(columns):
                here = len(ids)
                ids.append(f"{name}{level}{row}{column}".ljust(32, "0"))
                x.append(2.0 * column)
                y.append(2.0 * row)
                z.append(1.5 + 2.8 * level)
                floor.append(level)
                edges += [here - 1, here] if column else []
                edges += [here - columns, here] if row else []
        edges += [first - 2 * columns, first] if level else []
    about = [f"cameras at {1.5 + 2.8 * level:.1f} m" for level in range(floors)]
    return {"ids": ids, "x": x, "y": y, "z": z, "floor": floor, "floors": about, "edges": edges, "panorama": None}


def neighbors(graph, place):
    pairs = list(zip(graph["edges"][::2], graph["edges"][1::2], strict=True))
    return [b for a, b in pairs if a == place] + [a for a, b in pairs if b == place]


def decision(graph, place, following, words, step, saliency=False):
    """Return a decision for ``following`` (None is stop), 60 % sure; the other moves share the rest."""
    moves = neighbors(graph, place)
    action = len(moves) if following is None else moves.index(following)
    p = [0.6 if k == action else round(0.4 / len(moves), 3) for k in range(len(moves) + 1)]
    weights = [0.1 + 0.8 * (k == step % words) for k in range(words)]
    views = [0.5 if k == 12 + step % 12 else 0.01 for k in range(36)]
    heat = {"height": 2, "width": 2, "data": encode([0.9 if k % 7 == 0 else 0.1 for k in range(36 * 4)])}
    return {"c": moves, "p": p, "a": action, "w": encode(weights), "v": encode(views), "value": 1.5 - 0.2 * step,
            "reward": 1.0 if step % 2 else -1.0, "s": heat if saliency else None}  # fmt: skip


def walk(graph, places, words, success, decided=True, unknown=(), saliency=False):
    """Return a walk over places of a scan, looking where it went."""
    heading = [0.0]
    for a, b in itertools.pairwise(places):
        heading.append(round(math.atan2(graph["x"][b] - graph["x"][a], graph["y"][b] - graph["y"][a]), 3))
    following = [*places[1:], None]
    decisions = [decision(graph, a, following[t], len(words), t, saliency) for t, a in enumerate(places)]
    metrics = {"success_rate": float(success), "spl": 0.8 * success, "ndtw": 0.9 if success else 0.31,
               "nav_error": 1.0 if success else 6.25, "lengths": 2.0 * (len(places) - 1),
               "steps": len(places)}  # fmt: skip
    return {"viewpoints": places, "heading": heading, "elevation": [0.0] * len(places),
            "words": words if decided else None, "unknown": list(unknown), "metrics": metrics,
            "decisions": decisions if decided else None}  # fmt: skip


def episode(instr_id, scan_name, path, instruction, walks, language="en"):
    return {"id": instr_id, "path_id": instr_id.split("_")[0], "scan": scan_name, "language": language,
            "instruction": instruction, "path": path, "heading": 0.0, "walks": walks}  # fmt: skip


def panorama(color):
    """Return a JPEG of one color with a bright quarter to the east, so that turning changes pixels."""
    pixels = np.full((WIDTH_PX // 2, WIDTH_PX, 3), color, np.uint8)
    pixels[:, WIDTH_PX * 5 // 8 : WIDTH_PX * 7 // 8] = (250, 240, 120)
    pixels[WIDTH_PX * 5 // 16 :] //= 2
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return file.getvalue()


def page_document(pictures=True, agents=2):
    """Return a document and the JPEGs that belong to it.

    ``house``: two floors of 6 places (0 to 5 and 6 to 11, joined by 0-6) with pictures; ``villa``: one of 8
    without.
    """
    house, villa = scan("house", 3, 2), scan("villa", 4, 1)
    house["panorama"] = list(range(12)) if pictures else None
    words = ["go", "up", "stairs"]
    success = walk(house, [1, 0, 6, 7], words, True, unknown=[2], saliency=True)
    failure = walk(house, [1, 2, 5], words, False)
    hidden = walk(villa, [0, 1, 2], ["wait", "there", "now"], False) | {"metrics": None}
    episodes = [
        episode("1_0", "house", [1, 0, 6, 7], "Go up stairs", [success, failure]),
        episode("2_0", "house", [2, 5], SCRIPT, [walk(house, [2, 1], words, False), walk(house, [2, 5], words, True)]),
        episode("3_0", "villa", None, "Wait there now", [hidden, None]),
        episode("4_0", "villa", [0, 4, 5], HINDI, [walk(villa, [0, 4, 5], HINDI.split(), True)] * 2, "hi-IN"),
        episode("5_0", "villa", [3, 2], "From a file", [walk(villa, [3, 7], words, False, decided=False)] * 2),
    ]
    for one in episodes:
        one["walks"] = one["walks"][:agents]
    jpegs = [panorama((20 * k, 90, 200 - 12 * k)) for k in range(12)] if pictures else []
    document = {
        "version": 1,
        "title": "Toy walks",
        "dataset": "toy",
        "split": "val_unseen",
        "facts": ["features: pixels", "5 episodes"],
        "notes": ["villa has no skyboxes, so the compass stands in"],
        "agents": [{"name": "long run", "about": "checkpoint of 60 iterations"}, {"name": "short run", "about": ""}][
            :agents
        ],
        "scans": {"house": house, "villa": villa},
        "panoramas": {"width": WIDTH_PX, "height": WIDTH_PX // 2, "count": len(jpegs), "url": None},
        "episodes": episodes,
    }
    return document, jpegs


def decode_panorama(text):
    """Return the JPEG that a page holds as text."""
    return base64.b64decode(text)
