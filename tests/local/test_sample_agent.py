"""The sample agent behind its runtime, called as the worker calls it: by boto3, over HTTP."""

import asyncio
import json
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError
from starlette.types import Message, Receive, Scope, Send

from local import faults, vendors
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
from tests.examples.report_api import ReportApi, report_api
from tests.local.conftest import RuntimeClient

pytestmark = pytest.mark.e2e

PROMPT = "Find me a landscaper in Charlotte under $300"


class Caller(RuntimeClient):
    """A client of the agent's runtime, and what it heard."""

    def __init__(self, stack: LocalStack) -> None:
        super().__init__(stack.agent_endpoint)
        self.stack = stack

    def health(self) -> str:
        with urllib.request.urlopen(f"{self.stack.agent_endpoint}/ping", timeout=10) as answer:
            return str(json.load(answer)["status"])

    def frames(self, prompt: str) -> list[Any]:
        answer = self.invoke(prompt)
        assert answer["contentType"].startswith("text/event-stream")
        lines = answer["response"].read().split(b"\n")
        return [json.loads(line.removeprefix(b"data: ")) for line in lines if line]


@pytest.fixture
def caller(ministack: LocalStack) -> Caller:
    return Caller(ministack)


def test_a_stream_is_progress_with_the_vendors_so_far_then_text_then_the_answer(caller: Caller):
    frames = caller.frames(PROMPT)

    progress = [frame["message"] for frame in frames if set(frame) == {"message"}]
    text = [frame for frame in frames if isinstance(frame, str)]
    *so_far, answer = (frame for frame in frames if "vendors" in frame)
    assert progress == progress_lines(PROMPT, build_answer(PROMPT))
    assert [frame["vendors"] for frame in so_far] == [answer["vendors"][:n] for n in (1, 2, 3)]
    assert [frame["emails"] for frame in so_far] == [answer["emails"][:n] for n in (1, 2, 3)]
    assert [frame["emails_sent"] for frame in so_far] == [1, 2, 3]
    assert "".join(text) == answer["response"]
    assert answer == frames[-1]
    assert len(progress) + len(so_far) + len(text) + 1 == len(frames)


def test_a_plain_answer_has_the_same_shape(caller: Caller):
    answer = json.loads(caller.invoke(f"{PROMPT} [agent: json]")["response"].read())

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


def test_an_agent_that_is_stopped_may_end_in_good_order_or_go_on(caller: Caller):
    rests = []
    for behaviour in ("graceful", "unstoppable 2"):
        session = str(uuid.uuid4())
        stream = caller.invoke(f"[agent: {behaviour}]", session=session)["response"]
        assert stream.read(5) == b"data:"
        caller.stop(session)
        rests.append(stream.read())

    assert rests[0].endswith(b"\n\n")
    assert rests[1].count(b"Still at it.") > 5


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


def test_a_reporting_agent_that_fails_reports_it(caller: Caller, api: ReportApi):
    accepted(caller, api, "report-fail")
    error = eventually(lambda: api.task.error, bool)
    assert error == "The agent failed (SampleAgentError)."


def test_a_reporting_agent_that_is_stopped_says_no_more(caller: Caller, api: ReportApi):
    session = str(uuid.uuid4())
    accepted(caller, api, "report 300", session)
    eventually(lambda: api.task.lines, bool)
    assert caller.health() == "HealthyBusy"
    caller.stop(session)

    eventually(caller.health, lambda status: status == "Healthy")
    assert api.task.status == "processing"
    assert not api.task.error


def test_an_agent_that_may_not_report_answers_as_usual(caller: Caller):
    assert caller.frames(f"{PROMPT} [agent: report]")[-1]["emails_sent"] == 3


def test_stopping_a_session_that_never_was_is_not_found(caller: Caller):
    with pytest.raises(ClientError) as refusal:
        caller.stop(str(uuid.uuid4()))
    assert refusal.value.response["Error"]["Code"] == "ResourceNotFoundException"
