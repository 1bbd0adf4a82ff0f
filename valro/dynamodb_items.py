"""Tasks in DynamoDB's form: items, expressions, cursors, chunks.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.ConditionExpressions.html

Not here: which writes there are, and what it means if one is refused.
"""

from __future__ import annotations

import base64
import json
import math
import re
from contextlib import suppress
from typing import Any, TypeGuard

from botocore.exceptions import BotoCoreError, ClientError

from valro.tasks import (
    CHUNK_CHARACTERS,
    DELETED,
    FINAL_STATUSES,
    MAX_INLINE_ANSWER_BYTES,
    PUBLIC_OWNER,
    Answer,
    Event,
    Task,
    dumps,
)

PagePosition = dict[str, Any]  # in an owner's list: created_at and id

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


# Conditions, each with the reason why it is sufficient.
# An id is used once: whoever comes second sees whose it is from the item that refused the write.
IS_NEW = "attribute_not_exists(#id)"
NOT_CANCELLED = "attribute_not_exists(#cancel_requested_at)"
# One worker wins. A pending task past its deadline may be shown as given up at any moment, so its
# agent must no longer be started.
IS_CLAIMABLE = "#status = :pending AND #deadline > :now"
# Only the holder of the claim appends to a running task, so event_seq (how many events there are)
# tells it exactly which of its lines arrived if an answer was lost.
IS_HELD = "#status = :processing AND #claim = :claim AND #event_seq = :seq"
IS_MINE_TO_CANCEL = f"{IS_HELD} AND attribute_exists(#cancel_requested_at)"
# Once its agent has accepted the task, only the agent's reports append to it.
IS_MINE = f"{IS_HELD} AND {NOT_CANCELLED} AND attribute_not_exists(#last_report)"
# After the deadline a reader may have said that the agent is not running.
IS_MINE_IN_TIME = f"{IS_MINE} AND #deadline > :now"
# Reports have no claim: each depends on the one before it, and on no requested cancellation.
IS_LAST_REPORT = (
    "#status = :processing AND #last_report = :last_as_read AND #deadline = :deadline_as_read "
    f"AND {NOT_CANCELLED}"
)
IS_LAST_CANCELLED = IS_LAST_REPORT.replace("_not_exists", "_exists")
# Nobody has claimed it, so nobody ever will: the agent was not started.
IS_PENDING = "#status = :pending"
# The first request counts: the time that the end may take is counted from it.
IS_RUNNING_ON = f"#status = :processing AND {NOT_CANCELLED}"
# The task is still the one that was judged overdue.
STATUS_AND_DEADLINE_UNCHANGED = "#status = :as_read AND #deadline = :deadline_as_read"
STATUS_UNCHANGED = "#status = :as_read"
# A task is followed once. The status and answer of a task that has ended do not change, so what its
# follower took from it is still true, unless it was deleted.
IS_UNFOLLOWED = f"{STATUS_UNCHANGED} AND attribute_not_exists(#followed_by)"
IS_FOLLOWED_AS_READ = f"{STATUS_UNCHANGED} AND #followed_by = :followed_as_read"

# Lists that are kept as JSON text.
JSON_LISTS = ("vendors", "quotes", "interrupts", "history", "resume")
UNREAD = "Unread"
MAX_CHUNKS = 100  # the most items that a transaction has, including the task
MAX_SORT_KEY_BYTES = 1_024


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is not a JSON number")
    return number


# Python accepts NaN and infinities, which no browser does.
DECODER = json.JSONDecoder(parse_constant=_finite, parse_float=_finite)


class InvalidCursor(ValueError):
    """A cursor that this store never gave out."""


class UnreadableReply(BotoCoreError):  # type: ignore[misc]  # botocore has no types
    """DynamoDB, or something in its place, sent a successful answer that is not JSON."""

    fmt = "DynamoDB's answer cannot be read"


