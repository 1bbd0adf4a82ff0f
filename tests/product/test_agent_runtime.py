"""What agent_runtime promises, against a little server and through the real botocore.

Its tables are the outline: how often the agent is reached, how long it may take, what is kept.
"""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from tests.conftest import eventually
from tests.product.agent_server import (
    ARN,
    AgentServer,
    Exchange,
    Script,
    agent_server,
    broken_tls_server,
    free_port,
    hangs_up,
    line,
    sends,
    sends_error,
    sends_json,
    streams,
)
from valro.agent import runtime
from valro.agent.answers import (
    Accepted,
    AgentError,
    AgentFailed,
    AgentLost,
    AgentNotStarted,
    AgentTimeout,
    Answer,
    UnreadableAnswer,
)
from valro.agent.runtime import (
    AGUI,
    HTTP,
    AgentRequest,
    AgentRuntime,
    InvalidArn,
    session_id,
)

TASK_ID = "0e1fa3b6-9a3e-4c43-8d0a-0c2f4f1f5a77"
NO_VENDOR = "The agent was not started, so no vendor was contacted."
MAYBE = "The agent may already have contacted vendors."
REQUEST = AgentRequest(TASK_ID, "Find me a painter")
ENOUGH = 10.0
SHORT = 0.2  # seconds for an agent that will not answer in time


class FakeTime:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentServer]:
    with agent_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", server.url)
        yield server


@pytest.fixture(scope="module")
def session() -> botocore.session.Session:
    session = botocore.session.Session()
    session.set_credentials("test", "test")
    # Loads the service's model, which else the first test would do within its short time.
    session.create_client("bedrock-agentcore", region_name="us-west-2")
    return session


@pytest.fixture
def agent(session: botocore.session.Session, server: AgentServer) -> AgentRuntime:
    """An agent whose retries do not wait, and whose time passes only while the server waits."""
    return AgentRuntime(session, ARN, monotonic=server.clock.monotonic, jitter=lambda: 0.0)


@pytest.fixture
def fresh(session: botocore.session.Session) -> Callable[[], botocore.session.Session]:
    """Makes sessions that read the environment as it is now, but AWS's models no second time."""

    def fresh() -> botocore.session.Session:
        new = botocore.session.Session()
        new.register_component("data_loader", session.get_component("data_loader"))
        return new

    return fresh


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def patient(session: botocore.session.Session, fake_time: FakeTime) -> AgentRuntime:
    """An agent in fake time, with the longest waits that the jitter can draw."""
    return AgentRuntime(
        session, ARN, monotonic=fake_time.monotonic, sleep=fake_time.sleep, jitter=lambda: 1.0
    )


def run(agent: AgentRuntime, seconds: float = ENOUGH) -> tuple[Answer, list[str]]:
    """What the agent answered, and what it said before."""
    said: list[str] = []
    return agent.run(REQUEST, seconds, said.append), said


def failure(agent: AgentRuntime, seconds: float = ENOUGH) -> AgentError:
    with pytest.raises(AgentError) as caught:
        run(agent, seconds)
    return caught.value


# --- the call -------------------------------------------------------------------------------------


HISTORY = [
    {"id": "t-0", "role": "user", "content": "Find me a painter"},
    {"id": "m-9", "role": "assistant", "content": "May I book Lone Brush for $390?"},
]
RESUME = [{"interruptId": "i-1", "status": "resolved", "payload": "Yes"}]
REPORT = {"url": "https://api.example/tasks/t/reports", "token": "secret"}
YES = "Ja, “Zürich” 🏠\u2028 und\nmehr"
FOLLOW_UP = AgentRequest(TASK_ID, YES, "ann", REPORT, "t-0", HISTORY, RESUME, "t-0")
HTTP_RUN = {"prompt": "Find me a painter", "task_id": TASK_ID}
MESSAGE = {"id": TASK_ID, "role": "user", "content": "Find me a painter"}
AGUI_RUN = {
    "threadId": TASK_ID,
    "runId": TASK_ID,
    "protocolVersion": "1.0",
    "messages": [MESSAGE],
    "tools": [],
    "context": [],
    "state": {},
    "forwardedProps": {"task_id": TASK_ID},
}
HTTP_MORE = {"prompt": YES, "user_id": "ann", "thread_id": "t-0", "history": HISTORY}
AGUI_MORE = {
    "threadId": "t-0",
    "messages": [*HISTORY, MESSAGE | {"content": YES}],
    "forwardedProps": {"task_id": TASK_ID, "user_id": "ann"},
}
BOTH_MORE = {"report": REPORT, "resume": RESUME}


