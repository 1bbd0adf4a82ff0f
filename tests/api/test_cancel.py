"""Cancelling and deleting, on the whole stack: what a poller sees, and how often the agent ran.

Times that would be minutes are put into the past in the table; the 10 s and 20 s after which a
worker looks by itself are waited for, side by side.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from local import faults
from local.vendors import build_answer
from tests.api.faulty import (
    CUT,
    QUIET,
    WORKER_START,
    FaultyDeployment,
    agent_call_of,
    faulty_deployment,
    new_task,
)
from tests.api.test_end_to_end import (
    COMPLETED,
    CREATED,
    PROMPT,
    STARTED,
    deliver,
    invoke,
    messages,
)
from tests.conftest import eventually
from valro.tasks import CANCELLED_UNSTARTED, EXPIRED

pytestmark = pytest.mark.e2e

STALLED = "Waiting for a vendor to answer"
CANCELLED = EXPIRED["cancelled"]
REFUSED = {"error": {"code": "ThrottlingException", "status": 429}}


@pytest.fixture(scope="module")
def stack() -> Iterator[FaultyDeployment]:
    """At this pace the agent has written to some vendors and not to others when it is stopped."""
    with faulty_deployment(pace=0.8) as deployment:
        yield deployment


def cancel(stack: FaultyDeployment, task_id: str) -> Any:
    """Asks for the task's end."""
    return stack.api.request("POST", f"/tasks/{task_id}/cancel")


def delete(stack: FaultyDeployment, task_id: str) -> Any:
    """Asks for the task's removal."""
    return stack.api.request("DELETE", f"/tasks/{task_id}")


def chunks_of(stack: FaultyDeployment, task_id: str) -> list[str]:
    """The ids of what the table has of a task beside its item."""
    return sorted(each for each in stack.ids() if each.startswith(f"{task_id}#"))


def started(stack: FaultyDeployment, behaviour: str) -> str:
    """Posts a task and waits until its agent is at work; returns its id."""
    task_id = stack.create(f"{PROMPT} [agent: {behaviour}]")
    eventually(lambda: stack.agent_runs(task_id), bool)
    return task_id


def stalled(stack: FaultyDeployment, behaviour: str = "stall") -> str:
    """Posts a task and waits until its agent has said something; returns its id."""
    task_id = started(stack, behaviour)
    eventually(lambda: stack.task(task_id), lambda task: len(task["events"]) > 3)
    return task_id


def assert_cancelled(
    stack: FaultyDeployment, task_id: str, runs: int = 1, last: str = CANCELLED
) -> dict[str, Any]:
    """The task ended as cancelled, says so last, and its agent ran so often."""
    task = stack.finish(task_id)
    assert (task["status"], task["error_code"], task["error_message"]) == (
        "error",
        "cancelled",
        last,
    )
    assert messages(task)[-1] == last
    assert COMPLETED not in messages(task)
    assert task["events"][-1]["type"] == "error"
    assert stack.agent_runs(task_id) == runs
    return task


# A worker that is lost takes every other one with it: these come first


def test_a_cancelled_task_whose_worker_was_killed_ends_for_a_reader_within_60_s(
    stack: FaultyDeployment,
):
    task_id = stalled(stack)
    stack.kill("valro-worker")
    assert stack.wait_for_outcomes(task_id, 1) == ["not_claimed"]

    answer = cancel(stack, task_id)

    assert (answer.status, answer.json()["status"]) == (202, "processing")
    eventually(lambda: stack.stops(task_id), bool)  # another worker heard of it
    stack.put_back(task_id, "cancel_requested_at", 55)
    assert stack.task(task_id)["status"] == "processing"
    stack.put_back(task_id, "cancel_requested_at", 61)
    task = assert_cancelled(stack, task_id)
    assert messages(task) == [CREATED, *STARTED, STALLED, CANCELLED]
    event = {name: task[name] for name in ("description", "created_at")} | {"task_id": task_id}
    assert deliver(stack, event, 1) == ["not_claimed"]
    assert stack.task(task_id) == task


# What is asked for now, and waited for at the end


@dataclass
class Waiting:
    """Two tasks that were cancelled while nothing could tell their workers."""

    silent: str
    throttled: str
    since: float


@pytest.fixture(scope="module")
def waiting(stack: FaultyDeployment) -> Iterator[Waiting]:
    silent = started(stack, "silent")
    key, throttled = new_task()
    with stack.agent.fault(agent_call_of(throttled), REFUSED) as fault:
        stack.post(QUIET, key)
        fault.wait_for(2)
        with stack.aws.fault(WORKER_START, CUT):
            answers = [cancel(stack, task_id) for task_id in (silent, throttled)]
        assert [answer.status for answer in answers] == [202, 202]
        yield Waiting(silent, throttled, time.monotonic())


def test_a_cancellation_whose_stop_event_is_lost_is_a_202_that_says_when_it_was_requested(
    stack: FaultyDeployment, waiting: Waiting
):
    for task_id in (waiting.silent, waiting.throttled):
        task = stack.task(task_id)
        assert task["status"] == "processing"
        assert task["created_at"] < task["cancel_requested_at"]
        assert stack.stops(task_id) == 0


# Pending


