"""A server of small files on this machine, for tests of downloads."""

import http.server
import threading
from contextlib import contextmanager


class Files(http.server.BaseHTTPRequestHandler):
    """Answers with ``server.files``: body by path; a pair of body and another stated length breaks off."""

    def do_GET(self):
        self.server.asked.append(self.path)
        found = self.server.files.get(self.path.partition("?")[0])
        if found is None:
            self.send_error(404, "Not Found")
            return
        body, stated = found if isinstance(found, tuple) else (found, len(found))
        self.send_response(200)
        self.send_header("Content-Length", str(stated))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Keep quiet."""


@contextmanager
def serving(files):
    """Serve files; yields the server, whose ``address`` is without a slash at its end."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    server.files, server.asked, server.address = dict(files), [], f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
