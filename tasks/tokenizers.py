"""Tokenizers: how a text becomes words and words a text again, for any script.

``english`` is the reference's (specification 2.4), bound to its public vocabulary; ``unicode`` does for every script;
the path of a local folder loads the multilingual sub-words in it through transformers.
"""

import re
import string
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import regex

from vln_clip.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ENGLISH, UNICODE = "english", "unicode"
# Instructions repeat few pieces very often; the bound is for scripts whose pieces are whole sentences.
CACHED_PIECES = 1 << 17

# english: runs of word characters and, without their outer white space, the runs between them.
PIECE = re.compile(r"\w+|[^\w\s](?:\W*[^\w\s])?")
PUNCTUATION = frozenset(string.punctuation)

# unicode: these scripts put no space between words. The two length marks of kana belong to no single script.
SPACELESS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー\uFF70]"
LETTER = rf"[[\p{{L}}\p{{M}}\p{{N}}]--{SPACELESS}]"
JOINER = r"[\u200C\u200D]"  # shape the letters around them in Indic scripts; without meaning at a word's edge
TOKEN = regex.compile(
    rf"""
    {LETTER}+(?:{JOINER}+{LETTER}+)*    # a word; vowel signs, viramas and nuktas are marks
    |(?={SPACELESS})\X                  # a grapheme cluster of a script without spaces
    |\p{{P}}\p{{M}}*                    # one punctuation character, danda included
    |(?=\p{{S}})\X                      # one symbol; an emoji with all its parts
    """,
    regex.VERSION1 | regex.VERBOSE,
)
ONE_CLUSTER = regex.compile(rf"(?={SPACELESS})\X", regex.VERSION1)
EXTENDS = regex.compile(r"[\p{M}\u0E33\u0EB3]")  # what begins so joins the cluster before it; two vowels are letters
# Without a sight of their own: soft hyphen, directions, word joiner, byte order mark. A zero-width space parts words.
INVISIBLE: dict[int, str | None] = {
    **dict.fromkeys([0x00AD, 0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF]),
    0x200B: " ",
}
CLOSING = frozenset(",.;:!?)]}%…।॥、。，．！？：；）】》」』”")
OPENING = frozenset("([{（【《「『“")
APOSTROPHES = frozenset("'’")


class Tokenizer(Protocol):
    """Splits a text into tokens and joins tokens to a text.

    Attributes:
        name: what ``find_tokenizer`` finds it by again.
    """

    name: str

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text, none of them with white space at its ends."""

    def join(self, tokens: Iterable[str]) -> str:
        """Return tokens as a text to read."""


def find_tokenizer(name: str) -> Tokenizer:
    """Return a tokenizer by name.

    Args:
        name: ``english``, ``unicode``, or the path of a folder with a transformers tokenizer.

    Raises:
        InputError: neither a name nor a folder, no tokenizer in it, or transformers is not installed.
    """
    if name == ENGLISH:
        return English()
    return Unicode() if name == UNICODE else Subword(Path(name))


class English:
    """The reference's tokenizer, odd where it is: the public vocabulary is built so.

    Lower-cased; runs of punctuation fall into characters, runs of full stops do not; a run with white space inside
    (``. ,``) stays one token. It cuts Indic words at their vowel signs.
    """

    name = ENGLISH

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of an English instruction."""
        return list(chain.from_iterable(map(_english_tokens, PIECE.findall(text))))

    def join(self, tokens: Iterable[str]) -> str:
        """Return the tokens with spaces between them."""
        return " ".join(tokens)


class Unicode:
    """Words of any script: runs of letters, marks and numbers, lower-cased and in Unicode's form C.

    Every punctuation character is a token of its own. Scripts written without spaces (Chinese, Japanese, Thai, Lao,
    Khmer, Burmese) give one token per grapheme cluster. No token ever begins or ends inside a cluster of letters, so
    Devanagari and Telugu keep vowel signs, viramas and nuktas with their consonants.
    """

    name = UNICODE

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text; the same for composed and decomposed spellings."""
        return list(chain.from_iterable(map(_unicode_tokens, text.split())))

    def join(self, tokens: Iterable[str]) -> str:
        """Return a text that ``tokenize`` splits into the same tokens: no space where the script writes none."""
        words = list(tokens)
        gaps = ("" if _are_tight(*pair) else " " for pair in pairwise(words))
        return "".join(chain.from_iterable(zip(words, [*gaps, ""], strict=True))) if words else ""


class Subword:
    """Sub-words of a transformers tokenizer in a local folder; nothing is downloaded, no code of the folder runs."""

    def __init__(self, folder: Path):
        self.name = str(folder.absolute())
        self._subwords = _load_subwords(folder)

    def tokenize(self, text: str) -> list[str]:
        """Return the sub-words of a text, without the model's special ones."""
        return self._subwords.tokenize(text)

    def join(self, tokens: Iterable[str]) -> str:
        """Return the text that the sub-words spell."""
        return self._subwords.convert_tokens_to_string(list(tokens))


@lru_cache(CACHED_PIECES)
def _english_tokens(piece: str) -> Sequence[str]:
    """Return the tokens of one piece of ``PIECE``."""
    piece = piece.lower()
    return piece if PUNCTUATION.issuperset(piece) and piece.strip(".") else (piece,)


@lru_cache(CACHED_PIECES)
def _unicode_tokens(piece: str) -> Sequence[str]:
    """Return the tokens of a piece of text without white space."""
    lower = unicodedata.normalize("NFC", piece.translate(INVISIBLE)).lower()  # of some letters lower is decomposed
    tokens = TOKEN.findall(unicodedata.normalize("NFC", lower))
    return tuple(token.rstrip("\u200c\u200d") for token in tokens)  # a cluster takes the joiners behind it along


@lru_cache(CACHED_PIECES)
def _are_tight(left: str, right: str) -> bool:
    """Return whether two tokens stand without a space between them."""
    if EXTENDS.match(right):
        return False  # it would become a part of the token before it
    if right in CLOSING | APOSTROPHES or left in OPENING | APOSTROPHES:
        return True
    return all(ONE_CLUSTER.match(token) or token in CLOSING | OPENING for token in (left, right))


def _load_subwords(folder: Path) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a folder."""
    try:
        found = folder.is_dir()
    except (OSError, ValueError):  # too long for a name, or a zero byte in it
        found = False
    if not found:
        raise InputError(
            f"tokenizer must be {ENGLISH}, {UNICODE} or a folder with a transformers tokenizer, "
            f"got {str(folder)!r:.200}, "
            "which is no folder here; nothing is downloaded"
        )
    try:
        from transformers import AutoTokenizer  # optional, and slow to load
    except ImportError:
        raise InputError(
            f"tokenizer {folder} needs transformers, which is not installed; run: pip install transformers"
        ) from None
    try:
        # An absolute path is never taken for the name of a model on the hub.
        return AutoTokenizer.from_pretrained(str(folder.absolute()), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises Exception itself for whatever Rust finds
        reason = " ".join(str(error).split())
        raise InputError(
            f"tokenizer folder {folder} must hold a transformers tokenizer (tokenizer.json or its older files), "
            f"but: {reason:.200}"
        ) from None
