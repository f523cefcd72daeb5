"""Other addresses than the table's: ``--source NAME=ADDRESS`` and the JSON file that ``$VLN_CLIP_SOURCES`` names."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from vln_clip.errors import InputError, unknown_name
from vln_clip.reading import read_json
from vln_clip.sources.table import SOURCES, Source

VARIABLE = "VLN_CLIP_SOURCES"
_SCHEMES = ("http://", "https://")


def current_sources(flags: Sequence[str] = ()) -> dict[str, Source]:
    """Return the table with the addresses that the user wants in place of its own.

    Args:
        flags: ``NAME=ADDRESS``; they win against the file, and names of files against names of folders.

    Raises:
        InputError: an unknown name (nearest suggested), something that is no address, or an unreadable file.
    """
    changed = dict(SOURCES)
    for wanted in (_from_file(), _from_flags(flags)):
        for name in sorted(wanted, key=lambda name: not name.endswith("/")):  # folders first
            address = wanted[name]
            for key, source in SOURCES.items():
                if name.endswith("/") and source.folder == name:
                    changed[key] = replace(source, address=address.rstrip("/") + "/" + source.remote_name)
                elif key == name:
                    changed[key] = replace(source, address=address)
    return changed


def _from_flags(flags: Sequence[str]) -> dict[str, str]:
    wanted = {}
    for flag in flags:
        name, equals, address = flag.partition("=")
        if not equals:
            raise InputError(f"--source must be NAME=ADDRESS, got {flag!r}")
        wanted[name] = address
    _check(wanted, "--source")
    return wanted


def _from_file() -> dict[str, str]:
    named = os.environ.get(VARIABLE)
    if not named:
        return {}
    try:
        wanted = read_json(Path(named))
    except InputError as error:
        raise InputError(f"{VARIABLE} must name a JSON file of addresses, but: {error}") from None
    if not isinstance(wanted, dict) or not all(isinstance(value, str) for value in wanted.values()):
        raise InputError(f'{named} must be a JSON object {{"R2R/R2R_train.json": "https://…"}}, got {wanted!r:.60}')
    _check(wanted, named)
    return wanted


def _check(wanted: Mapping[str, str], where: str) -> None:
    """Check names and addresses."""
    for name, address in wanted.items():
        if name not in SOURCES and name not in {source.folder for source in SOURCES.values()}:
            raise unknown_source(f"{where}: name of a file", name)
        if not _is_address(address):
            raise InputError(
                f"{where}: address of {name} must be http:// or https:// with a host, got {address!r} (copy a "
                "file that is on this machine into the data folder by hand)"
            )


def _is_address(address: str) -> bool:
    """Return whether a text begins with http(s) and names a host."""
    try:
        return address.startswith(_SCHEMES) and bool(urlsplit(address).hostname)
    except ValueError:
        return False


def unknown_source(kind: str, name: str, others: Sequence[str] = ()) -> InputError:
    """Build the error for an unknown name; of the 91 graphs only their folder is listed."""
    listed = [key for key, source in SOURCES.items() if source.folder != "connectivity/"]
    folders = sorted({source.folder for source in SOURCES.values()})
    error = unknown_name(kind, name, [*SOURCES, *folders, *others])
    hint = str(error).rpartition("; did you mean")
    suggestion = f"; did you mean{hint[2]}" if hint[1] else ""
    return InputError(f"{kind} must be one of {', '.join([*folders, *others, *listed])}, got {name!r}{suggestion}")
