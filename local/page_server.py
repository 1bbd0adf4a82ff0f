"""Serves the page on an origin of its own, so that its calls to the API are cross-origin as on AWS.

with serve_page("https://….amazonaws.com") as url:
    print("Open", url)

The page's folder is served as it is, with the client at client/ and the API's reference at docs/:
only the API's address is written into both. Files are read for every request, so that a change to
the page needs a reload and nothing else.
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
FOLDERS = {
    "/": LOCAL / "page",
    "/client/": LOCAL.parent / "clients" / "typescript" / "dist",
    "/docs/": LOCAL / "docs",
}
# What openapi.yaml says of its servers is for the world; here there is one.
OPENAPI = LOCAL.parent / "openapi.yaml"
CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".yaml": "application/yaml",
}
_EMPTY_CONFIG = '<script type="application/json" id="config">{}</script>'


@contextlib.contextmanager
def serve_page(api_url: str, listener: socket | None = None) -> Iterator[str]:
    """Serves the page for an API on a listening socket (default: any port) and gives its URL."""

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
            file = _file_of(path)
            if file is None:
                self.send_error(404)
                return
            body = _read(file, api_url)
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPES[file.suffix])
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Content-Security-Policy", "frame-ancestors 'none'")
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


def _file_of(path: str) -> Path | None:
    """The file at a path, None if there is none; folders within those above are not served."""
    if path == "/openapi.yaml":
        return OPENAPI
    folder, _, name = path.rpartition("/")
    if f"{folder}/" not in FOLDERS:
        return None
    file = FOLDERS[f"{folder}/"] / (name or "index.html")
    return file if file.suffix in CONTENT_TYPES and file.is_file() else None


def _read(file: Path, api_url: str) -> bytes:
    """A file, with the addresses of the API and its reference where it wants to know them."""
    if file.suffix != ".html":
        return file.read_bytes()
    # In a script element "<" could end it or begin a comment; in JSON it can be written otherwise.
    config = json.dumps({"api": api_url, "docs": "docs/"}).replace("<", "\\u003c")
    filled = _EMPTY_CONFIG.replace("{}", config)
    return file.read_text(encoding="utf-8").replace(_EMPTY_CONFIG, filled, 1).encode()
