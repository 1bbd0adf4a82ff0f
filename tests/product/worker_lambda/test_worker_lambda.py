"""What the Worker Lambda promises: who runs the agent, when, and what is said of it."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from dynamodb_helpers import task_store
from tests.product.agent_server import (
    ARN,
    AgentServer,
    line,
    streams,
)
from tests.product.worker_lambda.fakes import (
    ANSWER,
    BEGINNING,
    DESCRIPTION,
    MAYBE,
    NOW,
    TASK_ID,
    Log,
    Say,
    Worker,
    handle,
    raises,
    throttled,
)
from valro.agent.answers import (
    AgentError,
    AgentFailed,
    AgentLost,
    AgentNotStarted,
    Answer,
)
from valro.store_errors import TaskNotFound
from valro.tasks import timestamp
from worker_lambda import TaskEvent

# --- a task, from the claim to the outcome --------------------------------------------------------


def test_a_pending_task_is_claimed_run_and_completed(worker: Worker, log: Log):
    event = worker.create()
    result = worker.deliver(event)
    task = worker.task()
    assert task["status"] == "completed"
    assert task["agent_response"] == "I e-mailed Ann."
    assert task["vendors"] == ANSWER.vendors
    assert task["quotes"] == ANSWER.quotes
    assert task["emails_sent"] == 1
    assert [(event["message"], event["type"]) for event in task["events"]] == [
        ("Task created", "info"),
        ("Worker Lambda invoked - processing started", "info"),
        ("Agent processing started", "info"),
        ("Agent completed task successfully", "success"),
    ]
    assert result["outcome"] == "completed"
    assert log.outcomes == ["completed"]


def test_three_writes_take_a_task_without_progress_from_nothing_to_completed(worker: Worker):
    worker.run()
    assert worker.client.calls == ["put_item", "update_item", "update_item"]


def test_the_agent_gets_the_task_s_own_description(worker: Worker):
    """A repeated or hand-made event could bring another one than the task was made with."""
    event = worker.create()
    worker.deliver(event._replace(description="Something else"))
    assert [run[:2] for run in worker.agent.runs] == [(TASK_ID, DESCRIPTION)]


# --- who runs the agent ---------------------------------------------------------------------------


def test_ten_deliveries_at_once_run_the_agent_once(worker: Worker, log: Log):
    """The one that wins is held in its run until the nine others have come back."""
    event, nine_are_back = worker.create(), threading.Semaphore(0)

    def play(_: Say) -> Answer:
        for _number in range(9):
            assert nine_are_back.acquire(timeout=10)
        return ANSWER

    def deliver(_: int) -> str:
        outcome: str = worker.deliver(event)["outcome"]
        nine_are_back.release()
        return outcome

    worker.play(play)
    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(deliver, range(10)))
    assert sorted(outcomes) == ["completed"] + ["not_claimed"] * 9
    assert len(worker.agent.runs) == 1
    assert worker.task()["status"] == "completed"
    assert worker.messages() == [*BEGINNING, "Agent completed task successfully"]
    assert sorted(log.outcomes) == ["completed"] + ["not_claimed"] * 9


def test_a_killed_worker_s_task_is_not_run_again_and_ends_for_whoever_polls(worker: Worker):
    event = worker.create()
    worker.play(raises(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        worker.deliver(event)
    worker.play(lambda _: ANSWER)
    assert worker.deliver(event)["outcome"] == "not_claimed"
    worker.time.sleep(660.001)
    assert worker.deliver(event)["outcome"] == "not_claimed"
    assert worker.task()["status"] == "error"
    assert worker.deliver(event)["outcome"] == "not_claimed"
    assert len(worker.agent.runs) == 1


def test_a_pending_task_past_its_deadline_is_left_to_its_readers(worker: Worker):
    event = worker.create()
    worker.time.sleep(960)
    assert worker.deliver(event)["outcome"] == "not_claimed"
    assert worker.agent.runs == []


def test_an_event_of_a_deleted_task_succeeds_and_makes_nothing(worker: Worker, log: Log):
    event = TaskEvent(TASK_ID, DESCRIPTION, timestamp(NOW))
    assert worker.deliver(event)["outcome"] == "deleted"
    assert worker.agent.runs == []
    with pytest.raises(TaskNotFound):
        worker.task()
    assert log.outcomes == ["deleted"]


def test_an_event_made_by_hand_makes_its_task_first(worker: Worker):
    event = TaskEvent("test-123", "Find me a painter", "")
    assert worker.deliver(event)["outcome"] == "completed"
    task = worker.task("test-123")
    assert task["description"] == "Find me a painter"
    assert [event["message"] for event in task["events"]] == [
        *BEGINNING,
        "Agent completed task successfully",
    ]
    assert worker.deliver(event)["outcome"] == "not_claimed"
    assert len(worker.agent.runs) == 1


# --- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds, reserve", [(600, 20), (900, 20), (100, 20), (60, 12), (30, 6)])
def test_the_agent_gets_the_function_s_time_less_a_reserve(
    worker: Worker, seconds: float, reserve: float
):
    """min(20 s, 20 %): for writing the outcome."""
    worker.deliver(worker.create(), seconds)
    assert worker.agent.runs[0][2] == pytest.approx(seconds - reserve)


@pytest.mark.parametrize("seconds", [60, 600])
def test_the_deadline_is_the_end_of_the_function_and_a_minute(
    worker: Worker, dynamodb: Any, table_name: str, seconds: float
):
    worker.time.calls_take = 5.0  # a slow claim does not move it
    event = worker.create()
    end = worker.time.now + seconds
    worker.deliver(event, seconds)
    key = {"id": {"S": TASK_ID}}
    item = dynamodb.get_item(TableName=table_name, Key=key)["Item"]
    assert item["deadline"]["S"] == timestamp(end + 60)


def test_the_time_that_a_claim_took_is_not_the_agent_s(worker: Worker):
    worker.time.calls_take = 5.0
    worker.run()
    assert worker.agent.runs[0][2] == pytest.approx(600 - 20 - 5)


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [AgentFailed, AgentLost, AgentNotStarted])
def test_a_failed_run_ends_the_task_with_the_agent_s_words(
    worker: Worker, log: Log, kind: type[AgentError]
):
    error = kind("No luck.", "arn:aws:secret")
    assert worker.run(raises(error)) == "error"
    task = worker.task()
    assert task["status"] == "error"
    assert task["error_message"] == str(error)
    assert worker.messages() == [*BEGINNING, f"Agent error: {error}"]
    assert "secret" not in json.dumps(task)
    assert log.outcomes == ["error"]
    assert "arn:aws:secret" in log.text


def test_what_a_failed_agent_had_answered_is_kept(worker: Worker, log: Log):
    vendors = [{"name": "Ann", "emails": []}, {"name": ["Bob"], "emails": []}]
    partial = Answer("Half of it", vendors, emails_sent=2)
    partial.unmatched_emails = [{"recipient": "eve@x"}]
    worker.run(raises(AgentLost("Lost.", partial=partial, unparsed='data: "and th')))
    task = worker.task()
    assert (task["status"], task["agent_response"]) == ("error", "Half of it")
    assert (task["vendors"][0]["name"], task["emails_sent"]) == ("Ann", 2)
    assert [one["text"] for one in log.said("not understood")] == ['data: "and th']
    assert "eve@x" in log.said("e-mails to nobody among the vendors")[0]["text"]
    (odd,) = log.said("vendors and quotes that are not shown as the agent sent them")
    assert json.loads(odd["text"]) == vendors[1:]


@pytest.mark.parametrize("error", [RuntimeError("bug"), OSError("disk"), RecursionError("deep")])
def test_a_fault_of_our_own_ends_the_task_and_is_not_raised(
    worker: Worker, log: Log, error: Exception
):
    """Raised, it would be delivered again; the agent may have acted."""
    assert worker.run(raises(error)) == "error"
    assert worker.task()["error_message"] == f"The worker failed. {MAYBE}"
    assert "Traceback" in log.text
    assert str(error) in log.text
    assert worker.agent.stops == [TASK_ID]


def test_a_long_detail_is_logged_in_parts_that_cloudwatch_takes(worker: Worker, log: Log):
    worker.run(raises(AgentFailed("No.", detail="🏠" * 100_000)))
    assert max(len(one.encode()) for one in log.raw_lines) <= 200_000
    assert "".join(one["text"] for one in log.said("agent run failed")) == "🏠" * 100_000


# --- the agent's session --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "play, wish, stops",
    [
        (lambda _: ANSWER, "", 0),
        (lambda _: ANSWER, "true", 1),
        (lambda _: ANSWER, "True", 1),
        (lambda _: ANSWER, "false", 0),
        (raises(AgentLost("Lost.")), "", 1),
        (raises(AgentLost("Lost.")), "true", 1),
        (raises(AgentFailed("No.")), "", 0),
        (raises(AgentFailed("No.")), "true", 1),
        (raises(AgentNotStarted("No.")), "", 0),
        (raises(AgentNotStarted("No.")), "true", 0),
    ],
)
def test_a_session_is_stopped_if_its_agent_may_still_run_or_if_asked_for(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, play: Any, wish: str, stops: int
):
    monkeypatch.setenv("STOP_SESSION_AFTER_TASK", wish)
    worker.run(play)
    assert worker.agent.stops == [TASK_ID] * stops


def test_the_session_is_stopped_only_after_the_outcome_was_written(worker: Worker):
    seen: list[str] = []
    worker.agent.stop = lambda task_id: seen.append(worker.task(task_id)["status"])  # type: ignore[method-assign]
    worker.run(raises(AgentLost("Lost.")))
    assert seen == ["error"]


@pytest.mark.parametrize(
    "error", [throttled("StopRuntimeSession"), ReadTimeoutError(endpoint_url="https://agent")]
)
def test_a_session_that_cannot_be_stopped_changes_nothing(
    worker: Worker, log: Log, error: Exception
):
    worker.agent.stop_error = error
    assert worker.run(raises(AgentLost("Lost."))) == "error"
    assert worker.agent.stops == [TASK_ID]
    assert len(log.said("session not stopped")) == 1


def test_an_agent_that_may_still_run_is_stopped_although_its_outcome_was_not_written(
    worker: Worker,
):

    def play(_: Say) -> Answer:
        worker.client.down = True
        worker.time.sleep(585)
        raise AgentLost("Lost.")

    with pytest.raises(EndpointConnectionError):
        worker.run(play)
    assert worker.agent.stops == [TASK_ID]


# --- a fresh right before every start -----------------------------------------------------------


def starts(
    worker: Worker, after: float, meanwhile: Callable[[], Any] = lambda: None
) -> list[float]:
    """Lets the agent be called ``after`` seconds, as the real one is; returns when it started."""
    started: list[float] = []

    def play(_: Say) -> Answer:
        worker.time.sleep(after)
        meanwhile()
        worker.agent.before_start()
        started.append(worker.time.now - NOW)
        return ANSWER

    worker.play(play)
    return started


@pytest.mark.parametrize("age, takes, writes", [(9.875, 0, 3), (10, 0, 4), (5, 6, 4)])
def test_a_claim_of_10_seconds_ago_is_confirmed_by_a_write_that_nobody_sees(
    worker: Worker, age: float, takes: float, writes: int
):
    """It ages from when it was sent."""
    event, started = worker.create(), starts(worker, age)
    worker.time.calls_take = takes
    assert worker.deliver(event)["outcome"] == "completed"
    assert len(started) == 1
    assert len(worker.client.writes) == writes
    assert worker.messages() == [*BEGINNING, "Agent completed task successfully"]


def test_a_confirmation_is_as_good_as_a_claim_for_the_next_call(worker: Worker):

    def play(_: Say) -> Answer:
        for wait in (10, 9, 2, 9):  # throttled, again and again
            worker.time.sleep(wait)
            worker.agent.before_start()
        return ANSWER

    worker.run(play)
    assert len(worker.client.writes) == 3 + 2


def test_a_claim_that_was_found_again_is_confirmed_before_the_agent_starts(worker: Worker):
    event, started = worker.create(), starts(worker, 0)
    worker.client.lose = ["update_item"]
    assert worker.deliver(event)["outcome"] == "completed"
    assert len(started) == 1
    assert worker.client.writes == ["put_item", *["update_item"] * 4]


def test_a_claim_found_again_past_its_deadline_starts_nothing(worker: Worker, log: Log):
    """The answer was lost, the outage long, the function's clock slow: a reader may have ended it."""
    claim_task = worker.store.claim_task

    def found_again(*given: Any) -> Any:
        claim_task(*given)
        worker.time.now += 661
        return claim_task(*given)

    worker.store.claim_task = found_again  # type: ignore[method-assign, assignment]
    started = starts(worker, 0)
    assert worker.run() == "error"
    assert started == []
    assert worker.task()["error_code"] == "not_started"
    assert log.outcomes == ["error"]


