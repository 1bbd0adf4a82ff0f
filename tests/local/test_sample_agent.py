"""The sample agent behind its runtime, called as the worker calls it: by boto3, over HTTP."""

import asyncio
import json
import time
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ResponseStreamingError
from starlette.types import Message, Receive, Scope, Send

from local import REGION, faults, vendors
from local.aws import AGENT_RUNTIME_ARN, LocalStack
from local.vendors import (
    CATALOGUE,
    CITIES,
    SERVICES,
    build_answer,
    carry_out,
    progress_lines,
    read_prompt,
)
from tests.conftest import eventually
from tests.examples.report_api import ReportApi, report_api, slow

pytestmark = pytest.mark.e2e

PROMPT = "Find me a landscaper in Charlotte under $300"


class Caller:
    """A client of the agent's runtime, and what it heard."""

    def __init__(self, stack: LocalStack) -> None:
        self.stack = stack
        self.client = boto3.client(
            "bedrock-agentcore",
            region_name=REGION,
            endpoint_url=stack.agent_endpoint,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def invoke(
        self, prompt: str, task_id: str = "", session: str = "", **more: Any
    ) -> dict[str, Any]:
        payload = {"prompt": prompt, "task_id": task_id or str(uuid.uuid4()), **more}
        answer: dict[str, Any] = self.client.invoke_agent_runtime(
            agentRuntimeArn=AGENT_RUNTIME_ARN,
            runtimeSessionId=session or str(uuid.uuid4()),
            payload=json.dumps(payload),
        )
        return answer

    def stop(self, session: str) -> None:
        self.client.stop_runtime_session(
            agentRuntimeArn=AGENT_RUNTIME_ARN, runtimeSessionId=session
        )

    def health(self) -> str:
        with urllib.request.urlopen(f"{self.stack.agent_endpoint}/ping", timeout=10) as answer:
            return str(json.load(answer)["status"])

    def frames(self, prompt: str) -> list[Any]:
        answer = self.invoke(prompt)
        assert answer["contentType"].startswith("text/event-stream")
        lines = answer["response"].read().split(b"\n")
        return [json.loads(line.removeprefix(b"data: ")) for line in lines if line]

    def body(self, prompt: str) -> Any:
        answer = self.invoke(prompt)
        assert answer["contentType"].startswith("application/json")
        return json.loads(answer["response"].read())


@pytest.fixture
def caller(ministack: LocalStack) -> Caller:
    return Caller(ministack)


def test_a_stream_is_progress_with_the_vendors_so_far_then_text_then_the_answer(caller: Caller):
    frames = caller.frames(PROMPT)

    progress = [frame["message"] for frame in frames if set(frame) == {"message"}]
    text = [frame for frame in frames if isinstance(frame, str)]
    *so_far, answer = (frame for frame in frames if "vendors" in frame)
    assert progress == [
        "Looking for landscapers in Charlotte within $300",
        "Found 3 landscapers within $300",
        "E-mailed Green Fern Landscaping at green-fern-landscaping@example.com",
        "E-mailed Queen City Lawn & Garden at queen-city-lawn-garden@example.com",
        "E-mailed Dogwood Outdoor Care at dogwood-outdoor-care@example.com",
        "Comparing quotes",
    ]
    assert [frame["vendors"] for frame in so_far] == [answer["vendors"][:n] for n in (1, 2, 3)]
    assert [frame["emails"] for frame in so_far] == [answer["emails"][:n] for n in (1, 2, 3)]
    assert [frame["emails_sent"] for frame in so_far] == [1, 2, 3]
    assert "".join(text) == answer["response"]
    assert answer == frames[-1]
    assert len(progress) + len(so_far) + len(text) + 1 == len(frames)


def test_a_plain_answer_has_the_same_shape(caller: Caller):
    answer = caller.body(f"{PROMPT} [agent: json]")

    assert set(answer) == {"response", "vendors", "quotes", "emails", "emails_sent"}
    assert answer["response"].startswith("I've contacted 3 landscapers in Charlotte by e-mail.")
    assert [vendor["price"] for vendor in answer["vendors"]] == [240, 275.5, 195]
    assert [quote["price"] for quote in answer["quotes"]] == [240, 275.5, 195]
    assert [quote["amount"] for quote in answer["quotes"]] == [240, 275.5, 195]
    ids = [vendor["id"] for vendor in answer["vendors"]]
    assert [quote["vendor_id"] for quote in answer["quotes"]] == ids
    assert answer["emails_sent"] == 3
    recipients = [email["recipient"] for email in answer["emails"]]
    assert recipients == [vendor["email"] for vendor in answer["vendors"]]
    assert all(set(e) == {"recipient", "subject", "body", "timestamp"} for e in answer["emails"])


def test_the_same_prompt_gives_the_same_answer_timestamps_aside():
    first, second = build_answer(PROMPT), build_answer(PROMPT)
    for answer in (first, second):
        for email in answer["emails"]:
            del email["timestamp"]
    assert first == second


def test_an_email_has_the_time_at_which_it_was_sent(monkeypatch: pytest.MonkeyPatch):
    answer = build_answer(PROMPT)
    sent = []
    for number, line in enumerate(progress_lines(PROMPT, answer)):
        monkeypatch.setattr(vendors, "_now", lambda now=f"at {number}": now)
        sent.append(carry_out(line, answer))
    assert sent == [False, False, True, True, True, False]
    assert [email["timestamp"] for email in answer["emails"]] == ["at 2", "at 3", "at 4"]


@pytest.mark.parametrize(
    "prompt, service, city, budget",
    [
        (PROMPT, "landscaping", "Charlotte", 300),
        ("somebody to PAINT my fence, austin, less than 1,200.50 dollars", "painting", "Austin", 1200.5),
        ("Leaking pipe in Denver! $250 max", "plumbing", "Denver", 250),
        ("rewiring in Raleigh", "electrical", "Raleigh", None),
        ("Find me a painter", "painting", None, None),
        ("a house cleaner in Boston, budget of $100", "cleaning", None, 100),
        ("Tell me a joke", None, None, None),
    ],
)  # fmt: skip
def test_service_city_and_budget_are_read_out_of_the_prompt(
    prompt: str, service: str | None, city: str | None, budget: float | None
):
    request = read_prompt(prompt)
    assert (request.service, request.city, request.budget) == (service, city, budget)


@pytest.mark.parametrize(
    "prompt, words",
    [
        ("Tell me a joke", "I could not tell which service you need."),
        ("Find me a painter", "I could not tell which city you need painters in."),
        ("A painter in Denver under $5", "I found no painter in Denver within $5"),
    ],
)
def test_a_prompt_that_it_cannot_place_gets_help_and_no_email(prompt: str, words: str):
    answer = build_answer(prompt)
    assert answer["response"].startswith(words)
    assert (answer["vendors"], answer["quotes"], answer["emails_sent"]) == ([], [], 0)


def test_every_service_is_offered_in_every_city_by_vendors_that_cannot_be_real():
    offered = {(vendor.service, vendor.city) for vendor in CATALOGUE}
    assert offered == {(service, city) for service in SERVICES for city in CITIES}
    assert len({vendor.id for vendor in CATALOGUE}) == len(CATALOGUE)
    assert all(vendor.email.endswith("@example.com") for vendor in CATALOGUE)


def test_a_failure_before_anything_is_a_runtime_client_error(caller: Caller):
    with pytest.raises(ClientError) as failure:
        caller.invoke(f"{PROMPT} [agent: fail]")
    assert failure.value.response["Error"]["Code"] == "RuntimeClientError"
    assert failure.value.response["ResponseMetadata"]["HTTPStatusCode"] == 424


def test_a_failure_in_mid_stream_is_an_error_frame_with_status_200(caller: Caller):
    *progress, error = caller.frames(f"{PROMPT} [agent: fail-midway]")
    assert len(progress) == 2
    assert error == {
        "error": "The sample agent was told to fail in mid-stream.",
        "error_type": "SampleAgentError",
        "message": "An error occurred during streaming",
    }


def test_a_cut_stream_breaks_off_in_the_middle_of_an_event(caller: Caller):
    stream = caller.invoke(f"{PROMPT} [agent: cut]")["response"]
    whole, half = (
        b'data: {"message": "Looking for vendors"}\n\n',
        b'data: {"response": "I have cont',
    )
    assert stream.read(len(whole + half)) == whole + half
    with pytest.raises(ResponseStreamingError):
        stream.read(1)


@pytest.mark.parametrize(
    "behaviour, body",
    [
        ("text", json.dumps(build_answer(PROMPT)["response"]).encode()),
        ("error", b'{"error": "The vendor directory is closed today."}'),
        ("empty", b""),
        ("invalid-utf8", b'data: {"response": "caf\xe9"}\n\n'),
    ],
)
def test_it_answers_what_it_is_told_to(caller: Caller, behaviour: str, body: bytes):
    assert caller.invoke(f"{PROMPT} [agent: {behaviour}]")["response"].read() == body


def test_invalid_json_cannot_be_parsed(caller: Caller):
    body = caller.invoke(f"{PROMPT} [agent: invalid-json]")["response"].read()
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


def test_a_huge_answer_is_as_huge_as_asked_for(caller: Caller):
    (answer,) = caller.frames("[agent: huge 100000]")
    assert answer == {"response": faults.random_text(100_000)}


def test_strands_events_come_with_python_reprs_as_strings(caller: Caller):
    frames = caller.frames(f"{PROMPT} [agent: strands]")
    reprs = [frame for frame in frames if isinstance(frame, str)]
    assert reprs
    assert all(frame.startswith("{'") for frame in reprs)
    pieces = [
        frame["event"]["contentBlockDelta"]["delta"].get("text", "")
        for frame in frames
        if isinstance(frame, dict) and "contentBlockDelta" in frame.get("event", {})
    ]
    assert "".join(pieces) == build_answer(PROMPT)["response"]


@pytest.mark.parametrize(
    "behaviour, code",
    [
        ("throttle", "ThrottlingException"),
        ("conflict", "RetryableConflictException"),
        ("unavailable", "InternalServerException"),
    ],
)
def test_a_refused_call_does_not_reach_the_agent(caller: Caller, behaviour: str, code: str):
    task_id = str(uuid.uuid4())
    for _ in range(2):
        with pytest.raises(ClientError) as refusal:
            caller.invoke(f"{PROMPT} [agent: {behaviour} 2]", task_id)
        assert refusal.value.response["Error"]["Code"] == code
    assert task_id not in caller.stack.agent_report()["reached"]

    caller.invoke(f"{PROMPT} [agent: {behaviour} 2]", task_id)["response"].read()
    report = caller.stack.agent_report()
    assert (report["refused"][task_id], report["reached"][task_id]) == (2, 1)


def test_stopping_a_session_ends_its_run(caller: Caller):
    task_id, session = str(uuid.uuid4()), str(uuid.uuid4())
    stream = caller.invoke("[agent: stall]", task_id, session)["response"]
    assert stream.read(5) == b"data:"

    before = time.monotonic()
    caller.stop(session)

    with pytest.raises(ResponseStreamingError):
        stream.read()
    assert time.monotonic() - before < 2
    report = caller.stack.agent_report()
    assert report["sessions"][task_id] == session
    assert session in report["stopped"]


def test_a_session_that_is_stopped_before_it_answers_is_a_runtime_client_error(caller: Caller):
    task_id, session = str(uuid.uuid4()), str(uuid.uuid4())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(caller.invoke, "[agent: silent]", task_id, session)
        eventually(caller.stack.agent_report, lambda report: task_id in report["running"])

        caller.stop(session)

        failure = waiting.exception(timeout=10)
    assert isinstance(failure, ClientError)
    assert failure.response["Error"]["Code"] == "RuntimeClientError"


@pytest.mark.filterwarnings("ignore:Support for class-based `config`")  # the SDK's
def test_an_agent_that_answers_when_it_hears_that_it_is_stopped_is_not_heard():
    """As a machine that is gone: nothing of it comes, however fast its agent was."""
    from local.runtime import SESSION_HEADER, build_server

    session = str(uuid.uuid4())
    sent: list[Any] = []

    async def answers_at_once(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        while not faults.stopped_sessions[session].is_set():  # noqa: ASYNC110  at once, that is
            await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'"Done."'})

    async def take(message: Message) -> None:
        sent.append(message)

    async def ignore(_: Message) -> None:
        pass

    async def call_and_stop() -> None:
        server = build_server(answers_at_once)
        headers = [(SESSION_HEADER.encode(), session.encode())]
        scope = {"type": "http", "method": "POST", "root_path": "", "headers": headers}
        call = {**scope, "path": f"/runtimes/{AGENT_RUNTIME_ARN}/invocations"}
        stop = {**scope, "path": f"/runtimes/{AGENT_RUNTIME_ARN}/stopruntimesession"}
        requests: asyncio.Queue[Message] = asyncio.Queue()
        requests.put_nowait({"type": "http.request", "body": b"{}", "more_body": False})
        waiting = asyncio.ensure_future(server(call, requests.get, take))
        while session not in faults.stopped_sessions:  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0)
        await server(stop, lambda: asyncio.sleep(0, {"type": "http.request"}), ignore)
        await waiting

    asyncio.run(call_and_stop())

    assert [message.get("status") for message in sent] == [424, None]
    assert b"Done." not in sent[1]["body"]


