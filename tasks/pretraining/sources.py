"""Where pairs come from: files of every known form, named by kind as in ``lxmert:mscoco_train.json``."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vln_clip.errors import InputError, unknown_name
from vln_clip.tasks.captioning.files import read_annotations, select
from vln_clip.tasks.captioning.records import CaptionedImage
from vln_clip.tasks.pretraining.aggregated import read_aggregated
from vln_clip.tasks.pretraining.records import Pair
from vln_clip.tasks.pretraining.shards import find_shards, read_shard
from vln_clip.tasks.pretraining.visual_genome import read_questions, read_regions
from vln_clip.tasks.vqa.answers import soft_scores
from vln_clip.tasks.vqa.gqa import read_gqa
from vln_clip.tasks.vqa.lxmert import read_lxmert
from vln_clip.tasks.vqa.questions import Question
from vln_clip.tasks.vqa.vqa_v2 import read_vqa_v2

SHARDS = "shards"


@dataclass(frozen=True)
class _Kind:
    """One form of files: what it is, how many files it takes, and how they are read."""

    what: str
    num_files: int
    read: Callable[[Sequence[Path], str], Iterable[Pair]]


KINDS = {
    "lxmert": _Kind("LXMERT's aggregated JSON", 1, lambda files, _: read_aggregated(files[0])),
    "lxmert_questions": _Kind("LXMERT's questions of VQA or GQA", 1, lambda files, _: asked(read_lxmert(files[0]))),
    "vqa": _Kind("VQA v2's questions, annotations", 2, lambda files, _: asked(read_vqa_v2(files[0], files[1]))),
    "gqa": _Kind("GQA's questions", 1, lambda files, _: asked(read_gqa(files[0]))),
    "coco": _Kind("COCO's captions_*.json", 1, lambda files, _: captioned(read_annotations(files[0]))),
    "karpathy": _Kind(
        "dataset_coco.json, as karpathy/SPLIT",
        1,
        lambda files, split: captioned(select(read_annotations(files[0]), split or "train")),
    ),
    "vg_regions": _Kind("Visual Genome's region_descriptions.json", 1, lambda files, _: read_regions(files[0])),
    "vg_questions": _Kind("Visual Genome's question_answers.json", 1, lambda files, _: read_questions(files[0])),
    SHARDS: _Kind("a WebDataset shard, or a folder of them", 1, lambda files, _: _shards(files[0])),
}


@dataclass(frozen=True)
class Source:
    """Files that pairs are read from.

    Attributes:
        kind: row of ``KINDS``.
        files: as many as the kind takes.
        split: of Karpathy's file; ``train`` by default.
    """

    kind: str
    files: tuple[Path, ...]
    split: str = ""

    @classmethod
    def parse(cls, text: str, folder: Path = Path()) -> "Source":
        """Read ``KIND:FILE``, ``KIND:FILE,FILE`` or ``karpathy/SPLIT:FILE``.

        Args:
            text: as given.
            folder: that files are in.

        Raises:
            InputError: an unknown kind or another number of files.
        """
        name, colon, rest = text.partition(":")
        kind, slash, split = name.partition("/")
        if kind not in KINDS:
            raise unknown_name("kind of a source (KIND:FILE)", kind, KINDS)
        files = tuple(folder / part for part in rest.split(",") if part) if colon else ()
        wanted = KINDS[kind]
        if len(files) != wanted.num_files or (slash and kind != "karpathy"):
            form = f"{kind}{'/SPLIT' if kind == 'karpathy' else ''}:{','.join(['FILE'] * wanted.num_files)}"
            raise InputError(f"a source of {wanted.what} must be given as {form}, got {text!r:.200}")
        return cls(kind, files, split)

    @property
    def name(self) -> str:
        """Return it as it is given."""
        kind = f"{self.kind}/{self.split}" if self.split else self.kind
        return f"{kind}:{','.join(map(str, self.files))}"

    @property
    def all_files(self) -> list[Path]:
        """Return every file that is read."""
        return find_shards(self.files[0]) if self.kind == SHARDS else list(self.files)

    def pairs(self) -> Iterable[Pair]:
        """Return the pairs, read as they are asked for where the form allows it.

        Raises:
            InputError: files are missing or malformed.
        """
        return KINDS[self.kind].read(self.files, self.split)


def asked(questions: Iterable[Question]) -> Iterator[Pair]:
    """Yield the pairs that questions are."""
    for question in questions:
        label = question.label if question.answers is None else soft_scores(question.answers)
        yield Pair(question.image, question.text, label)


def captioned(images: Iterable[CaptionedImage]) -> Iterator[Pair]:
    """Yield the pairs that captions are."""
    for image in images:
        for caption in image.captions:
            yield Pair(image.image, caption)


def _shards(place: Path) -> Iterator[Pair]:
    """Yield the pairs of one or more shards."""
    for path in find_shards(place):
        yield from read_shard(path)
