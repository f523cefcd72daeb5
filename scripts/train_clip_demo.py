"""Trains the encoder ``clip_demo``: ``python scripts/train_clip_demo.py``, minutes on two cores.

A small CLIP from nothing but the demo world's training houses: views in all directions with sentences that the
generator knows to be true of them, open_clip's contrastive loss. Prints the loss and how well captions find their
pictures among those of houses it has not seen; writes both towers and their words as one float16 file. The same seed
gives the same file on the same kind of machine. ``--encoder NAME`` trains the image tower of any other encoder.
"""

import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from open_clip.loss import ClipLoss
from torch import Tensor, nn

from vln_clip import files, log
from vln_clip.encoders import Encoder, create_encoder
from vln_clip.encoders.demo_clip import METADATA_KEY, NAME, SIZE_PX, WEIGHTS, WIDTH, list_words, make_text_tower
from vln_clip.encoders.text import TextEncoder
from vln_clip.envs.demo.config import DemoConfig
from vln_clip.envs.demo.making import run_jobs
from vln_clip.envs.demo.pictures import PicturesConfig
from vln_clip.envs.demo.pictures.captions import captions
from vln_clip.envs.demo.pictures.described import described_views
from vln_clip.envs.demo.pictures.views import draw_pictures
from vln_clip.errors import InputError

_RECALLS = (1, 5, 10)
_MAX_SENTENCES = 2  # of one view that are joined to a text
_HIDDEN = 0.03  # share of words made unknown
_SHIFT_PX, _SKYBOX_PX = 8, (56, 74)  # most that a view is shifted; the size at which a skybox of the demo shows it
_NORM = 4.0  # of the mean image: features of this length suit the demo's agents


@dataclass(frozen=True)
class Options:
    """Train a small CLIP on the demo world."""

    seed: int = 0
    """of the weights and the order of the views; the houses are the demo world's own"""
    encoder: str = NAME
    """whose image tower is trained, from random weights"""
    views_per_house: int = 200
    """drawn in each of the training houses"""
    iters: int = 1_500
    """steps"""
    batch_size: int = 128
    """views with one text each"""
    precision: Literal["float32", "bf16"] = "bf16"
    """of the image tower while it is trained; bf16 is faster by half on CPUs that have AVX512_BF16 or AMX"""
    lr: float = 2e-3
    """highest learning rate; it rises over a tenth of the steps, then falls as a cosine"""
    weight_decay: float = 0.1
    """of matrices"""
    report_every: int = 50
    """steps between reports"""
    threads: int = 2
    """of torch, and processes that draw; results depend on it in the last digits"""
    out: Path | None = None
    """file to write; by default that of this package, which other encoders than clip_demo must not overwrite"""

    def __post_init__(self) -> None:
        if self.encoder != NAME and self.out is None:
            raise InputError(f"--out must be given with --encoder other than {NAME}, got none; name a file")


@dataclass(frozen=True)
class Pairs:
    """Views and what is said of them: (N, 3, H, W) uint8, and sentences of each."""

    images: Tensor
    sentences: tuple[tuple[str, ...], ...]


Drawn = tuple[np.ndarray, list[tuple[str, ...]]]  # of one house: (N, H, W, 3) uint8, and sentences