@pytest.mark.parametrize(
    "protocol, request_, payload",
    [
        (HTTP, REQUEST, HTTP_RUN),
        (HTTP, FOLLOW_UP, HTTP_RUN | HTTP_MORE | BOTH_MORE),
        (AGUI, REQUEST, AGUI_RUN),
        (AGUI, FOLLOW_UP, AGUI_RUN | AGUI_MORE | BOTH_MORE),
    ],
)
def test_the_agent_gets_what_its_protocol_has_for_a_run(
    session: botocore.session.Session,
    server: AgentServer,
    protocol: str,
    request_: AgentRequest,
    payload: dict[str, Any],
):
    server.play(sends_json("done"))
    AgentRuntime(session, ARN, protocol=protocol).run(request_, ENOUGH, print)
    (call,) = server.runs
    assert call.payload == payload
    assert call.session == session_id(request_.session or TASK_ID)
    assert call.headers["Content-Type"] == "application/json"
    assert call.headers["Accept"] == "text/event-stream, application/json"
    assert call.headers["baggage"] == f"session.id={call.session}"


ROOT = "Root=1-5759e988-bd862e3fe1be46a994272793"
PARENT = "Parent=53995c3f42cd8ad8"


@pytest.mark.parametrize(
    "given, sent",
    [
        (
            f"{ROOT};{PARENT};Sampled=1",
            (
                f"{ROOT};{PARENT};Sampled=1",
                "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01",
            ),
        ),
        (f"{ROOT};{PARENT};Sampled=0;Lineage=1:a:0", (f"{ROOT};Lineage=1:a:0", None)),
        (f"{ROOT};{PARENT}", (ROOT, None)),
        ("Root=1;Sampled=1", ("Root=1;Sampled=1", None)),
        ("", (None, None)),
    ],
)
def test_the_agent_goes_on_with_the_trace_and_never_hears_that_it_should_not_sample(
    agent: AgentRuntime,
    server: AgentServer,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
    sent: tuple[str | None, str | None],
):
    """With tracing off Lambda says Sampled=0, which botocore would hand on."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "valro-worker")
    monkeypatch.setenv("_X_AMZN_TRACE_ID", given)
    server.play(sends_json("done"))
    run(agent)
    headers = server.runs[0].headers
    assert (headers.get("X-Amzn-Trace-Id"), headers.get("traceparent")) == sent


def test_the_region_is_the_one_of_the_arn_not_of_the_function(
    agent: AgentRuntime, server: AgentServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    server.play(sends_json("done"))
    run(agent)
    agent.stop(TASK_ID)
    scopes = [call.headers["Authorization"].split("/")[2:4] for call in server.calls]
    assert scopes == [["us-west-2", "bedrock-agentcore"]] * 2


def test_a_session_id_is_the_task_s_own_and_long_enough():
    """The same every time, so that the session can be stopped; 33 to 256 characters."""
    tasks = ("a", "b", "test-1", "test-12", "x" * 32, "x" * 33, TASK_ID, "x" * 100)
    for task_id in tasks:
        assert session_id(task_id) == session_id(task_id)
        assert session_id(task_id).startswith(task_id)
        assert 33 <= len(session_id(task_id)) <= 256
    assert len(set(map(session_id, tasks))) == len(tasks)


def test_stop_names_the_session_that_run_used_and_is_sent_once(
    agent: AgentRuntime, server: AgentServer
):
    server.play(sends_json("done"))
    agent.run(AgentRequest("test-123", "x"), ENOUGH, print)
    agent.stop("test-123")
    assert [call.operation for call in server.calls] == ["invocations", "stopruntimesession"]
    assert server.calls[0].session == server.calls[1].session
    assert server.calls[1].arn == ARN


@pytest.mark.parametrize("status", [404, 429, 500])
def test_a_refused_stop_is_not_repeated(agent: AgentRuntime, server: AgentServer, status: int):
    server.stop_script = sends_error(status, "ThrottlingException")
    with pytest.raises(Exception, match="StopRuntimeSession"):
        agent.stop(TASK_ID)
    assert len(server.stops) == 1


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "valro",
        ARN + "/runtime-endpoint/DEFAULT",
        ARN + "\n",
        ARN.replace("runtime/", "memory/"),
        ARN.replace("bedrock-agentcore", "lambda"),
        ARN.replace("123456789012", "1234"),
    ],
)
def test_what_is_no_runtime_s_arn_is_refused_at_once(session: botocore.session.Session, arn: str):
    with pytest.raises(InvalidArn):
        AgentRuntime(session, arn)


@pytest.mark.parametrize("partition", ["aws", "aws-us-gov", "aws-cn"])
def test_every_partition_has_runtimes(session: botocore.session.Session, partition: str):
    arn = ARN.replace("arn:aws:", f"arn:{partition}:")
    assert AgentRuntime(session, arn).region == "us-west-2"


# --- at most once ---------------------------------------------------------------------------------


def cut_error_body(exchange: Exchange) -> None:
    exchange.begin("application/json", length=100, status=500)
    exchange.wfile.write(b'{"mess')


def stalled_error_body(exchange: Exchange) -> None:
    exchange.begin("application/json", length=100, status=503)
    exchange.stall()


def cut_headers(exchange: Exchange) -> None:
    exchange.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Ty")


def not_http(exchange: Exchange) -> None:
    exchange.wfile.write(b"\x16\x03\x01 what?\r\n\r\n")


MAY_HAVE_ACTED: dict[str, tuple[Script, type[AgentError]]] = {
    "500": (sends_error(500, "InternalServerException"), AgentLost),
    "500 without a word": (sends_error(500, body=b""), AgentLost),
    "500 with HTML": (sends_error(500, body=b"<html>"), AgentLost),
    "500 with a JSON list": (sends_error(500, body=b"[1]"), AgentLost),
    "500 with bytes that are no UTF-8": (sends_error(500, body=b"\xff\xfe{"), AgentLost),
    "500 whose body is cut": (cut_error_body, AgentLost),
    "502": (sends_error(502), AgentLost),
    "503": (sends_error(503, "ServiceUnavailableException"), AgentLost),
    "503 whose body stalls": (stalled_error_body, AgentTimeout),
    "504": (sends_error(504), AgentLost),
    "424, the agent failed": (sends_error(424, "RuntimeClientError"), AgentFailed),
    "424 that quotes a throttle": (
        sends_error(424, "RuntimeClientError", b'{"message":"ThrottlingException"}'),
        AgentFailed,
    ),
    "424 without its name": (sends_error(424), AgentFailed),
    "closed before the answer": (hangs_up, AgentLost),
    "reset before the answer": (Exchange.reset, AgentLost),
    "no answer in time": (Exchange.stall, AgentTimeout),
    "headers cut": (cut_headers, AgentFailed),
    "no HTTP at all": (not_http, AgentLost),
    "a stream cut at once": (streams(then=hangs_up), AgentLost),
    "a stream cut later": (streams(line("hello"), then=hangs_up), AgentLost),
    "a stream reset": (streams(line("hello"), then=Exchange.reset), AgentLost),
    "a stream that stalls": (streams(line("hello"), then=Exchange.stall), AgentTimeout),
    "a stream that drips": (streams(then=lambda it: it.drip(b": .\n")), AgentTimeout),
    "an error in the stream": (streams(line({"error": "no"})), AgentFailed),
    "a stream without an answer": (streams(), AgentFailed),
    "an answer of nothing": (sends(b""), AgentFailed),
    "an answer that says error": (sends_json({"error": "no"}), AgentFailed),
    "an answer that is not JSON": (sends(b"<html>"), UnreadableAnswer),
}


@pytest.mark.parametrize("name", MAY_HAVE_ACTED)
def test_an_agent_that_may_have_acted_is_never_called_again(
    agent: AgentRuntime, server: AgentServer, name: str
):
    """The core promise: it e-mails real people."""
    script, kind = MAY_HAVE_ACTED[name]
    server.play(script)
    error = failure(agent, SHORT)
    assert type(error) is kind, error.detail
    assert str(error).endswith(MAYBE)
    assert error.still_running == issubclass(kind, AgentLost)
    assert len(server.runs) == 1


class Foreground:
    """Waits for a call itself, so that botocore's own timeout ends it."""

    def __init__(self, items: Iterator[Any]) -> None:
        self.items = items

    def next(self, seconds: float) -> Any:
        return next(self.items, None)

    def abandon(self) -> None:
        """It has ended by then."""


