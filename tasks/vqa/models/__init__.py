"""VQA models, what they are taught by, and the recipes of the paper."""

from vln_clip.tasks.vqa.models.build import MODELS, VqaModel, build_vqa_model
from vln_clip.tasks.vqa.models.output import VqaOutput, vqa_loss
from vln_clip.tasks.vqa.models.recipes import RECIPES, Recipe, make_optimizer

__all__ = [
    "MODELS",
    "RECIPES",
    "Recipe",
    "VqaModel",
    "VqaOutput",
    "build_vqa_model",
    "make_optimizer",
    "vqa_loss",
]
