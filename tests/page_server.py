"""A stand-in for the live server, so that the page is tested without an agent."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.page_document import decision, page_document, panorama, walk
from vln_clip.viewer.page import page_html


class Stub(BaseHTTPRequestHandler):
    """Answers as the live server does: walks along a row of the villa; "stop" in the instruction stops at once."""

    document, _ = page_document(pictures=False, agents=1)
    villa = document["scans"]["villa"]
    asked: list[dict] = []  # noqa: RUF012 - shared on purpose, the test reads it

    def do_GET(self):
        if self.path == "/":
            live = self.document | {"live": True, "episodes": [], "notes": []}
            live["panoramas"] = live["panoramas"] | {"url": "/panorama/{scan}/{viewpoint}.jpg"}
            return self.answer(page_html(live).encode(), "text/html; charset=utf-8")
        if self.path.startswith("/panorama/"):
            return self.answer(panorama((200, 60, 60)), "image/jpeg")
        start = {"id": "7_0", "scan": "villa", "start": self.villa["ids"][0], "heading": 0.5}
        start |= {"instruction": "go right", "path": [0, 1]}
        return self.answer(json.dumps({"episodes": [start]}).encode(), "application/json")

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(asked)
        if "nowhere" in asked["instruction"]:
            sentence = "instruction must name a place, got 'nowhere'"
            return self.answer(json.dumps({"error": sentence}).encode(), "application/json", 400)
        return self.answer(json.dumps({"episode": self.walk(asked)}).encode(), "application/json")

    def walk(self, asked):
        places, decisions = [self.villa["ids"].index(asked["start"])], []
        words = asked["instruction"].split()
        while len(decisions) < 20:
            place, t = places[-1], len(decisions)
            following = place + 1 if place + 1 < 4 and "stop" not in words else None
            decided = decision(self.villa, place, following, len(words), t)
            decided["a"] = asked["actions"][t] if t < len(asked["actions"]) else decided["a"]
            decisions.append(decided)
            if decided["a"] == len(decided["c"]) or (t >= len(asked["actions"]) and not asked["finish"]):
                break
            places.append(decided["c"][decided["a"]])
        shown = walk(self.villa, places, words, False) | {"decisions": decisions, "metrics": None}
        return {"id": "live", "path_id": "live", "scan": "villa", "language": "en", "instruction": asked["instruction"],
                "path": None, "heading": asked["heading"], "walks": [shown]}  # fmt: skip

    def answer(self, body, kind, status=200):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing on the console."""


@contextmanager
def serve_stub() -> Iterator[str]:
    """Serve on a free port of this machine; gives the address."""
    Stub.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
