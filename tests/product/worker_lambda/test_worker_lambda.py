"""What the Worker Lambda promises: who runs the agent, when, and what is said of it."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from dynamodb_helpers import task_store
from tests.product.agent_server import ARN, AgentServer, line, streams
from tests.product.worker_lambda.fakes import (
    ANSWER,
    BEGINNING,
    COMPLETED,
    DESCRIPTION,
    MAYBE,
    NOW,
    TASK_ID,
    Play,
    Say,
    Worker,
    answers,
    raises,
    refusal,
)
from valro.agent.answers import AgentError, AgentFailed, AgentLost, AgentNotStarted, Answer
from valro.agent.runtime import AgentRequest
from valro.tasks import timestamp
from worker_lambda import TaskEvent

# --- a task, from the claim to the outcome --------------------------------------------------------


def test_a_pending_task_is_claimed_run_and_completed_in_three_writes_and_one_line(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    """The event could be repeated, or made by hand, with another description than the task's."""

    def play(_: Say) -> Answer:
        worker.time.sleep(12.5)
        return ANSWER

    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988-bd862e3f;Parent=53995c;Sampled=0")
    worker.agent.play = play
    event = worker.create()
    assert worker.deliver(event._replace(description="Something else")) == "completed"
    assert worker.agent.requests == [AgentRequest(TASK_ID, DESCRIPTION, session=TASK_ID)]
    assert worker.client.calls == ["put_item", "update_item", "update_item"]
    task = worker.task()
    assert task["status"] == "completed"
    assert task["agent_response"] == "I e-mailed Ann."
    assert (task["vendors"], task["quotes"]) == (ANSWER.vendors, ANSWER.quotes)
    assert task["emails_sent"] == 1
    assert worker.messages() == [*BEGINNING, COMPLETED]
    assert [event["type"] for event in task["events"]] == ["info", "info", "info", "success"]
    assert worker.log.lines == [
        {
            "level": "INFO",
            "message": COMPLETED,
            "outcome": "completed",
            "task_id": TASK_ID,
            "request_id": "r-1",
            "duration_ms": 12_500,
            "trace_id": "1-5759e988-bd862e3f",
        }
    ]


def test_a_killed_worker_s_task_is_not_run_again_and_ends_for_whoever_polls(worker: Worker):
    event = worker.create()
    worker.agent.play = raises(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        worker.deliver(event)
    assert worker.deliver(event) == "not_claimed"
    worker.time.sleep(660.001)
    assert worker.deliver(event) == "not_claimed"
    assert worker.task()["status"] == "error"
    assert worker.deliver(event) == "not_claimed"
    assert len(worker.agent.requests) == 1


def test_an_event_of_a_deleted_task_succeeds_and_makes_nothing(worker: Worker):
    assert worker.deliver(TaskEvent(TASK_ID, DESCRIPTION, timestamp(NOW))) == "deleted"
    assert (worker.agent.requests, worker.items()) == ([], [])
    assert worker.log.outcomes == ["deleted"]


@pytest.mark.parametrize("seconds, reserve", [(600, 20), (100, 20), (60, 12)])
def test_the_agent_gets_the_time_that_the_claim_leaves_less_a_reserve_for_the_outcome(
    worker: Worker, seconds: float, reserve: float
):
    """The task's deadline is the end of the function and a minute, however slow the claim."""
    worker.time.calls_take = 5.0
    event = worker.create()
    end = worker.time.now + seconds
    worker.deliver(event, seconds)
    assert worker.agent.seconds == pytest.approx(seconds - reserve - 5)
    (item,) = worker.items()
    assert item["deadline"]["S"] == timestamp(end + 60)


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [AgentFailed, AgentLost, AgentNotStarted])
def test_a_failed_run_ends_the_task_with_the_agent_s_words(worker: Worker, kind: type[AgentError]):
    error = kind("No luck.", "arn:aws:secret")
    assert worker.run(raises(error)) == "error"
    task = worker.task()
    assert (task["status"], task["error_message"]) == ("error", str(error))
    assert worker.messages() == [*BEGINNING, f"Agent error: {error}"]
    assert "secret" not in json.dumps(task)
    assert worker.log.outcomes == ["error"]
    assert worker.log.said("agent run failed") == ["arn:aws:secret"]


