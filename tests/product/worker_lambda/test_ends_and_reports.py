"""Who asks for a task's end, and agents that work on and report."""

import hashlib
import re
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from dynamodb_helpers import Claim
from tests.product.worker_lambda.fakes import (
    ANSWER,
    BEGINNING,
    MAYBE,
    TASK_ID,
    Play,
    Say,
    Worker,
    answers,
    raises,
    refusal,
)
from valro.agent.answers import Accepted, AgentFailed, AgentLost, Answer
from valro.tasks import Report

# --- who asks for the end -------------------------------------------------------------------------


def test_an_agent_is_given_up_only_once_somebody_who_looks_finds_that_its_end_was_asked_for(
    worker: Worker,
):
    heard: list[bool] = []

    def play(_: Say) -> Answer:
        heard.append(worker.agent.should_stop())
        worker.cancel()
        worker.client.down = True
        heard.append(worker.agent.should_stop())
        worker.client.down = False
        heard.append(worker.agent.should_stop())
        return ANSWER

    worker.run(play)
    assert heard == [False, False, True]


def test_an_agent_is_given_up_once_a_reader_ended_its_task_or_its_owner_deleted_it(
    worker: Worker,
):
    heard: list[bool] = []

    def play(_: Say) -> Answer:
        worker.end_by_reading()
        heard.append(worker.agent.should_stop())
        worker.delete()
        heard.append(worker.agent.should_stop())
        return ANSWER

    assert worker.run(play) == "lost"
    assert heard == [True, True]
    assert [set(item) for item in worker.items()] == [{"id", "status", "session"}]


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
    assert worker.task()["error_code"] == "cancelled"
    assert worker.messages() == [*BEGINNING, "one", "two", "three", f"Cancelled. {MAYBE}"]
    assert worker.agent.stops == [TASK_ID]


@pytest.mark.parametrize(
    "play, kept",
    [
        (answers(ANSWER), ANSWER.agent_response),
        (raises(AgentLost("Lost.", partial=ANSWER)), ANSWER.agent_response),
        (raises(RuntimeError("ours")), None),
        (answers(Accepted("")), None),
    ],
    ids=["answer", "lost", "ours", "accepted"],
)
def test_whatever_came_out_a_cancelled_task_ends_as_cancelled_with_what_was_answered(
    worker: Worker, play: Play, kept: str | None
):
    """A stream that ends cleanly after a stop is not a completed task."""

    def cancelled(say: Say) -> Answer:
        worker.cancel()
        return play(say)

    assert worker.run(cancelled) == "cancelled"
    task = worker.task()
    assert (task["status"], task["error_code"]) == ("error", "cancelled")
    assert task["error_message"] == f"Cancelled. {MAYBE}"
    assert task.get("agent_response") == kept
    assert worker.log.outcomes == ["cancelled"]
    # The stop that the cancellation sent may have come before the agent started.
    assert worker.agent.stops == [TASK_ID]


# --- agents that report ---------------------------------------------------------------------------


def test_without_a_base_for_reports_the_agent_hears_of_none(worker: Worker):
    worker.run()
    assert worker.agent.requests[0].report is None
    assert "report_hash" not in worker.items()[0]


def test_an_agent_learns_where_to_report_only_a_hash_of_its_token_is_kept_and_it_is_left_to_its_work(
    reporting: Worker,
):
    assert reporting.run() == "accepted"
    report = reporting.agent.requests[0].report
    assert report is not None
    token = report["token"]
    assert report["url"] == f"https://api.example/prod/tasks/{TASK_ID}/reports"
    assert re.fullmatch("[0-9a-f]{32}", token)
    (item,) = reporting.items()
    assert item["report_hash"] == {"S": hashlib.sha256(token.encode()).hexdigest()}
    assert token not in str(item)
    assert token != item["claim"]["S"]
    assert "last_report" in item
    assert reporting.task()["status"] == "processing"
    assert reporting.messages() == BEGINNING
    assert reporting.agent.stops == []
    assert reporting.log.outcomes == ["accepted"]


