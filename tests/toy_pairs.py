"""Small pictures, texts about them in the public forms, and a table of pairs."""

import io
import json
import tarfile

import numpy as np
from PIL import Image

from vln_clip.tasks.pretraining.pieces import WordPieces
from vln_clip.tasks.pretraining.sources import Source
from vln_clip.tasks.pretraining.stored import load_pairs
from vln_clip.tasks.vqa.vocabulary import AnswerVocabulary

SIZES = ((48, 32), (32, 48), (40, 40))  # landscape, portrait, and a square, which counts as portrait
TEXTS = ("A red room with chairs", "the small room", "what color is the room?", "Is it red?")
ANSWERS = ("no", "yes", "red", "1")
PIECES = WordPieces.build(TEXTS * 2, 80)
HYPOTHESIS = {
    "Flickr30K_ID": "4705552913",
    "gold_label": "contradiction",
    "pairID": "4705552913.jpg#2r1c",
    "captionID": "4705552913.jpg#2",
    "sentence1": "Two women are embracing.",
    "sentence2": "The MEN are fighting.",
    "annotator_labels": ["contradiction"],
}
REGIONS = [{"id": 7, "regions": [{"phrase": "a red chair", "x": 1}, {"phrase": "the wall"}]}]
ASKED = [{"id": 7, "qas": [{"question": "What is red?", "answer": "The chair."}]}]


def key(number):
    return f"img{number}"


def write_pictures(folder, count=6):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (*SIZES[number % 3][::-1], 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{key(number)}.jpg")
    return folder


def aggregated(count=6):
    return [
        {
            "img_id": key(number),
            "sentf": {"mscoco": list(TEXTS[:2]), "vqa": list(TEXTS[2:])},
            "labelf": {"vqa": [{"Red.": 1, "the red": 0.3, "a wall": 0.6}, {"yes": 0.9, "no": 0.3}]},
        }
        for number in range(count)
    ]


def table(folder, items=None, answers=ANSWERS, pieces=PIECES, max_tokens=8):
    """Store and load the pairs of an aggregated file."""
    (folder / "pairs.json").write_text(json.dumps(aggregated() if items is None else items))
    answers = None if answers is None else AnswerVocabulary(answers)
    return load_pairs([Source.parse("lxmert:pairs.json", folder)], pieces, answers, max_tokens)


def tar(*members):
    """Return the content of a shard: (name, bytes) each."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return content.getvalue()


def jpeg(number=0):
    content = io.BytesIO()
    Image.new("RGB", SIZES[number % 3], (40 * number, 20, 30)).save(content, "JPEG")
    return content.getvalue()
