"""``clip_demo``: towers and words out of this package, files of the same make, and what it has learned; ``random:``."""

import hashlib
import json
import runpy
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vln_clip.encoders import create_encoder, create_text_encoder, pooled_width
from vln_clip.encoders.demo_clip import METADATA_KEY, WEIGHTS, WordTokenizer, list_words, read_words
from vln_clip.envs.demo.pictures import PicturesConfig
from vln_clip.envs.demo.pictures.captions import captions
from vln_clip.envs.demo.pictures.views import draw_pictures
from vln_clip.errors import InputError
from vln_clip.features.extraction import Options, affordable_encoder


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    monkeypatch.setenv("VLN_CLIP_OFFLINE", "1")
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def image():
    return create_encoder("clip_demo")


@pytest.fixture(scope="module")
def text():
    return create_text_encoder("clip_demo")


def test_words_are_numbers_whatever_their_case_and_unknown_ones_are_0():
    tokenizer = WordTokenizer(list_words(["A red sofa.", "the Sofa"]))
    assert tokenizer.words == (".", "a", "red", "sofa", "the")
    assert tokenizer.encode("The RED xylophone, sofa.") == [5, 3, 0, 0, 4, 1]
    assert (tokenizer.sot_token_id, tokenizer.eot_token_id, len(tokenizer)) == (6, 7, 8)


def test_texts_are_framed_cut_and_padded_and_padding_changes_nothing(text):
    begin, end = text.pack([[]])[0].tolist()
    packed = text.pack([[3], [3] * 100])
    assert packed[0, :3].tolist() == [begin, 3, end]
    assert packed.shape == (2, 77)
    assert packed[1, -1] == end
    assert torch.allclose(text.encode_tokens(packed)[0], text.encode_tokens(packed[:1, :3])[0], atol=1e-5)


def test_joined_texts_are_those_in_one_piece(text):
    whole = text.encode(["a red sofa on the left", "a red sofa on the right side"])
    ends = text.pack([text.words("on the left"), text.words("on the right side")])
    assert torch.allclose(text.encode_joined(text.words("a red sofa"), ends), whole, atol=1e-5)


def test_weights_come_from_this_package_and_say_which(image, text):
    digits = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:8]
    assert image.weights == text.weights == f"clip_demo sha256:{digits}"
    assert WEIGHTS.stat().st_size <= 4_000_000
    assert image.pooled_width == text.width == pooled_width("clip_demo")


def test_views_are_rendered_small_and_nothing_ever_stands_in(image):
    assert Options().size_px(image) == (128, 96)
    for name in ("clip_demo", "random:clip_demo"):
        encoder, _ = affordable_encoder(name, lambda _: 1e9, "cpu", 300.0)
        assert encoder is not None
        assert encoder.name == name


def test_the_file_says_how_it_was_made():
    with safe_open(WEIGHTS, "pt") as file:
        about = json.loads(file.metadata()[METADATA_KEY])
    assert about["made_by"].startswith("scripts/train_clip_demo.py --seed 0 ")
    assert about["trained_on"] == "the demo world of seed 0, houses 0 to 39"


def test_a_file_names_every_flag_that_it_depends_on():
    script = runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "train_clip_demo.py"))
    flags_of, options = script["flags_of"], script["Options"]
    with safe_open(WEIGHTS, "pt") as file:
        about = json.loads(file.metadata()[METADATA_KEY])
    assert about["made_by"] == f"scripts/train_clip_demo.py {flags_of(options())}"
    assert flags_of(options(lr=1e-3, weight_decay=0.2)) == f"{flags_of(options())} --lr 0.001 --weight-decay 0.2"


def test_random_towers_differ_from_learned_ones_and_know_the_same_words(image, text):
    other_image, other_text = create_encoder("clip_demo", False), create_text_encoder("clip_demo", False)
    assert other_image.weights == other_text.weights == "random"
    assert other_text.words("a red sofa") == text.words("a red sofa")
    images = torch.rand(1, 3, 96, 128)
    with torch.inference_mode():
        assert not torch.allclose(image.pooled(images), other_image.pooled(images), atol=0.1)


def test_a_file_of_the_same_make_can_be_given(tmp_path):
    about = {METADATA_KEY: json.dumps({"words": list(read_words(WEIGHTS))})}
    save_file(load_file(WEIGHTS), tmp_path / "own.safetensors", about)
    images = torch.rand(1, 3, 96, 128)
    given = create_encoder("clip_demo", tmp_path / "own.safetensors")
    assert given.weights.startswith("own.safetensors sha256:")
    with torch.inference_mode():
        assert torch.equal(given.pooled(images), create_encoder("clip_demo").pooled(images))
    assert create_text_encoder("clip_demo", tmp_path / "own.safetensors").weights == given.weights


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ({}, "without words under"),
        ({METADATA_KEY: "{"}, "which cannot be read"),
        ({METADATA_KEY: "[]"}, "without words under"),
        ({METADATA_KEY: '{"words": [1]}'}, "without words under"),
    ],
)
def test_other_files_are_refused_as_text_towers(tmp_path, metadata, found):
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata)
    with pytest.raises(InputError, match=rf"scripts/train_clip_demo.py wrote, got .*other.safetensors {found}"):
        create_text_encoder("clip_demo", path)
    with pytest.raises(InputError, match="must fit its image tower"):
        create_encoder("clip_demo", path)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    path = tmp_path / "noise.safetensors"
    path.write_bytes(b"noise" * 100)
    with pytest.raises(InputError, match=r"got .*noise.safetensors which cannot be read"):
        create_text_encoder("clip_demo", path)


def test_untrained_encoders_are_always_the_same_and_leave_the_random_numbers_alone():
    torch.manual_seed(5)
    first, draw = create_encoder("random:clip_demo"), torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(draw, torch.rand(1))
    second = create_encoder("random:clip_demo", False)
    assert (first.name, first.weights) == ("random:clip_demo", "random seed 0")
    images = torch.rand(1, 3, 96, 128)
    with torch.inference_mode():
        assert torch.equal(first.pooled(images), second.pooled(images))


def test_names_of_untrained_encoders_are_checked():
    with pytest.raises(InputError, match="did you mean 'clip_demo'"):
        create_encoder("random:clip_dmo")
    with pytest.raises(InputError, match="must have random weights"):
        create_encoder("random:clip_demo", WEIGHTS)


@pytest.mark.slow
def test_sentences_find_pictures_of_houses_it_has_not_seen(image, text):
    # 24 pictures of house 40, the first of val: by chance 1 of 24 texts finds its picture first, with this file 9 do.
    config = PicturesConfig(pictures_per_house=24)
    pictures = list(draw_pictures(config, 40))
    texts = [" ".join(captions(config.seed, picture.facts)) for picture in pictures]
    seen = torch.stack([image.transform(Image.fromarray(picture.rgb)) for picture in pictures])
    with torch.inference_mode():
        images = torch.nn.functional.normalize(image.pooled(seen), dim=-1)
        cosines = torch.nn.functional.normalize(text.encode(texts), dim=-1) @ images.T
    right = cosines.argmax(1) == torch.arange(len(pictures))
    assert len(pictures) == 24
    assert int(right.sum()) >= 6
