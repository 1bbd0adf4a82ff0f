"""What becomes of an answer whose write goes wrong: it is in the table once, or in the log."""

import itertools
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

import dynamodb_helpers
import worker_lambda
from tests.product.worker_lambda.fakes import (
    ANSWER,
    BEGINNING,
    DESCRIPTION,
    NOW,
    OUTCOMES,
    TASK_ID,
    Log,
    Say,
    Worker,
    raises,
)
from valro import tasks
from valro.agent.answers import (
    AgentFailed,
    AgentLost,
    Answer,
)
from valro.progress import Progress
from valro.tasks import Outcome
from worker_lambda import TaskEvent

# --- lost answers and refused writes --------------------------------------------------------------


@pytest.mark.parametrize("faults", [{"refuse": ["update_item"] * 3}, {"lose": ["put_item"]}])
def test_a_claim_by_hand_is_tried_again(worker: Worker, faults: dict[str, list[str]]):
    for name, operations in faults.items():
        setattr(worker.client, name, operations)
    assert worker.deliver(TaskEvent(TASK_ID, DESCRIPTION, ""))["outcome"] == "completed"
    assert len(worker.agent.runs) == 1
    assert worker.messages() == [*BEGINNING, "Agent completed task successfully"]


def test_a_claim_that_dynamodb_does_not_take_is_raised_before_the_agent_has_started(
    worker: Worker,
):
    """Lambda delivers the event again, and nothing has happened yet."""
    event = worker.create()
    start = worker.time.now
    worker.client.down = True
    with pytest.raises(EndpointConnectionError):
        worker.deliver(event)
    assert worker.agent.runs == []
    assert worker.time.now - start <= 30
    worker.client.down = False
    assert worker.deliver(event)["outcome"] == "completed"


def test_a_claim_that_is_forbidden_is_raised_at_once(worker: Worker, dynamodb: Any):
    event = worker.create()
    dynamodb.delete_table(TableName=worker.store.table_name)
    with pytest.raises(ClientError, match="ResourceNotFound"):
        worker.deliver(event)
    assert worker.client.writes == ["put_item", "update_item"]


@pytest.mark.parametrize("play, status", OUTCOMES, ids=["complete", "fail"])
@pytest.mark.parametrize("faults", [("lose", 1), ("lose", 5), ("refuse", 1), ("refuse", 5)])
def test_an_outcome_whose_write_goes_wrong_is_written_once(
    worker: Worker, log: Log, play: Any, status: str, faults: tuple[str, int]
):
    fault, times = faults

    def then_trouble(say: Say) -> Answer:
        setattr(worker.client, fault, ["update_item"] * times)
        say("one")
        answer: Answer = play(say)
        return answer

    assert worker.run(then_trouble) == status
    assert worker.task()["status"] == status
    assert worker.messages()[:4] == [*BEGINNING, "one"]
    assert len(worker.messages()) == 5
    assert log.outcomes == [status]


def goes_down(worker: Worker, answer: Answer) -> Callable[[Callable[[str], None]], Answer]:
    def play(_: Say) -> Answer:
        worker.client.down = True
        worker.time.calls_take = 3.0
        worker.time.sleep(500)
        return answer

    return play


def test_an_answer_is_in_the_log_before_a_write_of_progress_is_waited_for(
    worker: Worker, log: Log, monkeypatch: pytest.MonkeyPatch
):
    """That wait may take all the time that a function of seconds has left."""
    logged: list[int] = []
    close = Progress.close

    def wait(progress: Progress) -> None:
        logged.append(len(log.said("answer, in case it cannot be written")))
        close(progress)

    monkeypatch.setattr(Progress, "close", wait)
    worker.deliver(worker.create(), 5.0)
    assert logged == [1]


