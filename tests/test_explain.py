"""The program that shows what in a picture speaks for a text: what it writes, and what it refuses."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tests.test_bad_input import refused
from tests.tiny_clip import NAME, TEXT, save_as, stand_in, whole
from vln_clip import explain, log
from vln_clip.encoders import clip, create_encoder
from vln_clip.encoders.tower_files import save_tower
from vln_clip.viewer.heatsheet import Panel, _caption, draw_heatsheet, overlay
from vln_clip.viewer.lettering import Letters, default_font

VIT = "clip_vit_b32"


@pytest.fixture
def towers(monkeypatch, tmp_path):
    """Let two names stand for small towers; return the weights of both, and open_clip's own models."""
    stand_in(monkeypatch, "vit")
    monkeypatch.setitem(clip.ARCHITECTURES, VIT, "tiny-vit")
    stand_in(monkeypatch, "resnet")
    models = {NAME: whole("resnet"), VIT: whole("vit")}
    return {name: (save_as("safetensors", model, tmp_path / f"{name}.pt.safetensors"), model)
            for name, model in models.items()}  # fmt: skip


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "house.png")
    return tmp_path / "house.png"


def run(*words):
    log.setup()
    explain.main([str(word) for word in words])


def weighted(towers):
    """Return the flags that name both towers and their weights."""
    words = [word for name in (NAME, VIT) for word in ("--encoder", name)]
    return words + [word for name in (NAME, VIT) for word in ("--weights", f"{name}={towers[name][0]}")]


def test_a_sheet_and_the_heat_of_each_encoder_are_written(towers, picture, tmp_path, capsys):
    out = tmp_path / "new" / "sheet.png"
    run(picture, "a red door", *weighted(towers), "--out", out, "--save-map")
    told = capsys.readouterr().err
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "sheet.png", f"sheet_{NAME}.npy", f"sheet_{NAME}.png", f"sheet_{VIT}.npy", f"sheet_{VIT}.png",
    ]  # fmt: skip
    # 64 pixels make 2 x 2 cells of 32 in a ResNet, 32 make 2 x 2 of 16 in this ViT. Of 96 x 48 the middle 48 x 48.
    for name, method in ((NAME, "Grad-CAM"), (VIT, "attention rollout")):
        cells = np.load(out.parent / f"sheet_{name}.npy")
        assert (cells.shape, cells.dtype) == ((2, 2), np.float32)
        assert f"{method} of 2 x 2 cells over columns 24 to 71 and rows 0 to 47 of 96 x 48 pixels" in told
        heat = np.asarray(Image.open(out.parent / f"sheet_{name}.png")).astype(int)
        assert heat.shape == (48, 96, 3)
        gray = (np.ptp(heat, axis=2) == 0).all(axis=0)
        assert gray[:24].all()
        assert gray[72:].all()
        assert not gray[24:72].any()
    sheet = Image.open(out)
    assert sheet.width > 3 * sheet.height


def test_the_cosine_is_that_of_the_whole_model(towers, picture, tmp_path, capsys):
    run(picture, "a red door", *weighted(towers), "--out", tmp_path / "sheet.png")
    told = capsys.readouterr().err
    for name in (NAME, VIT):
        model = towers[name][1].float()
        encoder, text = explain.load(name, towers[name][0], False, torch.device("cpu"))
        images = encoder.transform(Image.open(picture))[None]
        with torch.no_grad():
            tokens = text.pack([text.words("a red door")])
            tokens = torch.nn.functional.pad(tokens, (0, TEXT["context_length"] - tokens.shape[1]))
            expected = torch.cosine_similarity(model.encode_image(images), model.encode_text(tokens))
        found = float(re.search(rf"{name}: cosine (-?[\d.]+)", told)[1])
        assert found == pytest.approx(float(expected), abs=6e-4)


def test_another_text_lights_up_another_place(towers, picture, tmp_path):
    maps = []
    for text in ("a red door", "a plant in the corner of the kitchen"):
        run(picture, text, "--encoder", VIT, "--weights", towers[VIT][0], "--out", tmp_path / "s.png", "--save-map")
        maps.append(np.load(tmp_path / f"s_{VIT}.npy"))
    assert not np.allclose(maps[0] / maps[0].max(), maps[1] / maps[1].max(), atol=1e-3)


