"""Scripts of writing: whether an instruction is written in that of its language.

English words and numbers inside Hindi or Telugu are usual, and people write Hindi in Latin letters too; but mostly
Devanagari in a Telugu line means that tag or text was mixed up, and a run would learn from it unnoticed.
"""

import re
import unicodedata
from collections import Counter

_DEVANAGARI, _TELUGU = "\u0900-\u097f\ua8e0-\ua8ff", "\u0c00-\u0c7f"
_LATIN = "A-Za-z\u00aa-\u024f\u1e00-\u1eff\uff21-\uff5a"
_LETTERS = {"en": _LATIN, "hi": _DEVANAGARI, "te": _TELUGU}
_NAMES = {"en": "Latin", "hi": "Devanagari", "te": "Telugu"}
# What is neither the language's own script nor Latin nor punctuation: searched for first, as most lines have none.
_OTHERS = {
    language: re.compile(f"[^\\x00-\u036f\u0964\u0965\u1e00-\u1eff\u2000-\u2bff\u3000-\u303f\ufe00-\ufe0f{letters}]")
    for language, letters in _LETTERS.items()
}
_OWN = {language: re.compile(f"[{letters}]") for language, letters in _LETTERS.items()}


def script_fault(text: str, language: str) -> str | None:
    """Return what is wrong with the script of an instruction, None if nothing is.

    Args:
        text: the instruction.
        language: without region; only ``en``, ``hi`` and ``te`` are checked.

    Returns:
        A sentence where letters of scripts other than the language's own and Latin are more than its own.
    """
    if text.isascii() or language not in _LETTERS or not _OTHERS[language].search(text):
        return None
    own = len(_OWN[language].findall(text))
    foreign = Counter(_script(letter) for letter in _OTHERS[language].findall(text) if letter.isalpha())
    if foreign.total() <= own:
        return None
    return (
        f"instruction must be written in {_NAMES[language]} as its language {language!r} is, got mostly "
        f"{foreign.most_common(1)[0][0]} letters: {text!r:.60}; is the tag wrong?"
    )


def is_romanized(text: str, language: str) -> bool:
    """Return whether a text of another language than English has Latin letters but none of its own script."""
    return language != "en" and _OWN[language].search(text) is None and _OWN["en"].search(text) is not None


def _script(letter: str) -> str:
    """Return the script of a letter, the first word of its name: ``Telugu`` of ``TELUGU LETTER KA``."""
    return unicodedata.name(letter, "unknown").partition(" ")[0].capitalize()
