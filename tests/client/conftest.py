"""An API that answers what a test tells it to, and a page in a browser, for tests of the clients."""

import http.server
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Page, sync_playwright

CLIENT = Path(__file__).resolve().parents[2] / "clients/typescript/dist/index.js"
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "content-type,idempotency-key,authorization",
    "Access-Control-Allow-Methods": "GET,POST,DELETE",
    "Access-Control-Expose-Headers": "location,retry-after,etag,link,apigw-requestid",
    "Access-Control-Max-Age": "3600",
    "Cache-Control": "private, no-cache",
}


class Answer(NamedTuple):
    """What the API is to say; status 0 is a connection closed without a word."""

    status: int
    body: Any = None
    headers: dict[str, str] = {}  # noqa: RUF012  never changed


class Script:
    """An HTTP server that gives the answers it was told to, and keeps what it was asked.

    What is asked for has one answer after the other, or ``always`` the same for its path.
    """

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.always: dict[str, Answer] = {}
        self.preflights: list[str] = []
        self.bodies: list[Any] = []
        self.asked: list[tuple[float, str, str, dict[str, str]]] = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}/base"

    def _handler(script) -> type[http.server.BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if sent:
                    script.bodies.append(json.loads(sent))
                headers = {name.lower(): value for name, value in self.headers.items()}
                script.asked.append((time.monotonic(), self.command, self.path, headers))
                answer = script.always.get(self.path) or script.answers.pop(0)
                if not answer.status:
                    self.close_connection = True
                    return
                body = answer.body if isinstance(answer.body, bytes) else b""
                if answer.body is not None and not body:
                    body = json.dumps(answer.body).encode()
                self.send_response(answer.status)
                usual = CORS | {"Content-Type": "application/json"}
                for name, value in (usual | answer.headers).items():
                    self.send_header(name, value)
                if answer.status not in {204, 304}:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_DELETE = do_GET  # noqa: N815

            def do_OPTIONS(self) -> None:
                script.preflights.append(self.path)
                self.send_response(204)
                for name, value in CORS.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def api() -> Iterator[Script]:
    script = Script()
    thread = threading.Thread(target=script.server.serve_forever, args=(0.02,))
    thread.start()
    yield script
    script.server.shutdown()
    script.server.server_close()
    thread.join()
    assert script.answers == [], "everything was asked for"


Run = Callable[..., Any]


@pytest.fixture
def run() -> Run:
    """Runs JavaScript with a client in Node and returns what it returns."""
    if shutil.which("node") is None:
        pytest.skip("There is no node. On Debian and Ubuntu: apt-get install nodejs npm")
    return _run_in_node


def _run_in_node(url: str, script: str) -> Any:
    program = (
        f"import * as client from {json.dumps(CLIENT.as_uri())};"
        f"const url = {json.dumps(url)};"
        "const valro = new client.ValroClient(url);"
        "const { ApiError } = client;"
        f"const result = await (async () => {{ {script} }})();"
        "console.log(JSON.stringify(result ?? null));"
    )
    result = subprocess.run(
        ("node", "--input-type=module", "--eval", program),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@contextmanager
def page_with_client(folder: Path, script: str = "") -> Iterator[Page]:
    """A page in Chromium, of another origin than the API, with the client as ``client``."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("There is no Chromium. On Debian and Ubuntu: apt-get install chromium")
    shutil.copy(CLIENT, folder / "client.js")
    (folder / "index.html").write_text(
        "<!doctype html><title>A frontend</title><main></main><script type='module'>"
        "window.client = await import('/client.js');</script>"
    )
    handler = partial(QuietFiles, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=executable, args=["--no-sandbox", "--no-proxy-server"]
            )
            page = browser.new_page()
            page.add_init_script(script)
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            page.wait_for_function("() => window.client")
            yield page
            browser.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
