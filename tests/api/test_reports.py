"""Agents that report, on the whole stack: the real zips, the real gateway, the real reporter.

Where a test is the agent itself, `[agent: accept]` has accepted in its place. What may take an agent
two minutes or eight hours takes seconds here: the worker's time is made shorter instead, and what
is waited for is put into the past in the table.
"""

import hashlib
import json
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from local.vendors import build_answer, progress_lines
from tests.api.faulty import (
    ANSWER_LOST,
    BROKEN,
    HELD,
    FaultyDeployment,
    Rule,
    accept_of,
    faulty_deployment,
    new_task,
    report_of,
)
from tests.api.test_end_to_end import (
    COMPLETED,
    CREATED,
    PROMPT,
    STARTED,
    backdate,
    function_processes,
    messages,
)
from tests.conftest import TABLE_NAME, eventually
from valro.tasks import EXPIRED

pytestmark = pytest.mark.e2e

LINES = progress_lines(PROMPT, build_answer(PROMPT))
GOING_ON = {"status": "processing", "continue": True}


@pytest.fixture(scope="module")
def stack() -> Iterator[FaultyDeployment]:
    """The deployed stack; its agent's lines are half a second apart if the prompt says no more."""
    with faulty_deployment(pace=0.5) as deployment:
        yield deployment


@dataclass(frozen=True)
class Agent:
    """The test in an agent's place: what it was given, and what it sends."""

    stack: FaultyDeployment
    task_id: str
    token: str

    def send(self, body: Any, authorization: str | None = None) -> Any:
        """Sends a report as it is, with the task's token unless another is given."""
        given = f"Bearer {self.token}" if authorization is None else authorization
        headers = {"Authorization": given} if given else {}
        return self.stack.api.request("POST", f"/tasks/{self.task_id}/reports", body, headers)

    def report(self, *lines: str, report_id: str = "", **outcome: Any) -> Any:
        """Sends a report that must be received; returns what is said about it."""
        given = {"report_id": report_id or str(uuid.uuid4()), "messages": list(lines)}
        answer = self.send(given | outcome)
        assert answer.status == 200, answer.body
        return answer.json()

    def said(self) -> list[str]:
        """What the timeline has of the agent."""
        lines = messages(self.stack.task(self.task_id))
        assert lines[:3] == [CREATED, *STARTED]
        return lines[3:]


def given_to(stack: FaultyDeployment, task_id: str) -> dict[str, str]:
    """Where a task's agent is to report, and its token, once it has been called."""
    report: dict[str, str] = eventually(
        lambda: stack.stack.agent_report()["reports"].get(task_id), bool
    )
    return report


def wait_for_acceptance(stack: FaultyDeployment, task_id: str) -> None:
    """Returns once the worker has left the task to its agent."""
    eventually(lambda: stack.item(task_id) or {}, lambda item: "last_report" in item)


def accepted(stack: FaultyDeployment) -> Agent:
    """A task whose agent has accepted it and is this test from now on."""
    task_id = stack.create(f"{PROMPT} [agent: accept]")
    wait_for_acceptance(stack, task_id)
    return Agent(stack, task_id, given_to(stack, task_id)["token"])


def reporting(stack: FaultyDeployment, behaviour: str) -> str:
    """Posts a task and waits for its agent's first line; returns its id."""
    task_id = stack.create(f"{PROMPT} [agent: {behaviour}]")
    eventually(lambda: stack.task(task_id), lambda task: len(task["events"]) > 3)
    return task_id


def wait_until_gone(stack: FaultyDeployment) -> None:
    """Returns once no process of the sample agent is at work any more."""

    def health() -> str:
        with urllib.request.urlopen(f"{stack.stack.agent_endpoint}/ping", timeout=10) as answer:
            return str(json.load(answer)["status"])

    eventually(health, lambda status: status == "Healthy")


# The work that nobody waits for


def test_an_agent_reports_for_longer_than_any_worker_may_run_while_no_worker_runs(
    stack: FaultyDeployment,
):
    """Two minutes and more need no other proof than these seconds, which no worker had."""
    with stack.worker(timeout=4):
        before = stack.deliveries()
        task_id = stack.create(f"{PROMPT} [agent: report 5]")
        eventually(stack.deliveries, lambda ended: ended > before)
        assert stack.outcomes(task_id) == ["accepted"]
        stack.kill("valro-worker")
        grown: set[int] = set()

        def look() -> dict[str, Any]:
            assert function_processes(stack, "valro-worker") == []
            task = stack.task(task_id)
            grown.add(len(task["events"]))
            return task

        task = eventually(look, lambda seen: seen["status"] != "processing")

    assert task["status"] == "completed"
    assert messages(task) == [CREATED, *STARTED, *LINES, COMPLETED]
    assert [event["ts"] for event in task["events"]] == sorted(e["ts"] for e in task["events"])
    assert len(grown) > 3  # it was seen to grow
    answer = build_answer(PROMPT)
    assert task["agent_response"] == answer["response"]
    assert (task["quotes"], task["emails_sent"]) == (answer["quotes"], 3)
    assert all(len(vendor["emails"]) == 1 for vendor in task["vendors"])
    assert stack.outcomes(task_id) == ["accepted"]
    assert (stack.agent_runs(task_id), stack.stops(task_id)) == (1, 0)
    assert stack.logged("valro-backend", task_id, '"outcome": "completed"')


