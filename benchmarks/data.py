"""The tasks that the stub of DynamoDB answers with, and what an API must make of them.

A task is about 3.3 KB, like a real one with three vendors and a quote. Its item is as
``dynamodb_helpers`` writes it; every subject of the benchmark reads this same item.
"""

from __future__ import annotations

import json
from typing import Any

Task = dict[str, Any]

TASK_COUNT = 100
LISTED = (
    "id,description,status,vendors,quotes,emails_sent,events,created_at,updated_at,error_message,"
    "agent_response_truncated,owner,deadline,event_seq,chunks"
).split(",")
PUBLIC = (
    "id,description,status,vendors,quotes,emails_sent,events,created_at,updated_at,agent_response"
).split(",")
DESCRIPTION = "Find me a landscaper in Charlotte under $300 for a small back yard, next week"


def make_task(number: int) -> Task:
    """A completed task, with what is internal; ``number`` is its age in minutes."""
    hour, minute = divmod(number % 1_440, 60)
    created = f"2025-10-{31 - number // 1_440:02}T{23 - hour:02}:{59 - minute:02}:01.250000Z"
    updated = created.replace("01.250000", "41.730000")
    vendors = [
        {
            "name": name,
            "email": f"office@{name.lower().replace(' ', '-')}.example",
            "phone": "+1 704 555 0100",
            "services": ["lawn care", "hedges", "clean-up"],
            "rating": rating,
            "emails": [
                {
                    "recipient": f"office@{name.lower().replace(' ', '-')}.example",
                    "subject": "Request for a quote: small back yard",
                    "body": "Hello, a homeowner in Charlotte is looking for somebody to mow, edge "
                    "and clean up a small back yard next week, for less than $300. "
                    "Could you tell us your price and your first free day?",
                }
            ],
        }
        for name, rating in (("Green Acre", 4.8), ("Queen City Lawns", 4.5), ("Oak and Ivy", 4.1))
    ]
    return {
        "id": f"3f2b8c1e-7d4a-4c55-9e1f-{number:012x}",
        "owner": "public",
        "description": DESCRIPTION,
        "status": "completed",
        "events": [
            {"ts": created, "message": "Task created", "type": "info"},
            {
                "ts": created.replace("01.25", "02.25"),
                "message": "Worker Lambda invoked - processing started",
                "type": "info",
            },
            {
                "ts": created.replace("01.25", "02.25"),
                "message": "Agent processing started",
                "type": "info",
            },
            {
                "ts": updated,
                "message": "Agent completed task successfully",
                "type": "success",
            },
        ],
        "event_seq": 4,
        "created_at": created,
        "updated_at": updated,
        "deadline": created.replace("T23", "T24"),
        "creation_token": "5d41402abc4b2a76b9719d911017c592",
        "claim": "7d793037a0760186574b0282f2f435e7",
        "fingerprint": "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9",
        "vendors": vendors,
        "quotes": [{"vendor": "Green Acre", "amount": 240, "currency": "USD", "text": "$240"}],
        "emails_sent": 3,
        "agent_response": "I've contacted 3 landscaping vendors in Charlotte. " * 9,
    }


def running(task: Task) -> Task:
    """The same task while its agent works."""
    left_out = {"vendors", "quotes", "emails_sent", "agent_response"}
    events = task["events"][:3]
    still = {name: value for name, value in task.items() if name not in left_out}
    return still | {"status": "processing", "events": events, "event_seq": 3}


def public(task: Task, *, listed: bool = False) -> Task:
    """What a client sees of a completed task."""
    return {name: task[name] for name in PUBLIC if not (listed and name == "agent_response")}


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
    if isinstance(value, int):
        return {"N": str(value)}
    if isinstance(value, list):
        return {"L": [typed(element) for element in value]}
    return {"M": {name: typed(element) for name, element in value.items()}}