def test_a_task_whose_worker_has_no_concurrency_is_cancelled_and_never_starts(
    stack: FaultyDeployment,
):
    client = stack.client("lambda")
    client.put_function_concurrency(FunctionName="valro-worker", ReservedConcurrentExecutions=0)
    try:
        task_id = stack.create(QUIET)
        answer = cancel(stack, task_id)
    finally:
        client.delete_function_concurrency(FunctionName="valro-worker")

    assert (answer.status, answer.json()["error_code"]) == (200, "cancelled")
    task = assert_cancelled(stack, task_id, runs=0, last=CANCELLED_UNSTARTED)
    assert answer.json() == task
    assert messages(task) == [CREATED, CANCELLED_UNSTARTED]
    event = {name: task[name] for name in ("description", "created_at")} | {"task_id": task_id}
    assert deliver(stack, event, 2) == ["not_claimed", "not_claimed"]
    assert stack.agent_runs(task_id) == 0


# In mid-stream


def test_an_agent_in_mid_stream_is_stopped_within_2_s_and_whom_it_wrote_to_is_kept(
    stack: FaultyDeployment,
):
    task_id = stack.create(PROMPT)
    eventually(lambda: stack.task(task_id), lambda task: "E-mailed" in str(messages(task)))

    before = time.monotonic()
    answer = cancel(stack, task_id)
    eventually(lambda: stack.stops(task_id), bool)
    assert time.monotonic() - before < 2

    assert (answer.status, answer.json()["status"]) == (202, "processing")
    task = assert_cancelled(stack, task_id)
    # Both the worker's own: no reader ended it.
    assert sorted(stack.wait_for_outcomes(task_id, 2)) == ["cancelled", "stopped"]
    assert task["cancel_requested_at"] == answer.json()["cancel_requested_at"]
    assert task["cancel_requested_at"] < task["updated_at"]
    whole = build_answer(PROMPT)["vendors"]
    named = [vendor["name"] for vendor in task["vendors"]]
    assert named == [vendor["name"] for vendor in whole][: len(named)]
    assert 0 < len(named) == task["emails_sent"]
    lines = [line for line in messages(task) if line.startswith("E-mailed")]
    assert 0 < len(lines) <= len(named)
    assert all(len(vendor["emails"]) == 1 for vendor in task["vendors"])
    eventually(lambda: stack.stack.agent_report()["running"], lambda ids: task_id not in ids)


def test_a_refused_write_of_progress_stops_the_session_though_the_stop_event_is_lost(
    stack: FaultyDeployment,
):
    key, task_id = new_task()
    stack.post(PROMPT, key)
    eventually(lambda: stack.task(task_id), lambda task: len(task["events"]) > 3)

    with stack.aws.fault(WORKER_START, CUT):
        assert cancel(stack, task_id).status == 202
    assert stack.stops(task_id) == 0

    task = assert_cancelled(stack, task_id)
    assert stack.stops(task_id) > 0
    assert 0 < len(task["vendors"]) < 3  # it was not heard out
    assert stack.logged("valro-backend", task_id, "stop not sent")
    assert stack.wait_for_outcomes(task_id, 1) == ["cancelled"]


# Deleting


def test_a_deleted_task_is_gone_with_its_chunks_and_its_key_never_runs_the_agent_again(
    stack: FaultyDeployment,
):
    key, task_id = new_task()
    description = "[agent: huge 400000]"
    stack.post(description, key)
    task = stack.finish(task_id)
    assert task["agent_response"] == faults.random_text(400_000)
    assert len(chunks_of(stack, task_id)) > 1

    answer = delete(stack, task_id)

    assert (answer.status, answer.body) == (204, b"")
    assert chunks_of(stack, task_id) == []
    tombstone = {"id": {"S": task_id}, "status": {"S": "deleted"}}
    assert stack.item(task_id) == tombstone
    assert stack.api.request("GET", f"/tasks/{task_id}").status == 404
    assert task_id not in {each["id"] for each in stack.api.request("GET", "/tasks").json()}
    assert [act(stack, task_id).status for act in (cancel, delete)] == [404, 404]
    for body in (description, PROMPT):
        again = stack.post(body, key)
        assert (again.status, again.json()["code"]) == (410, "task_deleted")
    by_hand = {"task_id": task_id, "description": description}
    late = by_hand | {"created_at": task["created_at"]}
    outcomes = [*deliver(stack, late, 2), *deliver(stack, by_hand, 2)]
    assert outcomes == ["deleted"] * 4
    assert invoke(stack, "valro-worker", {"stop": task_id})["outcome"] == "nothing_to_stop"
    assert stack.item(task_id) == tombstone
    assert stack.agent_runs(task_id) == 1


# Now what was asked for at first


def test_a_task_cancelled_while_its_agent_was_throttled_starts_nothing_from_10_s_after(
    stack: FaultyDeployment, waiting: Waiting
):
    task = assert_cancelled(
        stack,
        waiting.throttled,
        runs=0,
        last="Cancelled. The agent was not started, so no vendor was contacted.",
    )

    assert messages(task)[:-1] == [CREATED, *STARTED]
    assert stack.wait_for_outcomes(waiting.throttled, 1) == ["cancelled"]


def test_a_worker_that_nobody_told_looks_within_20_s_and_stops_the_session(
    stack: FaultyDeployment, waiting: Waiting
):
    task = assert_cancelled(stack, waiting.silent)

    assert time.monotonic() - waiting.since < 30
    assert messages(task) == [CREATED, *STARTED, CANCELLED]
    assert stack.wait_for_outcomes(waiting.silent, 1) == ["cancelled"]
    assert stack.stops(waiting.silent) == 1
    running = stack.stack.agent_report
    eventually(lambda: running()["running"], lambda ids: waiting.silent not in ids)
