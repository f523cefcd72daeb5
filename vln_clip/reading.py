"""Reading files that users give, plain or gzipped, within the bounds of ``limits``; JSON that can be trusted."""

import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from vln_clip.errors import InputError
from vln_clip.limits import MAX_NESTING, MAX_SMALL_BYTES, MAX_UNPACKED_RATIO, MAX_WHOLE_BYTES

GZIP_MAGIC = b"\x1f\x8b"
CHUNK_BYTES = 1 << 20


def read_bytes(path: Path) -> bytes:
    """Return a file's content, unpacked if it is gzipped (told by its first bytes, not by its name).

    Raises:
        InputError: the file is missing, unreadable, larger than ``limits`` allow or a truncated archive.
    """
    return unpack(read_packed(path), path)


def read_packed(path: Path) -> bytes:
    """Return a file's content as it is; a file that cannot be read is an ``InputError``."""
    try:
        with path.open("rb") as stream:
            content = _read_bounded(stream)
    except FileNotFoundError:
        raise InputError(f"file {path} does not exist") from None
    except (OSError, ValueError) as error:  # a name with a zero byte in it is a ValueError
        raise InputError(f"file {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MAX_WHOLE_BYTES:
        raise InputError(f"file {path} must have at most {MAX_WHOLE_BYTES:,} bytes to be read whole, got more")
    return content


def _read_bounded(stream: io.BufferedReader) -> bytes:
    """Read part by part: the size of a pipe is not known before, and /dev/zero never ends."""
    parts, size = [], 0
    while size <= MAX_WHOLE_BYTES and (part := stream.read(CHUNK_BYTES)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, packed or not; anything else is an ``InputError``."""
    return decode(read_bytes(path), path)


def decode(content: bytes, path: Path) -> str:
    """Decode UTF-8, with or without a byte order mark; ``path`` names the file in the error."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"file {path} must be UTF-8 text, but: {error}") from None


def unpack(content: bytes, path: Path) -> bytes:
    """Unpack content that is gzipped; ``path`` names the file in the error."""
    if not content.startswith(GZIP_MAGIC):
        return content
    parts, size = [], 0
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
        for part in unpacked_parts(stream, path):
            size += len(part)
            if size > MAX_WHOLE_BYTES:
                raise InputError(f"file {path} must unpack to at most {MAX_WHOLE_BYTES:,} bytes, got more")
            check_ratio(size, len(content), path)
            parts.append(part)
    return b"".join(parts)


def unpacked_parts(stream: gzip.GzipFile, path: Path) -> Iterator[bytes]:
    """Yield the content of an archive part by part; a damaged one is an ``InputError``."""
    try:
        while part := stream.read(CHUNK_BYTES):
            yield part
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"file {path} must be a whole gzip archive, got a damaged or truncated one: {error}") from None


def check_ratio(num_unpacked: int, num_packed: int, path: Path) -> None:
    """Raise ``InputError`` where an archive holds far more than its size can explain."""
    if num_unpacked > max(MAX_SMALL_BYTES, MAX_UNPACKED_RATIO * num_packed):
        raise InputError(
            f"file {path} must unpack to at most {MAX_UNPACKED_RATIO} times its size of {num_packed:,} bytes, got "
            f"{num_unpacked:,} bytes and more; if that is right, unpack it first (gunzip)"
        )


def parse_json(content: bytes, path: Path) -> object:
    """Parse JSON in UTF-8; ``path`` names the file in the error."""
    text = decode(content, path)
    try:
        return loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"file {path} must be JSON, but: {error}") from None


def read_json(path: Path) -> object:
    """Read a JSON file, packed or not.

    Raises:
        InputError: the file is missing, unreadable, too large or no JSON.
    """
    return parse_json(read_bytes(path), path)


def loads(text: str) -> object:
    """Parse JSON that can be shown and written again.

    Raises:
        ValueError: no JSON, nested more than ``MAX_NESTING`` levels deep, or a string with half a character.
        RecursionError: nested so deep that Python gives up.
    """
    value = json.loads(text)
    check_value(value, text)
    return value


def check_value(value: object, text: str | None = None) -> None:
    """Check what ``json`` made of a text, or a part of that whose text is not known; errors as for ``loads``."""
    # Only escapes can spell half of a character in valid UTF-8.
    may_be_half = text is None or "\\ud" in text or "\\uD" in text
    level = [value]
    for _ in range(MAX_NESTING):
        inner: list[object] = []
        for part in level:
            if type(part) is list:
                inner += part
            elif type(part) is dict:
                inner += part.values()
                if may_be_half:
                    inner += part
        if may_be_half:
            _check_strings(inner if inner else level)
        level = [part for part in inner if type(part) is list or type(part) is dict]
        if not level:
            return
    raise ValueError(f"lists and objects in it are nested more than {MAX_NESTING} levels deep")


def _check_strings(values: list[object]) -> None:
    """Raise ``ValueError`` for a string with half a surrogate pair, which no file can hold."""
    for value in values:
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError(f"the string {value!a:.40} holds half a character (a lone surrogate)") from None


def is_finite(value: object) -> bool:
    """Return whether a JSON value is a number that a float can hold; true and false are no numbers."""
    return type(value) in (float, int) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]
