"""Reading one large JSON object bit by bit: its members, and the elements of a member that is an array.

The episode files of continuous environments are one object of hundreds of megabytes; memory does not grow with them.
"""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path

from vln_clip.errors import InputError
from vln_clip.limits import MAX_MEMBER_CHARS
from vln_clip.reading import check_value
from vln_clip.tasks.unpacked import Unpacked

CHUNK_BYTES = 1 << 20
WHITE = " \t\n\r"


class JsonMembers:
    """The members of the object that a file holds, plain or gzipped, read once and in order.

    Iterating yields keys; the member of each must be read by ``value`` or ``elements`` before the next.

    Attributes:
        file: where they are read from.
        content: of the file, with its hash after the last member.
    """

    def __init__(self, file: Path):
        self.file, self.content = file, Unpacked(file)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder()
        self._text = ""
        self._at = 0
        self._ended = False

    def __iter__(self) -> Iterator[str]:
        """Yield the key of each member.

        Raises:
            InputError: missing, unreadable or damaged file, other encoding, broken JSON, no object.
        """
        with self.content.opened():
            self._expect("{", "begin with an object")
            if self._peek() != "}":
                while True:
                    yield self._key()
                    if self._separator("}"):
                        break
            else:
                self._at += 1
            if self._peek():
                raise self._broken(f"nothing must follow the object, got {self._text[self._at : self._at + 20]!r}")

    def value(self) -> object:
        """Read the value of the present member, or the next element, whole."""
        self._peek()
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._at < MAX_MEMBER_CHARS and self._more():
                    continue
                raise self._broken(str(error)) from None
            if end < len(self._text) or not self._more():  # a number may go on in the next chunk
                try:
                    check_value(value, self._text[self._at : end])
                except ValueError as error:
                    raise self._broken(str(error)) from None
                self._at = end
                return value

    def elements(self) -> Iterator[object]:
        """Read the value of the present member, an array, element by element."""
        self._expect("[", "hold an array here")
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            yield self.value()
            if self._separator("]"):
                return

    def _key(self) -> str:
        key = self.value()
        if not isinstance(key, str):
            raise self._broken(f"keys must be strings, got {key!r:.40}")
        self._expect(":", f"have a colon behind key {key!r}")
        return key

    def _separator(self, closing: str) -> bool:
        """Read a comma or the closing bracket; return whether it was the bracket."""
        found = self._peek()
        if found not in (",", closing) or not found:
            raise self._broken(f"a comma or {closing} must follow, got {found!r}")
        self._at += 1
        return found == closing

    def _expect(self, character: str, what: str) -> None:
        if self._peek() != character:
            raise InputError(f"file {self.file} must {what}, got {self._text[self._at : self._at + 20]!r}")
        self._at += 1

    def _peek(self) -> str:
        """Return the next character that is no white space, empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in WHITE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _more(self) -> bool:
        """Add to the text at hand; each time as much as it is long, so that a large value is tried few times."""
        if self._ended:
            return False
        self._text, self._at = self._text[self._at :], 0
        chunk = self.content.read(max(CHUNK_BYTES, len(self._text)))
        self._ended = not chunk
        try:
            self._text += self._decoder.decode(chunk, final=self._ended)
        except UnicodeDecodeError as error:
            raise InputError(f"file {self.file} must be UTF-8 text, but: {error}") from None
        return not self._ended

    def _broken(self, why: str) -> InputError:
        return InputError(f"file {self.file} must be JSON, but: {why}")
