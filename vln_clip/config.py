"""What a training run is: every constant of the EnvDrop recipe with its default, and the presets.

The defaults of ``TrainConfig`` are the paper's R2R recipe; ``PRESETS`` holds what other data sets change.
"""

from dataclasses import dataclass, field, fields, replace
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from vln_clip.errors import InputError
from vln_clip.run_config import RunConfig, parse_on_preset, require
from vln_clip.text_config import TextEncoderConfig


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and dropout of follower and speaker."""

    hidden_width: int = 512
    """width of hidden states"""
    word_width: int = 256
    """width of word embeddings"""
    action_width: int = 64
    """width of the embedded own direction"""
    angle_width: int = 128
    """width of angle features, a multiple of 4"""
    dropout: float = 0.5
    """dropout in the follower, features apart"""
    feature_dropout: float = 0.3
    """element-wise dropout on visual features in the follower"""
    speaker_dropout: float = 0.6
    """dropout in the speaker, features apart"""
    speaker_feature_dropout: float = 0.3
    """element-wise dropout on visual features in the speaker"""
    pool_padding: bool = False
    """pool the follower's initial state over padding too, as the reference does"""

    def __post_init__(self) -> None:
        for name in ("hidden_width", "word_width", "action_width", "angle_width"):
            require(getattr(self, name) > 0, name, "positive", getattr(self, name))
        require(self.hidden_width % 2 == 0, "hidden_width", "even", self.hidden_width)
        require(self.angle_width % 4 == 0, "angle_width", "a multiple of 4", self.angle_width)
        for name in ("dropout", "feature_dropout", "speaker_dropout", "speaker_feature_dropout"):
            require(0 <= getattr(self, name) < 1, name, "in [0, 1)", getattr(self, name))


@dataclass(frozen=True)
class FollowerConfig:
    """How the follower learns: imitation plus advantage actor-critic."""

    iters: int = 80_000
    """optimizer steps of the follower"""
    batch_size: int = 64
    """episodes per rollout; an iteration has two (back-translation four); the speaker has its own"""
    feedback: Literal["sample", "teacher"] = "sample"
    """sample: imitation and reinforcement; teacher: imitation alone"""
    ml_weight: float = 0.2
    """weight of imitation beside reinforcement"""
    teacher_weight: float = 1.0
    """weight of imitation alone (--feedback teacher)"""
    optimizer: Literal["rms", "adam", "sgd"] = "rms"
    """optimizer of the follower"""
    lr: float = 1e-4
    """its learning rate"""
    clip_norm: float = 40.0
    """largest gradient norm of encoder and of decoder, each"""
    gamma: float = 0.9
    """discount per step"""
    entropy_weight: float = 0.01
    """weight of the entropy bonus"""
    value_weight: float = 0.5
    """weight of the critic's squared error"""
    normalize: Literal["total", "batch", "none"] = "total"
    """divide the reinforcement loss by the decisions, the batch size or nothing"""
    stop_reward: float = 2.0
    """reward for stopping within 3 m, negative elsewhere"""
    progress_reward: float = 1.0
    """reward for a move towards the goal, negative for one away"""
    reward: Literal["progress", "ndtw"] = "progress"
    """progress: moves towards the goal; ndtw: moves along the annotated path, and a stop is worth its nDTW"""
    teacher: Literal["shortest", "guide"] = "shortest"
    """what imitation follows: the shortest path to the goal, as the reference does, or the annotated path"""
    max_action: int = 35
    """most decisions per episode"""
    max_input: int = 80
    """most tokens per instruction, <BOS> and <EOS> included"""
    eval_every: int = 100
    """iterations between validations"""
    train_batches: int = 20
    """batches of the training split to validate on; 0 for none"""

    def __post_init__(self) -> None:
        for name in ("iters", "batch_size", "max_action", "eval_every", "lr", "clip_norm"):
            require(0 < getattr(self, name) < inf, name, "positive", getattr(self, name))
        for name in ("ml_weight", "teacher_weight", "entropy_weight", "value_weight", "stop_reward", "progress_reward"):
            require(0 <= getattr(self, name) < inf, name, "0 or more", getattr(self, name))
        require(0 <= self.gamma <= 1, "gamma", "in [0, 1]", self.gamma)
        require(self.max_input >= 3, "max_input", "at least 3", self.max_input)
        require(self.train_batches >= 0, "train_batches", "0 or more", self.train_batches)


@dataclass(frozen=True)
class SpeakerConfig:
    """How the speaker learns: teacher forcing."""

    speaker_iters: int = 80_000
    """optimizer steps of the speaker"""
    speaker_batch_size: int = 64
    """walks per step"""
    speaker_optimizer: Literal["rms", "adam", "sgd"] = "adam"
    """optimizer of the speaker"""
    speaker_lr: float = 1e-4
    """its learning rate"""
    speaker_eval_every: int = 500
    """iterations between validations"""
    max_decode: int = 120
    """most words of a generated instruction"""

    def __post_init__(self) -> None:
        for name in ("speaker_iters", "speaker_batch_size", "speaker_lr", "speaker_eval_every", "max_decode"):
            require(getattr(self, name) > 0, name, "positive", getattr(self, name))


