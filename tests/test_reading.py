"""Minimal cases of what fuzzing found, and the bounds of readers."""

import gzip
import json
import pickle
import time
import zipfile

import numpy as np
import pytest
import torch

from tests.fuzz import Gadget
from tests.test_pose_traces import write as write_trace
from tests.toy_world import scan_rows, write_scan
from vln_clip import reading
from vln_clip.connectivity.graphs import load_graph, read_scans
from vln_clip.encoders.weights import read_state_dict
from vln_clip.envs.skybox import load_skybox
from vln_clip.errors import InputError
from vln_clip.features.formats import read_rows
from vln_clip.features.grid import open_grid
from vln_clip.tasks.documents import read_document
from vln_clip.tasks.pose_traces import read_pose_trace
from vln_clip.tasks.rxr import read_guides


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 65 + b"]" * 65, "must be JSON, but: lists and objects in it are nested more than 64 levels deep"),
        (b"[" * 100_000, "must be JSON, but: "),
        (b'["\\ud800"]', "holds half a character"),
        (b'{"\\ud800": 1}', "holds half a character"),
        (b'"\\ud800"', "holds half a character"),
        (b"\xff", "must be UTF-8 text"),
        (b"9" * 5000, "must be JSON, but: "),
    ],
)
def test_json_is_refused_that_could_not_be_shown_or_written(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        reading.read_json(path)


def test_json_that_is_odd_but_right_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + b"[" * 60 + b'"\\ud83d\\ude00"' + b"]" * 60)
    assert "\U0001f600" in str(reading.read_json(path))


def test_a_gzip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_SMALL_BYTES", 1 << 20)
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(b" " * (1 << 24)))
    with pytest.raises(InputError, match=r"must unpack to at most 200 times its size .* unpack it first"):
        reading.read_bytes(path)
    with pytest.raises(InputError, match="must unpack to at most 200 times its size"):
        read_guides(path)


def test_reading_stops_at_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_WHOLE_BYTES", 1000)
    path = tmp_path / "a.json"
    path.write_bytes(b" " * 1001)
    with pytest.raises(InputError, match="must have at most 1,000 bytes"):
        reading.read_bytes(path)


@pytest.mark.parametrize("name", ["a\nb", "../x", "a/b", "a" * 129, "\x1b[2J"])
def test_ids_that_cannot_name_files_are_refused(tmp_path, name):
    rows = scan_rows("alpha")
    rows[2]["image_id"] = name
    with pytest.raises(InputError, match="image_id of entry 2 must be a non-empty string"):
        load_graph(write_scan(tmp_path, "alpha", rows), "alpha")
    (tmp_path / "scans.txt").write_text(f"alpha\n{name.replace(chr(10), chr(0))}\n")
    with pytest.raises(InputError, match=r"scans\.txt must list the names of scans"):
        read_scans(tmp_path)


@pytest.mark.parametrize("number", [10**400, 1e300])
def test_positions_that_no_float_holds_are_refused(tmp_path, number):
    rows = scan_rows("alpha")
    rows[2]["pose"][3] = number
    with pytest.raises(InputError, match="pose of a2 must be"):
        load_graph(write_scan(tmp_path, "alpha", rows), "alpha")


def test_a_long_run_of_spaces_is_told_at_once(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(" " * 300_000 + "x")  # the time of the expression that looked for quotes grew with the square
    begun_s = time.perf_counter()
    assert read_document(path).problems
    assert time.perf_counter() - begun_s < 2


@pytest.mark.parametrize(
    "header", ["'<f4', 'fortran_order': False, 'shape': (10**12, 1)", "'|O', 'shape': (1,)", "(((("]
)
def test_what_the_header_of_an_array_claims_is_not_believed(tmp_path, header):
    file = write_trace(tmp_path)
    text = f"{{'descr': {header}, }}".encode()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("pano.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    with pytest.raises(InputError, match=r"trace\.npz must be a whole \.npz archive of plain arrays"):
        read_pose_trace(file, "guide")


def test_a_data_set_that_claims_to_be_huge_is_not_read(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "f.hdf5", "w") as archive:
        archive.create_dataset("s_v", shape=(36, 10**11), dtype="f4", chunks=(1, 1024))
    with pytest.raises(InputError, match="s_v must be numbers of shape"):
        list(read_rows(tmp_path / "f.hdf5"))


@pytest.mark.parametrize("name", ["../s.safetensors", "/etc/passwd", "a\0"])
def test_an_index_of_grids_names_files_of_its_folder_only(tmp_path, name):
    (tmp_path / "index.json").write_text(json.dumps({"header": {"encoder": "x"}, "keys": {name: ["a"]}}))
    with pytest.raises(InputError, match="must be the index of grid features"):
        open_grid(tmp_path)


def test_a_picture_is_not_given_to_other_programs(tmp_path):
    file = tmp_path / "v_skybox_small.jpg"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 1\n%%EndComments\nshowpage\n")
    with pytest.raises(InputError, match=r"must be a complete JPEG, got .* \(cannot identify image file"):
        load_skybox(tmp_path, "v")


def test_a_torchscript_archive_is_read_without_running_what_is_in_it(tmp_path):
    gadget = pickle.dumps(Gadget(tmp_path / "harm"), protocol=2)
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", gadget)
        archive.writestr("w/code/__torch__.py", "")
    with pytest.raises(InputError, match="which is neither tensor nor module"):
        read_state_dict(path)
    assert not (tmp_path / "harm").exists()


def test_the_state_of_a_torchscript_archive_is_that_of_its_module(tmp_path):
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2).half())
    module.mask = torch.ones(2)  # an attribute, of which a state dict knows nothing
    torch.jit.trace(module[0].eval(), torch.zeros(4, 3)).save(str(tmp_path / "w.pt"))
    found, expected = read_state_dict(tmp_path / "w.pt"), module[0].state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert np.isfinite(found["running_var"].numpy()).all()
