"""The readers of features, weights of encoders, and what a run leaves behind, each with a file that it reads."""

import base64
import json

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from tests import mutations
from tests.reader_case import Case, as_json, as_lines
from vln_clip import checkpoint, curves, report, scoring
from vln_clip.encoders.base import Encoder
from vln_clip.encoders.tower_files import read_tower, save_tower
from vln_clip.encoders.weights import read_state_dict
from vln_clip.features.arrays import read_array
from vln_clip.features.formats import read_header, read_rows, write_rows
from vln_clip.features.grid import open_grid, write_index
from vln_clip.features.images import ImageFile, check_images, read_rgb
from vln_clip.features.lookup import FeatureFile
from vln_clip.features.opening import open_image_grids
from vln_clip.features.recipes import PRESETS
from vln_clip.features.regions import RegionFile
from vln_clip.features.store import StoreHeader, StoreWriter, open_store
from vln_clip.reading import read_json
from vln_clip.report import rows_table
from vln_clip.tables import print_tables

# Features.

ROWS = [(f"s_v{n}", np.linspace(-1, 1, 144, dtype=np.float32).reshape(36, 4) + n) for n in range(3)]


def write_feature_file(path):
    write_rows(path, StoreHeader("toy", libraries={"torch": "2"}), ROWS)


def read_feature_file(path):
    read_header(path)
    for key, row in read_rows(path):
        key.encode()
        assert row.shape[0] == 36
    with FeatureFile(path) as opened:
        for key in opened.keys:
            opened.row(key)


def read_store(path):
    store = open_store(path)
    json.dumps(store.header.to_json()).encode()
    assert len(store.rows) <= len(store.keys)
    assert store.fingerprint


def write_grid_store(path):
    with StoreWriter(path, StoreHeader("toy"), grid=True) as writer:
        for key, _ in ROWS:
            writer.add(key, np.ones((36, 4, 2, 3)))
    write_index(path.parent, StoreHeader("toy"), {path.name: tuple(key for key, _ in ROWS)})


def write_grid_index(path):
    write_grid_store(path.with_name("s.safetensors"))


def read_grid(path):
    grid = open_grid(path.parent)
    grid.check_files()
    for key in grid.rows:
        assert grid[key].ndim >= 1


# Grids of images in files of other programs.

MAP = np.linspace(-1, 1, 2 * 3 * 7, dtype=np.float32).reshape(1, 2, 3, 7)


def write_npz(path):
    np.savez_compressed(path, feat=MAP[0])


def write_hdf5_grids(path):
    import h5py

    with h5py.File(path, "w") as archive:
        for key in ("one", "two"):
            archive[key] = MAP[0]


def read_hdf5_grids(path):
    grids = open_image_grids(path)
    for key in grids.image_keys:
        key.encode()
        assert grids.read([key]).ndim == 4


def write_regions(path):
    arrays = ([3, 1], [0.5, 0.25], [7, 7], [0.5, 1.0], [[0, 0, 4, 2], [1, 1, 2, 2]], [[1, 2, 3], [4, 5, 6]])
    types = ("<i8", "<f4", "<i8", "<f4", "<f4", "<f4")
    cells = [
        base64.b64encode(np.array(value, kind).tobytes()).decode() for value, kind in zip(arrays, types, strict=True)
    ]
    line = "\t".join(["{}", "2", "4", *cells[:4], "2", *cells[4:]]) + "\n"
    path.write_text(line.format("one") + line.format("two"))


def read_region_file(path):
    regions = RegionFile(path)
    for key in regions.image_keys:
        key.encode()
        assert regions.read([key]).mask.all()


def write_image(path):
    Image.fromarray(np.arange(32 * 40 * 3, dtype=np.uint8).reshape(32, 40, 3)).save(path)


def read_image(path):
    check_images([ImageFile("x", path, path.stat().st_size)], 4)
    PRESETS["caption"].resize(read_rgb(path, exif=True))


# Encoder weights.

STATE = {"visual.weight": torch.ones(2, 3), "logit_scale": torch.tensor(1.0, dtype=torch.float16)}


def write_torchscript(path):
    holder = torch.nn.Module()
    holder.visual = torch.nn.Module()
    holder.visual.register_buffer("weight", torch.ones(2, 3).half())
    holder.logit_scale = torch.nn.Parameter(torch.tensor(1.0))
    torch.jit.script(holder).save(str(path))


def read_weights(path):
    for name, value in read_state_dict(path).items():
        name.encode()
        assert value.sum() is not None


class Toy(Encoder):
    """Two tensors under the name of a real network."""

    def __init__(self):
        super().__init__()
        self.name, self.layer = "clip_rn50", torch.nn.Linear(2, 3)


# Runs.


def read_checkpoint(path):
    found = checkpoint.load(path.parent)
    assert isinstance(found.header, dict)


def write_checkpoint(path):
    header = {"stage": "follower", "iteration": 3, "scores": {"a": {"b": 1.0}}}
    checkpoint.save(path.parent, torch.nn.Linear(2, 3), header, {"generator": torch.arange(5, dtype=torch.uint8)})


