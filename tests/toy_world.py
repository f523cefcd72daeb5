"""The toy world of the tests: three hand-set buildings in the public file formats, written into a folder.

alpha (metres, all edges axis-parallel but two; z is 1.5 but at a3; ``ax`` is excluded):

    a3 (0, 7.5, z 3)          a6 (5, 7.5)
     |                         |
    a2 (0, 5) -- a4 (2.5, 5) -- a5 (5, 5)
     |                         |
    a1 (0, 2.5) ------------- a7 (5, 2)
     |
    a0 (0, 0)

beta is alpha mirrored at x = 0 with names b0 to b7; gamma is disconnected: g0 - g1, g2 - g3, and g4 alone.
"""

import gzip
import itertools
import json
from pathlib import Path

import numpy as np
import torch

from vln_clip.connectivity import NavTables
from vln_clip.envs.navigation import Navigation
from vln_clip.features import StoreHeader, bank, open_store
from vln_clip.features.store import write_store
from vln_clip.records import Batch
from vln_clip.setting import Setting, open_setting

WIDTH = 8
ALPHA = {
    "a0": (0.0, 0.0, 1.5),
    "a1": (0.0, 2.5, 1.5),
    "a2": (0.0, 5.0, 1.5),
    "a3": (0.0, 7.5, 3.0),
    "a4": (2.5, 5.0, 1.5),
    "a5": (5.0, 5.0, 1.5),
    "a6": (5.0, 7.5, 1.5),
    "a7": (5.0, 2.0, 1.5),
}
EDGES = ("01", "12", "23", "24", "45", "56", "57", "17")
GAMMA = {f"g{i}": (3.0 * i, 0.0, 1.5) for i in range(5)}
CAMERA = ((1, 0, 0), (0, 0, 1), (0, -1, 0))  # camera x right, y down, z forward, looking along world +y
PLACES = ("kitchen", "hall", "bath", "attic", "study", "porch", "cellar", "garage")  # of viewpoints 0 to 7
SPLITS = ("train", "val_seen", "val_unseen", "test")


def entry(name, position, neighbors, names, included=True):
    """Return one object of a connectivity file."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = CAMERA, position
    return {
        "image_id": name,
        "pose": pose.ravel().tolist(),
        "included": included,
        "visible": [True] * len(names),
        "unobstructed": [other in neighbors for other in names],
        "height": 1.5,
    }


def scan_rows(scan):
    """Return the content of a scan's connectivity file."""
    if scan == "gamma":
        links = {"g0": "g1", "g1": "g0", "g2": "g3", "g3": "g2", "g4": ""}
        return [entry(name, position, [links[name]], list(GAMMA)) for name, position in GAMMA.items()]
    letter, side = ("a", 1.0) if scan == "alpha" else ("b", -1.0)
    names = [f"{letter}{name[1]}" for name in ALPHA] + [f"{letter}x"]
    pairs = {(f"{letter}{i}", f"{letter}{j}") for a, b in EDGES for i, j in ((a, b), (b, a))}
    pairs |= {(f"{letter}x", f"{letter}0"), (f"{letter}0", f"{letter}x")}  # an excluded viewpoint keeps its edges
    rows = []
    for name, (x, y, z) in zip(names, [*ALPHA.values(), (9.0, 9.0, 1.5)], strict=True):
        neighbors = [b for a, b in pairs if a == name]
        rows.append(entry(name, (side * x, y, z), neighbors, names, included=not name.endswith("x")))
    return rows