def test_a_task_cancelled_while_its_agent_was_throttled_starts_nothing(worker: Worker, log: Log):
    started = starts(worker, 30, worker.cancel)
    assert worker.run() == "cancelled"
    assert started == []
    task = worker.task()
    assert task["error_code"] == "cancelled"
    assert task["error_message"] == (
        "Cancelled. The agent was not started, so no vendor was contacted."
    )
    assert worker.agent.stops == []
    assert log.outcomes == ["cancelled"]


def test_a_task_that_a_reader_has_ended_starts_nothing(worker: Worker, log: Log):
    started = starts(worker, 661, worker.task)
    assert worker.run() == "lost"
    assert started == []
    assert worker.agent.stops == []


@pytest.mark.parametrize("fault", ["refuse", "lose"])
def test_a_confirmation_that_fails_is_tried_again(worker: Worker, fault: str):
    trouble = lambda: setattr(worker.client, fault, ["update_item"] * 2)  # noqa: E731
    started = starts(worker, 20, trouble)
    assert worker.run() == "completed"
    assert len(started) == 1
    assert len(worker.messages()) == 4


def test_one_that_fails_for_too_long_ends_the_task_as_not_started(worker: Worker):
    started = starts(worker, 20, lambda: setattr(worker.client, "down", True))
    pass_time = worker.time.sleep

    def sleep(seconds: float) -> None:
        pass_time(seconds)
        worker.client.down = worker.time.now < NOW + 60

    worker.time.sleep = sleep  # type: ignore[method-assign]
    worker.time.calls_take = 1
    assert worker.run() == "error"
    assert started == []
    task = worker.task()
    assert task["error_code"] == "not_started"
    assert "no vendor was contacted" in task["error_message"]
    assert worker.time.now < NOW + 100