@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
@pytest.mark.parametrize("script", [sends_error(500), hangs_up, Exchange.stall])
def test_no_setting_of_the_environment_makes_botocore_repeat_a_call(
    server: AgentServer,
    fresh: Callable[[], botocore.session.Session],
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    script: Script,
):
    monkeypatch.setenv("AWS_RETRY_MODE", mode)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "5")
    server.play(script)
    agent = AgentRuntime(fresh(), ARN, monotonic=lambda: 0.0, background=Foreground)
    assert failure(agent, SHORT if script is Exchange.stall else ENOUGH).still_running
    eventually(lambda: server.runs, bool)
    assert len(server.runs) == 1


@pytest.mark.parametrize(
    "status, code",
    [
        (302, ""),
        (400, "ValidationException"),
        (400, "ThrottlingException"),
        (401, "UnauthorizedException"),
        (403, "AccessDeniedException"),
        (403, "ExpiredTokenException"),
        (404, "ResourceNotFoundException"),
        (409, "ConflictException"),
        (413, ""),
    ],
)
def test_a_refused_call_is_not_repeated_and_contacted_nobody(
    agent: AgentRuntime, server: AgentServer, status: int, code: str
):
    server.play(sends_error(status, code))
    error = failure(agent)
    assert type(error) is AgentNotStarted
    assert str(error).endswith(NO_VENDOR)
    assert not error.still_running
    assert len(server.runs) == 1


