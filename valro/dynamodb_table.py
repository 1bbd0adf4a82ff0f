"""One table of tasks: how a write is sent and answered, and how one task is read.

Not here: which writes there are.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from botocore.exceptions import ClientError

from valro.dynamodb_items import (
    chunk_id,
    from_item,
    is_transaction_conflict,
    item_that_failed_condition,
    target,
)
from valro.dynamodb_pages import batch_get
from valro.store_errors import TaskNotFound
from valro.tasks import DELETED, Answer, Task

CONFLICT_RETRIES = 4


class TaskTable:
    """A DynamoDB table of tasks; ``client`` is botocore's. ``clock`` gives epoch seconds."""

    def __init__(
        self,
        client: Any,
        table_name: str,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self.client = client
        self.table_name = table_name
        self.clock = clock
        self.sleep = sleep

    def find_item(self, task_id: str) -> Task:
        """Reads one task, consistently; it may be a tombstone, and is empty if there is none."""
        item = self.client.get_item(
            TableName=self.table_name, Key={"id": {"S": task_id}}, ConsistentRead=True
        ).get("Item")
        return from_item(item) if item else {}

    def with_answer(self, task: Task) -> Task:
        """Reads the answer of a task that keeps it in chunks; raises TaskNotFound if it is gone."""
        if not task.get("chunks"):
            return task
        ids = [chunk_id(task["id"], number) for number in range(task["chunks"])]
        found = batch_get(self.client, self.table_name, ids, sleep=self.sleep)
        if len(found) < len(ids):
            # The chunks were written with the task, all or nothing, and are deleted with it.
            raise TaskNotFound(task["id"])
        answer: Answer = json.loads("".join(found[chunk_id]["chunk"] for chunk_id in ids))
        return task | answer

    def _send(self, operation: Callable[..., Any], **request: Any) -> Any:
        """Sends a write, again if a transaction held its item: botocore retries only throttling."""
        retries, started = 0, self.clock()
        while True:
            try:
                return operation(**request)
            except ClientError as error:
                # Not if calls are slow: callers rely on how long a try takes.
                is_last = retries == CONFLICT_RETRIES or self.clock() > started + 1
                if is_last or not is_transaction_conflict(error):
                    raise
            retries += 1
            self.sleep(random.uniform(0, 0.05 * 2**retries))

    def _write(
        self, task_id: str, update: dict[str, Any], chunks: Sequence[dict[str, Any]] = ()
    ) -> tuple[Task, bool]:
        """Writes an update and what belongs to it, all or nothing.

        Returns the task, if the update asks for it, and True, or the item that refused it and False;
        raises TaskNotFound if there is none, or a tombstone.
        """
        where = target(self.table_name, task_id)
        puts = [{"Put": {"TableName": self.table_name, "Item": chunk}} for chunk in chunks]
        try:
            if puts:
                writes = [{"Update": where | update}, *puts]
                self._send(self.client.transact_write_items, TransactItems=writes)
                return {}, True
            written = self._send(self.client.update_item, **where, **update).get("Attributes")
        except ClientError as error:
            if (found := item_that_failed_condition(error)) is None:
                raise
            if found.get("status", DELETED) == DELETED:
                raise TaskNotFound(task_id) from error
            return found, False
        return from_item(written) if written else {}, True
