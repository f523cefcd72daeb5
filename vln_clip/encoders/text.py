"""Text towers: the other half of CLIP, which puts texts where ``pooled`` puts the images that they describe.

Only towers with CLIP's own byte-pair tokenizer, which comes with open_clip (others would have to be fetched), and
``clip_demo`` with a list of words (``demo_clip.py``).
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch
from open_clip.model import _build_text_tower
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import TextTransformer
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import pad_sequence

from vln_clip.encoders.clip import fetch_clip, find_published, require_fit
from vln_clip.encoders.shared_begin import can_share, continue_text
from vln_clip.encoders.weights import describe, read_state_dict
from vln_clip.errors import InputError

CONTEXT_LENGTH = 77
_INITIAL_LOGIT_SCALE = 1 / 0.07
# What else a file of a whole CLIP holds: the other tower, scales, CoCa's decoder, sizes of OpenAI's archives, masks.
_OTHERS = ("visual.", "logit_", "text_decoder.", "input_resolution", "context_length", "vocab_size")
_MASK = "attn_mask"


class Tokenizer(Protocol):
    """What turns texts into tokens; open_clip's, or one of few words. The token of the end is the highest one."""

    context_length: int | None
    sot_token_id: int
    eot_token_id: int

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text without begin and end; none reaches over white space."""
        ...

    def decode(self, tokens: list[int]) -> str:
        """Return tokens of ``encode`` as text."""
        ...


class TextEncoder(nn.Module):
    """One text tower of open_clip with its tokenizer.

    Attributes:
        name: the registry name it was made under.
        width: D of ``encode``, equal to the ``pooled_width`` of the image tower.
        context_length: most tokens of a text, begin and end included; what is longer is cut.
        logit_scale: factor of cosines in the logits that the tower was trained with (about 100 in OpenAI's weights).
        weights: where the weights come from, with a hash; ``random`` for none.
    """

    def __init__(self, name: str, tower: TextTransformer, tokenizer: Tokenizer, width: int):
        super().__init__()
        self.name, self.tower, self.width = name, tower, width
        self.context_length = int(tokenizer.context_length or CONTEXT_LENGTH)
        self.logit_scale, self.weights = _INITIAL_LOGIT_SCALE, "random"
        self._tokenizer = tokenizer
        self._shares_begin = can_share(tower)
        # A causal tower that pools at the end of the text never looks at the padding, which need not be computed then.
        self._spares_padding = tower.pool_type == "argmax" and tower.attn_mask is not None and tower.cls_emb is None

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Encode texts as one vector each.

        Args:
            texts: any number; whoever has many passes them in parts.

        Returns:
            (N, D) float32, not normalized.
        """
        if not texts:
            return torch.empty(0, self.width, device=self.tower.positional_embedding.device)
        return self.encode_tokens(self.pack([self.words(text) for text in texts]))

    def words(self, text: str) -> list[int]:
        """Return the tokens of a text without begin and end.

        Tokens never reach over white space: those of two texts joined by a space are those of one, then the other's.
        """
        return self._tokenizer.encode(text)

    @property
    def begin(self) -> int:
        """Return the token before every text."""
        return int(self._tokenizer.sot_token_id)

    @property
    def end(self) -> int:
        """Return the token behind every text."""
        return int(self._tokenizer.eot_token_id)

    @property
    def word_list(self) -> tuple[str, ...]:
        """Return the words that tokens number; none where tokens are CLIP's byte pairs."""
        return tuple(getattr(self._tokenizer, "words", ()))

    def spell(self, token: int) -> str:
        """Return a token of ``words`` as text; parts of a character become ``\ufffd``."""
        return self._tokenizer.decode([token]).strip()

    def pack(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Put tokens of ``words`` between begin and end, (N, L) int64: cut to the context, padded with 0."""
        begin, end = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
        room = self.context_length - 2
        return pad_sequence([torch.tensor([begin, *row[:room], end]) for row in rows], batch_first=True)

    def join(self, begin: Sequence[int], ends: Tensor) -> Tensor:
        """Put the tokens of one text before many others.

        Args:
            begin: of ``words``.
            ends: of ``pack``, (N, L) int64.

        Returns:
            What ``pack`` gives for the joined texts, (N, L') int64 on the device of ``ends``; perhaps wider.
        """
        first = torch.tensor([self._tokenizer.sot_token_id, *begin], device=ends.device).expand(len(ends), -1)
        tokens = torch.cat([first, ends[:, 1:]], 1)[:, : self.context_length]
        cut = (tokens != self._tokenizer.eot_token_id).all(1)
        tokens[cut, -1] = self._tokenizer.eot_token_id
        return tokens

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Encode packed tokens, (N, L) int64 on any device, to (N, D) float32 on the tower's."""
        tokens = tokens.to(self.tower.positional_embedding.device)
        length = tokens.shape[1]
        if not self._spares_padding:
            return self.tower(nn.functional.pad(tokens, (0, self.context_length - length))).float()
        mask = {"attn_mask": self.tower.attn_mask[:length, :length]}
        return functional_call(self.tower, mask, (tokens,)).float()

    def encode_joined(self, begin: Sequence[int], ends: Tensor) -> Tensor:
        """Encode one text joined to many others: ``encode_tokens(join(begin, ends))``, faster where the tower allows.

        Args:
            begin: of ``words``.
            ends: of ``pack``, (N, L) int64 on the tower's device.

        Returns:
            (N, D) float32.
        """
        begin_token, end_token = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
        fits = len(begin) + ends.shape[1] <= self.context_length and end_token not in begin
        if not (fits and self._shares_begin):
            return self.encode_tokens(self.join(begin, ends))
        first = torch.tensor([begin_token, *begin], device=ends.device)
        return continue_text(self.tower, first, ends[:, 1:]).float()

    def forward(self, tokens: Tensor) -> Tensor:
        """Return ``encode_tokens(tokens)``."""
        return self.encode_tokens(tokens)


def create(name: str, pretrained: bool | Path | str) -> TextEncoder:
    """Make a text tower; see ``create_text_encoder``."""
    config, published, quick_gelu, tag = find_published(name)
    settings: dict[str, Any] = config["text_cfg"] | {"output_tokens": False}  # CoCa's are for its decoder
    foreign = settings.get("hf_tokenizer_name") or settings.get("hf_model_name")
    if foreign:
        raise InputError(
            f"text towers must use CLIP's own tokenizer, got {name} which needs {foreign} from the hub; "
            "take one of OpenAI's, LAION's or DataComp's"
        )
    tower = _build_text_tower(config["embed_dim"], settings, quick_gelu)
    length = settings.get("context_length", CONTEXT_LENGTH)
    tokenizer = make_tokenizer(length, **settings.get("tokenizer_kwargs", {}))
    encoder = TextEncoder(name, tower, tokenizer, config["embed_dim"])
    if pretrained:
        path = fetch_clip(name, published) if pretrained is True else Path(pretrained)
        load_text(encoder, path)
        encoder.weights = describe(tag if pretrained is True else path.name, path)
    return encoder


@cache
def make_tokenizer(context_length: int, **options: str) -> SimpleTokenizer:
    """Return CLIP's tokenizer; reading its merges takes half a second, and words once tokenized are remembered."""
    return SimpleTokenizer(context_length=context_length, **options)


def load_text(encoder: TextEncoder, path: Path) -> None:
    """Load the text tower's part of a CLIP weights file, in float32.

    The text tower's tensors stand at the root of OpenAI's files, under ``text.`` in newer ones.

    Raises:
        InputError: the file is of another architecture, or of an image tower only.
    """
    tensors = read_state_dict(path)
    prefix = "text." if any(key.startswith("text.") for key in tensors) else ""
    own = {
        key.removeprefix(prefix): value.float()
        for key, value in tensors.items()
        if key.startswith(prefix) and not key.startswith(_OTHERS) and not key.endswith(_MASK)
    }
    scale = tensors.get("logit_scale")
    if not own or scale is None or scale.numel() != 1:
        raise InputError(
            f"weights of {encoder.name} must hold both towers and logit_scale, got {path} with "
            f"{len(own):,} tensors of a text tower; take the file of the whole CLIP"
        )
    require_fit(encoder.name, "text", prefix, encoder.tower, own, path)
    encoder.tower.load_state_dict(own)
    encoder.logit_scale = float(scale.float().exp())
