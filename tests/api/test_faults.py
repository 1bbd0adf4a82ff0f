"""The real thing, broken: what a poller sees of every fault, and how often the agent ran.

The deployed stack, with microburst (a proxy that speaks AWS's errors) between the functions and
DynamoDB, Lambda and AgentCore. A fault that did not happen fails its test.
"""

import json
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qsl

import pytest

from dynamodb_helpers import TaskStore
from local import faults
from local.vendors import build_answer, progress_lines
from tests.api.faulty import (
    ANSWER_LOST,
    BARE_ANSWER_LOST,
    BROKEN,
    CUT,
    HELD,
    QUIET,
    THROTTLED,
    WORKER_START,
    FaultyDeployment,
    Rule,
    Wire,
    agent_call_of,
    claim_of,
    end_of,
    faulty_deployment,
    large_end_of,
    new_task,
    progress_of,
    put_of,
    read_of,
)
from tests.api.test_end_to_end import (
    COMPLETED,
    CREATED,
    PROMPT,
    STARTED,
    backdate,
    invoke,
    messages,
    with_no_worker,
)
from tests.conftest import TABLE_NAME, eventually
from valro.tasks import EXPIRED, Outcome, timestamp

pytestmark = pytest.mark.e2e

NOT_STARTED = "The agent was not started, so no vendor was contacted."
MAY_HAVE_ACTED = "The agent may already have contacted vendors."
NO_WORKER = "Please submit it again, with a new Idempotency-Key if any."


@pytest.fixture(scope="module")
def stack() -> Iterator[FaultyDeployment]:
    """The backend on a local AWS, with a fault proxy between it and everything that it calls."""
    with faulty_deployment() as deployment:
        yield deployment


def seconds_taken(task: dict[str, Any]) -> float:
    """The seconds from a task's claim to its last event."""
    claimed, ended = (
        time.strptime(task["events"][index]["ts"][:19], "%Y-%m-%dT%H:%M:%S") for index in (1, -1)
    )
    return time.mktime(ended) - time.mktime(claimed)


def assert_completed(stack: FaultyDeployment, task: dict[str, Any], lines: list[str]) -> None:
    """The task is as if nothing had happened, and its agent ran once."""
    assert task["status"] == "completed"
    assert messages(task) == [CREATED, *STARTED, *lines, COMPLETED]
    assert task["agent_response"] == build_answer(PROMPT)["response"]
    assert "error_message" not in task
    assert stack.agent_runs(task["id"]) == 1


def assert_failed(stack: FaultyDeployment, task: dict[str, Any], words: str, runs: int) -> None:
    """The task ended with these words as its last event too, and its agent ran so often."""
    assert task["status"] == "error"
    assert task["error_message"] == words
    assert messages(task) == [CREATED, *STARTED, f"Agent error: {words}"]
    assert task["events"][-1]["type"] == "error"
    assert stack.agent_runs(task["id"]) == runs


# DynamoDB, while the task is created


@pytest.mark.parametrize("what", [THROTTLED, BROKEN, CUT], ids=["throttled", "500", "cut"])
def test_a_post_that_cannot_be_written_is_a_500_and_the_same_key_works_later(
    stack: FaultyDeployment, what: Rule
):
    key, task_id = new_task()

    with stack.aws.fault(put_of(task_id), what) as fault:
        answer = stack.post(QUIET, key)
        assert fault.strikes() == 2

    assert (answer.status, answer.json()["code"]) == (500, "internal_error")
    assert stack.api.request("GET", f"/tasks/{task_id}").status == 404
    assert stack.agent_runs(task_id) == 0
    again = stack.post(QUIET, key)
    assert (again.status, again.json()["id"]) == (202, task_id)
    assert "Idempotent-Replayed" not in again.headers
    assert_completed(stack, stack.finish(task_id), [])


def test_one_lost_answer_to_the_first_write_is_not_noticed(stack: FaultyDeployment):
    """Botocore writes again, and the store recognises its own task."""
    key, task_id = new_task()

    with stack.aws.fault(put_of(task_id), ANSWER_LOST, times=1):
        answer = stack.post(QUIET, key)

    assert answer.status == 202
    assert "Idempotent-Replayed" not in answer.headers
    assert_completed(stack, stack.finish(task_id), [])


def test_a_post_whose_write_is_never_confirmed_is_started_by_the_same_key_30_s_later(
    stack: FaultyDeployment,
):
    """The task is there, though its client saw a 500: it ends in any case, and runs once at most."""
    key, task_id = new_task()
    with stack.aws.fault(put_of(task_id), ANSWER_LOST):
        assert stack.post(QUIET, key).status == 500
    assert stack.task(task_id)["status"] == "pending"

    stack.put_back(task_id, "created_at", 31)
    answer = stack.post(QUIET, key)

    assert (answer.status, answer.headers["Idempotent-Replayed"]) == (202, "true")
    assert_completed(stack, stack.finish(task_id), [])