@pytest.mark.parametrize("partial", [Answer("Found Ann"), None])
def test_of_what_nobody_understood_as_much_as_a_task_keeps_is_logged_before_the_last_writes(
    worker: Worker, log: Log, monkeypatch: pytest.MonkeyPatch, partial: Answer | None
):
    """And the rest after them, since 32 MB take their time; all of it once."""
    monkeypatch.setattr(worker_lambda, "MAX_ANSWER_BYTES", 4)
    worker.play(raises(AgentFailed("No.", partial=partial, unparsed="what is this")))
    worker.deliver(worker.create(), 5.0)
    texts = [str(one.get("text", one.get("outcome"))) for one in log.lines]
    if partial:
        assert "Found Ann" in texts.pop(0)
        assert texts == ["error", "what is this"]
    else:
        assert texts == ["what", "error", " is this"]


def test_an_answer_that_cannot_be_written_is_in_the_log_and_the_function_raises(
    worker: Worker, log: Log
):
    """Tried until another try would be cut off, and then told in parts that CloudWatch takes."""
    answer = Answer("🏠\u2028" * 20_000 + "\ufffd", ANSWER.vendors, ANSWER.quotes, 7)
    with pytest.raises(EndpointConnectionError):
        worker.run(goes_down(worker, answer))
    assert 585 <= worker.time.now - NOW < 600  # a try takes 9 s, a wait 5 s, the log 1 s
    assert len(worker.client.writes) > 10
    parts = log.said("answer, in case it cannot be written")
    assert [(one["part"], one["parts"]) for one in parts] == [
        (number, len(parts)) for number in range(1, len(parts) + 1)
    ]
    assert max(len(one.encode()) for one in log.raw_lines) <= 200_000
    assert json.loads("".join(one["text"] for one in parts)) == {
        "agent_response": answer.agent_response,
        "vendors": answer.vendors,
        "quotes": answer.quotes,
        "emails_sent": 7,
    }
    assert log.outcomes == ["lost"]


def test_an_answer_that_dynamodb_will_never_take_is_logged_and_the_task_ends_at_once(
    worker: Worker, log: Log, monkeypatch: pytest.MonkeyPatch
):
    """An answer that fits nowhere must not keep its task from ending."""
    end_task = worker.store.end_task

    def refuse(claim: dynamodb_helpers.Claim, outcome: Outcome) -> None:
        if outcome.parts:
            raise ClientError({"Error": {"Code": "ValidationException"}}, "UpdateItem")
        end_task(claim, outcome)

    monkeypatch.setattr(worker.store, "end_task", refuse)
    assert worker.run(lambda _: ANSWER) == "error"
    task = worker.task()
    assert task["error_message"] == (
        "The agent's answer cannot be kept. The agent may already have contacted vendors."
    )
    assert task["error_code"] == "answer_too_large"
    assert "agent_response" not in task
    assert ANSWER.agent_response in log.said("answer, in case it cannot be written")[0]["text"]
    assert log.outcomes == ["error"]


def test_an_outcome_that_dynamodb_will_never_take_is_not_tried_again(worker: Worker, dynamodb: Any):
    def play(_: Say) -> Answer:
        dynamodb.delete_table(TableName=worker.store.table_name)
        return ANSWER

    with pytest.raises(ClientError, match="ResourceNotFound"):
        worker.run(play)
    assert worker.client.writes == ["put_item", "update_item", "update_item"]


@pytest.mark.parametrize(
    "play", [lambda: ANSWER, raises(AgentLost("Lost.", partial=ANSWER))], ids=["answer", "partial"]
)
def test_an_answer_to_a_task_that_a_reader_ended_is_logged_and_not_written(
    worker: Worker, log: Log, play: Any
):
    """Final means final. Nothing is raised: another delivery would change nothing."""

    def too_late(say: Say) -> Answer:
        worker.time.sleep(661)
        assert worker.task()["status"] == "error"
        say("still here")
        worker.timers.fire()
        return play(say) if play.__code__.co_argcount else play()

    assert worker.run(too_late) == "lost"
    task = worker.task()
    assert task["status"] == "error"
    assert task["error_message"] == tasks.EXPIRED["worker_lost"]
    assert "agent_response" not in task
    assert "still here" not in worker.messages()
    (one,) = log.said("answer came too late")
    assert json.loads(one["text"])["agent_response"] == "I e-mailed Ann."
    assert log.outcomes == ["expired", "lost"]


