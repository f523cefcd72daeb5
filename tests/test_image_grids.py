"""Grids of image files: recipes, listing and checking images, the program, and encoding on the fly."""

import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tests.test_grid_sizes import clip_vit
from vln_clip import extract, log
from vln_clip.encoders import create_encoder
from vln_clip.encoders.base import LAST, Tap
from vln_clip.errors import InputError
from vln_clip.features import image_extraction
from vln_clip.features.grid import check_keys, open_grid
from vln_clip.features.image_extraction import describe_layer, image_grid_path
from vln_clip.features.images import check_images, list_images, read_rgb
from vln_clip.features.live import ImageGrids
from vln_clip.features.opening import open_image_grids
from vln_clip.features.recipes import PRESETS, recipe_for, shortest_edge_size

TURNED = 6  # EXIF: the camera was turned; the picture is to be turned by 90 degrees clockwise


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("VLN_CLIP_OFFLINE", "1")
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(image_extraction, "IMAGES_PER_PART", 4)
    log.logger.propagate = True
    caplog.set_level(logging.INFO, "vln_clip")


def picture(seed, width=64, height=48):
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    """Ten images in two folders, of all endings."""
    (tmp_path / "pictures" / "inner").mkdir(parents=True)
    for number in range(10):
        place = tmp_path / "pictures" / ("inner" if number % 2 else "")
        ending = ["jpg", "png", "webp", "JPEG"][number % 4]
        picture(number).save(place / f"img_{number}.{ending}")
    (tmp_path / "pictures" / "notes.txt").write_text("no image")
    (tmp_path / "pictures" / "._img_0.jpg").write_text("of a Mac")
    return tmp_path / "pictures"


def program(folder, out, *words):
    common = ["--grid", "--images", str(folder), "--encoder", "pixels:8", "--out", str(out)]
    extract.main([*common, "--device", "cpu", "--workers", "0", *words])


# A picture of 480 x 640 (h x w): 600 / 480 = 1.25 < 1000 / 640, so 600 x 800. Panorama of 200 x 1000: 3.0 would make
# the longer side 3000, so 1000 / 1000 = 1 decides. Portrait of 640 x 427: 600 / 427 = 1.4052, 640 * 1.4052 = 899.3.
@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 640), (600, 800)), ((200, 1000), (200, 1000)), ((640, 427), (899, 600)), ((1200, 9000), (133, 1000))],
)
def test_the_shorter_side_is_resized_within_the_longest(size, expected):
    assert shortest_edge_size(size, 600, 1000) == expected


def test_vqa_resizes_twice_and_captions_once_as_pillow_does():
    image = picture(0, 640, 480)
    twice = image.resize((800, 600), Image.Resampling.BILINEAR).resize((1000, 600), Image.Resampling.BILINEAR)
    assert np.array_equal(PRESETS["vqa"].resize(image), twice)
    once = image.resize((448, 448), Image.Resampling.BICUBIC)
    assert np.array_equal(PRESETS["caption"].resize(image), once)


def test_presets_choose_the_block_of_a_vit_and_leave_resnets_alone():
    vit, pixels = clip_vit(), create_encoder("pixels")
    assert recipe_for(vit, "vqa").tap == Tap(-2)
    assert recipe_for(vit, "caption").tap == LAST
    assert recipe_for(vit, "vqa", layer=-1, ln_post=True, keep_cls=True).tap == Tap(-1, True, True)
    assert recipe_for(pixels, "vqa").tap == LAST
    assert describe_layer(vit, Tap(-2)) == "block 2 of 3, without ln_post, without class token"
    assert [recipe_for(pixels, "vqa").name, recipe_for(pixels, "vqa", exif=False).name] == ["vqa", "own"]
    assert recipe_for(pixels).size_px == (96, 128)
    with pytest.raises(InputError, match=r"image size must be 16 to 8192 pixels high and wide for pixels, got 15 99"):
        recipe_for(pixels, image_size_px=(15, 99))


