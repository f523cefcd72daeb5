"""Reading large files of JSON objects one by one: JSON lines or one array, plain or gzipped.

What a file is, its first bytes tell, not its name. Memory does not grow with the file.
"""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path

from vln_clip.errors import InputError
from vln_clip.limits import MAX_BLANK_LINES, MAX_OBJECT_CHARS
from vln_clip.reading import check_value
from vln_clip.tasks.unpacked import Unpacked

CHUNK_BYTES = 1 << 20
BEFORE_OBJECT = re.compile(r"\s*([\[,])\s*(?=\{)")


class JsonStream:
    """The objects of one file, to be iterated once.

    Attributes:
        file: where they are read from.
        content: of the file, with its hash and size when the iteration has ended.
    """

    def __init__(self, file: Path):
        self.file, self.content = file, Unpacked(file)

    def __iter__(self) -> Iterator[tuple[str, dict]]:
        """Yield where each object stands (``FILE: line 3``, ``FILE: item 2`` of an array) and the object.

        Most of an object is never looked at; what is wanted of it should go through ``reading.check_value``.

        Raises:
            InputError: missing or damaged file, other encoding, broken JSON, something else than objects, or nothing.
        """
        with self.content.opened():
            number, line = self._next_line(0)
            if not line:
                raise InputError(f"file {self.file} must hold at least one JSON object, got an empty file")
            if line.lstrip().startswith(b"["):
                yield from self._array(line)
                return
            while line:
                where = f"{self.file}: line {number}"
                yield where, _object(line, where)
                number, line = self._next_line(number)

    def _next_line(self, number: int) -> tuple[int, bytes]:
        """Return number and content of the next line after line ``number`` that is not blank; none at the end."""
        for following in range(number + 1, number + MAX_BLANK_LINES + 2):
            line = self.content.read_line(MAX_OBJECT_CHARS)
            if not line or line.strip():
                return following, line
        raise InputError(
            f"{self.file}: at most {MAX_BLANK_LINES:,} blank lines may follow each other, got more after line {number}"
        )

    def _array(self, part: bytes) -> Iterator[tuple[str, dict]]:
        """Yield the objects of an array that begins with ``part``."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        text, index = "", 0
        while True:
            try:
                text += decoder.decode(part, final=not part)
            except UnicodeDecodeError as error:
                raise InputError(f"{self.file}: item {index} or a later one must be UTF-8, but: {error}") from None
            position = 0
            while found := self._next(text, position, index, may_go_on=bool(part)):
                item, position = found
                yield f"{self.file}: item {index}", item
                index += 1
            text = text[position:]
            if not part:
                break
            part = self.content.read(CHUNK_BYTES)
        if not index or text.strip() != "]":
            raise InputError(
                f"{self.file}: item {index} must be an object, with [ or , before it and ] after the last, "
                f"got {text.strip()!r:.60}"
            )

    def _next(self, text: str, position: int, index: int, may_go_on: bool) -> tuple[dict, int] | None:
        """Return the next whole object of an array and its end; None where the text holds no more of them."""
        match = BEFORE_OBJECT.match(text, position)
        if match is None or match[1] != ("," if index else "["):
            return None
        try:
            return json.JSONDecoder().raw_decode(text, match.end())
        except (ValueError, RecursionError) as error:
            if may_go_on and len(text) - position < MAX_OBJECT_CHARS:
                return None
            raise InputError(f"{self.file}: item {index} must be JSON, but: {error}") from None


def _object(line: bytes, where: str) -> dict:
    """Parse one line."""
    try:
        value = json.loads(line.decode())
        if not isinstance(value, dict):
            check_value(value)  # it will be shown
    except UnicodeDecodeError as error:
        raise InputError(f"{where} must be UTF-8 text, but: {error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} must be JSON, but: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{where} must be a JSON object, got {type(value).__name__} {value!r:.60}")
    return value
