"""Reading JSON that users give, plain or gzipped."""

import gzip
import json
import sys
import zlib
from pathlib import Path

from vln_clip.errors import InputError

GZIP_MAGIC = b"\x1f\x8b"


def read_bytes(path: Path) -> bytes:
    """Return a file's content, unpacked if it is gzipped (told by its first bytes, not by its name).

    Raises:
        InputError: the file is missing, unreadable or a truncated archive.
    """
    return unpack(read_packed(path), path)


def read_packed(path: Path) -> bytes:
    """Return a file's content as it is; a file that cannot be read is an ``InputError``."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"file {path} does not exist") from None
    except OSError as error:
        raise InputError(f"file {path} cannot be read: {error.strerror or error}") from None


def unpack(content: bytes, path: Path) -> bytes:
    """Unpack content that is gzipped; ``path`` names the file in the error."""
    if not content.startswith(GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"file {path} must be a whole gzip archive, got a damaged or truncated one: {error}") from None


def parse_json(content: bytes, path: Path) -> object:
    """Parse JSON; ``path`` names the file in the error."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"file {path} must be JSON, but: {error}") from None


def is_finite(value: object) -> bool:
    """Return whether a JSON value is a number that a float can hold; true and false are no numbers."""
    return type(value) in (float, int) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]