def test_a_graceful_agent_ends_its_stream_in_good_order_when_it_is_stopped(caller: Caller):
    session = str(uuid.uuid4())
    stream = caller.invoke("[agent: graceful]", session=session)["response"]
    assert stream.read(5) == b"data:"

    caller.stop(session)

    assert stream.read().endswith(b"\n\n")


def test_an_unstoppable_agent_goes_on(caller: Caller):
    session = str(uuid.uuid4())
    stream = caller.invoke("[agent: unstoppable 2]", session=session)["response"]
    assert stream.read(5) == b"data:"

    caller.stop(session)

    assert stream.read().count(b"Still at it.") > 5


@pytest.fixture
def api() -> Iterator[ReportApi]:
    """Takes the reports on one task, as the API does."""
    with report_api() as served:
        yield served


def accepted(caller: Caller, api: ReportApi, behaviour: str, session: str = "") -> str:
    """Gives the agent a task to report on, which it accepts; returns the task's id."""
    task_id = str(uuid.uuid4())
    report = api.payload["report"]
    answer = caller.invoke(f"{PROMPT} [agent: {behaviour}]", task_id, session, report=report)
    assert json.loads(answer["response"].read()) == {"accepted": True}
    return task_id


def test_a_reporting_agent_accepts_at_once_and_reports_to_the_end(caller: Caller, api: ReportApi):
    task_id = accepted(caller, api, "report")

    eventually(lambda: api.task.status, lambda status: status == "completed")
    assert api.task.lines[-1] == "Comparing quotes"
    assert [vendor["price"] for vendor in api.task.answer["vendors"]] == [240, 275.5, 195]
    assert caller.stack.agent_report()["reports"][task_id] == api.payload["report"]


