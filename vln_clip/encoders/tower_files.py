"""Towers of one's own under the name ``tower:PATH``: a fine-tuned or pre-trained encoder in one file.

A file is safetensors with the image tower's state dict and, for a CLIP, perhaps its text tower's below ``text.`` and
the ``logit_scale``. Its metadata is one entry ``tower``, JSON: the registry name of the architecture, how it pools,
where the weights come from, a note, and a digest of all that its outputs depend on, which is what cached features are
kept under. Equal towers are equal files, but for what they say of their origin.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import safetensors
import torch
from torch import Tensor, nn

from vln_clip import files
from vln_clip.encoders.base import Encoder, Tap, pool_from
from vln_clip.errors import InputError
from vln_clip.reading import loads

if TYPE_CHECKING:
    from vln_clip.encoders.text import TextEncoder

PREFIX = "tower"
FORMAT = "vln_clip.tower/1"
_ENTRY = "tower"
_TEXT, _SCALE = "text.", "logit_scale"
Pooling = Literal["own", "mean"]


@dataclass(frozen=True)
class TowerHeader:
    """What a file says of its tower.

    Attributes:
        encoder: registry name of the architecture.
        pooling: ``own`` pools as the architecture does, ``mean`` averages its map over the cells.
        weights: where the weights come from, as ``Encoder.weights`` of the tower that was saved.
        note: free text: what was trained, on what.
        sha256: digest of architecture, pooling and tensors.
        format: version of the format.
    """

    encoder: str
    pooling: Pooling
    weights: str
    note: str
    sha256: str
    format: str = FORMAT


class MeanPooled(Encoder):
    """A tower whose ``pooled`` is the mean of its map over the cells, (B, C) with the width of the grid.

    CLIP-ViL_p trains the tower through its grid alone: the layer that pools it (a ResNet's attention pool) stays what
    it was, while the map that it reads has moved.
    """

    def __init__(self, tower: Encoder):
        super().__init__()
        self.tower = tower
        self.name, self.architecture, self.weights = tower.name, tower.architecture, tower.weights
        self.pooled_width = self.grid_width = tower.grid_width
        self.image_size_px, self.transform, self.trainable = tower.image_size_px, tower.transform, tower.trainable
        self.for_small_images = tower.for_small_images
        self.num_blocks, self.min_side_px, self.pooling = tower.num_blocks, tower.min_side_px, "mean of the map"

    def pooled(self, images: Tensor) -> Tensor:
        """Return the mean of the map, (B, C); see ``Encoder.pooled``."""
        return self.grid(images).mean((2, 3))

    def grid(self, images: Tensor) -> Tensor:
        """Return the tower's map; see ``Encoder.grid``."""
        return self.tower.grid(images)

    def tapped_grid(self, images: Tensor, tap: Tap) -> Tensor:
        """Return a map of the tower; see ``Encoder.tapped_grid``."""
        return self.tower.tapped_grid(images, tap)

    def pooled_with_map(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``pooled`` as a function of the map; see ``Encoder.pooled_with_map``."""
        with torch.no_grad():
            grid = self.grid(images)
        return pool_from(grid, lambda leaf: leaf.mean((2, 3)))


def save_tower(
    encoder: Encoder,
    path: Path | str,
    note: str = "",
    *,
    pooling: Pooling | None = None,
    text: "TextEncoder | None" = None,
) -> Path:
    """Write a tower where ``create_encoder("tower:PATH")`` finds it.

    Args:
        encoder: made by ``create_encoder``, with whatever weights it has now.
        path: of the file.
        note: what was trained, on what; free text.
        pooling: how ``pooled`` of the file shall come about; None keeps the encoder's way. A tower that was trained
            through its grid alone, as CLIP-ViL_p trains it, has an attention pool that does not fit its map any more:
            ``mean`` may serve better there.
        text: the text tower that belongs to it.

    Returns:
        The path.

    Raises:
        InputError: the encoder has no weights, some are not finite, the text tower has a list of words of its own, or
            the file cannot be written.
    """
    if not encoder.trainable:
        raise InputError(f"a tower file needs an encoder with weights, got {encoder.name} which is a fixed function")
    kept: Pooling = pooling or pooling_of(encoder)
    tensors = dict(network_of(encoder).state_dict())
    if text is not None:
        _require_own_words(text, architecture_of(encoder))
        tensors |= {f"{_TEXT}{name}": value for name, value in text.tower.state_dict().items()}
        tensors[_SCALE] = torch.tensor(text.logit_scale).log()
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    bad = [name for name, value in tensors.items() if not bool(value.isfinite().all())]
    if bad:
        raise InputError(f"weights of {encoder.name} must be finite, got inf or nan in {len(bad)}, e.g. {bad[0]}")
    name = architecture_of(encoder)
    header = TowerHeader(name, kept, encoder.weights, note, _digest(name, kept, tensors))
    files.save_safetensors(Path(path), tensors, {_ENTRY: json.dumps(asdict(header), sort_keys=True)})
    return Path(path)


def _require_own_words(text: "TextEncoder", architecture: str) -> None:
    """Raise ``InputError`` where a file, which holds no words, would be read with others than the tower knows."""
    from vln_clip.encoders.table import create_text_encoder

    if text.word_list and text.word_list != create_text_encoder(architecture, False).word_list:
        raise InputError(
            f"a tower file needs a text tower with the words of {architecture} as this package has them, got "
            f"{text.weights} with others; save the image tower alone"
        )


def tower_digest(encoder: Encoder) -> str:
    """Return the digest that a file of this tower, without a text tower, would have."""
    tensors = {name: value.detach().cpu() for name, value in network_of(encoder).state_dict().items()}
    return _digest(architecture_of(encoder), pooling_of(encoder), tensors)


def network_of(encoder: Encoder) -> Encoder:
    """Return the encoder whose state dict a file holds."""
    return encoder.tower if isinstance(encoder, MeanPooled) else encoder


def architecture_of(encoder: Encoder) -> str:
    """Return the registry name of an encoder's network, also of one that came from a file."""
    return encoder.architecture or encoder.name


def pooling_of(encoder: Encoder) -> Pooling:
    """Return how ``pooled`` comes about, in the words of a header."""
    return "mean" if isinstance(encoder, MeanPooled) else "own"


def pooled_by(encoder: Encoder, pooling: Pooling) -> Encoder:
    """Return an encoder that pools as a header says."""
    return MeanPooled(encoder) if pooling == "mean" else encoder


def is_tower(name: str) -> bool:
    """Return whether a name is ``tower:PATH``."""
    prefix, _, path = name.partition(":")
    return prefix == PREFIX and path != ""


def tower_path(name: str) -> Path:
    """Return the file of ``tower:PATH``."""
    return Path(name.partition(":")[2]).expanduser().absolute()


def read_tower_header(path: Path) -> TowerHeader:
    """Read what a file says of its tower; no tensor is read.

    Raises:
        InputError: the file is missing, damaged or no tower.
    """
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"{PREFIX}:PATH must name a tower file, got {path} which {found}")
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            return _parse((opened.metadata() or {})[_ENTRY])
    except KeyError:
        raise InputError(
            f"{path} must be a tower file, got one without the entry {_ENTRY!r}; write it with save_tower, or give "
            "published weights to --weights"
        ) from None
    except (safetensors.SafetensorError, ValueError, RecursionError, OSError) as error:
        raise InputError(f"{path} must be a tower file, but can't be read: {error!s:.200}") from None


def _parse(entry: str) -> TowerHeader:
    content = loads(entry)
    if not isinstance(content, dict):
        raise ValueError("its header is no object")
    names = [item.name for item in fields(TowerHeader)]
    if not all(isinstance(content.get(name), str) for name in names):
        raise ValueError(f"its header must have the texts {', '.join(names)}")
    header = TowerHeader(**{name: content[name] for name in names})
    if header.format != FORMAT:
        raise ValueError(f"its format must be {FORMAT}, got {header.format!r:.40}")
    if header.pooling not in ("own", "mean"):
        raise ValueError(f"its pooling must be own or mean, got {header.pooling!r:.40}")
    if is_tower(header.encoder):
        raise ValueError(f"its encoder must be an architecture, got {header.encoder!r:.80}")
    if len(header.sha256) != 64 or not set(header.sha256) <= set("0123456789abcdef"):
        raise ValueError("its sha256 must have 64 hexadecimal digits")
    return header


def read_tower(path: Path) -> tuple[TowerHeader, dict[str, Tensor]]:
    """Read header and tensors of a file, and check the one against the other.

    Raises:
        InputError: the file is missing, damaged or no tower.
    """
    header = read_tower_header(path)
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
        if _digest(header.encoder, header.pooling, tensors) != header.sha256:
            raise ValueError("its digest is another; it was damaged or changed after it was written")
    except (safetensors.SafetensorError, ValueError, RuntimeError, OSError) as error:
        raise InputError(f"{path} must be a tower file, but can't be read: {error!s:.200}") from None
    return header, tensors


def describe_tower(path: Path) -> str:
    """Return how headers name the weights of a file."""
    return f"{path.name} sha256:{read_tower_header(path).sha256[:8]}"


def create(name: str, pretrained: bool | Path | str) -> Encoder:
    """Make the encoder of a file; see ``create_encoder``. Without ``pretrained`` its architecture, random."""
    from vln_clip.encoders.table import create_encoder

    path = _own_weights(name, pretrained)
    header = read_tower_header(path)
    encoder = create_encoder(header.encoder, False)
    if pretrained:
        header, tensors = read_tower(path)
        image = {key: value for key, value in tensors.items() if key != _SCALE and not key.startswith(_TEXT)}
        _load(encoder, image, path, f"the image tower of {header.encoder}")
        encoder.weights = f"{path.name} sha256:{header.sha256[:8]}"
    encoder.name, encoder.architecture = f"{PREFIX}:{path}", header.encoder
    return pooled_by(encoder, header.pooling)


def create_text(name: str, pretrained: bool | Path | str) -> "TextEncoder":
    """Make the text tower of a file; see ``create_text_encoder``."""
    from vln_clip.encoders.table import create_text_encoder

    path = _own_weights(name, pretrained)
    header, tensors = read_tower(path)
    encoder = create_text_encoder(header.encoder, False)
    if pretrained:
        own = {key.removeprefix(_TEXT): value for key, value in tensors.items() if key.startswith(_TEXT)}
        scale = tensors.get(_SCALE)
        if not own or scale is None or scale.numel() != 1:
            raise InputError(f"{path} must hold a text tower too, got an image tower alone; save both (save_tower)")
        _load(encoder.tower, own, path, f"the text tower of {header.encoder}")
        encoder.logit_scale = float(scale.float().exp())
        encoder.weights = f"{path.name} sha256:{header.sha256[:8]}"
    encoder.name = f"{PREFIX}:{path}"
    return encoder


def _own_weights(name: str, pretrained: bool | Path | str) -> Path:
    if not isinstance(pretrained, bool):
        raise InputError(f"{name} brings its weights, got {str(pretrained)!r} beside it; leave --weights out")
    return tower_path(name)


def _load(network: nn.Module, tensors: dict[str, Tensor], path: Path, what: str) -> None:
    """Load tensors in float32; other names or shapes are an ``InputError`` naming the first."""
    have = network.state_dict()
    wrong = [name for name in have.keys() & tensors.keys() if have[name].shape != tensors[name].shape]
    wrong += have.keys() ^ tensors.keys()
    if wrong:
        example = min(wrong)
        found, wanted = (tuple(part[example].shape) if example in part else "nothing" for part in (tensors, have))
        raise InputError(
            f"{path} must fit {what}, but {len(wrong)} tensors differ, e.g. {example}: expected {wanted}, found {found}"
        )
    network.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    )


def _digest(encoder: str, pooling: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of all that a tower's outputs depend on."""
    digest = hashlib.sha256(f"{encoder} {pooling}".encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
