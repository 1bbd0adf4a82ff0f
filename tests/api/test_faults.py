"""The deployed functions killed, cut off and out of time: what a poller sees, how often the agent ran.

The simulation has every lost and garbled answer; this is about real processes, zips and sockets.
"""

import socket
import uuid
from collections.abc import Iterator

import pytest

from local import faults
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
    put_back,
    stops,
)
from tests.conftest import Deployment, eventually
from valro.tasks import EXPIRED

pytestmark = pytest.mark.e2e

QUIET = f"{PROMPT} [agent: quiet]"
NOT_STARTED = "The agent was not started, so no vendor was contacted."
MAY_HAVE_ACTED = "The agent may already have contacted vendors."


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address that refuses connections: nobody else takes the port, and nobody listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{closed.getsockname()[1]}"


# What the functions call is out of reach


def test_a_post_that_cannot_be_written_is_a_500_and_the_same_key_works_later(
    stack: Deployment, nowhere: str
):
    post = ("POST", "/tasks", {"description": QUIET}, {"Idempotency-Key": str(uuid.uuid4())})
    with changed(stack, "valro-backend", AWS_ENDPOINT_URL_DYNAMODB=nowhere):
        answer = stack.api.request(*post)
    assert (answer.status, answer.json()["code"]) == (500, "internal_error")

    again = stack.api.request(*post)

    assert again.status == 202
    assert "Idempotent-Replayed" not in again.headers
    task = stack.finish(again.json()["id"])
    assert (task["status"], stack.agent_runs(task["id"])) == ("completed", 1)


def test_a_worker_that_cannot_be_started_is_a_502_and_the_task_is_kept_as_an_error(
    stack: Deployment, nowhere: str
):
    with changed(stack, "valro-backend", AWS_ENDPOINT_URL_LAMBDA=nowhere):
        answer = stack.api.request("POST", "/tasks", {"description": QUIET})

    task = stack.task(answer.json()["id"])
    words = f"The worker could not be started (no connection). {NOT_STARTED}"
    assert (answer.status, answer.json()["code"]) == (502, "worker_unavailable")
    assert answer.json()["error"].startswith(words)
    assert (task["status"], task["error_message"]) == ("error", words)
    assert messages(task) == [CREATED, f"Error invoking worker: {words}"]


def test_an_agent_that_refuses_connections_was_not_started(stack: Deployment, nowhere: str):
    address = {"AWS_ENDPOINT_URL_BEDROCK_AGENTCORE": nowhere}
    with changed(stack, "valro-worker", timeout=6, **address):
        task = stack.run(QUIET)

    words = f"The agent was too busy, or could not be reached, for too long. {NOT_STARTED}"
    assert (task["status"], task["error_message"]) == ("error", words)
    assert messages(task) == [CREATED, *STARTED, f"Agent error: {words}"]


# A worker that dies


def test_a_worker_killed_in_mid_stream_is_not_replaced_and_its_task_ends_cancelled_or_not(
    stack: Deployment,
):
    lost, cancelled = ids = [at_work(stack, "stall") for _ in range(2)]
    kill(stack, "valro-worker")
    for task_id in ids:
        assert outcomes(stack, task_id, 1) == ["not_claimed"]
        assert stack.task(task_id)["status"] == "processing"

    assert stack.api.request("POST", f"/tasks/{cancelled}/cancel").status == 202
    eventually(lambda: stops(stack, cancelled), bool)  # another worker heard of it
    put_back(stack, cancelled, "cancel_requested_at", 55)
    assert stack.task(cancelled)["status"] == "processing"
    put_back(stack, cancelled, "cancel_requested_at", 61)
    put_back(stack, lost, "deadline")

    for task_id, code in ((lost, "worker_lost"), (cancelled, "cancelled")):
        task = stack.task(task_id)
        assert (task["status"], task["error_code"]) == ("error", code)
        said = [CREATED, *STARTED, "Waiting for a vendor to answer", EXPIRED[code]]
        assert messages(task) == said
        assert stack.agent_runs(task_id) == 1


# The agent


def test_a_runtime_that_throttles_is_called_again_and_one_that_fails_is_not(stack: Deployment):
    throttled = stack.run(f"{PROMPT} [agent: throttle 2]")
    assert (throttled["status"], stack.agent_runs(throttled["id"])) == ("completed", 1)

    failed = stack.run(f"{PROMPT} [agent: unavailable]")
    words = f"The agent's service failed (InternalServerException). {MAY_HAVE_ACTED}"
    assert (failed["status"], failed["error_message"]) == ("error", words)
    assert outcomes(stack, failed["id"], 1) == ["error"]  # logged once the session is stopped
    assert (stack.agent_runs(failed["id"]), stops(stack, failed["id"])) == (0, 1)


@pytest.mark.parametrize("behaviour", ["stall", "drip"])
def test_an_agent_that_never_ends_leaves_time_to_say_so_and_is_asked_to_stop_once(
    stack: Deployment, behaviour: str
):
    """The outcome is there before Lambda would kill the worker, with a timeout of 5 s too."""
    with changed(stack, "valro-worker", timeout=5):
        task = stack.run(f"{PROMPT} [agent: {behaviour}]")
        assert outcomes(stack, task["id"], 1) == ["error"]

    assert task["error_message"] == f"The agent did not finish in time. {MAY_HAVE_ACTED}"
    assert task.get("agent_response", "").startswith("Still at it." if behaviour == "drip" else "")
    assert (stack.agent_runs(task["id"]), stops(stack, task["id"])) == (1, 1)


def test_an_answer_of_20_mb_is_cut_and_says_so(stack: Deployment):
    size = 20_000_000

    task = stack.run(f"[agent: huge {size}]")

    kept = len(task["agent_response"])
    assert task["agent_response_truncated"] is True
    assert 3_400_000 < kept < 3_500_000
    assert task["agent_response"] == faults.random_text(size)[:kept]
    cut = f"The agent's answer was too long: {size - kept:,} bytes of it were cut"
    assert messages(task) == [CREATED, *STARTED, cut, COMPLETED]
