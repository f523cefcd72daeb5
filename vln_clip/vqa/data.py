"""What a VQA run reads: questions of every split, vocabularies, image grids; and which data set it is of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vln_clip import log, paths
from vln_clip.demo_pictures import COCO_FOLDERS as COCO
from vln_clip.demo_pictures import drawn_pictures
from vln_clip.errors import InputError, unknown_name
from vln_clip.features.grid import GridReader
from vln_clip.image_grids import DEMO, GridsWanted, find_grids, place_of
from vln_clip.tasks.vqa.answers import normalize_label
from vln_clip.tasks.vqa.files import DATASETS as FILES
from vln_clip.tasks.vqa.files import load_questions, require_apart
from vln_clip.tasks.vqa.glove import initial_vectors, read_word_vectors
from vln_clip.tasks.vqa.questions import Question, require_images
from vln_clip.tasks.vqa.table import QuestionTable
from vln_clip.tasks.vqa.vocabulary import MORE_THAN, AnswerVocabulary
from vln_clip.tasks.vqa.words import QuestionVocabulary
from vln_clip.token_reader import TokenReader
from vln_clip.vqa.config import VqaConfig

AUTO = "auto"
WORD_WIDTH = 300  # of every model of the paper
MAX_TOKENS = 20  # of a question that a text encoder reads, begin and end included; the 14 words of the models fit


@dataclass(frozen=True)
class Dataset:
    """One data set of questions.

    Attributes:
        files: row of ``tasks.vqa.files.DATASETS``.
        train: splits to learn from, as ``load_questions`` takes them.
        val: split that validates and is scored.
        test: splits without public answers, for which files are written.
        images: folders of images, in the data folder.
        style: of the result files.
        vocabulary: splits whose answers make up the vocabulary.
        more_than: an answer must be that of more questions than this.
        normalize: what is done to an answer before it is counted; files with scores of answers hold them as they are.
    """

    files: str
    train: str
    val: str
    test: str
    images: tuple[str, ...]
    style: str
    vocabulary: str
    more_than: int = MORE_THAN
    normalize: Callable[[str], str] = normalize_label


_GQA = ("GQA/images",)
DATASETS = {
    "vqa": Dataset("vqa", "train", "val", "test", COCO, "vqa", "train+val"),
    "gqa": Dataset("gqa", "train", "testdev", "submission", _GQA, "gqa", "train+val", 0, str),
    "vqa_lxmert": Dataset("vqa_lxmert", "train+nominival", "minival", "test", COCO, "vqa", "train+nominival", 0, str),
    "gqa_lxmert": Dataset("gqa_lxmert", "train+valid", "testdev", "submit", _GQA, "gqa", "train+valid", 0, str),
    "demo": Dataset("demo", "train", "val", "test", COCO, "vqa", "train", 2),
}


def find_dataset(name: str) -> str:
    """Turn ``auto`` into ``vqa`` where the data folder holds VQA v2, else ``demo``, and say which."""
    if name not in (AUTO, *DATASETS):
        raise unknown_name("--dataset", name, (AUTO, *DATASETS))
    if name != AUTO:
        return name
    row = FILES["vqa"]["train"]
    path = paths.data_dir() / row.folder / row.questions
    if path.is_file():
        log.logger.info("data set: vqa, found in %s (--dataset demo takes the demo's pictures)", path.parent)
        return "vqa"
    log.logger.info(
        "data set: demo, pictures of the world this package generates (real VQA v2: put its files into %s)",
        path.parent.absolute(),
    )
    return "demo"


def folder_of(dataset: str) -> Path:
    """Return the data folder of a data set; the demo's pictures are drawn where they are not there."""
    return drawn_pictures() if dataset == "demo" else paths.data_dir()


def questions_of(dataset: str, splits: str) -> list[Question]:
    """Read the questions of some splits of a data set."""
    return load_questions(DATASETS[dataset].files, splits, folder_of(dataset))


class _Tokens:
    """A text encoder in the place of a vocabulary; all tables have one width, whatever their longest question."""

    def __init__(self, reader: TokenReader) -> None:
        self.reader = reader

    def encode(self, texts: Sequence[str], max_words: int) -> np.ndarray:
        """Return the tokens of questions, (N, max_words) int64."""
        tokens, _ = self.reader.encode_batch(texts, max_words)
        return np.pad(tokens, ((0, 0), (0, max_words - tokens.shape[1])))


