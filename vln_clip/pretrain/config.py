"""What a run of CLIP-ViL_p is: the paper's recipe with what a user changes, and the demo's preset."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from vln_clip.run_config import RunConfig, require

DATASETS = ("lxmert", "demo")
TASKS = ("vqa", "gqa", "snli_ve")
Task = Literal["vqa", "gqa", "snli_ve"]
PUBLISHED, RANDOM, SCRATCH = "published", "random", "scratch"
PAPER_SIDES_PX, DEMO_SIDES_PX = (384, 640), (96, 128)
PAPER_PATCHES = 100
DEMO_PIECES = 1_000  # most word pieces that are made of training texts


@dataclass(frozen=True)
class PretrainConfig(RunConfig):
    """Pre-train CLIP-ViL_p, fine-tune it on tasks, and compare it with fine-tuning alone."""

    dataset: Literal["auto", "lxmert", "demo"] = "auto"
    """lxmert (LXMERT's aggregated files), demo; auto takes LXMERT's where $VLN_CLIP_DATA holds them, else the demo's"""
    demo: bool = False
    """short for --dataset demo"""
    encoder: str = "clip_rn50"
    """image encoder, whose map is read and which learns, too"""
    encoder_weights: str = PUBLISHED
    """where its weights come from at the start: published, random, or a file"""
    bert: str = "bert-base-uncased"
    """where the text's weights and word pieces come from: a folder, a name on the hub, or scratch for a small BERT of
    random weights with word pieces of the training texts"""
    size: Literal["paper", "demo"] = "paper"
    """of the model, its batches and its images"""
    sources: tuple[str, ...] = ()
    """pairs to learn from as KIND:FILE in the data folder (lxmert:F, coco:F, karpathy/SPLIT:F, vqa:QUESTIONS,ANSWERS,
    gqa:F, vg_regions:F, vg_questions:F, lxmert_questions:F, shards:FOLDER); by default LXMERT's aggregated files"""
    val_sources: tuple[str, ...] = ()
    """likewise of val"""
    image_folders: tuple[Path, ...] = ()
    """more folders of the images of pairs"""
    convert_after_resize: bool = False
    """convert pictures to RGB after resizing them, as the released code does; differs for palettes and transparency"""
    pretrain: bool = True
    """False only fine-tunes, from --init or without pre-training"""
    init: Path | None = None
    """what is fine-tuned in place of a model that is pre-trained here: a run, a checkpoint's folder, or a public
    CLIP-ViL_p or LXMERT .pth file"""
    tasks: tuple[Task, ...] = ("vqa", "gqa", "snli_ve")
    """what to fine-tune on"""
    compare: bool = True
    """also fine-tune without pre-training, for comparison"""
    freeze_encoder: bool = False
    """the encoder does not learn"""
    freeze_batch_norm: bool = False
    """running statistics of the encoder are used and stay; the reference lets them run"""
    checkpointing: bool = False
    """less memory for activations, which are computed twice"""
    batch_size: int | None = None
    """rows per batch over all processes, in every stage; by default the recipe's"""
    accumulation: int | None = None
    """batches per step; by default the recipe's"""
    pretraining_iters: tuple[int, int] | None = None
    """steps of the two stages of pre-training, over which their schedules are stretched; by default their epochs; 0
    leaves the first one out"""
    finetuning_iters: int | None = None
    """likewise of every task"""
    eval_every: int | None = None
    """steps between validations; by default an epoch"""
    eval_rows: int = 20_000
    """most rows of a validation while training, always the same; the results take all"""
    vqa_answers: Path | None = None
    """list of VQA's answers; by default LXMERT's in the data folder, else built from the annotations"""
    gqa_answers: Path | None = None
    """likewise of GQA"""
    precision: Literal["float32", "bf16"] = "float32"
    """of training; bf16 keeps weights and sums in float32"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch_size", "accumulation", "finetuning_iters", "eval_every", "eval_rows"):
            value = getattr(self, name)
            require(value is None or value > 0, name, "positive", value)
        steps = self.pretraining_iters
        fits = steps is None or (steps[0] >= 0 and steps[1] > 0)
        require(fits, "pretraining_iters", "two positive numbers, of which the first may be 0", steps)
        require(self.pretrain or bool(self.tasks), "tasks", "one or more with --no-pretrain", "none")
        require(self.init is None or not self.pretrain, "init", "used with --no-pretrain", self.init)
        require(len(set(self.tasks)) == len(self.tasks), "tasks", "each named once", " ".join(self.tasks))

    @property
    def run_name(self) -> str:
        """Return the name of the run's folder."""
        if self.name:
            return self.name
        safe = "".join(c if c.isalnum() or c in "_+-." else "-" for c in Path(self.encoder).name)
        return "_".join(["vil", self.dataset, safe])

    @property
    def has_first_stage(self) -> bool:
        """Return whether pre-training begins without answers."""
        return self.pretraining_iters is None or self.pretraining_iters[0] > 0

    @property
    def fine_tuned(self) -> tuple[tuple[str, bool], ...]:
        """Return every task that is fine-tuned, and whether from a pre-trained model."""
        pretrained = self.pretrain or self.init is not None
        starts = [True] * pretrained + [False] * (self.compare or not pretrained)
        return tuple((task, start) for start in starts for task in self.tasks)

    @property
    def sides_px(self) -> tuple[int, int]:
        """Return the short and the long side of the images."""
        return PAPER_SIDES_PX if self.size == "paper" else DEMO_SIDES_PX

    @property
    def num_patches(self) -> int | None:
        """Return how many cells of the map pre-training sees; None for all."""
        return PAPER_PATCHES if self.size == "paper" else None


PRESETS = {
    "lxmert": PretrainConfig(dataset="lxmert"),
    "demo": PretrainConfig(
        dataset="demo",
        encoder="clip_demo",
        bert=SCRATCH,
        size="demo",
        # What runs along with small batches of random words would carry the encoder away before it is of use.
        freeze_batch_norm=True,
        # Masked words and matching alone teach so short a run to read texts only, which answers undo but slowly.
        pretraining_iters=(0, 1_600),
        finetuning_iters=100,
        eval_every=200,
        eval_rows=1_000,
    ),
}


def settings_of(values: dict[str, Any]) -> PretrainConfig:
    """Return the configuration that a checkpoint was saved with."""
    known = asdict(PretrainConfig())
    found = {key: value for key, value in values.items() if key in known}
    for key in ("runs", "init", "vqa_answers", "gqa_answers"):
        found[key] = None if found.get(key) is None else Path(found[key])
    steps = found.get("pretraining_iters")
    found["pretraining_iters"] = None if steps is None else tuple(steps)
    found["tasks"] = tuple(found.get("tasks", ()))
    found["sources"], found["val_sources"] = (tuple(found.get(key, ())) for key in ("sources", "val_sources"))
    found["image_folders"] = tuple(Path(folder) for folder in found.get("image_folders", ()))
    return replace(PretrainConfig(), **found)
