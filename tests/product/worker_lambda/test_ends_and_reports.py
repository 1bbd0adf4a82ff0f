"""Who asks for a task's end, and agents that work on and report."""

import hashlib
import re
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

import dynamodb_helpers
from dynamodb_helpers import TaskStore
from tests.product.worker_lambda.fakes import (
    ANSWER,
    BEGINNING,
    FORBIDDEN,
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
from valro import tasks
from valro.agent.answers import (
    Accepted,
    AgentFailed,
    AgentLost,
    Answer,
)
from valro.tasks import Outcome

# --- who asks for the end -------------------------------------------------------------------------


@pytest.mark.parametrize("cancelled", [False, True])
def test_an_agent_is_given_up_only_if_the_task_s_end_was_asked_for(worker: Worker, cancelled: bool):
    heard: list[bool] = []

    def play(_: Say) -> Answer:
        if cancelled:
            worker.cancel()
        heard.append(worker.agent.should_stop())
        raise AgentLost("The agent was told to stop.", partial=ANSWER)

    worker.run(play)
    assert heard == [cancelled]
    task = worker.task()
    assert task["error_code"] == ("cancelled" if cancelled else "agent_lost")
    assert task["agent_response"] == ANSWER.agent_response
    assert worker.agent.stops == [TASK_ID]


def test_an_agent_is_given_up_once_a_reader_ended_its_task_or_its_owner_deleted_it(
    worker: Worker,
):
    heard: list[bool] = []

    def play(_: Say) -> Answer:
        worker.time.sleep(661)
        worker.task()
        heard.append(worker.agent.should_stop())
        worker.store.delete_task(TASK_ID, "public")
        heard.append(worker.agent.should_stop())
        return ANSWER

    assert worker.run(play) == "lost"
    assert heard == [True, True]
    assert [set(item) for item in worker.items()] == [{"id", "status", "session"}]


def test_an_agent_is_waited_for_while_nobody_can_look(worker: Worker):
    heard: list[bool] = []

    def play(_: Say) -> Answer:
        worker.cancel()
        worker.client.down = True
        heard.append(worker.agent.should_stop())
        worker.client.down = False
        return ANSWER

    worker.run(play)
    assert heard == [False]


def test_progress_that_a_cancellation_refuses_stops_the_session_once(worker: Worker):

    def play(say: Say) -> Answer:
        say("one")
        worker.timers.fire()
        worker.cancel()
        for message in ("two", "three"):
            worker.time.sleep(3)
            say(message)
            worker.timers.fire()
        assert worker.agent.stops == [TASK_ID]
        return ANSWER

    assert worker.run(play) == "cancelled"
    task = worker.task()
    assert task["error_code"] == "cancelled"
    assert worker.messages() == [*BEGINNING, "one", "two", "three", f"Cancelled. {MAYBE}"]
    assert worker.agent.stops == [TASK_ID]


@pytest.mark.parametrize(
    "play, kept",
    [
        (lambda _: ANSWER, ANSWER.agent_response),
        (raises(AgentFailed("No.", partial=ANSWER)), ANSWER.agent_response),
        (raises(AgentLost("Lost.", partial=ANSWER)), ANSWER.agent_response),
        (raises(RuntimeError("ours")), None),
    ],
    ids=["answer", "failed", "lost", "ours"],
)
def test_whatever_came_out_a_cancelled_task_ends_as_cancelled_with_what_was_answered(
    worker: Worker, log: Log, play: Any, kept: str | None
):
    """A stream that ends cleanly after a stop is not a completed task."""

    def cancelled(say: Say) -> Answer:
        worker.cancel()
        answer: Answer = play(say)
        return answer

    assert worker.run(cancelled) == "cancelled"
    task = worker.task()
    assert (task["status"], task["error_code"]) == ("error", "cancelled")
    assert task["error_message"] == f"Cancelled. {MAYBE}"
    assert task.get("agent_response") == kept
    assert log.outcomes == ["cancelled"]
    # The stop that the cancellation sent may have come before the agent started.
    assert worker.agent.stops == [TASK_ID]


# --- agents that report ---------------------------------------------------------------------------


def test_without_a_base_for_reports_the_agent_hears_of_none(worker: Worker):
    worker.run()
    assert worker.agent.report is None
    assert "report_hash" not in worker.task()


def test_an_agent_learns_where_to_report_and_only_a_hash_of_its_token_is_kept(reporting: Worker):
    reporting.run()
    assert reporting.agent.report is not None
    token = reporting.agent.report["token"]
    assert reporting.agent.report == {
        "url": f"https://api.example/prod/tasks/{TASK_ID}/reports",
        "token": token,
    }
    assert re.fullmatch("[0-9a-f]{32}", token)
    (item,) = reporting.items()
    assert item["report_hash"] == {"S": hashlib.sha256(token.encode()).hexdigest()}
    assert token not in str(item)
    assert token != item["claim"]["S"]


def test_an_agent_that_accepts_is_left_to_its_work(reporting: Worker, log: Log):
    assert reporting.run() == "accepted"
    task = reporting.task()
    assert task["status"] == "processing"
    assert "last_report" in task
    assert reporting.messages() == BEGINNING
    assert reporting.agent.stops == []
    assert log.outcomes == ["accepted"]


def test_an_acceptance_after_a_cancellation_ends_the_task_and_stops_the_session(
    reporting: Worker,
):

    def play(_: Say) -> Answer:
        reporting.cancel()
        return Accepted("")

    assert reporting.run(play) == "cancelled"
    assert reporting.task()["error_code"] == "cancelled"
    assert reporting.agent.stops == [TASK_ID]


def test_an_acceptance_that_cannot_be_written_ends_the_task_and_stops_the_session(
    reporting: Worker, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reporting.store, "accept_task", raises(FORBIDDEN))
    assert reporting.run() == "error"
    task = reporting.task()
    assert task["error_code"] == "agent_lost"
    assert MAYBE in task["error_message"]
    assert reporting.agent.stops == [TASK_ID]


@pytest.mark.parametrize("reported", [None, [], ["E-mailed Lone Brush"]])
def test_an_agent_whose_acceptance_was_written_is_not_stopped_though_it_seems_refused(
    reporting: Worker, log: Log, monkeypatch: pytest.MonkeyPatch, reported: list[str] | None
):
    """Its answer was lost, a report may have come, and what was sent again was refused otherwise."""
    accept = reporting.store.accept_task

    def accepted_unheard(claim: dynamodb_helpers.Claim) -> None:
        accept(claim)
        task = reporting.store.find_task(TASK_ID)
        if reported is not None:
            reporting.store.report(task, tasks.Report("a1", reported))
        raise FORBIDDEN

    monkeypatch.setattr(reporting.store, "accept_task", accepted_unheard)
    assert reporting.run() == "accepted"
    assert reporting.messages() == [*BEGINNING, *(reported or [])]
    assert reporting.task()["status"] == "processing"
    assert reporting.agent.stops == []
    assert log.outcomes == ["accepted"]


@pytest.mark.parametrize("is_deleted", [False, True])
def test_an_agent_that_may_have_been_accepted_is_stopped_unless_nobody_knows_how_its_task_ended(
    reporting: Worker, monkeypatch: pytest.MonkeyPatch, is_deleted: bool
):
    """A deleted task may have completed by a report, and another may use the session now."""

    def refused_too_late(_claim: Any) -> None:
        reporting.time.sleep(661)
        reporting.task()
        if is_deleted:
            reporting.store.delete_task(TASK_ID, "public")
        raise FORBIDDEN

    monkeypatch.setattr(reporting.store, "accept_task", refused_too_late)
    assert reporting.run() == "lost"
    assert reporting.agent.stops == ([] if is_deleted else [TASK_ID])


def test_a_code_under_a_status_of_somebody_elses_ends_no_tries(worker: Worker):
    """A proxy's 502 can have any code in its body."""
    refusals = [
        ClientError(
            {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 502}}, "UpdateItem"
        )
        for code in ("AccessDeniedException", "ValidationException")
    ]
    end_task = worker.store.end_task

    def refused_at_first(claim: dynamodb_helpers.Claim, outcome: Outcome) -> None:
        if refusals:
            raise refusals.pop()
        end_task(claim, outcome)

    worker.store.end_task = refused_at_first  # type: ignore[method-assign]
    assert worker.run(lambda _: ANSWER) == "completed"
    assert worker.task()["agent_response"] == ANSWER.agent_response