# Lambda, when the worker is to be started


@pytest.mark.parametrize(
    "what, reason",
    [
        ({"error": {"code": "TooManyRequestsException"}}, "TooManyRequestsException"),
        ({"error": {"code": "ServiceException"}}, "ServiceException"),
        ({"error": {"code": "AccessDeniedException", "status": 403}}, "AccessDeniedException"),
        (CUT, "no connection"),
    ],
    ids=["throttled", "500", "no access", "cut"],
)
def test_a_worker_that_cannot_be_started_is_a_502_and_the_task_is_kept_as_an_error(
    stack: FaultyDeployment, what: Rule, reason: str
):
    key, task_id = new_task()

    with stack.aws.fault(WORKER_START, what):
        answer = stack.post(QUIET, key)
    task = stack.task(task_id)

    words = f"The worker could not be started ({reason}). {NOT_STARTED}"
    assert (answer.status, answer.json()) == (
        502,
        {"error": f"{words} {NO_WORKER}", "code": "worker_unavailable", "id": task_id},
    )
    assert (task["status"], task["error_message"]) == ("error", words)
    assert messages(task) == [CREATED, f"Error invoking worker: {words}"]
    assert (stack.post(QUIET, key).status, stack.task(task_id)) == (502, task)
    assert stack.agent_runs(task_id) == 0


def test_a_worker_started_at_the_second_try_is_not_noticed(stack: FaultyDeployment):
    key, task_id = new_task()

    with stack.aws.fault(WORKER_START, {"error": {"code": "ServiceException"}}, times=1):
        answer = stack.post(QUIET, key)

    assert answer.status == 202
    assert_completed(stack, stack.finish(task_id), [])


def test_a_worker_whose_start_was_not_confirmed_is_started_twice_and_the_agent_once(
    stack: FaultyDeployment,
):
    key, task_id = new_task()

    with stack.aws.fault(WORKER_START, BARE_ANSWER_LOST, times=1):
        answer = stack.post(QUIET, key)

    assert answer.status == 202
    assert_completed(stack, stack.finish(task_id), [])
    outcomes = eventually(lambda: stack.outcomes(task_id), lambda seen: len(seen) == 2)
    assert sorted(outcomes) == ["completed", "not_claimed"]


def test_a_worker_whose_start_is_never_confirmed_is_a_202_since_it_has_the_task(
    stack: FaultyDeployment,
):
    key, task_id = new_task()

    # The second try is held until the worker that the first one started has surely claimed.
    with stack.aws.fault(WORKER_START, {**BARE_ANSWER_LOST, "latency": 1500}):
        answer = stack.post(QUIET, key)

    assert (answer.status, answer.json()["status"]) == (202, "completed")
    assert_completed(stack, stack.finish(task_id), [])


def test_a_task_whose_worker_and_whose_failure_both_got_lost_stays_pending_and_ends(
    stack: FaultyDeployment,
):
    """Nobody knows whether a worker has it, so its client is told no lie; its deadline ends it."""
    key, task_id = new_task()

    with stack.aws.fault(WORKER_START, CUT), stack.aws.fault(end_of(task_id, "error"), BROKEN):
        answer = stack.post(QUIET, key)

    assert (answer.status, answer.json()["status"]) == (202, "pending")
    assert stack.task(task_id)["status"] == "pending"
    backdate(stack, task_id)
    task = stack.task(task_id)
    assert (task["status"], task["error_message"]) == ("error", EXPIRED["not_started"])
    assert messages(task) == [CREATED, EXPIRED["not_started"]]
    assert stack.agent_runs(task_id) == 0


# DynamoDB, when the task is claimed


@pytest.mark.parametrize("what", [THROTTLED, BROKEN], ids=["throttled", "500"])
def test_a_claim_that_fails_for_seconds_only_delays_the_task(stack: FaultyDeployment, what: Rule):
    key, task_id = new_task()

    with stack.aws.fault(claim_of(task_id), what) as fault:
        assert stack.post(QUIET, key).status == 202
        fault.wait_for(6)
        assert messages(stack.task(task_id)) == [CREATED]

    assert_completed(stack, stack.finish(task_id), [])
    assert stack.wait_for_outcomes(task_id, 1) == ["completed"]


@pytest.mark.parametrize("times", [1, 4], ids=["once", "four times"])
def test_a_claim_whose_answer_is_lost_is_still_the_workers_own(stack: FaultyDeployment, times: int):
    key, task_id = new_task()

    with stack.aws.fault(claim_of(task_id), ANSWER_LOST, times) as fault:
        stack.post(QUIET, key)
        fault.wait_for(1)
        task = stack.finish(task_id)

    assert_completed(stack, task, [])


