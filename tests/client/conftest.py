"""An API that answers what a test tells it to, and a page in a browser, for tests of the clients."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.servers import Quiet, serving

CLIENT = Path(__file__).resolve().parents[2] / "clients/typescript/dist/index.js"
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "content-type,idempotency-key,authorization",
    "Access-Control-Allow-Methods": "GET,POST,DELETE",
    "Access-Control-Expose-Headers": "location,retry-after,etag,link,apigw-requestid",
    "Access-Control-Max-Age": "3600",
    "Cache-Control": "private, no-cache",
}


HTML = {"Content-Type": "text/html"}
EVENT = {"ts": "2026-11-24T15:01:38.024301Z", "message": "Task created", "type": "info"}
RUNNING = {
    "id": "a",
    "description": "Find me a painter",
    "status": "processing",
    "vendors": [],
    "quotes": [],
    "emails_sent": 0,
    "events": [EVENT],
    "created_at": EVENT["ts"],
    "updated_at": EVENT["ts"],
}
COMPLETED = RUNNING | {"status": "completed", "agent_response": "I've contacted 1 painter."}
ACCEPTED = {"id": "a", "status": "pending", "message": "Task created and processing started"}
MISSING = {"error": "Task not found.", "code": "task_not_found"}


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
        self.url = ""

    def handler(script) -> type[Quiet]:  # noqa: N805  self is the handler
        class Handler(Quiet):
            def reply(self) -> None:
                if self.command == "OPTIONS":
                    script.preflights.append(self.path)
                    self.send(204, b"", **CORS)
                    return
                if sent := self.body():
                    script.bodies.append(json.loads(sent))
                headers = {name.lower(): value for name, value in self.headers.items()}
                script.asked.append((time.monotonic(), self.command, self.path, headers))
                answer = script.always.get(self.path) or script.answers.pop(0)
                if not answer.status:
                    self.close_connection = True
                    return
                body = b"" if answer.body is None else answer.body
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                usual = CORS | {"Content-Type": "application/json"}
                self.send(answer.status, body, **usual | answer.headers)

            do_DELETE = do_OPTIONS = Quiet.do_POST  # noqa: N815  the base's names

        return Handler


@pytest.fixture
def api() -> Iterator[Script]:
    script = Script()
    with serving(script.handler()) as address:
        script.url = f"{address}/base"
        yield script
    assert script.answers == [], "everything was asked for"


def run_in_node(url: str, script: str, given: Any = None) -> Any:
    """Runs JavaScript with a client in Node and returns what it returns."""
    if shutil.which("node") is None:
        pytest.skip("There is no node. On Debian and Ubuntu: apt-get install nodejs npm")
    program = (
        f"import * as client from {json.dumps(CLIENT.as_uri())};"
        f"const url = {json.dumps(url)}, given = {json.dumps(given)};"
        "const valro = new client.ValroClient(url);"
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
    files = partial(QuietFiles, directory=str(folder))
    with (
        serving(ThreadingHTTPServer(("127.0.0.1", 0), files)) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--no-proxy-server"]
        )
        page = browser.new_page()
        page.add_init_script(script)
        page.goto(address)
        page.wait_for_function("() => window.client")
        yield page
        browser.close()


class QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
