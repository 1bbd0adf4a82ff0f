"""Reading many items: an owner's page, by the index or else by a Scan, and batches.

Not here: what a page shows, and what happens to a task whose deadline is past.
"""

from __future__ import annotations

import functools
import random
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from valro.dynamodb_items import (
    INDEX_NAME,
    PagePosition,
    encode_cursor,
    from_item,
    is_index_unusable,
    names_in,
    to_item,
)
from valro.tasks import PUBLIC_FIELDS, PUBLIC_FIELDS_ONCE_KNOWN, Task, expiry_code

# What says whether a task is over.
STATE_ATTRIBUTES = (
    "id,status,deadline,cancel_requested_at,created_at,last_report,report_until"
).split(",")
# What a list reads of a task: not agent_response, which can be hundreds of kilobytes.
LISTED_ATTRIBUTES = dict.fromkeys(
    [*PUBLIC_FIELDS, *PUBLIC_FIELDS_ONCE_KNOWN, *STATE_ATTRIBUTES, "owner"]
)
del LISTED_ATTRIBUTES["agent_response"]
MOST_KEYS_LOOKED_AT = 300
BATCH_GET_KEYS = 100
BATCH_GET_ATTEMPTS = 8


class StoreBusy(Exception):
    """DynamoDB refused it again and again."""


class PageRequest(NamedTuple):
    """Which part of an owner's list is asked for; without ``statuses``, tasks in any status.

    ``now`` decides which of them are overdue.
    """

    owner: str
    limit: int
    after: PagePosition | None
    statuses: Collection[str]
    now: str


def owner_page(
    client: Any, table_name: str, page: PageRequest, *, sleep: Callable[[float], None]
) -> tuple[list[Task], str | None]:
    """Reads a page, newest first, and the cursor of the next one, if any.

    With statuses it looks at 300 tasks at most, first only at their states, then at the whole tasks
    that match; so the page may be short, even empty, although others follow.
    """
    count = MOST_KEYS_LOOKED_AT if page.statuses else page.limit
    found: dict[str, Task] | None = None
    keys: Sequence[PagePosition]
    try:
        keys, more = _query(client, table_name, page.owner, count, page.after)
    except ClientError as error:
        if not is_index_unusable(error):
            raise
        keys, more = _scan(client, table_name, page.owner, count, page.after)
        found = {key["id"]: key for key in keys}
    read = functools.partial(batch_get, client, table_name, sleep=sleep)
    ids = [key["id"] for key in keys]
    if page.statuses:
        states = found or read(ids, STATE_ATTRIBUTES)
        ids = [one for one in ids if one in states and _state(states[one], page) in page.statuses]
        if len(ids) > page.limit:
            ids = ids[: page.limit]
            more = encode_cursor(next(key for key in keys if key["id"] == ids[-1]))
    if found is None:
        found = read(ids, LISTED_ATTRIBUTES)
    # The index lags a little: a task may have been deleted since.
    return [found[one] for one in ids if one in found], more


def _state(task: Task, page: PageRequest) -> str | None:
    """The status that a task has once it is no longer overdue."""
    return "error" if expiry_code(task, page.now) else task.get("status")


def _query(
    client: Any, table_name: str, owner: str, limit: int, after: PagePosition | None
) -> tuple[list[PagePosition], str | None]:
    """The next keys of an owner's list, newest first, and the cursor of those that follow."""
    request = {
        "TableName": table_name,
        "IndexName": INDEX_NAME,
        "KeyConditionExpression": "#owner = :owner",
        "ExpressionAttributeNames": {"#owner": "owner"},
        "ExpressionAttributeValues": {":owner": {"S": owner}},
        "ScanIndexForward": False,
        # One more than the page holds shows whether there is another page.
        "Limit": limit + 1,
    }
    if after:
        request["ExclusiveStartKey"] = to_item(after | {"owner": owner})
    keys: list[PagePosition] = []
    while len(keys) <= limit:
        page = client.query(**request)
        keys += map(from_item, page["Items"])
        # An index that somebody made with more than keys reaches 1 MB sooner.
        if "LastEvaluatedKey" not in page:
            break
        request["ExclusiveStartKey"] = page["LastEvaluatedKey"]
    return keys[:limit], encode_cursor(keys[limit - 1]) if len(keys) > limit else None


def _scan(
    client: Any, table_name: str, owner: str, limit: int, after: PagePosition | None
) -> tuple[list[Task], str | None]:
    """The same for a table without a usable index, by reading all of it: the only Scan there is."""
    names = names_in(" ".join(f"#{name}" for name in LISTED_ATTRIBUTES))
    request = {
        "TableName": table_name,
        "ProjectionExpression": ",".join(names),
        # As in the index: no chunks, and nothing else that is not a task.
        "FilterExpression": "attribute_exists(#created_at)",
        "ExpressionAttributeNames": names,
    }
    tasks: list[Task] = []
    while True:
        page = client.scan(**request)
        tasks += map(from_item, page["Items"])
        if "LastEvaluatedKey" not in page:
            break
        request["ExclusiveStartKey"] = page["LastEvaluatedKey"]
    mine = sorted((task for task in tasks if task.get("owner") == owner), key=_age_key)
    if after:
        mine = mine[: bisect_left(mine, _age_key(after), key=_age_key)]
    newest = mine[-limit:][::-1]
    return newest, encode_cursor(newest[-1]) if len(mine) > limit else None


def batch_get(
    client: Any,
    table_name: str,
    ids: Sequence[str],
    attributes: Collection[str] = (),
    *,
    sleep: Callable[[float], None],
) -> dict[str, Task]:
    """Reads items by id, consistently, and asks again for what DynamoDB leaves unprocessed."""
    projection: dict[str, Any] = {}
    if attributes:
        names = names_in(" ".join(f"#{name}" for name in attributes))
        projection = {
            "ProjectionExpression": ",".join(names),
            "ExpressionAttributeNames": names,
        }
    found: dict[str, Task] = {}
    for start in range(0, len(ids), BATCH_GET_KEYS):
        missing = [{"id": {"S": task_id}} for task_id in ids[start : start + BATCH_GET_KEYS]]
        for attempt in range(BATCH_GET_ATTEMPTS):
            if attempt:
                sleep(random.uniform(0, 0.05 * 2**attempt))
            request = {table_name: {"Keys": missing, "ConsistentRead": True} | projection}
            page = client.batch_get_item(RequestItems=request)
            for item in page["Responses"].get(table_name, []):
                task = from_item(item)
                found[task["id"]] = task
            missing = page.get("UnprocessedKeys", {}).get(table_name, {}).get("Keys", [])
            if not missing:
                break
        else:
            raise StoreBusy(f"{len(missing)} of {len(ids)} items were left unprocessed")
    return found


def _age_key(task: PagePosition) -> tuple[str, str]:
    return str(task["created_at"]), task["id"]
