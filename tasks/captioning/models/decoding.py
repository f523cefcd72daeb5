"""Writing captions word by word, for all images of a batch at once: the likeliest words, or drawn ones.

Axes: ``S`` captions of one image, ``T`` most words of a caption, ``W`` indices of the vocabulary. Beam search is in
``beam``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vln_clip.tasks.captioning.models.layers import RepeatableDropout
from vln_clip.tasks.captioning.models.transformer import CaptionTransformer

END = 0  # begins, ends and pads captions
MAX_WORDS = 20  # of a caption that a model writes (specification §3.4, §3.5)


@dataclass(frozen=True, eq=False)
class Captions:
    """Captions of B images.

    Attributes:
        tokens: (B, S, T) int64, words up to the first 0, and 0 from there on; without a 0 where T words did not do.
        log_prob: (B, S, T) of each word and of the first 0 under the model at temperature 1; 0 behind that.
    """

    tokens: Tensor
    log_prob: Tensor


def said_mask(tokens: Tensor) -> Tensor:
    """Return which of the tokens (…, T) of ``Captions`` were chosen: the words and the first 0, (…, T) bool."""
    return F.pad(tokens[..., :-1] != END, (1, 0), value=True)  # the first always, others where no end came before


def greedy(model: CaptionTransformer, memory: Tensor, max_words: int = MAX_WORDS) -> Captions:
    """Write the likeliest word at every step, one caption per image; ties go to the lower index.

    Args:
        model: writes.
        memory: (B, N, D), what ``model.encode`` returned.
        max_words: T.
    """
    return _write(model, memory, 1, max_words, lambda log_prob: log_prob.argmax(-1))


def sample(
    model: CaptionTransformer,
    memory: Tensor,
    num_captions: int,
    generator: torch.Generator,
    *,
    temperature: float = 1.0,
    max_words: int = MAX_WORDS,
    noise: RepeatableDropout | None = None,
) -> Captions:
    """Draw captions, several per image; the images' memory is shared, not repeated.

    Args:
        model: writes.
        memory: (B, N, D), what ``model.encode`` returned.
        num_captions: S.
        generator: source of the draws.
        temperature: log-probabilities are divided by it before drawing.
        max_words: T.
        noise: dropout in the decoder; None for none.

    Raises:
        ValueError: the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}; for the likeliest words take greedy")

    def draw(log_prob: Tensor) -> Tensor:
        probability = torch.softmax(log_prob.flatten(0, 1) / temperature, -1)
        return torch.multinomial(probability, 1, generator=generator).view(log_prob.shape[:2])

    return _write(model, memory, num_captions, max_words, draw, noise)


@torch.no_grad()
def _write(
    model: CaptionTransformer,
    memory: Tensor,
    num_captions: int,
    max_words: int,
    choose: Callable[[Tensor], Tensor],
    noise: RepeatableDropout | None = None,
) -> Captions:
    """Let ``choose`` take a word (B, S) from log-probabilities (B, S, W) until every caption has ended."""
    shape = (len(memory), num_captions, max_words)
    tokens = torch.zeros(shape, dtype=torch.int64, device=memory.device)
    said = memory.new_zeros(shape)
    state = model.begin(memory, num_captions, max_words)
    word, alive = tokens[..., 0], torch.ones(shape[:2], dtype=torch.bool, device=memory.device)
    for now in range(max_words):
        log_prob = torch.log_softmax(model.step(word, state, noise).float(), -1)
        word = choose(log_prob) * alive
        tokens[..., now] = word
        said[..., now] = log_prob.gather(-1, word[..., None]).squeeze(-1) * alive
        alive = alive & (word != END)
        if not alive.any():
            break
    return Captions(tokens, said)


def sample_to_learn(
    model: CaptionTransformer,
    grid: Tensor | None,
    num_captions: int,
    generator: torch.Generator,
    *,
    max_words: int = MAX_WORDS,
    num_images: int = 1,
) -> Captions:
    """Draw captions in training and return log-probabilities that gradients flow through.

    Words are drawn one by one without gradients; one pass over all of them, with the same dropout, has the gradients.

    Args:
        model: writes, with dropout.
        grid: as ``model.encode`` takes it.
        num_captions: S.
        generator: source of draws and dropout.
        max_words: T.
        num_images: B of a model without images.
    """
    memory = model.encode(grid, generator, num_images)
    noise = RepeatableDropout(generator, max_words)
    tokens = sample(model, memory, num_captions, generator, max_words=max_words, noise=noise).tokens
    mask = said_mask(tokens)
    L = int(mask.sum(-1).max())  # what lies behind the longest caption costs nothing
    logits = model.decode(memory, F.pad(tokens[..., : L - 1], (1, 0)), noise)
    nll = F.cross_entropy(logits.flatten(0, 2), tokens[..., :L].flatten(), reduction="none")
    log_prob = -nll.view(tokens[..., :L].shape) * mask[..., :L]
    return Captions(tokens, F.pad(log_prob, (0, max_words - L)))
