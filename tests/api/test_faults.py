"""The real thing, broken: what a poller sees of every fault, and how often the agent ran.

The deployed stack, with microburst (a proxy that speaks AWS's errors) between the functions and
DynamoDB, Lambda and AgentCore. A fault that did not happen fails its test.
"""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from local import faults
from local.vendors import build_answer
from tests.api.faulty import (
    BARE_ANSWER_LOST,
    BROKEN,
    CUT,
    HELD,
    QUIET,
    THROTTLED,
    WORKER_START,
    FaultyDeployment,
    Rule,
    agent_call_of,
    claim_of,
    end_of,
    faulty_deployment,
    new_task,
    put_of,
)
from tests.api.test_end_to_end import (
    COMPLETED,
    CREATED,
    PROMPT,
    STARTED,
    backdate,
    messages,
)
from tests.conftest import eventually
from valro.tasks import EXPIRED

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


# DynamoDB


@pytest.mark.parametrize("what", [THROTTLED, CUT], ids=["throttled", "cut"])
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


# Lambda, when the worker is to be started


@pytest.mark.parametrize(
    "what, reason",
    [
        ({"error": {"code": "AccessDeniedException", "status": 403}}, "AccessDeniedException"),
        (CUT, "no connection"),
    ],
    ids=["no access", "cut"],
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


# AgentCore, before it runs the agent


@pytest.mark.parametrize(
    "what, words",
    [
        ({"error": {"code": "InternalServerException", "status": 500}},
         f"The agent's service failed (InternalServerException). {MAY_HAVE_ACTED}"),
        ({"error": {"code": "AccessDeniedException", "status": 403}},
         f"The agent could not be called (AccessDeniedException). {NOT_STARTED}"),
        ({"error": {"code": "ThrottlingException", "status": 502}},
         f"The agent's service failed (ThrottlingException). {MAY_HAVE_ACTED}"),
        (CUT, f"The connection to the agent was lost. {MAY_HAVE_ACTED}"),
    ],
    ids=["500", "403", "a code under 502", "cut"],
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


def test_an_agent_that_is_throttled_is_called_again_and_runs_once(stack: FaultyDeployment):
    key, task_id = new_task()
    throttled = {"error": {"code": "ThrottlingException", "status": 429}}

    with stack.agent.fault(agent_call_of(task_id), throttled, times=2) as fault:
        stack.post(QUIET, key)
        fault.wait_for(2)
        assert_completed(stack, stack.finish(task_id), [])


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
        ("fail-midway",
         ["Looking for landscapers in Charlotte within $300", "Found 3 landscapers within $300"],
         "The sample agent was told to fail in mid-stream."),
        ("error", [], "The vendor directory is closed today."),
        ("cut", ["Looking for vendors"], "The connection to the agent was lost."),
        ("invalid-utf8", [], "The agent's answer cannot be read."),
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
