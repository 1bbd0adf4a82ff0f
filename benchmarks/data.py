"""The tasks that the stub of DynamoDB answers with, and what an API must make of them.

A task is what the sample agent of ``local/`` makes of its description: six lines of progress among
ten events, three vendors with an e-mail each, three quotes; 3.4 KB as DynamoDB counts. Its item is as
``dynamodb_helpers`` writes it; every subject of the benchmark reads this same item.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Task = dict[str, Any]

TASK_COUNT = 100
NATIVE_TABLE = "native-tasks"  # where vendors and quotes are DynamoDB's own lists
PUBLIC = (
    "id,description,status,vendors,quotes,emails_sent,events,created_at,updated_at,agent_response"
).split(",")
TASK = Path(__file__).with_name("task.json").read_text("utf-8")
DESCRIPTION = json.loads(TASK)["description"]


def make_task(number: int) -> Task:
    """A completed task, with what is internal; ``number`` is its age in minutes."""
    hour, minute = divmod(number % 1_440, 60)
    moment = f"2025-10-{31 - number // 1_440:02}T{23 - hour:02}:{59 - minute:02}"
    task: Task = json.loads(TASK.replace("2025-10-31T23:59", moment))
    ids = {"id": f"3f2b8c1e-7d4a-4c55-9e1f-{number:012x}"}
    return task | ids | {"deadline": task["created_at"].replace("T23", "T24")}


def running(task: Task) -> Task:
    """The same task while its agent works."""
    left_out = {"vendors", "quotes", "emails_sent", "agent_response"}
    events = task["events"][:3]
    still = {name: value for name, value in task.items() if name not in left_out}
    return still | {"status": "processing", "events": events, "event_seq": 3}


def public(task: Task, *, listed: bool = False) -> Task:
    """What a client sees of a completed task."""
    return {name: task[name] for name in PUBLIC if not (listed and name == "agent_response")}


def to_native_item(task: Task) -> dict[str, Any]:
    """The task as boto3.resource would keep it: vendors and quotes are DynamoDB's own lists."""
    return {name: typed(value) for name, value in task.items()}


def to_item(task: Task) -> dict[str, Any]:
    """The task as DynamoDB keeps it; vendors and quotes are JSON text."""
    texts = {
        name: json.dumps(task[name], separators=(",", ":"))
        for name in ("vendors", "quotes")
        if name in task
    }
    return {name: typed(value) for name, value in (task | texts).items()}


def typed(value: Any) -> dict[str, Any]:
    """A value in DynamoDB's form."""
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, int | float):
        return {"N": str(value)}
    if isinstance(value, list):
        return {"L": [typed(element) for element in value]}
    return {"M": {name: typed(element) for name, element in value.items()}}