def test_one_that_is_always_too_slow_ends_the_task_as_not_started(worker: Worker):
    started = starts(worker, 20, lambda: setattr(worker.time, "calls_take", 12))
    assert worker.run() == "error"
    assert started == []
    worker.time.calls_take = 0
    assert worker.task()["error_code"] == "not_started"
    assert worker.time.now < NOW + 120


# --- the log --------------------------------------------------------------------------------------


def test_an_outcome_is_one_json_line_with_what_an_operator_needs(
    worker: Worker, log: Log, monkeypatch: pytest.MonkeyPatch
):
    def play(_: Say) -> Answer:
        worker.time.sleep(12.5)
        return ANSWER

    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988-bd862e3f;Parent=53995c;Sampled=0")
    worker.run(play)
    assert log.lines == [
        {
            "level": "INFO",
            "message": "Agent completed task successfully",
            "outcome": "completed",
            "task_id": TASK_ID,
            "request_id": "r-1",
            "duration_ms": 12_500,
            "trace_id": "1-5759e988-bd862e3f",
        }
    ]


def test_every_line_names_its_task(worker: Worker, log: Log):

    def play(say: Say) -> Answer:
        worker.client.refuse = ["update_item"] * 2
        say("one")
        worker.timers.fire()
        raise AgentLost("Lost.", "why", unparsed="raw")

    worker.agent.stop_error = throttled("StopRuntimeSession")
    worker.run(play)
    assert len(log.lines) == 6
    assert {one["task_id"] for one in log.lines} == {TASK_ID}