def test_pictures_of_every_mode_become_rgb_before_they_are_resized(tmp_path):
    image = picture(3)
    palette = image.quantize(4)
    palette.save(tmp_path / "palette.png")
    resized = PRESETS["caption"].resize(read_rgb(tmp_path / "palette.png"))
    expected = palette.convert("RGB").resize((448, 448), Image.Resampling.BICUBIC)
    assert np.array_equal(resized, expected)  # resized before, only four colors could be in it
    for mode, ending in (("L", "jpg"), ("CMYK", "jpg"), ("RGBA", "png"), ("LA", "webp")):
        image.convert(mode).save(tmp_path / f"x.{ending}")
        assert read_rgb(tmp_path / f"x.{ending}").mode == "RGB"
    deep = np.full((40, 40), 200 << 8, np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.asarray(read_rgb(tmp_path / "deep.png"))[0, 0].tolist() == [200] * 3


def test_exif_turns_pictures_where_the_recipe_says_so(tmp_path):
    image, exif = picture(1, 64, 48), Image.Exif()
    exif[0x0112] = TURNED
    image.save(tmp_path / "x.png", exif=exif)
    assert read_rgb(tmp_path / "x.png").size == (64, 48)
    assert np.array_equal(read_rgb(tmp_path / "x.png", exif=True), image.transpose(Image.Transpose.ROTATE_270))
    assert [PRESETS["vqa"].exif, PRESETS["caption"].exif] == [True, False]


def test_images_are_found_in_folders_below_by_their_stems(folder):
    assert [image.key for image in list_images([folder])] == [f"img_{number}" for number in range(10)]
    assert len(list_images([folder, folder / "inner"])) == 10  # the same file twice is one image
    assert [image.key for image in list_images([folder / "img_0.jpg"])] == ["img_0"]


def test_grids_are_extracted_in_parts_and_read_back(folder, tmp_path, caplog):
    out = tmp_path / "x.grid"
    words = ["--image-size", "48", "80", "--batch-size", "3"]
    program(folder, out, *words, "--shard", "2/2")
    assert not out.exists()
    program(folder, out, *words)
    assert any(line.endswith("1 of 3 parts are done already") for line in caplog.messages)
    assert sorted(path.name for path in out.iterdir()) == [
        "images-00000.safetensors",
        "images-00001.safetensors",
        "images-00002.safetensors",
        "index.json",
    ]
    grids = open_image_grids(out, "pixels:8", "own")
    assert grids.shape == (8, 3, 5)
    assert (grids.header.exif, grids.header.layer, grids.header.preset) == ("applied", "last map", "own")
    assert grids.header.resize == "both sides to 48x80, bilinear, Pillow"
    keys = ["img_7", "img_0", "img_7"]
    encoder = create_encoder("pixels:8")
    images = {image.key: image for image in list_images([folder])}
    for key, grid in zip(keys, grids.read(keys), strict=True):
        resized = np.array(read_rgb(images[key].path).resize((80, 48), Image.Resampling.BILINEAR))
        inputs = encoder.transform.scale(torch.from_numpy(resized).permute(2, 0, 1)[None])
        assert torch.equal(grid, encoder.grid(inputs)[0].half())
    program(folder, out, *words)
    assert any("is complete, nothing to do" in line for line in caplog.messages)
    with pytest.raises(InputError, match=r"image_size_px \(48, 80\) instead of \(48, 64\)"):
        program(folder, out, "--image-size", "48", "64")
    picture(11).save(folder / "img_90.png")
    with pytest.raises(InputError, match="10 images instead of 11 or other ones"):
        program(folder, out, *words)


def test_grids_do_not_depend_on_workers_or_on_what_was_interrupted(folder, tmp_path, monkeypatch):
    program(folder, tmp_path / "whole.grid", "--image-size", "32", "32")
    rows, taken = image_extraction.image_rows, []

    def failing(*arguments, **options):
        for row in rows(*arguments, **options):
            taken.append(row)
            yield row
            if len(taken) == 6:
                raise KeyboardInterrupt

    monkeypatch.setattr(image_extraction, "image_rows", failing)
    words = ["--image-size", "32", "32", "--workers", "2"]
    with pytest.raises(SystemExit):
        program(folder, tmp_path / "x.grid", *words)
    monkeypatch.setattr(image_extraction, "image_rows", rows)
    program(folder, tmp_path / "x.grid", *words)
    whole, parts = open_grid(tmp_path / "whole.grid"), open_grid(tmp_path / "x.grid")
    assert torch.equal(whole.read(whole.image_keys), parts.read(whole.image_keys))


def test_encoding_on_the_fly_gives_what_the_store_has(folder, tmp_path):
    program(folder, tmp_path / "x.grid", "--image-size", "48", "80", "--batch-size", "4")
    store = open_grid(tmp_path / "x.grid")
    encoder = create_encoder("pixels:8")
    live = ImageGrids(encoder, list_images([folder]), recipe_for(encoder, image_size_px=(48, 80)), batch=2)
    assert live.shape == store.shape
    assert not live.header.differences(store.header)[2:]  # source and pictures only
    keys = ["img_3", "img_9", "img_3", "img_0"]
    live.prefetch(keys)
    assert torch.equal(live.read(keys), store.read(keys))
    assert live.read([]).shape == (0, 8, 3, 5)
    weight = torch.ones((), requires_grad=True)
    (live.read(keys).float() * weight).sum().backward()  # grids can be trained on
    assert weight.grad is not None
    with pytest.raises(InputError, match="image img_99 must be among the 10 images given"):
        live.read(["img_99"])
    with pytest.raises(InputError, match=r"every image of val2014 must have grid.*, got 1 of 2 without .*img_99"):
        check_keys(live, ["img_1", "img_99", "img_1"], "val2014")


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def shrink(path):
    picture(0, 60, 15).save(path)


def replace_by_text(path):
    path.write_text("<html>404</html>")


BAD = [
    (cut, r"an image must be a complete JPEG, PNG or WebP file, got .*img_4\.jpg \(.*truncated.*replace it or remove"),
    (shrink, r"image img_4 must be at least 16 pixels high and wide for this encoder, got 60x15 in .*img_4\.jpg"),
    (replace_by_text, r"an image must be a complete JPEG, PNG or WebP file, got .*img_4\.jpg \(cannot identify"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD)
def test_bad_images_are_told_before_the_work(folder, tmp_path, monkeypatch, spoil, message):
    spoil(folder / "img_4.jpg")
    monkeypatch.setattr(image_extraction, "image_rows", None)  # no work is begun
    with pytest.raises(InputError, match=message) as caught:
        program(folder, tmp_path / "x.grid", "--image-size", "32", "32")
    assert "\n" not in str(caught.value)
    for number in (6, 8):
        spoil(next(folder.glob(f"img_{number}.*")))
    with pytest.raises(InputError, match=r"img_4.*\(and 2 other bad files of 10\)"):
        check_images(list_images([folder]), 16)


def test_a_png_that_is_cut_is_found_too(folder):
    cut(folder / "inner" / "img_1.png")
    cut(folder / "img_2.webp")
    with pytest.raises(InputError, match=r"img_1\.png .*\(and 1 other"):
        check_images(list_images([folder]), 1)


def test_other_bad_input_is_one_sentence(folder, tmp_path):
    out = tmp_path / "x.grid"
    with pytest.raises(InputError, match=r"--images must be folders or image files, got .*nowhere which"):
        program(tmp_path / "nowhere", out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"--images must be folders with \.jpg.*, got .*empty without any"):
        program(tmp_path / "empty", out)
    with pytest.raises(InputError, match="--images needs --grid"):
        extract.main(["--images", str(folder), "--encoder", "pixels"])
    with pytest.raises(InputError, match="can be chosen for a ViT only, got pixels:8"):
        program(folder, out, "--layer", "-2")
    with pytest.raises(InputError, match="--out must be given where a preset is changed"):
        extract.main(["--grid", "--images", str(folder), "--encoder", "pixels", "--preset", "vqa", "--exif", "False"])
    with pytest.raises(InputError, match=r"--merge needs parts of .*x\.grid, got none .*extract parts first"):
        program(folder, out, "--merge")
    picture(0).save(folder / "inner" / "img_0.png")
    with pytest.raises(InputError, match=r"images must differ in their names.*img_0\.jpg and .*img_0\.png"):
        program(folder, out)


def test_an_image_that_goes_away_meanwhile_is_named(folder):
    images = list_images([folder])
    images[3].path.unlink()
    with pytest.raises(InputError, match=r"image .*img_3\.JPEG must exist, got no such file"):
        check_images(images, 16)


def test_the_default_output_is_found_by_name_and_folders(folder, tmp_path):
    extract.main(["--grid", "--images", str(folder), "--encoder", "pixels:8", "--device", "cpu", "--workers", "0"])
    path = image_grid_path("pixels:8", "own", [folder], tmp_path / "cache")
    assert open_image_grids(path, "pixels:8").shape == (8, 6, 8)


@pytest.mark.slow
def test_launched_processes_share_the_parts(tmp_path):
    (tmp_path / "many").mkdir()
    for number in range(300):  # two parts of 256 images at most
        picture(number, 20, 16).save(tmp_path / "many" / f"{number}.png")
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "-m"]
    words = ["vln_clip.extract", "--grid", "--images", str(tmp_path / "many"), "--encoder", "pixels:8"]
    words += ["--device", "cpu", "--out", str(tmp_path / "x.grid"), "--workers", "0", "--image-size", "16", "32"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, *words], check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "share 1 of 2" in done.stderr
    assert "share 2 of 2" not in done.stderr  # one process speaks for all
    grids = open_image_grids(tmp_path / "x.grid", "pixels:8")
    assert (len(grids.image_keys), grids.shape) == (300, (8, 1, 2))
