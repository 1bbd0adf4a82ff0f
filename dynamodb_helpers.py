"""The task store: the life of a task in DynamoDB, and the only file that knows DynamoDB.

A task is one item. Every arrow below is ONE conditional write that also appends the arrow's events,
so that status and timeline cannot disagree. ``completed`` and ``error`` are final.

    from         to           by        written only if                            events
    (no item)    pending      API       no item has this id                        1
    pending      processing   worker    still pending, its deadline not past       2
    processing   processing   worker    my claim, event_seq as I left it           what the agent says
    processing   completed    worker    my claim, event_seq as I left it           1
    processing   error        worker    my claim, event_seq as I left it           1
    pending      error        API       still pending: the worker did not start    1
    pending      error        worker    still pending: it is misconfigured         1
    either       error        readers   status and deadline as they were read      1

botocore resends a write whose answer was lost, and then sees its own write refuse it. So every
conditional write asks for the item that refused it (ReturnValuesOnConditionCheckFailure=ALL_OLD),
and what is found there decides: a token of mine means that I was here already.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.ConditionExpressions.html

Times are UTC text of fixed width (``2025-10-31T12:00:00.000000Z``), so that the order of the text is
the order of time. Not here: HTTP, the agent, and when to try a failed write again.
"""

from __future__ import annotations

import functools
import json
import os
import random
import time
import uuid
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from aws_lambda import aws_client, log
from dynamodb_items import (
    Place,
    chunk_id,
    chunk_items,
    decode_cursor,
    encode_cursor,
    from_item,
    is_index_unusable,
    names_in,
    read_answer,
    refused_by,
    to_item,
    update_request,
)
from tasks import (
    ANSWER_PARTS,
    DEADLINE_MARGIN_SECONDS,
    EVENT_OVERHEAD_BYTES,
    FINAL_STATUSES,
    MAX_AGENT_EVENT_BYTES,
    MAX_AGENT_EVENTS,
    MAX_ERROR_CHARACTERS,
    MAX_FUNCTION_SECONDS,
    MAX_INLINE_ANSWER_BYTES,
    PENDING_EXPIRED,
    PENDING_SECONDS,
    PROCESSING_EXPIRED,
    PUBLIC_OWNER,
    Answer,
    Event,
    Task,
    clean_description,
    dumps,
    fit_answer,
    is_task_id,
    make_event,
    timestamp,
)

