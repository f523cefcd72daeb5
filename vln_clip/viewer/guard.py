"""Who may talk to the live server: pages that it served itself, on this machine.

A browser lets every page of the web send requests to 127.0.0.1, and lets a foreign name point there (DNS rebinding).
So the name that was asked for must be ours, and who asks must be our own page.
"""

import base64
import hashlib
from collections.abc import Mapping
from html.parser import HTMLParser

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOST = "127.0.0.1"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_RUN_TYPES = ("", "module", "text/javascript")  # of scripts that a browser runs; others are data


class Guard:
    """Refuse foreign hosts and origins, and put the headers of a careful server on every answer.

    Args:
        app: what answers the rest.
        port: where the server listens.
        policy: the content security policy of its page.
    """

    def __init__(self, app: ASGIApp, port: int, policy: str) -> None:
        self.app = app
        self.hosts = {f"{name}:{port}" for name in (HOST, "localhost")} | ({HOST, "localhost"} if port == 80 else set())
        self.headers = {**_HEADERS, "Content-Security-Policy": policy}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; see ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers[name] = value
            await send(message)

        refused = self._refuse(scope["method"], Headers(scope=scope))
        await (refused or self.app)(scope, receive, send_guarded)

    def _refuse(self, method: str, headers: Mapping[str, str]) -> JSONResponse | None:
        """Return the answer to who must not ask, None for everybody else."""
        if headers.get("host") not in self.hosts:
            return JSONResponse({"error": "this server answers to its own address only"}, 400)
        origin = headers.get("origin")
        if origin is not None and origin not in {f"http://{host}" for host in self.hosts}:
            return JSONResponse({"error": "this server answers to its own page only"}, 403)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if method == "POST" and kind != "application/json":  # which foreign pages cannot send without being asked
            return JSONResponse({"error": "the body must be of the type application/json"}, 415)
        return None


def page_policy(html: str) -> str:
    """Return a content security policy that lets a page run its own scripts, by their hashes, and nothing else."""
    scripts = _Scripts()
    scripts.feed(html)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in scripts.digests) or "'none'"
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class _Scripts(HTMLParser):
    """Collects the SHA-256 of every script that a browser would run."""

    def __init__(self) -> None:
        super().__init__()
        self.digests: list[bytes] = []
        self._runs = False
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self._runs, self._text = (dict(attrs).get("type") or "") in _RUN_TYPES, []

    def handle_data(self, data: str) -> None:
        if self._runs:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "script" and self._runs:
            self.digests.append(hashlib.sha256("".join(self._text).encode()).digest())
            self._runs = False
