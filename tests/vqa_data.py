"""Small question files in the public forms."""

import json


def question(k=1, image_id=42, text="What color is the woman's shirt?"):
    return {"image_id": image_id, "question": text, "question_id": image_id * 1000 + k}


def annotation(k=1, image_id=42, answers=("red",) * 10, answer_type="other", question_type="what color is the"):
    return {
        "question_type": question_type,
        "multiple_choice_answer": answers[0],
        "answers": [
            {"answer": text, "answer_confidence": "yes", "answer_id": number} for number, text in enumerate(answers, 1)
        ],
        "image_id": image_id,
        "answer_type": answer_type,
        "question_id": image_id * 1000 + k,
    }


def question_file(*questions, subtype="val2014"):
    head = {"info": {"year": 2017}, "task_type": "Open-Ended", "data_type": "mscoco", "license": {}}
    return head | ({"data_subtype": subtype} if subtype else {}) | {"questions": list(questions)}


def annotation_file(*annotations, subtype="val2014"):
    head = {"info": {"year": 2017}, "license": {}, "data_subtype": subtype}
    return head | {"annotations": list(annotations), "data_type": "mscoco"}


GQA = {
    "201": {
        "semantic": [{"operation": "select", "dependencies": [], "argument": "wall (7)"}],
        "imageId": "n161313",
        "question": "Is the wall white?",
        "answer": "yes",
        "fullAnswer": "Yes, it is.",
        "isBalanced": True,
        "groups": {"global": None, "local": "06-wall"},
        "entailed": ["202"],
        "equivalent": [],
        "types": {"detailed": "verifyAttr", "semantic": "attr", "structural": "verify"},
    },
    "202": {
        "imageId": "2354786",
        "question": "What is on the wall?",
        "answer": "hair clip",
        "isBalanced": False,
        "types": {"structural": "query"},
    },
}
LXMERT_VQA = [
    {
        "answer_type": "other",
        "img_id": "COCO_val2014_000000000042",
        "label": {"net": 0.3, "netting": 1},
        "question_id": 42001,
        "question_type": "what is this",
        "sent": "What is this?",
    },
    {
        "answer_type": "yes/no",
        "img_id": "COCO_val2014_000000000043",
        "label": {},
        "question_id": 43001,
        "question_type": "is the",
        "sent": "Is the man tall?",
    },
]
LXMERT_GQA = [{"img_id": "2354786", "label": {"yes": 1.0}, "question_id": "07333408", "sent": "Is it?"}]


def save(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def save_vqa(folder, questions, annotations=None):
    """Write both files; returns their paths."""
    paths = save(folder / "q_val2014.json", question_file(*questions)), folder / "a.json"
    if annotations is not None:
        save(paths[1], annotation_file(*annotations))
    return paths