class Towers(nn.Module):
    """Both towers and the scale of their cosines."""

    def __init__(self, image: Encoder, text: TextEncoder):
        super().__init__()
        self.image, self.text = image, text
        self.match = nn.Identity() if image.pooled_width == WIDTH else nn.Linear(image.pooled_width, WIDTH)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def forward(self, images: Tensor, tokens: Tensor, bf16: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return unit vectors of images and of texts, (B, D) each, and the scale; bf16 concerns the image tower."""
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            pooled = self.image.pooled(images)
        seen = F.normalize(self.match(pooled.float()), dim=-1)
        return seen, F.normalize(self.text.encode_tokens(tokens), dim=-1), self.logit_scale.exp()


def main() -> None:
    """Draw, train, report and write."""
    options = tyro.cli(Options)
    log.setup()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    torch.use_deterministic_algorithms(True)
    begun_s = time.perf_counter()
    train, val = draw_train(options), draw_val(options)
    log.logger.info(
        "drew %s views of %d training houses and %d pictures of others in %.0f s",
        f"{len(train.images):,}",
        DemoConfig().num_train_houses,
        len(val.images),
        time.perf_counter() - begun_s,
    )
    words = list_words(text for group in train.sentences for text in group)
    towers = Towers(create_encoder(options.encoder, False), make_text_tower(words))
    towers.image.to(memory_format=torch.channels_last)  # a third faster on CPUs
    log.logger.info("%d words; parameters: %s", len(words), count_parameters(towers))
    fit(towers, train, val, options)
    bring_to_norm(towers, val)
    out = options.out or WEIGHTS
    files.save_safetensors(out, *content_of(towers, options, words))
    elapsed_s = time.perf_counter() - begun_s
    log.logger.info("wrote %s, %.1f MB, after %.0f s", out, out.stat().st_size / 1e6, elapsed_s)


def draw_train(options: Options) -> Pairs:
    """Draw the views of the training houses, in as many processes as there are threads."""
    config = DemoConfig()
    jobs = [(config.seed, number, options.views_per_house) for number in range(config.num_train_houses)]
    return collected(run_jobs(draw_views, jobs, options.threads, None))


def draw_views(seed: int, number: int, count: int) -> Drawn:
    """Draw the views of one house with their sentences."""
    views = list(described_views(seed, number, count, SIZE_PX))
    return np.stack([view.rgb for view in views]), [view.sentences for view in views]


def draw_val(options: Options) -> Pairs:
    """Draw the demo's captioned pictures of the houses of val2014."""
    config = PicturesConfig()
    pairs = collected(run_jobs(draw_captioned, [(n,) for n in config.houses_of("val2014")], options.threads, None))
    return Pairs(F.interpolate(pairs.images, SIZE_PX, mode="bilinear", antialias=True), pairs.sentences)


def draw_captioned(number: int) -> Drawn:
    """Draw the demo's pictures of one house with their captions."""
    config = PicturesConfig()
    pictures = list(draw_pictures(config, number))
    texts = [tuple(captions(config.seed, picture.facts)) for picture in pictures]
    return np.stack([picture.rgb for picture in pictures]), texts


def collected(houses: Sequence[Drawn]) -> Pairs:
    """Put the images of some houses together."""
    images = torch.from_numpy(np.concatenate([images for images, _ in houses])).permute(0, 3, 1, 2).contiguous()
    return Pairs(images, tuple(itertools.chain.from_iterable(sentences for _, sentences in houses)))


def fit(towers: Towers, train: Pairs, val: Pairs, options: Options) -> None:
    """Train both towers."""
    rng, loss_of = np.random.default_rng(options.seed), ClipLoss()
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in towers.parameters():
        groups[parameter.ndim >= 2].append(parameter)
    parts: list[dict[str, Any]] = [
        {"params": groups[True], "weight_decay": options.weight_decay},
        {"params": groups[False]},
    ]
    optimizer = torch.optim.AdamW(parts, lr=options.lr, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR
    rate = schedule(optimizer, options.lr, options.iters, pct_start=0.1, cycle_momentum=False)
    order = endless_order(rng, len(train.images))
    losses: list[float] = []
    for step in range(1, options.iters + 1):
        rows = np.fromiter(itertools.islice(order, options.batch_size), np.int64)
        images = towers.image.transform.scale(augmented(rng, train.images[torch.from_numpy(rows)]))
        tokens = tokens_of(rng, towers.text, [train.sentences[row] for row in rows.tolist()])
        towers.train()
        images = images.contiguous(memory_format=torch.channels_last)
        loss = loss_of(*towers(images, tokens, options.precision == "bf16"))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(towers.parameters(), 1.0)
        optimizer.step()
        rate.step()
        towers.logit_scale.data.clamp_(max=np.log(100))
        losses.append(float(loss.detach()))
        if step % options.report_every == 0 or step == options.iters:
            recent = np.mean(losses[-options.report_every :])
            log.logger.info("step %d, loss %.3f; %s", step, recent, score(towers, val))


def endless_order(rng: np.random.Generator, count: int) -> itertools.chain[int]:
    """Return rows in random order, epoch after epoch."""
    return itertools.chain.from_iterable(rng.permutation(count).tolist() for _ in itertools.count())


def augmented(rng: np.random.Generator, images: Tensor) -> Tensor:
    """Shift views a little and blur half of them as the small skyboxes of the demo do, (B, 3, H, W) uint8.

    Nothing is mirrored and no color changed: sentences say left and right, and name colors.
    """
    blurred = torch.from_numpy(rng.random(len(images)) < 0.5)
    small = F.interpolate(images[blurred].float(), _SKYBOX_PX, mode="bilinear")
    images = images.clone()
    images[blurred] = F.interpolate(small, images.shape[-2:], mode="bilinear").round_().to(torch.uint8)
    height, width = images.shape[-2:]
    padded = F.pad(images.float(), (_SHIFT_PX,) * 4, mode="replicate")
    corners = rng.integers(0, 2 * _SHIFT_PX + 1, (len(images), 2)).tolist()
    shifted = [view[:, y : y + height, x : x + width] for view, (y, x) in zip(padded, corners, strict=True)]
    return torch.stack(shifted).to(torch.uint8)


def tokens_of(rng: np.random.Generator, text: TextEncoder, groups: Sequence[Sequence[str]]) -> Tensor:
    """Join one or two sentences of each view, hide some words, (B, L) int64."""
    rows = []
    for sentences in groups:
        count = min(int(rng.integers(1, _MAX_SENTENCES + 1)), len(sentences))
        picked = [sentences[index] for index in rng.choice(len(sentences), count, replace=False).tolist()]
        words = np.array(text.words(" ".join(picked)))
        rows.append(np.where(rng.random(len(words)) < _HIDDEN, 0, words).tolist())
    return text.pack(rows)


@torch.inference_mode()
def score(towers: Towers, val: Pairs) -> str:
    """Tell how often a picture of unseen houses is among the first that its first caption, and all five, find."""
    towers.eval()
    images = torch.cat([encode_images(towers, part) for part in val.images.split(64)])
    parts = []
    for what, texts in (
        ("one caption", [group[0] for group in val.sentences]),
        ("five", [" ".join(group) for group in val.sentences]),
    ):
        cosines = F.normalize(towers.text.encode(texts), dim=-1) @ images.T  # (N, N)
        ranks = (cosines > cosines.diagonal()[:, None]).sum(1)
        loss = F.cross_entropy(cosines * towers.logit_scale.exp(), torch.arange(len(texts)))
        recalls = " ".join(f"R@{k} {100 * float((ranks < k).float().mean()):.1f}" for k in _RECALLS)
        parts.append(f"val {what}: loss {loss:.3f} {recalls}")
    return "; ".join(parts)


def encode_images(towers: Towers, images: Tensor) -> Tensor:
    """Return unit vectors of images, (B, D)."""
    return F.normalize(towers.match(towers.image.pooled(towers.image.transform.scale(images))), dim=-1)


@torch.inference_mode()
def bring_to_norm(towers: Towers, val: Pairs) -> None:
    """Scale the projection of our own tower so that its vectors are of the length that agents like; cosines stay."""
    if towers.image.name != NAME:
        return
    towers.eval()
    norm = float(towers.image.pooled(towers.image.transform.scale(val.images)).norm(dim=-1).mean())
    projection = towers.image.get_submodule("visual.attnpool.c_proj")
    for parameter in projection.parameters():  # weight and bias
        parameter.mul_(_NORM / norm)
    log.logger.info("mean length of image vectors: %.2f, brought to %.0f", norm, _NORM)


def count_parameters(towers: Towers) -> str:
    """Tell the size of both towers."""
    counts = {"image": towers.image, "text": towers.text}
    return ", ".join(f"{name} {sum(p.numel() for p in tower.parameters()):,}" for name, tower in counts.items())


def flags_of(options: Options) -> str:
    """Return the flags that the file's bytes depend on."""
    names = ["seed", "views_per_house", "iters", "batch_size", "precision", "threads"]
    # Named where they are given only: the file of this package has none of them, and its bytes are to come again.
    names += [name for name in ("lr", "weight_decay") if getattr(options, name) != getattr(Options(), name)]
    return " ".join(f"--{name.replace('_', '-')} {getattr(options, name)}" for name in names)


def content_of(towers: Towers, options: Options, words: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file and what it says of itself.

    Both towers under the names of open_clip's files, in float16; of another encoder its image tower alone, as it is.
    """
    found = towers.image.state_dict()
    if options.encoder != NAME:
        return found, {"encoder": options.encoder}
    found = {key: value for key, value in found.items() if not key.endswith("num_batches_tracked")}
    found |= {f"text.{key}": value for key, value in towers.text.tower.state_dict().items() if key != "attn_mask"}
    found["logit_scale"] = towers.logit_scale.data
    assert all(value.abs().max() < torch.finfo(torch.float16).max for value in found.values()), "must fit float16"
    about = {
        "made_by": f"scripts/train_clip_demo.py {flags_of(options)}",
        "trained_on": f"the demo world of seed {DemoConfig().seed}, houses 0 to {DemoConfig().num_train_houses - 1}",
        "words": list(words),
    }
    return {key: value.to(torch.float16) for key, value in found.items()}, {METADATA_KEY: json.dumps(about)}


if __name__ == "__main__":
    main()
