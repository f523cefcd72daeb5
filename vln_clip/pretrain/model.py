"""Models of a CLIP-ViL_p run: built for its data, saved with what they need to be used again, and loaded."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vln_clip import checkpoint
from vln_clip.encoders import Encoder, create_encoder
from vln_clip.errors import InputError
from vln_clip.log import logger
from vln_clip.pretrain.config import PUBLISHED, RANDOM, SCRATCH, PretrainConfig, settings_of
from vln_clip.pretrain.data import VilData
from vln_clip.tasks.pretraining.models import DEMO_SIZES, Classifier, ClipVil, PretrainingModel, VilSizes
from vln_clip.tasks.pretraining.models.heads import answer_head
from vln_clip.tasks.pretraining.pieces import WordPieces
from vln_clip.tasks.vqa.answers import normalize_lxmert
from vln_clip.tasks.vqa.vocabulary import AnswerVocabulary

Model = TypeVar("Model", bound=nn.Module)
TASK = "vil"


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
        load_bert(model, config.bert)
    if config.freeze_encoder:
        model.vil.encoder.requires_grad_(False)
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


def start_from(model: Classifier, source: Path, data: VilData, task: str) -> None:
    """Give a fine-tuned model the weights of a pre-trained one; of its answer head those rows that it knows.

    Args:
        model: of the task.
        source: folder of a checkpoint of this program, or a public ``.pth`` file.
        data: whose labels the model tells.
        task: of ``config.TASKS``.

    Raises:
        InputError: it is of another encoder or size.
    """
    if source.is_file():
        report = read_public_checkpoint(source, model)
        logger.info("%s: %s", source, report)
        return
    saved = checkpoint.load(source)
    info = saved.header
    if info.get("task") != TASK or info.get("stage_of") is not None:
        raise InputError(f"--init must be a pre-trained model of {TASK}, got {source} of another program or task")
    own = model.vil.state_dict()
    weights = {name.removeprefix("vil."): v for name, v in saved.weights.items() if name.startswith("vil.")}
    for name, value in own.items():
        if name not in weights or weights[name].shape != value.shape:
            found = tuple(weights[name].shape) if name in weights else "nothing"
            raise InputError(
                f"{source} must be pre-trained with this encoder and size: {name} is {tuple(value.shape)} here and "
                f"{found} there; give the --encoder, --size and --bert that it was trained with"
            )
    model.vil.load_state_dict(weights)
    if task != "snli_ve":
        _take_answers(model, saved.weights, info["answers"], data.labels(task).answers)


def _take_answers(model: Classifier, weights: dict[str, Tensor], known: list[str], wanted: Sequence[str]) -> None:
    """Give the head of a task the rows of the pre-trained head; see ``take_answer_rows``."""
    head = answer_head(model.vil.sizes.width, len(known))
    head.load_state_dict(
        {name.removeprefix("answers."): v for name, v in weights.items() if name.startswith("answers.")}
    )
    found = take_answer_rows(head, known, model.head, wanted, normalize_lxmert)
    logger.info("answer head: %d of %d answers are known from pre-training", found, len(wanted))


def header(config: PretrainConfig, data: VilData, task: str | None) -> dict[str, Any]:
    """Return what a checkpoint must know to be used again.

    Args:
        config: of the run.
        data: of the run.
        task: that the model tells labels of; None for a pre-trained one.
    """
    return {
        "task": TASK,
        "stage_of": task,
        "dataset": config.dataset,
        "features": data.encoder_used(),
        "pieces": list(data.pieces.words),
        "answers": list(data.answers.answers),
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
    if info.get("task") != TASK or info.get("stage_of") is None:
        raise InputError(f"{folder} must be a fine-tuned checkpoint of python -m vln_clip.pretrain, got another one")
    config = settings_of(info["config"])
    labels = {info["stage_of"]: AnswerVocabulary(info["labels"])}
    data = VilData(config, device, WordPieces(info["pieces"]), labels)
    model = build_classifier(config, data, info["stage_of"], seed=0, weights=False)
    checkpoint.restore_weights(model, saved.weights, folder)
    return model.eval(), data, info["stage_of"]
