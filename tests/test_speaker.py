"""The speaker and back-translation: sizes, names, gradients, generated ids, shared environment noise."""

import pytest
import torch

from tests.test_follower import build as build_follower
from tests.test_follower import count, learner
from tests.toy_world import WIDTH, toy_setting
from vln_clip.agents.speaker import Speaker, as_instruction
from vln_clip.envdrop import BackTranslationLearner, SpeakerLearner
from vln_clip.envs.paths import sample_paths
from vln_clip.losses import word_loss
from vln_clip.records import Walk
from vln_clip.sampler import ShuffledSampler

SMALL = {"angle_width": 8, "word_width": 8, "hidden_width": 16}


def build(feature_width=WIDTH, num_words=30, seed=0, **changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Speaker(num_words, feature_width, **(SMALL | changes))


@pytest.fixture
def toy(tmp_path, monkeypatch):
    return toy_setting(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("width", "encoder"), [(512, 4_333_568), (640, 4_726_784), (1024, 5_906_432), (2048, 9_052_160)]
)
def test_parameter_counts_are_the_reference_s(width, encoder):
    # Specification §6.1; the reference's decoder also holds an unused baseline head, 512 -> 128 -> 1.
    speaker = Speaker(992, width)
    assert count(speaker.encoder) == encoder
    assert count(speaker.decoder) == 3_192_033 - (512 * 128 + 128) - (128 + 1)


def test_parameters_have_the_names_of_reference_checkpoints():
    stems = {name.rsplit(".", 1)[0] for name in build().state_dict()}
    assert stems == {
        "encoder.lstm",
        "encoder.attention_layer.linear_in",
        "encoder.attention_layer.linear_out",
        "encoder.post_lstm",
        "decoder.embedding",
        "decoder.lstm",
        "decoder.attention_layer.linear_in",
        "decoder.attention_layer.linear_out",
        "decoder.projection",
    }


@pytest.mark.parametrize("width", [WIDTH, 0])
def test_the_gradient_reaches_every_parameter(toy, width):
    setting, world = toy
    world = world if width else setting.world([])
    batch = setting.table("train").batch(torch.arange(8))
    speaker = build(width, setting.vocabulary.size)
    generator = torch.Generator().manual_seed(0)
    logits = speaker(world.observe_walk(batch), batch.tokens, batch.length, generator)
    assert logits.shape == (8, batch.tokens.shape[1], setting.vocabulary.size)
    word_loss(logits, batch.tokens).backward()
    for name, parameter in speaker.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert speaker.describe(world.observe_walk(batch), 5).shape[0] == 8


def test_padding_words_do_not_change_the_logits_of_real_ones(toy):
    setting, world = toy
    batch = setting.table("train").batch(torch.arange(4))
    speaker = build(num_words=setting.vocabulary.size)
    walk = world.observe_walk(batch)
    wider = torch.cat([batch.tokens, torch.zeros(4, 3, dtype=torch.int64)], 1)
    logits, other = speaker(walk, batch.tokens, batch.length), speaker(walk, wider, batch.length)
    real = batch.tokens != 0
    torch.testing.assert_close(other[:, : real.shape[1]][real], logits[real])
    torch.testing.assert_close(word_loss(other, wider), word_loss(logits, batch.tokens))


def test_it_overfits_one_batch_and_then_says_it(toy):
    setting, world = toy
    table = setting.table("train")
    batch = table.batch(torch.arange(0, 24, 3))  # one instruction of each of eight paths
    speaker = build(num_words=setting.vocabulary.size, hidden_width=48, dropout_p=0.0, feature_dropout_p=0.0)
    optimizer = torch.optim.Adam(speaker.parameters(), lr=1e-2)
    walk, losses = world.observe_walk(batch), []
    for _ in range(80):
        optimizer.zero_grad()
        loss = word_loss(speaker(walk, batch.tokens, batch.length), batch.tokens)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.02 * losses[0]
    words, length = as_instruction(speaker.describe(walk, 20), speaker.bos)
    assert words.tolist() == batch.tokens.tolist()
    assert length.tolist() == batch.length.tolist()


def test_its_learner_takes_steps(toy):
    setting, world = toy
    table = setting.table("train")
    speaker = build(num_words=setting.vocabulary.size)
    before = {name: value.clone() for name, value in speaker.state_dict().items()}
    optimizer = torch.optim.Adam(speaker.parameters(), lr=1e-3)
    sampler, generator = ShuffledSampler(len(table), 8, 0), torch.Generator().manual_seed(0)
    numbers = SpeakerLearner(world, speaker, optimizer, table, sampler, 40.0, generator)()
    assert set(numbers) == {"loss/word", "optimizer/encoder_gradient_norm", "optimizer/decoder_gradient_norm"}
    assert all(not torch.equal(value, before[name]) for name, value in speaker.state_dict().items())


def scripted(monkeypatch, script, num_words=10):
    """Return a speaker whose words are scripted: at step t row b prefers script[b][t], and <UNK> above all."""
    speaker = build(0, num_words)
    step = iter(range(100))

    def write(token, h, c, context, mask):
        t = next(step)
        logits = torch.zeros(len(token), num_words)
        for row, words in enumerate(script):
            logits[row, words[t]] = 5.0
        logits[:, 1] = 9.0  # <UNK>
        return logits, h, c

    monkeypatch.setattr(speaker.decoder, "step", write)
    B, zeros = len(script), torch.zeros
    length = torch.ones(B, dtype=torch.int64)
    return speaker, Walk(zeros(B, 1, 36, 0), zeros(B, 1, 36, 4), zeros(B, 1, 0), zeros(B, 1, 4), length)


def test_descriptions_have_no_unk_and_end_in_padding(monkeypatch):
    speaker, walk = scripted(monkeypatch, [[5, 2, 6, 6], [7, 8, 2, 6]])
    # Row 0 ends at its second word; once both have ended nothing more is written.
    assert speaker.describe(walk, 10).tolist() == [[5, 2, 0], [7, 8, 2]]


def test_descriptions_are_cut_off(monkeypatch):
    speaker, walk = scripted(monkeypatch, [[5, 2, 6, 6], [7, 8, 3, 4]])
    words = speaker.describe(walk, 3)
    assert words.tolist() == [[5, 2, 0], [7, 8, 3]]
    # <BOS> in front; in rows whose last token is no padding, <EOS> takes its place (specification §7).
    tokens, length = as_instruction(words, speaker.bos)
    assert speaker.bos == 9
    assert tokens.tolist() == [[9, 5, 2, 0], [9, 7, 8, 2]]
    assert length.tolist() == [3, 4]


def test_a_generated_instruction_that_just_fits_keeps_its_end():
    tokens, length = as_instruction(torch.tensor([[5, 6, 2]]), 9)
    assert tokens.tolist() == [[9, 5, 6, 2]]
    assert length.tolist() == [4]


def back_translation(setting, world, noise_p=0.5):
    table = setting.table("train")
    follower = build_follower(world.bank.width, setting.vocabulary.size)
    speaker = build(world.bank.width, setting.vocabulary.size).requires_grad_(False)
    paths = sample_paths(setting.tables, table, 40, seed=0)
    sampler = ShuffledSampler(len(paths), 8, 0)
    return BackTranslationLearner(learner(world, follower, table), speaker, paths, sampler, 0.6, noise_p, 10)


def test_speaker_and_follower_share_noise_that_is_redrawn_per_rollout(toy, monkeypatch):
    setting, world = toy
    learn = back_translation(setting, world)
    heard, seen, written, read = [], [], [], []
    describe, start = learn.speaker.describe, learn.real.follower.start

    def spy_describe(walk, max_words, noise=None, first=None):
        heard.append(noise)
        written.append(describe(walk, max_words, noise, first))
        return written[-1]

    def spy_start(tokens, length, generator=None, noise=None):
        seen.append(noise)
        read.append(tokens)
        return start(tokens, length, generator, noise)

    monkeypatch.setattr(learn.speaker, "describe", spy_describe)
    monkeypatch.setattr(learn.real.follower, "start", spy_start)
    numbers = learn()
    assert seen[:2] == [None, None]  # real data: element-wise dropout
    assert len(heard) == 2
    assert len(seen) == 4
    for ours, theirs in zip(heard, seen[2:], strict=True):
        assert ours is theirs
        assert ours.shape == (WIDTH,)
        assert set(ours.unique().tolist()) <= {0.0, 2.0}  # inverted dropout of ones, p = 0.5
    assert not torch.equal(heard[0], heard[1])
    for words, tokens in zip(written, read[2:], strict=True):
        assert torch.equal(tokens, as_instruction(words, learn.speaker.bos)[0])
    assert {"loss/imitation", "aug_loss/imitation", "loss/reinforcement", "aug_loss/reinforcement"} <= set(numbers)


def test_four_batches_make_one_step_and_the_speaker_stays(toy):
    setting, world = toy
    learn = back_translation(setting, world)
    before = {name: value.clone() for name, value in learn.speaker.state_dict().items()}
    drawn = []
    for sampler, name in ((learn.real.sampler, "real"), (learn.sampler, "aug")):
        following = sampler.next
        sampler.next = lambda following=following, name=name: (drawn.append(name), following())[1]
    learn()
    assert drawn == ["real", "real", "aug", "aug"]
    assert all(torch.equal(value, before[name]) for name, value in learn.speaker.state_dict().items())


def test_blind_back_translation_works(toy):
    setting, _ = toy
    learn = back_translation(setting, setting.world([]))
    assert learn.environment_noise().shape == (0,)
    learn()


def test_the_first_word_can_be_told(toy):
    setting, world = toy
    speaker = build(num_words=setting.vocabulary.size)
    walk = world.observe_walk(setting.table("train").batch(torch.arange(4)))
    first = torch.tensor([5, 6, 5, 7])
    words = speaker.describe(walk, 6, first=first)
    assert torch.equal(words[:, 0], first)
    # Told what it would have said itself, it says the same.
    free = speaker.describe(walk, 6)
    assert torch.equal(speaker.describe(walk, 6, first=free[:, 0]), free)
    assert torch.equal(as_instruction(words, speaker.bos)[0][:, 1], first)


def test_every_language_is_generated(toy):
    setting, world = toy
    follower = build_follower(num_words=setting.vocabulary.size)
    speaker = build(num_words=setting.vocabulary.size)
    table = sample_paths(setting.tables, setting.table("train"), 40, seed=0)
    tags = torch.tensor([4, 5, 6])
    sampler = ShuffledSampler(len(table), 64, seed=0)
    learn = BackTranslationLearner(
        learner(world, follower, setting.table("train")), speaker, table, sampler, 1.0, 0.2, 6, tags
    )
    batch = learn.described(learn.environment_noise())
    counts = torch.bincount(batch.tokens[:, 1], minlength=7)
    assert counts[4:].sum() == 64
    assert (counts[4:] > 10).all()  # 21 expected of each; the generator is seeded
