"""The public file formats: VQA v2 questions and annotations, COCO captions, Karpathy's splits."""

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path

from vln_clip.envs.demo.pictures.annotators import ten_answers
from vln_clip.envs.demo.pictures.asking import Candidate
from vln_clip.envs.demo.pictures.config import PicturesConfig

SPLITS = ("train2014", "val2014", "test2015")
KARPATHY = Path("COCO", "annotations", "dataset_coco.json")

# The leading words that VQA v2 tells questions by, as far as the demo's begin with them; the longest counts.
QUESTION_TYPES = (
    "are the",
    "are there",
    "can you",
    "do you",
    "does this",
    "how many",
    "is the",
    "is there",
    "is there a",
    "is this",
    "is this a",
    "is this an",
    "what",
    "what color",
    "what color are the",
    "what color is the",
    "what is",
    "what is the",
    "what is the color of the",
    "what kind of",
    "what room is",
    "what type of",
    "where are the",
    "where is the",
    "which",
    "is",
)
NO_TYPE = "none of the above"
_INFO = {
    "description": "Demo pictures of generated houses in the format of this data set.",
    "url": "",
    "version": "1.0",
    "year": 2014,
    "contributor": "vln_clip",
    "date_created": "2014-01-01 00:00:00",
}
_LICENSE = {"url": "https://opensource.org/license/mit", "name": "MIT License"}


def images_of(folder: Path, split: str) -> Path:
    """Return the folder of a split's pictures."""
    return folder / "COCO" / "images" / split


def image_name(split: str, image_id: int) -> str:
    """Return the file name of a picture."""
    return f"COCO_{split}_{image_id:012d}.jpg"


def question_type(text: str) -> str:
    """Return the longest of ``QUESTION_TYPES`` that a question begins with, else ``NO_TYPE``."""
    words = re.findall(r"\w+", text.lower())
    heads = {" ".join(words[:count]) for count in range(1, len(words) + 1)}
    return max(heads & set(QUESTION_TYPES), key=len, default=NO_TYPE)


def write_questions(
    folder: Path, config: PicturesConfig, split: str, questions: Sequence[Candidate]
) -> list[tuple[Candidate, list[dict[str, object]]]]:
    """Write the questions of a split, and its annotations unless it is the test split; return both."""
    rows, annotations, answered = [], [], []
    for image_id, group in itertools.groupby(questions, key=lambda question: question.image_id):
        for index, question in enumerate(group):
            question_id = image_id * 1000 + index
            answers = ten_answers(config.seed, question_id, question)
            answered.append((question, answers))
            rows.append({"image_id": image_id, "question": question.text, "question_id": question_id})
            annotations.append(
                {
                    "question_type": question_type(question.text),
                    "multiple_choice_answer": question.answer,
                    "answers": answers,
                    "image_id": image_id,
                    "answer_type": question.answer_type,
                    "question_id": question_id,
                }
            )
    head = {"info": _INFO, "license": _LICENSE, "data_type": "mscoco", "data_subtype": split}
    file = folder / "VQA" / f"v2_OpenEnded_mscoco_{split}_questions.json"
    write_json(file, {**head, "task_type": "Open-Ended", "questions": rows})
    if split != "test2015":
        write_json(folder / "VQA" / f"v2_mscoco_{split}_annotations.json", {**head, "annotations": annotations})
    return answered


def write_captions(folder: Path, config: PicturesConfig, split: str, texts: dict[int, list[str]], start: int) -> None:
    """Write the captions file of a split; ``texts`` are by image id, caption ids count from ``start``."""
    ids = itertools.count(start)
    rows = [
        {"image_id": image_id, "id": next(ids), "caption": text} for image_id, group in texts.items() for text in group
    ]
    head = {"info": _INFO, "images": _image_rows(config, split, list(texts)), "licenses": [{"id": 1, **_LICENSE}]}
    write_json(folder / "COCO" / "annotations" / f"captions_{split}.json", {**head, "annotations": rows})


def write_test_images(folder: Path, config: PicturesConfig, split: str, image_ids: Sequence[int]) -> None:
    """Write the list of pictures of a split that shows no captions."""
    head = {"info": _INFO, "images": _image_rows(config, split, image_ids), "licenses": [{"id": 1, **_LICENSE}]}
    write_json(folder / "COCO" / "annotations" / f"image_info_{split}.json", {**head, "categories": []})


def write_karpathy(folder: Path, texts: dict[str, dict[str, dict[int, list[str]]]]) -> None:
    """Write ``dataset_coco.json`` from captions by file split, by Karpathy's split, by image id, in this order."""
    images, sentence_ids, image_ids = [], itertools.count(), itertools.count()
    for file_split, groups in texts.items():
        for split, by_image in groups.items():
            for coco_id, group in by_image.items():
                image = next(image_ids)
                sentences = [
                    {
                        "tokens": re.findall(r"\w+", text.lower()),
                        "raw": text,
                        "imgid": image,
                        "sentid": next(sentence_ids),
                    }
                    for text in group
                ]
                name = image_name(file_split, coco_id)
                row: dict[str, object] = {
                    "filepath": file_split,
                    "sentids": [sentence["sentid"] for sentence in sentences],
                }
                row |= {"filename": name, "imgid": image, "split": split, "sentences": sentences, "cocoid": coco_id}
                images.append(row)
    write_json(folder / KARPATHY, {"images": images, "dataset": "coco"})


def _image_rows(config: PicturesConfig, split: str, image_ids: Sequence[int]) -> list[dict[str, object]]:
    size = {"height": config.height_px, "width": config.width_px}
    return [{"id": image_id, "file_name": image_name(split, image_id), **size, "license": 1} for image_id in image_ids]


def write_json(file: Path, content: object) -> None:
    """Write a file of the demo pictures, and the folder that it is in."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