@pytest.mark.parametrize(("size", "mode"), [((1, 1), "RGB"), ((3, 300), "L"), ((300, 3), "RGBA"), ((31, 47), "P")])
def test_pictures_of_any_size_and_mode_are_explained(towers, tmp_path, monkeypatch, size, mode):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(tmp_path / "any.png")
    run("any.png", "a door", *weighted(towers))
    for name in (NAME, VIT):
        assert Image.open(tmp_path / f"any_explained_{name}.png").size == size


def test_random_weights_are_told_and_the_same_every_time(towers, picture, tmp_path, capsys):
    sheets = []
    for number in range(2):
        out = tmp_path / f"{number}.png"
        run(picture, "a door", "--encoder", NAME, "--random-weights", "--out", out)
        assert f"NOTE: --random-weights: {NAME} knows nothing" in capsys.readouterr().err
        sheets.append(out.read_bytes())
    assert sheets[0] == sheets[1]


def test_a_text_beyond_the_context_is_told(towers, picture, tmp_path, capsys):
    run(picture, "door " * 80, "--encoder", NAME, "--random-weights", "--out", tmp_path / "s.png")
    assert f"NOTE: {NAME} reads 75 tokens of a text, got 80" in capsys.readouterr().err


def test_words_that_the_encoder_does_not_know_are_told(picture, tmp_path, capsys):
    words = ["--encoder", "clip_demo", "--out", tmp_path / "s.png"]
    run(picture, "a red zebra, xylophone", *words)  # five words, the comma is one
    assert "NOTE: clip_demo does not know 2 of the 5 words of the text" in capsys.readouterr().err
    run(picture, "a red door", *words)
    assert "NOTE" not in capsys.readouterr().err


def test_heat_takes_the_colors_of_jet():
    # OpenCV's JET begins at (0, 0, 128) and ends at (128, 0, 0). A picture of one color adds nothing; the largest
    # channel, 128, becomes 255. What is not seen is 45 % of its mean: 0.45 · 100 = 45.
    picture = np.full((1, 3, 3), 100, np.uint8)
    found = overlay(picture, np.array([[2.0, 6, 99]], np.float32), np.array([[True, True, False]]))
    assert found.tolist() == [[[0, 0, 255], [255, 0, 0], [45, 45, 45]]]


def test_no_heat_at_all_is_blue():
    found = overlay(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.float32), np.ones((2, 2), bool))
    assert found.reshape(-1, 3).tolist() == [[0, 0, 255]] * 4


def test_a_sheet_grows_with_its_panels_and_texts():
    panel = Panel(np.zeros((30, 40, 3), np.uint8), ("clip_rn50", "cosine 0.2"))
    one, three = (draw_heatsheet("a door", [panel] * number) for number in (1, 3))
    assert three.width - one.width == 2 * (400 + 14)
    assert draw_heatsheet("a door " * 40, [panel]).height > one.height
    # Six lines of 21 px, 1.35 of that each, stand above: 5 more than of a short text.
    assert draw_heatsheet("a door " * 40_000, [panel]).height == one.height + round(6 * 28.35) - round(28.35)
    assert np.asarray(one)[200, 200].tolist() == [0, 0, 0]


def test_names_too_long_for_their_column_lose_their_middle():
    name = "open_clip:" + "x" * 60 + "/laion2b"
    (line, _), *_ = _caption(Panel(np.zeros((2, 2, 3), np.uint8), (name,)), Letters(default_font(), 16.0), 400)
    assert re.fullmatch(r"open_clip:x+…x+/laion2b", line)
    assert 380 < Letters(default_font(), 16.0).getlength(line) <= 400


