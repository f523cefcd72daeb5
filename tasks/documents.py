"""Files of JSON items, told by content and not by name: an array, or one object per line; plain or gzipped.

What is odd about the file as a whole is listed beside its items, so that one reader can go on where another refuses.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vln_clip.errors import InputError
from vln_clip.reading import GZIP_MAGIC, check_value, read_packed, unpack
from vln_clip.tasks.problems import BYTE_ORDER_MARK, CONSTANT, EMPTY_LINE, FILE, MALFORMED, PACKED, Problem

ARRAY, LINES = "a JSON array", "JSON lines"
ID_KEYS = ("instr_id", "instruction_id")
NUM_PROBED_LINES = 5  # one of them must be an object for a file that begins with one to count as JSON lines
FOREIGN = {  # how files begin that are something else
    b"PK\x03\x04": "a zip archive: unpack it",
    b"\x80": "a Python pickle: write it with json.dump",
    b"BZh": "a bzip2 archive: unpack it",
    b"\xfd7zXZ": "an xz archive: unpack it",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"version https://git-lfs": "a pointer of Git LFS and not the file itself: fetch it with git lfs pull",
    b"<": "a web page or XML: was an error page saved in place of the file?",
}
UTF8_MARK = b"\xef\xbb\xbf"


@dataclass
class Document:
    """A file as items.

    Attributes:
        items: place and value of each, in the file's order.
        layout: ``ARRAY`` or ``LINES``.
        num_bytes: size, unpacked.
        problems: what is wrong with the file as a whole and with lines that are no JSON.
        warnings: what only looks odd.
    """

    items: list[tuple[str, object]] = field(default_factory=list)
    layout: str = ARRAY
    num_bytes: int = 0
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def read_document(path: Path) -> Document:
    """Read a file of items; whatever its content, all that is wrong with it is in the document.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    document, text = read_text(path)
    if text is not None:
        _parse(text, document)
    return document


