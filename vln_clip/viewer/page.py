"""One self-contained HTML page out of a document, panoramas and the files of ``web/``.

The page needs no network: style, script, document and pictures are inside, and its Content-Security-Policy forbids
everything else. What it shows and how is in ``web/``; what is shown is in ``vln_clip.viewer.document``.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from vln_clip.files import write_atomically

MAX_AGENTS = 2  # the page has two colors, two panes, two letters
SCRIPTS = (  # in the order in which they build on each other
    "helpers.js",
    "model.js",
    "store.js",
    "pictures.js",
    "heat.js",
    "panorama.js",
    "arrows.js",
    "compass.js",
    "pane.js",
    "mapdrawing.js",
    "map.js",
    "list.js",
    "words.js",
    "facts.js",
    "chart.js",
    "player.js",
    "link.js",
    "live.js",
    "main.js",
)


def write_page(document: dict[str, Any], panoramas: Iterable[bytes], path: Path) -> None:
    """Write a page that opens from disk.

    Args:
        document: as ``vln_clip.viewer.document`` makes it; its episodes are those of the page.
        panoramas: JPEG files in the order of the document's numbers, as many as it counts.
        path: HTML file; a file that is there is replaced when the new one is whole.

    Raises:
        InputError: the file cannot be written.
        ValueError: more than two agents, or more or fewer panoramas than the document counts.
    """

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(_parts(document, panoramas))

    write_atomically(path, write)


def page_html(document: dict[str, Any]) -> str:
    """Return the page without pictures inside, for the live server or for looking at decisions alone."""
    count = document["panoramas"]["count"]
    if count and document["panoramas"]["url"] is None:
        raise ValueError(f"document counts {count} panoramas that lie in no page; use write_page, or give it their url")
    return "".join(_parts(document, ()))


def _parts(document: dict[str, Any], panoramas: Iterable[bytes]) -> Iterator[str]:
    """Yield the page piece by piece, so that pictures are never in memory all at once."""
    if len(document["agents"]) > MAX_AGENTS:
        raise ValueError(f"a page must show at most {MAX_AGENTS} agents, got {len(document['agents'])}")
    style, script = _read("page.css"), '"use strict";\n' + "".join(_read(name) for name in SCRIPTS)
    values = {
        "policy": _policy(style, script, live=bool(document.get("live"))),
        "style": style,
        "script": script,
        "document": _inert_json(document),
    }
    for piece in re.split(r"(@[a-z]+@)", _read("page.html")):
        if piece == "@panoramas@":
            expected = 0 if document["panoramas"]["url"] else document["panoramas"]["count"]
            yield from _panorama_elements(panoramas, expected)
        else:
            yield values[piece[1:-1]] if re.fullmatch(r"@[a-z]+@", piece) else piece


def _read(name: str) -> str:
    return (files("vln_clip.viewer") / "web" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str, live: bool) -> str:
    """Return a policy that runs our own script and style only, and reaches nothing but the live server."""
    rules = [
        "default-src 'none'",
        f"script-src {_digest(script)}",
        f"style-src {_digest(style)}",
        "img-src data: blob:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join([*rules, "connect-src 'self'"] if live else rules)


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _inert_json(value: dict[str, Any]) -> str:
    """Return JSON that no HTML parser takes for markup, and that UTF-8 can hold.

    ``<`` is written as an escape, and so is half a surrogate pair, which instructions and names of files may hold.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return re.sub("[<\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _panorama_elements(panoramas: Iterable[bytes], expected: int) -> Iterator[str]:
    count = 0
    for count, jpeg in enumerate(panoramas, start=1):
        encoded = base64.b64encode(jpeg).decode()
        yield f'<script type="text/plain" id="panorama-{count - 1}">{encoded}</script>\n'
    if count != expected:
        raise ValueError(f"document counts {expected} panoramas, but {count} were given")
