"""How fast CLIP-ViL_p learns, what of that is the encoder's own limit, and what activations take.

    python scripts/bench_pretrain.py --encoder clip_rn50 --size paper --batches 4 8 16
    python scripts/bench_pretrain.py                  # the demo's model

A step (forward, backward, both optimizers) on random pairs is compared with the encoder alone, forward and backward on
the same images, in one run; the ratio is what the rest of the model leaves of the encoder's pace. From the pace follows
how long the paper's 20 epochs of 9.18 million pairs take on 1, 8 and 64 such devices, if they scale evenly.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import tyro
from torch import Tensor, nn

from vln_clip.devices import pick_device, product_type
from vln_clip.encoders import create_encoder
from vln_clip.pretrain.config import DEMO_SIDES_PX, PAPER_PATCHES, PAPER_SIDES_PX
from vln_clip.pretrain.recipes import recipes_for
from vln_clip.tasks.pretraining.models import DEMO_SIZES, ClipVil, PretrainingModel, VilSizes, pretraining_losses
from vln_clip.tasks.pretraining.records import PretrainingBatch

PAIRS, EPOCHS, NUM_TOKENS = 9_180_000, 20, 20
DAY_S = 24 * 3600


@dataclass(frozen=True)
class Bench:
    """Measure steps of pre-training on random pairs."""

    encoder: str = "clip_demo"
    size: Literal["paper", "demo"] = "demo"
    batches: tuple[int, ...] = (16, 32, 64)
    """rows of a batch, each measured"""
    steps: int = 3
    """measured after one to warm up"""
    checkpointing: bool = False
    precision: Literal["float32", "bf16"] = "float32"
    device: str = "auto"


def main() -> None:
    """Run the script."""
    config = tyro.cli(Bench)
    device = pick_device(config.device)
    print(f"{config.encoder}, {config.size} size, {device}, {torch.get_num_threads()} threads, {config.precision}")
    print(f"{'batch':>6}{'pairs/s':>10}{'encoder alone':>15}{'share':>8}{'activations MB':>16}{'per pair':>10}")
    best = 0.0
    for batch in config.batches:
        pace, alone, memory = measure(config, batch, device)
        best = max(best, pace)
        memory_mb = memory / 1e6
        print(f"{batch:>6}{pace:>10.2f}{alone:>15.2f}{pace / alone:>8.2f}{memory_mb:>16.0f}{memory_mb / batch:>10.1f}")
    for devices in (1, 8, 64):
        days = PAIRS * EPOCHS / best / devices / DAY_S
        print(f"{EPOCHS} epochs of {PAIRS:,} pairs on {devices} such: {days:,.1f} days")


def measure(config: Bench, batch: int, device: torch.device) -> tuple[float, float, int]:
    """Return pairs per second of a step, images per second of the encoder alone, and bytes kept for the backward."""
    torch.manual_seed(0)
    paper = config.size == "paper"
    encoder = create_encoder(config.encoder, pretrained=False)
    sizes = VilSizes(30_522) if paper else replace(DEMO_SIZES, vocab_size=1_000)
    patches = PAPER_PATCHES if paper else None
    vil = ClipVil(encoder, sizes, num_patches=patches, checkpointing=config.checkpointing)
    vil.encoder.to(memory_format=torch.channels_last)  # as the program has it
    model = PretrainingModel(vil, 9_500).to(device).train()
    optimizer = recipes_for(config.size, config.encoder).first.optimizer(model, 100)
    height, width = PAPER_SIDES_PX if paper else DEMO_SIDES_PX
    images = torch.randn(batch, 3, height, width, device=device).contiguous(memory_format=torch.channels_last)
    pairs = random_pairs(batch, sizes.vocab_size).to(device)
    generator = torch.Generator(device).manual_seed(0)
    dtype = product_type(config.precision, device)

    def forward() -> Tensor:
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            output = model(pairs.tokens, images, pairs.masked, generator)
        return sum(total / count.clamp(min=1) for total, count in pretraining_losses(output, pairs).values())

    def step() -> None:
        optimizer.zero_grad()
        forward().backward()
        optimizer.step()

    def encode() -> None:
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            vil.encoder.grid(images).sum().backward()

    step_s, encode_s = (seconds(work, config.steps, device) for work in (step, encode))
    return batch / step_s, batch / encode_s, kept(forward, model)


def random_pairs(batch: int, vocab_size: int) -> PretrainingBatch:
    """Return pairs of full length, three of whose pieces are masked."""
    tokens = torch.randint(5, vocab_size, (batch, NUM_TOKENS))
    masked = torch.zeros(batch, NUM_TOKENS, dtype=torch.bool)
    masked[:, 3:6] = True
    matched = torch.randint(2, (batch,))
    answer = torch.randint(9_500, (batch,))
    return PretrainingBatch(tokens, masked, tokens[masked], matched, answer, torch.arange(batch))


def seconds(work: Callable[[], None], steps: int, device: torch.device) -> float:
    """Return the shortest time of some calls, after one that is not counted."""
    times = []
    for _ in range(steps + 1):
        begun_s = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begun_s)
    return min(times[1:])


def kept(forward: Callable[[], Tensor], model: nn.Module) -> int:
    """Return the bytes of the distinct tensors, beside weights, that a forward pass keeps for the backward."""
    weights = {value.untyped_storage().data_ptr() for value in model.state_dict().values()}
    found: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        loss = forward()
    total = sum(size for place, size in found.items() if place not in weights)
    del loss
    return total


if __name__ == "__main__":
    main()
