"""The tasks that the stub of DynamoDB answers with, and what an API must make of them.

A task is what the sample agent of ``local/`` makes of its description: six lines of progress among
ten events, three vendors with an e-mail each, three quotes; 3.4 KB as DynamoDB counts. Its item is as
``dynamodb_helpers`` writes it; every subject of the benchmark reads this same item.
"""

from __future__ import annotations

import json
from typing import Any

Task = dict[str, Any]

TASK_COUNT = 100
NATIVE_TABLE = "native-tasks"  # where vendors and quotes are DynamoDB's own lists
PUBLIC = (
    "id,description,status,vendors,quotes,emails_sent,events,created_at,updated_at,agent_response"
).split(",")
DESCRIPTION = "Find me a landscaper in Charlotte under $300"
VENDORS = (
    ("Green Fern Landscaping", 4.8, 240),
    ("Queen City Lawn & Garden", 4.6, 275.5),
    ("Dogwood Outdoor Care", 4.4, 195),
)


def make_task(number: int) -> Task:
    """A completed task, with what is internal; ``number`` is its age in minutes."""
    hour, minute = divmod(number % 1_440, 60)
    created = f"2025-10-{31 - number // 1_440:02}T{23 - hour:02}:{59 - minute:02}:01.250000Z"
    updated = created.replace("01.250000", "41.730000")
    vendors = [
        {
            "name": name,
            "email": email_of(name),
            "service": "landscaping",
            "city": "Charlotte",
            "rating": rating,
            "price": price,
            "emails": [
                {
                    "recipient": email_of(name),
                    "subject": "A homeowner in Charlotte is looking for a landscaper",
                    "body": f"Hello {name},\n\na homeowner in Charlotte is looking for a landscaper. "
                    "The budget is $300.\nCould you tell us when you have time, and what it would "
                    "cost?\n\nValro",
                    "timestamp": "2025-10-31T12:00:20.555Z",
                }
            ],
        }
        for name, rating, price in VENDORS
    ]
    lines = [
        "Task created",
        "Worker Lambda invoked - processing started",
        "Agent processing started",
        "Looking for landscapers in Charlotte within $300",
        "Found 3 landscapers within $300",
        *(f"E-mailed {name} at {email_of(name)}" for name, _, _ in VENDORS),
        "Comparing quotes",
    ]
    events = [{"ts": created, "message": line, "type": "info"} for line in lines]
    last = {"ts": updated, "message": "Agent completed task successfully", "type": "success"}
    return {
        "id": f"3f2b8c1e-7d4a-4c55-9e1f-{number:012x}",
        "owner": "public",
        "description": DESCRIPTION,
        "status": "completed",
        "events": [*events, last],
        "event_seq": 10,
        "created_at": created,
        "updated_at": updated,
        "deadline": created.replace("T23", "T24"),
        "creation_token": "5d41402abc4b2a76b9719d911017c592",
        "claim": "7d793037a0760186574b0282f2f435e7",
        "fingerprint": "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9",
        "vendors": vendors,
        "quotes": [
            {"vendor": name, "price": price, "currency": "USD"} for name, _, price in VENDORS
        ],
        "emails_sent": 3,
        "agent_response": "I've contacted 3 landscapers in Charlotte by e-mail. The best rated is "
        "Green Fern Landscaping (4.8 of 5) at $240. The least expensive is Dogwood Outdoor Care at "
        "$195.",
    }


def email_of(vendor: str) -> str:
    """A vendor's address."""
    return f"{vendor.lower().replace(' & ', '-').replace(' ', '-')}@example.com"


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
