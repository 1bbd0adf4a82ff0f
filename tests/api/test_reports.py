"""Agents that report, on the whole stack: the real zips, the real gateway, the real reporter.

Where a test is the agent itself, `[agent: accept]` has accepted in its place. What may take an agent
two minutes or eight hours takes seconds here: the worker's time is made shorter instead, and what
is waited for is put into the past in the table.
"""

import hashlib
import json
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from local.aws import ROOT
from local.vendors import build_answer, progress_lines
from tests.api.faulty import (
    ANSWER_LOST,
    BROKEN,
    CUT,
    HELD,
    WORKER_START,
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

# Two processes of an agent have one payload: one of them ends the task, the other goes on until it
# is told to stop.
PROCESS = """
import json, sys, time
from examples.reporting_agent.reporter import Reporter
payload, name, is_last = json.loads(sys.stdin.read())
became = "stopped"
with Reporter(payload) as report:
    for number in range(3):
        report.say(f"{name} {number}")
    while is_last:
        time.sleep(0.2)
        report.say(f"{name} again")
    report.finish({"response": f"{name} has done it."})
    became = "finished"
print(became)
"""


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


def test_an_agent_that_reports_a_failure_ends_the_task_with_it(stack: FaultyDeployment):
    task_id = stack.create(f"{PROMPT} [agent: report-fail 0.1]")

    task = stack.finish(task_id)

    words = "The agent failed (SampleAgentError). The agent may already have contacted vendors."
    assert (task["status"], task["error_code"], task["error_message"]) == (
        "error",
        "agent_failed",
        words,
    )
    assert messages(task) == [CREATED, *STARTED, *LINES, f"Agent error: {words}"]


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


def test_an_agent_that_was_silent_for_too_long_goes_on_if_nobody_has_looked(
    stack: FaultyDeployment,
):
    agent = accepted(stack)
    backdate(stack, agent.task_id)

    assert agent.report("Still here") == GOING_ON
    assert agent.said() == ["Still here"]


# Reports that get lost, or come twice, or late


@pytest.mark.parametrize("what", [BROKEN, ANSWER_LOST], ids=["not written", "answer lost"])
def test_a_report_that_was_not_confirmed_is_sent_again_and_is_there_once(
    stack: FaultyDeployment, what: Rule
):
    agent = accepted(stack)
    report = {"report_id": "r-1", "messages": ["one", "two"]}

    with stack.aws.fault(report_of(agent.task_id), what):
        refused = agent.send(report)

    assert (refused.status, refused.json()["code"]) == (500, "internal_error")
    assert agent.send(report).json() == GOING_ON
    assert agent.report("three") == GOING_ON
    assert agent.said() == ["one", "two", "three"]


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


def test_a_report_that_comes_ten_times_at_once_is_there_once(stack: FaultyDeployment):
    agent = accepted(stack)

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: agent.report("once", report_id="r-1"), range(10)))

    assert answers == [GOING_ON] * 10
    assert agent.said() == ["once"]


def test_a_report_that_comes_after_the_final_one_changes_nothing(stack: FaultyDeployment):
    agent = accepted(stack)
    ended = {"status": "completed", "continue": False}

    assert agent.report("two", answer={"response": "Done."}) == ended
    task = stack.task(agent.task_id)
    assert agent.report("one") == ended
    assert agent.report(answer={"response": "Done otherwise."}) == ended
    assert agent.report(error="It failed after all.") == ended

    assert (task["status"], task["agent_response"]) == ("completed", "Done.")
    assert agent.said() == ["two", COMPLETED]
    assert stack.task(agent.task_id) == task
    assert stack.logged("valro-backend", agent.task_id, "answer came too late", "otherwise")


