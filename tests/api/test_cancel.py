"""Cancelling and deleting, on the whole stack: what a poller sees, and how often the agent ran.

Times that would be minutes are put into the past in the table; the 10 s and 20 s after which a
worker looks by itself are waited for, side by side.
"""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from dynamodb_helpers import TaskStore
from local import faults
from local.vendors import build_answer
from tests.api.faulty import (
    BROKEN,
    CUT,
    QUIET,
    WORKER_START,
    FaultyDeployment,
    agent_call_of,
    claim_of,
    end_of,
    faulty_deployment,
    new_task,
)
from tests.api.test_end_to_end import (
    COMPLETED,
    CREATED,
    PROMPT,
    STARTED,
    backdate,
    deliver,
    invoke,
    messages,
    with_no_worker,
)
from tests.conftest import TABLE_NAME, eventually
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


def test_a_task_that_is_cancelled_while_its_worker_cannot_claim_it_never_starts(
    stack: FaultyDeployment,
):
    key, task_id = new_task()

    with stack.aws.fault(claim_of(task_id), BROKEN) as fault:
        stack.post(QUIET, key)
        fault.wait_for(2)
        assert cancel(stack, task_id).status == 200

    assert stack.wait_for_outcomes(task_id, 1) == ["not_claimed"]
    assert_cancelled(stack, task_id, runs=0, last=CANCELLED_UNSTARTED)
    replayed = stack.post(QUIET, key)
    assert (replayed.status, replayed.json()["status"]) == (202, "error")


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


def test_an_agent_that_ends_in_good_order_when_it_is_stopped_has_not_completed_the_task(
    stack: FaultyDeployment,
):
    task_id = stalled(stack, "graceful")

    cancel(stack, task_id)

    task = assert_cancelled(stack, task_id)
    assert task["agent_response"].startswith("Still at it.")


def test_an_agent_that_goes_on_though_it_was_stopped_has_not_completed_the_task(
    stack: FaultyDeployment,
):
    task_id = stalled(stack, "unstoppable 2")

    cancel(stack, task_id)

    assert_cancelled(stack, task_id)
    assert stack.stops(task_id) == 1


def test_a_silent_agent_is_stopped_before_it_has_said_anything(stack: FaultyDeployment):
    task_id = started(stack, "silent")

    before = time.monotonic()
    assert cancel(stack, task_id).status == 202
    task = assert_cancelled(stack, task_id)

    assert time.monotonic() - before < 5  # sooner than any worker looks by itself
    assert messages(task) == [CREATED, *STARTED, CANCELLED]


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


def test_what_an_agent_answered_in_full_before_its_end_was_written_is_kept(
    stack: FaultyDeployment,
):
    """It is cancelled all the same: who was told that it would be must be able to count on it."""
    key, task_id = new_task()

    with stack.aws.fault(end_of(task_id, "completed"), BROKEN) as fault:
        stack.post(QUIET, key)
        fault.wait_for(2)
        assert cancel(stack, task_id).status == 202

    task = assert_cancelled(stack, task_id)
    assert task["agent_response"] == build_answer(PROMPT)["response"]
    assert len(task["vendors"]) == 3


# Who asks, and how often


def test_whoever_asks_twice_is_told_the_same_and_the_stop_is_sent_again(stack: FaultyDeployment):
    task_id = stalled(stack)

    with stack.aws.fault(WORKER_START, CUT):
        first = cancel(stack, task_id)
    second = cancel(stack, task_id)

    assert (first.status, second.status) == (202, 202)
    assert second.json()["cancel_requested_at"] == first.json()["cancel_requested_at"]
    task = assert_cancelled(stack, task_id)
    third = cancel(stack, task_id)
    assert (third.status, third.json()) == (200, task)
    assert stack.task(task_id) == task


@pytest.mark.parametrize("behaviour, status", [("quiet", "completed"), ("error", "error")])
def test_a_task_that_has_ended_otherwise_cannot_be_cancelled_any_more(
    stack: FaultyDeployment, behaviour: str, status: str
):
    task = stack.run(f"{PROMPT} [agent: {behaviour}]")

    answer = cancel(stack, task["id"])

    assert (answer.status, answer.json()["code"]) == (409, "task_ended")
    assert status in answer.json()["error"]
    assert stack.task(task["id"]) == task
    assert stack.stops(task["id"]) == 0


