import pytest
import torch

from tests.toy_captions import key, toy_images
from vln_clip.errors import InputError
from vln_clip.tasks.captioning.table import CaptionTable
from vln_clip.tasks.captioning.vocabulary import CaptionVocabulary


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_words_stand_in_the_order_of_their_first_occurrence():
    # a: 6 times, b: 4, c: 2, d and e once; over all splits. UNK is last, indices begin with 1.
    images = toy_images()
    assert CaptionVocabulary.build(images, max_rare_count=1).words == ("a", "b", "c", "UNK")
    assert CaptionVocabulary.build(images, max_rare_count=2).words == ("a", "b", "UNK")
    assert CaptionVocabulary.build(images).words == ("a", "UNK")  # more than five times
    assert CaptionVocabulary.build(images[::-1], max_rare_count=0).words == ("e", "a", "b", "d", "c", "UNK")
    with pytest.raises(InputError, match=r"occur more than 6 times to make a vocabulary, got 5 words, each rarer"):
        CaptionVocabulary.build(images, max_rare_count=6)


def test_unk_has_one_index_also_where_a_caption_says_it():
    words = CaptionVocabulary.build(toy_images({"train": ["UNK a", "a UNK"]}), max_rare_count=1)
    assert words.words == ("a", "UNK")
    assert words.encode([["UNK", "a", "zebra"]])[0].tolist() == [2, 1, 2]


def test_rows_are_decoded_up_to_their_first_zero():
    words = CaptionVocabulary(["a", "do@@", "g", "UNK"])
    assert words.size == 5
    assert words.decode([[1, 2, 3, 0, 1], [0, 1], [4, 1]]) == ["a dog", "", "UNK a"]


def test_a_vocabulary_is_read_as_it_was_written(tmp_path):
    words = CaptionVocabulary(["the", "café", "UNK"])
    words.write(tmp_path / "w.json")
    assert CaptionVocabulary.read(tmp_path / "w.json") == words


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", r"w\.json must be a JSON object with an object 'ix_to_word'"),
        ('{"ix_to_word": {"1": "a", "3": "UNK"}}', r"w\.json: ix_to_word must number .* without a gap, but 2 is not"),
        ('{"ix_to_word": {"1": "a", "2": "b"}}', r"the last word of a caption vocabulary must be UNK, got \('b',\)"),
        ('{"ix_to_word": {"1": "UNK", "2": "UNK"}}', r"w\.json: words of .* must be different, got 'UNK' twice"),
        ('{"ix_to_word": {"1": 5, "2": "UNK"}}', r"must be texts without white space, got 5"),
        ('{"ix_to_word": {"1": ["a"], "2": "UNK"}}', r"must be texts without white space, got \['a'\]"),
        ('{"ix_to_word": {"1": "a b", "2": "UNK"}}', r"must be texts without white space, got 'a b'"),
        ('{"ix_to_word": {}}', r"the last word of a caption vocabulary must be UNK, got \(\)"),
    ],
)
def test_faults_of_vocabularies_are_told(tmp_path, content, message):
    (tmp_path / "w.json").write_text(content)
    with pytest.raises(InputError, match=message):
        CaptionVocabulary.read(tmp_path / "w.json")


LETTERS = CaptionVocabulary([*"abcdefghijklmnopqrstuvwxyz", "UNK"])


def table_of(*counts, text="a b"):
    return CaptionTable.build(toy_images({str(n): [text] * count for n, count in enumerate(counts)}), LETTERS)


def test_images_without_captions_are_left_out_with_a_warning(caplog):
    table = table_of(2, 0, 1)
    assert table.images == (key(1), key(3))
    assert "left out 1 of 3 images, which have no caption" in caplog.text
    with pytest.raises(InputError, match=r"images to learn captions from must have some, got 2 without"):
        table_of(0, 0)


def lettered(count):
    """Return a table of one image whose captions are a, b, c …, so that its rows tell which were drawn."""
    return CaptionTable.build(toy_images({"train": list("abcdefghij"[:count])}), LETTERS)


def drawn(table, seed, num_captions=5):
    return table.batch(torch.zeros(1, dtype=torch.int64), generator(seed), num_captions).rows[0, :, 1].tolist()


@pytest.mark.parametrize("count", [5, 6, 9])
def test_five_captions_follow_each_other_from_any_start(count):
    table = lettered(count)
    starts = set()
    for seed in range(100):
        words = drawn(table, seed)
        assert words == list(range(words[0], words[0] + 5))
        starts.add(words[0])
    assert starts == set(range(1, count - 3))  # the last start leaves five captions


@pytest.mark.parametrize("count", [1, 2, 4])
def test_fewer_captions_are_drawn_with_replacement(count):
    table = lettered(count)
    rows = [drawn(table, seed) for seed in range(100)]
    assert {word for row in rows for word in row} == set(range(1, count + 1))
    if count > 1:
        assert len({tuple(row) for row in rows}) > 5
        assert any(len(set(row)) < 5 and row[0] == row[1] for row in rows)


def test_the_loss_covers_the_words_and_one_end():
    long = " ".join("a" * 17)
    batch = table_of(1, 1).batch(torch.tensor([1, 0]), generator(), 1)
    assert batch.rows[0, 0].tolist() == [0, 1, 2] + [0] * 15
    assert batch.inputs[0, 0, :4].tolist() == [0, 1, 2, 0]
    assert batch.targets[0, 0, :4].tolist() == [1, 2, 0, 0]
    assert batch.target_mask[0, 0].tolist() == [True] * 3 + [False] * 14  # a, b, end
    cut = table_of(1, text=long).batch(torch.tensor([0]), generator(), 1)
    assert cut.targets[0, 0].tolist() == [1] * 16 + [0]  # cut to 16 words, and its end is a target all the same
    assert cut.target_mask.all()
    for one in (batch, cut):
        ends = (one.targets == 0) & one.target_mask
        assert (ends.sum(-1) == 1).all()


def test_batches_depend_on_their_generator_alone():
    table = table_of(3, 9, 5, 1)
    image = torch.tensor([3, 1, 1, 0, 2])
    torch.manual_seed(1)
    first = table.batch(image, generator(7))
    torch.manual_seed(2)
    second = table.batch(image, generator(7))
    assert torch.equal(first.rows, second.rows)
    assert first.rows.shape == (5, 5, 18)
    assert first.rows.dtype == torch.int64


def test_references_are_all_captions_of_an_image():
    table = CaptionTable.build(toy_images(), LETTERS)
    labels, mask = table.references(torch.tensor([1, 0]))  # "a d", and "a b", "a b c", "a c"
    assert labels.shape == (2, 3, 16)
    assert mask.tolist() == [[True, False, False], [True, True, True]]
    assert labels[0, 0, :3].tolist() == [1, 4, 0]
    assert labels[1, :, :4].tolist() == [[1, 2, 0, 0], [1, 2, 3, 0], [1, 3, 0, 0]]