def test_a_claim_that_fails_for_longer_than_a_worker_tries_is_for_the_next_delivery(
    stack: FaultyDeployment,
):
    key, task_id = new_task()

    with stack.worker(timeout=10):
        before = stack.deliveries()
        with stack.aws.fault(claim_of(task_id), BROKEN):
            stack.post(QUIET, key)
            eventually(stack.deliveries, lambda ended: ended > before, 30)
        task = stack.finish(task_id)

    assert_completed(stack, task, [])
    assert stack.wait_for_outcomes(task_id, 1) == ["completed"]


def test_a_claim_that_fails_in_every_delivery_ends_the_task_16_minutes_after_its_post(
    stack: FaultyDeployment,
):
    key, task_id = new_task()

    with stack.worker(timeout=10), stack.aws.fault(claim_of(task_id), BROKEN):
        before = stack.deliveries()
        stack.post(QUIET, key)
        eventually(stack.deliveries, lambda ended: ended == before + 3, 30)
    assert stack.task(task_id)["status"] == "pending"

    backdate(stack, task_id)
    task = stack.task(task_id)
    assert (task["status"], task["error_message"]) == ("error", EXPIRED["not_started"])
    assert messages(task) == [CREATED, EXPIRED["not_started"]]
    assert stack.agent_runs(task_id) == 0


# DynamoDB, while the agent says what it does


@pytest.mark.parametrize(
    "what", [THROTTLED, BROKEN, ANSWER_LOST], ids=["throttled", "500", "answer lost"]
)
def test_no_line_of_progress_is_lost_or_there_twice(stack: FaultyDeployment, what: Rule):
    """What could not be written rides in the next write; what arrived unnoticed is not repeated."""
    key, task_id = new_task()

    with stack.aws.fault(progress_of(task_id), what):
        stack.post(PROMPT, key)
        task = stack.finish(task_id)

    assert_completed(stack, task, progress_lines(PROMPT, build_answer(PROMPT)))


# DynamoDB, when the outcome is written


@pytest.mark.parametrize("what", [THROTTLED, BROKEN], ids=["throttled", "500"])
def test_an_outcome_that_cannot_be_written_for_seconds_is_only_late(
    stack: FaultyDeployment, what: Rule
):
    key, task_id = new_task()

    with stack.aws.fault(end_of(task_id, "completed"), what) as fault:
        stack.post(QUIET, key)
        fault.wait_for(6)
        assert messages(stack.task(task_id)) == [CREATED, *STARTED]

    assert_completed(stack, stack.finish(task_id), [])


@pytest.mark.parametrize("times", [1, 4], ids=["once", "four times"])
def test_an_outcome_whose_answer_is_lost_is_written_once(stack: FaultyDeployment, times: int):
    key, task_id = new_task()

    with stack.aws.fault(end_of(task_id, "completed"), ANSWER_LOST, times):
        stack.post(QUIET, key)
        task = stack.finish(task_id)
        assert stack.wait_for_outcomes(task_id, 1) == ["completed"]

    assert_completed(stack, task, [])
    assert stack.task(task_id) == task


@pytest.mark.parametrize("what", [BROKEN, ANSWER_LOST], ids=["500", "answer lost"])
def test_a_failure_whose_write_fails_too_is_written_once(stack: FaultyDeployment, what: Rule):
    key, task_id = new_task()

    with stack.aws.fault(end_of(task_id, "error"), what, times=3) as fault:
        stack.post("[agent: error]", key)
        fault.wait_for(1)
        task = stack.finish(task_id)

    assert_failed(stack, task, f"The vendor directory is closed today. {MAY_HAVE_ACTED}", runs=1)


@pytest.mark.parametrize("what", [BROKEN, ANSWER_LOST], ids=["500", "answer lost"])
def test_a_large_answer_whose_write_fails_is_there_once_and_whole(
    stack: FaultyDeployment, what: Rule
):
    key, task_id = new_task()
    size = 500_000  # in chunks, and still a body that the proxy takes: at most 1 MiB

    with stack.aws.fault(large_end_of(task_id), what, times=3) as fault:
        stack.post(f"[agent: huge {size}]", key)
        fault.wait_for(1)
        task = stack.finish(task_id)

    assert messages(task) == [CREATED, *STARTED, COMPLETED]
    assert task["agent_response"] == faults.random_text(size)
    assert stack.agent_runs(task_id) == 1


def test_an_outcome_that_is_never_written_is_in_the_log_and_the_task_ends(
    stack: FaultyDeployment,
):
    key, task_id = new_task()

    with stack.worker(timeout=11), stack.aws.fault(end_of(task_id, "completed"), BROKEN):
        stack.post(QUIET, key)
        outcomes = stack.wait_for_outcomes(task_id, 2)

    assert outcomes == ["lost", "not_claimed"]
    assert stack.task(task_id)["status"] == "processing"
    # A try may be two calls, for which a function of 11 s has no time: so it is there before.
    lines = stack.logged("valro-worker", task_id, "answer, in case it cannot be written")
    parts = [json.loads(line[line.index("{") :]) for line in lines]
    answer = json.loads("".join(part["text"] for part in parts))
    assert answer["agent_response"] == build_answer(PROMPT)["response"]
    backdate(stack, task_id)
    task = stack.task(task_id)
    assert (task["status"], task["error_message"]) == ("error", EXPIRED["worker_lost"])
    assert messages(task) == [CREATED, *STARTED, EXPIRED["worker_lost"]]
    assert stack.agent_runs(task_id) == 1


