"""Models of a CLIP-ViL_p run: built for its data, saved with what they need to be used again, and loaded."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from vln_clip import checkpoint, log
from vln_clip.encoders import Encoder, create_encoder
from vln_clip.errors import InputError
from vln_clip.pretrain.config import PUBLISHED, RANDOM, SCRATCH, PretrainConfig, settings_of
from vln_clip.pretrain.data import VilData
from vln_clip.pretrain.datasets import SNLI_VE
from vln_clip.pretrain.job import LAST, SECOND
from vln_clip.run import CHECKPOINTS
from vln_clip.tasks.pretraining.models import DEMO_SIZES, Classifier, ClipVil, PretrainingModel, VilSizes
from vln_clip.tasks.pretraining.models.bert import load_bert
from vln_clip.tasks.pretraining.models.heads import answer_head
from vln_clip.tasks.pretraining.models.public import read_public_checkpoint
from vln_clip.tasks.pretraining.models.surgery import take_answer_rows
from vln_clip.tasks.pretraining.pieces import WordPieces
from vln_clip.tasks.vqa.answers import normalize_lxmert
from vln_clip.tasks.vqa.vocabulary import AnswerVocabulary

Model = TypeVar("Model", PretrainingModel, Classifier)
TASK, PROG = "vil", "python -m vln_clip.pretrain"
_HEAD = "answers."
_BERT_HEADS = ("words.", "matching.")


def build_pretraining(config: PretrainConfig, data: VilData, seed: int, weights: bool = True) -> PretrainingModel:
    """Build the model of both stages of pre-training; arguments as for ``build_classifier``."""

    def build() -> PretrainingModel:
        return PretrainingModel(_vil(config, data, config.num_patches, weights), len(data.answers))

    return _built(build, config, data, seed, weights)


def build_classifier(config: PretrainConfig, data: VilData, task: str, seed: int, weights: bool = True) -> Classifier:
    """Build the model of a task; it sees every cell of the map.

    Args:
        config: of the run.
        data: whose labels it tells.
        task: of ``config.TASKS``.
        seed: of random weights.
        weights: whether encoder and BERT get theirs; not where a checkpoint follows.
    """
    return _built(
        lambda: Classifier(_vil(config, data, None, weights), len(data.labels(task))), config, data, seed, weights
    )


def _built(build: Callable[[], Model], config: PretrainConfig, data: VilData, seed: int, weights: bool = True) -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build()
    if weights and config.bert != SCRATCH:
        report = load_bert(model, config.bert)
        absent = [name for name in report.missing if name.startswith(_BERT_HEADS)]
        log.logger.info(
            "BERT %s: %d tensors used; missing, and so random: %s",
            *(config.bert, len(report.used), ", ".join(absent) or "none"),
        )
    elif weights:
        with torch.no_grad():
            model.vil.visual.standardize(model.vil.encoder.eval().grid(data.some_images().cpu()))
            model.vil.train()
    if config.freeze_encoder:
        model.vil.encoder.requires_grad_(False)
    # Convolutions are faster by half with channels last, on CPUs and GPUs alike; see ``VilData.scale``.
    model.vil.encoder.to(memory_format=torch.channels_last)
    return model.to(data.device)


def _vil(config: PretrainConfig, data: VilData, num_patches: int | None, weights: bool = True) -> ClipVil:
    encoder = make_encoder(config.encoder, config.encoder_weights if weights else RANDOM)
    frozen = config.freeze_encoder or config.freeze_batch_norm
    sizes = sizes_of(config, len(data.pieces))
    return ClipVil(
        encoder, sizes, num_patches=num_patches, checkpointing=config.checkpointing, freeze_batch_norm=frozen
    )


def sizes_of(config: PretrainConfig, vocab_size: int) -> VilSizes:
    """Return the sizes of a run's BERT."""
    return VilSizes(vocab_size) if config.size == "paper" else replace(DEMO_SIZES, vocab_size=vocab_size)


def make_encoder(name: str, weights: str) -> Encoder:
    """Make the encoder that learns.

    Raises:
        InputError: it has no weights that could learn, or those wanted are not there.
    """
    pretrained = {PUBLISHED: True, RANDOM: False}.get(weights, weights)
    encoder = create_encoder(name, pretrained)
    if not encoder.trainable:
        raise InputError(f"--encoder must have weights that can learn, got {name}, which has none; take clip_demo")
    return encoder.train()


