"""Question files of every known form, and where they lie in the data folder: VQA v2, GQA, LXMERT's of both."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vln_clip.errors import InputError, unknown_name
from vln_clip.tasks.vqa.gqa import read_gqa
from vln_clip.tasks.vqa.lxmert import read_lxmert
from vln_clip.tasks.vqa.questions import Question
from vln_clip.tasks.vqa.vqa_v2 import read_vqa_v2

logger = logging.getLogger(__name__)

VQA_FOLDER, GQA_FOLDER = "VQA", "GQA"
_QUESTIONS, _ANNOTATIONS = "v2_OpenEnded_mscoco_{}_questions.json", "v2_mscoco_{}_annotations.json"


@dataclass(frozen=True)
class QuestionFiles:
    """The files of one split.

    Attributes:
        folder: in the data folder.
        questions: name of the file of questions.
        read: its reader.
        annotations: name of the file of answers, where that is another one.
        num_questions: of the public file, 0 where it is not known.
    """

    folder: str
    questions: str
    read: Callable[[Path, Path | None], list[Question]]
    annotations: str = ""
    num_questions: int = 0


def _vqa(split: str, num_questions: int, annotated: bool = True) -> QuestionFiles:
    annotations = _ANNOTATIONS.format(split) if annotated else ""
    return QuestionFiles(VQA_FOLDER, _QUESTIONS.format(split), read_vqa_v2, annotations, num_questions)


def _gqa(name: str) -> QuestionFiles:
    return QuestionFiles(GQA_FOLDER, name, lambda path, _: read_gqa(path))


def _lxmert(folder: str, split: str) -> QuestionFiles:
    return QuestionFiles(folder, f"{split}.json", lambda path, _: read_lxmert(path))


DATASETS = {
    "vqa": {
        "train": _vqa("train2014", 443_757),
        "val": _vqa("val2014", 214_354),
        "test": _vqa("test2015", 447_793, annotated=False),
        "test_dev": _vqa("test-dev2015", 107_394, annotated=False),
        "vg": QuestionFiles(VQA_FOLDER, "VG_questions.json", read_vqa_v2, "VG_annotations.json"),
    },
    "gqa": {
        "train": _gqa("train_balanced_questions.json"),
        "val": _gqa("val_balanced_questions.json"),
        "testdev": _gqa("testdev_balanced_questions.json"),
        "test": _gqa("test_balanced_questions.json"),
        "submission": _gqa("submission_all_questions.json"),
    },
    "vqa_lxmert": {name: _lxmert(VQA_FOLDER, name) for name in ("train", "nominival", "minival", "test")},
    "gqa_lxmert": {name: _lxmert(GQA_FOLDER, name) for name in ("train", "valid", "testdev", "submit")},
}
# The demo's files have the names and forms of VQA v2's, but not their length.
DATASETS["demo"] = {name: replace(files, num_questions=0) for name, files in DATASETS["vqa"].items()}


def find_files(dataset: str, split: str) -> QuestionFiles:
    """Return the files of a split.

    Raises:
        InputError: no such data set or split.
    """
    if dataset not in DATASETS:
        raise unknown_name("data set", dataset, DATASETS)
    if split not in DATASETS[dataset]:
        raise unknown_name(f"split of {dataset}", split, DATASETS[dataset])
    return DATASETS[dataset][split]


def load_questions(dataset: str, splits: str | Sequence[str], data: Path) -> list[Question]:
    """Read the questions of a split, or of several as one: ``train+val`` or a list of names.

    Args:
        dataset: a row of ``DATASETS``.
        splits: rows of it.
        data: the data folder.

    Raises:
        InputError: an unknown name, a missing or malformed file, or one question in two of the splits.
    """
    names = splits.split("+") if isinstance(splits, str) else list(splits)
    found: list[Question] = []
    for name in names:
        files = find_files(dataset, name)
        folder = data / files.folder
        annotations = folder / files.annotations if files.annotations else None
        for path in filter(None, (folder / files.questions, annotations)):
            if not path.is_file():
                raise InputError(
                    f"split {name} of {dataset} needs {path}, which does not exist; put the public file there, or name "
                    "another data folder with VLN_CLIP_DATA"
                )
        questions = files.read(folder / files.questions, annotations)
        if files.num_questions not in (0, len(questions)):
            what = (folder / files.questions, len(questions), files.num_questions)
            logger.info("%s has %d questions, the public file of this name has %d", *what)
        found += questions
    require_apart(names, found)
    return found


def require_apart(names: Sequence[str], questions: Sequence[Question]) -> None:
    """Raise ``InputError`` where splits that are taken together share questions."""
    # Visual Genome numbers its questions in its own way: one number may stand for questions about two images.
    if len(names) > 1 and len({(question.question_id, question.image) for question in questions}) < len(questions):
        raise InputError(f"splits taken together must not share questions, but those of {'+'.join(names)} do")
