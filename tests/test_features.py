"""Feature files: stores, banks, public formats, where names are found."""

import base64
import gzip

import numpy as np
import pytest
import torch

from vln_clip.errors import InputError
from vln_clip.features import (
    StoreHeader,
    bank,
    check_width,
    convert,
    dataset_key,
    features_used,
    find_store,
    open_store,
    split_name,
)
from vln_clip.features.__main__ import main
from vln_clip.features.formats import read_rows, read_tsv, write_tsv
from vln_clip.features.locate import cached_path
from vln_clip.features.store import write_store

VIEWPOINTS = [("scan_a", "v0"), ("scan_a", "v1"), ("scanb", "v2"), ("scanb", "v3"), ("scanb", "v4")]


def make_rows(width=6, viewpoints=VIEWPOINTS, seed=0):
    rng = np.random.default_rng(seed)
    return [(f"{scan}_{name}", rng.standard_normal((36, width)).astype(np.float16)) for scan, name in viewpoints]


def make_store(path, width=6, seed=0, **header):
    write_store(path, StoreHeader(header.pop("encoder", "clip_rn50"), **header), make_rows(width, seed=seed))
    return open_store(path)


def test_store_round_trip(tmp_path):
    header = StoreHeader("clip_rn50", "openai sha256:afeb0e10", image_size_px=(224, 224), libraries={"torch": "2"})
    rows = make_rows()
    write_store(tmp_path / "deep" / "x.safetensors", header, rows)
    store = open_store(tmp_path / "deep" / "x.safetensors")
    assert store.header == header
    assert store.keys == tuple(key for key, _ in rows)
    assert store.features.dtype == torch.float16
    assert np.array_equal(store.features.numpy(), np.stack([features for _, features in rows]))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x.safetensors"]


def test_any_safetensors_reader_opens_a_store(tmp_path):
    from safetensors.torch import load_file

    make_store(tmp_path / "x.safetensors")
    assert load_file(tmp_path / "x.safetensors")["features"].shape == (5, 36, 6)


def test_a_store_that_fails_leaves_nothing(tmp_path):
    def rows():
        yield make_rows()[0]
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_store(tmp_path / "x.safetensors", StoreHeader("x"), rows())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("second", "message"),
    [(np.zeros((36, 5)), "one width"), (np.full((36, 4), np.inf), "finite"), (np.full((36, 4), 1e6), "finite")],
)
def test_bad_rows_are_refused(tmp_path, second, message):
    with pytest.raises(InputError, match=message):
        write_store(tmp_path / "x.safetensors", StoreHeader("x"), [("a_0", np.zeros((36, 4))), ("a_1", second)])


def test_doubled_viewpoints_are_refused(tmp_path):
    with pytest.raises(InputError, match="a_0 twice"):
        write_store(tmp_path / "x.safetensors", StoreHeader("x"), [("a_0", np.zeros((36, 4)))] * 2)


def test_damaged_and_foreign_stores_are_refused(tmp_path):
    path = make_store(tmp_path / "x.safetensors").path
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="complete"):
        open_store(path)
    from safetensors.torch import save_file

    save_file({"features": torch.zeros(1)}, tmp_path / "y.safetensors")
    with pytest.raises(InputError, match="format"):
        open_store(tmp_path / "y.safetensors")


def test_bank_gathers_by_global_index(tmp_path):
    store = make_store(tmp_path / "x.safetensors")
    order = [3, 0, 4]
    world = bank(store, [VIEWPOINTS[i] for i in order])
    index = torch.tensor([2, 0, 0])
    assert torch.equal(world.views(index), store.features[[4, 3, 3]])
    index, view = torch.tensor([[0, 1], [2, 2]]), torch.tensor([[35, 0], [7, 8]])
    expected = torch.stack([store.features[[3, 0], [35, 0]], store.features[[4, 4], [7, 8]]])
    assert torch.equal(world.candidates(index, view), expected)
    assert (world.width, world.name, world.dtype) == (6, "clip_rn50", torch.float16)