NOT_STARTED = [
    (429, "ThrottlingException"),
    (409, "RetryableConflictException"),
    (402, "ServiceQuotaExceededException"),
]


@pytest.mark.parametrize("status, code", NOT_STARTED)
def test_a_call_that_proves_that_nothing_started_is_repeated(
    agent: AgentRuntime, server: AgentServer, status: int, code: str
):
    no = sends_error(status, code)
    server.play(no, no, no, sends_json("done"))
    answer, _ = run(agent)
    assert answer.agent_response == "done"
    assert len(server.runs) == 4
    assert len({call.session for call in server.runs}) == 1


def test_a_refused_connection_is_tried_again_until_it_is_too_late_to_start(
    patient: AgentRuntime, fake_time: FakeTime, monkeypatch: pytest.MonkeyPatch
):
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", url)
    error = failure(patient, 60)
    assert type(error) is AgentNotStarted
    assert fake_time.slept == [1, 2, 4, 8]


@pytest.mark.parametrize("status", [408, 424, 499, 500, 502, 503])
@pytest.mark.parametrize("_, code", NOT_STARTED)
def test_a_code_under_a_status_that_is_not_its_own_proves_nothing(
    agent: AgentRuntime, server: AgentServer, status: int, _: int, code: str
):
    """Whoever stands in between can answer, and its body can quote anything."""
    for script in (
        sends_error(status, code),
        sends_error(status, body=json.dumps({"code": code}).encode()),
        sends_error(status, body=json.dumps({"__type": code, "message": "no"}).encode()),
    ):
        server.calls.clear()
        server.play(script)
        assert str(failure(agent)).endswith(MAYBE)
        assert len(server.runs) == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_breaks_a_call_proves_nothing(
    fresh: Callable[[], botocore.session.Session],
    monkeypatch: pytest.MonkeyPatch,
    server: AgentServer,
    scheme: str,
):
    """What botocore says is ProxyConnectionError, as if the proxy had never been reached."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", f"{scheme}://agent.invalid")
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, server.url)
    for name in ("http_proxy", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    server.play(hangs_up, sends_json("twice!"))
    error = failure(AgentRuntime(fresh(), ARN, jitter=lambda: 0.0))
    assert type(error) is AgentLost
    assert str(error).endswith(MAYBE)
    assert len(server.runs) == (scheme == "http")


def test_a_throttled_start_followed_by_a_lost_one_ends_there(
    agent: AgentRuntime, server: AgentServer
):
    server.play(sends_error(429, "ThrottlingException"), hangs_up, sends_json("twice!"))
    assert type(failure(agent)) is AgentLost
    assert len(server.runs) == 2


def test_a_tls_connection_that_breaks_in_mid_call_may_have_started_the_agent(
    tmp_path: Path,
    fresh: Callable[[], botocore.session.Session],
    monkeypatch: pytest.MonkeyPatch,
):
    """The same error of botocore's as for a bad certificate, so neither counts as not started."""
    received: list[bytes] = []
    with broken_tls_server(tmp_path, received.append) as (url, certificate):
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", url)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        error = failure(AgentRuntime(fresh(), ARN))
    assert b"Find me a painter" in b"".join(received)
    assert "SSLError" in error.detail
    assert type(error) is AgentLost


