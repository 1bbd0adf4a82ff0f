"""clients/typescript: what is committed is what its source says, and it does what it promises."""

import http.server
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import sync_playwright

from tests.conftest import Deployment

pytestmark = pytest.mark.e2e  # each test starts Node, and several wait for seconds

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
BUILT = (
    "clients/typescript/src/openapi.ts",
    "clients/typescript/dist",
    "local/page.html",
    "local/docs/openapi-explorer.min.js",
    "local/docs/openapi-explorer.LICENSE",
)
TYPES_CONFIG = {
    "extends": "./tsconfig.json",
    "compilerOptions": {"noEmit": True, "rootDir": "."},
    "include": ["types.ts"],
}
TASK = {"id": "a", "description": "x", "status": "completed", "events": []}


class Answer(NamedTuple):
    """What the API is to say; status 0 is a connection closed without a word."""

    status: int
    body: Any = None
    headers: dict[str, str] = {}  # noqa: RUF012  never changed


class Script:
    """An HTTP server that gives the answers it was told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[tuple[float, str, str, dict[str, str]]] = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}/base"

    def _handler(script) -> type[http.server.BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                script.asked.append((time.monotonic(), self.command, self.path, headers))
                answer = script.answers.pop(0)
                if not answer.status:
                    self.close_connection = True
                    return
                body = b"" if answer.body is None else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in ({"Content-Type": "application/json"} | answer.headers).items():
                    self.send_header(name, value)
                if answer.status not in {204, 304}:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_DELETE = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def api() -> Iterator[Script]:
    script = Script()
    thread = threading.Thread(target=script.server.serve_forever)
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
    client = (ROOT / "clients/typescript/dist/index.js").as_uri()
    program = (
        f"import * as client from {json.dumps(client)};"
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


def test_what_is_committed_is_what_the_source_builds(tmp_path: Path):
    if shutil.which("npm") is None:
        pytest.skip("There is no npm. On Debian and Ubuntu: apt-get install nodejs npm")
    shutil.copytree(
        ROOT / "clients/typescript",
        tmp_path / "clients/typescript",
        ignore=shutil.ignore_patterns("node_modules", "dist", "openapi.ts"),
    )
    shutil.copytree(ROOT / "local/page", tmp_path / "local/page")
    (tmp_path / "local/docs").mkdir()
    shutil.copy(ROOT / "openapi.yaml", tmp_path)
    folder = tmp_path / "clients/typescript"

    def npm(*command: str) -> None:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180)
        assert result.returncode == 0, result.stdout + result.stderr

    npm("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
    npm("npm", "run", "build")

    for name in BUILT:
        built = _files(tmp_path / name)
        assert built, name
        assert built == _files(ROOT / name), f"{name} is not what `npm run build` makes"
    # A frontend's own code, against the types that it would install.
    shutil.copy(HERE / "types.ts", folder)
    (folder / "types.json").write_text(json.dumps(TYPES_CONFIG))
    npm("node_modules/.bin/tsc", "--project", "types.json")


def _files(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return {file.name: file.read_bytes() for file in files}


def test_it_runs_a_task_in_node(stack: Deployment, run: Run):
    scenario = (
        f"const {{ scenario }} = await import({json.dumps((HERE / 'scenario.js').as_uri())});"
    )

    _check(stack, run(stack.api.url, f"{scenario} return scenario(client, url);"))


def test_it_runs_a_task_in_chromium(stack: Deployment, tmp_path: Path):
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("There is no Chromium. On Debian and Ubuntu: apt-get install chromium")
    shutil.copy(ROOT / "clients/typescript/dist/index.js", tmp_path / "client.js")
    shutil.copy(HERE / "scenario.js", tmp_path)
    (tmp_path / "index.html").write_text("<!doctype html><title>A frontend</title>")
    handler = partial(QuietFiles, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=executable, args=["--no-sandbox", "--no-proxy-server"]
            )
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            said = page.evaluate(
                "async (url) => (await import('/scenario.js'))"
                ".scenario(await import('/client.js'), url)",
                stack.api.url,
            )
            browser.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

    _check(stack, said)


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def _check(stack: Deployment, said: Any) -> None:
    task = said["task"]
    assert task == stack.task(task["id"])
    assert task["status"] == said["statuses"][-1] == "completed"
    assert said["isSame"]
    assert len(said["listed"]) == len(set(said["listed"])) >= 2, "each page once"
    assert task["id"] in said["listed"]
    refused, unknown = said["errors"]
    assert refused[:3] == [True, 400, "invalid_description"]
    assert unknown[:3] == [True, 404, "task_not_found"]
    assert refused[3].endswith("."), "a sentence for a person"
    assert said["unasked"] == "enough"
    ended = said["ended"]
    assert ended["cancelled"]["status"] == "processing"
    assert ended["cancelled"]["cancel_requested_at"] == ended["last"]["cancel_requested_at"]
    assert (ended["last"]["status"], ended["last"]["error_code"]) == ("error", "cancelled")
    assert ended["again"] == ended["last"]
    assert [ended["id"], "error"] in ended["found"]
    assert {status for _, status in ended["found"]} <= {"error", "pending"}
    assert ended["codes"] == [
        "task_ended",
        "task_not_final",
        *["task_not_found"] * 3,
        "task_deleted",
    ]


def test_a_lost_answer_is_asked_for_again_with_the_same_key(api: Script, run: Run):
    accepted = {"id": "a", "status": "pending", "message": "m"}
    api.answers = [
        Answer(0),
        Answer(503, {"message": "Service Unavailable"}),
        Answer(202, accepted),
    ]

    heard = run(
        api.url,
        "const heard = []; const onRetry = (error, s) => heard.push([error?.message ?? null, s > 0]);"
        "await valro.createTask('x', { onRetry }); return heard;",
    )

    assert [words for words, _ in heard] == [
        "fetch failed",
        "The API answered 503 Service Unavailable.",
        None,
    ]
    keys = {headers["idempotency-key"] for _, _, _, headers in api.asked}
    assert len(api.asked) == 3
    assert len(keys) == 1
    assert len(keys.pop()) == 32
    first, second, third = (at for at, *_ in api.asked)
    assert 0.4 < second - first < 3
    assert 0.9 < third - second < 5, "it waits longer from try to try"


def test_two_tasks_have_two_keys(api: Script, run: Run):
    api.answers = [Answer(202, {"id": "a"}), Answer(202, {"id": "b"})]

    run(api.url, "await valro.createTask('x'); await valro.createTask('x');")

    assert len({headers["idempotency-key"] for _, _, _, headers in api.asked}) == 2


def test_polling_obeys_retry_after_and_a_304_that_claims_to_be_json_is_no_news(
    api: Script, run: Run
):
    running = TASK | {"status": "processing"}
    api.answers = [
        Answer(200, running, {"ETag": '"1"', "Retry-After": "1"}),
        Answer(304, None, {"ETag": '"1"', "Retry-After": "1"}),
        Answer(200, TASK, {"ETag": '"2"'}),
    ]

    seen = run(
        api.url,
        "const seen = []; for await (const task of valro.watchTask('a')) seen.push(task.status);"
        "return seen;",
    )

    assert seen == ["processing", "completed"]
    assert [headers.get("if-none-match") for _, _, _, headers in api.asked] == [None, '"1"', '"1"']
    assert [path for _, _, path, _ in api.asked] == ["/base/tasks/a"] * 3
    for earlier, later in zip(api.asked, api.asked[1:], strict=False):
        assert 0.9 < later[0] - earlier[0] < 4


def test_watching_ends_when_the_signal_says_so(api: Script, run: Run):
    running = TASK | {"status": "processing"}
    api.answers = [Answer(200, running, {"Retry-After": "3600"})]

    words = run(
        api.url,
        "const enough = new AbortController(); const { signal } = enough;"
        "try { for await (const task of valro.watchTask('a', { signal }))"
        "  setTimeout(() => enough.abort(new Error('enough')), 100); }"
        "catch (error) { return error.message; }",
    )

    assert words == "enough"


@pytest.mark.parametrize(
    "link",
    ["?limit=2&cursor=b%2Bc", "/base/tasks?limit=2&cursor=b%2Bc", "/tasks?limit=2&cursor=b%2Bc"],
)
def test_pages_are_followed_under_any_base(api: Script, run: Run, link: str):
    api.answers = [
        Answer(200, [], {"Link": f'<{link}>; rel="next"'}),
        Answer(200, [TASK]),
    ]

    tasks, following = run(
        api.url,
        "const { next } = await valro.listTasks({ limit: 2, status: ['pending', 'error'] });"
        "const page = await valro.listTasks({ page: next }); return [page.tasks, page.next];",
    )

    assert (tasks, following) == ([TASK], None)
    assert [path for _, _, path, _ in api.asked] == [
        "/base/tasks?limit=2&status=pending%2Cerror",
        "/base/tasks?limit=2&cursor=b%2Bc",
    ]


@pytest.mark.parametrize(
    "status, body, words",
    [
        (422, {"error": "Use a new key.", "code": "idempotency_key_reused"}, "Use a new key."),
        (502, {"error": "No worker.", "code": "worker_unavailable", "id": "a"}, "No worker."),
        (401, {"message": "Unauthorized"}, "The API answered 401 Unauthorized."),
        (403, None, "The API answered 403."),
    ],
)
def test_an_answer_that_will_not_change_is_an_error_at_once(
    api: Script, run: Run, status: int, body: Any, words: str
):
    api.answers = [Answer(status, body)]

    said = run(
        api.url,
        "try { await valro.createTask('x'); } catch (error) {"
        "return [error instanceof ApiError, error.status, error.code ?? null, error.message,"
        " error.taskId ?? null, error.passes]; }",
    )

    body = body or {}
    assert said == [True, status, body.get("code"), words, body.get("id"), False]


def test_a_throttled_request_waits_as_long_as_it_is_told(api: Script, run: Run):
    api.answers = [Answer(429, {"message": "Too Many Requests"}, {"Retry-After": "2"})]
    api.answers += [Answer(200, TASK)]

    assert run(api.url, "return valro.getTask('a');") == TASK
    assert api.asked[1][0] - api.asked[0][0] > 1.8


def test_a_task_is_cancelled_and_deleted(api: Script, run: Run):
    cancelled = TASK | {"status": "error", "error_code": "cancelled"}
    api.answers = [Answer(200, cancelled), Answer(204)]

    assert run(api.url, "return valro.cancelTask('a/b');") == cancelled
    assert run(api.url, "return valro.deleteTask('a/b');") is None
    assert [asked[1:3] for asked in api.asked] == [
        ("POST", "/base/tasks/a%2Fb/cancel"),
        ("DELETE", "/base/tasks/a%2Fb"),
    ]


def test_a_deletion_whose_answer_was_lost_is_a_deletion(api: Script, run: Run):
    missing = {"error": "Task not found.", "code": "task_not_found"}
    api.answers = [Answer(0), Answer(404, missing)]

    assert run(api.url, "return valro.deleteTask('a');") is None

    api.answers = [Answer(404, missing)]
    script = "try { await valro.deleteTask('a'); } catch (error) { return error.code; }"
    assert run(api.url, script) == "task_not_found"


def test_headers_are_made_for_each_request(api: Script, run: Run):
    api.answers = [Answer(202, {"id": "a"}), Answer(200, TASK)]

    run(
        api.url,
        "let n = 0; const headers = async () => ({ Authorization: `Bearer ${++n}` });"
        "const signedIn = new client.ValroClient(url, { headers });"
        "await signedIn.createTask('x'); await signedIn.getTask('a');",
    )

    assert [headers["authorization"] for _, _, _, headers in api.asked] == ["Bearer 1", "Bearer 2"]
    assert api.asked[0][3]["content-type"] == "application/json"
