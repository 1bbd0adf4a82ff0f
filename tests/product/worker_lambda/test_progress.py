"""What the worker writes while the agent works."""

import itertools
import threading

import pytest

from dynamodb_helpers import Claim
from tests.product.worker_lambda.fakes import ANSWER, BEGINNING, COMPLETED, NOW, Say, Worker
from valro import progress
from valro.agent.answers import Answer
from valro.tasks import Outcome, timestamp


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


@pytest.mark.parametrize("silence, wait", [(60, 0.0), (-3_600, 2.0)])
def test_a_clock_set_back_neither_silences_the_agent_nor_turns_the_timeline_round(
    worker: Worker, silence: float, wait: float
):
    """A line after a long silence is written at once."""

    def play(say: Say) -> Answer:
        say("one")
        worker.timers.fire()
        worker.time.now += silence
        say("two")
        worker.timers.fire()
        return ANSWER

    worker.run(play)
    assert worker.timers.waits == [0.0, wait]
    times = [event["ts"] for event in worker.task()["events"]]
    assert times == sorted(times)


def test_what_is_unwritten_at_the_end_rides_in_the_outcome_with_the_time_at_which_it_was_said(
    worker: Worker,
):
    def play(say: Say) -> Answer:
        say("one")
        worker.time.sleep(30)
        return ANSWER

    worker.run(play)
    assert len(worker.client.writes) == 3
    assert worker.timers.running == []
    times = [(event["message"], event["ts"]) for event in worker.task()["events"][3:]]
    assert times == [("one", timestamp(NOW)), (COMPLETED, timestamp(NOW + 30))]


def test_a_timer_that_goes_off_during_the_outcome_s_write_writes_nothing(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    """cancel() does not stop a timer that has begun."""
    end_task = worker.store.end_task

    def play(say: Say) -> Answer:
        say("one")
        (timer,) = worker.timers.running

        def end_late(claim: Claim, outcome: Outcome) -> None:
            timer.write()
            end_task(claim, outcome)

        monkeypatch.setattr(worker.store, "end_task", end_late)
        return ANSWER

    worker.run(play)
    assert len(worker.client.writes) == 3
    assert worker.messages()[3:] == ["one", COMPLETED]


def test_a_failed_progress_write_is_not_fatal_and_its_lines_ride_in_the_next(worker: Worker):
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
    assert len(worker.log.said("progress not written")) == 1


def test_with_real_timers_a_slow_write_keeps_neither_the_agent_nor_loses_the_outcome(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    """Two writes of one claim at once would each find the other's event_seq wrong."""
    under_way, go_on = threading.Event(), threading.Event()
    record, end_task = worker.store.record_progress, worker.store.end_task
    order: list[str] = []

    def slow(claim: Claim) -> None:
        under_way.set()
        assert go_on.wait(5)
        record(claim)
        order.append("progress")

    def then(claim: Claim, outcome: Outcome) -> None:
        order.append("outcome")
        end_task(claim, outcome)

    monkeypatch.setattr(worker.store, "record_progress", slow)
    monkeypatch.setattr(worker.store, "end_task", then)

    def play(say: Say) -> Answer:
        say("one")
        assert under_way.wait(5)  # although the agent says nothing more
        say("two")  # returns at once
        threading.Timer(0.02, go_on.set).start()
        return ANSWER

    worker.timer = threading.Timer
    worker.run(play)
    assert order == ["progress", "outcome"]
    assert worker.messages() == [*BEGINNING, "one", "two", COMPLETED]


def test_with_real_timers_a_flood_over_a_bad_line_is_told_once_and_in_order(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    """Lines arrive while others are being written, and answers get lost."""
    monkeypatch.setattr(progress, "PROGRESS_INTERVAL_SECONDS", 0.001)
    steps = [f"step {number}" for number in range(150)]
    faults = itertools.cycle([("lose", 1), ("lose", 0), ("refuse", 1), ("lose", 2)])
    record = worker.store.record_progress

    def record_badly(claim: Claim) -> None:
        fault, times = next(faults)
        setattr(worker.client, fault, ["update_item"] * times)
        record(claim)

    def play(say: Say) -> Answer:
        for step in steps:
            say(step)
            worker.time.now += 0.001
            threading.Event().wait(0.0005)
        return ANSWER

    monkeypatch.setattr(worker.store, "record_progress", record_badly)
    worker.timer = threading.Timer
    assert worker.run(play) == "completed"
    assert worker.messages() == [*BEGINNING, *steps, COMPLETED]
    assert len(worker.client.writes) > 6
