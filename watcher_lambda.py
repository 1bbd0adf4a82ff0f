"""The optional Watcher Lambda: ends tasks that nobody reads, and announces every task's end.

    the table's stream says that a task   so it
    is pending                            puts the task's id into a queue, whose delay is the timer
    has ended                             puts an event on the account's default event bus

    the queue brings a task that          so it
    is overdue                            ends it, as any reader does, and then as the next line says
    has ended, and its agent may run on   has the worker stop the agent's session
    is not final                          lets the message come back after the queue's timeout

Both deliver at least once, in any order. What fails is delivered again: a message alone, changes
all from the first one that failed. A change that can never be handled is logged and skipped, since
it would block all others.

Environment: WATCH_QUEUE_URL and WORKER_LAMBDA_ARN. The store reads DYNAMODB_TABLE_NAME.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from dynamodb_helpers import task_store
from valro.aws import aws_client, lambda_client, log, prepare, send_stop
from valro.dynamodb_items import from_item, is_permanent_rejection
from valro.tasks import CANCELLED, FINAL_STATUSES, STATUSES, Task, dumps, may_run_on, told_of_end

CALL_SECONDS = 9  # what the slowest call takes, see valro/aws.py: with less left, none is begun


class EventNotTaken(BotoCoreError):  # type: ignore[misc]  # botocore has no types
    """The event bus answered with success, but did not take the event."""

    fmt = "not taken: {answer}"


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Handles records of the stream, or messages of the queue; names those to deliver again."""
    failures = []
    for record in event["Records"]:
        is_change = "dynamodb" in record
        number = record["dynamodb"]["SequenceNumber"] if is_change else record["messageId"]
        is_late = context.get_remaining_time_in_millis() <= CALL_SECONDS * 1000
        if is_late or not is_handled(record):
            failures.append({"itemIdentifier": number})
            if is_change:
                break  # Lambda delivers the records after it again too.
    return {"batchItemFailures": failures}


def is_handled(record: dict[str, Any]) -> bool:
    """Handles a record; returns whether it is done with."""
    is_change = "dynamodb" in record
    which = record["dynamodb"]["Keys"]["id"]["S"] if is_change else record["body"]
    try:
        handle = read(record)
    except Exception:  # noqa: BLE001 - it may be anybody's item, or anybody's message
        log("ERROR", "unreadable", outcome="watch_failed", of=which, stack=traceback.format_exc())
        return True
    try:
        return handle()
    except Exception as error:  # noqa: BLE001 - a task must not lose its timer, whatever it was
        is_hopeless = is_change and is_permanent_rejection(error)
        is_of_aws = isinstance(error, (BotoCoreError, ClientError))
        outcome = "watch_failed" if is_hopeless or not is_of_aws else "watch_delayed"
        log("ERROR", "not handled", outcome=outcome, of=which, stack=traceback.format_exc())
        return is_hopeless


def read(record: dict[str, Any]) -> Callable[[], bool]:
    """Returns what is to be done about a record, which may be unreadable."""
    if "dynamodb" not in record:
        return partial(end_if_due, str(json.loads(record["body"])["task_id"]))
    task = from_item(record["dynamodb"]["NewImage"])
    if task["status"] == "pending":
        return partial(start_timer, json.dumps({"task_id": task["id"]}))
    return partial(tell, event_of(task))


def event_of(task: Task) -> dict[str, Any]:
    """A task's end as an event for the bus."""
    failure = "Cancelled" if task.get("error_code") == CANCELLED else "Failed"
    kind = "Completed" if task["status"] == "completed" else failure
    return {"Source": "valro", "DetailType": f"Task {kind}", "Detail": dumps(told_of_end(task))}


def start_timer(message: str) -> bool:
    """Has the queue deliver a task's id, again and again, until the task has ended."""
    queue_client().send_message(QueueUrl=os.environ["WATCH_QUEUE_URL"], MessageBody=message)
    return True


def tell(event: dict[str, Any]) -> bool:
    """Puts an event on the bus, which may answer with success without taking it."""
    answer = bus_client().put_events(Entries=[event])
    if answer.get("FailedEntryCount"):
        raise EventNotTaken(answer=answer)
    return True


def end_if_due(task_id: str) -> bool:
    """Ends a task that is overdue; returns whether there is nothing left to do."""
    task = task_store().end_if_overdue(task_id)
    if task.get("status") in STATUSES - FINAL_STATUSES:
        return False
    return send_stop(task_id) if may_run_on(task) else True


queue_client, bus_client = (cache(partial(aws_client, name)) for name in ("sqs", "events"))

prepare(task_store, queue_client, bus_client, lambda_client)