BAD = [
    (["{missing}", "a door", "--encoder", NAME], r"image .*missing\.png must exist, got no such file"),
    (["{truncated}", "a door", "--encoder", NAME], r"must be a complete JPEG, PNG or WebP file, got .*truncated\.png"),
    (["{folder}", "a door", "--encoder", NAME], "must be a complete JPEG, PNG or WebP file, got"),
    (["{long}", "a door", "--encoder", NAME], r"must differ by a factor of at most 100, got 101 x 1 pixels in .*long"),
    (["{picture}", " \n", "--encoder", NAME], "TEXT must have at least one word, got an empty one"),
    (["{picture}", "a door"], "name at least one encoder with --encoder"),
    (["{picture}", "a door", "--encoder", "clip_rn5O"], "encoder must be one of .* did you mean 'clip_rn50'"),
    (["{picture}", "a door", "--encoder", "pixels"], "needs an encoder with a text tower, .* got 'pixels' which sees"),
    (["{picture}", "a door", "--encoder", "imagenet_resnet50"], "got 'imagenet_resnet50' which sees images only"),
    (["{picture}", "a door", "--encoder", NAME, "--encoder", NAME], f"must name each encoder once, got {NAME} twice"),
    (
        ["{picture}", "a door", "--encoder", NAME, "--weights", "{vit}"],
        "must fit its image tower, got .*tensors differ",
    ),
    (["{picture}", "a door", "--encoder", NAME, "--weights", "{picture}"], "weights must be safetensors, .*house.png"),
    (["{picture}", "a door", "--encoder", NAME, "--weights", "{missing}"], "must be a file, got .*does not exist"),
    (["{picture}", "a door", "--encoder", "clip_rn101"], "the weights of clip_rn101 must be on this machine"),
    (["{picture}", "a door", "--encoder", "clip_demo", "--encoder", "clip_rn101"], "weights of clip_rn101 must be"),
    (["{picture}", "a door", "--encoder", "tower:{mean}"], "that pools as it did .* got 'tower:.* which averages"),
    (["{picture}", "a door", "--encoder", "tower:{folder}"], "must name a tower file, got .* which is a folder"),
    (["{picture}", "a door", "--encoder", "tower:"], r"encoder must be one of .*, tower:PATH, got 'tower:'"),
    (["{picture}", "a door", "--encoder", NAME, "--encoder", VIT, "--weights", "x.pt"], "--weights must be NAME=FILE"),
    (["{picture}", "a door", "--encoder", NAME, "--weights", "a", "--weights", "b"], "must name one file per encoder"),
    (["{picture}", "a door", "--encoder", NAME, "--weights", "a", "--random-weights"], "one of --weights and --random"),
    (["{picture}", "a door", "--encoder", NAME, "--out", "x.jpg"], r"must name a file that ends in \.png, got x\.jpg"),
    (["{picture}", "a door", "--encoder", NAME, "--out", "{picture}"], "would be overwritten; give another --out"),
    (["{picture}", "a door", "--encoder", NAME, "--font", "{picture}"], "--font must be a TrueType or OpenType file"),
    (["{picture}", "a door", "--encoder", NAME, "--device", "cuda:99"], "--device must be auto, cpu or one of"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_told_in_one_sentence(towers, picture, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.setenv("VLN_CLIP_OFFLINE", "1")
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "truncated.png").write_bytes(picture.read_bytes()[:4000])
    Image.new("RGB", (101, 1)).save(tmp_path / "long.png")
    places = {name: tmp_path / f"{name}.png" for name in ("missing", "truncated", "long")}
    mean = save_tower(create_encoder("clip_demo"), tmp_path / "mean.safetensors", pooling="mean")
    places |= {"picture": picture, "folder": tmp_path, "vit": towers[VIT][0], "mean": mean}
    argv = [word.format(**places) for word in words]
    if "--out" not in argv:
        argv += ["--out", str(tmp_path / "out" / "sheet.png")]
    assert re.search(message, refused(capsys, explain.main, argv))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "message"),
    [("coca", "attention rollout needs a ViT whose class token"), ("foreign", "must use CLIP's own tokenizer")],
)
def test_towers_that_no_method_fits_are_told(monkeypatch, picture, tmp_path, capsys, kind, message):
    stand_in(monkeypatch, kind)
    argv = [picture, "a door", "--encoder", NAME, "--random-weights", "--out", tmp_path / "s.png"]
    assert re.search(message, refused(capsys, explain.main, argv))


def test_weights_that_give_no_numbers_are_told(towers, picture, tmp_path, capsys):
    path, model = towers[VIT]
    model.visual.proj.data[:] = float("nan")
    save_as("safetensors", model, path)
    argv = [picture, "a door", "--encoder", VIT, "--weights", path, "--out", tmp_path / "s.png"]
    assert re.search(f"weights of {VIT} must give numbers, got inf or nan", refused(capsys, explain.main, argv))


@pytest.mark.parametrize("words", ["['--help']", "['x.png', ' ', '--encoder', 'clip_rn50']"])
def test_help_and_mistakes_need_not_wait_for_pytorch(words):
    code = f"""
import sys
from vln_clip import explain, log
try:
    log.program(explain.main, {words})
except SystemExit:
    pass
print('torch' in sys.modules, 'open_clip' in sys.modules, 'cv2' in sys.modules, 'matplotlib' in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False False False"