def test_an_acceptance_to_a_task_that_a_reader_ended_stops_the_session(reporting: Worker):

    def play(_: Say) -> Answer:
        reporting.time.sleep(661)
        reporting.task()
        return Accepted("")

    assert reporting.run(play) == "lost"
    assert reporting.task()["error_code"] == "worker_lost"
    assert reporting.agent.stops == [TASK_ID]


@pytest.mark.parametrize("ends", ["answer", "failed", "unreadable", "ours", "lost"])
def test_its_token_is_nowhere_whatever_it_says(reporting: Worker, log: Log, ends: str):
    tokens: list[str] = []

    def play(say: Say) -> Answer:
        token = (reporting.agent.report or {})["token"]
        tokens.append(token)
        say(f"curl -H 'Bearer {token}' {'x' * 2_000}")
        reporting.timers.fire()
        answer = Answer(
            f"I used {token}.",
            [{"name": token, token: [token]}],
            [{"note": token}],
            unmatched_emails=[{"recipient": token}],
            unparsed=f"raw {token}",
        )
        if ends == "failed":
            raise AgentFailed(f"No. {token}", f"detail {token}", answer, f"raw {token}")
        if ends == "unreadable":
            raise AgentFailed("No.", unparsed=f"raw {token}")
        if ends == "lost":
            reporting.client.down = True
            reporting.time.sleep(585)
        if ends == "ours":
            raise RuntimeError(f"ours {token}")
        return answer

    with suppress(EndpointConnectionError):
        reporting.run(play)
    (token,) = tokens
    assert token not in str(reporting.items())
    assert token not in log.text
    assert "[token]" in log.text
    assert reporting.client.down or "[token]" in str(reporting.items())


