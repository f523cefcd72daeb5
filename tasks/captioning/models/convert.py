"""Public captioning checkpoints (CLIP-ViL, ImageCaptioning.pytorch) as a ``CaptionTransformer``, specification §3.6b.

Only the state dict is read, ``model-best.pth``, never the pickle ``infos_*.pkl`` beside it: the words are also in
``cocotalk.json``, which the caption vocabulary reads. Every tensor must be used and every weight found.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vln_clip.encoders.weights import read_state_dict
from vln_clip.errors import InputError
from vln_clip.tasks.captioning.models.layers import sinusoids
from vln_clip.tasks.captioning.models.transformer import MAX_POSITIONS, CaptionTransformer

NUM_HEADS = 8  # of all public checkpoints; their tensors do not tell
POSITIONS = "model.tgt_embed.1.pe"
WORDS = "model.tgt_embed.0.lut.weight"
VISUAL = "att_embed.0.weight"
ENCODER_ATTENTIONS = (("attention", "self_attn"),)  # our names and theirs, in the order of sub-layers
DECODER_ATTENTIONS = (("words", "self_attn"), ("image", "src_attn"))
POSITION_TOLERANCE = 1e-3  # angles up to 500 in single precision, taken by other libraries


@dataclass(frozen=True, eq=False)
class Converted:
    """A public checkpoint.

    Attributes:
        model: with its weights, on the CPU in float32.
        used: each weight of the model and the tensors of the file that it was made of.
    """

    model: CaptionTransformer
    used: dict[str, tuple[str, ...]]


def convert_checkpoint(path: Path, vocabulary_size: int, num_heads: int = NUM_HEADS) -> Converted:
    """Read a public checkpoint.

    Args:
        path: a state dict saved by torch, such as ``model-best.pth``.
        vocabulary_size: indices of the vocabulary that belongs to it, 0 included.
        num_heads: H of its attention.

    Raises:
        InputError: the file is no such checkpoint, not whole, or of another vocabulary.
    """
    tensors = read_state_dict(path)
    for name, value in tensors.items():
        if not value.is_floating_point() or not value.is_contiguous() or not value.isfinite().all():
            raise InputError(f"captioning checkpoint {path}: {name} must hold finite numbers in one block, got others")
    sizes = _sizes(path, tensors, num_heads)
    if sizes["vocabulary_size"] != vocabulary_size:
        raise InputError(
            f"captioning checkpoint {path} has {sizes['vocabulary_size']:,} indices of words, the vocabulary "
            f"{vocabulary_size:,}; take the cocotalk.json that it was trained with"
        )
    used = dict(_sources(sizes["num_layers"]))
    known = {name for sources in used.values() for name in sources} | {POSITIONS}
    for name in tensors:
        if name not in known:
            raise InputError(f"captioning checkpoint {path} must hold the public Transformer and no more, got {name}")
    weights = {target: _weight(path, tensors, target, names, sizes) for target, names in used.items()}
    _check_positions(path, tensors, words=weights["embedding.weight"])
    with torch.random.fork_rng(devices=[]):  # PyTorch's generator stays where it is
        model = CaptionTransformer(norm="reference", **sizes)
    model.load_state_dict(weights)
    return Converted(model, used)


def _sizes(path: Path, tensors: dict[str, Tensor], num_heads: int) -> dict[str, int]:
    """Return the sizes of the model that some of the tensors tell of."""
    inner = "model.encoder.layers.0.feed_forward.w_1.weight"
    for name in (WORDS, inner, VISUAL):
        value = _get(path, tensors, name)
        if value.ndim != 2 or not value.numel():
            raise InputError(f"captioning checkpoint {path}: {name} must be a matrix, got {tuple(value.shape)}")
    vocabulary_size, width = tensors[WORDS].shape
    if width % 2 or width % num_heads:
        raise InputError(
            f"captioning checkpoint {path}: the width of words must be even and a multiple of the {num_heads} heads, "
            f"got {width}"
        )
    layers = {match[1] for name in tensors if (match := re.match(r"model\.encoder\.layers\.(\d+)\.", name))}
    return {
        "vocabulary_size": vocabulary_size,
        "grid_width": tensors[VISUAL].shape[1],
        "width": width,
        "hidden_width": len(tensors[inner]),
        "num_layers": len(layers),
        "num_heads": num_heads,
    }


def _weight(
    path: Path, tensors: dict[str, Tensor], target: str, names: tuple[str, ...], sizes: dict[str, int]
) -> Tensor:
    """Return a weight of the model, made of tensors of the file, each an equal share of its rows."""
    rows, *rest = _shape(target, sizes)
    wanted = (rows // len(names), *rest)
    for name in names:
        found = tuple(_get(path, tensors, name).shape)
        if found != wanted:
            raise InputError(f"captioning checkpoint {path}: {name} must be {wanted}, got {found}")
    return torch.cat([tensors[name] for name in names])


def _shape(target: str, sizes: dict[str, int]) -> tuple[int, ...]:
    """Return the shape of a weight of the model."""
    W, D, F = sizes["vocabulary_size"], sizes["width"], sizes["hidden_width"]
    shapes = {
        "visual.weight": (D, sizes["grid_width"]),
        "embedding.weight": (W, D),
        "words.weight": (W, D),
        "words.bias": (W,),
        "inputs.weight": (3 * D, D),
        "inputs.bias": (3 * D,),
        "output.weight": (D, D),
        "inner.weight": (F, D),
        "inner.bias": (F,),
        "outer.weight": (D, F),
    }
    ending = ".".join(target.split(".")[-2:])
    return shapes.get(ending, (D,))


def _get(path: Path, tensors: dict[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise InputError(f"captioning checkpoint {path} must hold the public Transformer, but {name} is not there")
    return tensors[name]


def _check_positions(path: Path, tensors: dict[str, Tensor], words: Tensor) -> None:
    """Refuse another positional encoding than that of the model, which is computed."""
    found, width = _get(path, tensors, POSITIONS), words.shape[1]
    if found.ndim != 3 or found.shape[::2] != (1, width):
        shape = tuple(found.shape)
        raise InputError(f"captioning checkpoint {path}: {POSITIONS} must be (1, positions, {width}), got {shape}")
    own = found[0, :MAX_POSITIONS].float()
    if not torch.allclose(own, sinusoids(len(own), width), rtol=0, atol=POSITION_TOLERANCE):
        raise InputError(f"captioning checkpoint {path}: {POSITIONS} must interleave sines and cosines, got others")


def _sources(num_layers: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield every weight of a model and the tensors of the file that it is made of, one below the other."""
    yield "embedding.weight", (WORDS,)
    yield from _linear("visual", "att_embed.0")
    yield from _linear("words", "model.generator.proj")
    for stack, attentions in (("encoder", ENCODER_ATTENTIONS), ("decoder", DECODER_ATTENTIONS)):
        yield from _norm(f"{stack}_norm", f"model.{stack}.norm")
        for index in range(num_layers):
            own, public = f"{stack}.{index}", f"model.{stack}.layers.{index}"
            for place, (ours, theirs) in enumerate(attentions):
                yield from _linear(f"{own}.{ours}.inputs", *[f"{public}.{theirs}.linears.{i}" for i in range(3)])
                yield from _linear(f"{own}.{ours}.output", f"{public}.{theirs}.linears.3")
                yield from _norm(f"{own}.{ours}_norm", f"{public}.sublayer.{place}.norm")
            yield from _linear(f"{own}.feed_forward.inner", f"{public}.feed_forward.w_1")
            yield from _linear(f"{own}.feed_forward.outer", f"{public}.feed_forward.w_2")
            yield from _norm(f"{own}.feed_forward_norm", f"{public}.sublayer.{len(attentions)}.norm")


def _linear(own: str, *public: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for kind in ("weight", "bias"):
        yield f"{own}.{kind}", tuple(f"{name}.{kind}" for name in public)


def _norm(own: str, public: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield f"{own}.weight", (f"{public}.a_2",)
    yield f"{own}.bias", (f"{public}.b_2",)
