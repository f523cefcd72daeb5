"""``clip_demo``: a small CLIP of our own that has seen the demo world's training houses, and nothing else.

Both towers and their list of words are one file in this package, made by ``scripts/train_clip_demo.py``; any file of
the same make can be given in its place. Words that the list does not know are one token, which was trained by hiding
words at random.
"""

import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from open_clip.model import _build_text_tower, _build_vision_tower
from safetensors import SafetensorError, safe_open

from vln_clip.encoders.base import Encoder, Preprocess
from vln_clip.encoders.clip import ClipEncoder, load_visual
from vln_clip.encoders.text import TextEncoder, load_text
from vln_clip.encoders.weights import describe
from vln_clip.errors import InputError

NAME = "clip_demo"
WEIGHTS = Path(__file__).with_name("clip_demo.safetensors")
WIDTH = 256  # of both towers' outputs
SIZE_PX = (96, 128)  # height and width
VISION: dict[str, Any] = {"layers": [1, 2, 2, 1], "width": 16, "image_size": 128}  # of open_clip's ModifiedResNet
TEXT: dict[str, Any] = {"context_length": 77, "width": 96, "heads": 4, "layers": 2}
METADATA_KEY = "clip_demo"  # one key with JSON: safetensors writes several in any order, and bytes are to be the same
_WORD = re.compile(r"\w+|[^\w\s]")


class WordTokenizer:
    """Numbers of words, marks too, whatever their case: 0 for unknown ones, then the words, begin and end.

    Args:
        words: known ones, in lower case.
    """

    def __init__(self, words: Sequence[str]):
        self.words = tuple(words)
        self.context_length: int | None = TEXT["context_length"]
        self.sot_token_id, self.eot_token_id = len(words) + 1, len(words) + 2
        self._index = {word: index for index, word in enumerate(words, start=1)}

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.words) + 3

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text without begin and end; none reaches over white space."""
        return [self._index.get(word, 0) for word in split_words(text)]


def split_words(text: str) -> list[str]:
    """Return the words and marks of a text in lower case."""
    return _WORD.findall(text.lower())


def list_words(texts: Iterable[str]) -> list[str]:
    """Return the words of some texts in alphabetical order."""
    return sorted({word for text in texts for word in split_words(text)})


@cache
def read_words(path: Path) -> tuple[str, ...]:
    """Return the words that the text tower of a weights file knows.

    Raises:
        InputError: the file is of another make.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise _other_file(path, f"which cannot be read ({str(error).splitlines()[0]})") from None
    words = about.get("words") if isinstance(about, dict) else None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise _other_file(path, f"without words under {METADATA_KEY!r} in its metadata")
    return tuple(words)


def make_image_tower(name: str = NAME) -> ClipEncoder:
    """Make the image tower with random weights."""
    visual = _build_vision_tower(WIDTH, dict(VISION), False)
    encoder = ClipEncoder(name, visual, WIDTH, Preprocess(SIZE_PX, crop="squash", interpolation="bilinear"))
    encoder.for_small_images = True
    return encoder


def make_text_tower(words: Sequence[str], name: str = NAME) -> TextEncoder:
    """Make the text tower of some words with random weights."""
    tokenizer = WordTokenizer(words)
    tower = _build_text_tower(WIDTH, {**TEXT, "vocab_size": len(tokenizer)}, False)
    return TextEncoder(name, tower, tokenizer, WIDTH)


def create(name: str, pretrained: bool | Path | str) -> Encoder:
    """Make the image tower; see ``create_encoder``."""
    encoder = make_image_tower(name)
    if pretrained:
        path = _weights_path(pretrained)
        load_visual(encoder, path)
        encoder.weights = describe(path.stem if pretrained is True else path.name, path)
    return encoder


def create_text(name: str, pretrained: bool | Path | str) -> TextEncoder:
    """Make the text tower; see ``create_text_encoder``. Random ones know the words of the file in this package."""
    path = _weights_path(pretrained)
    encoder = make_text_tower(read_words(path), name)
    if pretrained:
        load_text(encoder, path)
        encoder.weights = describe(path.stem if pretrained is True else path.name, path)
    return encoder


def _weights_path(pretrained: bool | Path | str) -> Path:
    return WEIGHTS if isinstance(pretrained, bool) else Path(pretrained)


def _other_file(path: Path, found: str) -> InputError:
    return InputError(
        f"weights of {NAME} must be a file that scripts/train_clip_demo.py wrote, got {path} {found}; leave --weights "
        "out to take those of this package"
    )
