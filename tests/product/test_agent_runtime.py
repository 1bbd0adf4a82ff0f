"""What agent_runtime promises, against a little server and through the real botocore.

Its tables are the outline: how often the agent is reached, how long it may take, what is kept.
"""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ProxyConnectionError, SSLError

from tests.conftest import eventually
from tests.product.agent_server import (
    ARN,
    STREAM,
    AgentServer,
    Exchange,
    Script,
    agent_server,
    hangs_up,
    line,
    sends,
    sends_error,
    sends_json,
    sends_raw,
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
    Background,
    InvalidArn,
    session_id,
)

TASK_ID = "0e1fa3b6-9a3e-4c43-8d0a-0c2f4f1f5a77"
NO_VENDOR = "The agent was not started, so no vendor was contacted."
MAYBE = "The agent may already have contacted vendors."
REQUEST = AgentRequest(TASK_ID, "Find me a painter")
ENOUGH = 10.0
SHORT = 0.2  # seconds for an agent that will not answer in time


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentServer]:
    with agent_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", server.url)
        yield server


@pytest.fixture(scope="module")
def session() -> botocore.session.Session:
    """One for all, since it loads AWS's model of the service."""
    session = botocore.session.Session()
    session.set_credentials("test", "test")
    return session


@pytest.fixture
def agent(session: botocore.session.Session, server: AgentServer) -> AgentRuntime:
    """An agent whose retries do not wait, and whose time passes only while the server waits."""
    return AgentRuntime(session, ARN, monotonic=server.clock.monotonic, jitter=lambda: 0.0)


@pytest.fixture
def slept() -> list[float]:
    """How long somebody slept, each time."""
    return []


@pytest.fixture
def patient(session: botocore.session.Session, slept: list[float]) -> AgentRuntime:
    """An agent whose time passes only in its sleep, with the longest waits that there can be."""
    return AgentRuntime(
        session, ARN, monotonic=lambda: sum(slept), sleep=slept.append, jitter=lambda: 1.0
    )


def failure(agent: AgentRuntime, seconds: float = ENOUGH) -> AgentError:
    with pytest.raises(AgentError) as caught:
        agent.run(REQUEST, seconds, print)
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
TRACE = f"{ROOT};Parent=53995c3f42cd8ad8"
TRACE_PARENT = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"


