"""What becomes of an answer whose write goes wrong: it is in the table once, or in the log."""

import itertools
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

import worker_lambda
from dynamodb_helpers import Claim
from tests.product.worker_lambda.fakes import (
    ANSWER,
    BEGINNING,
    COMPLETED,
    DESCRIPTION,
    NOW,
    TASK_ID,
    Play,
    Say,
    Worker,
    answers,
    raises,
    refusal,
)
from valro import tasks
from valro.agent.answers import AgentFailed, AgentLost, Answer
from valro.progress import Progress
from valro.tasks import Outcome
from worker_lambda import TaskEvent


def before_the_end(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, happen: Callable[[Outcome], Any]
) -> None:
    """Lets something happen, or go wrong, each time that the outcome is to be written."""
    end_task = worker.store.end_task

    def end(claim: Claim, outcome: Outcome) -> None:
        happen(outcome)
        end_task(claim, outcome)

    monkeypatch.setattr(worker.store, "end_task", end)


# --- lost answers and refused writes --------------------------------------------------------------


@pytest.mark.parametrize("fault, calls", [("refuse", ["update_item"] * 3), ("lose", ["put_item"])])
def test_a_claim_by_hand_is_tried_again(worker: Worker, fault: str, calls: list[str]):
    setattr(worker.client, fault, calls)
    assert worker.deliver(TaskEvent(TASK_ID, DESCRIPTION, "")) == "completed"
    assert len(worker.agent.requests) == 1
    assert worker.messages() == [*BEGINNING, COMPLETED]


def test_a_claim_that_dynamodb_does_not_take_is_raised_before_the_agent_has_started(
    worker: Worker,
):
    """Lambda delivers the event again, and nothing has happened yet."""
    event = worker.create()
    worker.client.down = True
    with pytest.raises(EndpointConnectionError):
        worker.deliver(event)
    assert worker.agent.requests == []
    assert worker.time.now - NOW <= 30
    worker.client.down = False
    assert worker.deliver(event) == "completed"


def test_a_claim_that_is_forbidden_is_raised_at_once(worker: Worker, dynamodb: Any):
    event = worker.create()
    dynamodb.delete_table(TableName=worker.store.table_name)
    with pytest.raises(ClientError, match="ResourceNotFound"):
        worker.deliver(event)
    assert worker.client.writes == ["put_item", "update_item"]


@pytest.mark.parametrize(
    "play, status",
    [(answers(ANSWER), "completed"), (raises(AgentFailed("No.")), "error")],
    ids=["complete", "fail"],
)
@pytest.mark.parametrize("fault, times", [("lose", 1), ("lose", 5), ("refuse", 5)])
def test_an_outcome_whose_write_goes_wrong_is_written_once(
    worker: Worker, play: Play, status: str, fault: str, times: int
):
    def then_trouble(say: Say) -> Answer:
        setattr(worker.client, fault, ["update_item"] * times)
        say("one")
        return play(say)

    assert worker.run(then_trouble) == status
    assert worker.task()["status"] == status
    assert worker.messages()[:4] == [*BEGINNING, "one"]
    assert len(worker.messages()) == 5
    assert worker.log.outcomes == [status]


def test_an_answer_that_cannot_be_written_is_in_the_log_and_the_function_raises(worker: Worker):
    """Tried until another try would be cut off, and then told in parts that CloudWatch takes."""
    answer = Answer("🏠\u2028" * 20_000 + "\ufffd", ANSWER.vendors, ANSWER.quotes, 7)

    def play(_: Say) -> Answer:
        worker.client.down = True
        worker.time.calls_take = 3.0
        worker.time.sleep(500)
        return answer

    with pytest.raises(EndpointConnectionError):
        worker.run(play)
    assert 585 <= worker.time.now - NOW < 600  # a try takes 9 s, a wait 5 s, the log 1 s
    assert len(worker.client.writes) > 10
    parts = [one for one in worker.log.lines if "part" in one]
    numbers = range(1, len(parts) + 1)
    assert [(one["part"], one["parts"]) for one in parts] == [(n, len(parts)) for n in numbers]
    assert max(len(one.encode()) for one in worker.log.text.splitlines()) <= 200_000
    assert json.loads("".join(worker.log.in_case)) == {
        "agent_response": answer.agent_response,
        "vendors": answer.vendors,
        "quotes": answer.quotes,
        "emails_sent": 7,
    }
    assert worker.log.outcomes == ["lost"]


def test_an_outcome_that_dynamodb_will_never_take_is_logged_and_not_tried_again(
    worker: Worker, dynamodb: Any
):
    def play(_: Say) -> Answer:
        dynamodb.delete_table(TableName=worker.store.table_name)
        return ANSWER

    with pytest.raises(ClientError, match="ResourceNotFound"):
        worker.run(play)
    assert worker.client.writes == ["put_item", "update_item", "update_item"]
    assert ANSWER.agent_response in worker.log.in_case[0]


@pytest.mark.parametrize("code", ["AccessDeniedException", "ValidationException"])
def test_a_code_under_a_status_of_somebody_elses_ends_no_tries(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, code: str
):
    """A proxy's 502 can have any code in its body."""
    refusals = [refusal(code, ResponseMetadata={"HTTPStatusCode": 502})]

    def refused_at_first(_: Outcome) -> None:
        if refusals:
            raise refusals.pop()

    before_the_end(worker, monkeypatch, refused_at_first)
    assert worker.run() == "completed"
    assert worker.task()["agent_response"] == ANSWER.agent_response