# --- the event that stops an agent ----------------------------------------------------------------


def no_session() -> ClientError:
    return ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "StopRuntimeSession")


def in_state(worker: Worker, state: str) -> None:
    """Brings the task into a state that a stop may find, by what happens to it one after another."""
    happenings = state.split(", ")
    if happenings == ["absent"]:
        return
    worker.create()
    claim: Any = None
    if happenings[0] != "pending":
        claim = worker.store.claim_task(TASK_ID, "claim", worker.time.now + 600)
    for happening in happenings:
        match happening:
            case "reporting":
                worker.store.accept_task(claim)
            case "cancelled":
                worker.cancel()
            case "expired":
                worker.time.sleep(961 if happenings[0] == "pending" else 661)
                worker.task()
            case "completed":
                worker.store.end_task(claim, Outcome())
            case "reported" | "failed":
                outcome = Outcome(error_code="agent_failed" if happening == "failed" else "")
                worker.store.report(worker.task(), tasks.Report("end", outcome=outcome))
            case "deleted":
                worker.store.delete_task(TASK_ID, "public")


@pytest.mark.parametrize(
    "state, stops, ends_as",
    [
        ("absent", 0, None),
        ("processing, completed, deleted", 0, None),
        ("pending, cancelled, deleted", 0, None),
        ("processing, expired", 1, "error"),
        ("processing, expired, deleted", 1, None),
        ("processing, cancelled, expired, deleted", 1, None),
        ("reporting, expired, deleted", 1, None),
        ("reporting, reported, deleted", 0, None),
        ("reporting, failed, deleted", 0, None),
        ("pending", 0, "pending"),
        ("processing", 0, "processing"),
        ("processing, cancelled", 1, "processing"),
        ("reporting", 0, "processing"),
        ("reporting, cancelled", 1, "error"),
        ("reporting, expired", 1, "error"),
        ("processing, completed", 0, "completed"),
    ],
)
def test_a_session_is_stopped_only_if_its_end_was_asked_for_or_nobody_saw_it(
    stopping: Worker, log: Log, state: str, stops: int, ends_as: str | None
):
    in_state(stopping, state)
    before = stopping.items()
    outcome = handle(stopping, {"stop": TASK_ID})["outcome"]
    assert outcome == ("stopped" if stops else "nothing_to_stop")
    assert stopping.agent.stops == [TASK_ID] * stops
    if ends_as:
        assert stopping.task()["status"] == ends_as
    if state != "reporting, cancelled":
        assert stopping.items() == before
    assert [one for one in log.outcomes if one != "expired"] == [outcome]