@pytest.mark.parametrize(
    "given, sent",
    [
        (f"{TRACE};Sampled=1", (f"{TRACE};Sampled=1", TRACE_PARENT)),
        (f"{TRACE};Sampled=0;Lineage=1:a:0", (f"{ROOT};Lineage=1:a:0", None)),
        (TRACE, (ROOT, None)),
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
    agent.run(REQUEST, ENOUGH, print)
    headers = server.runs[0].headers
    assert (headers.get("X-Amzn-Trace-Id"), headers.get("traceparent")) == sent


def test_a_session_id_is_the_task_s_own_and_long_enough():
    """The same every time, so that the session can be stopped; 33 to 256 characters."""
    tasks = ("a", "b", "x" * 32, "x" * 33, TASK_ID, "x" * 100)
    for task_id in tasks:
        assert session_id(task_id) == session_id(task_id)
        assert session_id(task_id).startswith(task_id)
        assert 33 <= len(session_id(task_id)) <= 256
    assert len(set(map(session_id, tasks))) == len(tasks)


def test_stop_ends_the_session_that_run_used_in_the_agent_s_own_region(
    agent: AgentRuntime, server: AgentServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    server.play(sends_json("done"))
    agent.run(AgentRequest("test-123", "x"), ENOUGH, print)
    agent.stop("test-123")
    assert [call.operation for call in server.calls] == ["invocations", "stopruntimesession"]
    assert {(call.session, call.arn) for call in server.calls} == {(session_id("test-123"), ARN)}
    scopes = [call.headers["Authorization"].split("/")[2:4] for call in server.calls]
    assert scopes == [["us-west-2", "bedrock-agentcore"]] * 2


def test_a_refused_stop_is_not_repeated(agent: AgentRuntime, server: AgentServer):
    server.stop_script = sends_error(429, "ThrottlingException")
    with pytest.raises(Exception, match="StopRuntimeSession"):
        agent.stop(TASK_ID)
    assert len(server.stops) == 1


@pytest.mark.parametrize(
    "arn",
    [
        "",
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


# --- at most once, in bounded time ----------------------------------------------------------------


def begins(status: int, then: Script, kind: str = "application/json", body: str = "{") -> Script:
    """Sends the head and the beginning of a body of a megabyte."""
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: 1000000\r\n\r\n"
    return sends_raw((head + body).encode(), then)


def drips(exchange: Exchange) -> None:
    exchange.drip(b" ")


DRIPS_FRAMES = begins(200, lambda exchange: exchange.drip(line("x")), STREAM, "")
THROTTLE = b'{"__type": "ThrottlingException", "code": "ThrottlingException"}'
OUTCOMES: dict[str, tuple[Script, type[AgentError]]] = {
    # refused
    "302": (sends_error(302), AgentNotStarted),
    "400": (sends_error(400, "ValidationException"), AgentNotStarted),
    "400 with a throttle's name": (sends_error(400, "ThrottlingException"), AgentNotStarted),
    "401": (sends_error(401, "UnauthorizedException"), AgentNotStarted),
    "403": (sends_error(403, "AccessDeniedException"), AgentNotStarted),
    "404": (sends_error(404, "ResourceNotFoundException"), AgentNotStarted),
    "409 with another name": (sends_error(409, "ConflictException"), AgentNotStarted),
    "413": (sends_error(413), AgentNotStarted),
    # failed
    "424, the agent failed": (sends_error(424, "RuntimeClientError"), AgentFailed),
    "424 that quotes a throttle": (sends_error(424, body=THROTTLE), AgentFailed),
    "the agent failed, as 400": (sends_error(400, "RuntimeClientError"), AgentFailed),
    "an error in the stream": (streams(line({"error": "no"})), AgentFailed),
    "a head that is cut": (sends_raw(b"HTTP/1.1 200 OK\r\nContent-Ty"), AgentFailed),
    "an answer that is not JSON": (sends(b"<html>"), UnreadableAnswer),
    # lost: whoever stands in between can answer, and its body can quote anything
    "500": (sends_error(500, "InternalServerException"), AgentLost),
    "500 with a JSON list": (sends_error(500, body=b"[1]"), AgentLost),
    "500 with bytes that are no UTF-8": (sends_error(500, body=b"\xff\xfe{"), AgentLost),
    "500 whose body is cut": (begins(500, hangs_up), AgentLost),
    "408 with a conflict's name": (sends_error(408, "RetryableConflictException"), AgentLost),
    "502 that quotes a throttle": (sends_error(502, body=THROTTLE), AgentLost),
    "503 with a quota's name": (sends_error(503, "ServiceQuotaExceededException"), AgentLost),
    "closed before the answer": (hangs_up, AgentLost),
    "reset before the answer": (Exchange.reset, AgentLost),
    "no HTTP at all": (sends_raw(b"\x16\x03\x01 what?\r\n\r\n"), AgentLost),
    "a stream that is cut": (streams(then=hangs_up), AgentLost),
    "a stream that is reset": (streams(line("hello"), then=Exchange.reset), AgentLost),
    # too slow: a read timeout alone bounds only the gaps, so what drips would go on for ever
    "silence": (Exchange.stall, AgentTimeout),
    "a head that drips": (sends_raw(b"HTTP/1.1 200 OK\r\nX-Slow: ", drips), AgentTimeout),
    "503 whose body stalls": (begins(503, Exchange.stall), AgentTimeout),
    "500 whose body drips": (begins(500, drips), AgentTimeout),
    "a stream that stalls": (streams(line("x"), b"data: ", then=Exchange.stall), AgentTimeout),
    "a stream that drips": (DRIPS_FRAMES, AgentTimeout),
    "JSON that drips": (begins(200, drips), AgentTimeout),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_call_is_never_repeated_that_was_refused_or_may_have_started_the_agent(
    agent: AgentRuntime, server: AgentServer, name: str
):
    """The core promise: it e-mails real people."""
    script, kind = OUTCOMES[name]
    server.play(script)
    start = time.monotonic()
    error = failure(agent, SHORT if kind is AgentTimeout else ENOUGH)
    assert type(error) is kind, error.detail
    assert str(error).endswith(NO_VENDOR if kind is AgentNotStarted else MAYBE)
    assert error.still_running == issubclass(kind, AgentLost)
    assert len(server.runs) == 1
    if kind is AgentTimeout:
        assert SHORT * 0.9 <= time.monotonic() - start < SHORT + 3
        assert str(error) == f"The agent did not finish in time. {MAYBE}"


@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
@pytest.mark.parametrize("script", [sends_error(500), hangs_up])
def test_no_setting_of_the_environment_makes_botocore_repeat_a_call(
    agent: AgentRuntime,
    server: AgentServer,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    script: Script,
):
    monkeypatch.setenv("AWS_RETRY_MODE", mode)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "5")
    server.play(script)
    assert failure(agent).still_running
    assert len(server.runs) == 1


@pytest.mark.parametrize(
    "status, code",
    [
        (429, "ThrottlingException"),
        (409, "RetryableConflictException"),
        (402, "ServiceQuotaExceededException"),
    ],
)
def test_a_call_that_proves_that_nothing_started_is_repeated(
    agent: AgentRuntime, server: AgentServer, status: int, code: str
):
    no = sends_error(status, code)
    server.play(no, no, no, sends_json("done"))
    assert agent.run(REQUEST, ENOUGH, print) == Answer("done")
    assert len(server.runs) == 4
    assert len({call.session for call in server.runs}) == 1


def test_a_throttled_start_followed_by_a_lost_one_ends_there(
    agent: AgentRuntime, server: AgentServer
):
    server.play(sends_error(429, "ThrottlingException"), hangs_up, sends_json("twice!"))
    assert type(failure(agent)) is AgentLost
    assert len(server.runs) == 2


@pytest.mark.parametrize(
    "error",
    [
        ProxyConnectionError(proxy_url="http://proxy.example"),
        SSLError(endpoint_url="https://aws.example", error="wrong version number"),
    ],
)
def test_what_botocore_also_says_of_calls_that_broke_in_the_middle_proves_nothing(
    session: botocore.session.Session, error: Exception
):
    """Both sound as if nobody had been reached: a proxy that hangs up, and TLS that breaks."""

    def items() -> Iterator[Any]:
        raise error
        yield

    agent = AgentRuntime(session, ARN, background=lambda _: Background(items()))
    assert type(failure(agent)) is AgentLost


def test_no_credentials_means_not_started(server: AgentServer, monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    error = failure(AgentRuntime(botocore.session.Session(), ARN))
    assert type(error) is AgentNotStarted
    assert str(error) == f"The agent could not be called (NoCredentialsError). {NO_VENDOR}"
    assert server.runs == []


# --- backoff, and when it is too late to start ----------------------------------------------------


def test_the_waits_grow_up_to_20_seconds_and_end_with_the_first_half(
    patient: AgentRuntime, slept: list[float], server: AgentServer
):
    """An agent started late would be cut off in the middle of its work."""
    server.play(sends_error(429, "ThrottlingException"))
    error = failure(patient, 200)
    assert type(error) is AgentNotStarted
    assert (
        str(error) == f"The agent was too busy, or could not be reached, for too long. {NO_VENDOR}"
    )
    assert "ThrottlingException" in error.detail
    assert slept == [1, 2, 4, 8, 16, 20, 20, 20]
    assert len(server.runs) == 9


def test_a_refused_connection_is_tried_again_until_it_is_too_late_to_start(
    patient: AgentRuntime, slept: list[float], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", "http://127.0.0.1:9")
    assert type(failure(patient, 60)) is AgentNotStarted
    assert slept == [1, 2, 4, 8]


def test_the_jitter_is_full(patient: AgentRuntime, slept: list[float], server: AgentServer):
    draws = iter([0.0, 0.25, 1.0])
    patient.jitter = lambda: next(draws)
    no = sends_error(429, "ThrottlingException")
    server.play(no, no, no, sends_json("done"))
    patient.run(REQUEST, 100, print)
    assert slept == [0.0, 0.5, 4.0]


# --- the right to start ---------------------------------------------------------------------------


def test_somebody_is_asked_before_every_call_and_may_forbid_it_in_their_own_words(
    agent: AgentRuntime, server: AgentServer
):
    calls_before: list[int] = []

    def forbid_the_third() -> None:
        calls_before.append(len(server.runs))
        if len(calls_before) == 3:
            raise LookupError("cancelled")

    server.play(sends_error(429, "ThrottlingException"))
    with pytest.raises(LookupError, match="cancelled"):
        agent.run(REQUEST, ENOUGH, print, before_start=forbid_the_third)
    assert calls_before == [0, 1, 2]
    assert len(server.runs) == 2


@pytest.mark.parametrize("seconds, spent", [(0, 0), (-5, 0), (60, 31)])
def test_without_time_the_agent_is_not_even_called(
    patient: AgentRuntime, slept: list[float], server: AgentServer, seconds: float, spent: float
):
    """Time spent on the right to start counts."""
    server.play(sends_json("done"))
    with pytest.raises(AgentNotStarted, match="no time left"):
        patient.run(REQUEST, seconds, print, before_start=lambda: slept.append(spent))
    assert server.runs == []


# --- time, and who gives up -----------------------------------------------------------------------


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
    "script, partial",
    [
        (Exchange.stall, None),
        (streams(line("Hello"), then=Exchange.stall), "Hello"),
        (DRIPS_FRAMES, "x"),
    ],
    ids=["no head", "a stream that stalls", "one that goes on"],
)
def test_every_20_seconds_somebody_may_give_up(
    agent: AgentRuntime,
    server: AgentServer,
    monkeypatch: pytest.MonkeyPatch,
    script: Script,
    partial: str | None,
):
    assert runtime.STOP_CHECK_SECONDS == 20
    monkeypatch.setattr(runtime, "STOP_CHECK_SECONDS", 0.05)
    server.play(script)
    asked = iter([False, False, True])
    with pytest.raises(AgentLost) as caught:
        agent.run(REQUEST, ENOUGH, print, should_stop=lambda: next(asked))
    assert str(caught.value) == f"The agent was told to stop. {MAYBE}"
    kept = caught.value.partial
    assert (kept and kept.agent_response[: len(partial or "")]) == partial
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
    found, resolve, threads = threading.Event(), socket.getaddrinfo, threading.active_count()

    def slowly(*address: Any, **options: Any) -> Any:
        server.clock.start()
        found.wait(ENOUGH)
        return resolve(*address, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    server.play(sends_json("done"))
    assert type(failure(agent, SHORT)) is AgentTimeout
    found.set()
    eventually(threading.active_count, lambda count: count <= threads)
    assert server.runs == []


# --- the thread that a call runs on ---------------------------------------------------------------


def test_a_call_that_was_given_up_ends_its_thread_and_its_connection():
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(1_000_000)
        finally:
            closed.set()

    call = Background(items())
    assert [call.next(ENOUGH), call.next(ENOUGH)] == [0, 1]
    time.sleep(0.05)  # so that it waits for somebody to take what it has
    call.abandon()
    assert closed.wait(ENOUGH)


@pytest.mark.parametrize("kind", [KeyError, TimeoutError, SystemExit, GeneratorExit])
def test_whatever_ends_a_stream_is_told_at_once_and_what_was_read_is_kept(
    session: botocore.session.Session, kind: type[BaseException]
):
    """Also what would end a process, and else would be waited for until the deadline."""

    def items() -> Iterator[Any]:
        yield {"contentType": STREAM}
        yield line({"message": "Looking"}) + line({"vendors": [{"name": "Ann"}]})
        yield b'data: "half a fr'
        raise kind("out of it")

    agent = AgentRuntime(session, ARN, background=lambda _: Background(items()))
    said: list[str] = []
    with pytest.raises(AgentLost) as caught:
        agent.run(REQUEST, ENOUGH, said.append)
    assert said == ["Looking"]
    assert "out of it" in caught.value.detail
    assert caught.value.partial == Answer("", [{"name": "Ann", "emails": []}])
    assert caught.value.unparsed == 'data: "half a fr'


@pytest.mark.parametrize(
    "script, partial, unparsed",
    [
        (streams(line({"response": "done"}), then=hangs_up), Answer("done"), ""),
        (
            begins(200, hangs_up, body='{"response": "I have e-mai'),
            None,
            '{"response": "I have e-mai',
        ),
    ],
    ids=["a stream, between its frames", "a document"],
)
def test_what_is_cut_is_not_complete_but_kept(
    agent: AgentRuntime, server: AgentServer, script: Script, partial: Answer, unparsed: str
):
    """Only the end of the chunks, or of the length, says that the agent had finished."""
    server.play(script)
    error = failure(agent)
    assert str(error) == f"The connection to the agent was lost. {MAYBE}"
    assert (error.partial, error.unparsed) == (partial, unparsed)


# --- agents that report ---------------------------------------------------------------------------

REPORTING = AgentRequest(TASK_ID, "Find me a painter", report=REPORT)
ACCEPTED = {"accepted": True}


@pytest.mark.parametrize(
    "script, accepts",
    [
        (sends_json(ACCEPTED), True),
        (sends_json(json.dumps(ACCEPTED)), True),
        (streams(b": hello\n\n", line(ACCEPTED), b"\n"), True),
        (sends_json(ACCEPTED | {"response": "done"}), False),
        (sends_json([ACCEPTED]), False),
        (sends_json({"accepted": 1}), False),
        (streams(line(ACCEPTED), line("done")), False),
        (streams(line("done"), line(ACCEPTED)), False),
    ],
)
def test_an_agent_accepts_if_that_is_all_it_says(
    agent: AgentRuntime, server: AgentServer, script: Script, accepts: bool
):
    server.play(script)
    answer = agent.run(REPORTING, ENOUGH, print)
    assert isinstance(answer, Accepted) == accepts
    assert accepts or answer


def test_nobody_accepts_who_was_not_asked_to_report_or_whose_stream_broke(
    agent: AgentRuntime, server: AgentServer
):
    server.play(sends_json(ACCEPTED), streams(line(ACCEPTED), then=hangs_up))
    assert not isinstance(agent.run(REQUEST, ENOUGH, print), Accepted)
    with pytest.raises(AgentLost):
        agent.run(REPORTING, ENOUGH, print)


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
