"""The program `features`: damaged and foreign files are told in one sentence; headers outside stores count."""

import gzip
import json

import numpy as np
import pytest
import safetensors.numpy

from tests.toy_world import use_world
from vln_clip import log
from vln_clip.errors import InputError
from vln_clip.features import StoreHeader, open_store
from vln_clip.features.__main__ import main
from vln_clip.features.formats import read_header, read_rows, write_rows
from vln_clip.features.grid import open_grid, write_index
from vln_clip.features.store import FORMAT, StoreWriter

ROWS = [(f"s_v{i}", np.full((36, 4), i + 1, np.float32)) for i in range(3)]
COMMANDS = ("verify", "inspect", "compare", "convert")


@pytest.fixture(autouse=True)
def _no_data(tmp_path, monkeypatch):
    use_world(tmp_path, monkeypatch)


def error_of(capsys, command, path, tmp_path):
    """Run a command on a bad file; returns what it prints and its sentence, and checks how it ends."""
    good = tmp_path / "good.safetensors"
    write_rows(good, StoreHeader("toy"), ROWS)
    words = {"compare": [good, path], "convert": [path, tmp_path / "out.safetensors"]}.get(command, [path])
    with pytest.raises(SystemExit) as end:
        log.program(main, [command, *map(str, words)])
    assert end.value.code == 2
    out, error = capsys.readouterr()
    assert "Traceback" not in error
    assert not (tmp_path / "out.safetensors").exists()
    return out + error


def damaged_tsv(tmp_path, name="x.tsv"):
    path = tmp_path / name
    write_rows(path, StoreHeader("toy"), ROWS)
    content = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    content = content.replace(b"s\tv1", b"s\t\xff1")
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["x.tsv", "x.tsv.gz"])
def test_ids_that_are_no_text_are_told_with_their_line(tmp_path, capsys, command, name):
    text = error_of(capsys, command, damaged_tsv(tmp_path, name), tmp_path)
    assert f"{name} line 2 must start with scan and viewpoint in UTF-8, got b's' and b'\\xff1'" in text


def hdf5_of(path, value):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as archive:
        if isinstance(value, str) and value == "group":
            archive.create_group("s_v1")
        elif isinstance(value, str):
            archive["s_v1"] = h5py.SoftLink("/nowhere")
        else:
            archive["s_v1"] = value
    return path


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("group", "a group"),
        ("link", "cannot be read"),
        (b"text", "a group or a single value"),
        (np.full((36, 2), b"text"), r"|S4 of shape (36, 2)"),
        (np.ones((36, 2), bool), "bool of shape (36, 2)"),
        (np.ones((35, 2)), "(35, 2)"),
        (np.ones((36, 0)), "(36, 0)"),
    ],
    ids=["group", "link", "text", "texts", "bool", "rows", "columns"],
)
def test_hdf5_files_that_hold_something_else_are_told(tmp_path, capsys, command, value, found):
    value = value if isinstance(value, str) else np.asarray(value)
    text = error_of(capsys, command, hdf5_of(tmp_path / "x.hdf5", value), tmp_path)
    assert "x.hdf5: " in text
    assert "s_v1" in text
    assert found in text


def foreign_store(path, keys=b"s_v0\ns_v1", features=None, **metadata):
    arrays = {
        "features": np.ones((2, 36, 4), np.float32) if features is None else features,
        "viewpoints": np.frombuffer(keys, np.uint8),
    }
    safetensors.numpy.save_file(arrays, path, {"format": FORMAT} | metadata)
    return path


HEADER = StoreHeader("toy").to_json()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({}, "got none in"),
        ({"header": "{"}, "got a damaged one"),
        ({"header": "[]"}, "no header of features"),
        ({"header": json.dumps({"encoder": 5})}, "encoder is of another type"),
        ({"header": json.dumps({"encoder": "x", "render_size_px": 3})}, "render_size_px is of another type"),
        ({"header": HEADER, "keys": b"s_v0\n\xff"}, "as UTF-8 text, got other bytes"),
        ({"header": HEADER, "features": np.ones((2, 36, 4), np.int64)}, "got int64 of shape (2, 36, 4)"),
        ({"header": HEADER, "features": np.array(1, np.float32)}, "float32 of shape ()"),
    ],
    ids=["none", "cut", "list", "number", "size", "keys", "integers", "scalar"],
)
def test_stores_of_other_programs_are_told(tmp_path, capsys, command, content, found):
    text = error_of(capsys, command, foreign_store(tmp_path / "x.safetensors", **content), tmp_path)
    assert "x.safetensors" in text
    assert found in text


