"""Public captioning checkpoints: converted models say what a plain one says; everything else is refused."""

import argparse

import pytest
import torch

from tests.captioner import generator
from tests.public_captioner import PublicCaptioner
from vln_clip.errors import InputError
from vln_clip.tasks.captioning.models.convert import convert_checkpoint

VOCABULARY_SIZE = 12
LAYER = "model.decoder.layers.1"


@pytest.fixture
def public():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PublicCaptioner(VOCABULARY_SIZE, 6)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model-best.pth"


def test_a_converted_model_says_what_the_public_one_says(public, path):
    torch.save(public.state_dict(), path)
    model = convert_checkpoint(path, VOCABULARY_SIZE).model
    grid = torch.randn(3, 6, 2, 3, generator=generator())
    tokens = torch.tensor([[0, 3, 1, 4, 1], [0, 5, 9, 0, 0], [0, 2, 0, 0, 0]])
    real = tokens != 0
    real[:, 0] = True
    with torch.no_grad():
        wanted, found = public(grid, tokens), model(grid, tokens[:, None])[:, 0].log_softmax(-1)
    torch.testing.assert_close(found[real], wanted[real], rtol=1e-4, atol=1e-5)
    assert wanted.exp().std(1).max() > 0.01  # what is said differs from word to word


def test_what_was_used_is_told(public, path):
    state = public.state_dict()
    torch.save(state, path)
    converted = convert_checkpoint(path, VOCABULARY_SIZE)
    assert converted.used.keys() == converted.model.state_dict().keys()
    assert {name for names in converted.used.values() for name in names} == state.keys() - {"model.tgt_embed.1.pe"}
    assert converted.used["decoder.1.image.inputs.bias"] == tuple(
        f"{LAYER}.src_attn.linears.{place}.bias" for place in range(3)
    )
    assert converted.used["encoder_norm.weight"] == ("model.encoder.norm.a_2",)


def test_converting_leaves_the_generator_of_pytorch_alone(public, path):
    torch.save(public.state_dict(), path)
    before = torch.get_rng_state()
    convert_checkpoint(path, VOCABULARY_SIZE)
    assert torch.equal(torch.get_rng_state(), before)


def without(name):
    return lambda state: state.pop(name)


def put(name, value):
    return lambda state: state.update({name: value})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("att_embed.0.weight"), r"but att_embed.0.weight is not there"),
        (without(f"{LAYER}.sublayer.2.norm.b_2"), rf"but {LAYER}.sublayer.2.norm.b_2 is not there"),
        (without("model.tgt_embed.1.pe"), "but model.tgt_embed.1.pe is not there"),
        (put("att_embed.4.running_mean", torch.zeros(3)), r"and no more, got att_embed.4.running_mean"),
        (put("model.encoder.layers.2.self_attn.linears.0.bias", torch.zeros(16)), "layers.2.* is not there"),
        (put(f"{LAYER}.feed_forward.w_1.bias", torch.zeros(31)), r"w_1.bias must be \(32,\), got \(31,\)"),
        (put(f"{LAYER}.self_attn.linears.1.weight", torch.zeros(16)), r"s.1.weight must be \(16, 16\), got \(16,\)"),
        (put("model.generator.proj.bias", torch.zeros(13)), r"proj.bias must be \(12,\), got \(13,\)"),
        (put("model.tgt_embed.1.pe", torch.zeros(1, 9, 16)), "must interleave sines and cosines"),
        (put("model.tgt_embed.1.pe", torch.zeros(9, 16)), r"must be \(1, positions, 16\), got \(9, 16\)"),
        (put("model.generator.proj.bias", torch.full((12,), torch.nan)), "proj.bias must hold finite numbers"),
        (put("model.generator.proj.bias", torch.zeros(1).expand(12)), "proj.bias must hold finite numbers in one"),
        (put("model.generator.proj.bias", torch.zeros(12).long()), "proj.bias must hold finite numbers"),
        (put("model.tgt_embed.0.lut.weight", torch.zeros(12)), r"lut.weight must be a matrix, got \(12,\)"),
        (put("model.tgt_embed.0.lut.weight", torch.zeros(12, 12)), "multiple of the 8 heads, got 12"),
    ],
)
def test_other_tensors_are_refused(damage, message, public, path):
    state = dict(public.state_dict())
    damage(state)
    torch.save(state, path)
    with pytest.raises(InputError, match=message) as caught:
        convert_checkpoint(path, VOCABULARY_SIZE)
    assert str(path) in str(caught.value)


def test_checkpoints_of_another_vocabulary_are_refused(public, path):
    torch.save(public.state_dict(), path)
    with pytest.raises(InputError, match=r"has 12 indices of words, the vocabulary 9,488; take the cocotalk.json"):
        convert_checkpoint(path, 9488)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04", b"\x80\x02N."])
def test_files_that_are_no_checkpoints_are_refused(content, path):
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model-best\.pth"):
        convert_checkpoint(path, VOCABULARY_SIZE)


def test_the_pickle_beside_a_checkpoint_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").write_text, ("",))

    path = tmp_path / "infos_best.pth"
    torch.save({"opt": argparse.Namespace(), "vocab": Trap()}, path)
    with pytest.raises(InputError, match=r"infos_best.pth which cannot be read"):
        convert_checkpoint(path, VOCABULARY_SIZE)
    assert not (tmp_path / "ran").exists()
