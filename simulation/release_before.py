"""A reader of the release before: for the moments of an update in which both are there.

It knows deadlines, and neither cancellations, nor reports, nor error codes.
"""

from __future__ import annotations

from contextlib import suppress

from botocore.exceptions import BotoCoreError, ClientError

import dynamodb_helpers
from simulation.backend import Backend
from valro.dynamodb_items import (
    STATUS_AND_DEADLINE_UNCHANGED,
    item_that_failed_condition,
    update_request,
)
from valro.tasks import FINAL_STATUSES, PENDING_SECONDS, Task, make_event, timestamp

PENDING_EXPIRED = (
    f"The task was not started within {PENDING_SECONDS // 60} minutes and was given up. "
    "The agent was not started, so no vendor was contacted. Please submit the task again."
)
PROCESSING_EXPIRED = (
    "The worker stopped without reporting an outcome. The agent may already have contacted vendors."
)


def read(backend: Backend, task_id: str) -> None:
    """Reads a task as the function of the release before does."""
    world = backend.world
    sandbox = backend.new_sandbox("api", f"before-{next(world.ids)}")
    sandbox.is_before = True
    world.count("reader: of the release before")

    def handler() -> None:
        store = dynamodb_helpers.task_store()
        with suppress(BotoCoreError, ClientError, dynamodb_helpers.StoreError):
            _repair(store, store.find_task(task_id))

    world.start_sandbox(sandbox, handler)


def _repair(store: dynamodb_helpers.TaskStore, task: Task) -> None:
    """As it was at 5bf3bd0."""
    deadline, now = task.get("deadline"), timestamp(store.clock())
    if task["status"] in FINAL_STATUSES or not deadline or now <= deadline:
        return
    message = PENDING_EXPIRED if task["status"] == "pending" else PROCESSING_EXPIRED
    attributes = {"status": "error", "error_message": message}
    events = [make_event(max(now, task["updated_at"]), message, "error")]
    values = {"as_read": task["status"], "deadline_as_read": deadline}
    update = update_request(
        attributes, events, STATUS_AND_DEADLINE_UNCHANGED, values, remove="claim"
    )
    target = {"TableName": store.table_name, "Key": {"id": {"S": task["id"]}}}
    try:
        store.client.update_item(**target, ReturnValuesOnConditionCheckFailure="ALL_OLD", **update)
    except ClientError as error:
        if item_that_failed_condition(error) is None:
            raise