def test_verify_goes_on_after_damaged_files(tmp_path, capsys):
    good = tmp_path / "good.tsv"
    write_rows(good, StoreHeader("toy"), ROWS)
    bad = [damaged_tsv(tmp_path), foreign_store(tmp_path / "y.safetensors"), tmp_path / "missing.hdf5"]
    bad.append(hdf5_of(tmp_path / "z.h5", "group"))
    with pytest.raises(InputError, match=r"x\.tsv, .*y\.safetensors, .*missing\.hdf5, .*z\.h5 which are not"):
        main(["verify", *map(str, [*bad, good])])
    out = capsys.readouterr().out
    assert out.count("UNREADABLE") == 4
    assert "good.tsv: 3 viewpoints" in out


@pytest.mark.parametrize("suffix", [".safetensors", ".tsv", ".tsv.gz", ".hdf5"])
def test_the_header_of_every_format_names_the_encoder(tmp_path, capsys, suffix):
    path = tmp_path / f"s{suffix}"
    write_rows(path, StoreHeader("clip_rn50x4", pooling="attention"), ROWS)
    with pytest.raises(InputError, match="sound and complete"):
        main(["verify", str(path)])
    assert "pooled features of clip_rn50x4 have 640 columns, got 4" in capsys.readouterr().out
    main(["inspect", str(path)])
    out = capsys.readouterr().out
    assert '"pooling": "attention"' in out
    assert "3 viewpoints x 36 views x 4" in out


def test_a_file_without_a_header_goes_by_its_name(tmp_path, capsys):
    path = tmp_path / "CLIP-ViT-B-32-views.tsv"
    write_rows(path, StoreHeader("clip_rn50"), ROWS)
    (tmp_path / "CLIP-ViT-B-32-views.tsv.json").unlink()
    with pytest.raises(InputError, match="sound and complete"):
        main(["verify", str(path)])
    assert "pooled features of clip_vit_b32 have 512 columns" in capsys.readouterr().out
    main(["inspect", str(path)])
    assert "encoder" not in capsys.readouterr().out


def test_a_damaged_header_of_an_hdf5_file_is_told(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.hdf5"
    write_rows(path, StoreHeader("toy"), ROWS)
    with h5py.File(path, "a") as archive:
        archive.attrs["vln_clip.header"] = "{"
    with pytest.raises(InputError, match=r"attribute vln_clip\.header"):
        read_header(path)


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_at_least_one_file_is_required(command):
    with pytest.raises(InputError, match=f"{command} must be given at least one feature file, got none"):
        main([command])


@pytest.mark.parametrize("command", ["inspect", "convert"])
def test_a_missing_file_of_every_format_is_told(tmp_path, capsys, command):
    for suffix in (".safetensors", ".TSV.GZ", ".hdf5"):
        assert f"no{suffix} which does not" in error_of(capsys, command, tmp_path / f"no{suffix}", tmp_path)


def test_endings_count_in_capitals_too(tmp_path):
    path = tmp_path / "x.TSV.GZ"
    write_rows(path, StoreHeader("toy"), ROWS)
    assert path.read_bytes()[:2] == b"\x1f\x8b"
    assert [key for key, _ in read_rows(path)] == [key for key, _ in ROWS]
    main(["convert", str(path), str(tmp_path / "y.safetensors")])
    assert open_store(tmp_path / "y.safetensors").features.shape == (3, 36, 4)


def write_grid(folder):
    folder.mkdir()
    with StoreWriter(folder / "s.safetensors", StoreHeader("toy"), grid=True) as writer:
        for key, _ in ROWS:
            writer.add(key, np.ones((36, 4, 2, 3)))
    write_index(folder, StoreHeader("toy"), {"s.safetensors": tuple(key for key, _ in ROWS)})
    return folder


def test_a_folder_of_grid_features_is_shown_and_checked(tmp_path, capsys):
    folder = write_grid(tmp_path / "x.grid")
    assert len(open_grid(folder).rows) == 3
    main(["inspect", str(folder)])
    out = capsys.readouterr().out
    assert '"encoder": "toy"' in out
    assert "x.grid: 3 maps of 36 x 4 x 2 x 3 float16 in 1 files, first s_v0" in out
    (folder / "s.safetensors").write_bytes((folder / "s.safetensors").read_bytes()[:-50])
    with pytest.raises(InputError, match=r"s\.safetensors which cannot be read"):
        main(["inspect", str(folder)])


@pytest.mark.parametrize("command", ["compare", "convert"])
def test_commands_for_pooled_features_say_what_a_grid_folder_is(tmp_path, capsys, command):
    text = error_of(capsys, command, write_grid(tmp_path / "x.grid"), tmp_path)
    assert "x.grid is a folder of grid features" in text
    assert "inspect" in text
