"""Pictures of one color with questions and captions in the public forms, and their grids: runs of a second.

The color says everything, so that what a model makes of a picture can be told from what it knows without.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests import vqa_data
from vln_clip import extract

ROOT = Path(__file__).resolve().parents[1]
COLORS = {"red": (210, 30, 30), "green": (30, 180, 40), "blue": (30, 40, 200)}
NAMES = tuple(COLORS)
NUM_IMAGES = {"train2014": 30, "val2014": 9, "test2015": 4}
FIRST = {"train2014": 1, "val2014": 101, "test2015": 201}  # number of an image, COCO's id
COCO, VQA, GQA = "COCO/annotations", "VQA", "GQA"
SMALL_VQA = ["--size", "demo", "--iters", "6", "--eval-every", "3", "--batch-size", "8", "--device", "cpu"]
SMALL_CAPTION = ["--width", "32", "--hidden-width", "32", "--num-layers", "1", "--num-heads", "2", "--xe-warmup", "20"]
SMALL_CAPTION += ["--xe-epochs", "2", "--scst-epochs", "1", "--eval-every", "2", "--device", "cpu"]
WRITING = ["--beam-size", "2", "--max-words", "6"]


def numbers(split):
    return range(FIRST[split], FIRST[split] + NUM_IMAGES[split])


def key(split, number):
    return f"COCO_{split}_{number:012d}"


def color(number):
    return NAMES[number % len(NAMES)]


def picture(number, size=(48, 32)):
    noise = np.random.default_rng(number).integers(-20, 20, (size[1], size[0], 3))
    return Image.fromarray((np.asarray(COLORS[color(number)]) + noise).clip(0, 255).astype(np.uint8))


def write_pictures(data):
    for split in NUM_IMAGES:
        folder = data / "COCO" / "images" / split
        folder.mkdir(parents=True)
        for number in numbers(split):
            picture(number).save(folder / f"{key(split, number)}.jpg", quality=90)


def write_vqa(data):
    """Two questions about every picture: its color, and whether it is red."""
    for split in NUM_IMAGES:
        asked, answered = [], []
        for number in numbers(split):
            asked.append(vqa_data.question(1, number, "What color is the room?"))
            asked.append(vqa_data.question(2, number, "Is the room red?"))
            said = "yes" if color(number) == "red" else "no"
            answered.append(vqa_data.annotation(1, number, (color(number),) * 8 + ("grey",) * 2))
            answered.append(vqa_data.annotation(2, number, (said,) * 10, "yes/no", "is the"))
        name = data / VQA / f"v2_OpenEnded_mscoco_{split}_questions.json"
        vqa_data.save(name, vqa_data.question_file(*asked, subtype=split))
        if split != "test2015":
            path = data / VQA / f"v2_mscoco_{split}_annotations.json"
            vqa_data.save(path, vqa_data.annotation_file(*answered, subtype=split))


def lxmert_items(split, labelled=True, image=key):
    found = []
    for number in numbers(split):
        item = {
            "img_id": image(split, number),
            "question_id": number,
            "sent": "What color is the room?",
            "question_type": "what color is the",
            "answer_type": "other",
        }
        found.append(item | ({"label": {color(number): 1, "grey": 0.3}} if labelled else {}))
    return found


def write_lxmert(data):
    train = lxmert_items("train2014")
    for name, items in {"train": train[:20], "nominival": train[20:], "minival": lxmert_items("val2014")}.items():
        vqa_data.save(data / VQA / f"{name}.json", items)
    vqa_data.save(data / VQA / "test.json", lxmert_items("test2015", False))


# Answers of GQA as they stand; normalization as for VQA would change every one of them.
GQA_ANSWERS = {"red": "t-shirt", "green": "none", "blue": "the sea"}


def gqa_questions(split, answered=True):
    found = {}
    for number in numbers(split):
        item = {"imageId": key(split, number), "question": "What is it?", "types": {"structural": "query"}}
        found[f"0{number}"] = item | ({"answer": GQA_ANSWERS[color(number)]} if answered else {})
    return found


def write_gqa(data):
    vqa_data.save(data / GQA / "train_balanced_questions.json", gqa_questions("train2014"))
    vqa_data.save(data / GQA / "val_balanced_questions.json", gqa_questions("val2014"))
    vqa_data.save(data / GQA / "testdev_balanced_questions.json", gqa_questions("val2014"))
    vqa_data.save(data / GQA / "submission_all_questions.json", gqa_questions("test2015", False))


def captions(number):
    return [f"a {color(number)} room", f"the room is {color(number)}"] * 2 + [f"{color(number)} walls in a room"]


def write_karpathy(data, change=lambda images: None):
    """Karpathy's splits: the validation images are half val, half test."""
    images = []
    for split in ("train2014", "val2014"):
        for number in numbers(split):
            sentences = [
                {"tokens": text.split(), "raw": f"{text}.", "imgid": number, "sentid": 10 * number + place}
                for place, text in enumerate(captions(number))
            ]
            part = "train" if split == "train2014" else ("val", "test")[number % 2]
            part = "restval" if split == "train2014" and number % 10 == 0 else part
            item = {"filepath": split, "filename": f"{key(split, number)}.jpg", "imgid": number, "cocoid": number}
            images.append(item | {"split": part, "sentids": [], "sentences": sentences})
    change(images)
    path = data / COCO / "dataset_coco.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"dataset": "coco", "images": images}))