def test_an_answer_after_the_deadline_is_logged_and_does_not_change_what_was_final(
    stack: FaultyDeployment,
):
    key, task_id = new_task()
    stack.post(f"{PROMPT} [agent: stall 2]", key)
    eventually(lambda: stack.task(task_id), lambda task: len(task["events"]) > 3)

    backdate(stack, task_id)
    task = stack.task(task_id)

    assert (task["status"], task["error_message"]) == ("error", EXPIRED["worker_lost"])
    assert stack.wait_for_outcomes(task_id, 1) == ["lost"]
    assert stack.logged("valro-worker", task_id, "answer came too late")
    assert stack.task(task_id) == task
    assert stack.agent_runs(task_id) == 1


# DynamoDB, while somebody reads


@pytest.mark.parametrize("what", [THROTTLED, BROKEN, CUT], ids=["throttled", "500", "cut"])
def test_a_poll_that_cannot_read_is_a_500_and_the_next_one_sees_the_task(
    stack: FaultyDeployment, what: Rule
):
    task = stack.run(QUIET)

    with stack.aws.fault(read_of(task["id"]), what):
        answer = stack.api.request("GET", f"/tasks/{task['id']}")

    assert (answer.status, answer.json()["code"]) == (500, "internal_error")
    assert stack.task(task["id"]) == task


def test_a_list_that_cannot_read_is_a_500_and_the_next_one_is_whole(stack: FaultyDeployment):
    task = stack.run(QUIET)

    with stack.aws.fault({"service": "dynamodb", "operation": "BatchGetItem"}, THROTTLED):
        answer = stack.api.request("GET", "/tasks")

    assert (answer.status, answer.json()["code"]) == (500, "internal_error")
    assert task["id"] in {listed["id"] for listed in stack.api.request("GET", "/tasks").json()}


@pytest.mark.parametrize("what", [BROKEN, ANSWER_LOST], ids=["500", "answer lost"])
def test_a_read_that_cannot_end_an_overdue_task_leaves_that_to_the_next_read(
    stack: FaultyDeployment, what: Rule
):
    task_id = str(uuid.uuid4())
    with_no_worker(stack, task_id)
    backdate(stack, task_id)

    with stack.aws.fault(end_of(task_id, "error"), what):
        stack.api.request("GET", f"/tasks/{task_id}")
    task = stack.task(task_id)

    assert (task["status"], task["error_message"]) == ("error", EXPIRED["not_started"])
    assert messages(task) == [CREATED, EXPIRED["not_started"]]


# Processes that die


def test_an_api_killed_before_it_started_the_worker_leaves_a_task_that_the_same_key_starts(
    stack: FaultyDeployment,
):
    key, task_id = new_task()

    with ThreadPoolExecutor(1) as pool, stack.aws.fault(WORKER_START, HELD, times=1) as fault:
        # Not through the API that knows its contract: what the gateway says here is its own.
        body, header = {"description": QUIET}, {"Idempotency-Key": key}
        posting = pool.submit(stack.stack.api.request, "POST", "/tasks", body, header)
        fault.wait_for(1)
        stack.kill("valro-backend")
        assert posting.result().status >= 500

    assert stack.task(task_id)["status"] == "pending"
    assert stack.agent_runs(task_id) == 0
    stack.put_back(task_id, "created_at", 31)
    assert stack.post(QUIET, key).status == 202
    assert_completed(stack, stack.finish(task_id), [])


def test_a_worker_killed_before_its_claim_is_replaced(stack: FaultyDeployment):
    """Nothing had been started, so the next delivery of the event may run the agent."""
    key, task_id = new_task()

    with stack.aws.fault(claim_of(task_id), HELD, times=1) as fault:
        stack.post(QUIET, key)
        fault.wait_for(1)
        stack.kill("valro-worker")
        task = stack.finish(task_id)

    assert_completed(stack, task, [])


def test_a_worker_killed_in_mid_stream_is_not_replaced(stack: FaultyDeployment):
    key, task_id = new_task()
    stack.post(f"{PROMPT} [agent: stall]", key)
    eventually(lambda: stack.task(task_id), lambda task: len(task["events"]) > 3)

    stack.kill("valro-worker")

    assert stack.wait_for_outcomes(task_id, 1) == ["not_claimed"]
    assert stack.task(task_id)["status"] == "processing"
    backdate(stack, task_id)
    task = stack.task(task_id)
    assert (task["status"], task["error_message"]) == ("error", EXPIRED["worker_lost"])
    lines = ["Waiting for a vendor to answer", EXPIRED["worker_lost"]]
    assert messages(task) == [CREATED, *STARTED, *lines]
    assert stack.agent_runs(task_id) == 1


