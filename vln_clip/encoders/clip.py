"""CLIP image towers through open_clip: OpenAI's weights under short names, everything else as ``open_clip:ARCH/TAG``.

Position tables are resampled to the input's grid at run time, so both outputs work at any size.
"""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import timm
import torch
from open_clip.model import _build_vision_tower  # the text tower is not wanted and costs seconds to initialise
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn
from torch.func import functional_call

from vln_clip.encoders.attention import attended_blocks, attended_trunk
from vln_clip.encoders.base import (
    CLIP_MEAN,
    CLIP_STD,
    LAST,
    Attended,
    Crop,
    Encoder,
    Preprocess,
    Tap,
    pool_from,
    pool_from_block,
    with_class_token,
)
from vln_clip.encoders.towers import cut_patches, vit_grid
from vln_clip.encoders.weights import describe, fetch_weights, read_state_dict
from vln_clip.errors import InputError, unknown_name

# The "-quickgelu" spellings: without them open_clip computes another activation than the weights were trained with.
ARCHITECTURES = {
    "clip_rn50": "RN50-quickgelu",
    "clip_rn101": "RN101-quickgelu",
    "clip_rn50x4": "RN50x4-quickgelu",
    "clip_vit_b32": "ViT-B-32-quickgelu",
    "clip_vit_b16": "ViT-B-16-quickgelu",
    "clip_vit_l14": "ViT-L-14-quickgelu",
}
_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class ClipEncoder(Encoder):
    """One image tower of open_clip.

    ``pooled`` is the projected image embedding, not normalized. ``grid`` of a ResNet is layer4 after its last
    ReLU (five floor-halvings of the size); of a ViT the patch tokens of the last block before ``ln_post``
    (size // patch).
    """

    def __init__(self, name: str, visual: nn.Module, embed_dim: int, transform: Preprocess):
        super().__init__()
        self.name, self.pooled_width, self.transform = name, embed_dim, transform
        self.image_size_px = transform.size_px
        self.visual = visual
        self.is_resnet = isinstance(visual, open_clip.model.ModifiedResNet)
        self.pooling = "attention pool" if self.is_resnet else "class token"
        self.grid_width = _grid_width(visual)
        if self.trunk is not None:
            _make_dynamic(self.trunk)
        if isinstance(visual, open_clip.transformer.VisionTransformer):
            self.num_blocks, self.min_side_px = visual.transformer.layers, max(visual.patch_size)
        elif self.trunk is not None:
            self.num_blocks = len(self.trunk.blocks)
            self.min_side_px = max(self.trunk.patch_embed.patch_size)

    @property
    def trunk(self) -> timm.models.VisionTransformer | None:
        """Return the ViT of timm inside the tower, None for other towers."""
        trunk = getattr(self.visual, "trunk", None)
        return trunk if isinstance(trunk, timm.models.VisionTransformer) else None

    def pooled(self, images: Tensor) -> Tensor:
        """Return the projected embedding, (B, D); see ``Encoder.pooled``."""
        if self.is_resnet:
            return self._attention_pool(self.grid(images))
        if self.trunk is not None:
            images = cut_patches(self.trunk, images)
        return functional_call(self.visual, self._tables(images), (images,))

    def _attention_pool(self, grid: Tensor) -> Tensor:
        """Pool the map of a ResNet, (B, C, h', w') to (B, D)."""
        table = resample_table(self.visual.attnpool.positional_embedding, grid.shape[-2:])  # type: ignore
        return functional_call(self.visual.attnpool, {"positional_embedding": table}, (grid,))  # type: ignore

    def pooled_with_map(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``pooled`` as a function of a map; see ``Encoder.pooled_with_map``."""
        visual = self.visual
        if self.is_resnet:
            with torch.no_grad():
                grid = self.grid(images)
            return pool_from(grid, self._attention_pool)
        if not isinstance(visual, open_clip.transformer.VisionTransformer):
            return self._trunk_with_map(images)
        blocks = visual.transformer
        last, size = blocks.resblocks[-1], self._patches(images)
        return pool_from_block(last, lambda: self.pooled(images), size, 1, blocks.batch_first)

    def _trunk_with_map(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what ``pooled_with_map`` does where the tower is a convolutional network of timm."""
        visual: Any = self.visual
        with torch.no_grad():
            grid = visual.trunk.forward_features(images)
        if grid.ndim != 4 or grid.shape[1] != self.grid_width:
            return super().pooled_with_map(images)
        return pool_from(grid, lambda cells: visual.head(visual.trunk.forward_head(cells)))

    def pooled_with_attention(self, images: Tensor) -> Attended:
        """Return ``pooled`` as a function of all attention; see ``Encoder.pooled_with_attention``."""
        visual, found = self.visual, None
        run = partial(self.pooled, images)
        pools_class = isinstance(visual, open_clip.transformer.VisionTransformer) and visual.attn_pool is None
        if self.trunk is not None:
            found = attended_trunk(self.trunk, images, run)
        elif pools_class and visual.pool_type == "tok":
            found = attended_blocks(list(visual.transformer.resblocks), run, self._patches(images), 1)  # type: ignore
        return found or super().pooled_with_attention(images)

    def grid(self, images: Tensor) -> Tensor:
        """Return the last map, (B, C, h', w'); see ``Encoder.grid``."""
        return self.tapped_grid(images, LAST)

    def tapped_grid(self, images: Tensor, tap: Tap) -> Tensor:
        """Return a map of a ViT's tokens; see ``Encoder.tapped_grid``."""
        self.check_tap(tap)
        if self.trunk is not None:
            return vit_grid(self.name, self.trunk, images, tap)
        if not self.num_blocks and tap != LAST:
            return super().tapped_grid(images, tap)
        tables = {f"visual.{key}": table for key, table in self._tables(images).items()}
        return functional_call(_Map(self.visual, tap, self.num_blocks), tables, (images,))

    def _tables(self, images: Tensor) -> dict[str, Tensor]:
        """Return the ViT position table for the size of these images, nothing for other towers."""
        if not isinstance(self.visual, open_clip.transformer.VisionTransformer):
            return {}
        size = self._patches(images)
        return {"positional_embedding": resample_table(self.visual.positional_embedding, size, self.visual.grid_size)}

    def _patches(self, images: Tensor) -> tuple[int, int]:
        """Return height and width of the grid of patches of a ViT of open_clip."""
        height, width = self.visual.patch_size  # type: ignore[misc]
        return images.shape[-2] // height, images.shape[-1] // width


class _Map(nn.Module):
    """Ask a tower for one intermediate map; a module, so that ``functional_call`` reaches its parameters."""

    def __init__(self, visual: nn.Module, tap: Tap, num_blocks: int):
        super().__init__()
        self.visual, self.tap, self.num_blocks = visual, tap, num_blocks

    def forward(self, images: Tensor) -> Tensor:
        options: dict[str, Any] = {"indices": 1}
        if self.num_blocks:
            options = {"indices": [self.num_blocks + self.tap.layer], "stop_early": True}
            options |= {"normalize_intermediates": self.tap.ln_post, "output_extra_tokens": self.tap.keep_cls}
        outputs: dict[str, Any] = self.visual.forward_intermediates(images, intermediates_only=True, **options)  # type: ignore
        grid = outputs["image_intermediates"][-1]
        return with_class_token(grid, outputs["image_intermediates_prefix"][-1]) if self.tap.keep_cls else grid


def _make_dynamic(trunk: timm.models.VisionTransformer) -> None:
    """Let a ViT take images of any size: what timm's option of this name does where timm builds the network itself."""
    trunk.dynamic_img_size = True  # type: ignore[misc]
    embed = trunk.patch_embed
    embed.strict_img_size, embed.flatten, embed.output_fmt = False, False, timm.layers.Format.NHWC


def resample_table(
    table: Tensor, size: tuple[int, int] | torch.Size, old_size: tuple[int, int] | None = None
) -> Tensor:
    """Resample a position table with one prefix token to another grid, bicubic with antialiasing.

    Args:
        table: (1 + n, C) float.
        size: wanted grid height and width.
        old_size: grid of ``table``; None for a square.

    Returns:
        (1 + height * width, C) float; ``table`` itself where the size is the same.
    """
    new = [int(size[0]), int(size[1])]
    if old_size is None:
        side = round((table.shape[0] - 1) ** 0.5)
        old_size = (side, side)
    if tuple(new) == tuple(old_size):
        return table
    return resample_abs_pos_embed(table[None], new, old_size=list(old_size))[0]


class Published(NamedTuple):
    """What open_clip knows of a network: its sizes, where its weights are, and how they were trained."""

    config: dict[str, Any]
    weights: dict[str, Any]
    quick_gelu: bool
    tag: str


def find_published(name: str) -> Published:
    """Look up a registry name; both towers are built of what it returns."""
    architecture, tag = _architecture(name)
    config = open_clip.get_model_config(architecture)
    weights = open_clip.get_pretrained_cfg(architecture, tag) or {}
    quick_gelu = bool(weights.get("quick_gelu") or (config.get("quick_gelu") and not weights))
    return Published(config, weights, quick_gelu, tag)


def fetch_clip(name: str, weights: dict[str, Any]) -> Path:
    """Return the file of both towers' published weights; see ``fetch_weights``."""
    return fetch_weights(name, weights.get("hf_hub", "").strip("/"), _HUB_FILES)


def create(name: str, pretrained: bool | Path | str) -> Encoder:
    """Make a CLIP tower; see ``create_encoder``."""
    config, published, quick_gelu, tag = find_published(name)
    visual = _build_vision_tower(config["embed_dim"], dict(config["vision_cfg"]), quick_gelu)
    size = config["vision_cfg"].get("image_size", 224)
    size = (size, size) if isinstance(size, int) else tuple(size)
    interpolation = published.get("interpolation", "bicubic")
    crop: Crop = "squash" if published.get("resize_mode") == "squash" else "center"
    mean, std = tuple(published.get("mean", CLIP_MEAN)), tuple(published.get("std", CLIP_STD))
    encoder = ClipEncoder(name, visual, config["embed_dim"], Preprocess(size, mean, std, crop, interpolation))
    if pretrained is True:
        path = fetch_clip(name, published)
        load_visual(encoder, path)
        encoder.weights = describe(tag, path)
    elif pretrained:
        load_visual(encoder, Path(pretrained))
        encoder.weights = describe(Path(pretrained).name, Path(pretrained))
    return encoder


def load_visual(encoder: ClipEncoder, path: Path) -> None:
    """Load the image tower's part of a CLIP weights file, in float32.

    Raises:
        InputError: the file is of another architecture.
    """
    tensors = read_state_dict(path)
    prefix = "visual."
    own = {key.removeprefix(prefix): value.float() for key, value in tensors.items() if key.startswith(prefix)}
    require_fit(encoder.name, "image", prefix, encoder.visual, own, path)
    encoder.visual.load_state_dict(own, strict=False)


def require_fit(name: str, which: str, prefix: str, tower: nn.Module, own: dict[str, Tensor], path: Path) -> None:
    """Raise ``InputError`` unless a file has every tensor of a tower in its shape, and no others.

    Args:
        name: the encoder, for the message.
        which: ``image`` or ``text``.
        prefix: of the tower's tensors in the file.
        tower: that is to be loaded.
        own: the file's tensors of this tower, without the prefix.
        path: the file.
    """
    have = tower.state_dict()
    optional = {key for key in have if key.endswith("num_batches_tracked")}
    wrong = {key for key in have.keys() & own.keys() if have[key].shape != own[key].shape}
    wrong |= (have.keys() - own.keys() - optional) | (own.keys() - have.keys())
    if wrong:
        example = min(wrong)
        found = tuple(own[example].shape) if example in own else "nothing"
        wanted = tuple(have[example].shape) if example in have else "nothing"
        raise InputError(
            f"weights of {name} must fit its {which} tower, got {path} where {len(wrong)} tensors differ, "
            f"e.g. {prefix}{example}: expected {wanted}, found {found}"
        )


def _architecture(name: str) -> tuple[str, str]:
    if name in ARCHITECTURES:
        return ARCHITECTURES[name], "openai"
    architecture, _, tag = name.partition(":")[2].partition("/")
    if architecture not in open_clip.list_models():
        raise unknown_name("open_clip architecture", architecture, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag not in tags:
        raise unknown_name(f"tag of open_clip:{architecture}/TAG", tag, tags)
    return architecture, tag


def _grid_width(visual: nn.Module) -> int:
    if isinstance(visual, open_clip.model.ModifiedResNet):
        return int(visual.attnpool.positional_embedding.shape[1])
    if isinstance(visual, open_clip.transformer.VisionTransformer):
        return int(visual.positional_embedding.shape[1])
    return int(visual.trunk.num_features)  # type: ignore
