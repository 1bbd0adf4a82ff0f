"""DynamoDB's form of things: attributes as items and back, expressions, cursors, chunks.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.ConditionExpressions.html

Not here: which writes there are, and what a refused one means.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError

from tasks import CHUNK_CHARACTERS, PUBLIC_OWNER, Event, Task, dumps, is_task_id

Place = dict[str, Any]  # in an owner's list: created_at and id


class InvalidCursor(ValueError):
    """A cursor that no page of this store ended with."""


def update_request(
    attributes: dict[str, Any],
    events: list[Event],
    condition: str,
    condition_values: dict[str, Any],
    remove: str = "",
) -> dict[str, Any]:
    """The UpdateItem arguments that set ``attributes`` and append ``events`` on a condition."""
    attributes = attributes | {"updated_at": events[-1]["ts"]}
    sets = [f"#{name} = :{name}" for name in attributes]
    sets.append("#events = list_append(#events, :events)")
    sets.append("#event_seq = #event_seq + :event_count")
    expression = f"SET {', '.join(sets)}" + (f" REMOVE #{remove}" if remove else "")
    values = {f":{name}": value for name, value in attributes.items()}
    values |= {":events": events, ":event_count": len(events)} | condition_values
    return {
        "UpdateExpression": expression,
        "ConditionExpression": condition,
        "ExpressionAttributeNames": names_in(f"{expression} {condition}"),
        "ExpressionAttributeValues": to_item(values),
    }


def names_in(expression: str) -> dict[str, str]:
    """The attribute names that an expression uses; all are placeholders, many are reserved words."""
    return {name: name[1:] for name in re.findall(r"#\w+", expression)}


def refused_by(error: ClientError) -> Task | None:
    """The item that refused a condition, {} if there is none; None if this is another error."""
    response: dict[str, Any] = error.response
    if response["Error"]["Code"] == "TransactionCanceledException":
        # The task's update comes first; the chunks have no condition.
        response = response.get("CancellationReasons", [{}])[0]
        code = response.get("Code")
    else:
        code = response["Error"]["Code"].removesuffix("Exception")
    if code != "ConditionalCheckFailed":
        return None
    return from_item(response["Item"]) if response.get("Item") else {}


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


def from_item(item: dict[str, Any], read_json: Callable[[str], Any] = json.loads) -> Task:
    """An item as a task. Items made before owners, and vendors kept as native lists, are read too."""
    task = {name: _plain(value) for name, value in item.items()}
    task.setdefault("owner", PUBLIC_OWNER)
    for name in ("vendors", "quotes"):
        if isinstance(task.get(name), str):
            task[name] = read_json(task[name])
    return task


def _plain(value: dict[str, Any]) -> Any:
    """A value without its type. It is called thousands of times for a list, the frequent first."""
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
    if kind == "B":
        return content if isinstance(content, bytes) else base64.b64decode(content)
    if kind == "NS":
        return [_plain({"N": number}) for number in content]
    return None if kind == "NULL" else content


def chunk_id(task_id: str, number: int) -> str:
    """The id of one piece of a long answer; no task can have it."""
    return f"{task_id}#{number}"


def chunk_items(task: Task, answer: str) -> Iterator[dict[str, Any]]:
    """The items that keep a long answer's JSON beside its task, and as long as it."""
    for number, start in enumerate(range(0, len(answer), CHUNK_CHARACTERS)):
        chunk = {
            "id": chunk_id(task["id"], number),
            "chunk": answer[start : start + CHUNK_CHARACTERS],
        }
        yield to_item(chunk | {"expires_at": task["expires_at"]} if "expires_at" in task else chunk)


def encode_cursor(task: Place) -> str:
    """The place right after ``task`` in its owner's list, opaque to clients."""
    text = dumps([task["created_at"], task["id"]])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> Place:
    """The reverse of ``encode_cursor``; names no owner, so it reaches nobody else's tasks."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        value = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError) as error:
        raise InvalidCursor("'cursor' is not one that this API gave") from error
    match value:
        case [str(created_at), task_id] if is_task_id(task_id):
            if re.fullmatch(r"[0-9TZ:.+ -]{1,40}", created_at):
                return {"created_at": created_at, "id": task_id}
    raise InvalidCursor("'cursor' is not one that this API gave")


def read_answer(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
) -> None:
    """Reads a good answer as the JSON that it is, in botocore's place.

    botocore holds every value against its model, which is most of a list's time, and changes
    nothing but base64 in it.
    """
    if response_dict["status_code"] < 300:
        customized_response_dict.update(json.loads(response_dict["body"]))
        response_dict["body"] = b"{}"