def test_no_credentials_means_not_started(
    server: AgentServer,
    fresh: Callable[[], botocore.session.Session],
    monkeypatch: pytest.MonkeyPatch,
):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    error = failure(AgentRuntime(fresh(), ARN))
    assert type(error) is AgentNotStarted
    assert str(error) == f"The agent could not be called (NoCredentialsError). {NO_VENDOR}"
    assert server.runs == []


# --- backoff, and when it is too late to start ----------------------------------------------------


def test_the_waits_grow_up_to_20_seconds_and_end_with_the_first_half(
    patient: AgentRuntime, fake_time: FakeTime, server: AgentServer
):
    """An agent started late would be cut off in the middle of its work."""
    server.play(sends_error(429, "ThrottlingException"))
    error = failure(patient, 200)
    assert type(error) is AgentNotStarted
    assert str(error) == f"The agent was too busy, or could not be reached, for too long. {NO_VENDOR}"
    assert "ThrottlingException" in error.detail
    assert fake_time.slept == [1, 2, 4, 8, 16, 20, 20, 20]
    assert len(server.runs) == 9
    assert fake_time.now - 1_000 < 100


def test_the_jitter_is_full(
    session: botocore.session.Session, fake_time: FakeTime, server: AgentServer
):
    draws = iter([0.0, 0.25, 1.0])
    agent = AgentRuntime(
        session,
        ARN,
        monotonic=fake_time.monotonic,
        sleep=fake_time.sleep,
        jitter=lambda: next(draws),
    )
    no = sends_error(429, "ThrottlingException")
    server.play(no, no, no, sends_json("done"))
    run(agent, 100)
    assert fake_time.slept == [0.0, 0.5, 4.0]