def test_a_worker_killed_while_it_writes_the_outcome_is_not_replaced(stack: FaultyDeployment):
    key, task_id = new_task()

    with stack.aws.fault(end_of(task_id, "completed"), HELD) as fault:
        stack.post(QUIET, key)
        fault.wait_for(1)
        stack.kill("valro-worker")
        assert stack.wait_for_outcomes(task_id, 1) == ["not_claimed"]

    backdate(stack, task_id)
    task = stack.task(task_id)
    assert (task["status"], task["error_message"]) == ("error", EXPIRED["worker_lost"])
    assert stack.agent_runs(task_id) == 1


# A worker without an agent


def test_a_worker_without_its_configuration_ends_the_task_when_it_starts(stack: FaultyDeployment):
    with stack.worker(timeout=600, AGENT_RUNTIME_ARN=""):
        task = stack.run(QUIET)

    assert (task["status"], task["error_message"]) == ("error", "AGENT_RUNTIME_ARN not set")
    assert messages(task) == [CREATED, "Agent error: AGENT_RUNTIME_ARN not set"]
    assert stack.agent_runs(task["id"]) == 0


# AgentCore, before it runs the agent


@pytest.mark.parametrize(
    "what, words",
    [
        ({"error": {"code": "InternalServerException", "status": 500}},
         f"The agent's service failed (InternalServerException). {MAY_HAVE_ACTED}"),
        ({"error": {"code": "ServiceUnavailableException", "status": 503}},
         f"The agent's service failed (ServiceUnavailableException). {MAY_HAVE_ACTED}"),
        ({"error": {"code": "RuntimeClientError", "status": 424}},
         f"The agent failed. {MAY_HAVE_ACTED}"),
        ({"error": {"code": "AccessDeniedException", "status": 403}},
         f"The agent could not be called (AccessDeniedException). {NOT_STARTED}"),
        ({"error": {"code": "ResourceNotFoundException", "status": 404}},
         f"The agent could not be called (ResourceNotFoundException). {NOT_STARTED}"),
        ({"error": {"code": "ThrottlingException", "status": 424}},
         f"The agent failed. {MAY_HAVE_ACTED}"),
        ({"error": {"code": "ThrottlingException", "status": 502}},
         f"The agent's service failed (ThrottlingException). {MAY_HAVE_ACTED}"),
        (CUT, f"The connection to the agent was lost. {MAY_HAVE_ACTED}"),
    ],
    ids=["500", "503", "424", "403", "404", "a code under 424", "a code under 502", "cut"],
)  # fmt: skip
def test_a_call_that_fails_in_any_way_that_may_have_started_the_agent_is_made_once(
    stack: FaultyDeployment, what: Rule, words: str
):
    key, task_id = new_task()

    with stack.agent.fault(agent_call_of(task_id), what) as fault:
        stack.post(QUIET, key)
        task = stack.finish(task_id)
        assert fault.strikes() == 1

    assert_failed(stack, task, words, runs=0)
    assert stack.stops(task_id) == (1 if "service" in words or "connection" in words else 0)


@pytest.mark.parametrize(
    "what",
    [
        {"error": {"code": "ThrottlingException", "status": 429}},
        {"error": {"code": "RetryableConflictException", "status": 409}},
        {"error": {"code": "ServiceQuotaExceededException", "status": 402}},
    ],
    ids=["429", "409", "402"],
)
def test_an_agent_that_is_refused_is_called_again_and_runs_once(
    stack: FaultyDeployment, what: Rule
):
    key, task_id = new_task()

    with stack.agent.fault(agent_call_of(task_id), what, times=2) as fault:
        stack.post(QUIET, key)
        fault.wait_for(2)
        assert_completed(stack, stack.finish(task_id), [])


def test_an_agent_that_is_refused_all_the_time_was_not_started(stack: FaultyDeployment):
    key, task_id = new_task()
    throttled = {"error": {"code": "ThrottlingException", "status": 429}}

    with stack.worker(timeout=6), stack.agent.fault(agent_call_of(task_id), throttled) as fault:
        stack.post(QUIET, key)
        task = stack.finish(task_id)
        assert fault.strikes() > 1

    words = f"The agent was too busy, or out of reach, for too long. {NOT_STARTED}"
    assert_failed(stack, task, words, runs=0)
    assert stack.stops(task_id) == 0


def test_an_agent_that_refuses_connections_was_not_started(stack: FaultyDeployment):
    key, task_id = new_task()
    with socket.socket() as closed:  # bound, so nobody else takes it, and not listening
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with stack.worker(timeout=6, AWS_ENDPOINT_URL_BEDROCK_AGENTCORE=nowhere):
            stack.post(QUIET, key)
            task = stack.finish(task_id)

    words = f"The agent was too busy, or out of reach, for too long. {NOT_STARTED}"
    assert_failed(stack, task, words, runs=0)


