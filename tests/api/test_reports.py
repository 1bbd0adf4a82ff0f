"""Agents that report, on the whole stack: the real zips, the real gateway, the real reporter.

What may take an agent two minutes or eight hours takes seconds here: the worker's time is made
shorter instead, and what is waited for is put into the past in the table.
"""

import hashlib
import json
import urllib.request
from typing import Any

import pytest

from local.vendors import build_answer, progress_lines
from tests.api.breaking import (
    COMPLETED,
    CREATED,
    PROMPT,
    STARTED,
    at_work,
    changed,
    kill,
    messages,
    outcomes,
    processes,
    put_back,
    stops,
)
from tests.conftest import TABLE_NAME, Deployment, eventually
from valro.tasks import EXPIRED

pytestmark = pytest.mark.e2e

LINES = progress_lines(PROMPT, build_answer(PROMPT))


def token_of(stack: Deployment, task_id: str) -> str:
    """The token that a task's agent was given."""
    return str(stack.stack.agent_report()["reports"][task_id]["token"])


def send(stack: Deployment, task_id: str, body: Any) -> Any:
    """Reports in the agent's place."""
    headers = {"Authorization": f"Bearer {token_of(stack, task_id)}"}
    return stack.api.request("POST", f"/tasks/{task_id}/reports", body, headers)


def accepted(stack: Deployment) -> str:
    """A task whose agent has accepted it and is this test from now on; returns its id."""
    task_id = stack.create(f"{PROMPT} [agent: accept]")
    assert outcomes(stack, task_id, 1) == ["accepted"]
    return task_id


def wait_until_gone(stack: Deployment) -> None:
    """Returns once no process of the sample agent is at work any more."""

    def health() -> str:
        with urllib.request.urlopen(f"{stack.stack.agent_endpoint}/ping", timeout=10) as answer:
            return str(json.load(answer)["status"])

    eventually(health, lambda status: status == "Healthy")


def test_an_agent_reports_for_longer_than_any_worker_may_run_while_no_worker_runs(
    stack: Deployment,
):
    """Two minutes and more need no other proof than these seconds, which no worker had."""
    with changed(stack, "valro-worker", timeout=4):
        task_id = stack.create(f"{PROMPT} [agent: report 5]")
        assert outcomes(stack, task_id, 1) == ["accepted"]
        kill(stack, "valro-worker")
        grown: set[int] = set()

        def look() -> dict[str, Any]:
            assert not processes(stack, "valro-worker")
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
    assert outcomes(stack, task_id) == ["accepted"]
    assert (stack.agent_runs(task_id), stops(stack, task_id)) == (1, 0)
    assert stack.logged("valro-backend", task_id, '"outcome": "completed"')


def test_an_agent_that_dies_silently_is_given_up_its_session_stopped_and_never_run_again(
    stack: Deployment,
):
    task_id = at_work(stack, "report-die")
    wait_until_gone(stack)
    assert stack.task(task_id)["status"] == "processing"

    put_back(stack, task_id, "deadline")
    task = stack.task(task_id)

    assert (task["status"], task["error_code"]) == ("error", "agent_lost")
    assert messages(task) == [CREATED, *STARTED, LINES[0], EXPIRED["agent_lost"]]
    assert outcomes(stack, task_id, 2) == ["accepted", "stopped"]
    assert (stack.agent_runs(task_id), stops(stack, task_id)) == (1, 1)
    late = send(stack, task_id, {"report_id": "late", "messages": ["I am back"], "answer": "Done"})
    assert (late.status, late.json()) == (200, {"status": "error", "continue": False})
    assert stack.task(task_id) == task


def test_the_stop_event_ends_a_cancelled_task_whose_agent_reports_and_its_session(
    stack: Deployment,
):
    task_id = at_work(stack, "report 300")

    assert stack.api.request("POST", f"/tasks/{task_id}/cancel").status == 202

    task = stack.finish(task_id)
    assert (task["status"], task["error_code"]) == ("error", "cancelled")
    assert messages(task) == [CREATED, *STARTED, LINES[0], EXPIRED["cancelled"]]
    assert outcomes(stack, task_id, 2) == ["accepted", "stopped"]
    wait_until_gone(stack)
    assert (stack.agent_runs(task_id), stops(stack, task_id)) == (1, 1)
    assert stack.task(task_id) == task


def test_the_token_is_in_no_table_no_log_and_no_answer_though_the_agent_says_it(stack: Deployment):
    agent, failing = accepted(stack), accepted(stack)
    plain = stack.run(f"{PROMPT} [agent: leak]")
    ids = (agent, failing, plain["id"])
    tokens = [token_of(stack, task_id) for task_id in ids]
    said = f"My token is {tokens[0]}, you know"
    send(stack, agent, b"no report: " + tokens[0].encode())
    vendors = [{"name": said, said: [said]}]
    send(stack, agent, {"report_id": "1", "messages": [said]})
    answer = {"response": said, "vendors": vendors}
    send(stack, agent, {"report_id": "2", "messages": [said], "answer": answer})
    late = send(stack, agent, {"report_id": "3", "answer": {"response": f"Late: {said}"}})
    assert (late.status, late.json()["status"]) == (200, "completed")  # and it is logged
    send(stack, failing, {"report_id": "r", "error": f"Refused: Bearer {tokens[1]}"})

    pages = stack.client("dynamodb").get_paginator("scan").paginate(TableName=TABLE_NAME)
    places = {
        "table": json.dumps([page["Items"] for page in pages]),
        "logs": json.dumps([stack.logged(name) for name in ("valro-backend", "valro-worker")]),
        "answers": json.dumps([stack.task(task_id) for task_id in ids]),
        "list": stack.api.request("GET", "/tasks").body.decode(),
    }

    for token in tokens:
        digest = hashlib.sha256(token.encode()).hexdigest()
        assert [name for name, text in places.items() if token in text] == []
        assert [name for name, text in places.items() if digest in text] == ["table"]
    assert messages(stack.task(agent))[3] == "My token is [token], you know"
    assert "Bearer [token]" in stack.task(failing)["error_message"]
    assert '"token": "[token]"' in plain["agent_response"]
    assert '"token": "[token]"' in messages(plain)[3]