@pytest.mark.parametrize("seconds", [0.0, -5.0])
def test_without_time_the_agent_is_not_even_called(
    patient: AgentRuntime, server: AgentServer, seconds: float
):
    server.play(sends_json("done"))
    assert type(failure(patient, seconds)) is AgentNotStarted
    assert server.runs == []


# --- time -----------------------------------------------------------------------------------------


def drips_its_head(exchange: Exchange) -> None:
    exchange.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    exchange.drip_raw(b"x")


def drips_an_error(exchange: Exchange) -> None:
    exchange.begin("application/json", length=1_000_000, status=500)
    exchange.drip_raw(b"x")


def drips_pieces(exchange: Exchange) -> None:
    exchange.begin()
    exchange.drip(line("x"))


def drips_json(exchange: Exchange) -> None:
    exchange.begin("application/json")
    exchange.drip(b" ")


@pytest.mark.parametrize(
    "script",
    [
        Exchange.stall,
        streams(then=Exchange.stall),
        streams(line("x"), b"data: ", then=Exchange.stall),
        drips_its_head,
        drips_an_error,
        drips_pieces,
        drips_json,
    ],
    ids=[
        *("silent", "no frame", "half a frame", "a head that drips", "an error that drips"),
        *("a stream that drips", "JSON that drips"),
    ],
)
def test_the_whole_call_takes_no_longer_than_it_may(
    agent: AgentRuntime, server: AgentServer, script: Script
):
    """A read timeout alone bounds only the gaps: a stream that drips would go on for ever."""
    server.play(script)
    start = time.monotonic()
    error = failure(agent, SHORT)
    assert SHORT * 0.9 <= time.monotonic() - start < SHORT + 3
    assert str(error) == f"The agent did not finish in time. {MAYBE}"
    assert error.still_running


def test_a_stall_after_a_long_stream_is_given_up_in_what_time_is_left(
    session: botocore.session.Session, server: AgentServer, fake_time: FakeTime
):
    """The read timeout that the call began with would allow a gap as long as the whole."""
    agent = AgentRuntime(session, ARN, monotonic=lambda: time.monotonic() + fake_time.monotonic())
    server.play(streams(line({"message": "one"}), then=Exchange.stall))
    start = time.monotonic()
    with pytest.raises(AgentLost):
        agent.run(REQUEST, 60, lambda _: fake_time.sleep(59.9))
    assert time.monotonic() - start < 5


def test_progress_is_heard_while_the_agent_is_still_at_work(
    agent: AgentRuntime, server: AgentServer
):
    """Each line is passed on when it arrives, not when a block of bytes is full."""
    heard = threading.Event()

    def waits_until_heard(exchange: Exchange) -> None:
        assert heard.wait(5)
        exchange.chunk(line({"response": "done"}))
        exchange.end()

    server.play(streams(line({"message": "one"}), then=waits_until_heard))
    answer = agent.run(REQUEST, ENOUGH, lambda _: heard.set())
    assert answer.agent_response == "done"


@pytest.mark.parametrize(
    "script",
    [Exchange.stall, streams(line("Hello"), then=Exchange.stall), drips_pieces],
    ids=["no head", "a stream that stalls", "one that goes on"],
)
def test_every_20_seconds_somebody_may_give_up(
    agent: AgentRuntime, server: AgentServer, monkeypatch: pytest.MonkeyPatch, script: Script
):
    assert runtime.STOP_CHECK_SECONDS == 20
    monkeypatch.setattr(runtime, "STOP_CHECK_SECONDS", 0.05)
    server.play(script)
    asked = iter([False, False, True])
    with pytest.raises(AgentLost) as caught:
        agent.run(REQUEST, ENOUGH, print, should_stop=lambda: next(asked))
    assert str(caught.value) == f"The agent was told to stop. {MAYBE}"
    if script is not drips_pieces:
        assert caught.value.partial == (None if script is Exchange.stall else Answer("Hello"))
    assert next(asked, None) is None


