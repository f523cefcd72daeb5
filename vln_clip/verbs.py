"""Programs with several verbs: the first word of the command line says what to do."""

import sys
from collections.abc import Callable, Mapping

from vln_clip.errors import unknown_name


def dispatch(argv: list[str] | None, prog: str, verbs: Mapping[str, Callable[[list[str]], None]]) -> None:
    """Call the verb that the first word names with the other words.

    Args:
        argv: words; None reads ``sys.argv``.
        prog: the program's name, for its usage line.
        verbs: by name.

    Raises:
        InputError: no such verb.
    """
    words = sys.argv[1:] if argv is None else argv
    verb = words[0] if words else ""
    if verb in ("", "-h", "--help"):
        print(f"usage: {prog} {{{','.join(verbs)}}} [flags]   ({prog} VERB --help lists a verb's flags)")
        return
    if verb not in verbs:
        raise unknown_name("verb", verb, verbs)
    verbs[verb](words[1:])
