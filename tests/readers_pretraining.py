"""The readers of pre-training's pairs, shards, hypotheses and word pieces, each with a file that it reads."""

import torch

from tests import mutations, toy_pairs
from tests.reader_case import Case, as_gzip, as_json, as_lines, text
from tests.toy_pairs import ASKED, HYPOTHESIS, PIECES, REGIONS
from vln_clip.tasks.pretraining.images import ImageFiles
from vln_clip.tasks.pretraining.labels import LabelTable
from vln_clip.tasks.pretraining.pieces import WordPieces
from vln_clip.tasks.pretraining.snli_ve import label_vocabulary, read_snli_ve
from vln_clip.tasks.pretraining.sources import Source
from vln_clip.tasks.pretraining.stored import load_pairs
from vln_clip.tasks.pretraining.vision import CanvasSize
from vln_clip.tasks.vqa.vocabulary import AnswerVocabulary

FAST = {
    "normalizer": {"type": "BertNormalizer", "lowercase": True},
    "model": {"type": "WordPiece", "vocab": {word: index for index, word in enumerate(PIECES.words)}},
}


def read_pairs(kind, answers=("red", "yes", "chair")):
    """Return what reads pairs and makes a batch of all of them."""

    def read(path):
        vocabulary = None if answers is None else AnswerVocabulary(answers)
        table = load_pairs([Source(kind, (path,))], PIECES, vocabulary, 8)
        batch = table.batch(torch.arange(len(table)), torch.Generator().manual_seed(0))
        assert batch.tokens.shape == (len(table), 8)
        assert int(batch.answer.max()) < max(1, table.num_answers)
        return table

    return read


def read_shard_images(path):
    """Read the images of a shard, too."""
    table = read_pairs("shards", None)(path)
    files = ImageFiles(table.places, (), CanvasSize(16, 24), workers=1)
    for row in range(len(files)):
        assert files.read(torch.tensor([row])).shape[1] == 3


def read_hypotheses(path):
    table = LabelTable.of(read_snli_ve(path), PIECES, label_vocabulary())
    assert (table.batch(torch.arange(len(table))).targets.sum(1) == 1).all()


def read_pieces(path):
    pieces = WordPieces.read(path)
    assert pieces.encode(["a red room", ""], 6).shape == (2, 6)
    pieces.write(path.with_name("written.txt"))


def write_shard(path):
    members = [(f"{n}.{end}", data) for n in range(3) for end, data in (("jpg", toy_pairs.jpeg(n)), ("txt", b"a room"))]
    path.write_bytes(toy_pairs.tar(*members, ("3.jpg", toy_pairs.jpeg()), ("3.json", b'{"caption": "red"}')))


CASES = {
    "pairs_lxmert": Case("p.json", as_json(toy_pairs.aggregated(3)), mutations.json_text, read_pairs("lxmert")),
    "pairs_lxmert_packed": Case(
        "p.json.gz",
        as_gzip(as_json(toy_pairs.aggregated(3))),
        mutations.packed(mutations.json_text),
        read_pairs("lxmert"),
    ),
    "pairs_vg_regions": Case(
        "r.json", as_json([*REGIONS, REGIONS[0] | {"id": 8}]), mutations.json_text, read_pairs("vg_regions")
    ),
    "pairs_vg_questions": Case(
        "q.json", as_json([*ASKED, ASKED[0] | {"id": 8}]), mutations.json_text, read_pairs("vg_questions")
    ),
    "pairs_shard": Case("s.tar", write_shard, mutations.bytes_of, read_shard_images),
    "snli_ve": Case(
        "s.jsonl",
        as_lines(HYPOTHESIS, HYPOTHESIS | {"pairID": "b", "gold_label": "neutral"}),
        mutations.json_lines,
        read_hypotheses,
    ),
    "word_pieces": Case("vocab.txt", text("\n".join(PIECES.words) + "\n"), mutations.words, read_pieces),
    "word_pieces_fast": Case("tokenizer.json", as_json(FAST), mutations.json_text, read_pieces),
}