# The agent's answer


@pytest.mark.parametrize(
    "behaviour, lines, words",
    [
        ("fail", [], "The agent failed."),
        ("fail-midway",
         ["Looking for landscapers in Charlotte within $300", "Found 3 landscapers within $300"],
         "The sample agent was told to fail in mid-stream."),
        ("fail-wordless", ["Looking for vendors"], "An error occurred during streaming."),
        ("error", [], "The vendor directory is closed today."),
        ("cut", ["Looking for vendors"], "The connection to the agent was lost."),
        ("invalid-json", [], "The agent's answer cannot be read."),
        ("invalid-utf8", [], "The agent's answer cannot be read."),
        ("empty", [], "The agent ended without an answer."),
    ],
)  # fmt: skip
def test_an_agent_that_fails_ends_the_task_in_words_and_is_run_once(
    stack: FaultyDeployment, behaviour: str, lines: list[str], words: str
):
    task = stack.run(f"{PROMPT} [agent: {behaviour}]")

    said = f"{words} {MAY_HAVE_ACTED}"
    assert (task["status"], task["error_message"]) == ("error", said)
    assert messages(task) == [CREATED, *STARTED, *lines, f"Agent error: {said}"]
    assert stack.agent_runs(task["id"]) == 1
    assert stack.wait_for_outcomes(task["id"], 1) == ["error"]


@pytest.mark.parametrize("cut_after", [0, 300], ids=["before it began", "in the middle"])
def test_an_answer_that_is_lost_is_not_asked_for_again(stack: FaultyDeployment, cut_after: int):
    """The agent has run: its answer is lost, not its e-mails."""
    key, task_id = new_task()

    with stack.agent.fault(
        agent_call_of(task_id), {"response": {"abort_bytes": cut_after}}
    ) as fault:
        stack.post(QUIET, key)
        task = stack.finish(task_id)
        assert fault.strikes() == 1

    words = f"The connection to the agent was lost. {MAY_HAVE_ACTED}"
    assert_failed(stack, task, words, runs=1)
    assert stack.stops(task_id) == 1


def test_an_answer_cut_so_that_it_looks_whole_is_not_taken_for_one(stack: FaultyDeployment):
    key, task_id = new_task()

    with stack.agent.fault(agent_call_of(task_id), {"response": {"truncate_bytes": 300}}):
        stack.post(f"{PROMPT} [agent: json]", key)
        task = stack.finish(task_id)

    words = f"The agent's answer cannot be read. {MAY_HAVE_ACTED}"
    assert_failed(stack, task, words, runs=1)


def test_an_answer_of_20_mb_is_cut_and_says_so(stack: FaultyDeployment):
    size = 20_000_000
    # What is kept of it is a body larger than the proxy takes.
    directly = stack.stack.endpoint

    with stack.worker(timeout=600, AWS_ENDPOINT_URL_DYNAMODB=directly):
        task = stack.run(f"[agent: huge {size}]")

    kept = len(task["agent_response"])
    assert task["status"] == "completed"
    assert task["agent_response_truncated"] is True
    assert 3_400_000 < kept < 3_500_000
    assert task["agent_response"] == faults.random_text(size)[:kept]
    cut = f"The agent's answer was too long: {size - kept:,} bytes of it were cut"
    assert messages(task) == [CREATED, *STARTED, cut, COMPLETED]
    assert stack.agent_runs(task["id"]) == 1


# Time


@pytest.mark.parametrize("behaviour", ["stall", "drip"])
def test_an_agent_that_never_ends_leaves_time_to_say_so_and_is_asked_to_stop_once(
    stack: FaultyDeployment, behaviour: str
):
    """The outcome is there before Lambda would kill the worker, with a timeout of 5 s too."""
    with stack.worker(timeout=5):
        task = stack.run(f"{PROMPT} [agent: {behaviour}]")
        outcomes = stack.wait_for_outcomes(task["id"], 1)

    assert (task["status"], outcomes) == ("error", ["error"])
    assert task["error_message"] == f"The agent did not finish in time. {MAY_HAVE_ACTED}"
    assert 3 < seconds_taken(task) < 5
    assert task.get("agent_response", "").startswith("Still at it." if behaviour == "drip" else "")
    assert (stack.agent_runs(task["id"]), stack.stops(task["id"])) == (1, 1)
    eventually(lambda: stack.stack.agent_report()["running"], lambda ids: task["id"] not in ids)


def test_a_runtime_that_never_answers_leaves_time_to_say_so(stack: FaultyDeployment):
    key, task_id = new_task()

    with stack.worker(timeout=5), stack.agent.fault(agent_call_of(task_id), HELD) as fault:
        stack.post(QUIET, key)
        task = stack.finish(task_id)
        assert fault.strikes() == 1

    assert_failed(stack, task, f"The agent did not finish in time. {MAY_HAVE_ACTED}", runs=0)
    assert seconds_taken(task) < 5
    assert stack.stops(task_id) == 1