def test_composite_bank_puts_encoders_side_by_side(tmp_path):
    first, second = make_store(tmp_path / "x.safetensors"), make_store(tmp_path / "y.safetensors", 4, 1, encoder="b")
    world = bank([first, second], VIEWPOINTS)
    assert (world.width, world.name) == (10, "clip_rn50+b")
    views = world.views(torch.tensor([1]))
    assert torch.equal(views[..., :6], first.features[[1]])
    assert torch.equal(views[..., 6:], second.features[[1]])
    assert world.candidates(torch.zeros(2, 3).long(), torch.zeros(2, 3).long()).shape == (2, 3, 10)


def test_blind_bank_has_no_columns():
    world = bank([], VIEWPOINTS)
    assert (world.width, world.name) == (0, "none")
    assert world.views(torch.tensor([0, 1])).shape == (2, 36, 0)
    assert world.candidates(torch.zeros(2, 3).long(), torch.zeros(2, 3).long()).shape == (2, 3, 0)


def test_lacking_viewpoints_are_counted_and_named(tmp_path):
    store = make_store(tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=r"x\.safetensors which lacks 2 of 7, e\.g\. scanc_w0"):
        bank(store, [*VIEWPOINTS, ("scanc", "w0"), ("scanc", "w1")])


@pytest.mark.parametrize("ending", [".tsv", ".tsv.gz", ".hdf5"])
def test_public_formats_round_trip(tmp_path, ending):
    if ending == ".hdf5":
        pytest.importorskip("h5py")
    store = make_store(tmp_path / "x.safetensors")
    assert convert(store.path, tmp_path / f"y{ending}") == 5
    for key, features in read_rows(tmp_path / f"y{ending}"):
        assert features.dtype == np.float32
        assert np.array_equal(features, store.features[store.rows[key]].float().numpy())
    convert(tmp_path / f"y{ending}", tmp_path / "z.safetensors")
    again = open_store(tmp_path / "z.safetensors")
    assert sorted(again.keys) == sorted(store.keys)
    assert again.header.source == f"y{ending}"


def test_tsv_is_the_public_format(tmp_path):
    features = np.arange(36 * 2, dtype=np.float32).reshape(36, 2)
    write_tsv(tmp_path / "x.tsv", [("my_scan_v0", features)])
    expected = b"my_scan\tv0\t640\t480\t60\t" + base64.b64encode(features.tobytes()) + b"\n"
    assert (tmp_path / "x.tsv").read_bytes() == expected


def tsv_lines(tmp_path):
    write_tsv(tmp_path / "x.tsv", make_rows())
    return (tmp_path / "x.tsv").read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("cut", [-1, -2, -3, -4, -60, -801])
def test_truncated_row_names_file_line_and_lengths(tmp_path, cut):
    lines = tsv_lines(tmp_path)
    lines[2] = lines[2].rstrip(b"\n")[:cut] + b"\n"
    (tmp_path / "x.tsv").write_bytes(b"".join(lines))
    with pytest.raises(InputError, match=r"x\.tsv line 3: features must be .*36 x 6 float32 = 864 bytes, got .*bytes"):
        list(read_tsv(tmp_path / "x.tsv"))


def test_truncated_first_row_and_missing_columns(tmp_path):
    lines = tsv_lines(tmp_path)
    (tmp_path / "x.tsv").write_bytes(lines[0][:-9] + b"\n")
    with pytest.raises(InputError, match="line 1: features must be"):
        list(read_tsv(tmp_path / "x.tsv"))
    (tmp_path / "x.tsv").write_bytes(lines[0] + b"scan\tv1\t640\n")
    with pytest.raises(InputError, match="line 2 must have 6 tab-separated columns, got 3"):
        list(read_tsv(tmp_path / "x.tsv"))


def test_truncated_gzip_is_told(tmp_path):
    data = gzip.compress(b"".join(tsv_lines(tmp_path)))
    (tmp_path / "x.tsv.gz").write_bytes(data[:-200])
    with pytest.raises(InputError, match="complete gzip"):
        list(read_tsv(tmp_path / "x.tsv.gz"))


def test_hdf5_that_is_none_is_told(tmp_path):
    pytest.importorskip("h5py")
    (tmp_path / "x.hdf5").write_bytes(b"no")
    with pytest.raises(InputError, match="complete HDF5"):
        list(read_rows(tmp_path / "x.hdf5"))


