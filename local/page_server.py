"""Serves the page on an origin of its own, so that its calls to the API are cross-origin as on AWS.

with serve_page("https://….amazonaws.com") as url:
    print("Open", url)

It is one static file; the server only writes into it where the API is.
"""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("page.html")
_EMPTY_CONFIG = '<script type="application/json" id="config">{}</script>'


@contextlib.contextmanager
def serve_page(api_url: str, port: int = 0) -> Iterator[str]:
    """Serves the page for an API and gives its URL; port 0 takes any free one."""
    page = render_page(api_url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base's names
            """Keeps the terminal for the task."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def render_page(api_url: str) -> bytes:
    """The page with the API's address in it."""
    # In a script element "<" could end it or begin a comment; in JSON it can be written otherwise.
    config = json.dumps({"api": api_url}).replace("<", "\\u003c")
    filled = _EMPTY_CONFIG.replace("{}", config)
    return PAGE.read_text(encoding="utf-8").replace(_EMPTY_CONFIG, filled, 1).encode()
