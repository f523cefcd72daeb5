"""Measures how fast captions are written and learned: ``python scripts/bench_caption.py [--json FILE]``.

The model has the sizes of the paper and random weights, so that few beams end before the last word: the slowest case
for a search that stops early. The reference way is one image after the other, as its code does: nothing is cached,
every step computes all words so far again, and each beam has its own copy of the image, projected at every step. It
writes the same captions, which is checked.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from torch import Tensor

from vln_clip.tasks.captioning.models.beam import PENALTY, beam_search
from vln_clip.tasks.captioning.models.decoding import MAX_WORDS, greedy, said_mask, sample, sample_to_learn
from vln_clip.tasks.captioning.models.losses import caption_loss, other_samples_advantage, self_critical_loss
from vln_clip.tasks.captioning.models.transformer import CaptionTransformer

CAPTION_WORDS = 10  # of a typical COCO caption
LEARNED_IMAGES = 10  # of a step, with 5 captions each


@dataclass(frozen=True)
class BenchConfig:
    """Measure captioning."""

    json: Path | None = None
    """also write the figures to this file"""
    device: str = "cpu"
    """where to measure"""
    threads: int = 2
    """CPU threads"""
    clock: Literal["wall", "cpu"] = "wall"
    """cpu counts the time that the threads had, for machines that others use too; then take one thread"""
    images: int = 24
    """images of a batch that captions are written for"""
    reference_images: int = 3
    """images whose captions must be those of the reference way"""
    repeats: int = 3
    """timed repetitions; the fastest counts"""
    grid_width: int = 2560
    """channels of the grid features, those of RN50x4"""
    grid_size: int = 14
    """rows and columns of the grid"""
    vocabulary_size: int = 9488
    """indices of words"""
    beam_size: int = 5
    """beams, and samples per image"""
    norm: Literal["torch", "reference"] = "torch"
    """layer norm of the model"""


def main() -> None:
    """Measure and print."""
    config = tyro.cli(BenchConfig)
    torch.set_num_threads(config.threads)
    torch.manual_seed(0)
    model = CaptionTransformer(config.vocabulary_size, config.grid_width, norm=config.norm).to(config.device)
    with torch.no_grad():
        model.words.weight *= 3  # sharper than fresh ones: beams differ clearly
    size = config.grid_size
    grid = torch.randn(config.images, config.grid_width, size, size, device=config.device).half()
    figures = {}
    for measure in (writing, learning):
        for name, value in measure(config, model, grid).items():
            figures[name] = value
            print(f"{name:<40}{value:>10.2f}", flush=True)
    if config.json:
        config.json.write_text(json.dumps(figures, indent=2) + "\n")


def writing(config: BenchConfig, model: CaptionTransformer, grid: Tensor) -> dict[str, float]:
    """Time beam search against the reference way, which needs as long for every image; all from the grid on."""
    unknown = config.vocabulary_size - 1
    few = grid[: config.reference_images]

    def beams(part: Tensor) -> Tensor:
        return beam_search(model, model.encode(part), config.beam_size, unknown=unknown).tokens[:, 0]

    def by_sample() -> Tensor:
        generator = torch.Generator(config.device).manual_seed(0)
        return sample(model, model.encode(grid), config.beam_size, generator).tokens

    with torch.no_grad():
        plain = torch.stack([reference_way(model, image[None], config.beam_size, unknown) for image in few])
        equal = int((plain == beams(few)).all(1).sum())
        reference_s = fastest(lambda: reference_way(model, few[:1], config.beam_size, unknown), config)
        beam_s = fastest(lambda: beams(grid), config)
        encode_s = fastest(lambda: model.encode(grid), config)
        greedy_s = fastest(lambda: greedy(model, model.encode(grid)).tokens, config)
        sample_s = fastest(by_sample, config)
    reference_ms, beam_ms = 1e3 * reference_s, 1e3 * beam_s / len(grid)
    return {
        "reference_beam_ms_per_image": reference_ms,
        "beam_ms_per_image": beam_ms,
        "ratio_reference_to_ours": reference_ms / beam_ms,
        "equal_captions_share": equal / len(few),
        "encode_ms_per_image": 1e3 * encode_s / len(grid),
        "greedy_images_per_s": len(grid) / greedy_s,
        f"sample_{config.beam_size}_images_per_s": len(grid) / sample_s,
        "words_per_caption": float((plain != 0).sum(1).float().mean()),
    }


def reference_way(model: CaptionTransformer, grid: Tensor, beam_size: int, unknown: int) -> Tensor:
    """Write the caption of one image, (T,): no cache, the image repeated for every beam, 20 steps whatever happens."""
    memory = model.encode(grid).repeat(beam_size, 1, 1)
    tokens = torch.zeros(beam_size, 0, dtype=torch.int64, device=grid.device)
    total = torch.zeros(beam_size, device=grid.device)
    stored: list[tuple[float, Tensor]] = []
    for now in range(MAX_WORDS):
        prefix = torch.nn.functional.pad(tokens, (1, 0))
        log_prob = model.words(model.states(memory, prefix[:, None])[:, 0, -1]).log_softmax(-1)
        log_prob[:, unknown] -= PENALTY
        candidates = (total[:, None] + log_prob)[: beam_size if now else 1].flatten()
        total, chosen = candidates.topk(beam_size)
        parent, word = chosen // log_prob.shape[1], chosen % log_prob.shape[1]
        tokens = torch.cat([tokens[parent], word[:, None]], 1)
        for beam in range(beam_size):
            if word[beam] == 0 or now == MAX_WORDS - 1:
                stored.append((total[beam].item(), tokens[beam]))
                total[beam] -= PENALTY
    best = max(stored, key=lambda entry: entry[0])[1]
    return torch.nn.functional.pad(best, (0, MAX_WORDS - len(best)))


def learning(config: BenchConfig, model: CaptionTransformer, grid: Tensor) -> dict[str, float]:
    """Time steps of both stages on 10 images with 5 captions each: rewards, which are not ours, are left out."""
    grid, generator = grid[:LEARNED_IMAGES], torch.Generator(config.device).manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 0.0)
    rows = torch.randint(1, config.vocabulary_size, (len(grid), 5, 18), device=config.device)
    rows[..., 0], rows[..., CAPTION_WORDS + 1 :] = 0, 0
    mask = said_mask(rows[..., 1:])

    def step(loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(model.parameters(), 0.1)
        optimizer.step()

    def cross_entropy() -> None:
        step(caption_loss(model(grid, rows[..., :-1], generator), rows[..., 1:], mask))

    def self_critical() -> None:
        drawn = sample_to_learn(model, grid, 5, generator)
        advantage = other_samples_advantage(torch.rand(drawn.tokens.shape[:2], device=config.device))
        step(self_critical_loss(drawn.log_prob, drawn.tokens, advantage))

    return {
        "cross_entropy_step_ms": 1e3 * fastest(cross_entropy, config),
        "self_critical_step_ms": 1e3 * fastest(self_critical, config),
    }


def fastest(run: Callable[[], object], config: BenchConfig) -> float:
    """Return the fastest of some repetitions, in seconds, after one that is not counted."""
    now = time.perf_counter if config.clock == "wall" else time.process_time
    times = []
    for _ in range(config.repeats + 1):
        begin = now()
        run()
        if config.device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(now() - begin)
    return min(times[1:])


if __name__ == "__main__":
    main()