def test_names_are_looked_for_in_files_then_data_then_cache(tmp_path):
    data, cache = tmp_path / "data", tmp_path / "cache"
    assert find_store("clip_rn50", data, cache, "demo") is None
    make_store(cached_path("clip_rn50", cache, "demo"), weights="cache")
    assert find_store("clip_rn50", data, cache, "demo").header.weights == "cache"
    assert find_store("clip_rn50", data, cache, "other") is None
    make_store(data / "features" / "clip_rn50.safetensors", weights="data")
    assert find_store("clip_rn50", data, cache, "demo").header.weights == "data"
    given = make_store(tmp_path / "mine.safetensors", weights="mine").path
    assert find_store(str(given), data, cache, "demo").header.weights == "mine"


def test_features_of_packaged_weights_are_made_anew_when_these_are_trained_anew(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    make_store(cached_path("clip_demo", cache, "demo"), weights="packaged")
    assert find_store("clip_demo", tmp_path, cache, "demo").header.weights == "packaged"
    (tmp_path / "other.safetensors").write_bytes(b"other weights")
    monkeypatch.setattr("vln_clip.encoders.demo_clip.WEIGHTS", tmp_path / "other.safetensors")
    assert find_store("clip_demo", tmp_path, cache, "demo") is None


def test_public_tsv_is_converted_into_the_cache_once(tmp_path):
    data, cache = tmp_path / "data", tmp_path / "cache"
    write_tsv(data / "features" / "CLIP-ResNet-50x4-views.tsv", make_rows())
    first = find_store("clip_rn50x4", data, cache, "r2r")
    assert first.width == 6
    assert first.name == "CLIP-ResNet-50x4-views"
    assert cache in first.path.parents
    before = first.path.stat().st_mtime_ns
    assert find_store("clip_rn50x4", data, cache, "r2r").path.stat().st_mtime_ns == before
    assert [path.name for path in (data / "features").iterdir()] == ["CLIP-ResNet-50x4-views.tsv"]
    assert find_store("CLIP-ResNet-50x4-views", data, cache, "r2r").path == first.path


def test_unknown_names_and_absent_files(tmp_path):
    with pytest.raises(InputError, match="did you mean 'clip_vit_b32'"):
        find_store("clip_vit_b33", tmp_path, tmp_path, "r2r")
    with pytest.raises(InputError, match="does not exist"):
        find_store("gone.tsv", tmp_path, tmp_path, "r2r")


def test_split_name():
    assert split_name("none") == []
    assert split_name("clip_rn50+imagenet_resnet152") == ["clip_rn50", "imagenet_resnet152"]
    for bad in ("clip_rn50+", "clip_rn50+none", ""):
        with pytest.raises(InputError, match="A\\+B"):
            split_name(bad)


def test_wrong_width_is_told(tmp_path):
    store = make_store(tmp_path / "x.safetensors")
    check_width([store], 6, "checkpoint c")
    with pytest.raises(InputError, match=r"wrong width: checkpoint c must have 640 columns, got 6 from .*x\.safe"):
        check_width([store], 640, "checkpoint c")


def test_what_is_used_is_named(tmp_path):
    store = make_store(tmp_path / "x.safetensors", encoder="pixels")
    assert features_used([store.standing_in_for("clip_rn50")]) == "pixels standing in for clip_rn50"
    assert features_used([]) == "none"
    assert bank(store.standing_in_for("clip_rn50"), VIEWPOINTS).stand_in_for == "clip_rn50"


def test_cache_key_tells_data_sets_apart(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "connectivity").mkdir(parents=True)
        (tmp_path / name / "connectivity" / "scans.txt").write_text("x")
    first = dataset_key("demo", tmp_path / "a")
    assert first == dataset_key("demo", tmp_path / "a") != dataset_key("demo", tmp_path / "b")
    (tmp_path / "a" / "connectivity" / "scans.txt").write_text("x y")
    assert dataset_key("demo", tmp_path / "a") != first


def test_command_line(tmp_path, capsys):
    store = make_store(tmp_path / "x.safetensors", weights="openai sha256:afeb0e10")
    main(["convert", str(store.path), str(tmp_path / "y.tsv")])
    main(["inspect", str(store.path), str(tmp_path / "y.tsv")])
    printed = capsys.readouterr().out
    assert "5 viewpoints x 36 views x 6 float16" in printed
    assert "afeb0e10" in printed
    assert "5 viewpoints x 36 views x 6 float32, first scan_a_v0" in printed