class VqaData:
    """Everything that is read, each when it is first asked for.

    Args:
        config: of the run; ``dataset`` is no longer ``auto``.
        device: where tables go.
        words: of a trained model; None builds them of the training questions.
        answers: likewise.
        reader: text encoder that reads the questions; None where a model learns word vectors.
    """

    def __init__(
        self,
        config: VqaConfig,
        device: torch.device,
        words: QuestionVocabulary | None = None,
        answers: AnswerVocabulary | None = None,
        reader: TokenReader | None = None,
    ) -> None:
        self.config, self.device, self.row, self.reader = config, device, DATASETS[config.dataset], reader
        self.folder = folder_of(config.dataset)
        self._questions: dict[str, list[Question]] = {}
        self._tables: dict[str, QuestionTable] = {}
        self.vectors: Tensor | None = None
        self.words = words or self._build_words()
        self.answers = answers or self._build_answers()

    @property
    def train_splits(self) -> str:
        """Return what is learned from, as ``questions`` takes it."""
        return self.config.learn_from or self.row.train

    @property
    def has_test(self) -> bool:
        """Return whether the questions of the test split are there."""
        files = FILES[self.row.files][self.row.test]
        return (self.folder / files.folder / files.questions).is_file()

    def questions(self, splits: str) -> list[Question]:
        """Return the questions of some splits, ``train`` or ``train+val``."""
        if splits not in self._questions:
            names = splits.split("+")
            if len(names) == 1:
                self._questions[splits] = load_questions(self.row.files, splits, self.folder)
            else:  # files of half a million questions are read once
                found = [question for name in names for question in self.questions(name)]
                require_apart(names, found)
                self._questions[splits] = found
        return self._questions[splits]

    def num_unseen(self, splits: str) -> int:
        """Return how many questions ask about images without a grid."""
        grids = self.grids
        return 0 if grids is None else sum(question.image not in grids for question in self.questions(splits))

    def table(self, splits: str) -> QuestionTable:
        """Return questions as tensors; every one of their images has a grid."""
        if splits not in self._tables:
            questions = self.questions(splits)
            if self.grids is not None:
                require_images(questions, self.grids, place_of(self.grids))
            self._tables[splits] = self._build_table(questions).to(self.device)
        return self._tables[splits]

    def _build_table(self, questions: Sequence[Question]) -> QuestionTable:
        """Return questions as tensors, as the models read them."""
        if self.reader is None:
            return QuestionTable.build(questions, self.words, self.answers)
        table = QuestionTable.build(questions, _Tokens(self.reader), self.answers, MAX_TOKENS)
        if self.reader.trained:
            return table
        return replace(table, tokens=self.reader.states([question.text for question in questions], MAX_TOKENS))

    @cached_property
    def grids(self) -> GridReader | None:
        """Return the grids of the images; None with ``--features none``."""
        preset = DEMO if self.is_demo else "vqa"
        return find_grids(GridsWanted(self.config.features, preset, self.folder, self.row.images), self.device)

    @property
    def image_folders(self) -> list[Path]:
        """Return the folders of images that are there."""
        return [self.folder / name for name in self.row.images if (self.folder / name).is_dir()]

    @property
    def is_demo(self) -> bool:
        """Return whether the pictures are generated."""
        return self.config.dataset == "demo"

    @property
    def grid_width(self) -> int:
        """Return C; a model that sees nothing has 1."""
        return 1 if self.grids is None else self.grids.shape[0]

    @property
    def word_width(self) -> int:
        """Return the width of what stands for words: the text encoder's, that of the file of vectors, the size's."""
        if self.reader is not None:
            return self.reader.width
        return self.config.sizes.get("word_width", WORD_WIDTH) if self.vectors is None else self.vectors.shape[1]

    def read_grids(self, table: QuestionTable, rows: Tensor) -> Tensor:
        """Return the grids of the images that questions ask about, (B, C, h, w) on the device; each is read once."""
        assert self.grids is not None, "a data set with features"
        index, inverse = table.image_index[rows].unique(return_inverse=True)
        grids = self.grids.read([table.image_keys[i] for i in index.tolist()]).to(self.device, non_blocking=True)
        return grids if len(index) == len(rows) and bool((inverse.diff() > 0).all()) else grids[inverse]

    def _build_words(self) -> QuestionVocabulary:
        """Build the vocabulary of the training questions, of words with vectors where a file of them is given."""
        texts = [question.text for question in self.questions(self.train_splits)]
        words = QuestionVocabulary.build(texts, style=self.config.word_style)
        if self.config.word_vectors is None:
            return words
        vectors = read_word_vectors(self.config.word_vectors, words.words)
        num_words, words = len(words) - words.num_special, words.having(vectors)
        found = len(words) - words.num_special
        log.logger.info("word vectors: of %d of the %d words; the others are unknown words", found, num_words)
        generator = torch.Generator().manual_seed(self.config.seed)
        self.vectors = initial_vectors(words, vectors, generator)
        return words

    def _build_answers(self) -> AnswerVocabulary:
        if self.config.answers is not None:
            return AnswerVocabulary.read(self.config.answers)
        available = self.row.vocabulary if self.config.dataset != "demo" else self.row.train
        return AnswerVocabulary.build(self.questions(available), self.row.more_than, self.row.normalize)


def in_image_order(table: QuestionTable, rows: Tensor | None, batch_size: int) -> Sequence[Tensor]:
    """Return batches of rows, all or some, so that questions about one image stand together."""
    rows = torch.arange(len(table), device=table.image_index.device) if rows is None else rows
    order = rows[table.image_index[rows].argsort(stable=True)]
    return order.split(batch_size)


def require_answers(questions: Sequence[Question], split: str) -> None:
    """Raise ``InputError`` where a split has no public answers."""
    if not questions or not questions[0].is_answered:
        raise InputError(f"split must be one with public answers to be scored, got {split!r}; predict writes its file")