def test_what_a_failed_agent_had_answered_is_kept(worker: Worker):
    vendors = [{"name": "Ann", "emails": []}, {"name": ["Bob"], "emails": []}]
    partial = Answer("Half of it", vendors, emails_sent=2)
    partial.unmatched_emails = [{"recipient": "eve@x"}]
    worker.run(raises(AgentLost("Lost.", partial=partial, unparsed='data: "and th')))
    task = worker.task()
    assert (task["status"], task["agent_response"]) == ("error", "Half of it")
    assert (task["vendors"][0]["name"], task["emails_sent"]) == ("Ann", 2)
    assert worker.log.said("not understood") == ['data: "and th']
    assert "eve@x" in worker.log.said("e-mails to nobody among the vendors")[0]
    (odd,) = worker.log.said("vendors and quotes that are not shown as the agent sent them")
    assert json.loads(odd) == vendors[1:]


def test_a_fault_of_our_own_ends_the_task_and_is_not_raised(worker: Worker):
    """Raised, it would be delivered again; the agent may have acted."""
    assert worker.run(raises(RuntimeError("bug"))) == "error"
    assert worker.task()["error_message"] == f"The worker failed. {MAYBE}"
    assert "Traceback" in worker.log.text
    assert "RuntimeError: bug" in worker.log.text
    assert worker.agent.stops == [TASK_ID]


def test_every_line_names_its_task(worker: Worker):
    def play(say: Say) -> Answer:
        worker.client.refuse = ["update_item"] * 2
        say("one")
        worker.timers.fire()
        raise AgentLost("Lost.", "why", unparsed="raw")

    worker.agent.when_stopped = raises(refusal("ThrottlingException"))
    worker.run(play)
    assert len(worker.log.lines) == 6
    assert {one["task_id"] for one in worker.log.lines} == {TASK_ID}


# --- the agent's session --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "play, wish, stops",
    [
        (answers(ANSWER), "", 0),
        (answers(ANSWER), "True", 1),
        (answers(ANSWER), "false", 0),
        (raises(AgentLost("Lost.")), "", 1),
        (raises(AgentFailed("No.")), "", 0),
        (raises(AgentFailed("No.")), "true", 1),
        (raises(AgentNotStarted("No.")), "true", 0),
    ],
)
def test_a_session_is_stopped_if_its_agent_may_still_run_or_if_asked_for(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, play: Play, wish: str, stops: int
):
    """And only after the outcome was written."""
    seen: list[str] = []
    worker.agent.when_stopped = lambda: seen.append(worker.task()["status"])
    monkeypatch.setenv("STOP_SESSION_AFTER_TASK", wish)
    worker.run(play)
    assert worker.agent.stops == [TASK_ID] * stops
    assert "processing" not in seen


def test_a_session_that_cannot_be_stopped_changes_nothing(worker: Worker):
    worker.agent.when_stopped = raises(refusal("ThrottlingException"))
    assert worker.run(raises(AgentLost("Lost."))) == "error"
    assert worker.agent.stops == [TASK_ID]
    assert len(worker.log.said("session not stopped")) == 1


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


# --- a fresh right before every start -------------------------------------------------------------


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

    worker.agent.play = play
    return started


@pytest.mark.parametrize("age, takes, writes", [(9.875, 0, 3), (10, 0, 4), (5, 6, 4)])
def test_a_claim_of_10_seconds_ago_is_confirmed_by_a_write_that_nobody_sees(
    worker: Worker, age: float, takes: float, writes: int
):
    """It ages from when it was sent."""
    event, started = worker.create(), starts(worker, age)
    worker.time.calls_take = takes
    assert worker.deliver(event) == "completed"
    assert len(started) == 1
    assert len(worker.client.writes) == writes
    assert worker.messages() == [*BEGINNING, COMPLETED]


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
    assert worker.deliver(event) == "completed"
    assert len(started) == 1
    assert worker.client.writes == ["put_item", *["update_item"] * 4]