def test_a_reporting_agent_that_fails_reports_it(caller: Caller, api: ReportApi):
    accepted(caller, api, "report-fail")
    error = eventually(lambda: api.task.error, bool)
    assert error == "The agent failed (SampleAgentError)."


@pytest.mark.parametrize("behaviour", ["report-die", "report 300"])
def test_a_reporting_agent_that_is_gone_says_no_more(
    caller: Caller, api: ReportApi, behaviour: str
):
    session = str(uuid.uuid4())
    accepted(caller, api, behaviour, session)
    eventually(lambda: api.task.lines, bool)
    if behaviour == "report 300":
        assert caller.health() == "HealthyBusy"
        caller.stop(session)

    eventually(caller.health, lambda status: status == "Healthy")
    assert api.task.status == "processing"
    assert not api.task.error


def test_an_agent_that_dies_after_its_first_line_has_said_it_however_long_that_takes(
    caller: Caller, api: ReportApi
):
    api.faults = [slow(1.2)]
    accepted(caller, api, "report-die")

    eventually(caller.health, lambda status: status == "Healthy")
    assert api.task.lines == ["Looking for landscapers in Charlotte within $300"]


def test_an_agent_that_reports_says_when_each_email_was_sent(caller: Caller, api: ReportApi):
    accepted(caller, api, "report 0.6")
    answer = eventually(lambda: api.task.answer, bool)
    times = [email["timestamp"] for email in answer["emails"]]
    assert times == sorted(set(times))


def test_an_agent_that_may_not_report_answers_as_usual(caller: Caller):
    assert caller.frames(f"{PROMPT} [agent: report]")[-1]["emails_sent"] == 3


def test_stopping_a_session_that_never_was_is_not_found(caller: Caller):
    with pytest.raises(ClientError) as refusal:
        caller.stop(str(uuid.uuid4()))
    assert refusal.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_a_stalled_run_ends_when_its_caller_is_gone(caller: Caller):
    task_id = str(uuid.uuid4())
    stream = caller.invoke("[agent: stall]", task_id)["response"]
    assert stream.read(5) == b"data:"
    assert task_id in caller.stack.agent_report()["running"]

    stream.close()

    eventually(caller.stack.agent_report, lambda report: task_id not in report["running"])
