"""Pictures of one color with all that CLIP-ViL_p reads about them, in LXMERT's and SNLI-VE's forms: runs of seconds."""

import json
import shutil

from tests import vqa_data
from tests.toy_pictures import (
    GQA,
    GQA_ANSWERS,
    NAMES,
    captions,
    color,
    key,
    lxmert_items,
    numbers,
    picture,
    write_pictures,
)
from tests.toy_pictures import write_lxmert as write_vqa_lxmert

SMALL = ["--dataset", "lxmert", "--size", "demo", "--bert", "scratch", "--encoder", "timm:test_resnet.r160_in1k"]
SMALL += ["--encoder-weights", "random", "--batch-size", "8", "--accumulation", "1", "--device", "cpu"]
SHORT = ["--pretraining-iters", "4", "4", "--finetuning-iters", "4", "--eval-every", "2"]
PORTRAITS = 3  # every such picture is higher than wide
PARTS = {"mscoco_train": slice(0, 24), "mscoco_nominival": slice(24, 27), "vgnococo": slice(27, 30)}


def aggregated(split, part=slice(None)):
    """Two captions and a question with two answers for every picture."""
    found = []
    for number in list(numbers(split))[part]:
        sentences = {"mscoco": captions(number)[:2], "vqa": ["What color is the room?"]}
        found.append(
            {
                "img_id": key(split, number),
                "sentf": sentences,
                "labelf": {"vqa": [{color(number): 1.0, "grey": 0.3}]},
            }
        )
    return found


def write_aggregated(data):
    for name, part in PARTS.items():
        vqa_data.save(data / "lxmert" / f"{name}.json", aggregated("train2014", part))
    vqa_data.save(data / "lxmert" / "mscoco_minival.json", aggregated("val2014"))
    answers = [{"ans": name, "dsets": ["vqa"]} for name in (*NAMES, "gray", "yes", "no")]
    vqa_data.save(data / "lxmert" / "all_ans.json", answers)


def write_gqa_lxmert(data):
    """GQA's questions about the same pictures; their names are those of COCO's."""
    images = data / GQA / "images"
    images.mkdir(parents=True)
    for split in ("train2014", "val2014", "test2015"):
        for path in (data / "COCO" / "images" / split).iterdir():
            shutil.copy(path, images / path.name)

    def items(split, labelled=True):
        found = lxmert_items(split, labelled)
        for item, number in zip(found, numbers(split), strict=True):
            item["question_id"] = f"0{number}"
            if labelled:
                item["label"] = {GQA_ANSWERS[color(number)]: 1.0}
        return found

    train = items("train2014")
    rows = {"train": train[:20], "valid": train[20:], "testdev": items("val2014"), "submit": items("test2015", False)}
    for name, found in rows.items():
        vqa_data.save(data / GQA / f"{name}.json", found)


def write_snli_ve(data):
    """The picture's color is entailed, another one is a contradiction, a smell is neutral."""
    images = data / "flickr30k" / "flickr30k_images"
    images.mkdir(parents=True)
    for name, split in {"train": "train2014", "dev": "val2014", "test": "test2015"}.items():
        lines = []
        for number in numbers(split):
            picture(number).save(images / f"{number}.jpg")
            texts = {
                "entailment": f"The room is {color(number)}.",
                "contradiction": f"The room is {color(number + 1)}.",
                "neutral": "The room smells of bread.",
            }
            for place, (label, text) in enumerate(texts.items()):
                pair = f"{number}.jpg#{place}"
                line = {
                    "Flickr30K_ID": str(number),
                    "gold_label": label,
                    "pairID": pair,
                    "captionID": f"{number}.jpg#0",
                }
                lines.append(line | {"sentence1": captions(number)[0], "sentence2": text, "annotator_labels": [label]})
        path = data / "SNLI-VE" / f"snli_ve_{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def turn_some(data):
    """Let some pictures be higher than wide."""
    for path in sorted((data / "COCO" / "images").rglob("*.jpg")):
        number = int(path.stem.rpartition("_")[2])
        if number % PORTRAITS == 0:
            picture(number, (32, 48)).save(path, quality=90)


class VilWorld:
    """A data folder of all three tasks, and the runs on it."""

    def __init__(self, folder, patch):
        self.folder, self.data, self.runs = folder, folder / "data", folder / "runs"
        self.point(patch)
        write_pictures(self.data)
        turn_some(self.data)
        write_aggregated(self.data)
        write_vqa_lxmert(self.data)
        write_gqa_lxmert(self.data)
        write_snli_ve(self.data)

    def point(self, patch):
        """Make this the data folder of the process."""
        patch.setenv("VLN_CLIP_OFFLINE", "1")
        patch.setenv("VLN_CLIP_DATA", str(self.data))
        patch.setenv("VLN_CLIP_CACHE", str(self.folder / "cache"))

    def flags(self, name, *words):
        return [*SMALL, "--runs", str(self.runs), "--name", name, *words]

    def train(self, name, *words):
        from vln_clip.pretrain.__main__ import main

        main(self.flags(name, *words))
        return self.runs / name
