"""CLIP's text encoder in place of a vocabulary of one's own: texts to its tokens, tokens to its states.

Agents and VQA models stay what they are: states stand where their word vectors stood. Frozen, the tower is no part of
them; what it gives is computed once per text and kept in float16. Trained, it is a part of the model and reads tokens.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vln_clip.errors import InputError
from vln_clip.log import logger, progress
from vln_clip.sampler import in_order
from vln_clip.text_config import TextEncoderConfig
from vln_clip.token_states import StateLists

if TYPE_CHECKING:
    from vln_clip.encoders.text import TextEncoder
    from vln_clip.encoders.token_tower import TokenTower

TEXTS_AT_ONCE, TOKENS_AT_ONCE = 512, 16_384  # of which states are computed together
CACHED_PIECES = 1 << 17  # what stands between blanks; texts repeat few pieces very often
_HEADER = ("encoder", "weights", "width", "trained")


class TokenReader:
    """A text tower with its tokenizer.

    It encodes texts as a vocabulary does (``encode``, ``encode_batch``, ``digest``): tokens are CLIP's plus 1, from
    begin to end, 0 is padding.

    Attributes:
        name: of the encoder.
        tower: gives states; where it is trained, every model has a copy of its own.
        trained: whether models train it.
        weights: where its weights come from, with a hash.
    """

    def __init__(self, encoder: TextEncoder, trained: bool) -> None:
        from vln_clip.encoders.token_tower import TokenTower

        self.name, self.trained, self.weights = encoder.name, trained, encoder.weights
        self.tower: TokenTower = TokenTower(encoder).requires_grad_(trained).eval()
        self._spell, self._word_list = encoder.spell, encoder.word_list

        def tokens_of(piece: str) -> tuple[int, ...]:
            return tuple(token + 1 for token in encoder.words(piece))

        self._tokens_of: Callable[[str], tuple[int, ...]] = lru_cache(CACHED_PIECES)(tokens_of)

    @property
    def width(self) -> int:
        """Return D of the states."""
        return self.tower.width

    @property
    def device(self) -> torch.device:
        """Return where the tower is."""
        return self.tower.device

    @property
    def digest(self) -> str:
        """Return a hash of all that ``encode`` depends on."""
        words = "".join(f"\n{word}" for word in self._word_list)  # files of one encoder may have others
        return hashlib.sha256(f"tokens of {self.name}, plus 1{words}".encode()).hexdigest()

    @property
    def empty(self) -> Tensor:
        """Return the tokens of a text without words, (2,) int64."""
        return torch.tensor([self.tower.begin, self.tower.end], device=self.device)

    def encode(self, text: str, max_tokens: int, language: str | None = None) -> list[int]:
        """Return a text's tokens.

        Args:
            text: of any language; CLIP has read English.
            max_tokens: longest result, begin and end included; a longer one is cut and still ends in the end.
            language: means nothing here.
        """
        tokens = list(chain.from_iterable(map(self._tokens_of, text.split())))
        return [self.tower.begin, *tokens[: max(0, max_tokens - 2)], self.tower.end]

    def encode_batch(
        self, texts: Sequence[str], max_tokens: int, languages: Sequence[str] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encode texts into one array padded to the longest: tokens (B, L) int64 and lengths (B,) int64."""
        rows = [self.encode(text, max_tokens) for text in texts]
        lengths = np.array([len(row) for row in rows], np.int64)
        tokens = np.zeros((len(rows), lengths.max(initial=0)), np.int64)
        tokens[np.arange(tokens.shape[1]) < lengths[:, None]] = list(chain.from_iterable(rows))
        return tokens, lengths

    def spelled(self, text: str, max_tokens: int) -> tuple[str, ...]:
        """Return what stands at each token of a text, begin and end as vocabularies write them."""
        words = self.encode(text, max_tokens)[1:-1]
        return ("<BOS>", *(self._spell(token - 1) for token in words), "<EOS>")

    def read(self, texts: Sequence[str], max_tokens: int) -> tuple[Tensor, Tensor]:
        """Read a batch of texts as models take them.

        Returns:
            States (B, L, D) float16, or tokens (B, L) int64 for a trained tower; and lengths (B,) int64.
        """
        arrays = self.encode_batch(texts, max_tokens)
        tokens, length = (torch.from_numpy(array).to(self.device) for array in arrays)
        return tokens if self.trained else self.tower.frozen(tokens, length), length

    def states(self, texts: Sequence[str], max_tokens: int) -> StateLists:
        """Compute the states of many texts; of equal ones once.

        They take 2 · D bytes per token on the tower's device; the log says how much that is.
        """
        different = {text: index for index, text in enumerate(dict.fromkeys(texts))}
        tokens, lengths = (torch.from_numpy(array) for array in self.encode_batch(list(different), max_tokens))
        first = lengths.cumsum(0) - lengths
        flat = torch.empty(int(lengths.sum()), self.width, dtype=torch.float16, device=self.device)
        steps = torch.arange(tokens.shape[1])
        with progress() as bar:
            task = bar.add_task(f"reading with {self.name}", total=len(different), status="")
            for rows in in_order(len(different), TEXTS_AT_ONCE, lengths, TOKENS_AT_ONCE):
                length = lengths[rows]
                there = steps[: int(length.max())] < length[:, None]  # (B, L)
                part = tokens[rows][:, : there.shape[1]].to(self.device)
                found = self.tower.frozen(part, length.to(self.device))
                flat[(first[rows][:, None] + steps[: there.shape[1]])[there].to(self.device)] = found[there]
                bar.update(task, advance=len(rows))
        logger.info(
            "text states of %s: %d texts, %d of them different, %d tokens, %.1f MB on %s",
            *(self.name, len(texts), len(different), len(flat), flat.numel() * 2 / 1e6, self.device),
        )
        index = torch.tensor([different[text] for text in texts], dtype=torch.int64)
        width, empty = int(lengths.max()) if len(lengths) else 0, self.tower.frozen(self.empty[None])[0]
        return StateLists(flat, first[index].to(self.device), lengths[index].to(self.device), width, empty)

    def own_tower(self) -> TokenTower | None:
        """Return a tower for a model to train, None where it is frozen."""
        return copy.deepcopy(self.tower).train() if self.trained else None

    def to_json(self) -> dict[str, Any]:
        """Return what checkpoints hold of it."""
        told = {"encoder": self.name, "weights": self.weights, "width": self.width, "trained": self.trained}
        return told | {"tokens": self.digest}


