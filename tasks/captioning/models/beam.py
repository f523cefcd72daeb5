"""Beam search of specification §3.5 for all images of a batch at once, on their device.

A beam that says the end is stored with its score and goes on 1000 lower, at the last step every beam is stored, and
the best stored one wins. What the reference goes on with although it can no longer win is left out here. Axes: ``R``
beams of one image, ``T`` most words of a caption, ``W`` indices of the vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from math import isfinite

import torch
from torch import Tensor

from vln_clip.errors import InputError
from vln_clip.tasks.captioning.models.decoding import END, MAX_WORDS, Captions
from vln_clip.tasks.captioning.models.transformer import CaptionTransformer

PENALTY = 1000.0  # on beams that have ended, and on the unknown word
TAKE_SHARE = 0.75  # images whose caption is settled leave the batch when at most this share is left


def length_divisor(name: str) -> Callable[[int], float]:
    """Return what scores of beams are divided by, given their number of words with the end.

    Args:
        name: empty for 1, as the paper has it; ``avg`` for the number itself; ``wu_α`` such as ``wu_0.8`` for
            ((5 + number) / 6)^α.

    Raises:
        InputError: another name, or α is no finite number of 0 or more.
    """
    kind, _, given = name.partition("_")
    if kind == "wu":
        try:
            alpha = float(given)
        except ValueError:
            alpha = -1.0
        if alpha >= 0 and isfinite(alpha):
            return lambda num_words: ((5 + num_words) / 6) ** alpha
    if name in ("avg", "avg_0"):
        return float
    if not name:
        return lambda _: 1.0
    raise InputError(f"length penalty must be empty, avg or wu_α with α of 0 or more (wu_0.8), got {name!r}")


@dataclass(eq=False)
class _Beams:
    """Beams of the images that are still open, and the best that was stored of each.

    Attributes:
        images: (B,) int64, place of each image in the batch.
        tokens: (B, R, T) int64.
        log_prob: (B, R, T).
        running: (B, R) score, 1000 less for each end.
        best_tokens: (B, T) int64.
        best_log_prob: (B, T).
        best_score: (B,).
    """

    images: Tensor
    tokens: Tensor
    log_prob: Tensor
    running: Tensor
    best_tokens: Tensor
    best_log_prob: Tensor
    best_score: Tensor

    @classmethod
    def start(cls, num_images: int, num_beams: int, max_words: int, device: torch.device) -> "_Beams":
        """Return beams without words; all but one of each image cannot go on, so that the first words differ."""
        tokens = torch.zeros((num_images, num_beams, max_words), dtype=torch.int64, device=device)
        log_prob = torch.zeros(tokens.shape, device=device)
        running = torch.full(tokens.shape[:2], -torch.inf, device=device)
        running[:, 0] = 0.0
        images = torch.arange(num_images, device=device)
        return cls(
            images, tokens, log_prob, running, tokens[:, 0], log_prob[:, 0], running.new_full(images.shape, -torch.inf)
        )

    def extend(self, logits: Tensor, unknown: int | None, now: int) -> tuple[Tensor, Tensor]:
        """Go on with the R best of all beams' next words; return their beams and the words, both (B, R)."""
        R = self.running.shape[1]
        total = logits.logsumexp(-1, keepdim=True)
        if unknown is not None:
            logits[..., unknown] -= PENALTY
        top, choice = logits.topk(R, -1)  # (B, R, R): no beam can have more of the R best
        top = (top - total).flatten(1)
        self.running, chosen = (self.running.repeat_interleave(R, 1) + top).topk(R, -1)  # (B, R)
        parents, word = chosen // R, choice.flatten(1).gather(1, chosen)
        follow = parents[..., None].expand_as(self.tokens)
        self.tokens, self.log_prob = self.tokens.gather(1, follow), self.log_prob.gather(1, follow)
        self.tokens[..., now], self.log_prob[..., now] = word, top.gather(1, chosen)
        return parents, word

    def store(self, ended: Tensor, divisor: float) -> None:
        """Store the beams that have ended, (B, R) bool, and lower them; of equals the first stays."""
        score, which = torch.where(ended, self.running / divisor, -torch.inf).max(1)
        better = score > self.best_score
        row = torch.arange(len(which), device=which.device)
        self.best_tokens = torch.where(better[:, None], self.tokens[row, which], self.best_tokens)
        self.best_log_prob = torch.where(better[:, None], self.log_prob[row, which], self.best_log_prob)
        self.best_score = torch.where(better, score, self.best_score)
        self.running = self.running - PENALTY * ended

    def open(self, largest_divisor: float) -> Tensor:
        """Return the index of images whose best may still change: words only lower a score."""
        return (self.running.amax(1) / largest_divisor > self.best_score).nonzero().squeeze(1)

    def take(self, index: Tensor) -> None:
        """Go on with some images only."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[index])


@torch.no_grad()
def beam_search(
    model: CaptionTransformer,
    memory: Tensor,
    beam_size: int = 5,
    *,
    unknown: int | None,
    max_words: int = MAX_WORDS,
    length_penalty: str = "",
) -> Captions:
    """Write the best caption of each image that beam search finds, S = 1.

    Args:
        model: writes.
        memory: (B, N, D), what ``model.encode`` returned.
        beam_size: R.
        unknown: index of the unknown word, which loses 1000, as the reference has it; None lets it be said.
        max_words: T.
        length_penalty: as ``length_divisor`` takes it.

    Returns:
        Captions; their log-probabilities are those that were summed, with 1000 less for an unknown word.

    Raises:
        ValueError: the beam is not positive or wider than the vocabulary.
        InputError: the length penalty has no such name.
    """
    if not 0 < beam_size <= model.vocabulary_size:
        raise ValueError(f"beam_size must be from 1 to the vocabulary's {model.vocabulary_size}, got {beam_size}")
    divisor = length_divisor(length_penalty)
    B = len(memory)
    tokens = torch.zeros((B, 1, max_words), dtype=torch.int64, device=memory.device)
    log_prob = torch.zeros(tokens.shape, device=memory.device)
    beams = _Beams.start(B, beam_size, max_words, memory.device)
    state = model.begin(memory, beam_size, max_words)
    word = beams.tokens[..., 0]
    for now in range(max_words):
        parents, word = beams.extend(model.step(word, state).float(), unknown, now)
        state.follow(parents)
        beams.store((word == END) | (now == max_words - 1), divisor(now + 1))
        rows = beams.open(divisor(max_words)) if now < max_words - 1 else beams.images[:0]
        if not len(rows) or len(rows) <= TAKE_SHARE * len(word):
            tokens[beams.images, 0], log_prob[beams.images, 0] = beams.best_tokens, beams.best_log_prob
            if not len(rows):
                break
            beams.take(rows)
            state.take(rows)
            word = word[rows]
    return Captions(tokens, log_prob)