def test_an_answer_to_a_task_deleted_meanwhile_is_logged_and_makes_nothing_and_its_agent_stops(
    worker: Worker, log: Log, dynamodb: Any, table_name: str
):

    def play(_: Say) -> Answer:
        dynamodb.delete_item(TableName=table_name, Key={"id": {"S": TASK_ID}})
        raise AgentLost("Lost.", partial=ANSWER)

    assert worker.run(play) == "lost"
    assert worker.items() == []
    assert len(log.said("answer came too late")) == 1
    assert worker.agent.stops == [TASK_ID]


# --- answers that are too large -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["UpdateItem", "TransactWriteItems"])
def test_an_answer_that_dynamodb_refuses_for_its_size_is_cut_shorter_and_tried_again(
    worker: Worker, log: Log, monkeypatch: pytest.MonkeyPatch, kind: str
):
    end_task, tried = worker.store.end_task, list[int]()

    def refuse(claim: dynamodb_helpers.Claim, outcome: Outcome) -> None:
        tried.append(len(outcome.parts["agent_response"]))
        if len(tried) < 4:
            raise too_large(kind)
        end_task(claim, outcome)

    monkeypatch.setattr(worker.store, "end_task", refuse)
    assert worker.run(lambda _: Answer("x" * 100_000, ANSWER.vendors)) == "completed"
    assert all(after < before * 0.51 for before, after in itertools.pairwise(tried))
    task = worker.task()
    assert len(task["agent_response"]) == tried[-1]
    assert task["vendors"] == ANSWER.vendors
    assert task["agent_response_truncated"] is True
    cut = next(one for one in worker.messages() if "too long" in one)
    assert 80_000 < int(re.sub(r"\D", "", cut)) <= 100_000


def too_large(operation: str) -> ClientError:
    if operation == "UpdateItem":
        return ClientError({"Error": {"Code": "ValidationException"}}, operation)
    error = {"Error": {"Code": "TransactionCanceledException"}}
    reasons = [{"Code": "None"}, {"Code": "ValidationError"}]
    return ClientError(error | {"CancellationReasons": reasons}, operation)


def test_what_was_fitted_is_not_fitted_again_at_the_next_try(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    """10 MB of quotes take a second."""
    fits: list[int] = []
    fit_answer = tasks.fit_answer

    def counted(*given: Any) -> Any:
        fits.append(1)
        return fit_answer(*given)

    monkeypatch.setattr(tasks, "fit_answer", counted)

    def play(_: Say) -> Answer:
        worker.client.refuse = ["update_item"] * 5
        return ANSWER

    assert worker.run(play) == "completed"
    assert len(fits) == 1


@pytest.mark.parametrize("left, is_logged", [(39.5, False), (38.5, True)])
def test_an_answer_is_in_the_log_before_a_try_that_might_not_end_in_time(
    worker: Worker, log: Log, left: float, is_logged: bool
):
    """One call of 20.5 s was measured, and a try may be two."""
    end_task, logged = worker.store.end_task, list[bool]()

    def watched(claim: dynamodb_helpers.Claim, outcome: Outcome) -> None:
        logged.append(bool(log.said("answer, in case it cannot be written")))
        end_task(claim, outcome)

    worker.store.end_task = watched  # type: ignore[method-assign]

    def play(_: Say) -> Answer:
        worker.time.sleep(600 - left)
        return ANSWER

    assert worker.run(play) == "completed"
    assert logged == [is_logged]


def test_so_is_what_could_not_be_read_of_a_failed_run(worker: Worker, log: Log):
    end_task, logged = worker.store.end_task, list[str]()

    def watched(claim: dynamodb_helpers.Claim, outcome: Outcome) -> None:
        logged.extend(one["text"] for one in log.said("answer, in case it cannot be written"))
        end_task(claim, outcome)

    worker.store.end_task = watched  # type: ignore[method-assign]

    def play(_: Say) -> Answer:
        worker.time.sleep(590)
        raise AgentFailed("The answer cannot be read.", unparsed="<html>")

    worker.run(play)
    assert logged == ["<html>"]