def read_text(path: Path) -> tuple[Document, str | None]:
    """Read a file without looking for items.

    Returns:
        A document without items but with what is odd about the file as a whole, and the text; None where it is none.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    content = read_packed(path)
    document = Document()
    if content.startswith(GZIP_MAGIC):
        document.warnings.append(Problem(PACKED, f"the file is gzipped: upload it unpacked (gunzip -k {path})"))
        try:
            content = unpack(content, path)
        except InputError as error:
            document.problems.append(Problem(FILE, str(error)))
            return document, None
    document.num_bytes = len(content)
    return document, _decode(content, document)


def _decode(content: bytes, document: Document) -> str | None:
    """Return the text of a file, None where it is no text that could be JSON."""
    if content.startswith(UTF8_MARK):
        content = content[len(UTF8_MARK) :]
        message = "the file begins with a byte order mark, which JSON readers refuse: save it as UTF-8 without one"
        document.problems.append(Problem(BYTE_ORDER_MARK, message))
    foreign = next((what for magic, what in FOREIGN.items() if content.lstrip().startswith(magic)), None)
    if foreign is not None or not content.strip():
        document.problems.append(Problem(FILE, f"the file must be JSON, but is {foreign or 'empty'}"))
        return None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        message = f"the file must be UTF-8 text, but byte {error.start} is {content[error.start]:#04x}: is it damaged?"
        document.problems.append(Problem(FILE, message))
        return None


def _parse(text: str, document: Document) -> None:
    """Fill in the items of a text."""
    constants: list[str] = []

    def constant(name: str) -> float:
        constants.append(name)
        return float(name)

    decoder = json.JSONDecoder(parse_constant=constant)
    fault: Exception | None = None
    value: object = None
    try:
        value = decoder.decode(text)
        check_value(value, text)
    except (ValueError, RecursionError) as error:
        fault, value = error, None
    if isinstance(value, list):
        document.items = [(f"item {k}", item) for k, item in enumerate(value)]
    elif isinstance(value, dict) and any(key in value for key in ID_KEYS):
        document.layout, document.items = LINES, [("line 1", value)]
    elif fault is None:
        document.problems.append(Problem(FILE, _wrong_top(value)))
    elif _is_lines(text):
        constants.clear()
        _parse_lines(text, decoder, document)
    elif not _parse_arrays(text, decoder, document):
        document.problems.append(Problem(FILE, explain(text, fault)))
    if constants:
        message = f"the file holds {constants[0]} ({len(constants)} times), which is no JSON: write finite numbers"
        document.warnings.append(Problem(CONSTANT, message))


def _wrong_top(value: object) -> str:
    """Say what a file is whose whole content is one value, neither a list nor a prediction."""
    if not isinstance(value, dict):
        return f"the file must be an array of predictions, but is one {type(value).__name__}: {value!r:.40}"
    keys = ", ".join(repr(key) for key in list(value)[:3])
    inner = [key for key, inside in value.items() if isinstance(inside, list)]
    advice = f"; is the array under {inner[0]!r} what is wanted? Write that alone" if len(inner) == 1 else ""
    if inner and not any(isinstance(item, dict) for key in inner for item in value[key]):  # walks, not predictions
        advice = '; are the keys ids? Write [{"instr_id": id, "trajectory": [[viewpoint, heading, elevation], …]}, …]'
    return f"the file must be an array of predictions, but is one object with the keys {keys}, …{advice}"


def _is_lines(text: str) -> bool:
    """Return whether a text that is not JSON as a whole begins with an object and has objects as lines."""
    if not text.lstrip().startswith("{"):
        return False
    for line in text.lstrip().split("\n", NUM_PROBED_LINES)[:NUM_PROBED_LINES]:
        try:
            if isinstance(json.loads(line), dict):
                return True
        except (ValueError, RecursionError):
            continue
    return False


def _parse_lines(text: str, decoder: json.JSONDecoder, document: Document) -> None:
    """Fill in the items of JSON lines."""
    document.layout = LINES
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        place = f"line {number}"
        if not line.strip():
            message = "the line is empty, and a reader that expects JSON on every line stops here"
            document.problems.append(Problem(EMPTY_LINE, message, place, row=len(document.items)))
            continue
        try:
            value = decoder.decode(line)
            check_value(value, line)
            document.items.append((place, value))
        except (ValueError, RecursionError) as error:
            what = explain(line, error).replace("the file", "the line").replace("at line 1 column", "at column")
            document.problems.append(Problem(MALFORMED, what, place, row=len(document.items)))


def _parse_arrays(text: str, decoder: json.JSONDecoder, document: Document) -> bool:
    """Fill in the items of arrays that stand one after another; False where that is not what the text is."""
    try:
        arrays = list(_values(text, decoder))
    except (ValueError, RecursionError):
        return False
    if not all(isinstance(array, list) for array in arrays):
        return False
    message = (
        f"the file must be one JSON array, but is {len(arrays)} arrays one after another: put their items into one"
    )
    document.problems.append(Problem(FILE, message))
    for number, array in enumerate(arrays, 1):
        assert isinstance(array, list)
        document.items += [(f"array {number} item {k}", item) for k, item in enumerate(array)]
    return True


def _values(text: str, decoder: json.JSONDecoder) -> Iterator[object]:
    """Yield JSON values that stand one after another."""
    position = 0
    while position < len(text):
        begin = position
        value, position = decoder.raw_decode(text, position)
        check_value(value, text[begin:position])
        yield value
        while position < len(text) and text[position].isspace():
            position += 1


def explain(text: str, error: Exception) -> str:
    """Say what is wrong with a text that is no JSON, and what to do."""
    if not isinstance(error, json.JSONDecodeError):
        return f"the file must be JSON, but: {error}"
    place = f"line {error.lineno} column {error.colno}"
    # Possessive in effect: no two of the repeated parts can match the same characters, however long the text is.
    if re.match(r"[\[{(\s]*'", text):
        return "the file is Python's notation (single quotes), not JSON: write it with json.dump and not with str()"
    if error.msg.startswith("Unterminated string") or error.pos >= len(text.rstrip()):
        return f"the file ends in the middle of an item: it was cut off after {len(text.rstrip())} characters"
    before, here = text[: error.pos].rstrip(), text[error.pos :].lstrip()
    if (before.endswith(",") and here[:1] in ("]", "}")) or re.match(r",\s*[\]}]", here):
        return f"the file must be JSON, but has a comma too many at {place}, before a closing bracket"
    if error.msg == "Extra data":
        return f"the file must be one JSON value, but after its end more comes at {place}: {here:.40}"
    near = text[max(0, error.pos - 20) : error.pos + 20]
    return f"the file must be JSON, but at {place}: {error.msg}, near {near!r}"