def test_an_acceptance_that_cannot_be_written_ends_the_task_and_stops_the_session(
    reporting: Worker, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reporting.store, "accept_task", raises(refusal("AccessDeniedException")))
    assert reporting.run() == "error"
    assert reporting.task()["error_code"] == "agent_lost"
    assert MAYBE in reporting.task()["error_message"]
    assert reporting.agent.stops == [TASK_ID]


@pytest.mark.parametrize("reported", [None, [], ["E-mailed Lone Brush"]])
def test_an_agent_whose_acceptance_was_written_is_not_stopped_though_it_seems_refused(
    reporting: Worker, monkeypatch: pytest.MonkeyPatch, reported: list[str] | None
):
    """Its answer was lost, a report may have come, and what was sent again was refused otherwise."""
    accept = reporting.store.accept_task

    def accepted_unheard(claim: Claim) -> None:
        accept(claim)
        if reported is not None:
            task = reporting.store.find_task(TASK_ID)
            reporting.store.report(task, Report("a1", reported))
        raise refusal("AccessDeniedException")

    monkeypatch.setattr(reporting.store, "accept_task", accepted_unheard)
    assert reporting.run() == "accepted"
    assert reporting.messages() == [*BEGINNING, *(reported or [])]
    assert reporting.task()["status"] == "processing"
    assert reporting.agent.stops == []
    assert reporting.log.outcomes == ["accepted"]


@pytest.mark.parametrize("is_deleted", [False, True])
def test_an_agent_that_may_have_been_accepted_is_stopped_unless_nobody_knows_how_its_task_ended(
    reporting: Worker, monkeypatch: pytest.MonkeyPatch, is_deleted: bool
):
    """A deleted task may have completed by a report, and another may use the session now."""

    def refused_too_late(_claim: Claim) -> None:
        reporting.end_by_reading()
        if is_deleted:
            reporting.delete()
        raise refusal("AccessDeniedException")

    monkeypatch.setattr(reporting.store, "accept_task", refused_too_late)
    assert reporting.run() == "lost"
    assert reporting.agent.stops == ([] if is_deleted else [TASK_ID])


def test_an_acceptance_to_a_task_that_a_reader_ended_stops_the_session(reporting: Worker):
    def play(_: Say) -> Answer:
        reporting.end_by_reading()
        return Accepted("")

    assert reporting.run(play) == "lost"
    assert reporting.task()["error_code"] == "worker_lost"
    assert reporting.agent.stops == [TASK_ID]


@pytest.mark.parametrize("ends", ["answer", "failed", "unreadable", "ours", "lost"])
def test_its_token_is_nowhere_whatever_it_says(reporting: Worker, ends: str):
    tokens: list[str] = []

    def play(say: Say) -> Answer:
        token = (reporting.agent.requests[0].report or {})["token"]
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
    assert token not in reporting.log.text
    assert "[token]" in reporting.log.text
    assert reporting.client.down or "[token]" in str(reporting.items())


# --- the event that stops an agent ----------------------------------------------------------------


