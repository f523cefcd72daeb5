"""Towers in files of their own: what comes back, under which name features are kept, and what is refused."""

import json
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import safetensors
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.tiny_clip import NAME, stand_in
from tests.toy_skyboxes import write_skyboxes
from tests.toy_world import use_world
from vln_clip import extract
from vln_clip.encoders import create_encoder, create_text_encoder, pooled_width
from vln_clip.encoders.demo_clip import WEIGHTS, make_text_tower, read_words
from vln_clip.encoders.tower_files import read_tower_header, save_tower, tower_digest
from vln_clip.errors import InputError
from vln_clip.features import find_store
from vln_clip.features.extraction import affordable_encoder
from vln_clip.features.image_extraction import extract_images
from vln_clip.features.images import list_images
from vln_clip.features.locate import file_stem, split_name
from vln_clip.features.opening import open_image_grids
from vln_clip.features.recipes import recipe_for


def tiny(monkeypatch, kind="resnet", seed=0):
    """A small CLIP tower with weights and statistics that are not those that it is made with."""
    stand_in(monkeypatch, kind)
    torch.manual_seed(seed)
    encoder = create_encoder(NAME, False)
    with torch.no_grad():
        for value in encoder.state_dict().values():
            if value.is_floating_point():
                value.add_(0.05 * torch.rand_like(value))
    encoder.weights = "openai sha256:00000000"
    return encoder


IMAGES = torch.linspace(-1, 1, 2 * 3 * 64 * 64).view(2, 3, 64, 64)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_a_tower_comes_back_as_it_was_saved(tmp_path, monkeypatch, kind):
    encoder = tiny(monkeypatch, kind)
    path = save_tower(encoder, tmp_path / "t.safetensors", "trained on colors")
    header = read_tower_header(path)
    assert (header.encoder, header.pooling, header.note) == (NAME, "own", "trained on colors")
    assert header.weights == "openai sha256:00000000"
    found = create_encoder(f"tower:{path}")
    with torch.inference_mode():
        assert torch.equal(found.pooled(IMAGES), encoder.pooled(IMAGES))
        assert torch.equal(found.grid(IMAGES), encoder.grid(IMAGES))
    assert (found.name, found.architecture) == (f"tower:{path}", NAME)
    assert found.weights == f"t.safetensors sha256:{header.sha256[:8]}"
    assert pooled_width(f"tower:{path}") == 24
    assert not found.training


def test_a_network_of_timm_comes_back_too(tmp_path):
    name = "timm:test_resnet.r160_in1k"
    encoder = create_encoder(name, False)
    found = create_encoder(f"tower:{save_tower(encoder, tmp_path / 't.safetensors')}")
    with torch.inference_mode():
        assert torch.equal(found.pooled(IMAGES), encoder.pooled(IMAGES))
    assert found.architecture == name


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_pooling_by_the_mean_is_chosen_when_saving(tmp_path, monkeypatch, kind):
    encoder = tiny(monkeypatch, kind)
    found = create_encoder(f"tower:{save_tower(encoder, tmp_path / 't.safetensors', pooling='mean')}")
    with torch.inference_mode():
        grid = encoder.grid(IMAGES)
        assert torch.equal(found.pooled(IMAGES), grid.mean((2, 3)))
        assert torch.equal(found.grid(IMAGES), grid)
    assert found.pooled_width == found.grid_width == grid.shape[1]
    assert found.pooling == "mean of the map"
    pooled, leaf = found.pooled_with_map(IMAGES)
    pooled[:, 0].sum().backward()
    # Each cell of the map's first channel is one of h * w that are averaged.
    torch.testing.assert_close(leaf.grad[:, 0], torch.full_like(leaf[:, 0], 1 / (leaf.shape[2] * leaf.shape[3])))


def test_a_tower_that_is_saved_again_keeps_architecture_and_pooling(tmp_path, monkeypatch):
    first = save_tower(tiny(monkeypatch), tmp_path / "a.safetensors", pooling="mean")
    found = create_encoder(f"tower:{first}")
    second = save_tower(found, tmp_path / "b.safetensors")
    headers = [read_tower_header(path) for path in (first, second)]
    assert headers[0].sha256 == headers[1].sha256 == tower_digest(found)
    assert headers[1] == replace(headers[0], weights=f"a.safetensors sha256:{headers[0].sha256[:8]}")