def test_two_processes_of_an_agent_with_one_token_tell_one_story_and_one_end(
    stack: FaultyDeployment,
):
    agent = accepted(stack)
    payload = {"prompt": PROMPT, "report": given_to(stack, agent.task_id)}

    def run(name: str, *, is_last: bool) -> str:
        done = subprocess.run(
            [sys.executable, "-c", PROCESS],
            input=json.dumps([payload, name, is_last]),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    with ThreadPoolExecutor(2) as pool:
        lasting = pool.submit(run, "B", is_last=True)
        eventually(agent.said, bool)
        assert run("A", is_last=False) == "finished"
        assert lasting.result() == "stopped"

    task = stack.task(agent.task_id)
    assert (task["status"], task["agent_response"]) == ("completed", "A has done it.")
    *said, last = agent.said()
    assert last == COMPLETED
    assert [line for line in said if line.startswith("A")] == ["A 0", "A 1", "A 2"]
    others = [line for line in said if line.startswith("B") and "again" not in line]
    assert others == ["B 0", "B 1", "B 2"][: len(others)] != []


# Who may report, and what


def test_a_wrong_token_changes_nothing_and_is_told_nothing(stack: FaultyDeployment):
    agent, other = accepted(stack), accepted(stack)
    report = {"report_id": "r-1", "messages": ["Trust me"], "answer": "Done"}
    wrong = [
        "",
        "Bearer",
        "Bearer ",
        agent.token,
        f"Basic {agent.token}",
        f"Bearer {other.token}",
        f"Bearer {hashlib.sha256(agent.token.encode()).hexdigest()}",
    ]

    answers = [agent.send(report, authorization) for authorization in wrong]
    answers.append(agent.send(b"no report", f"Bearer {other.token}"))

    assert [(answer.status, answer.json()["code"]) for answer in answers] == [
        (401, "invalid_token")
    ] * 8
    assert agent.said() == other.said() == []
    assert agent.report("Mine") == GOING_ON


def test_only_a_task_that_is_there_and_was_given_to_a_reporting_agent_can_be_reported_on(
    stack: FaultyDeployment,
):
    agent = accepted(stack)
    nowhere = Agent(stack, str(uuid.uuid4()), agent.token)
    task_id = stack.create(f"{PROMPT} [agent: stall]")
    plain = Agent(stack, task_id, given_to(stack, task_id)["token"])
    report = {"report_id": "r-1", "messages": ["Hello"]}

    assert nowhere.send(report).status == 401
    early = plain.send(report)
    assert (early.status, early.json()["code"]) == (409, "not_accepted")
    stack.api.request("POST", f"/tasks/{task_id}/cancel")
    assert "Hello" not in messages(stack.finish(task_id))
    agent.report(answer="Done")
    assert stack.api.request("DELETE", f"/tasks/{agent.task_id}").status == 204
    assert agent.send(report).status == 401
    assert stack.item(agent.task_id) == {"id": {"S": agent.task_id}, "status": {"S": "deleted"}}


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b'"text"',
        b'{"messages": ["no id"]}',
        b'{"report_id": "r", "messages": "no list"}',
        b'{"report_id": "r", "answer": 7}',
        b'{"report_id": "r", "error": {}}',
    ],
)
def test_an_unusable_report_is_a_400_with_a_sentence_and_the_task_lives_on(
    stack: FaultyDeployment, body: bytes
):
    agent = accepted(stack)

    refused = agent.send(body)

    assert (refused.status, refused.json()["code"]) == (400, "invalid_report")
    assert refused.json()["error"].endswith("The task lives on.")
    assert agent.report("So it does") == GOING_ON
    assert agent.said() == ["So it does"]