def test_nobody_is_asked_right_before_the_end(
    agent: AgentRuntime, server: AgentServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runtime, "STOP_CHECK_SECONDS", 0.6 * SHORT)
    server.play(Exchange.stall)
    with pytest.raises(AgentLost, match="in time"):
        agent.run(REQUEST, SHORT, print, should_stop=lambda: pytest.fail("too late"))


def test_a_call_that_was_given_up_while_it_looked_for_the_agent_never_starts_it(
    agent: AgentRuntime, server: AgentServer, monkeypatch: pytest.MonkeyPatch
):
    found, resolve, sent = threading.Event(), socket.getaddrinfo, threading.Event()

    def slowly(*address: Any, **options: Any) -> Any:
        server.clock.start()
        found.wait(ENOUGH)
        return resolve(*address, **options)

    def call(client: Any, request: Any) -> Iterator[Any]:
        try:
            yield from original(client, request)
        finally:
            sent.set()

    original = runtime._call
    monkeypatch.setattr(runtime, "_call", call)
    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    server.play(sends_json("done"))
    with pytest.raises(AgentTimeout):
        agent.run(REQUEST, SHORT, print)
    found.set()
    assert sent.wait(ENOUGH)
    assert server.runs == []


# --- the right to start ---------------------------------------------------------------------------


def test_somebody_is_asked_before_every_call(agent: AgentRuntime, server: AgentServer):
    no = sends_error(429, "ThrottlingException")
    server.play(no, no, sends_json("done"))
    calls_before: list[int] = []
    agent.run(REQUEST, ENOUGH, print, before_start=lambda: calls_before.append(len(server.runs)))
    assert calls_before == [0, 1, 2]


def test_who_forbids_a_start_ends_the_run_in_their_own_words(
    agent: AgentRuntime, server: AgentServer
):
    def forbid() -> None:
        if server.runs:
            raise LookupError("cancelled")

    server.play(sends_error(429, "ThrottlingException"), sends_json("done"))
    with pytest.raises(LookupError, match="cancelled"):
        agent.run(REQUEST, ENOUGH, print, before_start=forbid)
    assert len(server.runs) == 1


def test_time_spent_on_the_right_to_start_counts(
    patient: AgentRuntime, fake_time: FakeTime, server: AgentServer
):
    server.play(sends_json("done"))
    with pytest.raises(AgentNotStarted, match="no time left"):
        patient.run(REQUEST, 60, print, before_start=lambda: fake_time.sleep(31))
    assert server.runs == []


# --- agents that report ---------------------------------------------------------------------------

REPORTING = AgentRequest(TASK_ID, "Find me a painter", report=REPORT)
ACCEPTED = {"accepted": True}


@pytest.mark.parametrize(
    "script, accepts",
    [
        (sends_json(ACCEPTED), True),
        (streams(line(ACCEPTED)), True),
        (streams(b": hello\n\n", line(ACCEPTED), b"\n"), True),
        (sends_json(ACCEPTED | {"response": "done"}), False),
        (sends_json([ACCEPTED]), False),
        (sends_json(json.dumps(ACCEPTED)), True),
        (streams(line(json.dumps(ACCEPTED))), True),
        (sends_json({"accepted": 1}), False),
        (sends_json({"response": "done"}), False),
        (streams(line(ACCEPTED), line("done")), False),
        (streams(line("done"), line(ACCEPTED)), False),
        (streams(line({"message": "x"}), line(ACCEPTED), line({"response": "done"})), False),
    ],
)
def test_an_agent_accepts_if_that_is_all_it_says(
    agent: AgentRuntime, server: AgentServer, script: Script, accepts: bool
):
    server.play(script)
    answer = agent.run(REPORTING, ENOUGH, print)
    assert isinstance(answer, Accepted) == accepts
    assert accepts or answer


