"""CLIP's text encoder as a reader of tokens: its states, pieces of long texts, what is kept of them, bad input."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.test_follower import SMALL, learner
from tests.test_speaker import back_translation
from tests.tiny_clip import NAME, save_as, stand_in, whole
from tests.toy_vqa import SIZES, A, C, grids
from tests.toy_world import WIDTH, toy_setting
from vln_clip import recipe
from vln_clip.agents.follower import Follower
from vln_clip.context import without_instruction
from vln_clip.encoders import create_text_encoder
from vln_clip.encoders.demo_clip import METADATA_KEY, WEIGHTS, make_text_tower, read_words
from vln_clip.encoders.token_tower import TokenTower
from vln_clip.errors import InputError
from vln_clip.rollout import roll_out, teacher_forced
from vln_clip.tasks.vqa.models import RECIPES, build_vqa_model, make_optimizer, vqa_loss
from vln_clip.text_config import TextEncoderConfig
from vln_clip.token_reader import TokenReader, open_reader, reader_of
from vln_clip.token_states import LateStates, StateLists, word_mask

CPU = torch.device("cpu")
TEXTS = ["Walk to the kitchen.", "", "Wait!", " ".join(["red"] * 75), "Walk to the kitchen.", " ".join(["red"] * 160)]
NUM_TOKENS = [7, 2, 4, 77, 7, 162]  # words, full stops and the like, begin and end


@pytest.fixture(scope="module")
def encoder():
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch, "vit")
        torch.manual_seed(3)
        return create_text_encoder(NAME, False)


@pytest.fixture
def reader(encoder):
    return TokenReader(encoder, trained=False)


@pytest.fixture
def learning(encoder):
    return TokenReader(encoder, trained=True)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    return toy_setting(tmp_path, monkeypatch)


def padded(reader, texts, max_tokens=200):
    return [torch.from_numpy(array) for array in reader.encode_batch(texts, max_tokens)]


@torch.no_grad()
def test_the_state_of_the_end_is_what_the_whole_tower_projects(encoder, reader):
    texts = TEXTS[:4]
    tokens, length = padded(reader, texts)
    states = reader.tower(tokens, length)
    assert states.shape == (4, 77, 32)
    ends = states[torch.arange(4), length - 1]
    assert torch.allclose(ends @ encoder.tower.text_projection, encoder.encode(texts), atol=1e-5)
    assert not states[tokens == 0].any()


def test_tokens_are_clip_s_plus_1_so_that_0_is_padding_alone(encoder, reader):
    for text in ("Wait!", "a!b ! !!", "  Walk\tto   the sofa's left ", "häuser 中 123"):
        assert reader.encode(text, 80) == [token + 1 for token in encoder.pack([encoder.words(text)])[0].tolist()]
    assert 0 not in reader.encode("!", 80)
    assert reader.encode_batch(TEXTS, 200)[1].tolist() == NUM_TOKENS
    cut = reader.encode("red " * 50, 10)
    assert (len(cut), cut[0], cut[-1]) == (10, reader.tower.begin, reader.tower.end)


@torch.no_grad()
def test_a_long_text_is_read_in_pieces_of_75_between_begin_and_end(reader):
    # 160 words are pieces of 75, 75 and 10; each begins at position 0 of the context.
    words = [f"{word} {k % 10}" for k, word in enumerate(["red", "sofa", "left", "door"] * 20)]  # 160 tokens
    text = " ".join(words)
    tokens, length = padded(reader, [text, "short", text])
    assert length.tolist() == [162, 3, 162]
    states = reader.tower(tokens, length)
    begin, end = torch.tensor([reader.tower.begin]), torch.tensor([reader.tower.end])
    for start, stop in ((1, 76), (76, 151), (151, 161)):
        alone = reader.tower(torch.cat([begin, tokens[0, start:stop], end])[None])[0]
        assert torch.allclose(states[0, start:stop], alone[1:-1], atol=1e-5)
    assert torch.allclose(states[0, 161], alone[-1], atol=1e-5)  # the end of the last piece
    assert torch.allclose(states[0, 0], reader.tower(begin[None])[0, 0], atol=1e-5)
    assert torch.allclose(states[1, :3], reader.tower(tokens[1:2, :3])[0], atol=1e-5)
    assert not states[1, 3:].any()
    assert torch.allclose(states[2], states[0], atol=1e-5)


@pytest.mark.parametrize("num_words", [74, 75, 76, 149, 150, 151])
@torch.no_grad()
def test_states_at_the_seams_of_pieces_are_those_of_single_texts(reader, num_words):
    tokens, length = padded(reader, [" ".join(["red"] * num_words), "red"])
    states, last = reader.tower(tokens, length)[0], (num_words - 1) // 75 * 75  # words before the last piece
    tail, tail_length = padded(reader, [" ".join(["red"] * (num_words - last))])
    assert torch.allclose(states[last + 1 :], reader.tower(tail, tail_length)[0, 1:], atol=1e-5)


def test_kept_states_equal_those_computed_again_and_equal_texts_share_them(reader):
    kept = reader.states(TEXTS, 200)
    assert kept.length.tolist() == NUM_TOKENS
    assert kept.flat.dtype == torch.float16
    assert len(kept.flat) == sum(NUM_TOKENS) - 7  # one text stands there twice
    assert kept.first[0] == kept.first[4]
    rows = torch.tensor([5, 0, 2])
    tokens, length = padded(reader, [TEXTS[row] for row in rows])
    again = reader.tower.frozen(tokens, length)
    assert kept.padded(rows).shape == (3, 162, 32)
    torch.testing.assert_close(kept.padded(rows), again, atol=2e-3, rtol=2e-3)  # 16 bits, other batches
    assert torch.equal(kept[rows], kept.padded(rows))
    assert word_mask(kept.padded(rows)).sum(1).tolist() == [162, 7, 4]
    assert torch.equal(word_mask(tokens), word_mask(again))


def test_states_of_no_words_know_none_of_the_words(reader):
    kept = reader.states(TEXTS[:1], 80)
    empty = reader.states([""], 80).padded(torch.tensor([0]))
    assert torch.equal(kept.emptied().padded(torch.tensor([0])), empty)
    assert kept.emptied().length.tolist() == [2]
    assert not torch.equal(kept.padded(torch.tensor([0]))[0, -1], empty[0, -1])


def test_no_texts_are_no_states(reader):
    kept = reader.states([], 20)
    assert (len(kept), tuple(kept.shape)) == (0, (0, 0, 32))


def test_a_split_is_read_and_emptied(toy, reader, learning):
    setting, _ = toy
    words, rows = setting.table("val_unseen"), torch.tensor([3, 0])
    states = replace(setting, reader=reader, _read={}).table("val_unseen")
    tokens = replace(setting, reader=learning, _read={}).table("val_unseen")
    assert isinstance(states.tokens, StateLists)
    text = words.episodes[3].instruction
    assert tokens.batch(rows).tokens[0, : states.length[3]].tolist() == reader.encode(text, 20)
    assert torch.equal(states.length, tokens.length)
    late = replace(states, tokens=LateStates(tokens.tokens, reader.tower, reader.empty))
    close = {"atol": 2e-3, "rtol": 2e-3}
    torch.testing.assert_close(late.batch(rows).tokens, states.batch(rows).tokens, **close)
    for table in (states, late):
        torch.testing.assert_close(
            without_instruction(table).batch(rows).tokens, reader.states(["", ""], 9).padded(torch.arange(2)), **close
        )
    assert without_instruction(tokens).batch(rows).tokens.tolist() == [[reader.tower.begin, reader.tower.end]] * 2


def reading(reader):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Follower(None, WIDTH, **(SMALL | {"word_width": reader.width}), tower=reader.own_tower())


def test_a_frozen_tower_is_no_part_of_the_follower(reader):
    names = reading(reader).state_dict().keys()
    assert not [name for name in names if "tower" in name or "encoder.embedding" in name]
    assert {name.split(".")[0] for name in names} == {"encoder", "decoder", "critic"}


def test_a_trained_tower_learns_and_begins_as_the_frozen_one_reads(toy, reader, learning):
    setting, world = toy
    batch = replace(setting, reader=learning, _read={}).table("train").batch(torch.arange(8))
    follower = reading(learning)
    states = reader.tower.frozen(batch.tokens, batch.length)
    frozen = reading(reader)
    frozen.load_state_dict({name: value for name, value in follower.state_dict().items() if "tower" not in name})
    with torch.no_grad():
        pair = [
            agent.start(read, batch.length).attended for agent, read in ((follower, batch.tokens), (frozen, states))
        ]
    assert torch.allclose(*pair, atol=2e-3)
    record = roll_out(world, follower, batch, teacher_forced, 6, generator=torch.Generator().manual_seed(0))
    record.teacher_log_prob.sum().backward()
    for name, parameter in follower.encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert all(parameter.grad is None for parameter in learning.tower.parameters())  # every model has its own


def test_a_trained_tower_has_a_learning_rate_of_its_own(learning):
    follower = reading(learning)
    optimizer = torch.optim.Adam(follower.parameters(), lr=1e-3)
    recipe.set_apart(optimizer, follower.encoder.tower, 1e-4)
    sizes = [(group["lr"], sum(p.numel() for p in group["params"])) for group in optimizer.param_groups]
    own = sum(p.numel() for p in follower.encoder.tower.parameters())
    assert sizes == [(1e-3, sum(p.numel() for p in follower.parameters()) - own), (1e-4, own)]


@pytest.mark.parametrize("kind", ["reader", "learning"])
def test_what_the_speaker_writes_is_read_as_text(toy, request, kind):
    setting, world = toy
    read = request.getfixturevalue(kind)
    setting = replace(setting, reader=read, _read={})
    learn = back_translation(replace(setting, reader=None), world)
    learn.real = learner(world, reading(read), setting.table("train"))
    learn.read, seen = setting.read_words, []
    describe = learn.speaker.describe

    def spy(*words):
        seen.append(describe(*words))
        return seen[-1]

    learn.speaker.describe = spy
    batch = learn.described(learn.environment_noise())
    texts = [setting.vocabulary.decode(setting.vocabulary.shrink([*ids, 2])) for ids in seen[0].tolist()]
    tokens, length = padded(read, texts, 20)
    assert torch.equal(batch.length, length)
    if read.trained:
        assert torch.equal(batch.tokens, tokens)
    else:
        assert torch.equal(batch.tokens, read.tower.frozen(tokens, length))
    assert learn()["aug_loss/imitation"] > 0


@pytest.mark.parametrize("name", SIZES)
def test_every_vqa_model_reads_states_and_trains_the_tower(reader, learning, name):
    texts, sizes = ["What color is the room?", "Why?", "Is it red?"], SIZES[name] | {"word_width": 32}
    states, (tokens, _) = reader.states(texts, 20)[torch.arange(3)], padded(learning, texts)
    torch.manual_seed(0)
    trained = build_vqa_model(name, None, C, A, None, text_tower=learning.own_tower(), **sizes).eval()
    frozen = build_vqa_model(name, None, C, A, None, **sizes).eval()
    frozen.load_state_dict({key: value for key, value in trained.state_dict().items() if "tower" not in key})
    grid, target = grids(), torch.eye(3, A)
    outputs = [model(words, grid) for model, words in ((trained, tokens), (frozen, states))]
    for ours, theirs in zip(*(output.logits for output in outputs), strict=True):
        torch.testing.assert_close(ours, theirs, atol=5e-3, rtol=5e-3)
    vqa_loss(outputs[0], target, "sum").backward()
    tower = list(trained.words.tower.parameters())
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in tower)
    groups = make_optimizer(trained, RECIPES[name], 0.1).param_groups
    assert [group["lr"] for group in groups] == pytest.approx([RECIPES[name].lr, RECIPES[name].lr / 10])
    assert len(groups[1]["params"]) == len(tower)
    with pytest.raises(ValueError, match=r"tokens must be \(B, L, D\) with L at least 1, got \(3, "):
        frozen(tokens, grid)


def test_words_of_another_list_are_other_tokens(tmp_path):
    readers = [TokenReader(make_text_tower(words), trained=True) for words in (["door", "red"], ["red", "sofa"])]
    assert [reader.encode("red", 9)[1] for reader in readers] == [3, 2]  # the second and the first word, plus 1
    assert readers[0].digest != readers[1].digest  # under which tables of tokens are kept
    with pytest.raises(InputError, match=r"must have the words of clip_demo as this package has .* from runs/x"):
        reader_of(readers[0].to_json(), TextEncoderConfig("clip_demo"), CPU, Path("runs/x"))
    path = tmp_path / "other.safetensors"
    save_file(load_file(WEIGHTS), path, {METADATA_KEY: json.dumps({"words": read_words(WEIGHTS)[::-1]})})
    assert open_reader(TextEncoderConfig("clip_demo", path), CPU).weights.startswith("other.safetensors")
    with pytest.raises(InputError, match=r"must have the words of clip_demo .* from .*other\.safetensors; leave"):
        open_reader(TextEncoderConfig("clip_demo", path, train_text_encoder=True), CPU)
    own = open_reader(TextEncoderConfig("clip_demo", train_text_encoder=True), CPU)
    assert reader_of(own.to_json(), TextEncoderConfig("clip_demo"), CPU, Path("runs/x")).digest == own.digest


def test_tokens_are_spelled_for_people(reader):
    assert reader.spelled("Walk to the Kitchen.", 20) == ("<BOS>", "walk", "to", "the", "kitchen", ".", "<EOS>")
    assert reader.spelled("Walk to the kitchen.", 4) == ("<BOS>", "walk", "to", "<EOS>")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"text_weights": Path("x.pt")}, "--text-weights is for --text-encoder; name one or leave it out"),
        ({"train_text_encoder": True}, "--train-text-encoder is for --text-encoder"),
        ({"text_encoder": NAME, "text_lr_factor": 0.0}, "--text-lr-factor must be positive, got 0.0"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(flags, sentence):
    with pytest.raises(InputError, match=sentence):
        TextEncoderConfig(**flags)


@pytest.mark.parametrize(
    ("name", "weights", "sentence"),
    [
        ("pixels", None, "--text-encoder needs an encoder with a text tower, one of clip_rn50, .* got 'pixels'"),
        ("clip_rm50", None, "did you mean 'clip_rn50'"),
        (NAME, None, "the weights of clip_rn50 must be on this machine .*--text-weights FILE of a --text-encoder"),
        (NAME, "nowhere.pt", r"weights of clip_rn50 must be a file, got 'nowhere\.pt' which does not exist"),
    ],
)
def test_an_encoder_that_cannot_read_is_told_in_one_sentence(monkeypatch, tmp_path, name, weights, sentence):
    monkeypatch.setenv("VLN_CLIP_OFFLINE", "1")
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path))
    config = TextEncoderConfig(name, None if weights is None else Path(weights))
    with pytest.raises(InputError, match=sentence):
        open_reader(config, CPU)


def test_a_tower_that_looks_ahead_is_refused(encoder):
    mask, encoder.tower.attn_mask = encoder.tower.attn_mask, None
    try:
        with pytest.raises(InputError, match="--text-encoder must be a causal text tower"):
            TokenTower(encoder)
    finally:
        encoder.tower.attn_mask = mask


def test_a_checkpoint_finds_its_tower_again_or_says_why_not(monkeypatch, tmp_path):
    stand_in(monkeypatch, "vit")
    path = save_as("safetensors", whole("vit"), tmp_path / "clip.safetensors")
    config, source = TextEncoderConfig(NAME, path), Path("runs/x")
    saved = open_reader(config, CPU).to_json()
    assert reader_of(saved, config, CPU, source).weights == saved["weights"]
    assert reader_of(None, TextEncoderConfig(), CPU, source) is None
    trained = reader_of(saved | {"trained": True}, TextEncoderConfig(), CPU, source)
    assert (trained.trained, trained.weights) == (True, "random")  # the checkpoint holds them
    with pytest.raises(InputError, match=r"runs/x was trained on .* clip_rn50 other, but here clip_rn50 clip.safetens"):
        reader_of(saved | {"weights": "other"}, config, CPU, source)
    with pytest.raises(InputError, match="runs/x: text_encoder must have encoder, weights, width, trained, got"):
        reader_of({"encoder": NAME}, config, CPU, source)
