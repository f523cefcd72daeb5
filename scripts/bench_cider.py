"""Measures CIDEr-D: ``python scripts/bench_cider.py [--captions FILE] [--json FILE]``. Needs pycocoevalcap.

Ours against pycocoevalcap's scorer, in one process on the same captions; the two must agree. Twice: texts of a whole
split with their own document frequencies, as in evaluation, and batches of samples with those of the training
captions, as in self-critical training. Without --captions they are made up, with word frequencies like those of a
language; reading and counting are not part of it.
"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
import tyro
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.cider.cider_scorer import CiderScorer
from torch import Tensor

from vln_clip import log
from vln_clip.files import save_json
from vln_clip.tasks.captioning.cider import CiderD, score_texts
from vln_clip.tasks.captioning.files import read_annotations
from vln_clip.tasks.captioning.ngrams import ORDERS, NgramCounts
from vln_clip.tasks.captioning.records import CaptionedImage
from vln_clip.tasks.captioning.table import CaptionTable
from vln_clip.tasks.captioning.vocabulary import CaptionVocabulary

Frequencies = dict[tuple[str, ...], int]
NUM_WORDS, SHORTEST, LONGEST, REFERENCES = 9487, 8, 14, 5
SAMPLES, MAX_WORDS = 6, 20  # five samples and the greedy caption
TOLERANCE = 1e-9


@dataclass(frozen=True)
class BenchConfig:
    """Measure how long it takes to score captions."""

    captions: Path | None = None
    """COCO or Karpathy file; None makes captions up"""
    num_images: int = 5000
    """of the file, or made up"""
    batch_size: int = 10
    """images of a training batch"""
    num_batches: int = 20
    """batches that are scored"""
    json: Path | None = None
    """also write the figures to this file"""


def made_up(num_images: int) -> list[CaptionedImage]:
    """Return seeded captions whose words are as unequal as those of a language."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, NUM_WORDS + 1)
    found = []
    for number in range(num_images):
        drawn = rng.choice(NUM_WORDS, (REFERENCES, LONGEST), p=share / share.sum())
        lengths = rng.integers(SHORTEST, LONGEST, REFERENCES)
        words = tuple(tuple(f"w{n}" for n in row[:length]) for row, length in zip(drawn, lengths, strict=True))
        found.append(CaptionedImage(str(number), number, "train", tuple(map(" ".join, words)), words))
    return found


class CachedScorer(CiderScorer):
    """The library's scorer with given document frequencies, which it has no argument for."""

    num_images = 1
    # It sets ref_len from the captions at hand.
    ref_len = property(lambda self: math.log(self.num_images), lambda self, value: None)


def library_rewards(samples: Tensor, references: Tensor, mask: Tensor, frequency: Frequencies, num_images: int):
    """Score a batch as the library does, caption by caption, (B · S,)."""
    scorer = CachedScorer()
    scorer.num_images = num_images
    scorer.document_frequency = frequency
    groups = [[text_of(row) for row in group[real]] for group, real in zip(references, mask, strict=True)]
    for rows, group in zip(samples, groups, strict=True):
        for row in rows:
            scorer += (text_of(row), group)
    return np.array(scorer.compute_cider())


def text_of(row: Tensor) -> str:
    """Return an index row up to and with its first 0 as text."""
    words = row.tolist()
    return " ".join(map(str, words[: words.index(0) + 1] if 0 in words else words))


def library_frequencies(images: list[CaptionedImage], vocabulary: CaptionVocabulary) -> Frequencies:
    """Count in how many images each n-gram of indices occurs."""
    counts: Counter[tuple[str, ...]] = Counter()
    for image in images:
        rows = [[*map(str, vocabulary.encode([words])[0].tolist()), "0"] for words in image.words]
        counts.update({tuple(row[k : k + n]) for row in rows for n in ORDERS for k in range(len(row) - n + 1)})
    return defaultdict(int, counts)


def elapsed_s(work: Callable[[], object], repeats: int) -> float:
    """Return the median time of some repeats after a warm-up."""
    work()
    times = []
    for _ in range(repeats):
        began_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - began_s)
    return median(times)


def bench_texts(images: list[CaptionedImage]) -> dict[str, float]:
    """Measure the captions of a split: the first of each image against the others."""
    captions = [" ".join(image.words[0]) for image in images]
    groups = [[" ".join(words) for words in image.words[1:]] for image in images]
    gts, res = dict(enumerate(groups)), {n: [caption] for n, caption in enumerate(captions)}
    np.testing.assert_allclose(score_texts(captions, groups)[1], Cider().compute_score(gts, res)[1], atol=TOLERANCE)
    ours_s = elapsed_s(lambda: score_texts(captions, groups), 5)
    library_s = elapsed_s(lambda: Cider().compute_score(gts, res), 3)
    return {"captions": len(images), "ours_s": ours_s, "library_s": library_s, "ratio": library_s / ours_s}


def bench_rewards(images: list[CaptionedImage], config: BenchConfig) -> dict[str, float]:
    """Measure training batches whose samples are captions of other images, or their own cut and said twice."""
    vocabulary = CaptionVocabulary.build(images)
    table = CaptionTable.build(images, vocabulary)
    counts, frequency = NgramCounts.build(images, vocabulary), library_frequencies(images, vocabulary)
    scorer = CiderD(counts)
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(config.num_batches):
        chosen = torch.randint(len(table), (2, config.batch_size), generator=generator)
        references, mask = table.references(chosen[0])
        samples = table.batch(chosen[1], generator, SAMPLES).rows[..., 1:]
        samples = torch.nn.functional.pad(samples, (0, MAX_WORDS - samples.shape[-1]))
        samples[:, ::2] = references[:, :1, torch.arange(MAX_WORDS) % 5]
        batches.append((samples, references, mask))
    for batch in batches:
        plain = library_rewards(*batch, frequency, len(images))
        np.testing.assert_allclose(scorer(*batch).reshape(-1).numpy(), plain, atol=TOLERANCE)
    ours_s = elapsed_s(lambda: [scorer(*batch) for batch in batches], 5)
    library_s = elapsed_s(lambda: [library_rewards(*batch, frequency, len(images)) for batch in batches], 3)
    num_captions = config.num_batches * config.batch_size * SAMPLES
    return {"captions": num_captions, "ours_s": ours_s, "library_s": library_s, "ratio": library_s / ours_s}


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    config = tyro.cli(BenchConfig, args=argv)
    images = made_up(config.num_images) if config.captions is None else read_annotations(config.captions)
    images = [image for image in images if len(image.words) > 1][: config.num_images]
    found = {"texts": bench_texts(images), "rewards": bench_rewards(images, config)}
    for name, row in found.items():
        rates = (f"{who} {row['captions'] / row[f'{who}_s']:,.0f} captions/s" for who in ("ours", "library"))
        print(f"{name}: {row['captions']:,} captions, {', '.join(rates)}, ratio {row['ratio']:.1f}")
    if config.json is not None:
        save_json(config.json, found)


if __name__ == "__main__":
    log.program(main)