def test_a_claim_found_again_past_its_deadline_starts_nothing(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    """The answer was lost, the outage long, the function's clock slow: a reader may have ended it."""
    claim_task = worker.store.claim_task

    def found_again(*given: Any) -> Any:
        claim_task(*given)
        worker.time.now += 661
        return claim_task(*given)

    monkeypatch.setattr(worker.store, "claim_task", found_again)
    started = starts(worker, 0)
    assert worker.run() == "error"
    assert started == []
    assert worker.task()["error_code"] == "not_started"
    assert worker.log.outcomes == ["error"]


def test_a_task_cancelled_while_its_agent_was_throttled_starts_nothing(worker: Worker):
    started = starts(worker, 30, worker.cancel)
    assert worker.run() == "cancelled"
    assert (started, worker.agent.stops) == ([], [])
    assert worker.task()["error_code"] == "cancelled"
    assert worker.task()["error_message"] == (
        "Cancelled. The agent was not started, so no vendor was contacted."
    )
    assert worker.log.outcomes == ["cancelled"]


def test_a_task_that_a_reader_has_ended_starts_nothing(worker: Worker):
    started = starts(worker, 0, worker.end_by_reading)
    assert worker.run() == "lost"
    assert (started, worker.agent.stops) == ([], [])


@pytest.mark.parametrize("fault", ["refuse", "lose"])
def test_a_confirmation_that_fails_is_tried_again(worker: Worker, fault: str):
    started = starts(worker, 20, lambda: setattr(worker.client, fault, ["update_item"] * 2))
    assert worker.run() == "completed"
    assert len(started) == 1
    assert worker.messages() == [*BEGINNING, COMPLETED]


def test_one_that_fails_for_too_long_ends_the_task_as_not_started(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    started = starts(worker, 20, lambda: setattr(worker.client, "down", True))
    pass_time = worker.time.sleep

    def sleep(seconds: float) -> None:
        pass_time(seconds)
        worker.client.down = worker.time.now < NOW + 60

    monkeypatch.setattr(worker.time, "sleep", sleep)
    worker.time.calls_take = 1
    assert worker.run() == "error"
    assert started == []
    assert worker.task()["error_code"] == "not_started"
    assert "no vendor was contacted" in worker.task()["error_message"]
    assert worker.time.now < NOW + 100


def test_one_that_is_always_too_slow_ends_the_task_as_not_started(worker: Worker):
    started = starts(worker, 20, lambda: setattr(worker.time, "calls_take", 12))
    assert worker.run() == "error"
    assert started == []
    worker.time.calls_take = 0
    assert worker.task()["error_code"] == "not_started"
    assert worker.time.now < NOW + 120


# --- the handler ----------------------------------------------------------------------------------


def test_seed_s_direct_invocation_runs_through_the_real_call_and_a_real_socket(
    worker: Worker, deployed: AgentServer
):
    vendors = [{"name": "Ann", "email": "ann@x"}]
    emails = [{"recipient": "ANN@x", "subject": "Hello"}]
    answer = {"response": "I e-mailed Ann.", "vendors": vendors, "emails": emails}
    deployed.play(streams(line({"message": "Looking for painters"}), line(answer)))
    event = {"task_id": "test-123", "description": "Find me a painter"}
    assert worker.handle(event)["outcome"] == "completed"
    task = task_store().get_task("test-123", "public")
    assert (task["status"], task["description"]) == ("completed", "Find me a painter")
    assert task["vendors"][0]["emails"] == emails
    assert task["emails_sent"] == 1
    assert [one["message"] for one in task["events"]] == [
        *BEGINNING,
        "Looking for painters",
        COMPLETED,
    ]
    assert worker.handle(event)["outcome"] == "not_claimed"
    assert len(deployed.runs) == 1
    assert deployed.stops == []
    assert worker.log.outcomes == ["completed", "not_claimed"]


def test_the_environment_names_qualifier_protocol_and_stopping(
    worker: Worker, deployed: AgentServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AGENT_RUNTIME_QUALIFIER", "prod")
    monkeypatch.setenv("AGENT_PROTOCOL", "AGUI")
    monkeypatch.setenv("STOP_SESSION_AFTER_TASK", "true")
    worker.handle({"task_id": TASK_ID, "description": "x"})
    assert [call.operation for call in deployed.calls] == ["invocations", "stopruntimesession"]
    assert {call.session for call in deployed.calls} == {TASK_ID}
    assert [call.query for call in deployed.calls] == [{"qualifier": ["prod"]}] * 2
    assert deployed.runs[0].payload["runId"] == TASK_ID


def test_the_agent_is_told_whose_task_it_is_where_people_sign_in(
    worker: Worker, deployed: AgentServer
):
    for owner in ("public", "jwt#ann#1"):
        task, _ = worker.store.create_task(owner[:3], "x", owner)
        event = {"task_id": owner[:3], "description": "x", "created_at": task["created_at"]}
        worker.handle(event)
    assert [call.payload.get("user_id") for call in deployed.runs] == [None, "ann#1"]


@pytest.mark.parametrize(
    "event",
    [
        None,
        {"description": "x"},
        {"task_id": 5, "description": "x"},
        {"task_id": "a#1", "description": "x"},
        {"task_id": TASK_ID},
        {"task_id": TASK_ID, "description": "  "},
        {"task_id": TASK_ID, "description": "x", "created_at": 5},
        {"task_id": TASK_ID, "description": "x", "created_at": "9999"},
        {"stop": "x#0"},
        {"stop": True},
    ],
    ids=str,
)
def test_a_malformed_event_is_answered_with_an_error_and_never_raised(
    worker: Worker, deployed: AgentServer, event: Any
):
    """Raised, Lambda would deliver it twice more."""
    answer = worker.handle(event)
    assert answer["code"] == "invalid_event"
    assert answer["error"]
    assert (worker.items(), deployed.calls) == ([], [])
    assert [one["level"] for one in worker.log.lines] == ["ERROR"]


@pytest.mark.parametrize(
    "arn, protocol, message",
    [
        ("", "", "AGENT_RUNTIME_ARN not set"),
        ("YOUR_AGENT_ARN", "", "AGENT_RUNTIME_ARN is not the ARN of an AgentCore Runtime"),
        (ARN, "MCP", "AGENT_PROTOCOL must be HTTP or AGUI"),
    ],
)
@pytest.mark.usefixtures("deployed")
def test_without_an_agent_a_task_ends_at_once_and_the_next_event_may_find_one(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, arn: str, protocol: str, message: str
):
    store = task_store()
    made, _ = store.create_task("made", "x")
    with monkeypatch.context() as patch:
        patch.setenv("AGENT_RUNTIME_ARN", arn)
        patch.setenv("AGENT_PROTOCOL", protocol)
        for task_id, created_at in (("made", made["created_at"]), ("by-hand", "")):
            event = {"task_id": task_id, "description": "x", "created_at": created_at}
            code = {"error": message, "code": "not_configured", "task_id": task_id}
            assert worker.handle(event) == code
            task = store.get_task(task_id, "public")
            assert (task["status"], task["error_message"]) == ("error", message)
            assert task["events"][-1]["message"] == f"Agent error: {message}"
    assert worker.handle({"task_id": "next", "description": "x"})["outcome"] == "completed"
    assert worker.log.outcomes == ["error", "error", "completed"]


@pytest.mark.usefixtures("deployed")
def test_without_an_agent_a_deleted_task_stays_deleted_and_one_that_runs_elsewhere_runs_on(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    """The function's configuration changed while an older worker was still at work."""
    monkeypatch.delenv("AGENT_RUNTIME_ARN")
    event = {"task_id": TASK_ID, "description": "x", "created_at": timestamp(NOW)}
    assert worker.handle(event)["code"] == "not_configured"
    assert worker.items() == []
    store = task_store()
    task, _ = store.create_task(TASK_ID, "x")
    store.claim_task(TASK_ID, "token", time.time() + 600)
    worker.handle(event | {"created_at": task["created_at"]})
    assert store.get_task(TASK_ID, "public")["status"] == "processing"
    assert worker.log.outcomes == ["deleted", "not_claimed"]
