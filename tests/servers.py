"""Little HTTP servers on 127.0.0.1, for whatever a test puts in the place of somebody else's."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from typing import Any


class Quiet(BaseHTTPRequestHandler):
    """A handler that writes nothing of its requests; ``reply`` says what it answers."""

    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        # Who asked may be gone, as a page that is closed is.
        with suppress(BrokenPipeError, ConnectionResetError):
            super().handle()

    def do_POST(self) -> None:
        self.reply()

    do_GET = do_POST  # noqa: N815  the base's name

    def reply(self) -> None:
        raise NotImplementedError

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base's name
        """Says nothing."""

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answers with a body of known length."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(server: type[BaseHTTPRequestHandler] | HTTPServer) -> Iterator[str]:
    """Serves until the block ends; gives the address."""
    if not isinstance(server, HTTPServer):
        server = ThreadingHTTPServer(("127.0.0.1", 0), server)
        server.daemon_threads = True
    # The poll bounds how long shutdown() takes.
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