def update_request(
    attributes: dict[str, Any],
    events: list[Event],
    condition: str,
    condition_values: dict[str, Any],
    remove: str = "",
) -> dict[str, Any]:
    """The UpdateItem arguments that set ``attributes`` and append ``events`` on a condition."""
    values = attributes | condition_values
    if events:
        attributes = attributes | {"updated_at": events[-1]["ts"]}
        if attributes.get("status") in FINAL_STATUSES:
            attributes["completed_at"] = events[-1]["ts"]
        values |= attributes | {"events": events, "event_count": len(events), "none": [], "zero": 0}
    sets = [f"#{name} = :{name}" for name in attributes]
    if events:
        # An item that something else wrote may have neither.
        sets.append("#events = list_append(if_not_exists(#events, :none), :events)")
        sets.append("#event_seq = if_not_exists(#event_seq, :zero) + :event_count")
    expression = f"SET {', '.join(sets)}" + (f" REMOVE #{remove}" if remove else "")
    return {
        "UpdateExpression": expression,
        "ConditionExpression": condition,
        "ExpressionAttributeNames": names_in(f"{expression} {condition}"),
        "ExpressionAttributeValues": to_item({f":{name}": values[name] for name in values}),
    }


def put_new_request(table_name: str, task: Task) -> dict[str, Any]:
    """The PutItem arguments that write a task with a new id."""
    return {
        "TableName": table_name,
        "Item": to_item(task),
        "ConditionExpression": IS_NEW,
        "ExpressionAttributeNames": names_in(IS_NEW),
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def target(table_name: str, task_id: str) -> dict[str, Any]:
    """The arguments that name the item of an update, and have a refusal return it."""
    return {
        "TableName": table_name,
        "Key": {"id": {"S": task_id}},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def names_in(expression: str) -> dict[str, str]:
    """The attribute names that an expression uses, as placeholders, since many are reserved words."""
    return {name: name[1:] for name in re.findall(r"#\w+", expression)}


def item_that_failed_condition(error: ClientError, position: int = 0) -> Task | None:
    """The task that refused a condition, {} if there is none; None if this is another error.

    ``position``: the item's in its transaction.
    """
    if not is_genuine_aws_error(error):
        return None
    response: dict[str, Any] = error.response
    if response["Error"]["Code"] == "TransactionCanceledException":
        reasons = response.get("CancellationReasons", [])[position : position + 1]
        response = reasons[0] if reasons else {}
        code = response.get("Code")
    else:
        code = response["Error"]["Code"].removesuffix("Exception")
    if code != "ConditionalCheckFailed":
        return None
    return from_item(response["Item"]) if response.get("Item") else {}


def is_genuine_aws_error(error: Exception, *others: int) -> TypeGuard[ClientError]:
    """Whether it is the service's own refusal: DynamoDB's is a 400, ``others`` may have others.

    Anything in between can put any code into the body of a 403 or a 502.
    """
    if not isinstance(error, ClientError):
        return False
    metadata: dict[str, Any] = error.response.get("ResponseMetadata", {})
    return metadata.get("HTTPStatusCode", 400) in (400, *others)


def is_permanent_rejection(error: Exception) -> bool:
    """Whether DynamoDB will never take what it refused: an answer that is too large, for example."""
    if not is_genuine_aws_error(error):
        return False
    reasons = error.response.get("CancellationReasons", [])
    return error.response["Error"]["Code"] == "ValidationException" or any(
        reason.get("Code") == "ValidationError" for reason in reasons
    )


def is_transaction_conflict(error: ClientError) -> bool:
    """Whether DynamoDB refused a write because a transaction held one of its items just then."""
    if not is_genuine_aws_error(error):
        return False
    codes = [reason.get("Code") for reason in error.response.get("CancellationReasons", [])]
    return error.response["Error"]["Code"] == "TransactionConflictException" or (
        "TransactionConflict" in codes and set(codes) <= {"TransactionConflict", "None"}
    )


def is_index_unusable(error: ClientError) -> bool:
    """Whether a Query failed because the table lacks the index or is still filling it."""
    text = error.response["Error"]
    return text["Code"] == "ValidationException" and "index" in text.get("Message", "").lower()


def to_item(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes in DynamoDB's typed form; raises TypeError for what has none."""
    return {name: _typed(value) for name, value in attributes.items()}


def _typed(value: Any) -> dict[str, Any]:
    match value:
        case str():
            return {"S": value}
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case list():
            return {"L": [_typed(element) for element in value]}
        case dict():
            return {"M": to_item(value)}
    raise TypeError(f"No DynamoDB form for {type(value).__name__}")


def from_item(item: dict[str, Any]) -> Task:
    """An item as a task, also one from before there were owners, or with native lists of vendors.

    A tombstone has no owner. A task without a status counts as pending. Vendors and quotes that are
    not lists are left out.
    """
    task: Task = _plain({"M": item})
    if not isinstance(task.get("status"), str):
        task["status"] = "pending"
    if task["status"] != DELETED:
        task.setdefault("owner", PUBLIC_OWNER)
    if task.get("chunks", 0) not in range(MAX_CHUNKS):
        del task["chunks"]
    if not isinstance(task.get("expires_at", 0), int):
        del task["expires_at"]
    for name in JSON_LISTS:
        value = task.get(name, [])
        if isinstance(value, str):
            value = task[name] = _json_or_none(value)
        if not isinstance(value, list):
            del task[name]
    return task


def _json_or_none(text: str) -> Any:
    with suppress(ValueError, RecursionError):
        return DECODER.decode(text)
    return None


def _plain(value: dict[str, Any]) -> Any:
    """A value without its type: called thousands of times for a list, frequent types first."""
    ((kind, content),) = value.items()
    if kind == "S":
        return content
    if kind == "M":
        return {
            name: element["S"] if "S" in element else _plain(element)
            for name, element in content.items()
        }
    if kind == "L":
        return [_plain(element) for element in content]
    if kind == "N":
        return int(content) if re.fullmatch(r"-?\d+", content) else float(content)
    if kind in ("NS", "BS"):
        return [_plain({kind[0]: element}) for element in content]
    if kind == "B" and isinstance(content, bytes):  # something else wrote it, and it is not JSON
        return base64.b64encode(content).decode()
    return None if kind == "NULL" else content


def chunk_id(task_id: str, number: int) -> str:
    """The id of one chunk of a long answer; no task can have it."""
    return f"{task_id}#{number}"


def kept_answer(task: Task, parts: Answer) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The attributes that hold an answer; or, if it is long, the items beside its task that do."""
    texts = {name: part if isinstance(part, str) else dumps(part) for name, part in parts.items()}
    if sum(len(text.encode()) for text in texts.values()) <= MAX_INLINE_ANSWER_BYTES:
        return texts, []
    # They live as long as the task.
    ttl = {"expires_at": task["expires_at"]} if "expires_at" in task else {}
    whole = dumps(parts)
    pieces = [whole[at : at + CHUNK_CHARACTERS] for at in range(0, len(whole), CHUNK_CHARACTERS)]
    chunks = [
        to_item({"id": chunk_id(task["id"], number), "chunk": piece} | ttl)
        for number, piece in enumerate(pieces)
    ]
    return {"chunks": len(chunks)}, chunks


def encode_cursor(task: PagePosition) -> str:
    """The position right after ``task`` in its owner's list, opaque to clients."""
    text = dumps([task["created_at"], task["id"]])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> PagePosition:
    """The reverse of ``encode_cursor``; it names no owner, so it reaches nobody else's tasks."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        value = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError) as error:
        raise InvalidCursor("'cursor' is not one that this API gave out") from error
    match value:
        # Items that something else wrote have other forms of times and ids.
        case [str(created_at), str(task_id)] if all(map(_is_key, (created_at, task_id))):
            return {"created_at": created_at, "id": task_id}
    raise InvalidCursor("'cursor' is not one that this API gave out")


def _is_key(text: str) -> bool:
    """Whether text can be a key in DynamoDB, and is not a chunk's."""
    size = len(text.encode(errors="replace"))
    return 0 < size <= MAX_SORT_KEY_BYTES and not re.search("[#\ud800-\udfff]", text)


def read_answers_fast(client: Any) -> None:
    """Makes a DynamoDB client read its answers as plain JSON.

    botocore compares every value with its model, which is most of a list's time, and changes only
    base64. An answer that is not JSON is asked for once more, as botocore does if a checksum is
    wrong; if the last try is unreadable too, UnreadableReply is raised.
    """
    client.meta.events.register("before-parse.dynamodb", _read)
    client.meta.events.register("needs-retry.dynamodb", _ask_again)
    client.meta.events.register("after-call.dynamodb", _refuse_unread)


def _read(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
) -> None:
    answer: Any = None
    with suppress(ValueError, RecursionError):
        answer = json.loads(response_dict["body"])
    is_good = response_dict["status_code"] < 300
    if is_good:
        customized_response_dict.update(answer if isinstance(answer, dict) else {UNREAD: True})
    if is_good or not isinstance(answer, dict):
        # botocore's own parser fails on what is not text, or not an object.
        response_dict["body"] = b"{}"


def _ask_again(response: Any, attempts: int, **_: Any) -> int | None:
    return 0 if response and UNREAD in response[1] and attempts == 1 else None


def _refuse_unread(parsed: dict[str, Any], **_: Any) -> None:
    if UNREAD in parsed:
        raise UnreadableReply