def test_equal_towers_are_equal_files(tmp_path, monkeypatch):
    encoder = tiny(monkeypatch)
    contents = {save_tower(encoder, tmp_path / f"{number}.safetensors").read_bytes() for number in range(3)}
    assert len(contents) == 1


def test_a_file_may_hold_the_text_tower_too(tmp_path, monkeypatch):
    encoder, text = tiny(monkeypatch), create_text_encoder(NAME, False)
    text.logit_scale = 42.0
    alone = save_tower(encoder, tmp_path / "a.safetensors")
    both = save_tower(encoder, tmp_path / "b.safetensors", text=text)
    found = create_text_encoder(f"tower:{both}")
    words = ["a red sofa", "stairs"]
    with torch.inference_mode():
        assert torch.equal(found.encode(words), text.encode(words))
        assert torch.equal(create_encoder(f"tower:{both}").pooled(IMAGES), encoder.pooled(IMAGES))
    assert found.logit_scale == pytest.approx(42.0, rel=1e-6)
    with pytest.raises(InputError, match="must hold a text tower too, got an image tower alone"):
        create_text_encoder(f"tower:{alone}")


def test_a_text_tower_with_other_words_is_not_saved(tmp_path):
    words = list(read_words(WEIGHTS))
    image, path = create_encoder("clip_demo", False), tmp_path / "t.safetensors"
    with pytest.raises(InputError, match="needs a text tower with the words of clip_demo as this package has them"):
        save_tower(image, path, text=make_text_tower(words[::-1]))
    assert not path.exists()
    save_tower(image, path, text=make_text_tower(words))


def test_a_network_without_texts_has_no_text_tower(tmp_path):
    path = save_tower(create_encoder("timm:test_resnet.r160_in1k", False), tmp_path / "t.safetensors")
    with pytest.raises(InputError, match="needs an encoder with a text tower"):
        create_text_encoder(f"tower:{path}")


# Names and features.


def test_features_are_named_by_what_the_tower_is_not_by_where_it_lies(tmp_path, monkeypatch):
    encoder = tiny(monkeypatch)
    path = save_tower(encoder, tmp_path / "a+b.safetensors")
    moved = shutil.copy(path, tmp_path / "c.safetensors")
    names = [file_stem(f"tower:{place}") for place in (path, moved)]
    assert names[0] == names[1] == f"tower-{read_tower_header(path).sha256[:16]}"
    others = [
        save_tower(encoder, tmp_path / "d", pooling="mean"),
        save_tower(tiny(monkeypatch, seed=1), tmp_path / "e"),
    ]
    assert len({names[0], *(file_stem(f"tower:{place}") for place in others)}) == 3
    assert split_name(f"tower:{path}") == [f"tower:{path}"]
    assert split_name(f"tower:{moved}+pixels") == [f"tower:{moved}", "pixels"]


def test_features_of_a_tower_are_extracted_once_and_found_again_elsewhere(tmp_path, monkeypatch):
    data = use_world(tmp_path, monkeypatch)
    write_skyboxes(data)
    path = save_tower(tiny(monkeypatch), tmp_path / "t.safetensors")
    extract.main(["--encoder", f"tower:{path}", "--workers", "0"])
    moved = path.rename(tmp_path / "moved.safetensors")
    key = extract.dataset_key("r2r", data)
    store = find_store(f"tower:{moved}", data, tmp_path / "cache", key)
    assert store is not None
    assert (store.width, len(store.keys)) == (24, 21)
    assert store.header.weights == f"t.safetensors sha256:{read_tower_header(moved).sha256[:8]}"
    assert store.header.encoder == f"tower:{path}"


def test_grids_of_a_tower_are_told_from_those_of_another(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)).save(tmp_path / "images" / "x.png")
    encoder = tiny(monkeypatch)
    path = save_tower(encoder, tmp_path / "t.safetensors")
    other = save_tower(tiny(monkeypatch, seed=1), tmp_path / "o.safetensors")
    encoder = create_encoder(f"tower:{path}")
    images = list_images([tmp_path / "images"])
    out = extract_images(encoder, images, tmp_path / "x.grid", recipe_for(encoder), batch=1, workers=0)
    moved = path.rename(tmp_path / "moved.safetensors")
    assert open_image_grids(out, f"tower:{moved}").shape[0] == encoder.grid_width
    with pytest.raises(InputError, match="features of another encoder"):
        open_image_grids(out, f"tower:{other}")


