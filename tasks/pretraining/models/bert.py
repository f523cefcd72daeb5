"""BERT's published weights as the beginning of a CLIP-ViL_p model, read by transformers."""

import re
from pathlib import Path
from typing import Any

import torch

from vln_clip.errors import InputError
from vln_clip.sources.download import offline
from vln_clip.tasks.pretraining.models.layers import NORM_EPS
from vln_clip.tasks.pretraining.models.loading import Kind, LoadReport, Model, load_named

KIND = Kind("BERT", re.compile(r"$^"), re.compile(r"vil\.(encoder|visual)\."))
BERT = "google-bert/bert-base-uncased"  # the paper's


def load_bert(model: Model, source: Path | str = BERT) -> LoadReport:
    """Put BERT's embeddings, layers, pooler and heads into a model; the encoder stays as it is.

    Args:
        model: of BERT's sizes.
        source: a folder with config.json and weights, or a name on the hub.

    Returns:
        What was used. Heads may be missing in the file, as in those of a ``BertModel``.

    Raises:
        InputError: nothing there, no BERT, or one of other sizes.
    """
    tensors, config = _read(source)
    sizes = model.vil.sizes
    wanted = {"hidden_act": "gelu", "layer_norm_eps": NORM_EPS, "num_attention_heads": sizes.num_heads}
    wanted |= {"num_hidden_layers": sizes.num_layers, "hidden_size": sizes.width, "vocab_size": sizes.vocab_size}
    for name, value in wanted.items():
        if getattr(config, name) != value:
            raise InputError(
                f"BERT {source} must have the model's {name} = {value}, got {getattr(config, name)}; build the model "
                "with the sizes in its config.json"
            )
    return load_named(model, tensors, KIND, str(source))


def _read(source: Path | str) -> tuple[dict[str, torch.Tensor], Any]:
    """Return the tensors that are really there, by name, and the configuration."""
    from transformers import AutoConfig, BertForPreTraining
    from transformers.utils import logging

    local = Path(source).is_dir()
    if not local and (isinstance(source, Path) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source)):
        raise InputError(f"BERT must be a folder with config.json and weights, or a name on the hub, got {source}")
    options: dict[str, Any] = {"local_files_only": local or offline()}
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what is missing is told by the report
    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(str(source), **options)
        if config.model_type != "bert":
            raise InputError(f"BERT {source} must be of model_type bert, got {config.model_type}")
        with torch.random.fork_rng(devices=[]):  # PyTorch's generator stays where it is
            loaded: Any = BertForPreTraining.from_pretrained(str(source), **options, output_loading_info=True)
            bert, info = loaded
    except InputError:
        raise
    except Exception as error:  # readers of json, of weights and of the hub fail in every way that Python knows
        raise InputError(_unreadable(source, local, error)) from error
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()
    absent = set(info["missing_keys"])
    return {name: value for name, value in bert.state_dict().items() if name not in absent}, config


def _unreadable(source: Path | str, local: bool, error: Exception) -> str:
    """Say why there is no BERT, in one sentence."""
    if local:
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160]}" if str(error).strip() else "it"
        return f"folder {source} must hold BERT's config.json and weights, got one that cannot be read ({reason})"
    why = "is not, and the network is switched off (VLN_CLIP_OFFLINE or HF_HUB_OFFLINE)"
    why = why if offline() else f"cannot be reached ({type(error).__name__})"
    return (
        f"BERT {source} must be on this machine or on the hub, but {why}; fetch its config.json, vocab.txt and "
        "model.safetensors elsewhere and name their folder"
    )
