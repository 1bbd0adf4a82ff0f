"""Who is answered by the servers of a local run, and who is not: a browser tries it, and so do we."""

import asyncio
import contextlib
import http.client
import json
import signal
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, sync_playwright
from starlette.types import Message, Receive, Scope, Send

from local.aws import LocalStack, local_stack
from local.guard import local_only, refusal
from local.page_server import serve_page
from tests.local.conftest import Run
from tests.page.conftest import CHROMIUM_OPTIONS, executable
from tests.servers import Quiet, serving

HERE = "127.0.0.1:4566"


NAMES = (
    "127.0.0.1 127.0.0.1:4566 localhost:3000 LOCALHOST [::1]:80 10ca1a91.execute-api.localhost:1"
)
OTHERS = "evil.example 127.0.0.1.evil.example localhost.evil.example evillocalhost 127.0.0.2"
OTHERS += " 127.0.0.1@evil.example localhost:80.evil.example 192.168.0.7:4566"


def test_only_names_of_this_machine_are_answered():
    assert {refusal([("Host", host)]) for host in NAMES.split()} == {""}
    for host in ("", *OTHERS.split()):
        assert "names of this machine" in refusal([("Host", host)]), host
    assert refusal([])
    assert refusal([("Host", HERE), ("host", HERE)])


@pytest.mark.parametrize(
    "headers, is_refused",
    [
        ({"Origin": "http://localhost:5173", "Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "https://127.0.0.1:8443"}, False),
        ({"Origin": "http://[::1]:3000"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, False),
        ({"Origin": "https://evil.example"}, True),
        ({"Origin": "http://localhost.evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": ""}, True),
        ({"Origin": "file://localhost"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, True),
    ],
)
def test_only_pages_of_this_machine_are_answered(headers: dict[str, str], is_refused: bool):
    assert bool(refusal([("Host", HERE), *headers.items()])) == is_refused


@pytest.mark.parametrize(
    "origin, answer",
    [("http://localhost:5173", "websocket.accept"), ("https://evil.example", "websocket.close")],
)
def test_a_foreign_page_opens_no_websocket(origin: str, answer: str):
    sent = []

    async def accept(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message["type"])

    headers = [(b"host", HERE.encode()), (b"origin", origin.encode())]

    async def connect() -> None:
        await local_only(accept)({"type": "websocket", "headers": headers}, receive, send)

    asyncio.run(connect())

    assert sent == [answer]


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    with local_stack() as stack:
        yield stack


@pytest.fixture(scope="module")
def ports(stack: LocalStack) -> Iterator[dict[str, int]]:
    with serve_page("http://127.0.0.1:1") as url:
        page = urllib.parse.urlsplit(url).port or 0
        yield {"AWS": stack.port, "agent": stack.agent_port, "page": page}


PATHS = {"AWS": "/_ministack/ready", "agent": "/invocations", "page": "/"}
PATHS_OF_ALL = [*PATHS.items(), ("AWS", "/_aws/execute-api/10ca1a91/tasks"), ("page", "/docs/")]


def status(port: int, path: str, method: str = "GET", **headers: str) -> int:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as server:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        server.request(method, path, headers=names)
        return server.getresponse().status


@pytest.mark.e2e
@pytest.mark.parametrize("server, path", PATHS_OF_ALL)
def test_each_server_refuses_foreign_names_and_pages(ports: dict[str, int], server: str, path: str):
    here = f"127.0.0.1:{ports[server]}"

    assert status(ports[server], path, Host=f"evil.example:{ports[server]}") == 403
    for method in ("GET", "POST", "OPTIONS"):
        foreign = {"Host": here, "Origin": "https://evil.example"}
        assert status(ports[server], path, method, **foreign) == 403, method
    assert status(ports[server], path, Host=here, Sec_Fetch_Site="cross-site") == 403
    assert status(ports[server], path, Host=here) != 403
    assert status(ports[server], path, Host=here, Origin="http://localhost:5173") != 403


ATTACK = """async ([urls]) => {
  const outcome = async (url, options) => {
    try { return (await fetch(url, options)).type; } catch { return "failed"; }
  };
  const seen = [];
  for (const url of urls) {
    seen.push(await outcome(url, {mode: "no-cors", method: "POST", body: "{}"}));
    seen.push(await outcome(url));
    await new Promise((done) => {
      const image = new Image();
      image.onload = image.onerror = done;
      image.src = url;
    });
  }
  return seen;
}"""


class ForeignSite(Quiet):
    def reply(self) -> None:
        self.send(200)


@pytest.fixture
def foreign_page() -> Iterator[Page]:
    """A web page of somebody else's, open in a browser of this machine."""
    with (
        serving(ForeignSite) as site,
        sync_playwright() as playwright,
        playwright.chromium.launch(
            executable_path=executable(),
            args=[*CHROMIUM_OPTIONS, "--host-resolver-rules=MAP *.example 127.0.0.1"],
        ) as browser,
    ):
        page = browser.new_page()
        page.goto(site.replace("127.0.0.1", "evil.example"))
        yield page


@pytest.mark.e2e
def test_a_web_page_can_make_no_function_and_run_no_agent(
    stack: LocalStack, ports: dict[str, int], foreign_page: Page
):
    """What it sends without asking first, with a signature in the query, is refused everywhere."""
    signed = (
        "Version=2010-05-08&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20260101T000000Z"
        "&X-Amz-Credential=test%2F20260101%2Fus-east-1%2Fiam%2Faws4_request"
        "&X-Amz-SignedHeaders=host&X-Amz-Signature=0"
    )
    make = f"/?Action=CreateRole&AssumeRolePolicyDocument=%7B%7D&{signed}&RoleName="
    run = f"/runtimes/{urllib.parse.quote('arn:evil', safe='')}/invocations"
    urls = [
        f"http://{host}:{ports['AWS']}{make}evil"
        for host in ("127.0.0.1", "localhost", "rebound.example")
    ]
    urls += [f"http://127.0.0.1:{ports['agent']}{path}" for path in (run, "/invocations")]

    foreign_page.evaluate(ATTACK, [urls])

    urllib.request.urlopen(f"{stack.endpoint}{make}good", timeout=20).close()
    listed = f"{stack.endpoint}/?Action=ListRoles&{signed}"
    with urllib.request.urlopen(listed, timeout=20) as answer:
        names = answer.read()
    assert b"<RoleName>good" in names
    assert b"evil" not in names
    assert stack.agent_report()["reached"] == {}


@pytest.mark.e2e
def test_six_runs_at_once_answer_for_themselves(start: Callable[..., Run]):
    """One port is everybody's first choice, so all six want it at the same moment."""
    tasks = [f"Find me a painter in Austin under ${price}" for price in range(400, 406)]
    runs = [start("--pace", "0", task) for task in tasks]

    for task, run in zip(tasks, runs, strict=True):
        run.read_until("Serving until Ctrl-C.")
        assert "completed   ✔ Agent completed task successfully" in run.text()
        api = run.found(r"  API_URL=(\S+)")
        with urllib.request.urlopen(f"{api}/tasks", timeout=20) as answer:
            assert [each["description"] for each in json.load(answer)] == [task]
        with urllib.request.urlopen(run.found(r"  page  (\S+) .*"), timeout=20) as page:
            assert json.dumps(api) in page.read().decode()
    for run in runs:
        run.interrupt(signal.SIGINT)
    assert [run.finish() for run in runs] == [(0, "")] * 6