DEFAULT_TABLE_NAME = "valro-tasks"
INDEX_NAME = "owner-created_at-index"
TABLE_DEFINITION: dict[str, Any] = {
    "AttributeDefinitions": [
        {"AttributeName": "id", "AttributeType": "S"},
        {"AttributeName": "owner", "AttributeType": "S"},
        {"AttributeName": "created_at", "AttributeType": "S"},
    ],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "GlobalSecondaryIndexes": [
        {
            # Neither key ever changes and no other attribute is projected, so an update of a task
            # never writes the index.
            "IndexName": INDEX_NAME,
            "KeySchema": [
                {"AttributeName": "owner", "KeyType": "HASH"},
                {"AttributeName": "created_at", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }
    ],
    "BillingMode": "PAY_PER_REQUEST",
}
BATCH_GET_KEYS = 100
BATCH_GET_ATTEMPTS = 8
# Conditions, each with the reason why it is enough.
# An id is used once: whoever comes second learns whose it is from the item that refused it.
IS_NEW = "attribute_not_exists(#id)"
# One worker wins. A pending task past its deadline may be shown as given up at any moment, so its
# agent must not be started any more.
IS_CLAIMABLE = "#status = :pending AND #deadline > :now"
# Only the holder of the claim appends to a running task, so event_seq (how many events there are)
# tells it exactly which of its lines arrived when an answer was lost.
IS_MINE = "#status = :processing AND #claim = :claim AND #event_seq = :seq"
# Nobody has claimed it, so nobody ever will: the agent was not started.
IS_PENDING = "#status = :pending"
# What was judged overdue is still what is there.
IS_AS_READ = "#status = :as_read AND #deadline = :deadline_as_read"
# What a list shows of a task. agent_response can be hundreds of kilobytes and is left out.
LISTED_ATTRIBUTES = (
    "id,description,status,vendors,quotes,emails_sent,events,created_at,updated_at,error_message,"
    "agent_response_truncated,owner,deadline"
).split(",")


class StoreError(Exception):
    """Anything the store refuses, as opposed to what DynamoDB fails at."""


class TaskNotFound(StoreError):
    """No task has this id, or none that this owner may see."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"Task {task_id} not found")
        self.task_id = task_id


class TaskNotClaimable(StoreError):
    """Somebody else has the task, or it has ended; ``task`` is what was found."""

    def __init__(self, task: Task) -> None:
        super().__init__(f"Task {task['id']} is {task.get('status')}")
        self.task = task


class ClaimLost(StoreError):
    """The task ended without this worker; ``task`` is what was found, None if it is gone."""

    def __init__(self, task_id: str, task: Task | None) -> None:
        super().__init__(f"Task {task_id} is {task.get('status') if task else 'gone'}")
        self.task = task


class StoreBusy(StoreError):
    """DynamoDB left keys of a batch unread, time after time."""


@dataclass
class Claim:
    """A worker's hold on a task, and the lines of its timeline that are still to be written."""

    task: Task
    token: str
    event_seq: int
    last_ts: str
    unwritten: list[Event] = field(default_factory=list)
    noted: int = 0
    noted_bytes: int = 0

    def line(self, ts: str, message: str, kind: str = "info") -> Event:
        """Makes the timeline's next line; a clock that was set back does not turn it round."""
        self.last_ts = max(ts, self.last_ts)
        return make_event(self.last_ts, message, kind)

    def note(self, ts: str, message: str) -> None:
        """Adds what the agent says, up to 200 lines and 64 KB, then one line that says so."""
        if self.noted > MAX_AGENT_EVENTS:
            return
        event = self.line(ts, message)
        size = len(event["message"].encode()) + EVENT_OVERHEAD_BYTES
        self.noted += 1
        self.noted_bytes += size
        if self.noted > MAX_AGENT_EVENTS or self.noted_bytes > MAX_AGENT_EVENT_BYTES:
            self.noted = MAX_AGENT_EVENTS + 1
            event = self.line(ts, "further progress not recorded")
        self.unwritten.append(event)

    def settle(self, written: int) -> None:
        """Takes note that DynamoDB has the first ``written`` of the unwritten lines."""
        del self.unwritten[:written]
        self.event_seq += written


class TaskStore:
    """The tasks of one table.

    ``client`` is a botocore DynamoDB client. ``clock`` gives epoch seconds. botocore's errors pass
    through unchanged, but for the refused conditions that the module's table lists.
    """

    def __init__(
        self,
        client: Any,
        table_name: str = DEFAULT_TABLE_NAME,
        *,
        ttl_days: int = 0,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.client = client
        self.table_name = table_name
        self.ttl_days = ttl_days
        self.clock = clock
        self.sleep = sleep

    # --- the arrows -------------------------------------------------------------------------------

    def create_task(
        self,
        task_id: str,
        description: str,
        owner: str = PUBLIC_OWNER,
        fingerprint: str | None = None,
    ) -> tuple[Task, bool]:
        """Writes a pending task; returns it and True, or the task that had the id and False.

        ``fingerprint`` is kept with the task for whoever compares a repeated request with it.
        """
        now = self.clock()
        task: Task = {
            "id": task_id,
            "owner": owner,
            "description": clean_description(description),
            "status": "pending",
            "events": [make_event(timestamp(now), "Task created")],
            "event_seq": 1,
            "created_at": timestamp(now),
            "updated_at": timestamp(now),
            "deadline": timestamp(now + PENDING_SECONDS),
            "creation_token": uuid.uuid4().hex,
        }
        if fingerprint is not None:
            task["fingerprint"] = fingerprint
        if self.ttl_days:
            task["expires_at"] = int(now) + self.ttl_days * 86_400
        try:
            self.client.put_item(
                TableName=self.table_name,
                Item=to_item(task),
                ConditionExpression=IS_NEW,
                ExpressionAttributeNames=names_in(IS_NEW),
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            existing = refused_by(error)
            if existing is None:
                raise
            if existing.get("creation_token") != task["creation_token"]:
                return self._repaired(existing), False
        return task, True

    def claim_task(
        self, task_id: str, token: str, function_end: float, created_at: str = ""
    ) -> Claim:
        """Takes a pending task for one worker; raises TaskNotClaimable or TaskNotFound.

        ``token`` is fresh for every invocation of the worker: the same event may be delivered twice
        while both live, so nothing in the event can tell two workers apart. ``function_end`` is when
        Lambda would kill this one, in epoch seconds.
        """
        # The API made created_at by its own clock; the timeline must not run backwards.
        now = max(timestamp(self.clock()), created_at)
        attributes = {
            "status": "processing",
            "claim": token,
            "deadline": timestamp(
                min(function_end, self.clock() + MAX_FUNCTION_SECONDS) + DEADLINE_MARGIN_SECONDS
            ),
        }
        events = [
            make_event(now, "Worker Lambda invoked - processing started"),
            make_event(now, "Agent processing started"),
        ]
        condition_values = {":pending": "pending", ":now": timestamp(self.clock())}
        update = update_request(attributes, events, IS_CLAIMABLE, condition_values)
        try:
            task = self._write(task_id, update)
        except ClientError as error:
            found = refused_by(error)
            if found is None:
                raise
            if not found:
                raise TaskNotFound(task_id) from error
            if found.get("claim") != token or found["status"] != "processing":
                raise TaskNotClaimable(found) from error
            task = found
        return Claim(task, token, event_seq=task["event_seq"], last_ts=task["updated_at"])

    def record_progress(self, claim: Claim) -> None:
        """Appends the claim's unwritten lines; raises ClaimLost if the task has ended."""
        self._append(claim, {}, [])

    def complete_task(self, claim: Claim, answer: Answer) -> None:
        """Writes the agent's answer, whole if it fits, and ends the task as completed.

        ``answer`` has agent_response, vendors, quotes and emails_sent. Raises ClaimLost if the task
        has ended without this worker.
        """
        self._finish(claim, {"status": "completed"}, answer)

    def fail_task(self, claim: Claim, error_message: str, answer: Answer | None = None) -> None:
        """Ends the task as error, with what the agent had answered before it failed, if anything.

        Raises ClaimLost if the task has ended without this worker.
        """
        attributes = {"status": "error", "error_message": error_message[:MAX_ERROR_CHARACTERS]}
        self._finish(claim, attributes, answer or {})

    def fail_pending_task(
        self, task_id: str, prefix: str, error_message: str, error_code: str, created_at: str = ""
    ) -> Task:
        """Ends a task that nobody has claimed; returns the task as it is now, failed or not.

        Raises TaskNotFound. ``error_code`` stays inside: it tells a repeated request why.
        """
        now = max(timestamp(self.clock()), created_at)
        attributes = {
            "status": "error",
            "error_code": error_code,
            "error_message": error_message[:MAX_ERROR_CHARACTERS],
        }
        events = [make_event(now, f"{prefix}: {error_message}", "error")]
        update = update_request(attributes, events, IS_PENDING, {":pending": "pending"})
        try:
            return self._write(task_id, update)
        except ClientError as error:
            task = refused_by(error)
            if task is None:
                raise
            if not task:
                raise TaskNotFound(task_id) from error
            return task

    # --- reads, which repair ----------------------------------------------------------------------

    def get_task(self, task_id: str, owner: str) -> Task:
        """Reads one task, consistently; raises TaskNotFound, for another owner's task too.

        An answer kept in chunks is not read yet: ``with_answer`` does that.
        """
        if not is_task_id(task_id):
            raise TaskNotFound(task_id)
        item = self.client.get_item(
            TableName=self.table_name, Key={"id": {"S": task_id}}, ConsistentRead=True
        ).get("Item")
        task = from_item(item) if item else None
        if task is None or task["owner"] != owner:
            raise TaskNotFound(task_id)
        return self._repaired(task)

    def with_answer(self, task: Task) -> Task:
        """Reads the answer of a task that keeps it in chunks; raises TaskNotFound if it is gone."""
        if not task.get("chunks"):
            return task
        ids = [chunk_id(task["id"], number) for number in range(task["chunks"])]
        found = self._batch_get(ids)
        if len(found) < len(ids):
            # The chunks were written with the task, all or nothing: only their TTL removes them.
            raise TaskNotFound(task["id"])
        text = "".join(found[chunk_id]["chunk"] for chunk_id in ids)
        answer: Answer = json.loads(text)
        return task | answer

    def list_tasks(
        self,
        owner: str,
        limit: int,
        cursor: str | None = None,
        read_json: Callable[[str], Any] = json.loads,
    ) -> tuple[list[Task], str | None]:
        """Reads a page of an owner's tasks, newest first, and the cursor of the next page if any.

        ``read_json`` gets the JSON text of vendors and quotes, for who only hands it on.
        """
        after = None if cursor is None else decode_cursor(cursor)
        try:
            keys, more = self._query_page(owner, limit, after)
        except ClientError as error:
            if not is_index_unusable(error):
                raise
            tasks, more = self._scan_page(owner, limit, after)
        else:
            found = self._batch_get([key["id"] for key in keys], LISTED_ATTRIBUTES, read_json)
            # The index lags by moments: a task may have been deleted since.
            tasks = [found[key["id"]] for key in keys if key["id"] in found]
        # A repair that somebody was faster than returns the item whole, with its agent_response.
        repaired = [self._repaired(task) for task in tasks]
        return [_listed(task) for task in repaired], more

    # --- private ----------------------------------------------------------------------------------

    def _write(self, task_id: str, update: dict[str, Any]) -> Task:
        written = self.client.update_item(**self._target(task_id), ReturnValues="ALL_NEW", **update)
        return from_item(written["Attributes"])

    def _target(self, task_id: str) -> dict[str, Any]:
        return {
            "TableName": self.table_name,
            "Key": {"id": {"S": task_id}},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def _append(
        self,
        claim: Claim,
        attributes: dict[str, Any],
        last_events: list[Event],
        chunks: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Writes the unwritten lines, ``last_events`` and ``attributes`` at once, on my claim.

        An earlier write whose answer was lost may have arrived. Then event_seq has moved by the
        lines it carried: they are taken off and the rest is written.

            mine, processing, event_seq + n   n lines had arrived: go on with the others
            mine, the status I was writing    it had all arrived
            anything else                     the task has ended without me: ClaimLost
        """
        while True:
            carried = len(claim.unwritten)
            events = claim.unwritten[:carried] + last_events
            if not events:
                return
            condition_values = {
                ":processing": "processing",
                ":claim": claim.token,
                ":seq": claim.event_seq,
            }
            update = update_request(attributes, events, IS_MINE, condition_values)
            try:
                self._write_with_chunks(claim.task["id"], update, chunks)
            except ClientError as error:
                found = refused_by(error)
                if found is None:
                    raise
                if not found or found.get("claim") != claim.token:
                    raise ClaimLost(claim.task["id"], found or None) from error
                if found["status"] == attributes.get("status"):
                    return
                arrived = found["event_seq"] - claim.event_seq
                if found["status"] != "processing" or not 0 < arrived <= carried:
                    raise ClaimLost(claim.task["id"], found) from error
                claim.settle(arrived)
            else:
                claim.settle(carried)
                return

    def _write_with_chunks(
        self, task_id: str, update: dict[str, Any], chunks: Sequence[dict[str, Any]]
    ) -> None:
        if not chunks:
            self.client.update_item(**self._target(task_id), **update)
            return
        puts = [{"Put": {"TableName": self.table_name, "Item": chunk}} for chunk in chunks]
        task_update = {"Update": {**self._target(task_id), **update}}
        self.client.transact_write_items(TransactItems=[task_update, *puts])

    def _finish(self, claim: Claim, attributes: dict[str, Any], answer: Answer) -> None:
        parts, cut = fit_answer({name: answer[name] for name in ANSWER_PARTS if name in answer})
        now = timestamp(self.clock())
        last_events = []
        if cut:
            attributes |= {"agent_response_truncated": True}
            message = f"The agent's answer was too long: {cut:,} bytes of it were cut"
            last_events.append(claim.line(now, message))
        if attributes["status"] == "completed":
            last_events.append(claim.line(now, "Agent completed task successfully", "success"))
        else:
            message = f"Agent error: {attributes['error_message']}"
            last_events.append(claim.line(now, message, "error"))
        attributes |= {"emails_sent": answer.get("emails_sent", 0)}
        texts = {
            name: part if isinstance(part, str) else dumps(part) for name, part in parts.items()
        }
        if sum(len(text.encode()) for text in texts.values()) <= MAX_INLINE_ANSWER_BYTES:
            self._append(claim, attributes | texts, last_events)
        else:
            chunks = list(chunk_items(claim.task, dumps(parts)))
            self._append(claim, attributes | {"chunks": len(chunks)}, last_events, chunks)

    def _repaired(self, task: Task) -> Task:
        """Ends a task whose deadline is past; whoever reads it first does so, once."""
        deadline = task.get("deadline")
        if task.get("status") in FINAL_STATUSES or not deadline:
            return task
        now = timestamp(self.clock())
        if now <= deadline:
            return task
        message = PENDING_EXPIRED if task["status"] == "pending" else PROCESSING_EXPIRED
        attributes = {"status": "error", "error_message": message}
        # A reader's clock may be behind the worker's; the timeline must not run backwards.
        events = [make_event(max(now, task["updated_at"]), message, "error")]
        values = {":as_read": task["status"], ":deadline_as_read": deadline}
        # Without the claim, a worker that comes back late sees that the end was not its own.
        update = update_request(attributes, events, IS_AS_READ, values, remove="claim")
        try:
            repaired = self._write(task["id"], update)
        except ClientError as error:
            found = refused_by(error)
            if found is None:
                raise
            return found or task
        log("WARNING", "task expired", outcome="expired", task_id=task["id"], was=task["status"])
        return repaired

    def _query_page(
        self, owner: str, limit: int, after: Place | None
    ) -> tuple[list[Place], str | None]:
        request = {
            "TableName": self.table_name,
            "IndexName": INDEX_NAME,
            "KeyConditionExpression": "#owner = :owner",
            "ExpressionAttributeNames": {"#owner": "owner"},
            "ExpressionAttributeValues": {":owner": {"S": owner}},
            "ScanIndexForward": False,
            # One more than the page holds tells whether there is another page.
            "Limit": limit + 1,
        }
        if after:
            request["ExclusiveStartKey"] = to_item(after | {"owner": owner})
        keys: list[Place] = []
        while len(keys) <= limit:
            page = self.client.query(**request)
            keys += map(from_item, page["Items"])
            # An index that somebody made with more than keys in it fills 1 MB sooner.
            if "LastEvaluatedKey" not in page:
                break
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]
        return keys[:limit], encode_cursor(keys[limit - 1]) if len(keys) > limit else None

    def _scan_page(
        self, owner: str, limit: int, after: Place | None
    ) -> tuple[list[Task], str | None]:
        """Lists a table that has no usable index, by reading all of it: the one Scan there is."""
        names = names_in(" ".join(f"#{name}" for name in LISTED_ATTRIBUTES))
        request = {
            "TableName": self.table_name,
            "ProjectionExpression": ",".join(names),
            # As in the index: neither a chunk nor anything else that is no task.
            "FilterExpression": "attribute_exists(#created_at)",
            "ExpressionAttributeNames": names,
        }
        tasks: list[Task] = []
        while True:
            page = self.client.scan(**request)
            tasks += map(from_item, page["Items"])
            if "LastEvaluatedKey" not in page:
                break
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]
        mine = sorted((task for task in tasks if task["owner"] == owner), key=_age_key)
        if after:
            mine = mine[: bisect_left(mine, _age_key(after), key=_age_key)]
        newest = mine[-limit:][::-1]
        return newest, encode_cursor(newest[-1]) if len(mine) > limit else None

    def _batch_get(
        self,
        ids: Sequence[str],
        attributes: Sequence[str] = (),
        read_json: Callable[[str], Any] = json.loads,
    ) -> dict[str, Task]:
        """Reads items by id, consistently, asking again for what DynamoDB leaves unprocessed."""
        projection: dict[str, Any] = {}
        if attributes:
            names = names_in(" ".join(f"#{name}" for name in attributes))
            projection = {
                "ProjectionExpression": ",".join(names),
                "ExpressionAttributeNames": names,
            }
        found: dict[str, Task] = {}
        missing = [{"id": {"S": task_id}} for task_id in ids]
        for attempt in range(BATCH_GET_ATTEMPTS):
            if not missing:
                return found
            if attempt:
                self.sleep(random.uniform(0, 0.05 * 2**attempt))
            asked, missing = missing[:BATCH_GET_KEYS], missing[BATCH_GET_KEYS:]
            request = {self.table_name: {"Keys": asked, "ConsistentRead": True} | projection}
            page = self.client.batch_get_item(RequestItems=request)
            for item in page["Responses"].get(self.table_name, []):
                task = from_item(item, read_json)
                found[task["id"]] = task
            missing += page.get("UnprocessedKeys", {}).get(self.table_name, {}).get("Keys", [])
        if missing:
            raise StoreBusy(f"{len(missing)} of {len(ids)} items were left unprocessed")
        return found


@functools.cache
def task_store() -> TaskStore:
    """The store that the environment names: DYNAMODB_TABLE_NAME, TASK_TTL_DAYS."""
    client = aws_client("dynamodb")
    client.meta.events.register("before-parse.dynamodb", read_answer)
    return TaskStore(
        client,
        os.environ.get("DYNAMODB_TABLE_NAME") or DEFAULT_TABLE_NAME,
        ttl_days=int(os.environ.get("TASK_TTL_DAYS") or 0),
    )


def _listed(task: Task) -> Task:
    return {name: value for name, value in task.items() if name in LISTED_ATTRIBUTES}


def _age_key(task: Place) -> tuple[str, str]:
    return task["created_at"], task["id"]
