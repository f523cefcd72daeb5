"""The program `features`: verify and compare, on stores, TSV and HDF5 files."""

import gzip
import json

import numpy as np
import pytest
import safetensors.numpy

from tests.toy_world import entry, toy_tables, use_world, write_features
from vln_clip.errors import InputError
from vln_clip.features import StoreHeader
from vln_clip.features.__main__ import main
from vln_clip.features.comparison import compare
from vln_clip.features.formats import read_rows, write_rows
from vln_clip.features.lookup import FeatureFile
from vln_clip.features.store import FORMAT, write_store

SUFFIXES = (".safetensors", ".tsv", ".tsv.gz", ".hdf5")


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The toy world as the data folder; no demo world in the cache."""
    return use_world(tmp_path, monkeypatch)


@pytest.fixture
def toy(data):
    return data / "features" / "toy.safetensors"


def rows_of(path):
    return list(read_rows(path))


def write(path, rows, encoder="toy", dtype="float32"):
    write_rows(path, StoreHeader(encoder), rows, dtype)
    return path


def run(capsys, *words):
    """Run the program; returns what it prints and the error it ends with."""
    capsys.readouterr()
    try:
        main([str(word) for word in words])
        error = ""
    except InputError as caught:
        error = str(caught)
    return capsys.readouterr().out, error


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_complete_file_of_every_format_passes(toy, tmp_path, capsys, suffix):
    path = write(tmp_path / f"copy{suffix}", rows_of(toy))
    out, error = run(capsys, "verify", path, "--dataset", "r2r")
    assert not error
    # alpha and beta have 8 included viewpoints each, gamma 5
    assert "21 viewpoints x 36 views x 8 float32" in out
    assert "r2r graphs: 21 of 21 viewpoints in 3 of 3 scans, complete" in out
    assert "r2r train: 13 of 13 viewpoints in 2 of 2 scans, complete" in out
    assert "r2r val_unseen: 8 of 8 viewpoints in 1 of 1 scans, complete" in out
    assert out.rstrip().endswith("sound and complete")


def test_missing_viewpoints_are_counted_by_scan_and_named(toy, tmp_path, capsys):
    rows = [row for row in rows_of(toy) if row[0] not in ("alpha_a3", "alpha_a5", "gamma_g1")]
    path = write(tmp_path / "some.tsv", rows)
    out, error = run(capsys, "verify", path, "--dataset", "r2r")
    assert "18 of 21 viewpoints in 3 of 3 scans, 3 MISSING in alpha (2 of 8), gamma (1 of 5); first alpha_a3" in out
    assert "r2r val_unseen: 8 of 8" in out
    assert "problem: incomplete for r2r graphs" in out
    assert "some.tsv" in error
    out, error = run(capsys, "verify", path, "--dataset", "r2r", "--splits", "val_unseen")
    assert not error
    assert "3 MISSING" in out


def test_without_a_data_set_only_the_scans_of_the_file_must_be_complete(toy, tmp_path, capsys):
    beta = [row for row in rows_of(toy) if row[0].startswith("beta")]
    path = write(tmp_path / "beta.hdf5", beta)
    out, error = run(capsys, "verify", path)
    assert not error
    assert "r2r graphs: 8 of 8 viewpoints in 1 of 3 scans, complete" in out
    assert "r2r train" not in out
    assert out.rstrip().endswith("sound and complete for the scans it has")
    out, error = run(capsys, "verify", write(tmp_path / "less.hdf5", beta[1:]))
    assert "1 MISSING in beta (1 of 8); first beta_b0" in out
    assert error
    out, error = run(capsys, "verify", write(tmp_path / "strange.tsv", [("x_y", beta[0][1])]))
    assert "no viewpoint of a data set at hand" in out
    assert not error


def test_a_connectivity_folder_stands_in_for_a_data_set(toy, tmp_path, capsys):
    toy_tables(tmp_path / "graphs", ["alpha"])
    out, error = run(capsys, "verify", toy, "--connectivity", tmp_path / "graphs")
    assert not error
    assert "8 of 8 viewpoints in 1 of 1 scans, complete" in out
    assert "13 viewpoints are in no graph" in out


def test_the_width_must_be_that_of_the_encoder(data, tmp_path, capsys):
    tables = toy_tables(tmp_path / "graphs")
    write_features(tmp_path / "CLIP-ViT-B-32-views.safetensors", tables, width=8)
    rows = rows_of(tmp_path / "CLIP-ViT-B-32-views.safetensors")
    out, error = run(capsys, "verify", write(tmp_path / "x.safetensors", rows, encoder="clip_rn50x4"))
    assert "pooled features of clip_rn50x4 have 640 columns, got 8" in out
    assert error
    out, _ = run(capsys, "verify", write(tmp_path / "CLIP-ViT-B-32-views.tsv", rows))
    assert "pooled features of clip_vit_b32 have 512 columns, got 8" in out
    out, _ = run(capsys, "verify", write(tmp_path / "y.safetensors", rows, encoder="pixels:16"))
    assert "pooled features of pixels:16 have 16 columns, got 8" in out
    wide = [(key, np.ones((36, 768), np.float32)) for key, _ in rows]
    out, _ = run(capsys, "verify", write(tmp_path / "z.safetensors", wide, encoder="clip_vit_b32"))
    assert "got 768 (the width of its grid features)" in out


def test_bad_values_and_doubled_rows_are_told(toy, tmp_path, capsys):
    rows = rows_of(toy)
    rows[2] = (rows[2][0], np.full((36, 8), np.nan, np.float32))
    rows[3] = (rows[3][0], np.zeros((36, 8), np.float32))
    path = write(tmp_path / "bad.tsv", [*rows, rows[5]])
    out, error = run(capsys, "verify", path)
    assert "1 viewpoints occur more than once: alpha_a5" in out
    assert "1 viewpoints have values that are not finite: alpha_a2" in out
    assert "36 views are all zero" in out
    assert error


def test_other_programs_stores_with_bad_values_are_told(toy, tmp_path, capsys):
    keys = "\n".join(["alpha_a0", "alpha_a0"]).encode()
    arrays = {"features": np.full((2, 36, 4), np.inf, np.float32), "viewpoints": np.frombuffer(keys, np.uint8)}
    header = json.dumps({"encoder": "toy", "libraries": {}})
    safetensors.numpy.save_file(arrays, tmp_path / "x.safetensors", {"format": FORMAT, "header": header})
    out, _ = run(capsys, "verify", tmp_path / "x.safetensors")
    assert "1 viewpoints occur more than once" in out
    assert "not finite" in out


def test_widths_that_differ_inside_a_file_are_told(toy, tmp_path, capsys):
    rows = rows_of(toy)
    rows[1] = (rows[1][0], np.ones((36, 5), np.float32))
    out, _ = run(capsys, "verify", write(tmp_path / "x.hdf5", rows))
    assert "all viewpoints must have one width, got 5, 8" in out


def test_a_truncated_file_does_not_keep_the_next_from_being_verified(toy, tmp_path, capsys):
    path = write(tmp_path / "cut.tsv", rows_of(toy))
    path.write_bytes(path.read_bytes()[:-100])
    out, error = run(capsys, "verify", path, toy, "--dataset", "r2r")
    assert "cut.tsv: UNREADABLE" in out
    assert "line 21" in out
    assert "sound and complete" in out
    assert "cut.tsv" in error
    assert "toy" not in error


def test_splits_need_a_data_set(toy, capsys):
    _, error = run(capsys, "verify", toy, "--splits", "train")
    assert "--splits needs --dataset" in error


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_converted_file_is_equal_whatever_the_order(toy, tmp_path, capsys, suffix):
    path = write(tmp_path / f"copy{suffix}", rows_of(toy)[::-1])
    out, error = run(capsys, "compare", toy, path, "--min-cosine", "0.999999")
    assert not error
    assert "21 viewpoints in both: equal" in out
    assert "at most 0 " in out
    assert "worst" not in out


def test_differences_are_measured(tmp_path, capsys):
    # Two views per direction: a = (3, 4); b = (4, 3) in view 7 of the second viewpoint, else equal.
    a = np.tile(np.array([3.0, 4.0], np.float32), (36, 1))
    b = a.copy()
    b[7] = (4, 3)
    first = write(tmp_path / "a.tsv", [("s_v0", a), ("s_v1", a), ("s_only", a)])
    second = write(tmp_path / "b.hdf5", [("s_v0", a), ("s_v1", b)])
    with FeatureFile(first) as one, FeatureFile(second) as two:
        found = compare(one, two)
    assert found.only_first == ("s_only",)
    assert found.largest == 1
    assert found.mean == pytest.approx(2 / (2 * 36 * 2))
    assert found.magnitude == 3.5
    assert found.lowest_cosine == pytest.approx(24 / 25)
    assert found.mean_cosine == pytest.approx(1 - (1 / 25) / 72)
    assert found.worst == [(pytest.approx(-24 / 25), 1.0, 7, "s_v1")]
    out, error = run(capsys, "compare", first, second, "--min-cosine", "0.9")
    assert "a.tsv: 3 viewpoints, 1 only here, first s_only" in out
    assert "worst: s_v1 view 7, cosine 0.960000, largest difference 1" in out
    assert "1 viewpoints in one only" in error


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (lambda x: x.astype(np.float16).astype(np.float32), "equal when rounded to float16"),
        (lambda x: x / np.linalg.norm(x, axis=1, keepdims=True), "the same directions, other lengths"),
        (lambda x: x + 1e-3, "the same features but for small differences"),
        (lambda x: x[::-1], "different features"),
        (lambda x: x * np.nan, "nothing to compare"),
    ],
)
def test_the_verdict_names_how_files_relate(tmp_path, change, verdict):
    rng = np.random.default_rng(0)
    rows = [(f"s_v{i}", rng.standard_normal((36, 64)).astype(np.float32)) for i in range(3)]
    write(tmp_path / "a.hdf5", rows)
    write(tmp_path / "b.hdf5", [(key, change(x)) for key, x in rows])
    with FeatureFile(tmp_path / "a.hdf5") as one, FeatureFile(tmp_path / "b.hdf5") as two:
        assert compare(one, two).verdict().startswith(verdict)


def test_only_the_worst_are_listed_in_order(tmp_path, capsys):
    base = np.tile(np.array([1.0, 0.0], np.float32), (36, 1))
    turned = [np.tile(np.array([np.cos(t), np.sin(t)], np.float32), (36, 1)) for t in (0.1, 0.4, 0.2, 0.3)]
    first = write(tmp_path / "a.tsv", [(f"s_v{i}", base) for i in range(4)])
    second = write(tmp_path / "b.tsv", [(f"s_v{i}", x) for i, x in enumerate(turned)])
    out, _ = run(capsys, "compare", first, second, "--worst", "2")
    assert [line.split()[1] for line in out.splitlines() if "worst:" in line] == ["s_v1", "s_v3"]


def test_two_encoders_cannot_be_compared(toy, tmp_path, capsys):
    other = write(tmp_path / "other.tsv", [(key, np.ones((36, 5), np.float32)) for key, _ in rows_of(toy)])
    _, error = run(capsys, "compare", toy, other)
    assert "must have one width" in error


def test_bad_files_to_compare_are_named(toy, tmp_path, capsys):
    _, error = run(capsys, "compare", toy, tmp_path / "nothing.tsv")
    assert "nothing.tsv which does not" in error
    (tmp_path / "cut.tsv.gz").write_bytes(gzip.compress(b"a\tb\t" * 1000)[:30])
    _, error = run(capsys, "compare", toy, tmp_path / "cut.tsv.gz")
    assert "must be a whole gzip archive" in error
    (tmp_path / "text.tsv").write_text("hello\n")
    _, error = run(capsys, "compare", toy, tmp_path / "text.tsv")
    assert "text.tsv line 1 must have tab-separated columns" in error


def test_inspect_and_convert_still_read_every_format(toy, tmp_path, capsys):
    for suffix in SUFFIXES:
        main(["convert", str(toy), str(tmp_path / f"copy{suffix}")])
        out, error = run(capsys, "inspect", tmp_path / f"copy{suffix}")
        assert "21 viewpoints x 36 views x 8" in out
        assert not error


def test_excluded_viewpoints_are_not_asked_for(tmp_path, capsys):
    folder = tmp_path / "graphs"
    folder.mkdir()
    names = ["v0", "v1"]
    rows = [entry("v0", (0, 0, 1), [], names), entry("v1", (1, 0, 1), [], names, included=False)]
    (folder / "s_connectivity.json").write_text(json.dumps(rows))
    (folder / "scans.txt").write_text("s\n")
    write_store(tmp_path / "x.safetensors", StoreHeader("toy"), [("s_v0", np.ones((36, 2)))])
    out, error = run(capsys, "verify", tmp_path / "x.safetensors", "--connectivity", folder)
    assert "1 of 1 viewpoints" in out
    assert not error