def write_scan(folder, scan, rows=None):
    """Write a connectivity file; rows default to the toy building's own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{scan}_connectivity.json"
    path.write_text(json.dumps(scan_rows(scan) if rows is None else rows))
    return path


def write_graphs(folder, scans=("alpha", "beta", "gamma")):
    """Write a connectivity folder."""
    for scan in scans:
        write_scan(folder, scan)
    (folder / "scans.txt").write_text("".join(f"{scan}\n" for scan in scans))
    return folder


def toy_tables(folder, scans=("alpha", "beta", "gamma")):
    """Return the tables of the toy buildings, not cached."""
    return NavTables.load(write_graphs(folder, scans), scans, cache=False)


def path_item(path_id, tables, scan, start, goal, hidden=False, heading=0.3):
    """Return an R2R item: the shortest path and three instructions that name its goal."""
    a, b = tables.index(scan, start), tables.index(scan, goal)
    path = [tables.viewpoint_ids[i] for i in tables.shortest_path(a, b)]
    place = PLACES[int(goal[1])]
    return {
        "distance": float(tables.distance_m(np.array(a), np.array(b))),
        "scan": scan,
        "path_id": path_id,
        "path": path[:1] if hidden else path,
        "heading": heading,
        "instructions": [
            f"Walk to the {place}.",
            f"Leave this room and stop in the {place}.",
            f"Find the {place}, then wait.",
        ],
    }


def write_splits(data, tables):
    """Write R2R_{train,val_seen,val_unseen,test}.json: 69 train instructions in alpha and gamma, 12 in each other."""
    folder = data / "R2R"
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [(i, j) for i in range(8) for j in range(8) if abs(i - j) in (2, 3)]
    train = [("alpha", f"a{i}", f"a{j}") for i, j in pairs] + [("gamma", "g2", "g3")]
    seen = [("alpha", "a0", "a4"), ("alpha", "a6", "a1"), ("alpha", "a3", "a5"), ("alpha", "a7", "a0")]
    unseen = [("beta", "b0", "b4"), ("beta", "b6", "b1"), ("beta", "b3", "b5"), ("beta", "b7", "b0")]
    for k, (split, routes) in enumerate(zip(SPLITS, (train, seen, unseen, unseen), strict=True)):
        items = [
            path_item(100 * (k + 1) + n, tables, *route, hidden=split == "test", heading=0.7 * n)
            for n, route in enumerate(routes)
        ]
        (folder / f"R2R_{split}.json").write_text(json.dumps(items))


# What the toy RxR says: the place, in each language.
RXR_TEXTS = {
    "en-IN": "Walk to the {}.",
    "en-US": "Go and stop in the {}.",
    "hi-IN": "{} की ओर जाइए और वहाँ रुकिए।",
    "te-IN": "{} వైపు నడవండి, అక్కడ ఆగండి.",
}
RXR_PLACES = {
    "hi": ("रसोई", "हॉल", "स्नानघर", "अटारी", "अध्ययन", "बरामदा", "तहख़ाना", "गैराज"),
    "te": ("వంటగది", "హాలు", "స్నానాలగది", "అటక", "చదువుగది", "వరండా", "నేలమాళిగ", "గ్యారేజీ"),
}
# Guides go round by third viewpoints: none is the shortest path.
RXR_ROUTES = ("0175", "24571", "654217", "3245", "7124", "5421", "01754", "4217")


def write_rxr(data, tables):
    """Write the guide files of RxR: 8 paths per split in four tags, train in alpha and val_unseen, test in beta."""
    folder = data / "RxR"
    folder.mkdir(parents=True, exist_ok=True)
    ids = itertools.count(1)
    for split, scan in (("train", "alpha"), ("val_seen", "alpha"), ("val_unseen", "beta"), ("test_standard", "beta")):
        name = f"rxr_{split}_public_guide" if split.startswith("test") else f"rxr_{split}_guide"
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            for k, route in enumerate(RXR_ROUTES):
                path = [f"{scan[0]}{digit}" for digit in route]
                for tag, text in RXR_TEXTS.items():
                    place = RXR_PLACES.get(tag[:2], PLACES)[int(route[-1])]
                    number = next(ids)
                    item = {
                        "split": split,
                        "instruction_id": number,
                        "annotator_id": 7,
                        "language": tag,
                        "path_id": 1000 * len(split) + k,
                        "scan": scan,
                        "path": path[:1] if split.startswith("test") else path,
                        "heading": 0.5 * k,
                        "instruction": text.format(place),
                        "timed_instruction": [],
                        "edit_distance": 0.0,
                    }
                    file.write(json.dumps(item, ensure_ascii=False) + "\n")


def write_features(path, tables, width=WIDTH, seed=0):
    """Write a feature store of every viewpoint."""
    rng = np.random.default_rng(seed)
    rows = ((f"{scan}_{name}", rng.standard_normal((36, width)).astype(np.float32)) for scan, name in tables.keys)
    write_store(path, StoreHeader("toy"), rows)
    return path


def write_world(folder: Path) -> Path:
    """Write the whole toy world and return its data folder; features are in ``features/toy.safetensors``."""
    tables = toy_tables(folder / "connectivity")
    write_splits(folder, tables)
    write_rxr(folder, tables)
    write_features(folder / "features" / "toy.safetensors", tables)
    return folder


def use_world(folder: Path, monkeypatch) -> Path:
    """Write the toy world and make it the data folder of this process, with a cache of its own."""
    data = write_world(folder / "data")
    point_to(folder, monkeypatch)
    return data


def point_to(folder: Path, monkeypatch) -> None:
    """Make ``folder/data`` the data folder of this process and ``folder/cache`` its cache."""
    monkeypatch.setenv("VLN_CLIP_DATA", str(folder / "data"))
    monkeypatch.setenv("VLN_CLIP_CACHE", str(folder / "cache"))


def toy_setting(folder: Path, monkeypatch, max_input: int = 20) -> tuple[Setting, Navigation]:
    """Return the opened toy data set and its world with features."""
    data = use_world(folder, monkeypatch)
    setting = open_setting("r2r", None, torch.device("cpu"), max_input=max_input)
    return setting, setting.world([open_store(data / "features" / "toy.safetensors")])


def blind_world(tables: NavTables) -> Navigation:
    """Return a world without features."""
    return Navigation(tables, bank([], tables.keys))


def batch_of(tables: NavTables, routes, views=None) -> Batch:
    """Return a batch of (scan, start, goal or None) with one-word instructions; views default to 12 (north)."""
    B = len(routes)
    start = torch.tensor([tables.index(scan, a) for scan, a, _ in routes])
    goal = torch.tensor([-1 if b is None else tables.index(scan, b) for scan, _, b in routes])
    view = torch.full((B,), 12) if views is None else torch.tensor(views)
    tokens = torch.tensor([[5, 3, 2]] * B)
    return Batch(torch.arange(B), tokens, torch.full((B,), 3), start, view, goal)
