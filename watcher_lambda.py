"""The Watcher Lambda, optional: ends tasks that nobody reads, and tells of every task's end.

A read repairs a task that somebody reads; this sees to the rest, and is on the path of no request:

    the table's stream says that a task   so it
    is pending                            puts the task's id into a queue, whose delay is the timer
    has ended                             puts an event on the account's default event bus

    the queue brings a task that          so it
    is overdue                            ends it, as any reader does, and then as the next line says
    has ended, and its agent may run on   has the worker stop the agent's session
    is not final                          lets the message come back after the queue's timeout

Both sources deliver at least once, in any order. What fails comes again: a message by itself, of the
stream's records all from the first that failed. A record that can never be handled is logged and
passed, since it would block all that stand behind it.

Environment: WATCH_QUEUE_URL and WORKER_LAMBDA_ARN. DYNAMODB_TABLE_NAME is the store's.
"""

from __future__ import annotations

import functools
import json
import os
import traceback
from typing import Any

from dynamodb_helpers import task_store
from valro.aws import aws_client, lambda_client, log, prepare, send_stop
from valro.dynamodb_items import from_item, is_permanent_rejection
from valro.tasks import CANCELLED, FINAL_STATUSES, STATUSES, Task, dumps, may_run_on

# What the slowest call of AWS takes (see valro/aws.py): with less time left, no record is begun.
CALL_SECONDS = 9

TOLD = (
    "id,status,error_code,may_have_acted,description,emails_sent,follows,created_at,started_at,"
    "completed_at"
).split(",")


class EventNotTaken(Exception):
    """The event bus answered well, and did not take the event."""


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Handles records of the stream, or messages of the queue; names those that are to come again."""
    failures = []
    for record in event["Records"]:
        is_change = "dynamodb" in record
        number = record["dynamodb"]["SequenceNumber"] if is_change else record["messageId"]
        has_time = context.get_remaining_time_in_millis() > CALL_SECONDS * 1000
        if not (has_time and is_handled(record)):
            failures.append({"itemIdentifier": number})
            if is_change:
                break  # Lambda brings the records behind it again too.
    return {"batchItemFailures": failures}


def is_handled(record: dict[str, Any]) -> bool:
    """Handles a record; returns whether it need not come again."""
    task_id = ""
    try:
        if "dynamodb" in record:
            task = from_item(record["dynamodb"]["NewImage"])
            task_id = task["id"]
            handle = functools.partial(start_timer if task["status"] == "pending" else tell, task)
        else:
            task_id = json.loads(record["body"])["task_id"]
            handle = functools.partial(end_if_due, task_id)
    except (KeyError, TypeError, ValueError):
        log("ERROR", "not readable", outcome="watch_failed", stack=traceback.format_exc())
        return True
    try:
        return handle()
    except Exception as error:  # noqa: BLE001 - a task must not lose its timer, whatever it was
        is_hopeless = "dynamodb" in record and is_permanent_rejection(error)
        level, outcome = ("ERROR", "watch_failed") if is_hopeless else ("WARNING", "watch_delayed")
        log(level, "not handled", outcome=outcome, task_id=task_id, stack=traceback.format_exc())
        return is_hopeless


def start_timer(task: Task) -> bool:
    """Has the queue bring a new task's id, again and again, until the task has ended."""
    body = json.dumps({"task_id": task["id"]})
    queue_client().send_message(QueueUrl=os.environ["WATCH_QUEUE_URL"], MessageBody=body)
    return True


def tell(task: Task) -> bool:
    """Puts a task's end on the event bus; not the answer, which is the API's to show."""
    is_cancelled, is_completed = task.get("error_code") == CANCELLED, task["status"] == "completed"
    kind = "Completed" if is_completed else "Cancelled" if is_cancelled else "Failed"
    detail = {name: task[name] for name in TOLD if name in task}
    detail["thread_id"] = task.get("thread_id", task["id"])
    detail["user_id"] = task["owner"].partition("#")[2]  # jwt#<sub>; empty where all are public
    detail["interrupts"] = len(task.get("interrupts", ()))
    event = {"Source": "valro", "DetailType": f"Task {kind}", "Detail": dumps(detail)}
    answer = bus_client().put_events(Entries=[event])
    if answer.get("FailedEntryCount"):
        raise EventNotTaken(answer["Entries"])
    return True


def end_if_due(task_id: str) -> bool:
    """Ends a task that is overdue; returns whether there is nothing left to see to."""
    task = task_store().end_if_overdue(task_id)
    if task.get("status") in STATUSES - FINAL_STATUSES:
        return False
    return send_stop(task_id) if may_run_on(task) else True


queue_client = functools.cache(functools.partial(aws_client, "sqs"))
bus_client = functools.cache(functools.partial(aws_client, "events"))

prepare(task_store, queue_client, bus_client, lambda_client)