# --- the handler ----------------------------------------------------------------------------------


def test_seed_s_direct_invocation_runs_through_the_real_call_and_a_real_socket(
    worker: Worker, deployed: AgentServer, log: Log
):
    deployed.play(
        streams(
            line({"message": "Looking for painters"}),
            line(
                {
                    "response": "I e-mailed Ann.",
                    "vendors": [{"name": "Ann", "email": "ann@x"}],
                    "emails": [{"recipient": "ANN@x", "subject": "Hello"}],
                }
            ),
        )
    )
    event = {"task_id": "test-123", "description": "Find me a painter"}
    assert handle(worker, event)["outcome"] == "completed"
    task = task_store().get_task("test-123", "public")
    assert task["status"] == "completed"
    assert task["vendors"][0]["emails"] == [{"recipient": "ANN@x", "subject": "Hello"}]
    assert task["emails_sent"] == 1
    assert [one["message"] for one in task["events"]] == [
        *BEGINNING,
        "Looking for painters",
        "Agent completed task successfully",
    ]
    assert handle(worker, event)["outcome"] == "not_claimed"
    assert len(deployed.runs) == 1
    assert deployed.stops == []
    assert log.outcomes == ["completed", "not_claimed"]


def test_the_environment_names_qualifier_protocol_and_stopping(
    worker: Worker, deployed: AgentServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AGENT_RUNTIME_QUALIFIER", "prod")
    monkeypatch.setenv("AGENT_PROTOCOL", "AGUI")
    monkeypatch.setenv("STOP_SESSION_AFTER_TASK", "true")
    handle(worker, {"task_id": TASK_ID, "description": "x"})
    assert [call.operation for call in deployed.calls] == ["invocations", "stopruntimesession"]
    assert {call.session for call in deployed.calls} == {TASK_ID}
    assert [call.query for call in deployed.calls] == [{"qualifier": ["prod"]}] * 2
    assert deployed.runs[0].payload["runId"] == TASK_ID


def test_the_agent_is_told_whose_task_it_is_where_people_sign_in(
    worker: Worker, deployed: AgentServer
):
    for owner in ("public", "jwt#ann#1"):
        task, _ = worker.store.create_task(owner[:3], "x", owner)
        handle(worker, {"task_id": owner[:3], "description": "x", "created_at": task["created_at"]})
    assert [call.payload.get("user_id") for call in deployed.runs] == [None, "ann#1"]


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "text",
        {},
        {"task_id": TASK_ID},
        {"description": "x"},
        {"task_id": "", "description": "x"},
        {"task_id": 5, "description": "x"},
        {"task_id": "a#1", "description": "x"},
        {"task_id": "x" * 101, "description": "x"},
        {"task_id": TASK_ID, "description": "  "},
        {"task_id": TASK_ID, "description": 5},
        {"task_id": TASK_ID, "description": "x" * 4_001},
        {"task_id": TASK_ID, "description": "half \ud800"},
        {"task_id": TASK_ID, "description": "x", "created_at": 5},
        {"task_id": TASK_ID, "description": "x", "created_at": "now"},
        {"task_id": TASK_ID, "description": "x", "created_at": "9999"},
        {"Records": [{"body": "{}"}]},
    ],
    ids=str,
)
def test_a_malformed_event_is_answered_with_an_error_and_never_raised(
    worker: Worker, deployed: AgentServer, log: Log, event: Any
):
    """Raised, Lambda would deliver it twice more."""
    answer = handle(worker, event)
    assert answer["code"] == "invalid_event"
    assert answer["error"]
    assert worker.items() == []
    assert deployed.calls == []
    assert [one["level"] for one in log.lines] == ["ERROR"]


