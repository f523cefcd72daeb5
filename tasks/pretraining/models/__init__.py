"""CLIP-ViL_p: the model, its heads and losses, and weights from BERT and from public checkpoints."""

from vln_clip.tasks.pretraining.models.bert import load_bert
from vln_clip.tasks.pretraining.models.groups import ParameterGroups, parameter_groups
from vln_clip.tasks.pretraining.models.heads import Classifier, PretrainingModel, PretrainingOutput
from vln_clip.tasks.pretraining.models.loading import LoadReport
from vln_clip.tasks.pretraining.models.losses import pretraining_losses
from vln_clip.tasks.pretraining.models.public import read_public_checkpoint
from vln_clip.tasks.pretraining.models.sizes import DEMO_SIZES, VilSizes
from vln_clip.tasks.pretraining.models.surgery import take_answer_rows
from vln_clip.tasks.pretraining.models.vil import ClipVil, VilStates

__all__ = [
    "DEMO_SIZES",
    "Classifier",
    "ClipVil",
    "LoadReport",
    "ParameterGroups",
    "PretrainingModel",
    "PretrainingOutput",
    "VilSizes",
    "VilStates",
    "load_bert",
    "parameter_groups",
    "pretraining_losses",
    "read_public_checkpoint",
    "take_answer_rows",
]