def test_a_report_over_4_mb_is_a_413_and_one_of_4_mb_is_taken(stack: FaultyDeployment):
    agent = accepted(stack)
    whole = {"report_id": "r-1", "answer": {"response": ""}}
    room = 4 * 1024 * 1024 - len(json.dumps(whole))

    def with_text(length: int) -> dict[str, Any]:
        return {**whole, "answer": {"response": "x" * length}}

    refused = agent.send(with_text(room + 1))
    assert (refused.status, refused.json()["code"]) == (413, "body_too_large")
    assert stack.task(agent.task_id)["status"] == "processing"

    # What is kept of it is a body larger than the proxy takes.
    with stack.function("valro-backend", AWS_ENDPOINT_URL_DYNAMODB=stack.stack.endpoint):
        taken = agent.send(with_text(room))
        task = stack.task(agent.task_id)

    assert (taken.status, taken.json()["status"]) == (200, "completed")
    assert task["agent_response_truncated"] is True
    kept = len(task["agent_response"])
    assert 3_400_000 < kept < 3_500_000
    cut = f"The agent's answer was too long: {room - kept:,} bytes of it were cut"
    assert messages(task)[-2:] == [cut, COMPLETED]


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


def test_an_acceptance_that_cannot_be_written_stops_the_agent_and_ends_the_task(
    stack: FaultyDeployment,
):
    key, task_id = new_task()

    with stack.worker(timeout=11), stack.aws.fault(accept_of(task_id), BROKEN):
        stack.post(f"{PROMPT} [agent: report 60]", key)
        task = stack.finish(task_id)
        eventually(lambda: stack.stops(task_id), lambda stops: stops == 1)

    words = "The hand-over to the reporting agent could not be saved."
    assert (task["status"], task["error_code"]) == ("error", "agent_lost")
    assert task["error_message"].startswith(words)
    wait_until_gone(stack)
    assert stack.task(task_id) == task
    assert (stack.agent_runs(task_id), stack.outcomes(task_id)) == (1, ["error"])


@pytest.mark.parametrize("times", [1, 4], ids=["once", "four times"])
def test_an_acceptance_whose_answer_is_lost_is_one_all_the_same(
    stack: FaultyDeployment, times: int
):
    key, task_id = new_task()

    with stack.aws.fault(accept_of(task_id), ANSWER_LOST, times):
        stack.post(f"{PROMPT} [agent: report 0.1]", key)
        task = stack.finish(task_id)

    assert messages(task) == [CREATED, *STARTED, *LINES, COMPLETED]
    assert stack.wait_for_outcomes(task_id, 1) == ["accepted"]


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


def test_an_agent_that_no_stop_event_reached_is_told_at_its_next_report_and_stops(
    stack: FaultyDeployment,
):
    task_id = reporting(stack, "report 12")

    with stack.aws.fault(WORKER_START, CUT):
        assert stack.api.request("POST", f"/tasks/{task_id}/cancel").status == 202
    wait_until_gone(stack)

    assert stack.stops(task_id) == 0
    assert stack.task(task_id)["status"] == "processing"
    stack.put_back(task_id, "cancel_requested_at", 61)
    task = stack.task(task_id)
    assert (task["status"], task["error_code"]) == ("error", "cancelled")
    assert len(messages(task)) < len([CREATED, *STARTED, *LINES, COMPLETED])
    eventually(lambda: stack.stops(task_id), lambda stops: stops == 1)  # the reader's doing


def test_what_a_cancelled_agent_reports_at_its_end_is_kept_and_is_no_completed_task(
    stack: FaultyDeployment,
):
    agent = accepted(stack)
    with stack.aws.fault(WORKER_START, CUT):
        stack.api.request("POST", f"/tasks/{agent.task_id}/cancel")

    assert agent.report("Wrote to Green Fern") == {"status": "processing", "continue": False}
    vendors = [{"name": "Green Fern"}]
    ended = agent.report(answer={"response": "I was stopped.", "vendors": vendors})

    assert ended == {"status": "error", "continue": False}
    task = stack.task(agent.task_id)
    assert (task["error_code"], task["agent_response"]) == ("cancelled", "I was stopped.")
    assert task["vendors"] == [{"name": "Green Fern", "emails": []}]
    assert agent.said() == ["Wrote to Green Fern", EXPIRED["cancelled"]]


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