@pytest.mark.parametrize(
    "state, stops, ends_as",
    [
        ("absent", 0, None),
        ("processing, completed, deleted", 0, None),
        ("pending, cancelled, deleted", 0, None),
        ("processing, late, read", 1, "error"),
        ("processing, late, read, deleted", 1, None),
        ("processing, cancelled, late, read, deleted", 1, None),
        ("reporting, late, read, deleted", 1, None),
        ("reporting, reported, deleted", 0, None),
        ("reporting, failed, deleted", 0, None),
        ("pending", 0, "pending"),
        ("processing", 0, "processing"),
        ("processing, cancelled", 1, "processing"),
        ("reporting", 0, "processing"),
        ("reporting, cancelled", 1, "error"),
        ("reporting, late, read", 1, "error"),
        ("processing, completed", 0, "completed"),
    ],
)
def test_a_session_is_stopped_only_if_its_end_was_asked_for_or_nobody_saw_it(
    stopping: Worker, state: str, stops: int, ends_as: str | None
):
    stopping.bring(state)
    before = stopping.items()
    event = {"stop": TASK_ID, "task_id": TASK_ID, "description": "and no other event"}
    outcome = stopping.handle(event)["outcome"]
    assert outcome == ("stopped" if stops else "nothing_to_stop")
    assert (stopping.agent.stops, stopping.agent.requests) == ([TASK_ID] * stops, [])
    if ends_as:
        assert stopping.task()["status"] == ends_as
    if state != "reporting, cancelled":
        assert stopping.items() == before
    assert [one for one in stopping.log.outcomes if one != "expired"] == [outcome]


def test_a_silent_agent_whose_first_reader_deletes_its_task_is_stopped(stopping: Worker):
    """Both happen in one request, and the stop event comes after them."""
    events: list[str] = []
    stopping.bring("reporting")
    stopping.time.sleep(601)
    stopping.store.on_expired = lambda task: events.append(task["id"])
    stopping.delete()
    for task_id in events:
        stopping.handle({"stop": task_id})
    assert stopping.agent.stops == [TASK_ID]


def test_whoever_writes_an_end_logs_how_long_the_run_took(
    stopping: Worker, dynamodb: Any, table_name: str
):
    for state in ("processing, late, read", "reporting, late, read", "pending, late, read"):
        stopping.bring(state)
        dynamodb.delete_item(TableName=table_name, Key={"id": {"S": TASK_ID}})
    stopping.bring("reporting, cancelled")
    stopping.time.sleep(2)
    stopping.handle({"stop": TASK_ID})
    durations = [one.get("duration_ms") for one in stopping.log.lines]
    assert durations == [961_000, 961_000, None, 2_000]


def test_the_end_of_a_reporting_task_is_written_by_who_stops_it(stopping: Worker):
    stopping.bring("reporting, cancelled")
    for _ in range(2):
        stopping.handle({"stop": TASK_ID})
    task = stopping.task()
    assert (task["error_code"], task["error_message"]) == ("cancelled", f"Cancelled. {MAYBE}")
    assert stopping.messages() == [*BEGINNING, f"Cancelled. {MAYBE}"]


@pytest.mark.parametrize("state", ["reporting, cancelled", "reporting, late, read"])
def test_a_session_that_is_gone_needs_no_stop(stopping: Worker, state: str):
    stopping.bring(state)
    stopping.agent.when_stopped = raises(refusal("ResourceNotFoundException"))
    assert stopping.handle({"stop": TASK_ID})["outcome"] == "stopped"
    assert stopping.task()["status"] == "error"


@pytest.mark.parametrize(
    "state, code",
    [
        (
            "processing, cancelled",
            "ResourceNotFoundException",
        ),  # its agent may be called any moment
        ("reporting, cancelled", "ThrottlingException"),
    ],
)
def test_a_stop_that_fails_is_brought_again(stopping: Worker, state: str, code: str):
    stopping.bring(state)
    before = stopping.items()
    stopping.agent.when_stopped = raises(refusal(code))
    with pytest.raises(ClientError, match=code):
        stopping.handle({"stop": TASK_ID})
    assert stopping.items() == before


def test_a_task_that_is_deleted_while_its_agent_is_stopped_is_nobodys_trouble(stopping: Worker):
    stopping.bring("reporting, cancelled")

    def delete() -> None:
        stopping.time.sleep(61)
        stopping.delete()

    stopping.agent.when_stopped = delete
    assert stopping.handle({"stop": TASK_ID})["outcome"] == "stopped"
    assert [set(item) for item in stopping.items()] == [{"id", "status", "session"}]