@pytest.mark.parametrize(
    "misconfigured",
    [
        ("", "", "AGENT_RUNTIME_ARN not set"),
        ("YOUR_AGENT_ARN", "", "AGENT_RUNTIME_ARN is not the ARN of an AgentCore Runtime"),
        (ARN, "MCP", "AGENT_PROTOCOL must be HTTP or AGUI"),
    ],
)
@pytest.mark.parametrize("by_hand", [False, True])
def test_without_an_agent_the_task_ends_at_once(
    worker: Worker,
    without_agent: Log,
    monkeypatch: pytest.MonkeyPatch,
    misconfigured: tuple[str, str, str],
    by_hand: bool,
):
    arn, protocol, message = misconfigured
    monkeypatch.setenv("AGENT_RUNTIME_ARN", arn)
    monkeypatch.setenv("AGENT_PROTOCOL", protocol)
    store = task_store()
    event = {"task_id": TASK_ID, "description": "x"}
    if not by_hand:
        event["created_at"] = store.create_task(TASK_ID, "x")[0]["created_at"]
    answer = handle(worker, event)
    assert answer == {"error": message, "code": "not_configured", "task_id": TASK_ID}
    task = store.get_task(TASK_ID, "public")
    assert (task["status"], task["error_message"]) == ("error", message)
    assert [one["message"] for one in task["events"]] == ["Task created", f"Agent error: {message}"]
    assert without_agent.outcomes == ["error"]


def test_without_an_agent_a_deleted_task_stays_deleted(worker: Worker, without_agent: Log):
    event = {"task_id": TASK_ID, "description": "x", "created_at": timestamp(NOW)}
    assert handle(worker, event)["code"] == "not_configured"
    assert worker.items() == []
    assert without_agent.outcomes == ["deleted"]


def test_without_an_agent_a_task_that_runs_elsewhere_is_left_alone(
    worker: Worker, without_agent: Log
):
    """The function's configuration changed while an older worker was still at work."""
    worker.time.now = time.time()
    store = task_store()
    task, _ = store.create_task(TASK_ID, "x")
    store.claim_task(TASK_ID, "token", worker.time.now + 600)
    handle(worker, {"task_id": TASK_ID, "description": "x", "created_at": task["created_at"]})
    assert store.get_task(TASK_ID, "public")["status"] == "processing"
    assert without_agent.outcomes == ["not_claimed"]


def test_a_configuration_that_was_mended_is_used_by_the_next_event(
    worker: Worker, deployed: AgentServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("AGENT_RUNTIME_ARN")
    assert handle(worker, {"task_id": "a", "description": "x"})["code"] == "not_configured"
    monkeypatch.setenv("AGENT_RUNTIME_ARN", ARN)
    assert handle(worker, {"task_id": "b", "description": "x"})["outcome"] == "completed"