def test_a_session_that_cannot_be_stopped_changes_nothing(stack: FaultyDeployment):
    """The outcome is written first, and nobody asks a second time."""
    stop = {"operation": "StopRuntimeSession"}

    with stack.agent.fault(stop, {"error": {"code": "InternalServerException", "status": 500}}) as (
        fault
    ):
        task = stack.run(f"{PROMPT} [agent: cut]")
        assert stack.wait_for_outcomes(task["id"], 1) == ["error"]
        fault.wait_for(1)
        eventually(lambda: stack.logged("valro-worker", task["id"], "session not stopped"), bool)
        assert fault.strikes() == 1

    assert task["error_message"] == f"The connection to the agent was lost. {MAY_HAVE_ACTED}"
    assert stack.agent_runs(task["id"]) == 1


# Below what AWS's errors are: the wire


def test_an_error_of_lambdas_that_is_cut_is_a_502_since_nothing_was_taken(
    stack: FaultyDeployment,
):
    """Lambda's Invoke streams, so that this leaves botocore as an error of urllib3's."""
    key, task_id = new_task()
    cut = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 900\r\n\r\n{"

    with Wire(stack.stack.endpoint) as wire:
        wire.faults = [(False, cut)] * 2
        with stack.function("valro-backend", AWS_ENDPOINT_URL_LAMBDA=wire.url):
            answer = stack.post(QUIET, key)
        assert len(wire.faults) < 2

    assert (answer.status, answer.json()["code"]) == (502, "worker_unavailable")
    task = stack.task(task_id)
    words = f"The worker could not be started (no connection). {NOT_STARTED}"
    assert (task["status"], task["error_message"]) == ("error", words)
    assert stack.agent_runs(task_id) == 0


def test_an_answer_of_lambdas_that_is_cut_is_a_202_since_the_event_was_taken(
    stack: FaultyDeployment,
):
    key, task_id = new_task()
    cut = b"HTTP/1.1 202 Accepted\r\nContent-Length: 900\r\n\r\n"

    with Wire(stack.stack.endpoint) as wire:
        wire.faults = [(True, cut)]
        with stack.function("valro-backend", AWS_ENDPOINT_URL_LAMBDA=wire.url):
            answer = stack.post(QUIET, key)
        assert (wire.faults, len(wire.paths)) == ([], 1)

    assert answer.status == 202
    assert_completed(stack, stack.finish(task_id), [])


def test_a_repeated_post_that_cannot_start_a_worker_ends_no_task_that_one_has_already(
    stack: FaultyDeployment,
):
    key, task_id = new_task()

    with stack.aws.fault(claim_of(task_id), BROKEN) as fault:
        stack.post(QUIET, key)
        fault.wait_for(1)
        stack.put_back(task_id, "created_at", 31)
        with stack.aws.fault(WORKER_START, CUT):
            again = stack.post(QUIET, key)

    assert (again.status, again.json()["status"]) == (202, "pending")
    assert_completed(stack, stack.finish(task_id), [])


# DynamoDB sends a checksum with every answer; what lacks one came from somebody else.
GARBLED: Rule = {"response": {"corrupt_bytes": 16, "set_headers": {"x-amz-crc32": "1"}}}
UNREADABLE: Rule = {"response": {"truncate_bytes": 1, "strip_headers": ["x-amz-crc32"]}}


@pytest.mark.parametrize("what", [GARBLED, UNREADABLE], ids=["a wrong CRC", "no CRC"])
@pytest.mark.parametrize(
    "call_of",
    [put_of, claim_of, progress_of, lambda task_id: end_of(task_id, "completed")],
    ids=["create", "claim", "progress", "complete"],
)
def test_a_good_answer_of_dynamodbs_that_is_garbled_is_as_one_that_was_lost(
    stack: FaultyDeployment, call_of: Callable[[str], Rule], what: Rule
):
    key, task_id = new_task()

    with stack.aws.fault(call_of(task_id), what, times=1):
        assert stack.post(PROMPT, key).status == 202
        task = stack.finish(task_id)

    assert_completed(stack, task, progress_lines(PROMPT, build_answer(PROMPT)))


@pytest.mark.parametrize("what", [GARBLED, UNREADABLE], ids=["a wrong CRC", "no CRC"])
def test_a_read_that_is_garbled_is_read_again(stack: FaultyDeployment, what: Rule):
    task = stack.run(QUIET)

    with stack.aws.fault(read_of(task["id"]), what, times=1):
        assert stack.task(task["id"]) == task


# What DynamoDB, or Lambda, has no room for

TOO_LARGE: Rule = {
    "error": {
        "code": "ValidationException",
        "status": 400,
        "message": "Item size to update has exceeded the maximum allowed size",
    }
}


def test_an_answer_that_dynamodb_refuses_for_its_size_is_cut_and_says_so(stack: FaultyDeployment):
    key, task_id = new_task()
    size = 200_000

    with stack.aws.fault(end_of(task_id, "completed"), TOO_LARGE, times=1):
        stack.post(f"[agent: huge {size}]", key)
        task = stack.finish(task_id)

    kept = len(task["agent_response"])
    assert (task["status"], task["agent_response_truncated"]) == ("completed", True)
    assert size / 3 < kept < size
    assert task["agent_response"] == faults.random_text(size)[:kept]
    cut = f"The agent's answer was too long: {size - kept:,} bytes of it were cut"
    assert messages(task) == [CREATED, *STARTED, cut, COMPLETED]


def test_an_answer_that_dynamodb_refuses_at_any_size_ends_the_task_and_is_in_the_log(
    stack: FaultyDeployment,
):
    key, task_id = new_task()

    with stack.aws.fault(end_of(task_id, "completed"), TOO_LARGE):
        stack.post(QUIET, key)
        task = stack.finish(task_id)

    assert (task["status"], task["error_code"]) == ("error", "answer_too_large")
    assert task["error_message"].endswith(MAY_HAVE_ACTED)
    assert stack.logged("valro-worker", task_id, "answer, in case it cannot be written")
    assert stack.agent_runs(task_id) == 1


def test_a_list_full_of_del_characters_is_pages_that_lambda_takes(stack: FaultyDeployment):
    """The runtime writes each of them as six bytes, and Lambda takes 6 MB."""
    store = TaskStore(stack.client("dynamodb"), TABLE_NAME)
    ids = [str(uuid.uuid4()) for _ in range(5)]
    for task_id in ids:
        store.create_task(task_id, PROMPT)
        claim = store.claim_task(task_id, "a-token", time.time() + 600)
        vendors = [{"name": "\x7f" * 290_000, "emails": []}]
        store.end_task(claim, Outcome.of({"vendors": vendors, "agent_response": "Done."}))

    seen: list[str] = []
    event = {"httpMethod": "GET", "path": "/tasks", "queryStringParameters": {"limit": "100"}}
    try:
        while not set(ids) <= set(seen):
            answer = invoke(stack, "valro-backend", event)
            assert answer["statusCode"] == 200
            assert len(json.dumps(answer).replace("\x7f", "\\u007f")) < 6 * 1024 * 1024
            seen += [task["id"] for task in json.loads(answer["body"])]
            if link := answer["headers"].get("Link"):
                query = dict(parse_qsl(link.partition("?")[2].partition(">")[0]))
                event["queryStringParameters"] = query
        assert len(seen) == len(set(seen))
        assert stack.task(ids[0])["vendors"][0]["name"] == "\x7f" * 290_000
    finally:
        remove(stack, ids)


def test_items_of_other_peoples_making_break_no_list_and_end(stack: FaultyDeployment):
    task = stack.run(QUIET)
    old = "2020-01-01T00:00:00.000000Z"
    of_all = {"owner": {"S": "public"}, "created_at": {"S": timestamp(time.time())}}
    damaged: dict[str, dict[str, Any]] = {
        "no JSON": {"status": {"S": "completed"}, "vendors": {"S": "[not json"}},
        "no counter": {"status": {"S": "processing"}, "deadline": {"S": old}},
        "no deadline": {"status": {"S": "pending"}, "created_at": {"S": old}},
        "binary": {"status": {"S": "completed"}, "description": {"B": b"\xff\x00"}},
    }
    ids = {name: str(uuid.uuid4()) for name in damaged}
    for name, attributes in damaged.items():
        item = {"id": {"S": ids[name]}, "description": {"S": PROMPT}, **of_all, **attributes}
        stack.client("dynamodb").put_item(TableName=TABLE_NAME, Item=item)

    try:
        # Not through the API that knows its contract: these tasks lack what it promises.
        listed = stack.stack.api.request("GET", "/tasks?limit=100")
        found = {each["id"]: each for each in listed.json()}
        assert listed.status == 200
        assert found.keys() >= {task["id"], ids["no JSON"], ids["no counter"], ids["binary"]}
        assert found[ids["no JSON"]]["vendors"] == []
        assert found[ids["no counter"]]["error_code"] == "worker_lost"
        pending = stack.stack.api.request("GET", f"/tasks/{ids['no deadline']}").json()
        assert (pending["status"], pending["error_code"]) == ("error", "not_started")
    finally:
        remove(stack, list(ids.values()))


def remove(stack: FaultyDeployment, ids: list[str]) -> None:
    """Takes tasks out of the table, so that they are in nobody else's list."""
    for task_id in ids:
        stack.client("dynamodb").delete_item(TableName=TABLE_NAME, Key={"id": {"S": task_id}})
