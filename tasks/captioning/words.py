"""Splitting captions into words without Java, as the evaluation's Penn Treebank tokenizer does.

The public evaluation runs Stanford's PTBTokenizer (lower case, lines kept) and drops punctuation. This module follows
its rules as far as captions need them: clitics and ``n't`` are split off, hyphens, slashes and dots inside words stay,
abbreviations keep their period, brackets become ``-lrb-``, repeated ``!`` and ``?`` stay as a word, because the list of
dropped punctuation does not know them. What it does not know: the full list of abbreviations, fractions with a
space, smileys, markup.
"""

import re
from collections.abc import Sequence

import regex

_MONTHS = "jan feb mar apr jun jul aug sep sept oct nov dec"
_TITLES = "mr mrs ms dr prof st ave blvd rd jr sr vs etc ft inc co corp ltd mt gen gov sen rep lt col sgt capt rev"
_MAY_KEEP_PERIOD = frozenset(f"{_MONTHS} {_TITLES}".split())
_ABBREVIATIONS = "|".join(sorted(_MAY_KEEP_PERIOD))
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_JOINED = {"cannot": ("can", "not"), "gonna": ("gon", "na"), "wanna": ("wan", "na"), "gotta": ("got", "ta")}
_JOINED |= {"gimme": ("gim", "me"), "lemme": ("lem", "me"), "y'all": ("y'", "all")}
_CLITIC = re.compile(r"(?<=.)(n't|'(?:s|m|d|re|ve|ll))$")
_DROPPED = {"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"}
# A quotation mark at the edge of a word is none of its letters; between letters it is.
_LETTERS = r"[\p{L}\p{M}\p{N}_]"
_TOKEN = regex.compile(
    rf"""
      https?://\S+ | {_LETTERS}[\w.+-]*@\w[\w.-]*\w                                     # addresses
    | \p{{L}}(?:\.\p{{L}})+\.?(?!{_LETTERS})                                            # p.m., u.s., t.v
    | (?:{_ABBREVIATIONS})\.(?!{_LETTERS})
    | no\.(?=\s*\d)
    | (?<!{_LETTERS})\p{{L}}\.(?=\s|$)                                                  # initials
    | \d+(?::\d\d)(?!\d)                                                                # 5:30 of 5:30pm
    | (?<!{_LETTERS})'(?:s|m|d|re|ve|ll)(?!{_LETTERS})                                  # clitics that stand alone
    | (?<!{_LETTERS})'\d\ds?(?!{_LETTERS})                                              # '50s
    | \d+(?:[.,]\d+)+(?!{_LETTERS})
    | (?<!{_LETTERS})\#{_LETTERS}*\p{{L}}+{_LETTERS}*
    | {_LETTERS}+\.(?=,)                                                                # a slip that stays
    | {_LETTERS}+(?:\.{_LETTERS}+)+
    | \d+(?='\d)
    | {_LETTERS}+(?:['/-]{_LETTERS}+)*
    | ([!?])[!?]+
    | \.\.+ | --+ | ``|''
    | \S
    """,
    regex.VERBOSE,
)
_MARKS = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": " "})


def split_words(caption: str) -> list[str]:
    """Return the words of a caption in lower case, without punctuation."""
    lower = caption.lower()
    # Most captions are plain words and a period at the end; this takes a tenth of the time.
    words = lower.rstrip().removesuffix(".").split()
    if words and lower.isascii() and "".join(words).isalpha() and _JOINED.keys().isdisjoint(words):
        last = words[-1]
        if len(last) > 1 and last not in _MAY_KEEP_PERIOD:
            return words
    return _split_any(lower)


def _split_any(lower: str) -> list[str]:
    """Return the words of any caption in lower case."""
    words: list[str] = []
    for match in _TOKEN.finditer(lower.translate(_MARKS)):
        token = match[0]
        if token in _JOINED:
            words += _JOINED[token]
        elif clitic := _CLITIC.search(token):
            words += [token[: clitic.start()], clitic[1]]
        elif token not in _DROPPED and token != '"' and token.strip(".-"):
            words.append(_BRACKETS.get(token, token))
    return words


def join_words(captions: Sequence[str]) -> list[str]:
    """Return captions as the scorers take them: words joined by spaces."""
    return [" ".join(split_words(caption)) for caption in captions]
