"""The page's surroundings: an API behind a real HTTP server, with faults, and a real Chromium."""

import io
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, expect, sync_playwright

import lambda_function
from dynamodb_helpers import TaskStore
from local.page_server import serve_page
from local.vendors import build_answer
from tests.api import contract
from tests.conftest import serve_from
from tests.servers import Quiet, serving
from valro.tasks import Outcome

CHROMIUM_OPTIONS = [
    "--no-sandbox",  # CI runs as root
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
]
PROMPT = "Find me a landscaper in Charlotte under $300"
NO_END = 4_000_000_000.0

# Playwright's own 5 s leave too little where the page waits 3 s by itself on a busy machine. What
# is expected is still taken as soon as it is there.
expect.set_options(timeout=20_000)


class Atomic:
    """A client whose calls come one after another: moto is not thread-safe."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = threading.Lock()

    def __getattr__(self, operation: str) -> Any:
        def call(**arguments: Any) -> Any:
            with self._lock:
                return getattr(self._client, operation)(**arguments)

        return call


class Asked(NamedTuple):
    """One request that reached the API."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int


class Backend:
    """The API's function behind a real HTTP server, with faults; a test plays the worker."""

    def __init__(self, store: TaskStore) -> None:
        self.store = store
        self.asked: list[Asked] = []
        self.broken: list[BaseException] = []
        self.is_down = False
        self.loses_answers = False
        self.forced: list[tuple[int, dict[str, Any], dict[str, str]]] = []
        self.url = ""

    def requests(self, method: str, path: str = "") -> list[Asked]:
        return [a for a in list(self.asked) if a.method == method and a.path.startswith(path)]

    def tasks(self) -> list[dict[str, Any]]:
        return self.store.list_tasks("public", 100)[0]

    def create(self, description: str = PROMPT) -> str:
        task_id = f"task-{time.monotonic_ns()}"
        self.store.create_task(task_id, description)
        return task_id

    def follow(self, earlier: str) -> str:
        task_id = f"task-{time.monotonic_ns()}"
        self.store.follow_task(task_id, "More", "public", "", follows=earlier)
        return task_id

    def claim(self, task_id: str) -> Any:
        return self.store.claim_task(task_id, "token", NO_END)

    def say(self, claim: Any, message: str) -> None:
        claim.timeline.add_progress(claim.timeline.last_ts, message)
        self.store.record_progress(claim)

    def complete(self, claim: Any, **answer: Any) -> None:
        self.store.end_task(claim, Outcome.of(ANSWER | answer))

    def fail(self, claim: Any, code: str, words: str = "No.") -> None:
        self.store.end_task(claim, Outcome.of({}, code, words))

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        """What the function says to a request, checked against openapi.yaml."""
        url = urlsplit(path)
        event = {
            "version": "2.0",
            "rawPath": url.path,
            "headers": headers,
            "queryStringParameters": dict(parse_qsl(url.query)),
            "requestContext": {"http": {"method": method}},
            "body": body.decode() or None,
        }
        response = lambda_function.lambda_handler(event, None)
        try:
            contract.validate_response(*contract.response_of_handler(method, path, response))
        except contract.ContractBroken as error:
            self.broken.append(error)
        return response

    def handler(backend) -> type[Quiet]:  # noqa: N805  self is the handler
        class Handler(Quiet):
            def reply(self) -> None:
                body = self.body()
                headers = {name.lower(): value for name, value in self.headers.items()}
                response: Any = {"statusCode": 0}
                if not backend.is_down:
                    response = backend.answer(self.command, self.path, headers, body)
                if response["statusCode"] and self.command != "OPTIONS" and backend.forced:
                    status, forced, more = backend.forced.pop(0)
                    response["headers"] |= more
                    response |= {"statusCode": status, "body": json.dumps(forced)}
                if self.command == "POST" and backend.loses_answers:
                    response = {"statusCode": 0}
                asked = Asked(self.command, self.path, headers, body, response["statusCode"])
                backend.asked.append(asked)
                if not response["statusCode"]:
                    self.close_connection = True  # without a word
                    return
                data = response.get("body", "").encode()
                self.send_response(response["statusCode"])
                for name, value in response["headers"].items():
                    self.send_header(name, value)
                if response["statusCode"] not in {204, 304}:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_DELETE = do_OPTIONS = Quiet.do_POST  # noqa: N815  the base's names

        return Handler


FOUND = build_answer(PROMPT)
# The sample agent's answer as the worker stores it.
ANSWER = {
    "agent_response": FOUND["response"],
    "vendors": [
        vendor | {"emails": [mail]}
        for vendor, mail in zip(FOUND["vendors"], FOUND["emails"], strict=True)
    ],
    "quotes": FOUND["quotes"],
    "emails_sent": FOUND["emails_sent"],
}

Open = Callable[..., Page]


def executable() -> str:
    """The path of Chromium; skips the test if there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("There is no Chromium. On Debian and Ubuntu: apt-get install chromium")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def backend(dynamodb: Any, table_name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    class Worker:
        def invoke(self, **_: Any) -> dict[str, Any]:
            return {"Payload": io.BytesIO()}

    store = TaskStore(Atomic(dynamodb), table_name)
    serve_from(monkeypatch, store, Worker())
    backend = Backend(store)
    with serving(backend.handler()) as backend.url:
        yield backend
    assert backend.broken == []


@pytest.fixture
def visit(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens the page in a browser of its own, by default for the backend; no script may fail there."""
    contexts, faults = [], []

    def visit(address: str = "", **options: Any) -> Page:
        if ":" not in address:
            address = f"{request.getfixturevalue('page_url')}{address}"
        settings = {"locale": "en-US", "timezone_id": "America/New_York"} | options
        context = browser.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(address)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture
def page_url(backend: Backend) -> Iterator[str]:
    with serve_page(backend.url) as url:
        yield url


@pytest.fixture
def show(backend: Backend, visit: Open) -> Open:
    """Opens a task that ended with an answer, or with questions."""

    def show(**answer: Any) -> Page:
        task_id = backend.create()
        backend.complete(backend.claim(task_id), **answer)
        page = visit(f"#/tasks/{task_id}")
        word = "Needs your answer" if "interrupts" in answer else "Completed"
        expect(page.locator("#status")).to_have_text(word)
        expect(page.locator("#answer")).not_to_have_text("Loading…")
        return page

    return show


def go_to(page: Page, task_id: str) -> None:
    page.evaluate("id => { location.hash = `#/tasks/${id}` }", task_id)


def tab_to(page: Page, selector: str) -> None:
    """Presses Tab until the element has the focus, and sees that it shows."""
    for _ in range(40):
        page.keyboard.press("Tab")
        outline = page.evaluate(
            "s => document.activeElement === document.querySelector(s)"
            " ? getComputedStyle(document.activeElement).outlineWidth : null",
            selector,
        )
        if outline is not None:
            assert outline == "3px"
            return
    pytest.fail(f"Tab does not reach {selector}")


def submit(page: Page) -> None:
    """Sends the usual request."""
    page.get_by_label("What do you need done?").fill(PROMPT)
    page.get_by_role("button", name="Find vendors").click()


def no_violation(page: Page) -> None:
    """Fails if axe finds fault with the page as it is now."""
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