@dataclass(frozen=True)
class BackTranslationConfig:
    """How the follower goes on with generated instructions."""

    bt_iters: int | None = None
    """optimizer steps of back-translation; by default half of what is left to --bt-until"""
    bt_until: int = 200_000
    """the reference counts on from the follower's best iteration to here, two per optimizer step"""
    bt_lr: float | None = None
    """learning rate of back-translation; by default --lr"""
    bt_eval_every: int = 50
    """optimizer steps between validations"""
    bt_feature_dropout: float = 0.4
    """feature dropout on real data, environment dropout on generated"""
    real_weight: float = 0.2
    """weight of imitation on real instructions"""
    aug_weight: float = 0.6
    """weight of imitation on generated instructions"""
    aug_paths: Path | None = None
    """file of unlabelled paths in the data set's format; by default its aug_paths file, else paths are sampled"""
    num_aug_paths: int | None = None
    """sample so many unlabelled paths from the training buildings, whether there is a file or not (else 100000)"""
    pre_explore: bool = False
    """afterwards go on in the buildings of val_unseen and test, on paths sampled there. Not the standard setting, in
    which those are unseen: its rows and files are named pre_explored"""

    def __post_init__(self) -> None:
        for name in ("real_weight", "aug_weight"):
            require(0 <= getattr(self, name) < inf, name, "0 or more", getattr(self, name))
        require(self.bt_iters is None or self.bt_iters > 0, "bt_iters", "positive", self.bt_iters)
        require(self.bt_lr is None or self.bt_lr > 0, "bt_lr", "positive", self.bt_lr)
        require(self.bt_eval_every > 0, "bt_eval_every", "positive", self.bt_eval_every)
        require(0 <= self.bt_feature_dropout < 1, "bt_feature_dropout", "in [0, 1)", self.bt_feature_dropout)
        require(self.num_aug_paths is None or self.num_aug_paths > 0, "num_aug_paths", "positive", self.num_aug_paths)
        if self.aug_paths is not None and self.num_aug_paths is not None:
            raise InputError("--aug-paths reads unlabelled paths and --num-aug-paths samples them; give one of the two")


