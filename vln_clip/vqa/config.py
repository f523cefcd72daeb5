"""What a VQA run is: the recipes of the paper with what a user changes, and the demo's preset."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from vln_clip.errors import InputError
from vln_clip.run_config import RunConfig, require
from vln_clip.tasks.vqa.words import MMF, OPENVQA
from vln_clip.text_config import TextEncoderConfig

MODELS = ("pythia", "movie_mcan", "mcan_small", "mcan_large")
DATASETS = ("vqa", "gqa", "vqa_lxmert", "gqa_lxmert", "demo")
_DEMO_ATTENTION = {"word_width": 64, "width": 128, "num_layers": 2, "num_heads": 4, "feed_forward_width": 256}
_DEMO_ATTENTION |= {"pool_width": 128, "fusion_width": 256}
# In place of the paper's sizes: what learns the demo's pictures in minutes on two cores.
DEMO_SIZES: dict[str, dict[str, Any]] = {
    "pythia": {"word_width": 64, "hidden_width": 128, "attention_width": 64, "fusion_width": 256},
    "movie_mcan": _DEMO_ATTENTION | {"movie_width": 64, "num_movie_blocks": 2, "pad_to": None},
    "mcan_small": _DEMO_ATTENTION,
    "mcan_large": _DEMO_ATTENTION,
}
# Small models take higher rates than the paper's; those with attention layers lower ones than pythia.
DEMO_RATES = {"pythia": 1e-2, "movie_mcan": 1e-3, "mcan_small": 1e-3, "mcan_large": 1e-3}


@dataclass(frozen=True)
class VqaConfig(RunConfig):
    """Train a model that answers questions about images, and one that never sees them; evaluate both."""

    features: str = "clip_rn50x4"
    """encoder, or a folder of grid features (NAME.grid or those of other programs)"""
    dataset: str = "auto"
    """vqa (VQA v2), gqa, vqa_lxmert, gqa_lxmert (LXMERT's splits), demo; auto takes VQA v2 where $VLN_CLIP_DATA holds
    it, else the demo's pictures"""
    model: Literal["pythia", "movie_mcan", "mcan_small", "mcan_large"] = "movie_mcan"
    """movie_mcan is what the paper's table calls MCAN"""
    size: Literal["paper", "demo"] = "paper"
    """of the model"""
    learn_from: str | None = None
    """splits to learn from, e.g. train+val, train+val+vg; by default train, or what the data set's recipe says"""
    question_only: bool = True
    """also train the same model without images, for comparison"""
    word_vectors: Path | None = None
    """GloVe text file to start the word embedding from; by default learned from nothing"""
    text: Annotated[TextEncoderConfig, tyro.conf.arg(name="")] = field(default_factory=TextEncoderConfig)
    answers: Path | None = None
    """list of answers (LXMERT's, openvqa's, or one per line); by default built from the annotations"""
    normalization: Literal["official", "openvqa"] = "official"
    """of answers before they are compared"""
    batch_size: int | None = None
    """questions per step; by default the recipe's"""
    iters: int | None = None
    """steps, over which the schedule is stretched; by default the recipe's"""
    lr: float | None = None
    """learning rate; by default the recipe's, with --size demo what suits the model"""
    eval_every: int = 4_000
    """steps between validations"""
    eval_questions: int = 20_000
    """most questions of a validation while training, always the same; the results take all"""
    precision: Literal["float32", "bf16"] = "float32"
    """of training; bf16 keeps weights and sums in float32"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch_size", "iters", "lr", "eval_every", "eval_questions"):
            value = getattr(self, name)
            require(value is None or value > 0, name, "positive", value)
        if self.word_vectors is not None and self.text.text_encoder is not None:
            raise InputError("--word-vectors and --text-encoder both say what stands for words; leave one of them out")

    @property
    def run_name(self) -> str:
        """Return the name of the run's folder."""
        if self.name:
            return self.name
        safe = "".join(c if c.isalnum() or c in "_+-." else "-" for c in Path(self.features).name)
        return "_".join(["vqa", self.dataset, self.model, safe, *self.text.tag])

    @property
    def word_style(self) -> str:
        """Return how the reference of the model splits questions into words."""
        return OPENVQA if self.model.startswith("mcan_") else MMF

    @property
    def learning_rate(self) -> float | None:
        """Return the learning rate in place of the recipe's; None keeps that."""
        return self.lr or (DEMO_RATES[self.model] if self.size == "demo" else None)

    @property
    def sizes(self) -> dict[str, Any]:
        """Return the arguments of the model in place of its own defaults."""
        return DEMO_SIZES[self.model] if self.size == "demo" else {}


PRESETS = {name: VqaConfig(dataset=name) for name in DATASETS} | {
    "demo": VqaConfig(
        dataset="demo",
        model="pythia",  # the fastest of them on a CPU
        size="demo",
        batch_size=64,
        iters=3_000,
        eval_every=250,
        eval_questions=2_000,
    )
}


def settings_of(values: dict[str, Any]) -> VqaConfig:
    """Return the configuration that a checkpoint was saved with."""
    known = asdict(VqaConfig())
    found = {key: value for key, value in values.items() if key in known}
    for key in ("runs", "word_vectors", "answers"):
        found[key] = None if found.get(key) is None else Path(found[key])
    text = dict(found.get("text") or {})
    if text.get("text_weights") is not None:
        text["text_weights"] = Path(text["text_weights"])
    return replace(VqaConfig(), **found | {"text": TextEncoderConfig(**text)})