METRIC_ROWS = [
    {"stage": "follower", "iteration": 2 * n, "val_unseen/success_rate": 0.1 * n, "loss/imitation": 1.0 / n}
    for n in (1, 2, 3)
]
RESULT_ROW = {"success_rate": 0.5, "spl": 0.4, "nav_error": 3.1, "num_instructions": 3, "features": "none"}
RESULTS = {
    split: {
        "random": RESULT_ROW,
        "follower": RESULT_ROW | {"ci": {"spl": [0.3, 0.5]}, "by_language": {"en": RESULT_ROW, "hi": RESULT_ROW}},
    }
    for split in ("val_seen", "val_unseen")
}


CONFIG = {"dataset": "r2r", "seed": 1, "features": "none", "model": {"hidden_width": 16}}


def write_metrics(path):
    as_lines(*METRIC_ROWS)(path)
    as_json({"dataset": "r2r", "seed": 1, "features": "none", "model": {"hidden_width": 16}})(
        path.with_name("config.json")
    )
    last = path.parent / "checkpoints" / "follower" / "last"
    last.mkdir(parents=True)
    as_json({"data": {"train": {"sha256": "ab"}}})(last / "checkpoint.json")


def write_config(path):
    write_metrics(path.with_name("metrics.jsonl"))


def write_header(path):
    path.parent.mkdir(parents=True)
    write_metrics_beside(path.parents[3])
    as_json({"data": {"train": {"sha256": "ab"}}})(path)


def write_metrics_beside(folder):
    as_lines(*METRIC_ROWS)(folder / "metrics.jsonl")
    as_json(CONFIG)(folder / "config.json")


def read_curves(folder):
    run = curves.read_run(folder)
    run.best_iteration("follower")
    for group in curves.group_runs([run]):
        for key in {key for rows in run.stages.values() for row in rows for key in row} - {"iteration"}:
            for stage in run.stages:
                curve = curves.make_curve(group, stage, key)
                if curve is not None and len(curve.iterations):
                    curve.smoothed(3)


def read_results(path):
    report.print_results(path)
    content = read_json(path)
    assert isinstance(content, dict)
    for language in (None, "en"):
        found = scoring.score_results(path, content, scoring.Options("auto", "val_unseen", language))
        print_tables([rows_table("all", {"follower": {"num_instructions": 1} | found.metrics})])


CASES = {
    "features_tsv": Case("f.tsv", write_feature_file, mutations.words, read_feature_file),
    "features_tsv_packed": Case("f.tsv.gz", write_feature_file, mutations.packed(mutations.words), read_feature_file),
    "features_note": Case(
        "f.tsv.json",
        lambda path: write_feature_file(path.with_suffix("")),
        mutations.json_text,
        lambda path: read_header(path.with_suffix("")),
    ),
    "features_store": Case("f.safetensors", write_feature_file, mutations.safetensors, read_store),
    "features_hdf5": Case("f.hdf5", write_feature_file, mutations.bytes_of, read_feature_file),
    "grid_store": Case("s.safetensors", write_grid_store, mutations.safetensors, read_grid),
    "grid_index": Case("index.json", write_grid_index, mutations.json_text, read_grid),
    "grid_npy": Case("x.npy", lambda path: np.save(path, MAP), mutations.bytes_of, read_array),
    "grid_npz": Case("x.npz", write_npz, mutations.zipped(), read_array),
    "grid_pth": Case("x.pth", lambda path: torch.save(torch.from_numpy(MAP), path), mutations.zipped(), read_array),
    "grid_hdf5": Case("x.hdf5", write_hdf5_grids, mutations.bytes_of, read_hdf5_grids),
    "regions": Case("x.tsv", write_regions, mutations.words, read_region_file),
    "image_jpeg": Case("x.jpg", write_image, mutations.bytes_of, read_image),
    "image_png": Case("x.png", write_image, mutations.bytes_of, read_image),
    "image_webp": Case("x.webp", write_image, mutations.bytes_of, read_image),
    "weights_safetensors": Case(
        "w.safetensors", lambda path: save_file(STATE, path), mutations.safetensors, read_weights
    ),
    "weights_torch": Case(
        "w.pt", lambda path: torch.save({"state_dict": STATE}, path), mutations.zipped(), read_weights
    ),
    "weights_torch_old": Case(
        "w.pth",
        lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False),
        mutations.bytes_of,
        read_weights,
    ),
    "weights_openai": Case("w.pt", write_torchscript, mutations.zipped(), read_weights),
    "tower": Case("t.safetensors", lambda path: save_tower(Toy(), path, "colors"), mutations.safetensors, read_tower),
    "checkpoint": Case("checkpoint.safetensors", write_checkpoint, mutations.safetensors, read_checkpoint),
    "metrics": Case("metrics.jsonl", write_metrics, mutations.json_lines, lambda path: read_curves(path.parent)),
    "run_config": Case("config.json", write_config, mutations.json_text, lambda path: read_curves(path.parent)),
    "checkpoint_header": Case(
        "checkpoints/follower/last/checkpoint.json",
        write_header,
        mutations.json_text,
        lambda path: read_curves(path.parents[3]),
    ),
    "results": Case("results.json", as_json(RESULTS), mutations.json_text, read_results),
}
