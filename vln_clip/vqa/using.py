"""Using trained VQA models: scores, result files, and pictures of what they looked at."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from vln_clip import log
from vln_clip.devices import pick_device
from vln_clip.errors import InputError
from vln_clip.image_grids import BLIND
from vln_clip.report import models_table
from vln_clip.tables import print_tables
from vln_clip.tasks.vqa.accuracy import vqa_accuracy
from vln_clip.tasks.vqa.questions import Question
from vln_clip.tasks.vqa.results import read_results, validate_results, write_results
from vln_clip.trained import find_stages
from vln_clip.vqa.answering import Answerer, score
from vln_clip.vqa.data import DATASETS, find_dataset, questions_of, require_answers
from vln_clip.vqa.model import QUESTION_ONLY, load
from vln_clip.vqa.pictures import draw_answers

PROG = "python -m vln_clip.vqa"


@dataclass(frozen=True)
class Evaluate:
    """Score the models of a run, or a result file, on a split with public answers."""

    checkpoint: Path | None = None
    """run's folder, or that of one checkpoint"""
    results: Path | None = None
    """result file to score in place of a checkpoint"""
    dataset: str = "auto"
    """of --results: vqa, gqa, vqa_lxmert, gqa_lxmert, demo"""
    split: str | None = None
    """by default the one that validates"""
    normalization: Literal["official", "openvqa"] = "official"
    """of answers before they are compared"""
    by_question_type: bool = False
    """also print the accuracy of each type of question"""
    pictures: Path | None = None
    """draw here what the model looked at, for some questions of the split"""
    num_pictures: int = 24
    """questions that are drawn"""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto takes a GPU where there is one"""


@dataclass(frozen=True)
class Predict:
    """Write the result file of a split as EvalAI takes it, or check one."""

    checkpoint: Path | None = None
    """run's folder, or that of one checkpoint"""
    split: str | None = None
    """by default the test split"""
    out: Path | None = None
    """file to write; by default results_SPLIT.json in the working folder"""
    validate: Path | None = None
    """result file to check in place of writing one"""
    dataset: str = "auto"
    """of --validate: vqa, gqa, vqa_lxmert, gqa_lxmert, demo"""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto takes a GPU where there is one"""


def evaluate(argv: list[str]) -> None:
    """Run ``evaluate``."""
    config = tyro.cli(Evaluate, args=argv, prog=f"{PROG} evaluate")
    _require_one(config.checkpoint, config.results, "--checkpoint", "--results")
    if config.results is not None:
        _evaluate_file(config, config.results)
        return
    assert config.checkpoint is not None
    rows, device = {}, pick_device(config.device)
    for name, folder in find_stages(config.checkpoint).items():
        model, data, info = load(folder, device)
        split = config.split or data.row.val
        questions = data.questions(split)
        require_answers(questions, split)
        answerer = Answerer(model, data, info["features_wanted"] != BLIND)
        answers = answerer.answers(data.table(split))
        rows[name] = score(questions, answers, config.normalization) | {"features": info["features"]}
        if config.by_question_type:
            _print_types(name, questions, dict(zip([q.question_id for q in questions], answers, strict=True)), config)
        if config.pictures is not None and name != QUESTION_ONLY:
            draw_answers(answerer, split, config.pictures, config.num_pictures)
            log.logger.info("pictures of what %s looked at are in %s", name, config.pictures)
    print_tables([models_table(f"{config.checkpoint}: {config.normalization} accuracy", {split: rows})])


def predict(argv: list[str]) -> None:
    """Run ``predict``."""
    config = tyro.cli(Predict, args=argv, prog=f"{PROG} predict")
    _require_one(config.checkpoint, config.validate, "--checkpoint", "--validate")
    if config.validate is not None:
        _validate(config, config.validate)
        return
    assert config.checkpoint is not None
    stages = find_stages(config.checkpoint)
    name = next((name for name in stages if name != QUESTION_ONLY), next(iter(stages)))
    model, data, info = load(stages[name], pick_device(config.device))
    split = config.split or data.row.test
    answerer = Answerer(model, data, info["features_wanted"] != BLIND)
    out = config.out or Path(f"results_{split}.json")
    write_results(out, data.questions(split), answerer.answers(data.table(split)), data.row.style)
    log.logger.info("%d answers of %s (%s): %s", len(data.questions(split)), name, info["features"], out)


def _evaluate_file(config: Evaluate, path: Path) -> None:
    """Score a result file."""
    dataset = find_dataset(config.dataset)
    split = config.split or DATASETS[dataset].val
    questions = questions_of(dataset, split)
    require_answers(questions, split)
    answers = read_results(path, questions, DATASETS[dataset].style)
    found = vqa_accuracy(questions, answers, config.normalization)
    if config.by_question_type:
        _print_types(path.name, questions, answers, config)
    print_tables([models_table(f"{path}: {config.normalization} accuracy", {split: {path.stem: found.metrics}})])


def _validate(config: Predict, path: Path) -> None:
    """Check a result file; exit status 2 where a server would refuse it."""
    dataset = find_dataset(config.dataset)
    split = config.split or DATASETS[dataset].test
    report = validate_results(path, questions_of(dataset, split), DATASETS[dataset].style)
    print(report)
    if report.problems:
        raise SystemExit(2)


def _print_types(name: str, questions: list[Question], answers: dict[int | str, str], config: Evaluate) -> None:
    found = vqa_accuracy(questions, answers, config.normalization)
    print(f"{name}, by question type:")
    for kind, value in sorted(found.by_question_type.items(), key=lambda item: -item[1]):
        print(f"  {kind:<28}{100 * value:>7.2f}")


def _require_one(first: Path | None, second: Path | None, *names: str) -> None:
    if (first is None) == (second is None):
        raise InputError(f"one of {' and '.join(names)} must be given, got {'none' if first is None else 'both'}")
