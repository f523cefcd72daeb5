"""The one exception that users are meant to see.

Libraries raise ``InputError`` where a file, a flag or a name given by the user is wrong; programs turn
it into one sentence and exit status 2 (``log.program``). Our own mistakes raise other exceptions.
"""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: the message names the file or flag, what was expected, what was found and what to do."""


class LostRankError(RuntimeError):
    """Another process of the run is gone; this one can only end, and all go on from the last checkpoint."""


class JointError(InputError):
    """Bad input that every rank knows of: only rank 0 tells."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Build the error for a name that is not in a table, with the nearest known name as suggestion.

    Args:
        kind: what the name stands for, e.g. ``"split"``.
        name: what was given.
        known: every accepted name.

    Returns:
        An ``InputError`` to raise.
    """
    names = list(known)
    return InputError(f"{kind} must be one of {', '.join(names)}, got {name!r}{suggestion(name, names)}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of an error's sentence: the known name nearest to the one given, empty where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
