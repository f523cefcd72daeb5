"""CLIP answers questions without training: the answer whose text, joined to the question, is nearest to the image.

Table 7 of the CLIP-ViL paper, of which no code was released; its point is how close to chance this is. The set of
questions that the paper used is not known, so its numbers can be compared in kind only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from torch import Tensor

from vln_clip import log
from vln_clip.errors import InputError
from vln_clip.features.job import progress_of
from vln_clip.features.matching import Matcher, MatchingConfig, drawn, find_images
from vln_clip.features.parts import Words
from vln_clip.report import add_rows, models_table, read_rows
from vln_clip.run_config import require
from vln_clip.tables import print_tables
from vln_clip.tasks.vqa.questions import Question
from vln_clip.tasks.vqa.vocabulary import AnswerVocabulary
from vln_clip.vqa.answering import score
from vln_clip.vqa.data import DATASETS, find_dataset, folder_of, questions_of, require_answers

PROG = "python -m vln_clip.vqa zeroshot"
ZERO_SHOT, ZERO_SHOT_PROMPT = "zero_shot", "zero_shot_prompt"
QUESTIONS = Words("question", "questions", "questions")


@dataclass(frozen=True)
class ZeroShotConfig(MatchingConfig):
    """Answer questions with an encoder's two towers, without training."""

    prompt: bool = False
    """write 'question: ... answer: ...' in place of the question and the answer alone"""
    dataset: str = "auto"
    """vqa, gqa, vqa_lxmert, gqa_lxmert, demo; auto takes VQA v2 where $VLN_CLIP_DATA holds it, else the demo's"""
    split: str | None = None
    """with public answers; by default the one that validates"""
    limit: int | None = None
    """most questions, drawn with --seed; by default all"""
    seed: int = 0
    """of the draw"""
    answers: Path | None = None
    """list of answers to choose from (LXMERT's, openvqa's, or one per line); by default built from the annotations"""
    normalization: Literal["official", "openvqa"] = "official"
    """of answers before they are compared"""
    out: Path | None = None
    """results.json to write the row into; other rows in it stay"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.limit is None or self.limit > 0, "limit", "positive", self.limit)

    @property
    def row(self) -> str:
        """Return the name of the row of results."""
        return ZERO_SHOT_PROMPT if self.prompt else ZERO_SHOT


class ZeroShot:
    """Chooses among answers, each of which is tokenized once.

    Args:
        matcher: both towers.
        answers: to choose from.
        prompt: whether question and answer are named as such.
    """

    def __init__(self, matcher: Matcher, answers: Sequence[str], prompt: bool):
        self.matcher, self.answers, self.prompt = matcher, tuple(answers), prompt
        words = matcher.text.words
        self._ends = matcher.text.pack([words(answer) for answer in self.answers]).to(matcher.device)

    def begin(self, question: str) -> str:
        """Return what stands before every answer."""
        return f"question: {question} answer:" if self.prompt else question

    def logits(self, image: Tensor, question: str, chunks: int | None = None) -> Tensor:
        """Compare an image with a question joined to each answer.

        Args:
            image: (D,) float32 of length 1.
            question: as it was asked.
            chunks: parts of the answers to compare with; None for all.

        Returns:
            (A,) float32, cosines times the logit scale.
        """
        begin, parts = self.matcher.text.words(self.begin(question)), self._ends.split(self.matcher.batch)[:chunks]
        texts = [self.matcher.encode_joined(begin, part) for part in parts]
        return torch.cat([part @ image for part in texts]) * self.matcher.text.logit_scale

    def choose(self, images: Tensor, image_index: Sequence[int], questions: Sequence[str]) -> list[str]:
        """Answer questions.

        Args:
            images: (N, D) float32 of length 1.
            image_index: which of them each question is about.
            questions: as many texts.

        Returns:
            The answer to each.
        """
        chosen = []
        with progress_of(f"zero-shot {self.matcher.label}", len(questions), 0, QUESTIONS) as show:
            for done, (index, question) in enumerate(zip(image_index, questions, strict=True), 1):
                chosen.append(self.logits(images[index], question).argmax())
                show(done)
        return [self.answers[index] for index in torch.stack(chosen).tolist()]

    def estimate_s(self, image: Tensor, questions: Sequence[str]) -> float:
        """Return about how long questions take, from one part of the answers to the longest of the first ones."""
        question = max(questions[:16], key=len)
        for _ in range(2):  # the first warms up
            begun_s = self.matcher.synchronized_s()
            self.logits(image, question, chunks=1)
            elapsed_s = self.matcher.synchronized_s() - begun_s
        per_text_s = elapsed_s / min(len(self.answers), self.matcher.batch)
        return per_text_s * len(self.answers) * len(questions)


def main(argv: list[str]) -> None:
    """Run ``zeroshot``."""
    config = tyro.cli(ZeroShotConfig, args=argv, prog=PROG)
    if config.out is not None:
        read_rows(config.out)  # another file of this name is told of now, not after the work
    matcher = Matcher.create(config)  # before any data: weights may be missing
    dataset = find_dataset(config.dataset)
    row = DATASETS[dataset]
    split = config.split or row.val
    everything = questions_of(dataset, split)
    require_answers(everything, split)
    questions = [everything[i] for i in drawn(len(everything), config.limit, config.seed)]
    answers = candidates(config, dataset)
    keys = list(dict.fromkeys(question.image for question in questions))
    images = matcher.encode_images(find_images(folder_of(dataset), row.images, keys))
    chosen = _answer(ZeroShot(matcher, answers, config.prompt), questions, keys, images)
    metrics = score(questions, chosen, config.normalization)
    origin = {"features": matcher.label, "weights": matcher.text.weights, "num_questions": len(questions)}
    found = {config.row: metrics | origin | {"seed": config.seed, "num_answers": len(answers)}}
    of = "" if len(questions) == len(everything) else f" of {len(everything):,}, drawn with seed {config.seed}"
    title = f"{dataset}: {config.normalization} accuracy on {len(questions):,} questions{of}; {len(answers):,} answers"
    print_tables([models_table(title, {split: found})])
    if config.out is not None:
        add_rows(config.out, split, found)
        log.logger.info("row %s of %s: %s", config.row, split, config.out)


def candidates(config: ZeroShotConfig, dataset: str) -> list[str]:
    """Return the answers to choose from, ``<unk>`` left out."""
    if config.answers is not None:
        vocabulary = AnswerVocabulary.read(config.answers)
    else:
        row = DATASETS[dataset]
        vocabulary = AnswerVocabulary.build(questions_of(dataset, row.vocabulary), row.more_than)
    found = [answer for index, answer in enumerate(vocabulary.answers) if index != vocabulary.unknown]
    if not found:
        raise InputError(f"answers to choose from must be there, got none but <unk> in {config.answers}")
    return found


def _answer(zero_shot: ZeroShot, questions: Sequence[Question], keys: Sequence[str], images: Tensor) -> list[str]:
    """Tell what it will cost, and answer."""
    texts, place = [question.text for question in questions], {key: row for row, key in enumerate(keys)}
    index = [place[question.image] for question in questions]
    num_texts, seconds = len(texts) * len(zero_shot.answers), zero_shot.estimate_s(images[index[0]], texts)
    log.logger.info(
        f"{len(texts):,} questions x {len(zero_shot.answers):,} answers = {num_texts:,} texts, about {spoken(seconds)} "
        f"on {zero_shot.matcher.device.type}; --limit N asks fewer questions"
    )
    return zero_shot.choose(images, index, texts)


def spoken(seconds: float) -> str:
    """Say how long something takes, in one unit."""
    for unit, unit_s in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"