@dataclass(frozen=True)
class EncoderConfig:
    """How the encoder learns with the follower, end to end."""

    train_encoder: bool = False
    """train the encoder of --features too, on rendered views: needs the pictures, and wants small batches. Every
    validation encodes the splits anew"""
    encoder_lr: float = 1e-5
    """its learning rate"""
    encoder_micro_batch: int = 36
    """views encoded at once with gradients: memory grows with it, results do not change"""
    encoder_norms: bool = False
    """also train scale and shift of its batch norms; their statistics are always kept"""

    def __post_init__(self) -> None:
        require(0 < self.encoder_lr < inf, "encoder_lr", "positive", self.encoder_lr)
        require(self.encoder_micro_batch > 0, "encoder_micro_batch", "positive", self.encoder_micro_batch)


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """Train a follower; with --bt a speaker and a back-translated follower too; evaluate and write the submission."""

    features: str = "clip_rn50x4"
    """encoder, A+B for two side by side, a feature file, or none for a blind agent"""
    dataset: str = "auto"
    """r2r, xl-r2r, r4r, rxr, demo, demo-rxr; auto takes R2R where $VLN_CLIP_DATA holds it, else the demo world"""
    language: str = "all"
    """one language of a multilingual data set (RxR: en, hi, te), or all of them in one model"""
    tokenizer: str | None = None
    """english, unicode, or a local folder of a transformers tokenizer; by default the data set's"""
    train: Path | None = None
    """file to learn from in place of the data set's training split, in its format, of any size: generated
    instructions, or both packed files one behind the other (cat); FILE@N takes N of its paths"""
    start: Path | None = None
    """run or checkpoint whose follower this one begins with, in place of random weights; of the same sizes and words"""
    bt: bool = False
    """also train a speaker and go on with back-translation and environmental dropout"""
    blind: bool = True
    """also train a follower that sees nothing, for comparison"""
    simulator: Literal["tables", "mattersim"] = "tables"
    """where candidates and moves come from: our compiled tables, or the module MatterSim where it can be imported"""
    cross_check: bool = False
    """ask MatterSim too and stop at the first difference from the tables (slow)"""
    precision: Literal["float32", "bf16"] = "float32"
    """of the matrix products in training; bf16 keeps weights, sums and validation in float32. For CPUs with AVX512_BF16
    or AMX and newer GPUs"""
    text: Annotated[TextEncoderConfig, tyro.conf.arg(name="")] = field(default_factory=TextEncoderConfig)
    model: Annotated[ModelConfig, tyro.conf.arg(name="")] = field(default_factory=ModelConfig)
    follower: Annotated[FollowerConfig, tyro.conf.arg(name="")] = field(default_factory=FollowerConfig)
    encoder: Annotated[EncoderConfig, tyro.conf.arg(name="")] = field(default_factory=EncoderConfig)
    speaker: Annotated[SpeakerConfig, tyro.conf.arg(name="")] = field(default_factory=SpeakerConfig)
    back_translation: Annotated[BackTranslationConfig, tyro.conf.arg(name="")] = field(
        default_factory=BackTranslationConfig
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.back_translation.aug_paths is not None and not self.bt:
            raise InputError("--aug-paths is for back-translation; add --bt or leave it out")
        if self.back_translation.pre_explore and not self.bt:
            raise InputError("--pre-explore goes on from back-translation; add --bt or leave it out")
        if self.encoder.train_encoder and self.bt:
            raise InputError(
                "--train-encoder trains follower and encoder alone, got --bt too; leave one out, and go on with --bt "
                "--features tower:RUN/checkpoints/follower/best_val_unseen/encoder.safetensors"
            )

    @property
    def run_name(self) -> str:
        """Return the name of the run's folder."""
        if self.name:
            return self.name
        safe = "".join(c if c.isalnum() or c in "_+-." else "-" for c in Path(self.features).name)
        language = [] if self.language == "all" else [self.language]
        ends = ["bt"] * self.bt + ["end_to_end"] * self.encoder.train_encoder
        return "_".join([self.dataset, *language, safe, *self.text.tag, *ends])


_R2R = TrainConfig(dataset="r2r")
# The paper's RxR recipe (run/agent_rxr_clip_*); speaker and back-translation are ours, the reference has none.
_RXR = TrainConfig(
    dataset="rxr",
    follower=FollowerConfig(iters=200_000, ml_weight=0.4, max_input=160, eval_every=1_000),
    speaker=SpeakerConfig(max_decode=160),
    back_translation=BackTranslationConfig(bt_until=400_000, real_weight=0.4, bt_eval_every=500),
)
# What the demo world changes: small models, minutes instead of days.
_DEMO = TrainConfig(
    dataset="demo",
    model=ModelConfig(
        hidden_width=256,
        word_width=128,
        angle_width=32,
        action_width=32,
        speaker_dropout=0.3,
        speaker_feature_dropout=0.1,
    ),
    follower=FollowerConfig(
        iters=250, lr=1e-3, ml_weight=1.0, max_action=15, eval_every=50, train_batches=4, optimizer="adam"
    ),
    # Small batches: the speaker learns to look only after a number of steps, whatever their size.
    speaker=SpeakerConfig(
        speaker_iters=1_600, speaker_batch_size=16, speaker_lr=1e-3, speaker_eval_every=200, max_decode=60
    ),
    back_translation=BackTranslationConfig(bt_iters=120, bt_lr=5e-4, bt_eval_every=20, real_weight=1.0, aug_weight=1.0),
)
PRESETS = {
    "r2r": _R2R,
    "xl-r2r": replace(_R2R, dataset="xl-r2r"),
    "r4r": replace(_R2R, dataset="r4r", follower=FollowerConfig(teacher="guide", reward="ndtw", max_input=160)),
    "r2r-ce": replace(_R2R, dataset="r2r-ce"),
    "rxr": _RXR,
    "rxr-ce": replace(_RXR, dataset="rxr-ce"),
    "demo": _DEMO,
    # Instructions describe the annotated path, which is not the shortest: imitation follows it.
    "demo-rxr": replace(
        _DEMO,
        dataset="demo-rxr",
        follower=replace(
            _DEMO.follower, iters=600, eval_every=100, teacher="guide", reward="ndtw", max_input=160, max_action=20
        ),
        # Three languages take the speaker more than twice the steps before it begins to look.
        speaker=replace(
            _DEMO.speaker,
            speaker_iters=4_000,
            speaker_batch_size=32,
            speaker_lr=2e-3,
            speaker_eval_every=500,
            max_decode=120,
        ),
    ),
}


def parse(argv: list[str] | None, find_dataset: Any) -> TrainConfig:
    """Parse the command line on top of the preset of its data set.

    Args:
        argv: words; None reads ``sys.argv``.
        find_dataset: turns ``auto`` into the data set that is there.
    """
    return parse_on_preset(argv, PRESETS, find_dataset, "python -m vln_clip.train")


def from_json(cls: Any, values: dict[str, Any]) -> Any:
    """Build a flat configuration of a saved one; settings that no longer exist are an ``InputError``."""
    known = {f.name for f in fields(cls)}
    unknown = sorted(values.keys() - known)
    if unknown:
        raise InputError(f"the saved configuration has unknown settings {unknown}; it is of another version")
    return cls(**values)
