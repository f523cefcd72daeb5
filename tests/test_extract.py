"""Extraction and the demo world's rule, with a fake encoder where a real one would be slow."""

import json
import logging

import numpy as np
import pytest
import torch

from vln_clip import extract
from vln_clip.encoders import create_encoder
from vln_clip.encoders.base import Encoder, Preprocess
from vln_clip.encoders.pixels import PixelsEncoder
from vln_clip.errors import InputError
from vln_clip.extract import demo_features, extract_features, list_panoramas, resolve_or_extract
from vln_clip.features import extraction, features_used, open_store
from vln_clip.features.extraction import Options, encode_views

NUM_VIEWPOINTS = 3


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    monkeypatch.setenv("VLN_CLIP_OFFLINE", "1")
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(logging.getLogger("vln_clip"), "propagate", True)


@pytest.fixture
def data(tmp_path):
    """One scan of three viewpoints with graph files and an (empty) skybox folder."""
    folder = tmp_path / "data"
    (folder / "connectivity").mkdir(parents=True)
    (folder / "scans" / "s" / "matterport_skybox_images").mkdir(parents=True)
    (folder / "connectivity" / "scans.txt").write_text("s\n")
    rows = [
        {
            "image_id": f"v{i}",
            "pose": [1.0, 0, 0, 2.0 * i, 0, 0, 1.0, 0, 0, -1.0, 0, 1.5, 0, 0, 0, 1.0],
            "included": True,
            "visible": [abs(i - j) == 1 for j in range(NUM_VIEWPOINTS)],
            "unobstructed": [abs(i - j) == 1 for j in range(NUM_VIEWPOINTS)],
            "height": 1.5,
        }
        for i in range(NUM_VIEWPOINTS)
    ]
    (folder / "connectivity" / "s_connectivity.json").write_text(json.dumps(rows))
    return folder


class Painted:
    """Views of one color per viewpoint and view number."""

    def __init__(self):
        self.sizes = set()

    def load(self, panorama):
        return torch.full((6, 4, 4, 3), 40 * int(panorama.viewpoint_id[1]), dtype=torch.uint8)

    def draw(self, faces, panorama, size_px):
        self.sizes.add(size_px)
        shade = faces[0, 0, 0, 0] + torch.arange(36, dtype=torch.uint8)
        return shade[:, None, None, None].expand(36, size_px[1], size_px[0], 3).clone()


