"""GQA's files: balanced questions of train, val and testdev, the questions to be submitted, and the images by id."""

import itertools
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from vln_clip.envs.demo.pictures.files import write_json
from vln_clip.envs.demo.pictures.gqa import GqaCandidate
from vln_clip.envs.demo.pictures.gqa_forms import GQA_FORMS

GQA = Path("GQA")
BALANCED = "{}_balanced_questions.json"
SUBMISSION = "submission_all_questions.json"
_JOINS = ("and", "or", "same color", "different color", "choose nearer")  # operations that end all branches


def question_id(image_id: int, index: int) -> str:
    """Return the id of a picture's question; GQA's are texts of digits."""
    return f"{image_id * 1000 + index:09d}"


def gqa_rows(questions: Sequence[GqaCandidate]) -> dict[str, dict[str, object]]:
    """Return what the files hold, by question id; ``questions`` stand in the order of their pictures."""
    rows: dict[str, dict[str, object]] = {}
    for image_id, asked in itertools.groupby(questions, key=lambda question: question.image_id):
        group = [(question_id(image_id, index), question) for index, question in enumerate(asked)]
        for name, question in group:
            structural, semantic, detailed = GQA_FORMS[question.form].types
            steps = reasoning(question.steps)
            rows[name] = {
                "semantic": steps,
                "entailed": _entailed(question, group),
                "equivalent": _equivalent(question, group),
                "question": question.text,
                "imageId": str(image_id),
                "isBalanced": True,
                "groups": {"global": question.topic, "local": f"{question.form}-{question.topic}"},
                "answer": question.answer,
                "semanticStr": "->".join(_shown(step) for step in steps),
                "types": {"detailed": detailed, "semantic": semantic, "structural": structural},
                "fullAnswer": question.full_answer,
            }
    return rows


def reasoning(steps: str) -> list[dict[str, object]]:
    """Return GQA's ``semantic`` of steps in text: every step names those that it depends on."""
    found: list[dict[str, object]] = []
    ends: list[int] = []  # of branches
    for index, step in enumerate(steps.split("; ")):
        operation, argument = step.split(":", 1)
        if operation == "select":
            used: list[int] = []
        elif operation in _JOINS:
            used, ends = ends, []
        else:
            used, ends = ends[-1:], ends[:-1]
        ends.append(index)
        found.append({"operation": operation, "dependencies": used, "argument": argument.strip()})
    return found


def write_gqa(folder: Path, split: str, rows: dict[str, dict[str, object]]) -> None:
    """Write the balanced questions of a split: train, val or testdev."""
    write_json(folder / GQA / BALANCED.format(split), rows)


def write_submission(folder: Path, rows: dict[str, dict[str, object]]) -> None:
    """Write questions without what tells their answers."""
    shown = {name: {key: row[key] for key in ("question", "imageId", "isBalanced")} for name, row in rows.items()}
    write_json(folder / GQA / SUBMISSION, shown)


def place_images(images: Iterable[tuple[Path, int]], folder: Path) -> None:
    """Put images into a folder, named after their numbers alone; they take no space where links are possible.

    Args:
        images: files and their numbers.
        folder: where they shall be found.
    """
    folder.mkdir(parents=True)
    for file, image_id in images:
        target = folder / f"{image_id}.jpg"
        try:
            os.link(file, target)
        except OSError:  # a file system without hard links
            shutil.copyfile(file, target)


def _entailed(question: GqaCandidate, group: Sequence[tuple[str, GqaCandidate]]) -> list[str]:
    """Return the questions that are answered for whoever knows the answer to an open one."""
    if _structure(question) != "query":
        return []
    return [name for name, other in group if _one_fact(question, other) and _structure(other) in ("verify", "choose")]


def _equivalent(question: GqaCandidate, group: Sequence[tuple[str, GqaCandidate]]) -> list[str]:
    """Return the questions whose answers tell each other, itself among them."""
    alike = [name for name, other in group if other is question]
    if _structure(question) == "compare":  # whether two are the same in color, or different
        alike += [name for name, other in group if other is not question and _one_fact(question, other)]
    return alike


def _structure(question: GqaCandidate) -> str:
    return GQA_FORMS[question.form].types[0]


def _one_fact(one: GqaCandidate, other: GqaCandidate) -> bool:
    return bool(one.fact) and one.fact == other.fact


def _shown(step: dict[str, object]) -> str:
    dependencies = ",".join(map(str, step["dependencies"])) if isinstance(step["dependencies"], list) else ""
    return f"{step['operation']}: {step['argument']}" + (f" [{dependencies}]" if dependencies else "")