def open_reader(config: TextEncoderConfig, device: torch.device) -> TokenReader | None:
    """Make the reader that a configuration asks for; None where there is none.

    Raises:
        InputError: an encoder without text tower, or weights that are missing or of another one.
    """
    if config.text_encoder is None:
        return None
    pretrained = True if config.text_weights is None else Path(config.text_weights)
    made = _make(config.text_encoder, pretrained, config.train_text_encoder, device)
    if made.trained and pretrained is not True:
        _require_own_words(made.digest, config.text_encoder, device, str(pretrained))
    return made


def reader_of(saved: object, config: TextEncoderConfig, device: torch.device, source: Path) -> TokenReader | None:
    """Make the reader that a checkpoint was trained with, from its header's ``text_encoder``; None without one.

    Args:
        saved: what ``TokenReader.to_json`` returned, or None.
        config: the checkpoint's.
        device: where it goes.
        source: the checkpoint, for messages.

    Raises:
        InputError: the header is damaged, or other weights are found than it was trained with.
    """
    if saved is None:
        return None
    if not isinstance(saved, dict) or any(key not in saved for key in _HEADER):
        raise InputError(f"{source}: text_encoder must have {', '.join(_HEADER)}, got {saved!r:.100}")
    if saved["trained"]:  # the checkpoint holds its weights, but no list of words
        return _require_own_words(saved.get("tokens"), saved["encoder"], device, str(source))
    found = open_reader(config, device)
    if found is None or found.weights != saved["weights"]:
        got = "none" if found is None else f"{found.name} {found.weights}"
        raise InputError(
            f"{source} was trained on the text encoder {saved['encoder']} {saved['weights']}, but here {got} is found; "
            "bring the old weights back"
        )
    return found


def _require_own_words(digest: str | None, name: str, device: torch.device, source: str) -> TokenReader:
    """Return a random reader to be trained; ``InputError`` unless its tokens are those of a digest.

    Older checkpoints have none.
    """
    own = _make(name, False, True, device)
    if digest not in (None, own.digest):
        raise InputError(
            f"a text encoder that is trained must have the words of {name} as this package has them, for checkpoints "
            f"hold none, got others from {source}; leave --text-weights or --train-text-encoder out"
        )
    return own


def _make(name: str, pretrained: bool | Path, trained: bool, device: torch.device) -> TokenReader:
    from vln_clip.encoders.table import create_text_encoder, require_text_tower

    require_text_tower(name, "--text-encoder")
    return TokenReader(create_text_encoder(name, pretrained, device), trained)
