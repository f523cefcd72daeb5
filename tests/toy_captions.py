"""Four captioned pictures in the public formats, small enough to follow by hand."""

import json

from vln_clip.tasks.captioning.records import CaptionedImage

# Captions of one picture each; every word has one letter.
TEXTS = {"train": ["a b", "a b c", "a c"], "restval": ["a d"], "val": ["b a", "b"], "test": ["e a"]}


def key(number):
    return f"COCO_val2014_{number:012d}"


def toy_images(texts=None):
    found = []
    for number, (split, captions) in enumerate((TEXTS if texts is None else texts).items(), 1):
        words = tuple(tuple(caption.split()) for caption in captions)
        found.append(CaptionedImage(key(number), number, split, tuple(captions), words))
    return found


def karpathy():
    images = []
    for number, (split, captions) in enumerate(TEXTS.items(), 1):
        sentences = [
            {"tokens": text.split(), "raw": text.upper() + ".", "imgid": number, "sentid": 10 * number + place}
            for place, text in enumerate(captions)
        ]
        images.append(
            {
                "filepath": "val2014",
                "filename": f"{key(number)}.jpg",
                "imgid": number - 1,
                "cocoid": number,
                "split": split,
                "sentids": [sentence["sentid"] for sentence in sentences],
                "sentences": sentences,
            }
        )
    return {"dataset": "coco", "images": images}


def coco():
    images = [
        {"id": number, "file_name": f"{key(number)}.jpg", "height": 4, "width": 6}
        for number in range(1, len(TEXTS) + 1)
    ]
    pairs = [(number, text) for number, texts in enumerate(TEXTS.values(), 1) for text in texts]
    annotations = [
        {"id": place, "image_id": number, "caption": text.upper() + " ."} for place, (number, text) in enumerate(pairs)
    ]
    return {"images": images, "annotations": annotations}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def cocotalk():
    images = [
        {"split": split, "file_path": f"val2014/{key(number)}.jpg", "id": number}
        for number, split in enumerate(TEXTS, 1)
    ]
    return {"ix_to_word": {"1": "a", "2": "b", "3": "c", "4": "UNK"}, "images": images}


def label_columns():
    """Return the columns of cocotalk_label.h5 for ``cocotalk``: rows of TEXTS, unknown words 4."""
    index = {"a": 1, "b": 2, "c": 3}
    rows, start, end = [], [], []
    for captions in TEXTS.values():
        start.append(len(rows) + 1)
        for text in captions:
            row = [index.get(word, 4) for word in text.split()]
            rows.append(row + [0] * (16 - len(row)))
        end.append(len(rows))
    return {
        "labels": rows,
        "label_start_ix": start,
        "label_end_ix": end,
        "label_length": [sum(number > 0 for number in row) for row in rows],
    }


def write_labels(path, **changes):
    import h5py
    import numpy as np

    with h5py.File(path, "w") as file:
        for name, values in (label_columns() | changes).items():
            file[name] = np.array(values, np.uint32)
    return path
