"""What pre-training makes of pairs: masked pieces, exchanged texts, drawn answers; and the table in the cache."""

import json

import numpy as np
import pytest
import torch

from tests import toy_pairs
from tests.toy_pairs import PIECES, TEXTS
from vln_clip.errors import InputError
from vln_clip.tasks.pretraining import stored
from vln_clip.tasks.pretraining.pairs import mask_tokens
from vln_clip.tasks.pretraining.sources import Source
from vln_clip.tasks.pretraining.stored import load_pairs
from vln_clip.tasks.vqa.vocabulary import AnswerVocabulary

B = 20_000


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path / "cache"))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def near(share, wanted, count):
    """Return whether a share of ``count`` draws is within five standard deviations."""
    return abs(share - wanted) < 5 * (wanted * (1 - wanted) / count) ** 0.5


def test_fifteen_percent_are_masked_and_eight_of_ten_shown_as_mask():
    # 7 pieces between [CLS] and [SEP] in rows of 12; the piece 20 is never [MASK] and is drawn at random 1 in 99 times.
    num_pieces, mask_id = 100, 4
    row = torch.tensor([2, *[20] * 7, 3, 0, 0, 0])
    tokens = row.repeat(B, 1)
    masked, shown = mask_tokens(tokens, mask_id, num_pieces, generator())
    assert not masked[:, [0, 8, 9, 10, 11]].any()
    assert (shown[~masked] == tokens[~masked]).all()
    total = int(masked.sum())
    assert near(total / (7 * B), 0.15, 7 * B)
    stands = shown[masked]
    # A random piece is [MASK] or 20 itself once in 99 times each.
    assert near(float((stands == mask_id).float().mean()), 0.8 + 0.1 / 99, total)
    assert near(float((stands == 20).float().mean()), 0.1 + 0.1 / 99, total)
    other = stands[(stands != mask_id) & (stands != 20)]
    assert near(len(other) / total, 0.1 * 97 / 99, total)
    assert other.min() == 1  # any piece but [PAD], special ones, too
    assert other.max() == num_pieces - 1
    assert near(float(masked[:, 1].float().mean()), 0.15, B)


def test_full_rows_and_rows_without_a_piece_are_masked_inside_only():
    tokens = torch.tensor([[2, 7, 8, 9, 3], [2, 3, 0, 0, 0]]).repeat(B, 1)
    masked, _ = mask_tokens(tokens, 4, 50, generator())
    assert masked[::2, 1:4].any(0).all()
    assert not masked[::2, [0, 4]].any()
    assert not masked[1::2].any()


def test_a_batch_tells_the_pieces_that_were_masked(tmp_path):
    table = toy_pairs.table(tmp_path)
    batch = table.batch(torch.arange(24).repeat(50), generator())
    B, L = batch.tokens.shape
    assert (B, L) == (1200, 8)
    assert batch.words.shape == (int(batch.masked.sum()),)
    original = batch.tokens.clone()
    original[batch.masked] = batch.words
    known = {tuple(row) for row in PIECES.encode(TEXTS, 8).tolist()}
    assert {tuple(row) for row in original.tolist()} == known


