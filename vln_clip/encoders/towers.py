"""Image networks of timm: ImageNet ResNets, Big Transfer, ImageNet-21k ViT, and any other as ``timm:NAME``."""

from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from vln_clip.encoders.attention import attended_trunk
from vln_clip.encoders.base import (
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
from vln_clip.encoders.weights import describe, fetch_weights, read_state_dict
from vln_clip.errors import InputError, unknown_name

MODELS = {
    "imagenet_resnet50": "resnet50.tv_in1k",
    "imagenet_resnet101": "resnet101.tv_in1k",
    "imagenet_resnet152": "resnet152.tv_in1k",
    "bit_m_r50": "resnetv2_50x1_bit.goog_in21k",
    "bit_m_r101": "resnetv2_101x1_bit.goog_in21k",
    "vit_b32_in21k": "vit_base_patch32_224.augreg_in21k",  # or .orig_in21k: which one the paper used is unknown
}
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class TimmEncoder(Encoder):
    """One timm network without its classifier.

    ``pooled`` is what the classifier would see (global mean of a ResNet, class token of a ViT); ``grid`` the
    last map (sizes round up in padded ResNets).
    """

    def __init__(self, name: str, model: nn.Module, transform: Preprocess):
        super().__init__()
        self.name, self.model, self.transform = name, model, transform
        self.image_size_px = transform.size_px
        self.grid_width = int(model.num_features)  # type: ignore[arg-type]
        self.pooled_width = int(getattr(model, "head_hidden_size", model.num_features))  # type: ignore[arg-type]
        self.is_vit = isinstance(model, timm.models.VisionTransformer)
        self.pooling = "class token" if self.is_vit else "mean"
        if self.is_vit:
            self.num_blocks = len(model.blocks)  # type: ignore[arg-type]
            self.min_side_px = max(model.patch_embed.patch_size)  # type: ignore[union-attr, arg-type]

    def pooled(self, images: Tensor) -> Tensor:
        """Return the features before the classifier, (B, D); see ``Encoder.pooled``."""
        return self.model(self._cut(images))

    def grid(self, images: Tensor) -> Tensor:
        """Return the last map, (B, C, h', w'); see ``Encoder.grid``."""
        if not hasattr(self.model, "forward_intermediates"):
            raise InputError(f"grid features need a network with intermediate maps, got {self.name} which has none")
        if self.is_vit:
            return self.tapped_grid(images, LAST)
        # pre-activation networks end with a norm that belongs to the map
        options = {"indices": 1, "norm": True, "intermediates_only": True, "output_fmt": "NCHW"}
        return self.model.forward_intermediates(images, **options)[-1]  # type: ignore[operator]

    def tapped_grid(self, images: Tensor, tap: Tap) -> Tensor:
        """Return a map of a ViT's tokens; see ``Encoder.tapped_grid``."""
        self.check_tap(tap)
        if not self.is_vit:
            return super().tapped_grid(images, tap)
        return vit_grid(self.name, self.model, images, tap)  # type: ignore[arg-type]

    def pooled_with_map(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``pooled`` as a function of a map; see ``Encoder.pooled_with_map``."""
        model, images = self.model, self._cut(images)
        if isinstance(model, timm.models.VisionTransformer):
            height, width = model.patch_embed.patch_size
            size = (images.shape[-2] // height, images.shape[-1] // width)
            return pool_from_block(model.blocks[-1], lambda: model(images), size, model.num_prefix_tokens)
        with torch.no_grad():
            grid = model.forward_features(images)  # type: ignore[operator]
        if grid.ndim != 4 or grid.shape[1] != self.grid_width:
            return super().pooled_with_map(images)
        return pool_from(grid, model.forward_head)  # type: ignore[arg-type]

    def pooled_with_attention(self, images: Tensor) -> Attended:
        """Return ``pooled`` as a function of all attention; see ``Encoder.pooled_with_attention``."""
        found = None
        if isinstance(self.model, timm.models.VisionTransformer):
            found = attended_trunk(self.model, images, lambda: self.pooled(images))
        return found or super().pooled_with_attention(images)

    def _cut(self, images: Tensor) -> Tensor:
        return cut_patches(self.model, images) if self.is_vit else images  # type: ignore[arg-type]


def vit_grid(name: str, model: timm.models.VisionTransformer, images: Tensor, tap: Tap) -> Tensor:
    """Return the tokens of a block of timm's ViT as a map; see ``Encoder.tapped_grid``.

    Args:
        name: the encoder, for messages.
        model: with ``dynamic_img_size``.
        images: (B, 3, h, w) float32.
        tap: which block, and what of it.
    """
    if tap.ln_post and isinstance(model.norm, nn.Identity):
        raise InputError(f"ln_post needs a tower with a norm after its last block, got {name} which has none")
    if tap.keep_cls and model.cls_token is None:
        raise InputError(f"keep_cls needs a tower with a class token, got {name} which has none")
    found: Any = model.forward_intermediates(
        cut_patches(model, images),
        indices=[len(model.blocks) + tap.layer],
        norm=tap.ln_post,
        return_prefix_tokens=tap.keep_cls,
        stop_early=True,
        output_fmt="NCHW",
        intermediates_only=True,
    )
    return with_class_token(found[0][0], found[0][1][:, :1]) if tap.keep_cls else found[0]


def cut_patches(model: timm.models.VisionTransformer, images: Tensor) -> Tensor:
    """Leave out pixels at the right and bottom that fill no whole patch."""
    height, width = model.patch_embed.patch_size
    return images[..., : images.shape[-2] // height * height, : images.shape[-1] // width * width]


def create(name: str, pretrained: bool | Path | str) -> Encoder:
    """Make a timm network; see ``create_encoder``."""
    model_name = MODELS.get(name) or name.partition(":")[2]
    if not timm.is_model(model_name.partition(".")[0]):
        raise unknown_name("timm network", model_name, timm.list_models())
    published = get_pretrained_cfg(model_name)
    if published is None:
        raise unknown_name("timm network", model_name, timm.list_pretrained(model_name.partition(".")[0] + "*"))
    options: dict[str, Any] = {"num_classes": 0}
    if timm.models.is_model_in_modules(model_name.partition(".")[0], ["vision_transformer"]):
        options["dynamic_img_size"] = True
    weights = "random"
    if pretrained:
        hub = pretrained is True
        path = fetch_weights(name, published.hf_hub_id or "", _HUB_FILES) if pretrained is True else Path(pretrained)
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": read_state_dict(path)}}
        weights = describe((model_name.partition(".")[2] or "timm") if hub else path.name, path)
    try:
        model = timm.create_model(model_name, **options)
    except (RuntimeError, KeyError) as error:
        if not pretrained:
            raise
        first = str(error).strip().split("\n")[0]
        raise InputError(f"weights of {name} must fit its network, got {path} which does not: {first}") from error
    # The reference fed ImageNet networks whole views, unresized (specs/vln.md 3.2, specs/vl_tasks.md 1.6).
    crop: Crop = "full" if name.startswith("imagenet_") else "center"
    size = published.input_size[1:]
    transform = Preprocess(
        (size[0], size[1]), _triple(published.mean), _triple(published.std), crop, published.interpolation or "bicubic"
    )
    encoder = TimmEncoder(name, model, transform)
    encoder.weights = weights
    return encoder


def _triple(values: tuple[float, ...]) -> tuple[float, float, float]:
    r, g, b = values
    return r, g, b
