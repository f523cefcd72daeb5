"""Tables of names: ``name -> "module:attribute"``, resolved when asked for, loud on unknown names."""

import importlib
from collections.abc import Mapping
from typing import Any

from vln_clip.errors import unknown_name


def resolve(kind: str, table: Mapping[str, str], name: str) -> Any:
    """Import what a table row names.

    Args:
        kind: what the table holds, for the error, e.g. ``"encoder"``.
        table: name to ``"module:attribute"``.
        name: the row wanted.

    Returns:
        The imported attribute.

    Raises:
        InputError: the name is not in the table; the nearest name is suggested.
    """
    if name not in table:
        raise unknown_name(kind, name, table)
    module, attribute = table[name].split(":")
    return getattr(importlib.import_module(module), attribute)
