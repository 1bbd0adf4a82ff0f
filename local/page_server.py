"""Serves the page on an origin of its own, so that its calls to the API are cross-origin as on AWS.

with serve_page("https://….amazonaws.com") as url:
    print("Open", url)

Beside the page, one static file into which only the API's address is written, it serves the API's
reference: openapi.yaml and a viewer of it at docs/.
"""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from typing import Any

from local.addresses import listen
from local.guard import refusal

LOCAL = Path(__file__).resolve().parent
PAGE = LOCAL / "page.html"
# What openapi.yaml says of its servers is for the world; here there is one.
OPENAPI = LOCAL.parent / "openapi.yaml"
_EMPTY_CONFIG = '<script type="application/json" id="config">{}</script>'
_HTML = "text/html; charset=utf-8"


@contextlib.contextmanager
def serve_page(api_url: str, listener: socket | None = None) -> Iterator[str]:
    """Serves the page for an API on a listening socket (default: any port) and gives its URL."""
    files = {
        "/": (_HTML, render_page(api_url)),
        "/docs/": (_HTML, _with_config(LOCAL / "docs" / "index.html", {"api": api_url})),
        "/docs/openapi-explorer.min.js": (
            "text/javascript",
            (LOCAL / "docs" / "openapi-explorer.min.js").read_bytes(),
        ),
        "/openapi.yaml": ("application/yaml", OPENAPI.read_bytes()),
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def parse_request(self) -> bool:
            if not super().parse_request():
                return False
            if reason := refusal(self.headers.items()):
                self.send_error(403, reason)
            return not reason

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/docs":
                self.send_response(301)
                self.send_header("Location", "docs/")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if path not in files:
                self.send_error(404)
                return
            content_type, body = files[path]
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base's names
            """Keeps the terminal for the task."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener or listen()
    host, port = server.server_address = server.socket.getsockname()
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def render_page(api_url: str) -> bytes:
    """The page with the API's address in it, and that of the reference beside it."""
    return _with_config(PAGE, {"api": api_url, "docs": "docs/"})


def _with_config(file: Path, config: dict[str, str]) -> bytes:
    # In a script element "<" could end it or begin a comment; in JSON it can be written otherwise.
    text = json.dumps(config).replace("<", "\\u003c")
    filled = _EMPTY_CONFIG.replace("{}", text)
    return file.read_text(encoding="utf-8").replace(_EMPTY_CONFIG, filled, 1).encode()