def write_coco(data):
    """COCO's own two files in place of Karpathy's."""
    for split in ("train2014", "val2014"):
        names = [{"id": number, "file_name": f"{key(split, number)}.jpg"} for number in numbers(split)]
        texts = [(number, text) for number in numbers(split) for text in captions(number)]
        said = [{"id": place, "image_id": number, "caption": text} for place, (number, text) in enumerate(texts)]
        path = data / COCO / f"captions_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"images": names, "annotations": said}))


def extract_grids(data, out, splits=tuple(NUM_IMAGES), encoder="pixels:8"):
    folders = [str(data / "COCO" / "images" / split) for split in splits]
    words = ["--grid", "--images", *folders, "--encoder", encoder, "--out", str(out), "--image-size", "32", "48"]
    extract.main([*words, "--device", "cpu", "--workers", "0", "--precision", "float32"])
    return out


class Pictures:
    """A data folder with pictures, questions, captions and grids, and the runs on it."""

    def __init__(self, folder, patch):
        self.folder, self.data, self.runs = folder, folder / "data", folder / "runs"
        self.grids = self.data / "features" / "toy.grid"
        self.point(patch)
        write_pictures(self.data)
        write_vqa(self.data)
        write_karpathy(self.data)
        extract_grids(self.data, self.grids)

    def point(self, patch):
        """Make this the data folder of the process, on a machine without Java, whose metrics take seconds."""
        patch.setenv("VLN_CLIP_OFFLINE", "1")
        patch.setenv("VLN_CLIP_DATA", str(self.data))
        patch.setenv("VLN_CLIP_CACHE", str(self.folder / "cache"))
        patch.setattr("vln_clip.tasks.captioning.metrics.has_java", lambda: False)

    def flags(self, name, *words, features=None):
        return ["--features", str(features or self.grids), "--runs", str(self.runs), "--name", name, *words]

    def vqa(self, name, *words, features=None):
        from vln_clip.vqa.__main__ import main

        main(["train", *SMALL_VQA, *self.flags(name, *words, features=features)])
        return self.runs / name

    def caption(self, name, *words, features=None):
        from vln_clip.caption.__main__ import main

        main(["train", *SMALL_CAPTION, *WRITING, *self.flags(name, *words, features=features)])
        return self.runs / name


def results(run):
    return json.loads((run / "results.json").read_text())


def program(module, *words, **variables):
    """Run a program to its end; return status, standard output and standard error."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, words)], env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr
