"""What a captioning run is: the recipe of the paper with what a user changes, and the demo's preset."""

from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from vln_clip.config import from_json
from vln_clip.run_config import RunConfig
from vln_clip.tasks.captioning.models.recipes import (
    CaptionModelConfig,
    CrossEntropyRecipe,
    SelfCriticalRecipe,
    WritingConfig,
)

DATASETS = ("coco", "demo")


@dataclass(frozen=True)
class CaptionConfig(RunConfig):
    """Train a captioner, by cross entropy and then self-critically, and one that never sees an image; evaluate both."""

    features: str = "clip_rn50x4"
    """encoder, or a folder of grid features (NAME.grid or those of other programs)"""
    dataset: str = "auto"
    """coco, demo; auto takes COCO where $VLN_CLIP_DATA holds it, else the demo's pictures"""
    train_only: bool = False
    """leave Karpathy's restval images out of training"""
    no_image: bool = True
    """also train the same model without images, for comparison"""
    precision: Literal["float32", "bf16"] = "float32"
    """of training; bf16 keeps weights and sums in float32"""
    model: Annotated[CaptionModelConfig, tyro.conf.arg(name="")] = field(default_factory=CaptionModelConfig)
    xe: Annotated[CrossEntropyRecipe, tyro.conf.arg(name="")] = field(default_factory=CrossEntropyRecipe)
    scst: Annotated[SelfCriticalRecipe, tyro.conf.arg(name="")] = field(default_factory=SelfCriticalRecipe)
    writing: Annotated[WritingConfig, tyro.conf.arg(name="")] = field(default_factory=WritingConfig)

    @property
    def run_name(self) -> str:
        """Return the name of the run's folder."""
        if self.name:
            return self.name
        safe = "".join(c if c.isalnum() or c in "_+-." else "-" for c in Path(self.features).name)
        return "_".join(["caption", self.dataset, safe])


PRESETS = {
    "coco": CaptionConfig(dataset="coco"),
    "demo": CaptionConfig(
        dataset="demo",
        model=CaptionModelConfig(width=128, hidden_width=256, num_layers=2, num_heads=4, visual_dropout=0.1),
        xe=CrossEntropyRecipe(xe_epochs=6, xe_warmup=300, eval_every=96),
        scst=SelfCriticalRecipe(scst_epochs=1, scst_lr=1e-4, baseline="samples", keep_optimizer=False),
    ),
}


def settings_of(values: dict[str, Any]) -> CaptionConfig:
    """Return the configuration that a checkpoint was saved with."""
    defaults, found = CaptionConfig(), dict[str, Any]()
    for item in fields(defaults):
        default = getattr(defaults, item.name)
        value = values.get(item.name, default)
        found[item.name] = from_json(type(default), value) if is_dataclass(default) and value != default else value
    return CaptionConfig(**(found | {"runs": Path(found["runs"])}))
