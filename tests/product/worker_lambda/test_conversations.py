"""What the worker makes of a conversation: what the agent is asked, and whose session it stops."""

from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from tests.product.worker_lambda.fakes import (
    ANSWER,
    DESCRIPTION,
    TASK_ID,
    Say,
    Worker,
    answers,
    raises,
    refusal,
)
from valro.agent.answers import AgentFailed, AgentLost, Answer
from valro.agent.runtime import AgentRequest
from valro.tasks import Outcome, Report
from worker_lambda import TaskEvent

ASKS = [{"id": "i-1", "message": "Book Lone Brush for $390?"}]
QUESTION = Answer("", interrupts=ASKS, message_id="m-1")
NEXT_ID = "a-follow-up"


def follow(worker: Worker, follows: str = TASK_ID, task_id: str = NEXT_ID) -> TaskEvent:
    task, _ = worker.store.follow_task(task_id, "Yes", "public", "f", follows=follows)
    return TaskEvent(task_id, "Yes", task["created_at"])


def test_a_follow_up_goes_on_with_all_that_was_said_and_the_answer_in_the_same_session(
    worker: Worker,
):
    """It costs one read more than any task, and its first write is two."""
    worker.run(answers(QUESTION))
    worker.client.calls.clear()
    worker.deliver(follow(worker))
    begun = ["batch_get_item", "transact_write_items"]
    assert worker.client.calls == [*begun, "update_item", "update_item"]
    assert worker.agent.requests[1] == AgentRequest(
        NEXT_ID,
        "Yes",
        thread_id=TASK_ID,
        history=[
            {"id": TASK_ID, "role": "user", "content": DESCRIPTION},
            {"id": "m-1", "role": "assistant", "content": "Book Lone Brush for $390?"},
        ],
        resume=[{"interruptId": "i-1", "status": "resolved", "payload": "Yes"}],
        session=TASK_ID,
    )


def test_an_error_beside_the_questions_wins_and_they_are_logged(worker: Worker):
    worker.run(raises(AgentFailed("It failed.", partial=QUESTION)))
    assert worker.task()["status"] == "error"
    assert "interrupts" not in worker.task()
    (asked,) = worker.log.said("not asked, since it failed")
    assert "Lone Brush" in asked


@pytest.mark.parametrize(
    "answer, wish, is_open",
    [(ANSWER, "", True), (ANSWER, "true", False), (QUESTION, "", True), (QUESTION, "true", True)],
)
def test_a_session_is_either_stopped_or_open_to_a_follow_up(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, answer: Answer, wish: str, is_open: bool
):
    """One in which an agent waits for an answer is never stopped after its task."""
    monkeypatch.setenv("STOP_SESSION_AFTER_TASK", wish)
    worker.run(answers(answer))
    assert worker.agent.stops == ([] if is_open else [TASK_ID])
    worker.deliver(follow(worker))
    assert worker.agent.requests[1].session == (TASK_ID if is_open else NEXT_ID)


def test_whoever_stops_a_follow_up_stops_the_session_that_it_runs_in(stopping: Worker):
    stopping.run(answers(QUESTION))
    event = follow(stopping)

    def play(_: Say) -> Answer:
        stopping.store.cancel_task(NEXT_ID, "public")
        stopping.handle({"stop": NEXT_ID})
        raise AgentLost("Lost.")

    stopping.agent.play = play
    stopping.deliver(event)
    stopping.handle({"stop": TASK_ID})
    assert stopping.agent.stops == [TASK_ID, TASK_ID]
    # Whoever follows the cancelled one is out of every stop's reach.
    stopping.agent.play = answers(ANSWER)
    stopping.deliver(follow(stopping, NEXT_ID, "third"))
    assert stopping.agent.requests[2].session == "third"


def test_a_completed_task_whose_agent_reported_is_not_stopped_by_a_late_event(
    reporting: Worker, stopping: Worker
):
    """A follow-up may be at work in its session."""
    reporting.run()
    task = reporting.store.find_task(TASK_ID)
    reporting.store.report(task, Report("r-1", outcome=Outcome.of({})))
    assert reporting.task()["status"] == "completed"
    assert stopping.handle({"stop": TASK_ID})["outcome"] == "nothing_to_stop"
    assert reporting.agent.stops == []


@pytest.mark.parametrize("is_written", [False, True])
def test_while_nobody_knows_whether_the_agent_may_report_its_session_is_left_alone(
    reporting: Worker, monkeypatch: pytest.MonkeyPatch, is_written: bool
):
    """It may complete its task by a report, and a follow-up may go on in its session."""
    accept = reporting.store.accept_task

    def unheard(claim: Any) -> None:
        if is_written:
            accept(claim)
        reporting.client.down = True
        raise refusal("AccessDeniedException")

    monkeypatch.setattr(reporting.store, "accept_task", unheard)
    with pytest.raises(EndpointConnectionError):
        reporting.run()
    assert reporting.agent.stops == []
