"""What tests of extraction share: the toy buildings with skyboxes, and the program over them."""

import itertools

from PIL import Image

from tests.test_extract import Mean
from tests.toy_world import scan_rows, write_graphs
from vln_clip import extract
from vln_clip.envs.render import load_skybox
from vln_clip.errors import InputError
from vln_clip.extract import Skyboxes
from vln_clip.features.extraction import Options

SCANS = ("alpha", "beta", "gamma")
NUM_VIEWPOINTS = 8 + 8 + 5
SMALL = Options(render_size_px=(16, 12), batch=50)


def write_houses(folder, monkeypatch):
    """Write the toy buildings with skyboxes of 16 pixels, one color each; return their data folder."""
    monkeypatch.setenv("VLN_CLIP_OFFLINE", "1")
    monkeypatch.setenv("VLN_CLIP_CACHE", str(folder / "cache"))
    data = folder / "data"
    write_graphs(data / "connectivity")
    shades = itertools.count(3)
    for scan in SCANS:
        images = data / "scans" / scan / "matterport_skybox_images"
        images.mkdir(parents=True)
        for row in scan_rows(scan):
            red = next(shades) * 8
            for face in range(6):
                color = (red, 40 * face, 250 - red)
                Image.new("RGB", (16, 16), color).save(images / f"{row['image_id']}_skybox{face}_sami.jpg")
    return data


def use_network(monkeypatch):
    """Make the mean color the program's encoder, whatever its name."""
    monkeypatch.setattr(extract, "create_encoder", lambda name, weights, device: Mean(name, "random"))


def program(data, out, *words):
    """Run the program in this process on the toy buildings."""
    common = ["--encoder", "clip_rn50", "--data", str(data), "--out", str(out), "--device", "cpu"]
    extract.main([*common, "--render-size", "16", "12", "--workers", "0", *words])


class Counting(Skyboxes):
    """Skyboxes that note what is read and fail at one viewpoint."""

    def __init__(self, fails_at="", error=None):
        self.read, self.fails_at = [], fails_at
        self.error = InputError("skybox image must be complete") if error is None else error

    def load(self, panorama):
        if panorama.viewpoint_id == self.fails_at:
            raise self.error
        self.read.append(panorama.viewpoint_id)
        return load_skybox(panorama.folder, panorama.viewpoint_id)
