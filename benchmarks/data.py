"""The tasks that the stub of AWS answers with, what an API must make of them, and what it is asked.

A task is what the sample agent of ``local/`` makes of its description: six lines of progress among
ten events, three vendors with an e-mail each, three quotes; 3.4 KB as DynamoDB counts. Its item is
as ``dynamodb_helpers`` writes it; every subject of the benchmark reads this same item.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from boto3.dynamodb.types import TypeSerializer

from valro.dynamodb_items import to_item
from valro.tasks import dumps

Task = dict[str, Any]

TASK_COUNT = 100
LISTS_TABLE = "tasks-with-lists"  # where vendors and quotes are DynamoDB's own lists
PUBLIC = (
    "id,description,status,vendors,quotes,emails_sent,events,created_at,updated_at,agent_response"
).split(",")
TASK_TEXT = Path(__file__).with_name("task.json").read_text("utf-8")
EVENT_TEXT = Path(__file__).with_name("event.json").read_text("utf-8")  # as an HTTP API sends it


def make_task(number: int) -> Task:
    """A completed task, with what is internal; ``number`` is its age in minutes."""
    hour, minute = divmod(number % 1_440, 60)
    moment = f"2025-10-{31 - number // 1_440:02}T{23 - hour:02}:{59 - minute:02}"
    task: Task = json.loads(TASK_TEXT.replace("2025-10-31T23:59", moment))
    ids = {"id": f"3f2b8c1e-7d4a-4c55-9e1f-{number:012x}"}
    return task | ids | {"deadline": task["created_at"].replace("T23", "T24")}


TASK = make_task(0)
AGENT_ANSWER = {name: TASK[name] for name in ("vendors", "quotes", "emails_sent")} | {
    "response": TASK["agent_response"]
}


def running(task: Task) -> Task:
    """The same task while its agent works."""
    left_out = {"vendors", "quotes", "emails_sent", "agent_response"}
    still = {name: value for name, value in task.items() if name not in left_out}
    return still | {"status": "processing", "events": task["events"][:3], "event_seq": 3}


def public(task: Task, *, listed: bool = False) -> Task:
    """What a client sees of a completed task."""
    return {name: task[name] for name in PUBLIC if not (listed and name == "agent_response")}


def item_of(task: Task) -> dict[str, Any]:
    """The task as DynamoDB keeps it; vendors and quotes are JSON text."""
    texts = {name: dumps(task[name]) for name in ("vendors", "quotes") if name in task}
    return to_item(task | texts)


def item_with_lists(task: Task) -> dict[str, Any]:
    """The task as boto3.resource writes it: vendors and quotes are DynamoDB's own lists."""
    exact = json.loads(dumps(task), parse_float=Decimal)
    item: dict[str, Any] = TypeSerializer().serialize(exact)["M"]
    return item


def event(operation: str) -> dict[str, Any]:
    """What Lambda hands the API for ``get``, ``post`` or ``list``, or the worker for ``run``."""
    match operation:
        case "get":
            return http_event("GET", f"/tasks/{TASK['id']}")
        case "post":
            return http_event("POST", "/tasks", {"description": TASK["description"]})
        case "list":
            return http_event("GET", "/tasks", limit=TASK_COUNT)
    created = {"task_id": TASK["id"], "created_at": TASK["created_at"]}
    return created | {"description": TASK["description"]}


def http_event(
    method: str, path: str, body: dict[str, Any] | None = None, limit: int = 0
) -> dict[str, Any]:
    """An HTTP request as Lambda hands it to the API."""
    sent: dict[str, Any] = json.loads(EVENT_TEXT)
    route = {"routeKey": f"{method} {path}"}
    sent |= route | {"rawPath": path, "rawQueryString": f"limit={limit}" if limit else ""}
    sent["requestContext"] |= route
    sent["requestContext"]["http"] |= {"method": method, "path": path}
    if limit:
        sent["queryStringParameters"] = {"limit": str(limit)}
    return sent | ({"body": json.dumps(body)} if body else {})