def start_from(model: Classifier, source: Path, config: PretrainConfig, data: VilData, task: str) -> None:
    """Give a fine-tuned model the weights of a pre-trained one; of its answer head those rows that it knows.

    Args:
        model: of the task.
        source: folder of a run or of a checkpoint of this program, or a public ``.pth`` file.
        config: of the run.
        data: whose labels the model tells.
        task: of ``config.TASKS``.

    Raises:
        InputError: it is of another encoder or size, or of other word pieces.
    """
    weights, known = _public(source, config, data) if source.is_file() else _own(source, data)
    own = model.vil.state_dict()
    found = {name.removeprefix("vil."): value for name, value in weights.items() if name.startswith("vil.")}
    if source.is_file():
        found = own | found  # what such a file may lack, an encoder for one, stays as it is
    for name, value in own.items():
        if name not in found or found[name].shape != value.shape:
            there = tuple(found[name].shape) if name in found else "nothing"
            raise InputError(
                f"{source} must be pre-trained with this encoder and size: {name} is {tuple(value.shape)} here and "
                f"{there} there; give the --encoder, --size and --bert that it was trained with"
            )
    model.vil.load_state_dict(found)
    head = {name.removeprefix(_HEAD): value for name, value in weights.items() if name.startswith(_HEAD)}
    if task == SNLI_VE or not head:
        return
    pretrained = answer_head(model.vil.sizes.width, len(known))
    pretrained.load_state_dict(head)
    labels = data.labels(task).answers
    count = take_answer_rows(pretrained, known, model.head, labels, normalize_lxmert)
    log.logger.info("%s: %d of %d answers are known from pre-training", task, count, len(labels))


def _own(source: Path, data: VilData) -> tuple[dict[str, Tensor], Sequence[str]]:
    """Return weights and answers of a model that this program has pre-trained."""
    inside = source / CHECKPOINTS / SECOND / LAST
    saved = checkpoint.load(inside if inside.is_dir() else source)
    info = saved.header
    if info.get("task") != TASK or info.get("tells") is not None:
        raise InputError(f"--init must be a pre-trained model of {PROG}, got {source} of another program or task")
    if info["pieces"] != list(data.pieces.words):
        raise InputError(
            f"--init must be a model of this run's word pieces, got {source} of others; give the --bert that it was "
            "trained with, and with scratch its --sources"
        )
    return saved.weights, info["answers"]


def _public(source: Path, config: PretrainConfig, data: VilData) -> tuple[dict[str, Tensor], Sequence[str]]:
    """Return weights and answers of a public checkpoint; what it lacks is not there, nor a head that lacks a part."""
    model = build_pretraining(config, data, seed=0, weights=False)
    report = read_public_checkpoint(source, model)
    log.logger.info(
        "%s: %d tensors used; unused: %s; missing: %s",
        *(source, len(report.used), ", ".join(report.unused) or "none", ", ".join(report.missing) or "none"),
    )
    absent = set(report.missing)
    if any(name.startswith(_HEAD) for name in absent):
        absent |= {name for name in model.state_dict() if name.startswith(_HEAD)}
    weights = {name: value for name, value in model.state_dict().items() if name not in absent}
    return weights, data.answers.answers


def header(config: PretrainConfig, data: VilData, task: str | None) -> dict[str, Any]:
    """Return what a checkpoint must know to be used again.

    Args:
        config: of the run.
        data: of the run.
        task: that the model tells labels of; None for a pre-trained one.
    """
    return {
        "task": TASK,
        "tells": task,
        "dataset": config.dataset,
        "features": data.encoder_used(),
        "pieces": list(data.pieces.words),
        "answers": list(data.answers.answers) if task is None else None,
        "labels": None if task is None else list(data.labels(task).answers),
        "sizes": asdict(sizes_of(config, len(data.pieces))),
        "data": data.fingerprint(task),
        "config": config.to_json(),
        "seed": config.seed,
    }


def load(folder: Path, device: torch.device) -> tuple[Classifier, VilData, str]:
    """Load a fine-tuned model with the data of its task.

    Returns:
        The model in evaluation mode, the data, and the task.

    Raises:
        InputError: no such checkpoint, or one of another program or of pre-training.
    """
    saved = checkpoint.load(folder)
    info = saved.header
    if info.get("task") != TASK or info.get("tells") is None:
        raise InputError(f"{folder} must be a fine-tuned checkpoint of python -m vln_clip.pretrain, got another one")
    config = settings_of(info["config"])
    labels = {info["tells"]: AnswerVocabulary(info["labels"])}
    data = VilData(config, device, WordPieces(info["pieces"]), labels)
    model = build_classifier(config, data, info["tells"], seed=0, weights=False)
    checkpoint.restore_weights(model, saved.weights, folder)
    return model.eval(), data, info["tells"]
