"""What a run of CLIP-ViL_p reads: pairs to pre-train on, texts with labels to fine-tune on, word pieces, images."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from vln_clip import paths
from vln_clip.demo_pictures import drawn_pictures
from vln_clip.encoders import Encoder, create_encoder
from vln_clip.encoders.weights import fetch_weights
from vln_clip.errors import InputError
from vln_clip.features.pipeline import default_workers
from vln_clip.pretrain.config import DEMO_PIECES, PUBLISHED, RANDOM, SCRATCH, PretrainConfig
from vln_clip.pretrain.datasets import DATASETS, DEMO, SNLI_VE, TEST, TRAIN, VAL, TaskFiles
from vln_clip.tasks.pretraining.images import ImageFiles
from vln_clip.tasks.pretraining.labels import LabelTable
from vln_clip.tasks.pretraining.pairs import PairTable
from vln_clip.tasks.pretraining.pieces import WordPieces
from vln_clip.tasks.pretraining.places import ImagePlaces
from vln_clip.tasks.pretraining.sampler import in_order_by_group
from vln_clip.tasks.pretraining.snli_ve import FILES as SNLI_VE_FILES
from vln_clip.tasks.pretraining.snli_ve import FOLDER as SNLI_VE_FOLDER
from vln_clip.tasks.pretraining.snli_ve import label_vocabulary, read_snli_ve
from vln_clip.tasks.pretraining.sources import Source
from vln_clip.tasks.pretraining.stored import load_pairs
from vln_clip.tasks.pretraining.vision import CanvasSize
from vln_clip.tasks.vqa.files import DATASETS as FILES
from vln_clip.tasks.vqa.files import load_questions
from vln_clip.tasks.vqa.questions import Question
from vln_clip.tasks.vqa.vocabulary import AnswerVocabulary

Table = PairTable | LabelTable
SOME = 64  # images that show what an encoder's map is like
AnyTable = TypeVar("AnyTable", PairTable, LabelTable)


class VilData:
    """Everything that is read, each when it is first asked for.

    Args:
        config: of the run; ``dataset`` is no longer ``auto``.
        device: where batches go; tables stay on the CPU.
        pieces: of a trained model; None takes BERT's, or builds them of the training texts.
        labels: likewise of tasks.
    """

    def __init__(
        self,
        config: PretrainConfig,
        device: torch.device,
        pieces: WordPieces | None = None,
        labels: Mapping[str, AnswerVocabulary] | None = None,
    ) -> None:
        self.config, self.device, self.row = config, device, DATASETS[config.dataset]
        self.folder = drawn_pictures() if config.dataset == DEMO else paths.data_dir()
        self._pairs: dict[str, PairTable] = {}
        self._labels = dict(labels or {})
        self._questions: dict[tuple[str, str], list[Question]] = {}
        self._tables: dict[tuple[str, str], LabelTable] = {}
        self._images: dict[int, ImageFiles] = {}
        self.pieces = pieces or self._find_pieces()

    def sources(self, split: str) -> list[Source]:
        """Return where the pairs of a split are read from."""
        own = self.config.sources if split == TRAIN else self.config.val_sources
        return [Source.parse(text, self.folder) for text in own or self.row.sources[split]]

    def pairs(self, split: str) -> PairTable:
        """Return the pairs of a split."""
        if split not in self._pairs:
            self._pairs[split] = load_pairs(self.sources(split), self.pieces, self.answers)
        return self._pairs[split]

    @cached_property
    def answers(self) -> AnswerVocabulary:
        """Return the answers that pre-training tells."""
        return AnswerVocabulary.read(self.folder / self.row.answers)

    def has(self, task: str, split: str) -> bool:
        """Return whether the file of a split is there."""
        row = self.row.tasks[task]
        return all((self.folder / name).is_file() for name in self._files(row, split))

    def questions(self, task: str, split: str) -> list[Question]:
        """Return the questions of a split; a hypothesis is one whose answer is its label."""
        if (task, split) not in self._questions:
            row = self.row.tasks[task]
            if row.files == SNLI_VE:
                found = read_snli_ve(self.folder / _snli_ve_file(row.splits[split]))
            else:
                found = load_questions(row.files, row.splits[split], self.folder)
            self._questions[task, split] = found
        return self._questions[task, split]

    def labels(self, task: str) -> AnswerVocabulary:
        """Return what a model of a task chooses from."""
        if task not in self._labels:
            self._labels[task] = self._find_labels(task)
        return self._labels[task]

    def table(self, task: str, split: str) -> LabelTable:
        """Return the rows of a split as tensors."""
        if (task, split) not in self._tables:
            drop = split == TRAIN and self.row.tasks[task].drop_unknown
            questions, labels = self.questions(task, split), self.labels(task)
            self._tables[task, split] = LabelTable.of(questions, self.pieces, labels, drop_unknown=drop)
        return self._tables[task, split]

    def images(self, table: Table) -> ImageFiles:
        """Return the images that a table of this run is about; their sizes are read at the first time."""
        if id(table) not in self._images:
            places = table.places if isinstance(table, PairTable) else ImagePlaces.loose(table.image_keys)
            canvas, workers = CanvasSize(*self.config.sides_px), default_workers(self.device)
            after = self.config.convert_after_resize
            self._images[id(table)] = ImageFiles(places, self._roots(table), canvas, workers, after)
        return self._images[id(table)]

    def groups(self, table: Table) -> Tensor:
        """Return the orientation of the image of each row, (N,) int64."""
        return self.images(table).orientation[table.image_rows]

    def read_images(self, table: Table, rows: Tensor) -> Tensor:
        """Return the images of rows of a table, (B, 3, H, W) uint8."""
        images = self.images(table).read(table.images_of(rows))
        return images.pin_memory() if self.device.type == "cuda" else images

    def scale(self, images: Tensor) -> Tensor:
        """Return images as the encoder wants them, (B, 3, H, W) float32 on the device."""
        scaled = self.encoder.transform.scale(images.to(self.device, non_blocking=True))
        return scaled.contiguous(memory_format=torch.channels_last)

    def some_images(self) -> Tensor:
        """Return a few training images of one orientation, as the encoder wants them."""
        table: Table = self.pairs(TRAIN) if self.config.pretrain else self.table(self.config.tasks[0], TRAIN)
        first = next(in_order_by_group(self.groups(table), len(table)))
        rows = first[torch.linspace(0, len(first) - 1, min(len(first), SOME)).long()]
        return self.scale(self.read_images(table, rows))

    @cached_property
    def encoder(self) -> Encoder:
        """Return the encoder without its weights: what it is, and how images become its input."""
        return create_encoder(self.config.encoder, pretrained=False)

    def encoder_used(self) -> str:
        """Name what sees, and whether it learns."""
        weights = self.config.encoder_weights
        shown = {PUBLISHED: "", RANDOM: " of random weights"}.get(weights, f" of {weights}")
        return f"{self.config.encoder}{shown}{', frozen' if self.config.freeze_encoder else ''}"

    def describe(self) -> list[str]:
        """Return lines for the log: what is read, and what is made small."""
        lines = []
        if self.config.bert == SCRATCH:
            lines.append(
                f"NOTE: BERT begins with random weights and {len(self.pieces):,} word pieces of the training texts, in "
                f"{self.config.size} size; the paper's: --size paper --bert bert-base-uncased"
            )
        if self.config.pretrain:
            train, val = self._ready(self.pairs(TRAIN)), self._ready(self.pairs(VAL))
            counts = ", ".join(f"{count:,} of {Path(name).stem}" for name, count in train.pairs_of.items())
            lines.append(
                f"pairs: {len(train):,} to learn from ({counts}), {len(val):,} of val; {train.num_labelled:,} with one "
                f"of {len(self.answers):,} answers"
            )
        for task in self.config.tasks:
            train_rows, val_rows = self._ready(self.table(task, TRAIN)), self._ready(self.table(task, VAL))
            known = 100 * float(train_rows.answerable.float().mean())
            lines.append(
                f"{task}: {len(train_rows):,} rows to learn from, {len(val_rows):,} of val; {len(self.labels(task)):,} "
                f"labels, which cover {known:.1f} % of the rows"
            )
        return lines

    def _ready(self, table: AnyTable) -> AnyTable:
        """Return a table whose images are there and whose sizes are in the cache."""
        self.images(table)
        return table

    def fingerprint(self, task: str | None) -> dict[str, Any]:
        """Return what must not change while a run goes on: the rows in their order, and what is chosen from."""
        labels = (self.answers if task is None else self.labels(task)).answers
        table = self.pairs(TRAIN) if task is None else self.table(task, TRAIN)
        sha256 = hashlib.sha256(f"{table.digest} {json.dumps(labels)}".encode()).hexdigest()
        return {"pieces": self.pieces.digest, "rows": len(table), "labels": len(labels), "sha256": sha256}

    def _files(self, row: TaskFiles, split: str) -> list[str]:
        """Return the names of the files of a split, in the data folder."""
        if row.files == SNLI_VE:
            return [_snli_ve_file(row.splits[split])]
        found = [FILES[row.files][name] for name in row.splits[split].split("+")]
        return [f"{files.folder}/{files.questions}" for files in found]

    def _roots(self, table: Table) -> list[Path]:
        """Return the folders that a table's images are in; where none is there those that should be."""
        if isinstance(table, PairTable):
            names, given = self.row.images, list(self.config.image_folders)
        else:
            task = next(task for (task, _), other in self._tables.items() if other is table)
            names, given = self.row.tasks[task].images, []
        folders = [self.folder / name for name in names]
        return ([folder for folder in folders if folder.is_dir()] + given) or folders

    def _find_pieces(self) -> WordPieces:
        """Return BERT's word pieces, or such of the training texts."""
        if self.config.bert != SCRATCH:
            return WordPieces.read(_bert_place(self.config.bert))
        sources = [pair.text for source in self.sources(TRAIN) for pair in source.pairs()]
        return WordPieces.build(sources, DEMO_PIECES)

    def _find_labels(self, task: str) -> AnswerVocabulary:
        row = self.row.tasks[task]
        given = {"vqa": self.config.vqa_answers, "gqa": self.config.gqa_answers}.get(task)
        if row.files == SNLI_VE:
            return label_vocabulary()
        listed = given or (self.folder / row.labels if row.labels else None)
        if listed is not None and (given or listed.is_file()):
            return AnswerVocabulary.read(listed)
        return AnswerVocabulary.build(self.questions(task, TRAIN), row.more_than, row.normalize)


def _bert_place(bert: str) -> Path:
    """Return the folder of a BERT, or the word pieces of one on the hub."""
    folder = Path(bert)
    return folder if folder.is_dir() else fetch_weights(f"the word pieces of {bert}", bert, ("vocab.txt",))


def _snli_ve_file(split: str) -> str:
    return f"{SNLI_VE_FOLDER}/{SNLI_VE_FILES[split]}"


def require_split(split: str) -> None:
    """Raise ``InputError`` where there is no such split."""
    if split not in (TRAIN, VAL, TEST):
        raise InputError(f"--split must be train, val or test, got {split!r}")


def require_labels(data: VilData, task: str, split: str) -> None:
    """Raise ``InputError`` where a split has no public labels."""
    if not data.questions(task, split)[0].is_answered:
        raise InputError(f"--split must be one with public labels to be scored, got {split}; predict writes its file")