def test_nothing_stands_in_for_a_tower_however_slow_or_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("VLN_CLIP_OFFLINE", "1")
    path = save_tower(tiny(monkeypatch), tmp_path / "t.safetensors")
    found, reason = affordable_encoder(f"tower:{path}", lambda _: 600.0, "cpu", 10.0)
    assert found is not None
    assert found.name == f"tower:{path}"
    assert reason == ""
    path.write_bytes(path.read_bytes()[:-4] + b"abcd")
    with pytest.raises(InputError, match="digest is another"):
        affordable_encoder(f"tower:{path}", lambda _: 1.0, "cpu", 10.0)


# Bad input.


def edited(path, **changes):
    """Write a tower file again with other words in its header."""
    with safetensors.safe_open(path, "pt") as opened:
        entry = json.loads(opened.metadata()["tower"])
    save_file(load_file(path), path, {"tower": json.dumps(entry | changes)})


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 64
    path.write_bytes(content)


def other_network(path):
    edited(path, encoder="clip_vit_b32")


BAD = {
    "missing": (lambda path: path.unlink(), "must name a tower file, got .*t.safetensors which does not exist"),
    "cut off": (cut, "t.safetensors must be a tower file, but can't be read"),
    "one bit": (flip, "its digest is another; it was damaged or changed after it was written"),
    "no tower": (lambda path: save_file({"a": torch.ones(1)}, path), "one without the entry 'tower'; write it with"),
    "no safetensors": (lambda path: path.write_text("hello"), "must be a tower file, but can't be read"),
    "another network": (other_network, "its digest is another"),
    "unknown network": (lambda path: edited(path, encoder="clip_rn51"), "encoder must be one of .* got 'clip_rn51'"),
    "a tower of a tower": (lambda path: edited(path, encoder="tower:x"), "must be an architecture, got 'tower:x'"),
    "pooling": (lambda path: edited(path, pooling="max"), "its pooling must be own or mean, got 'max'"),
    "format": (lambda path: edited(path, format="x/2"), "its format must be vln_clip.tower/1, got 'x/2'"),
    "digest": (lambda path: edited(path, sha256="ab"), "its sha256 must have 64 hexadecimal digits"),
    "types": (lambda path: edited(path, note=3), "its header must have the texts encoder, pooling, weights, note"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_clear_sentence(tmp_path, monkeypatch, case):
    path = save_tower(tiny(monkeypatch), tmp_path / "t.safetensors")
    harm, message = BAD[case]
    harm(path)
    with pytest.raises(InputError, match=message) as found:
        create_encoder(f"tower:{path}")
    assert "\n" not in str(found.value)


def test_a_tower_of_another_size_is_refused(tmp_path, monkeypatch):
    path = save_tower(tiny(monkeypatch, "vit"), tmp_path / "t.safetensors")
    stand_in(monkeypatch, "resnet")
    told = r"t.safetensors must fit the image tower of clip_rn50, but \d+ tensors differ, e.g. \S+: expected .*, found"
    with pytest.raises(InputError, match=told):
        create_encoder(f"tower:{path}")


def test_what_cannot_be_a_tower_is_not_saved(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="needs an encoder with weights, got pixels which is a fixed function"):
        save_tower(create_encoder("pixels"), tmp_path / "t.safetensors")
    encoder = tiny(monkeypatch)
    encoder.visual.conv1.weight.data[0] = torch.nan
    with pytest.raises(InputError, match=r"must be finite, got inf or nan in 1, e.g. visual.conv1.weight"):
        save_tower(encoder, tmp_path / "t.safetensors")


def test_weights_beside_a_tower_are_refused(tmp_path, monkeypatch):
    path = save_tower(tiny(monkeypatch), tmp_path / "t.safetensors")
    with pytest.raises(InputError, match=r"brings its weights, got .* beside it; leave --weights out"):
        create_encoder(f"tower:{path}", path)


def test_random_damage_never_gives_another_tower(tmp_path, monkeypatch):
    path = save_tower(tiny(monkeypatch), tmp_path / "t.safetensors")
    content, rng = path.read_bytes(), random.Random(0)
    for number in range(60):
        damaged = bytearray(content)
        damaged[rng.randrange(len(content) if number % 2 else 3000)] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            found = create_encoder(f"tower:{path}")
        except InputError:
            continue
        # What is left are the words about origin, which no output depends on.
        assert tower_digest(found) == read_tower_header(path).sha256
