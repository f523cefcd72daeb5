"""The readers of captions, labels, n-gram counts and caption results, each with a file that it reads."""

import json

import torch

from tests import mutations
from tests.reader_case import Case, as_json
from tests.toy_captions import coco, cocotalk, karpathy, toy_images, write_json, write_labels
from vln_clip.tasks.captioning.cider import CiderD
from vln_clip.tasks.captioning.files import read_annotations
from vln_clip.tasks.captioning.labels import read_labels
from vln_clip.tasks.captioning.ngrams import NgramCounts
from vln_clip.tasks.captioning.results import read_results, validate_results
from vln_clip.tasks.captioning.table import CaptionTable
from vln_clip.tasks.captioning.vocabulary import CaptionVocabulary

WORDS = CaptionVocabulary(["a", "b", "c", "UNK"])
RESULTS = [{"image_id": number, "caption": f"a dog {number}"} for number in (1, 2, 3)]


def use(table):
    batch = table.batch(torch.arange(len(table)), torch.Generator().manual_seed(0))
    references, mask = table.references(batch.image)
    CiderD(NgramCounts.build(toy_images(), WORDS))(batch.targets, references, mask)
    json.dumps(table.images).encode()


def read_captions(path):
    images = read_annotations(path)
    for image in images:
        json.dumps([image.image, image.image_id, image.captions, image.words], ensure_ascii=False).encode()
    if any(image.words for image in images):
        use(CaptionTable.build(images, WORDS))
        NgramCounts.build(images, CaptionVocabulary.build(images, max_rare_count=0))


def write_both(path):
    write_json(path.with_name("cocotalk.json"), cocotalk())
    write_labels(path.with_name("cocotalk_label.h5"))


def read_both(path):
    vocabulary, table = read_labels(path.with_name("cocotalk.json"), path.with_name("cocotalk_label.h5"), "train")
    vocabulary.decode(table.labels.tolist())
    use(table)


def read_words(path):
    vocabulary = CaptionVocabulary.read(path)
    vocabulary.write(path.with_name("again.json"))


def read_caption_results(path):
    problems, warnings = validate_results(path, [1, 2, 4])
    for problem in [*problems, *warnings]:
        f"{problem}".encode()
    for text in read_results(path).values():
        text.encode()


def read_counts(path):
    counts = NgramCounts.read(path, WORDS)
    row = torch.ones((1, 1, 4), dtype=torch.int64)
    assert CiderD(counts)(row, row, torch.ones((1, 1), dtype=torch.bool)).isfinite().all()


CASES = {
    "captions_coco": Case("captions_val2014.json", as_json(coco()), mutations.json_text, read_captions),
    "captions_karpathy": Case("dataset_coco.json", as_json(karpathy()), mutations.json_text, read_captions),
    "caption_words": Case("words.json", as_json(cocotalk()), mutations.json_text, read_words),
    "caption_info_hdf5": Case("cocotalk.json", write_both, mutations.json_text, read_both),
    "caption_labels_hdf5": Case("cocotalk_label.h5", write_both, mutations.bytes_of, read_both),
    "caption_results": Case("r.json", as_json(RESULTS), mutations.json_text, read_caption_results),
    "caption_ngrams": Case(
        "n.safetensors",
        lambda path: NgramCounts.build(toy_images(), WORDS).write(path),
        mutations.safetensors,
        read_counts,
    ),
}
