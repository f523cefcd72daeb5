"""The data sets of CLIP-ViL_p: which files, below which names in the data folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vln_clip import log, paths
from vln_clip.demo_pictures import COCO_FOLDERS as COCO
from vln_clip.tasks.vqa.answers import normalize_label

AUTO, DEMO, SNLI_VE = "auto", "demo", "snli_ve"
TRAIN, VAL, TEST = "train", "val", "test"


@dataclass(frozen=True)
class TaskFiles:
    """Where the rows of a task are.

    Attributes:
        files: row of ``tasks.vqa.files.DATASETS``, or ``snli_ve``.
        splits: the files' names of train, val and test.
        images: folders, in the data folder.
        labels: list of answers, in the data folder; built of the training questions where it is not there.
        more_than: an answer of a list that is built must be that of more questions.
        drop_unknown: rows are not learned from where none of their answers is in the list.
        normalize: what is done to an answer before it is counted; files with scores of answers hold them as they are.
    """

    files: str
    splits: Mapping[str, str]
    images: tuple[str, ...]
    labels: str = ""
    more_than: int = 0
    drop_unknown: bool = False
    normalize: Callable[[str], str] = str


@dataclass(frozen=True)
class Dataset:
    """Files of one data set, in its folder.

    Attributes:
        sources: of pairs by split; see ``tasks.pretraining.sources``.
        images: folders of the images of pairs; those that are not there are left out.
        answers: list of the answers that pre-training tells.
        tasks: by name.
    """

    sources: Mapping[str, tuple[str, ...]]
    images: tuple[str, ...]
    answers: str
    tasks: Mapping[str, TaskFiles]


def _splits(train: str, val: str, test: str) -> dict[str, str]:
    return {TRAIN: train, VAL: val, TEST: test}


_GENOME = ("VG/VG_100K", "VG/VG_100K_2", "GQA/images")
_GQA_IMAGES, _FLICKR = ("GQA/images",), ("flickr30k/flickr30k_images",)
_SNLI_VE = TaskFiles(SNLI_VE, _splits("train", "dev", "test"), _FLICKR)
_PAIRS = {
    TRAIN: tuple(f"lxmert:lxmert/{name}.json" for name in ("mscoco_train", "mscoco_nominival", "vgnococo")),
    VAL: ("lxmert:lxmert/mscoco_minival.json",),
}
_ANSWERS = "lxmert/all_ans.json"
DATASETS = {
    "lxmert": Dataset(
        _PAIRS,
        COCO + _GENOME,
        _ANSWERS,
        {
            "vqa": TaskFiles(
                "vqa_lxmert", _splits("train+nominival", "minival", "test"), COCO, "VQA/trainval_label2ans.json"
            ),
            "gqa": TaskFiles(
                "gqa_lxmert",
                _splits("train+valid", "testdev", "submit"),
                _GQA_IMAGES,
                "GQA/trainval_label2ans.json",
                drop_unknown=True,
            ),
            SNLI_VE: _SNLI_VE,
        },
    ),
    DEMO: Dataset(
        _PAIRS,
        COCO + _GQA_IMAGES,
        _ANSWERS,
        {
            "vqa": TaskFiles("demo", _splits("train", "val", "test"), COCO, more_than=2, normalize=normalize_label),
            "gqa": TaskFiles("gqa", _splits("train", "val", "testdev"), _GQA_IMAGES),
            SNLI_VE: _SNLI_VE,
        },
    ),
}


def find_dataset(name: str) -> str:
    """Turn ``auto`` into ``lxmert`` where the data folder holds LXMERT's files, else ``demo``, and say which."""
    if name != AUTO:
        return name
    path = paths.data_dir() / "lxmert" / "mscoco_train.json"
    if path.is_file():
        log.logger.info("data set: lxmert, found in %s (--demo takes the demo's pictures)", path.parent)
        return "lxmert"
    log.logger.info(
        "data set: demo, pictures of the world this package generates (LXMERT's files: put them into %s)",
        path.parent.absolute(),
    )
    return DEMO
