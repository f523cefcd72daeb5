"""N-grams as 64-bit integers, and in how many images each occurs (specification 3.4).

Four words of a vocabulary of up to 32,766 are packed into one number from 0 on, exactly. With more words the number is
a hash with an odd base modulo 2^64: among ten million n-grams two are equal by chance with a probability below 1 in
100,000.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vln_clip.errors import InputError
from vln_clip.files import save_safetensors
from vln_clip.reading import loads
from vln_clip.tasks.captioning.records import CaptionedImage
from vln_clip.tasks.captioning.vocabulary import END, CaptionVocabulary

ORDERS = (1, 2, 3, 4)
EXACT_BASE, MAX_EXACT = 1 << 16, (1 << 15) - 1  # the highest bit stays free
HASH_BASE = 0x5851F42D4C957F2D  # Knuth's multiplier of MMIX, odd
PICKLES = (".p", ".pkl", ".pickle")


def base_for(num_indices: int) -> int:
    """Return the base that packs n-grams of indices from 0 to below ``num_indices``."""
    return EXACT_BASE if num_indices <= MAX_EXACT else HASH_BASE


def pack(tokens: Tensor, order: int, base: int) -> Tensor:
    """Return the n-gram that begins at each place, (…, L - order + 1) int64; ``tokens`` (…, L) int64, none below 0."""
    num_places = max(0, tokens.shape[-1] - order + 1)
    packed = tokens.new_zeros((*tokens.shape[:-1], num_places))
    for offset in reversed(range(order)):
        packed = packed * base + (tokens[..., offset : offset + num_places] + 1)  # + 1: a shorter n-gram has a 0 there
    return packed


@dataclass(frozen=True)
class NgramCounts:
    """In how many images each n-gram occurs.

    Attributes:
        ngrams: (G,) int64, sorted.
        num_images_with: (G,) int32, at least 1.
        num_images: of the whole corpus.
        base: that the n-grams are packed with.
        words: hash of the vocabulary that gave the indices.
    """

    ngrams: np.ndarray
    num_images_with: np.ndarray
    num_images: int
    base: int
    words: str

    @classmethod
    def build(cls, images: Sequence[CaptionedImage], vocabulary: CaptionVocabulary) -> "NgramCounts":
        """Count the n-grams of images' whole captions, each ended by index 0; unknown words are ``UNK``.

        Args:
            images: of training, ``restval`` included, as the reference has it; those without captions count, too.
            vocabulary: that the captions to be scored are written with.
        """
        captions = [words for image in images for words in image.words]
        flat, length = vocabulary.encode(captions)
        ended = np.insert(flat, np.cumsum(length), END)
        owner = np.repeat(np.arange(len(images)), [len(image.words) for image in images])
        base = base_for(vocabulary.size)
        ngrams, counts = count_ngrams(ended, length + 1, owner, base)
        return cls(ngrams, counts, len(images), base, fingerprint(vocabulary))

    def write(self, path: Path) -> None:
        """Write a safetensors file."""
        note = {"format": "caption n-grams 1", "num_images": self.num_images, "base": self.base, "words": self.words}
        arrays = {"ngrams": self.ngrams, "num_images_with": self.num_images_with}
        save_safetensors(path, arrays, {"ngrams": json.dumps(note)})

    @classmethod
    def read(cls, path: Path, vocabulary: CaptionVocabulary) -> "NgramCounts":
        """Read what ``write`` wrote for a vocabulary.

        Raises:
            InputError: missing or damaged file, a public pickle, or one of another vocabulary.
        """
        if path.suffix in PICKLES:
            raise InputError(
                f"file {path} is a pickle, which can run code of its author and is never loaded; leave it away, its "
                "n-gram counts are computed again from the captions of the training split in seconds"
            )
        if not path.is_file():
            raise InputError(f"n-gram counts {path} do not exist; leave them away to compute them from the captions")
        try:
            found = _load(path)
        except (SafetensorError, KeyError, ValueError, TypeError, RecursionError, OSError) as error:
            raise InputError(f"{path} must hold n-gram counts of this package, but: {error!s:.200}") from None
        if found.words != fingerprint(vocabulary):
            raise InputError(f"n-gram counts {path} are of another vocabulary; compute them again from the captions")
        return found


def count_ngrams(flat: np.ndarray, length: np.ndarray, owner: np.ndarray, base: int) -> tuple[np.ndarray, np.ndarray]:
    """Count the owners of each n-gram.

    Args:
        flat: indices of all captions one after the other, (n,) int64.
        length: of each caption, (M,).
        owner: number of each caption's image, (M,), never falling.
        base: for ``pack``.

    Returns:
        The n-grams, sorted (G,) int64, and how many owners each has, (G,) int32.
    """
    ends = np.repeat(np.cumsum(length), length)  # behind the last word of the caption that each word is in
    owners = np.repeat(owner, length)
    tokens = torch.from_numpy(flat)
    found = []
    for order in ORDERS:
        packed = pack(tokens, order, base).numpy()
        inside = np.flatnonzero(np.arange(len(packed)) + order <= ends[: len(packed)])
        packed, whose = packed[inside], owners[inside]
        by_ngram = np.argsort(packed, kind="stable")  # owners of an n-gram still never fall
        packed, whose = packed[by_ngram], whose[by_ngram]
        first = np.ones(len(packed), bool)
        first[1:] = (packed[1:] != packed[:-1]) | (whose[1:] != whose[:-1])
        packed = packed[first]
        begins = np.flatnonzero(np.concatenate([[True], packed[1:] != packed[:-1]])[: len(packed)])
        found.append((packed[begins], np.diff(begins, append=len(packed))))
    ngrams, counts = (np.concatenate(parts) for parts in zip(*found, strict=True))
    by_ngram = np.argsort(ngrams)
    return ngrams[by_ngram], counts[by_ngram].astype(np.int32)


def fingerprint(vocabulary: CaptionVocabulary) -> str:
    """Return a hash of the words and their order."""
    return hashlib.sha256("\n".join(vocabulary.words).encode()).hexdigest()


def _load(path: Path) -> NgramCounts:
    """Read and check a file; what is wrong with it raises what that raises."""
    with safe_open(path, framework="np") as archive:
        note = loads((archive.metadata() or {})["ngrams"])
        ngrams, counts = archive.get_tensor("ngrams"), archive.get_tensor("num_images_with")
    if not isinstance(note, dict) or type(note["num_images"]) is not int or not 0 < note["num_images"] < 1 << 31:
        raise ValueError("the number of images is not there")
    if note["base"] not in (EXACT_BASE, HASH_BASE) or not isinstance(note["words"], str):
        raise ValueError("it was written by another version")
    if (ngrams.dtype, counts.dtype) != (np.int64, np.int32) or ngrams.shape != counts.shape or ngrams.ndim != 1:
        raise ValueError("n-grams and counts do not fit together")
    if (ngrams[1:] <= ngrams[:-1]).any() or ((counts < 1) | (counts > note["num_images"])).any():
        raise ValueError("n-grams are not sorted, or counts are not between 1 and the number of images")
    return NgramCounts(ngrams, counts, note["num_images"], note["base"], note["words"])