def test_a_task_of_somebody_else_is_not_there_for_cancelling_and_deleting(
    stack: FaultyDeployment,
):
    task_id = str(uuid.uuid4())
    store = TaskStore(stack.client("dynamodb"), TABLE_NAME)
    store.create_task(task_id, PROMPT, "jwt#alice")

    def ask(method: str, path: str, who: str) -> Any:
        event = {"version": "2.0", "routeKey": "$default", "rawPath": path, "headers": {}}
        http = {"method": method, "path": path}
        event["requestContext"] = {
            "http": http,
            "authorizer": {"jwt": {"claims": {"sub": who}, "scopes": None}},
        }
        return invoke(stack, "valro-backend", event)["statusCode"]

    assert cancel(stack, task_id).status == 404
    assert delete(stack, task_id).status == 404
    assert ask("POST", f"/tasks/{task_id}/cancel", "bob") == 404
    assert (stack.item(task_id) or {})["status"] == {"S": "pending"}
    assert ask("POST", f"/tasks/{task_id}/cancel", "alice") == 200
    assert ask("DELETE", f"/tasks/{task_id}", "bob") == 404
    assert ask("DELETE", f"/tasks/{task_id}", "alice") == 204


def test_nobody_can_cancel_or_delete_what_never_was(stack: FaultyDeployment):
    answers = [act(stack, str(uuid.uuid4())) for act in (cancel, delete)]
    assert [(answer.status, answer.json()["code"]) for answer in answers] == [
        (404, "task_not_found"),
        (404, "task_not_found"),
    ]


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


def test_a_worker_that_comes_back_to_a_deleted_task_writes_nothing(stack: FaultyDeployment):
    task_id = stalled(stack, "stall 2")
    backdate(stack, task_id)
    assert stack.task(task_id)["status"] == "error"

    assert delete(stack, task_id).status == 204

    assert stack.wait_for_outcomes(task_id, 1) == ["lost"]
    assert stack.item(task_id) == {"id": {"S": task_id}, "status": {"S": "deleted"}}
    assert stack.logged("valro-worker", task_id, "answer came too late")


def test_a_tombstone_lives_as_long_as_its_task_would_have(stack: FaultyDeployment):
    task_id = str(uuid.uuid4())
    store = TaskStore(stack.client("dynamodb"), TABLE_NAME, ttl_days=1)
    task, _ = store.create_task(task_id, PROMPT)
    store.fail_pending_task(task_id, "", "For a test", "not_started")

    assert delete(stack, task_id).status == 204

    kept = {"N": str(task["expires_at"])}
    assert (stack.item(task_id) or {})["expires_at"] == kept


def test_a_task_that_has_not_ended_cannot_be_deleted(stack: FaultyDeployment):
    pending, running = str(uuid.uuid4()), stalled(stack)
    with_no_worker(stack, pending)

    for task_id in (pending, running):
        answer = delete(stack, task_id)
        assert (answer.status, answer.json()["code"]) == (409, "task_not_final")

    assert stack.task(pending)["status"] == "pending"
    cancel(stack, running)
    assert_cancelled(stack, running)
    assert delete(stack, running).status == 204


def test_an_unreachable_table_deletes_nothing_and_the_next_try_all(stack: FaultyDeployment):
    task = stack.run("[agent: huge 400000]")

    chunks = chunks_of(stack, task["id"])
    with stack.aws.fault({"operation": "TransactWriteItems"}, BROKEN):
        answer = delete(stack, task["id"])

    assert (answer.status, answer.json()["code"]) == (500, "internal_error")
    assert stack.task(task["id"]) == task
    assert chunks_of(stack, task["id"]) == chunks != []
    assert delete(stack, task["id"]).status == 204
    assert chunks_of(stack, task["id"]) == []


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


# Without permission: that there are no routes then either is the deployment's to show


def test_where_nobody_signs_in_and_no_operator_allows_it_nobody_can_cancel_or_delete(
    stack: FaultyDeployment,
):
    task = stack.run(QUIET)
    with stack.function("valro-backend", PUBLIC_CANCEL_AND_DELETE="false"):
        refused = [act(stack, task["id"]) for act in (cancel, delete)]

    assert [(answer.status, answer.json()["code"]) for answer in refused] == [
        (403, "not_allowed"),
        (403, "not_allowed"),
    ]
    assert stack.task(task["id"]) == task
