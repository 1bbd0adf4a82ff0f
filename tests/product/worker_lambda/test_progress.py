"""What the worker writes while the agent works."""

import threading
from collections.abc import Callable

import pytest

import dynamodb_helpers
from tests.product.worker_lambda.fakes import (
    ANSWER,
    BEGINNING,
    NOW,
    FakeAgent,
    FakeContext,
    Log,
    Say,
    Worker,
    says,
)
from valro.agent.answers import (
    Answer,
)
from valro.tasks import Outcome, timestamp
from worker_lambda import TaskRun

# --- progress -------------------------------------------------------------------------------------


def test_the_first_line_is_written_at_once_and_the_next_ones_together_two_seconds_later(
    worker: Worker,
):
    """At most one write every two seconds."""
    writes: list[int] = []

    def play(say: Say) -> Answer:
        say("one")
        worker.timers.fire()
        worker.time.sleep(0.5)
        writes.append(len(worker.client.writes))
        for message in ("two", "three"):
            say(message)
        writes.append(len(worker.client.writes))
        worker.time.sleep(1.5)
        worker.timers.fire()
        writes.append(len(worker.client.writes))
        assert worker.messages() == [*BEGINNING, "one", "two", "three"]
        return ANSWER

    worker.run(play)
    assert worker.timers.waits == [0.0, 1.5]
    assert writes == [3, 3, 4]
    assert len(worker.client.writes) == 5


def test_a_line_after_a_long_silence_is_written_at_once(worker: Worker):
    def play(say: Say) -> Answer:
        say("one")
        worker.timers.fire()
        worker.time.sleep(60)
        say("two")
        return ANSWER

    worker.run(play)
    assert worker.timers.waits == [0.0, 0.0]


def test_a_clock_set_back_neither_silences_the_agent_nor_turns_the_timeline_round(worker: Worker):
    def play(say: Say) -> Answer:
        say("one")
        worker.timers.fire()
        worker.time.now -= 3_600
        say("two")
        worker.timers.fire()
        return ANSWER

    worker.run(play)
    assert worker.timers.waits == [0.0, 2.0]
    times = [event["ts"] for event in worker.task()["events"]]
    assert times == sorted(times)


def test_a_line_carries_the_time_at_which_it_was_said(worker: Worker):
    def play(say: Say) -> Answer:
        say("one")
        worker.time.sleep(30)
        return ANSWER

    worker.run(play)
    times = {event["message"]: event["ts"] for event in worker.task()["events"]}
    assert times["one"] == timestamp(NOW)
    assert times["Agent completed task successfully"] == timestamp(NOW + 30)


def test_what_is_unwritten_at_the_end_rides_in_the_outcome(worker: Worker):
    worker.run(says("one", "two"))
    assert len(worker.client.writes) == 3
    assert worker.messages()[3:5] == ["one", "two"]
    assert worker.timers.running == []


def test_a_timer_that_goes_off_during_the_outcome_s_write_writes_nothing(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    """cancel() does not stop a timer that has begun."""
    late: list[Callable[[], None]] = []
    complete = worker.store.end_task

    def complete_late(claim: dynamodb_helpers.Claim, outcome: Outcome) -> None:
        late[0]()
        complete(claim, outcome)

    monkeypatch.setattr(worker.store, "end_task", complete_late)

    def play(say: Say) -> Answer:
        say("one")
        late.append(worker.timers.running[0].write)
        return ANSWER

    worker.run(play)
    assert len(worker.client.writes) == 3
    assert worker.messages()[3:] == ["one", "Agent completed task successfully"]


def test_a_failed_progress_write_is_not_fatal_and_its_lines_ride_in_the_next(
    worker: Worker, log: Log
):

    def play(say: Say) -> Answer:
        worker.client.refuse = ["update_item"]
        say("one")
        worker.timers.fire()
        assert worker.messages() == BEGINNING
        say("two")
        worker.timers.fire()
        assert worker.messages() == [*BEGINNING, "one", "two"]
        return ANSWER

    assert worker.run(play) == "completed"
    assert len(log.said("progress not written")) == 1


def test_with_real_timers_a_line_is_seen_while_the_agent_is_silent(worker: Worker):
    """And a slow write never keeps the agent's stream from being read."""
    seen = threading.Event()
    record = worker.store.record_progress

    def recorded(claim: dynamodb_helpers.Claim) -> None:
        record(claim)
        seen.set()

    worker.store.record_progress = recorded  # type: ignore[method-assign]

    def play(say: Say) -> Answer:
        say("one")
        assert seen.wait(5)
        assert worker.messages() == [*BEGINNING, "one"]
        return ANSWER

    event = worker.create()
    context = FakeContext(worker.time)
    agent = FakeAgent(play)
    run = TaskRun(worker.store, agent, event, context, clock=worker.time.clock)
    assert run.run()["outcome"] == "completed"


def test_the_outcome_waits_for_a_progress_write_that_is_under_way(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    """Two writes of one claim at once would each find the other's event_seq wrong."""
    under_way, go_on = threading.Event(), threading.Event()
    record, complete = worker.store.record_progress, worker.store.end_task
    order: list[str] = []

    def slow(claim: dynamodb_helpers.Claim) -> None:
        under_way.set()
        assert go_on.wait(5)
        record(claim)
        order.append("progress")

    def then(claim: dynamodb_helpers.Claim, outcome: Outcome) -> None:
        order.append("outcome")
        complete(claim, outcome)

    monkeypatch.setattr(worker.store, "record_progress", slow)
    monkeypatch.setattr(worker.store, "end_task", then)

    def play(say: Say) -> Answer:
        say("one")
        assert under_way.wait(5)
        say("two")  # returns at once
        threading.Timer(0.02, go_on.set).start()
        return ANSWER

    event = worker.create()
    context = FakeContext(worker.time)
    TaskRun(worker.store, FakeAgent(play), event, context, clock=worker.time.clock).run()
    assert order == ["progress", "outcome"]
    assert worker.messages() == [
        *BEGINNING,
        "one",
        "two",
        "Agent completed task successfully",
    ]
