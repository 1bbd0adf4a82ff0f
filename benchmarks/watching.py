"""What the watcher adds to a task's bill.

    python -m benchmarks.watching

The real function with a task of a minute: its beginning, its end, and a look 90 s after its
beginning. Every call is counted and answered at once, within the process; the CPU time is measured
around them. Busy streams and queues bring several records at once, which is cheaper.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from types import SimpleNamespace
from typing import Any

from botocore.awsrequest import AWSResponse

from benchmarks.cost import DYNAMODB_MS, GB_SECOND, LAMBDA_REQUEST, READ_UNIT
from benchmarks.data import make_task, to_item
from benchmarks.dynamodb_cost import item_size, read_units
from valro.aws import aws_session

# Prices in dollars, us-east-1. Lambda reads a table's stream for nothing.
SQS_REQUEST = 0.40e-6
EVENT = 1.00e-6
WATCHER_GB = 256 / 1_024
VCPU_SHARE = 256 / 1_769
LOOK_SECONDS = 90  # until the queue's first message, and between two
RUNS = 200

ITEM = to_item(make_task(0))
ANSWERS = {
    "GetItem": {"Item": ITEM},
    "SendMessage": {"MessageId": "1", "MD5OfMessageBody": ""},
    "PutEvents": {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]},
}


class Answer(AWSResponse):  # type: ignore[misc]  # botocore has no types
    """An answer that needs no network."""

    def __init__(self, operation: str) -> None:
        super().__init__("", 200, {}, None)
        self._content = json.dumps(ANSWERS[operation]).encode()


def records() -> list[dict[str, Any]]:
    """What comes to the function of one task, each in a call of its own."""
    keys = {"SequenceNumber": "1", "Keys": {"id": ITEM["id"]}}
    pending = {**ITEM, "status": {"S": "pending"}}
    images = [{"dynamodb": keys | {"NewImage": image}} for image in (pending, ITEM)]
    return [*images, {"messageId": "1", "body": json.dumps({"task_id": ITEM["id"]["S"]})}]


def measure() -> tuple[list[str], float]:
    """The calls that one task makes, and the CPU milliseconds of its three runs."""
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "WATCH_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/1/valro-watch",
    }
    import watcher_lambda  # noqa: PLC0415 - with the environment above

    calls: list[str] = []

    def answer(event_name: str, **_: Any) -> Answer:
        calls.append(event_name.rpartition(".")[2])
        return Answer(calls[-1])

    aws_session().register("before-send", answer)
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 15_000)
    times = []
    for _ in range(RUNS):
        calls.clear()
        start = time.process_time()
        for record in records():
            answered = watcher_lambda.lambda_handler({"Records": [record]}, context)
            if answered["batchItemFailures"]:
                raise RuntimeError("The watcher wants to see a record again.")
        times.append(time.process_time() - start)
    return calls, statistics.median(times) * 1_000


def dollars(calls: list[str], cpu_ms: float, looks: int = 1) -> dict[str, float]:
    """Dollars per million tasks, each of which is looked at so many times."""
    runs = 2 + looks
    ms = cpu_ms / 3 * runs / VCPU_SHARE + DYNAMODB_MS * runs
    # A message is sent once, and received with each look; in the end it is deleted.
    messages = calls.count("SendMessage") + looks + 1
    parts = {
        "Lambda": runs * LAMBDA_REQUEST + ms / 1_000 * WATCHER_GB * GB_SECOND,
        "SQS": messages * SQS_REQUEST,
        "EventBridge": calls.count("PutEvents") * EVENT,
        "DynamoDB": looks * read_units(item_size(ITEM), consistent=True) * READ_UNIT,
    }
    return {name: part * 1e6 for name, part in parts.items()}


def main() -> int:
    """Prints what a million tasks cost more; returns the exit code."""
    calls, cpu_ms = measure()
    print(f"a task: {', '.join(calls)}; {cpu_ms:.2f} ms of CPU time in 3 runs")
    for name, seconds in (("a minute", 60), ("10 minutes", 600), ("8 hours", 8 * 3_600)):
        parts = dollars(calls, cpu_ms, looks=-(-seconds // LOOK_SECONDS))
        told = ", ".join(f"{part} ${price:.2f}" for part, price in parts.items())
        print(f"  tasks of {name}: ${sum(parts.values()):.2f} per million more ({told})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