def test_an_agent_that_dies_silently_is_given_up_its_session_stopped_and_never_run_again(
    stack: FaultyDeployment,
):
    task_id = reporting(stack, "report-die")
    wait_until_gone(stack)
    assert stack.task(task_id)["status"] == "processing"

    backdate(stack, task_id)
    task = stack.task(task_id)

    assert (task["status"], task["error_code"]) == ("error", "agent_lost")
    assert messages(task) == [CREATED, *STARTED, LINES[0], EXPIRED["agent_lost"]]
    eventually(lambda: stack.stops(task_id), lambda stops: stops == 1)
    assert stack.wait_for_outcomes(task_id, 2) == ["accepted", "stopped"]
    assert stack.agent_runs(task_id) == 1
    late = Agent(stack, task_id, given_to(stack, task_id)["token"])
    assert late.report("I am back", answer="Done") == {"status": "error", "continue": False}
    assert stack.task(task_id) == task


# Reports that get lost, or come twice, or late


@pytest.mark.parametrize("what", [BROKEN, ANSWER_LOST], ids=["not written", "answer lost"])
def test_the_reporter_brings_everything_once_and_in_order_through_an_outage(
    stack: FaultyDeployment, what: Rule
):
    key, task_id = new_task()

    with stack.aws.fault(report_of(task_id), what, times=3) as fault:
        stack.post(f"{PROMPT} [agent: report 0.5]", key)
        fault.wait_for(3)
        task = stack.finish(task_id)

    assert task["status"] == "completed"
    assert messages(task) == [CREATED, *STARTED, *LINES, COMPLETED]


# The acceptance


def test_reports_that_come_before_the_acceptance_is_written_are_sent_again_and_are_all_there(
    stack: FaultyDeployment,
):
    key, task_id = new_task()

    with stack.aws.fault(accept_of(task_id), BROKEN) as fault:
        stack.post(f"{PROMPT} [agent: report 0.5]", key)
        fault.wait_for(2)
        early = Agent(stack, task_id, given_to(stack, task_id)["token"])
        refused = early.send({"report_id": "r-1", "messages": ["Too early"]})

    assert (refused.status, refused.json()["code"]) == (409, "not_accepted")
    assert refused.headers["Retry-After"] == "1"
    task = stack.finish(task_id)
    assert messages(task) == [CREATED, *STARTED, *LINES, COMPLETED]
    assert stack.outcomes(task_id) == ["accepted"]


def test_a_worker_killed_between_the_agents_yes_and_its_own_write_is_not_replaced(
    stack: FaultyDeployment,
):
    """The agent hears of it at its next report, and stops."""
    key, task_id = new_task()

    with stack.aws.fault(accept_of(task_id), HELD) as fault:
        stack.post(f"{PROMPT} [agent: report 60]", key)
        fault.wait_for(1)
        stack.kill("valro-worker")
        assert stack.wait_for_outcomes(task_id, 1) == ["not_claimed"]

    backdate(stack, task_id)
    task = stack.task(task_id)
    assert (task["status"], task["error_code"]) == ("error", "worker_lost")
    assert messages(task) == [CREATED, *STARTED, EXPIRED["worker_lost"]]
    wait_until_gone(stack)
    assert stack.task(task_id) == task
    assert stack.agent_runs(task_id) == 1


# Cancelling


def test_the_stop_event_ends_a_cancelled_task_whose_agent_reports_and_its_session(
    stack: FaultyDeployment,
):
    task_id = reporting(stack, "report 300")

    answer = stack.api.request("POST", f"/tasks/{task_id}/cancel")

    assert (answer.status, answer.json()["status"]) == (202, "processing")
    task = stack.finish(task_id)
    assert (task["status"], task["error_code"]) == ("error", "cancelled")
    assert messages(task) == [CREATED, *STARTED, LINES[0], EXPIRED["cancelled"]]
    assert task["cancel_requested_at"] == answer.json()["cancel_requested_at"]
    assert stack.wait_for_outcomes(task_id, 2) == ["accepted", "stopped"]
    wait_until_gone(stack)
    assert (stack.agent_runs(task_id), stack.stops(task_id)) == (1, 1)
    assert stack.task(task_id) == task


# The token


def test_the_token_is_in_no_table_no_log_and_no_answer_though_the_agent_says_it(
    stack: FaultyDeployment,
):
    agent, failing = accepted(stack), accepted(stack)
    said = f"My token is {agent.token}, you know"
    agent.send(b"no report: " + agent.token.encode())
    agent.report(said)
    agent.report(said, answer={"response": said, "vendors": [{"name": said, said: [said]}]})
    agent.report(answer={"response": f"Late: {said}"})  # which is logged
    failing.report(error=f"Refused: Bearer {failing.token}")
    plain = stack.run(f"{PROMPT} [agent: leak]")
    tokens = [agent.token, failing.token, given_to(stack, plain["id"])["token"]]

    pages = stack.client("dynamodb").get_paginator("scan").paginate(TableName=TABLE_NAME)
    table = json.dumps([page["Items"] for page in pages])
    logs = json.dumps([stack.logged(name) for name in ("valro-backend", "valro-worker")])
    ids = (agent.task_id, failing.task_id, plain["id"])
    answers = json.dumps([stack.task(task_id) for task_id in ids])
    listed = stack.api.request("GET", "/tasks").body.decode()

    places = {"table": table, "logs": logs, "answers": answers, "list": listed}
    for token in tokens:
        digest = hashlib.sha256(token.encode()).hexdigest()
        assert [name for name, text in places.items() if token in text] == []
        assert [name for name, text in places.items() if digest in text] == ["table"]
    assert agent.said()[0] == "My token is [token], you know"
    assert "Bearer [token]" in stack.task(failing.task_id)["error_message"]
    assert '"token": "[token]"' in plain["agent_response"]
    assert '"token": "[token]"' in messages(plain)[3]
