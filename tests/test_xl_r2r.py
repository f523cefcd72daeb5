"""Real text of a script without spaces: the Chinese instructions of XL-R2R."""

import time

import pytest

from tests.golden import SHARED, needs_shared
from vln_clip.tasks.datasets import read_split
from vln_clip.tasks.split import Split
from vln_clip.tasks.text import UNK, Vocabulary
from vln_clip.tasks.tokenizers import find_tokenizer


def chinese(split: str, keep_empty: bool = True) -> Split:
    return read_split("xl-r2r", split, SHARED / "data", keep_empty=keep_empty)


@needs_shared
def test_a_real_sentence_is_cut_into_characters():
    first = chinese("val_unseen").episodes[2]
    assert first.instr_id == "4332_2"
    words = find_tokenizer("unicode")
    assert words.tokenize(first.instruction) == list("走到吧台椅前面，再左转直走再左转走到沙发背面再右转停在盆栽旁边。")
    assert words.join(words.tokenize(first.instruction)) == first.instruction


@needs_shared
def test_the_vocabulary_of_train_covers_unseen_houses():
    train, unseen = chinese("train"), chinese("val_unseen")
    start_s = time.process_time()
    words = Vocabulary.build((e.instruction for e in train.episodes), tokenizer="unicode", languages=["zh"])
    ids, lengths = words.encode_batch([e.instruction for e in unseen.episodes], 160, ["zh"] * len(unseen.episodes))
    assert time.process_time() - start_s < 4, "measured 0.44 s"
    assert words.size == 563
    tokens = (lengths - 3).sum()  # without <BOS>, <zh>, <EOS>
    assert (ids == UNK).sum() / tokens < 0.003, "measured 0.26 %"
    assert lengths.max() == 83, "nothing is cut at 160"


@needs_shared
@pytest.mark.parametrize(
    ("split", "num_instructions", "num_dropped"), [("train", 14025, 23), ("val_seen", 1020, 1), ("val_unseen", 2349, 1)]
)
def test_instructions_without_a_word_are_dropped(split, num_instructions, num_dropped):
    assert len(chinese(split).episodes) == num_instructions
    assert len(chinese(split, keep_empty=False).episodes) == num_instructions - num_dropped