@pytest.mark.parametrize("script", [sends_json(ACCEPTED), streams(line(ACCEPTED), line("done"))])
def test_nobody_accepts_who_was_not_asked_to_report(
    agent: AgentRuntime, server: AgentServer, script: Script
):
    server.play(script)
    assert not isinstance(run(agent)[0], Accepted)


@pytest.mark.parametrize("worse", [hangs_up, Exchange.stall])
def test_a_stream_that_breaks_after_accepting_has_not_accepted(
    agent: AgentRuntime, server: AgentServer, worse: Script
):
    server.play(streams(line(ACCEPTED), then=worse))
    with pytest.raises(AgentLost):
        agent.run(REPORTING, SHORT, print)


# --- what had arrived is kept ---------------------------------------------------------------------


@pytest.mark.parametrize("worse", [hangs_up, Exchange.reset, Exchange.stall])
def test_a_stream_that_breaks_keeps_all_that_had_arrived(
    agent: AgentRuntime, server: AgentServer, worse: Script
):
    server.play(
        streams(
            line({"message": "Looking"}),
            line({"vendors": [{"name": "Ann", "email": "ann@x"}], "emails_sent": 1}),
            line({"message": "E-mailing"}) + b'data: "half a fr',
            then=worse,
        )
    )
    said: list[str] = []
    with pytest.raises(AgentLost) as caught:
        agent.run(REQUEST, 3 * SHORT, said.append)
    # A reset may overtake what was sent just before it: TCP throws away what nobody has read.
    if worse is Exchange.reset and not said:
        return
    assert said[:1] == ["Looking"]
    if worse is not Exchange.reset:
        assert said == ["Looking", "E-mailing"]
        assert caught.value.partial is not None
        assert caught.value.partial.vendors == [{"name": "Ann", "email": "ann@x", "emails": []}]
        assert caught.value.partial.emails_sent == 1
        assert caught.value.unparsed == 'data: "half a fr'


def test_a_document_that_breaks_off_is_no_answer_but_is_kept_for_the_log(
    agent: AgentRuntime, server: AgentServer
):
    def script(exchange: Exchange) -> None:
        exchange.begin("application/json", length=1_000)
        exchange.wfile.write(b'{"response": "I have e-mai')

    server.play(script)
    error = failure(agent)
    assert type(error) is AgentLost
    assert error.partial is None
    assert error.unparsed == '{"response": "I have e-mai'


def test_a_stream_cut_between_frames_is_an_error_not_a_completed_task(
    agent: AgentRuntime, server: AgentServer
):
    """Only the end of the chunks says that the agent had finished."""
    server.play(streams(line({"response": "done"}), then=hangs_up))
    error = failure(agent)
    assert str(error) == f"The connection to the agent was lost. {MAYBE}"
    assert error.partial == Answer("done")


# --- what comes over the wire ---------------------------------------------------------------------


def test_a_json_answer_in_chunks_is_read(agent: AgentRuntime, server: AgentServer):
    def script(exchange: Exchange) -> None:
        exchange.begin("application/json")
        for byte in b'{"response": "Hello"}':
            exchange.chunk(bytes([byte]))
        exchange.end()

    server.play(script)
    assert run(agent)[0] == Answer("Hello")


SECRETS = re.compile(r"arn:|123456789012|AgentCoreRole|valro-AbC")


@pytest.mark.parametrize("status, code", [(403, "AccessDeniedException"), (500, "Oops")])
def test_what_aws_says_goes_to_the_log_only(
    agent: AgentRuntime, server: AgentServer, status: int, code: str
):
    body = json.dumps({"message": f"AgentCoreRole may not invoke {ARN}"}).encode()
    server.play(sends_error(status, code, body))
    error = failure(agent)
    assert not SECRETS.search(str(error))
    assert code in str(error)
    assert ARN in error.detail