def test_half_of_the_texts_are_those_of_other_images(tmp_path):
    # Every image has a text of its own here, so that the text tells whose it is.
    items = [{"img_id": f"i{k}", "sentf": {"c": ["red " * (k + 1)] * (1 + 4 * (k == 0))}} for k in range(4)]
    table = toy_pairs.table(tmp_path, items)
    rows = torch.arange(len(table)).repeat(B // len(table))
    batch = table.batch(rows, generator())
    assert torch.equal(batch.image_rows, table.image_rows[rows])
    assert torch.equal(table.images_of(rows), table.image_rows[rows])
    own = (batch.tokens != 0).sum(1) - 3 == batch.image_rows
    assert torch.equal(own, batch.matched.bool())
    assert near(float(batch.matched.float().mean()), 0.5, len(rows))
    # Texts of others are drawn from their pairs alike: of image 3, five of the seven other pairs are image 0's.
    others = (batch.tokens != 0).sum(1)[(batch.image_rows == 3) & (batch.matched == 0)] - 3
    assert near(float((others == 0).float().mean()), 5 / 7, len(others))


def test_an_answer_is_drawn_in_proportion_to_its_score(tmp_path):
    # "Red." 1 and "the red" 0.3 are one answer, of which the higher score counts; "a wall" is not in the vocabulary.
    # The second question has yes 0.9 and no 0.3: 3 to 1.
    table = toy_pairs.table(tmp_path)
    assert table.num_labelled == 12
    assert table.answer_score.max() == 1
    batch = table.batch(torch.arange(24).repeat(B // 24), generator())
    kind = torch.arange(24).repeat(B // 24) % 4  # two captions, two questions of each image
    assert (batch.answer[batch.matched == 0] == -1).all()
    matched = batch.matched == 1
    assert (batch.answer[matched & (kind < 2)] == -1).all()
    assert (batch.answer[matched & (kind == 2)] == toy_pairs.ANSWERS.index("red")).all()
    drawn = batch.answer[matched & (kind == 3)]
    assert set(drawn.tolist()) == {0, 1}
    assert near(float((drawn == 1).float().mean()), 0.75, len(drawn))


def test_a_generator_decides_a_batch(tmp_path):
    table, rows = toy_pairs.table(tmp_path), torch.arange(24)
    one, same, other = (table.batch(rows, generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(getattr(one, name), getattr(same, name)) for name in vars(one))
    assert not torch.equal(one.tokens, other.tokens)


def test_pairs_without_answers_have_none(tmp_path):
    table = toy_pairs.table(tmp_path, answers=None)
    assert (table.num_labelled, table.num_answers) == (0, 0)
    assert (table.batch(torch.arange(24), generator()).answer == -1).all()


def test_a_table_is_stored_once_and_again_when_something_changes(tmp_path, monkeypatch):
    one = toy_pairs.table(tmp_path)
    read = []
    monkeypatch.setattr(stored._Storing, "run", lambda self, sources: read.append(sources) or {}["not stored again"])
    two = toy_pairs.table(tmp_path)
    assert not read
    assert np.array_equal(one.tokens, two.tokens)
    assert one.tokens.dtype == np.uint16
    assert two.places.keys[:] == [toy_pairs.key(number) for number in range(6)]
    assert list(two.pairs_of.values()) == [24]
    for changed in ({"items": toy_pairs.aggregated(5)}, {"answers": ("no",)}, {"max_tokens": 9}):
        with pytest.raises(KeyError, match="not stored again"):
            toy_pairs.table(tmp_path, **changed)


def test_a_damaged_table_is_made_anew(tmp_path, caplog):
    wanted = toy_pairs.table(tmp_path).tokens.tolist()
    (path,) = (tmp_path / "cache" / "pairs").glob("*.safetensors")
    for content in (b"", path.read_bytes()[:-5], b"\0" * 100):
        path.unlink()
        path.write_bytes(content)
        assert toy_pairs.table(tmp_path).tokens.tolist() == wanted
    assert "is damaged and is made anew" in caplog.text


def test_large_vocabularies_and_several_parts_are_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "PART", 5)
    pieces = type(PIECES)([*PIECES.words, *(f"w{k}" for k in range(1 << 16)), "zebra"])
    items = [{"img_id": f"i{k % 3}", "sentf": {"c": ["zebra", "red"]}} for k in range(4)]
    table = toy_pairs.table(tmp_path, items, pieces=pieces)
    assert table.tokens.dtype == np.int32
    assert table.tokens[0].tolist() == [2, len(pieces) - 1, 3, 0, 0, 0, 0, 0]
    assert table.image.tolist() == [0, 0, 1, 1, 2, 2, 0, 0]
    assert table.places.keys[:] == ["i0", "i1", "i2"]


def test_what_nothing_can_be_learned_from_is_refused(tmp_path):
    one_image = [{"img_id": "a", "sentf": {"c": ["red", "room"]}}]
    with pytest.raises(InputError, match="pairs must be of two images at least"):
        toy_pairs.table(tmp_path, one_image)
    with pytest.raises(InputError, match=r"sources of pairs must have some, got lxmert:.*pairs.json without"):
        toy_pairs.table(tmp_path, [{"img_id": "a", "sentf": {}}])
    with pytest.raises(InputError, match="among the 1 of the vocabulary, but none of the answers to 12 questions is"):
        toy_pairs.table(tmp_path, answers=("zebra",))
    with pytest.raises(InputError, match="got no source without"):
        load_pairs([], PIECES, None)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    run, path = stored._Storing.run, tmp_path / "pairs.json"

    def change(self, sources):
        facts = run(self, sources)
        path.write_text(json.dumps(toy_pairs.aggregated(5)))
        return facts

    monkeypatch.setattr(stored._Storing, "run", change)
    with pytest.raises(InputError, match="must not change while they are read"):
        toy_pairs.table(tmp_path)


def test_pairs_of_several_sources_stand_one_after_the_other(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(toy_pairs.aggregated(2)))
    (tmp_path / "b.json").write_text(json.dumps(toy_pairs.aggregated(3)))
    sources = [Source.parse(f"lxmert:{name}.json", tmp_path) for name in "ab"]
    table = load_pairs(sources, PIECES, AnswerVocabulary(["red"]), 8)
    assert list(table.pairs_of.values()) == [8, 12]
    assert table.image.tolist() == [0] * 4 + [1] * 4 + [0] * 4 + [1] * 4 + [2] * 4
