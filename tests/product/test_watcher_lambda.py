"""The watcher: what it does with a record of either source, and which come again."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.validate import validate_parameters

import valro.aws
import watcher_lambda
from dynamodb_helpers import TaskStore
from tests.product.worker_lambda.fakes import (
    DESCRIPTION,
    NOW,
    TASK_ID,
    FakeContext,
    FakeTime,
    bring,
    refusal,
)
from valro.dynamodb_items import to_item
from valro.tasks import new_task, timestamp


class Taker:
    """A client of one operation, which takes only what AWS's model allows, and fails when told to."""

    def __init__(self, service: str, operation: str) -> None:
        model = valro.aws.aws_session().get_service_model(service)
        self.shape = model.operation_model(operation).input_shape
        self.taken: list[dict[str, Any]] = []
        self.answers: list[Any] = []

    def take(self, **request: Any) -> Any:
        validate_parameters(request, self.shape)
        taken = {"FailedEntryCount": 0, "Payload": io.BytesIO()}
        answer = self.answers.pop(0) if self.answers else taken
        if isinstance(answer, Exception):
            raise answer
        self.taken += [] if answer.get("FailedEntryCount") else [request]
        return answer

    send_message = put_events = invoke = take


class Watcher:
    """The function on moto's table, with fakes for the queue, the bus and the worker."""

    def __init__(self, dynamodb: Any, table_name: str) -> None:
        self.time = FakeTime()
        self.store = TaskStore(dynamodb, table_name, clock=self.time.clock)
        self.queue = Taker("sqs", "SendMessage")
        self.bus = Taker("events", "PutEvents")
        self.worker = Taker("lambda", "Invoke")

    def handle(self, *records: dict[str, Any], seconds: float = 15) -> list[str]:
        """Returns which records are to come again."""
        answer = watcher_lambda.lambda_handler(
            {"Records": list(records)}, FakeContext(self.time, seconds)
        )
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    def details(self) -> list[tuple[str, dict[str, Any]]]:
        events = [request["Entries"][0] for request in self.bus.taken]
        assert {event["Source"] for event in events} <= {"valro"}
        return [(event["DetailType"], json.loads(event["Detail"])) for event in events]

    def stops(self) -> list[str]:
        return [json.loads(request["Payload"])["stop"] for request in self.worker.taken]


@pytest.fixture
def watcher(dynamodb: Any, table_name: str, monkeypatch: pytest.MonkeyPatch) -> Watcher:
    watcher = Watcher(dynamodb, table_name)
    monkeypatch.setattr(watcher_lambda, "task_store", lambda: watcher.store)
    monkeypatch.setattr(watcher_lambda, "queue_client", lambda: watcher.queue)
    monkeypatch.setattr(watcher_lambda, "bus_client", lambda: watcher.bus)
    monkeypatch.setattr(valro.aws, "lambda_client", lambda: watcher.worker)
    monkeypatch.setenv("WATCH_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/1/valro-watch")
    monkeypatch.setenv("WORKER_LAMBDA_ARN", "arn:aws:lambda:us-east-1:1:function:valro-worker")
    return watcher


def change(number: int, **fields: Any) -> dict[str, Any]:
    """A record of the table's stream: a task that has these fields now."""
    task = new_task(TASK_ID, DESCRIPTION, "public", NOW, 0) | fields
    change = {
        "SequenceNumber": f"{number}",
        "Keys": to_item({"id": TASK_ID}),
        "NewImage": to_item(task),
    }
    return {"eventSource": "aws:dynamodb", "eventName": "MODIFY", "dynamodb": change}


def message(task_id: str = TASK_ID, number: str = "m", body: str = "") -> dict[str, Any]:
    body = body or json.dumps({"task_id": task_id})
    return {"eventSource": "aws:sqs", "messageId": number, "body": body}


# ---- the stream


def test_a_new_task_gets_a_timer_which_comes_again_until_the_queue_takes_it(watcher: Watcher):
    watcher.queue.answers = [refusal("ServiceUnavailable")]
    assert watcher.handle(change(7)) == ["7"]
    assert watcher.handle(change(7)) == []
    (request,) = watcher.queue.taken
    assert json.loads(request["MessageBody"]) == {"task_id": TASK_ID}
    assert "DelaySeconds" not in request  # the queue's own


@pytest.mark.parametrize(
    "end, kind",
    [
        ({"status": "completed"}, "Completed"),
        ({"status": "error", "error_code": "agent_failed", "may_have_acted": True}, "Failed"),
        ({"status": "error", "error_code": "cancelled", "may_have_acted": False}, "Cancelled"),
    ],
)
def test_an_end_is_told_with_what_is_known_of_the_task_but_not_with_its_answer(
    watcher: Watcher, end: dict[str, Any], kind: str
):
    times = {name: timestamp(NOW) for name in ("started_at", "completed_at")}
    answer = {
        "vendors": "[]",
        "agent_response": "Hello",
        "emails_sent": 2,
        "interrupts": '[{"id": "a"}]',
    }
    more = {"owner": "jwt#ann", "thread_id": "first", "follows": "first", "claim": "secret"}
    watcher.handle(change(1, **end, **times, **answer, **more))

    told: dict[str, Any] = {
        "id": TASK_ID,
        "description": DESCRIPTION,
        "created_at": timestamp(NOW),
        "user_id": "ann",
    }
    told |= {"emails_sent": 2, "interrupts": 1, "thread_id": "first", "follows": "first"}
    assert watcher.details() == [(f"Task {kind}", told | end | times)]