def test_a_silent_agent_whose_first_reader_deletes_its_task_is_stopped(stopping: Worker):
    """Both happen in one request, and the stop event comes after them."""
    events: list[str] = []
    in_state(stopping, "reporting")
    stopping.time.sleep(601)
    stopping.store.on_expired = lambda task: events.append(task["id"])
    stopping.store.delete_task(TASK_ID, "public")
    for task_id in events:
        handle(stopping, {"stop": task_id})
    assert stopping.agent.stops == [TASK_ID]


def test_whoever_writes_an_end_logs_how_long_the_run_took(stopping: Worker, log: Log):
    for state in ("processing, expired", "reporting, expired", "pending, expired"):
        in_state(stopping, state)
        stopping.client.client.delete_item(
            TableName=stopping.store.table_name, Key={"id": {"S": TASK_ID}}
        )
    in_state(stopping, "reporting, cancelled")
    stopping.time.sleep(2)
    handle(stopping, {"stop": TASK_ID})
    durations = [one.get("duration_ms") for one in log.lines]
    assert durations == [661_000, 661_000, None, 2_000]


def test_the_end_of_a_reporting_task_is_written_by_who_stops_it(stopping: Worker):
    in_state(stopping, "reporting, cancelled")
    for _ in range(2):
        handle(stopping, {"stop": TASK_ID})
    task = stopping.task()
    assert (task["error_code"], task["error_message"]) == ("cancelled", f"Cancelled. {MAYBE}")
    assert stopping.messages() == [*BEGINNING, f"Cancelled. {MAYBE}"]


@pytest.mark.parametrize(
    "state, is_raised",
    [
        ("processing, cancelled", True),  # its agent may be called any moment
        ("reporting, cancelled", False),
        ("reporting, expired", False),
    ],
)
def test_a_session_that_there_is_not_yet_is_stopped_when_lambda_brings_the_event_again(
    stopping: Worker, state: str, is_raised: bool
):
    in_state(stopping, state)
    stopping.agent.stop_error = no_session()
    if is_raised:
        with pytest.raises(ClientError, match="ResourceNotFound"):
            handle(stopping, {"stop": TASK_ID})
    else:
        assert handle(stopping, {"stop": TASK_ID})["outcome"] == "stopped"
        assert stopping.task()["status"] == "error"


@pytest.mark.parametrize(
    "error", [throttled("StopRuntimeSession"), ReadTimeoutError(endpoint_url="https://agent")]
)
def test_a_stop_that_fails_is_brought_again(stopping: Worker, error: Exception):
    in_state(stopping, "reporting, cancelled")
    stopping.agent.stop_error = error
    with pytest.raises(type(error)):
        handle(stopping, {"stop": TASK_ID})
    stopping.agent.stop_error = None
    handle(stopping, {"stop": TASK_ID})
    assert stopping.task()["error_code"] == "cancelled"


def test_a_task_that_is_deleted_while_its_agent_is_stopped_is_nobodys_trouble(stopping: Worker):
    in_state(stopping, "reporting, cancelled")

    def delete() -> None:
        stopping.time.sleep(59)
        reader = TaskStore(stopping.client, stopping.store.table_name, clock=lambda: NOW + 61)
        reader.delete_task(TASK_ID, "public")

    stopping.agent.meanwhile = delete
    assert handle(stopping, {"stop": TASK_ID})["outcome"] == "stopped"
    assert [set(item) for item in stopping.items()] == [{"id", "status", "session"}]


def test_a_stop_runs_no_agent_and_needs_a_task_s_id(stopping: Worker):
    stopping.create()
    handle(stopping, {"stop": TASK_ID, "task_id": TASK_ID, "description": "x"})
    assert stopping.agent.runs == []
    for event in ({"stop": ""}, {"stop": "x#0"}, {"stop": 7}, {"stop": True}):
        assert handle(stopping, event)["code"] == "invalid_event"
    assert stopping.agent.stops == []