class Mean(Encoder):
    """Mean color: a network as far as anybody can see."""

    def __init__(self, name="clip_rn50", weights="random"):
        super().__init__()
        self.name, self.weights, self.pooled_width, self.grid_width = name, weights, 3, 3
        self.image_size_px = (8, 8)
        self.transform = Preprocess((8, 8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        self.scale = torch.nn.Parameter(torch.ones(()))

    def pooled(self, images):
        return images.mean((2, 3)) * self.scale


def test_rows_are_written_in_order_with_a_full_header(tmp_path, data):
    source = Painted()
    options = Options(render_size_px=(16, 12), batch=5)
    out = extract_features(Mean(), list_panoramas(data, "x"), tmp_path / "x.safetensors", options, source, "demo")
    store = open_store(out)
    assert store.keys == ("s_v0", "s_v1", "s_v2")
    expected = (40 * torch.arange(3)[:, None] + torch.arange(36)) / 255
    assert torch.allclose(store.features[..., 0].float(), expected, atol=1e-3)
    header = store.header
    assert (header.encoder, header.source, header.channel_order, header.render_size_px) == (
        "clip_rn50",
        "demo",
        "rgb",
        (16, 12),
    )
    assert header.resize == "shorter side, center crop to 8x8, bicubic"
    assert "torch" in header.libraries
    assert source.sizes == {(16, 12)}


def test_channel_order_and_normalization():
    views = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    views[..., 0] = 255
    assert torch.equal(encode_views(Mean(), views, Options()), torch.tensor([[1.0, 0, 0]] * 2))
    assert torch.equal(encode_views(Mean(), views, Options(channel_order="bgr")), torch.tensor([[0, 0, 1.0]] * 2))
    views[..., 1] = 255
    assert torch.allclose(encode_views(Mean(), views, Options(normalize="l2")).norm(dim=1), torch.ones(2))


def test_default_render_sizes():
    assert Options().size_px(Mean()) == (640, 480)
    assert Options().size_px(create_encoder("pixels")) == (128, 96)


@pytest.mark.parametrize("ending", ["tsv", "hdf5"])
def test_other_formats(tmp_path, data, ending):
    if ending == "hdf5":
        pytest.importorskip("h5py")
    from vln_clip.features.formats import read_rows

    out = extract_features(Mean(), list_panoramas(data, "x"), tmp_path / f"x.{ending}", source=Painted())
    assert [key for key, _ in read_rows(out)] == ["s_v0", "s_v1", "s_v2"]


def test_missing_skyboxes_say_where_to_get_features(data):
    (data / "scans" / "s" / "matterport_skybox_images").rmdir()
    with pytest.raises(InputError, match=r"CLIP-ResNet-50x4-views\.tsv.*scan s has none.*terms of use"):
        list_panoramas(data, "clip_rn50x4")
    (data / "v1" / "scans" / "s" / "matterport_skybox_images").mkdir(parents=True)
    assert len(list_panoramas(data, "clip_rn50x4")) == NUM_VIEWPOINTS


def test_real_data_without_weights_is_an_error(data, tmp_path):
    with pytest.raises(InputError, match="weights of clip_rn50 must be"):
        resolve_or_extract("clip_rn50", "r2r", data, tmp_path / "cache")


def test_demo_without_weights_takes_pixels_and_says_so(data, tmp_path, caplog):
    store = demo_features("clip_rn50x4", data, tmp_path / "cache", source=Painted())
    assert (store.name, store.header.stand_in_for, store.width) == ("pixels", "clip_rn50x4", 640)
    assert features_used([store]) == "pixels standing in for clip_rn50x4"
    notice = caplog.messages[-1]
    assert "python -m vln_clip.extract --features clip_rn50x4 --dataset demo" in notice
    assert "\n" not in notice
    # a network of another width gets pixels of that width; the same file serves again
    assert demo_features("clip_vit_b32", data, tmp_path / "cache", source=Painted()).width == 512
    again = demo_features("clip_rn50x4", data, tmp_path / "cache", source=None)
    assert again.path == store.path
    assert np.array_equal(again.features, store.features)


def fake_encoders(monkeypatch, seconds, has_weights=True):
    def create(name, pretrained=True, device="cpu"):
        if name.startswith("pixels"):
            return PixelsEncoder(name, int(name.partition(":")[2] or 640))
        if pretrained is True and not has_weights:
            raise InputError("the weights of clip_rn50 must be here, got: ConnectTimeout; fetch them")
        return Mean(name, "fetched" if pretrained else "random")

    monkeypatch.setenv("VLN_CLIP_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(extraction, "create_encoder", create)
    monkeypatch.setattr(extract, "create_encoder", create)
    monkeypatch.setattr(extract, "estimate_s", lambda *_: seconds)


def test_demo_extracts_the_real_features_where_that_is_quick(data, tmp_path, monkeypatch):
    fake_encoders(monkeypatch, seconds=200)
    store = demo_features("clip_rn50", data, tmp_path / "cache", source=Painted())
    assert (store.name, store.header.weights, store.header.stand_in_for) == ("clip_rn50", "fetched", "")
    assert resolve_or_extract("clip_rn50", "demo", data, tmp_path / "cache")[0].path == store.path


@pytest.mark.parametrize(("seconds", "reason"), [(3000, "about 50 minutes"), (200, "ConnectTimeout")])
def test_demo_stands_in_where_it_is_slow_or_unreachable(data, tmp_path, monkeypatch, caplog, seconds, reason):
    fake_encoders(monkeypatch, seconds, has_weights=False)
    store = demo_features("clip_rn50", data, tmp_path / "cache", source=Painted())
    assert (store.name, store.header.stand_in_for, store.width) == ("pixels:1024", "clip_rn50", 1024)
    assert reason in caplog.messages[-1]


def test_the_time_of_all_panoramas_is_estimated_from_one_batch(data):
    panoramas = list_panoramas(data, "x")
    assert 0 < extraction.estimate_s(Mean(), panoramas, Painted(), Options()) < 60


def test_composites_blind_and_widths(data, tmp_path, monkeypatch):
    fake_encoders(monkeypatch, seconds=1)
    demo_features("clip_rn50", data, tmp_path / "cache", source=Painted())
    demo_features("pixels:32", data, tmp_path / "cache", source=Painted())
    stores = resolve_or_extract("clip_rn50+pixels:32", "demo", data, tmp_path / "cache", width=35)
    assert features_used(stores) == "clip_rn50 + pixels:32"
    assert resolve_or_extract("none", "demo", data, tmp_path / "cache", width=0) == []
    with pytest.raises(InputError, match="wrong width: checkpoint x must have 640 columns, got 3"):
        resolve_or_extract("clip_rn50", "demo", data, tmp_path / "cache", width=640, wanted_by="checkpoint x")


def write_skyboxes(data):
    from PIL import Image

    folder = data / "scans" / "s" / "matterport_skybox_images"
    for i in range(NUM_VIEWPOINTS):
        for face in range(6):
            image = Image.new("RGB", (16, 16), (40 * i, 40 * face, 90))
            image.save(folder / f"v{i}_skybox{face}_sami.jpg")


def test_program_extracts_into_the_cache_where_names_find_it(data, tmp_path):
    write_skyboxes(data)
    extract.main(["--features", "pixels:32", "--dataset", "r2r", "--data", str(data), "--device", "cpu"])
    (store,) = resolve_or_extract("pixels:32", "r2r", data, tmp_path / "cache")
    assert store.features.shape == (NUM_VIEWPOINTS, 36, 32)
    assert store.header.render_size_px == (128, 96)


def test_program_wants_a_file_for_unusual_options(data, tmp_path):
    write_skyboxes(data)
    common = ["--features", "pixels:32", "--data", str(data), "--device", "cpu", "--normalize", "l2"]
    with pytest.raises(InputError, match="--out must be given"):
        extract.main(common)
    extract.main([*common, "--out", str(tmp_path / "x.safetensors"), "--channel-order", "bgr"])
    header = open_store(tmp_path / "x.safetensors").header
    assert (header.normalization, header.channel_order) == ("l2", "bgr")


def test_program_refuses_unknown_encoders():
    with pytest.raises(InputError, match="did you mean 'clip_rn50'"):
        extract.main(["--features", "clip_rn5"])