@pytest.mark.parametrize(
    "play",
    [answers(ANSWER), raises(AgentLost("Lost.", partial=ANSWER))],
    ids=["answer", "partial"],
)
def test_an_answer_to_a_task_that_a_reader_ended_is_logged_and_not_written(
    worker: Worker, play: Play
):
    """Final means final. Nothing is raised: another delivery would change nothing."""

    def too_late(say: Say) -> Answer:
        worker.end_by_reading()
        say("still here")
        worker.timers.fire()
        return play(say)

    assert worker.run(too_late) == "lost"
    task = worker.task()
    assert task["status"] == "error"
    assert task["error_message"] == tasks.EXPIRED["worker_lost"]
    assert "agent_response" not in task
    assert "still here" not in worker.messages()
    (answer,) = worker.log.said("answer came too late")
    assert json.loads(answer)["agent_response"] == "I e-mailed Ann."
    assert worker.log.outcomes == ["expired", "lost"]


def test_an_answer_to_a_task_deleted_meanwhile_is_logged_and_makes_nothing_and_its_agent_stops(
    worker: Worker, dynamodb: Any, table_name: str
):
    def play(_: Say) -> Answer:
        dynamodb.delete_item(TableName=table_name, Key={"id": {"S": TASK_ID}})
        raise AgentLost("Lost.", partial=ANSWER)

    assert worker.run(play) == "lost"
    assert worker.items() == []
    assert len(worker.log.said("answer came too late")) == 1
    assert worker.agent.stops == [TASK_ID]


# --- what is in the log first ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "play, left, logged",
    [
        (answers(ANSWER), 39.5, ""),
        (answers(ANSWER), 38.5, "I e-mailed Ann."),
        (raises(AgentFailed("It cannot be read.", unparsed="<html>")), 10, "<html>"),
    ],
)
def test_an_answer_is_in_the_log_before_a_try_that_might_not_end_in_time(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, play: Play, left: float, logged: str
):
    """One call of 20.5 s was measured, and a try may be two."""
    seen: list[str] = []
    before_the_end(worker, monkeypatch, lambda _: seen.append("".join(worker.log.in_case)))

    def play_long(say: Say) -> Answer:
        worker.time.sleep(600 - left)
        return play(say)

    worker.run(play_long)
    (text,) = seen
    assert logged in text
    assert bool(text) == bool(logged)


def test_so_it_is_before_a_write_of_progress_is_waited_for(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    """That wait may take all the time that a function of seconds has left."""
    logged: list[int] = []
    close = Progress.close

    def wait(progress: Progress) -> None:
        logged.append(len(worker.log.in_case))
        close(progress)

    monkeypatch.setattr(Progress, "close", wait)
    worker.run(seconds=5.0)
    assert logged == [1]


@pytest.mark.parametrize("partial", [Answer("Found Ann"), None])
def test_of_what_nobody_understood_as_much_as_a_task_keeps_is_logged_before_the_last_writes(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, partial: Answer | None
):
    """And the rest after them, since 32 MB take their time; all of it once."""
    monkeypatch.setattr(worker_lambda, "MAX_ANSWER_BYTES", 4)
    worker.run(raises(AgentFailed("No.", partial=partial, unparsed="what is this")), seconds=5.0)
    texts = [str(one.get("text", one.get("outcome"))) for one in worker.log.lines]
    if partial:
        assert "Found Ann" in texts.pop(0)
        assert texts == ["error", "what is this"]
    else:
        assert texts == ["what", "error", " is this"]


# --- answers that are too large -------------------------------------------------------------------


def test_an_answer_that_dynamodb_refuses_for_its_size_is_cut_shorter_and_tried_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    tried: list[int] = []

    def refuse(outcome: Outcome) -> None:
        tried.append(len(outcome.parts["agent_response"]))
        if len(tried) < 4:
            raise refusal("ValidationException")

    before_the_end(worker, monkeypatch, refuse)
    assert worker.run(answers(Answer("x" * 100_000, ANSWER.vendors))) == "completed"
    assert all(after < before * 0.51 for before, after in itertools.pairwise(tried))
    task = worker.task()
    assert len(task["agent_response"]) == tried[-1]
    assert task["vendors"] == ANSWER.vendors
    assert task["agent_response_truncated"] is True
    cut = next(one for one in worker.messages() if "too long" in one)
    assert 80_000 < int(re.sub(r"\D", "", cut)) <= 100_000


def test_an_answer_that_dynamodb_will_never_take_is_logged_and_the_task_ends_at_once(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    """An answer that fits nowhere must not keep its task from ending."""

    def refuse(outcome: Outcome) -> None:
        if outcome.parts:
            raise refusal("ValidationException")

    before_the_end(worker, monkeypatch, refuse)
    assert worker.run() == "error"
    task = worker.task()
    assert task["error_message"] == (
        "The agent's answer cannot be kept. The agent may already have contacted vendors."
    )
    assert task["error_code"] == "answer_too_large"
    assert "agent_response" not in task
    assert ANSWER.agent_response in worker.log.in_case[0]
    assert worker.log.outcomes == ["error"]


def test_what_was_fitted_is_not_fitted_again_at_the_next_try(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    """10 MB of quotes take a second."""
    fits: list[int] = []
    fit_answer = tasks.fit_answer

    def counted(*given: Any) -> Any:
        fits.append(1)
        return fit_answer(*given)

    def play(_: Say) -> Answer:
        worker.client.refuse = ["update_item"] * 5
        return ANSWER

    monkeypatch.setattr(tasks, "fit_answer", counted)
    assert worker.run(play) == "completed"
    assert len(fits) == 1
