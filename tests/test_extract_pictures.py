"""Features of pictures or poses that have changed since are not taken for current ones."""

import json
import shutil
from dataclasses import replace

import pytest
from PIL import Image

from tests import toy_extraction
from tests.toy_extraction import write_houses
from vln_clip import log
from vln_clip.errors import InputError
from vln_clip.features import open_store
from vln_clip.features.formats import convert, read_header
from vln_clip.features.parts import parts_folder
from vln_clip.features.store import numpy_rows, write_store


@pytest.fixture
def data(tmp_path, monkeypatch):
    return write_houses(tmp_path, monkeypatch)


def program(data, out, *words):
    """Run the program with an encoder that has maps too."""
    toy_extraction.program(data, out, "--encoder", "pixels:4", "--image-size", "16", "16", "--crop", "squash", *words)


def other_picture(data):
    face = data / "scans" / "beta" / "matterport_skybox_images" / "b3_skybox1_sami.jpg"
    Image.effect_noise((16, 16), 90).convert("RGB").save(face)


def other_heading(data):
    path = data / "connectivity" / "beta_connectivity.json"
    rows = json.loads(path.read_text())
    turned = (0, 1, 2, 4, 5, 6)  # the first two rows of the rotation: half a turn around the vertical
    rows[3]["pose"] = [-x if i in turned else x for i, x in enumerate(rows[3]["pose"])]
    path.write_text(json.dumps(rows))


@pytest.mark.parametrize("change", [other_picture, other_heading])
@pytest.mark.parametrize("name", ["x.safetensors", "x.tsv", "x.hdf5", "x.grid"])
def test_an_output_of_other_pictures_is_not_complete(data, tmp_path, change, name):
    out = tmp_path / name
    words = ["--grid"] if name == "x.grid" else []
    program(data, out, *words)
    program(data, out, *words)
    change(data)
    with pytest.raises(InputError, match=r"with features of other skybox images or poses .*; name .*--overwrite"):
        program(data, out, *words)
    program(data, out, *words, "--overwrite")
    program(data, out, *words)


@pytest.mark.parametrize("change", [other_picture, other_heading])
def test_parts_of_other_pictures_are_made_again_and_no_others(data, tmp_path, change, caplog):
    log.logger.propagate = True
    out = tmp_path / "x.safetensors"
    program(data, out, "--shard", "1/3")
    program(data, out, "--shard", "2/3")
    change(data)
    caplog.clear()
    program(data, out)
    told = {line.partition(":")[0] for line in caplog.messages if "have changed since" in line}
    assert told == {"scan beta is done again"}
    program(data, tmp_path / "whole.safetensors")
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_told_merging_records_the_pictures_of_the_parts(data, tmp_path):
    out = tmp_path / "x.safetensors"
    program(data, tmp_path / "whole.safetensors")
    for shard in ("1/3", "2/3"):
        program(data, out, "--shard", shard)
    program(data, tmp_path / "y.safetensors", "--shard", "3/3")
    (last,) = parts_folder(tmp_path / "y.safetensors").iterdir()
    last.rename(parts_folder(out) / last.name)
    program(data, out, "--merge")
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_copied_data_and_features_without_a_digest_stay_good(data, tmp_path):
    out = tmp_path / "x.safetensors"
    program(data, out)
    shutil.copytree(data, tmp_path / "copy", copy_function=shutil.copyfile)  # files get new times
    before = out.stat().st_mtime_ns
    program(tmp_path / "copy", out)
    convert(out, tmp_path / "x.tsv")
    assert read_header(tmp_path / "x.tsv").pictures == open_store(out).header.pictures != ""
    store = open_store(out)
    write_store(tmp_path / "old.safetensors", replace(store.header, pictures=""), numpy_rows(store))
    other_picture(data)
    program(data, tmp_path / "old.safetensors")
    assert open_store(tmp_path / "old.safetensors").header.pictures == ""
    assert out.stat().st_mtime_ns == before