def test_of_a_task_that_is_anybodys_and_follows_none_that_is_told(watcher: Watcher):
    watcher.handle(change(1, status="completed"))
    ((_, detail),) = watcher.details()
    assert (detail["user_id"], detail["thread_id"], detail["interrupts"]) == ("", TASK_ID, 0)
    assert "follows" not in detail


@pytest.mark.parametrize(
    "answer",
    [
        {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "InternalFailure"}]},
        refusal("ThrottlingException"),
        refusal("ValidationException", ResponseMetadata={"HTTPStatusCode": 502}),
        ValueError("not JSON"),
    ],
)
def test_what_the_bus_does_not_take_comes_again_with_all_that_is_behind_it(
    watcher: Watcher, answer: Any
):
    records = [change(number, id=f"task-{number}", status="completed") for number in range(4)]
    watcher.bus.answers = [{}, answer]
    assert watcher.handle(*records) == ["1"]
    assert watcher.handle(*records[1:]) == []
    assert [detail["id"] for _, detail in watcher.details()] == [f"task-{n}" for n in range(4)]


def test_a_record_that_can_never_be_handled_is_logged_and_passed(
    watcher: Watcher, capsys: pytest.CaptureFixture[str]
):
    unreadable = change(1)
    del unreadable["dynamodb"]["NewImage"]["id"]
    watcher.bus.answers = [refusal("ValidationException")]
    refused, good = change(2, status="completed"), change(3, id="good")

    assert watcher.handle(unreadable, refused, message(body="{"), message(body="[]"), good) == []
    assert [json.loads(request["MessageBody"])["task_id"] for request in watcher.queue.taken] == [
        "good"
    ]
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["outcome"] for line in lines] == ["watch_failed"] * 4
    assert all("Traceback" in line["stack"] and line["level"] == "ERROR" for line in lines)


def test_records_for_which_no_time_is_left_come_again_unhandled(watcher: Watcher):
    assert watcher.handle(change(1), change(2), seconds=9) == ["1"]
    assert watcher.handle(message(number="a"), message(number="b"), seconds=9) == ["a", "b"]
    assert watcher.queue.taken == []


# ---- the queue


@pytest.mark.parametrize(
    "happenings, is_left, error_code, is_stopped",
    [
        ("pending", True, None, False),
        ("processing", True, None, False),
        ("reporting", True, None, False),
        ("processing, cancelled", True, None, False),
        ("processing, completed", False, None, False),
        ("pending, late", False, "not_started", False),
        ("processing, late", False, "worker_lost", True),
        ("reporting, late", False, "agent_lost", True),
        ("processing, cancelled, late", False, "cancelled", True),
        ("pending, cancelled", False, "cancelled", False),
        # Somebody else saw the end, who may have died before it stopped the session.
        ("reporting, late, read", False, "agent_lost", True),
        ("reporting, late, read, deleted", False, None, True),
        ("reporting, failed", False, "agent_failed", False),
        ("processing, completed, deleted", False, None, False),
    ],
)
def test_a_task_that_is_due_is_ended_and_one_that_is_not_comes_back(
    watcher: Watcher, happenings: str, is_left: bool, error_code: str | None, is_stopped: bool
):
    bring(watcher.store, watcher.time, happenings)
    assert watcher.handle(message()) == (["m"] if is_left else [])
    assert watcher.store.find_item(TASK_ID).get("error_code") == error_code
    assert watcher.stops() == ([TASK_ID] if is_stopped else [])


def test_a_message_of_a_task_that_is_gone_goes_too(watcher: Watcher):
    assert watcher.handle(message("no-such-task")) == []


def test_a_stop_that_could_not_be_sent_brings_the_message_back_until_it_is(watcher: Watcher):
    bring(watcher.store, watcher.time, "reporting, late")
    watcher.worker.answers = [refusal("TooManyRequestsException")]
    assert watcher.handle(message()) == ["m"]
    assert watcher.handle(message()) == []
    assert watcher.stops() == [TASK_ID]


@pytest.mark.parametrize("error", [refusal("ValidationException"), KeyError("a"), OSError()])
def test_after_any_error_a_task_keeps_its_timer_and_the_others_are_looked_at(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    look: Callable[[str], Any] = watcher.store.end_if_overdue

    def fail_once(task_id: str) -> Any:
        if task_id == "bad":
            raise error
        return look(task_id)

    monkeypatch.setattr(watcher.store, "end_if_overdue", fail_once)
    bring(watcher.store, watcher.time, "processing, late")
    assert watcher.handle(message("bad", "1"), message(number="2")) == ["1"]
    assert watcher.store.find_item(TASK_ID)["error_code"] == "worker_lost"
