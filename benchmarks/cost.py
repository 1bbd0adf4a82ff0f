"""What a task costs: requests, units and dollars, for the project and for the naive way.

    python -m benchmarks.cost

The functions run in this process, on a DynamoDB of moto's. A meter sees each of their requests on
its way, with the item before and after it, and bills it by ``dynamodb_cost``; the other services'
answers are canned. Prices are AWS's list prices for us-east-1; Lambda's time is the CPU time that
``python -m benchmarks`` measured, by the share of a vCPU that the function's memory buys, and the
time DynamoDB takes to answer.
"""

from __future__ import annotations

import importlib
import io
import json
import math
import os
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.session
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from moto import mock_aws
from moto.core.models import botocore_stubber
from urllib3 import HTTPResponse

from benchmarks.data import AGENT_ANSWER, TASK, event, http_event, item_of, make_task
from benchmarks.dynamodb_cost import (
    Item,
    index_units,
    item_size,
    read_units,
    write_units,
)
from benchmarks.subjects import CONFIGURATION, RESULT
from valro.aws import aws_session
from valro.dynamodb_items import TABLE_DEFINITION

TABLE = CONFIGURATION["DYNAMODB_TABLE_NAME"]
BATCH = 25  # so many puts fit into one request

# Prices in dollars, us-east-1, on demand. Lambda reads a table's stream for nothing.
WRITE_UNIT = 0.625e-6
READ_UNIT = 0.125e-6
GB_SECOND = {"x86_64": 16.6667e-6, "arm64": 13.3334e-6}
LAMBDA_REQUEST = 0.20e-6
HTTP_REQUEST = 1.00e-6
SQS_REQUEST = 0.40e-6
EVENT = 1.00e-6

# The polling rate: what Retry-After asks for, for an agent that takes a minute. A page of the list
# is looked at once per task.
AGENT_SECONDS = 60
POLLS = 10 // 1 + 50 // 2
PAGE_TASKS = 1_000
ACCEPT_SECONDS = 1  # until an agent that reports has taken its task
WORKER_OWN_SECONDS = 0.03
API_GB, WATCHER_GB, VCPU_GB = 512 / 1_024, 256 / 1_024, 1_769 / 1_024
DYNAMODB_MS = 5.0
LOOK_SECONDS = 90  # until the watcher's first look at a task, and between two

# A table with nothing but its key, as most begin with.
BARE = {
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "BillingMode": "PAY_PER_REQUEST",
}

# So long that the task has the 3.3 KB of the benchmark's.
ANSWER = AGENT_ANSWER | {"response": AGENT_ANSWER["response"] + "." * 700}
# As many as the task of the benchmark has, and two more.
LINES = [event["message"] for event in TASK["events"][3:-1]]
LINES += ["Two have answered", "The third has answered"]

CANNED: dict[str, Any] = {
    "Invoke": {},
    "InvokeAgentRuntime": ANSWER,
    "SendMessage": {"MessageId": "1", "MD5OfMessageBody": ""},
    "PutEvents": {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]},
}

CONTEXT = SimpleNamespace(aws_request_id="", get_remaining_time_in_millis=lambda: 600_000)
Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


@dataclass
class Bill:
    """The requests that were made, and what DynamoDB bills for them."""

    operations: list[str] = field(default_factory=list)
    read: float = 0
    write: int = 0
    index_write: int = 0

    def __str__(self) -> str:
        made = ", ".join(f"{count} {name}" for name, count in Counter(self.operations).items())
        return f"{made}; {self.write} + {self.index_write} write and {self.read:g} read units"


class Meter:
    """Answers whatever botocore is about to send, and bills what is for DynamoDB."""

    def __init__(self) -> None:
        self.client = botocore.session.get_session().create_client("dynamodb")
        self.bill = Bill()
        self.indexes: list[tuple[str, ...]] = []
        self.invoked: dict[str, Any] = {}  # what the worker is to do
        self.report: dict[str, Any] = {}  # where the agent is to report
        boto3.setup_default_session(botocore_session=aws_session())
        # Both would be called otherwise, and everything written twice.
        aws_session().unregister("before-send", botocore_stubber)
        aws_session().register("before-send", self.answer)

    @contextmanager
    def table(self, definition: dict[str, Any]) -> Iterator[None]:
        """An account with one table."""
        with mock_aws():
            self.client.create_table(TableName=TABLE, **definition)
            self.indexes = [
                ("id", *(key["AttributeName"] for key in index["KeySchema"]))
                for index in definition.get("GlobalSecondaryIndexes", ())
            ]
            yield

    def fill(self, start: int, end: int) -> None:
        """Puts completed tasks into the table, unbilled."""
        for first in range(start, end, BATCH):
            tasks = map(make_task, range(first, first + BATCH))
            puts = [{"PutRequest": {"Item": item_of(task)}} for task in tasks]
            self.client.batch_write_item(RequestItems={TABLE: puts})

    @contextmanager
    def billing(self) -> Iterator[Bill]:
        """A bill of its own for the block."""
        outer, self.bill = self.bill, Bill()
        yield self.bill
        self.bill = outer

    def item(self, task_id: str) -> Item:
        """An item as it is, unbilled."""
        found = self.client.get_item(TableName=TABLE, Key={"id": {"S": task_id}})
        item: Item = found.get("Item", {})
        return item

    def answer(self, event_name: str, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        """Takes the place of botocore's connection, and of moto's."""
        operation = event_name.rpartition(".")[2]
        self.bill.operations.append(operation)
        body = request.body.read() if hasattr(request.body, "read") else request.body
        sent: dict[str, Any] = json.loads(body)
        if ".dynamodb." in event_name:
            return self._dynamodb(operation, sent, lambda: botocore_stubber(event_name, request))
        if operation == "Invoke":
            self.invoked = sent
        elif operation == "InvokeAgentRuntime":
            self.report = sent.get("report", {})
        answer = {"accepted": True} if self.report else CANNED[operation]
        headers = {"Content-Type": "application/json"}
        raw = HTTPResponse(io.BytesIO(json.dumps(answer).encode()), preload_content=False)
        return AWSResponse("", 200, headers, raw)

    def _dynamodb(
        self, operation: str, sent: dict[str, Any], send: Callable[[], AWSResponse]
    ) -> AWSResponse:
        task_id = sent.get("Item", sent.get("Key", {})).get("id", {}).get("S", "")
        before = self.item(task_id) if task_id else {}
        answer = send()
        consistent = sent.get("ConsistentRead", False)
        match operation:
            case "PutItem" | "UpdateItem":
                after = self.item(task_id)
                self.bill.write += write_units(max(item_size(before), item_size(after)))
                for keys in self.indexes:
                    self.bill.index_write += index_units(keys, before, after)
            case "GetItem":
                self.bill.read += read_units(item_size(before), consistent=consistent)
            case "BatchGetItem":
                asked = sent["RequestItems"][TABLE]
                for size in (item_size(self.item(key["id"]["S"])) for key in asked["Keys"]):
                    self.bill.read += read_units(size, consistent=asked["ConsistentRead"])
            case "Query" | "Scan" if not {"ProjectionExpression", "FilterExpression"} & {*sent}:
                size = sum(map(item_size, json.loads(answer.content)["Items"]))
                self.bill.read += read_units(size, consistent=consistent)
            case _:
                raise ValueError(f"No price is known for {operation} of {sorted(sent)}.")
        return answer


@dataclass
class Counts:
    """The bills of one way to do it."""

    life: Bill  # from the POST to the end
    poll: Bill  # while it is under way
    last_poll: Bill
    pages: dict[int, Bill]  # by how many tasks there are
    size: int
    reports: int = 0


def count(
    meter: Meter, api: str, worker: str, definition: dict[str, Any], *, reports: bool = False
) -> Counts:
    """Takes a task through its life, polls it and lists pages."""
    answer, work = handler(api), handler(worker)
    os.environ["REPORTS_BASE_URL"] = "https://example.com" if reports else ""
    said = [{"messages": [line]} for line in LINES] + [{"messages": [], "answer": ANSWER}]
    with meter.table(definition), meter.billing() as life:
        task_id = json.loads(answer(event("post"), CONTEXT)["body"])["id"]
        look = http_event("GET", f"/tasks/{task_id}")
        with meter.billing() as poll:
            answer(look, CONTEXT)
        work(meter.invoked, CONTEXT)
        for number, report in enumerate(said if reports else ()):
            body = report | {"report_id": str(number)}
            sent = http_event("POST", f"/tasks/{task_id}/reports", body)
            sent["headers"]["authorization"] = f"Bearer {meter.report['token']}"
            answer(sent, CONTEXT)
        with meter.billing() as last_poll:
            shown = json.loads(answer(look, CONTEXT)["body"])
        if shown["status"] != "completed":
            raise RuntimeError(f"The task is {shown}.")
        size = item_size(meter.item(task_id))
    pages = {}
    with meter.table(definition):
        for before, tasks in ((0, 100), (100, PAGE_TASKS)):
            meter.fill(before, tasks)
            with meter.billing() as pages[tasks]:
                answer(http_event("GET", "/tasks", limit=50), CONTEXT)
    return Counts(life, poll, last_poll, pages, size, len(said) if reports else 0)


def watch(meter: Meter) -> Bill:
    """Brings a task's beginning, its end and its message to the watcher."""
    item = item_of(TASK)
    keys = {"SequenceNumber": "1", "Keys": {"id": item["id"]}}
    images = ({**item, "status": {"S": "pending"}}, item)
    records: list[dict[str, Any]] = [{"dynamodb": keys | {"NewImage": image}} for image in images]
    records.append({"messageId": "1", "body": json.dumps({"task_id": TASK["id"]})})
    with meter.table(TABLE_DEFINITION):
        meter.fill(0, 1)
        with meter.billing() as watched:
            for record in records:
                if handler("watcher_lambda")({"Records": [record]}, CONTEXT)["batchItemFailures"]:
                    raise RuntimeError("The watcher wants to see a record again.")
    return watched


def handler(module: str) -> Handler:
    """The function that Lambda calls."""
    function: Handler = importlib.import_module(module).lambda_handler
    return function


def dollars(
    counts: Counts, cpu_ms: dict[str, float], *, processor: str = "x86_64", worker_gb: float = 1
) -> dict[str, float]:
    """Dollars per million tasks, at the polling rate above; a report takes as long as a POST."""
    gb_second, page, reports = GB_SECOND[processor], counts.pages[PAGE_TASKS], counts.reports
    requests = POLLS + 3 + reports  # the polls, the last one, the POST and a page
    api_ms = (
        (POLLS + 1) * billed_ms(cpu_ms["get"], 1, API_GB)
        + (1 + reports) * billed_ms(cpu_ms["post"], 2, API_GB)
        + billed_ms(cpu_ms["list"] / 2, len(page.operations), API_GB)
    )
    worker_seconds = WORKER_OWN_SECONDS + (ACCEPT_SECONDS if reports else AGENT_SECONDS)
    parts = {
        "writes": (counts.life.write + counts.life.index_write) * WRITE_UNIT,
        "reads": (counts.life.read + POLLS * counts.poll.read + counts.last_poll.read) * READ_UNIT,
        "page": page.read * READ_UNIT,
        "gateway": requests * HTTP_REQUEST,
        "API Lambda": api_ms / 1_000 * API_GB * gb_second + requests * LAMBDA_REQUEST,
        "worker Lambda": worker_seconds * worker_gb * gb_second + LAMBDA_REQUEST,
    }
    return {name: value * 1e6 for name, value in parts.items()}


def watching_dollars(
    watched: Bill, cpu_ms: dict[str, float], task_seconds: int
) -> dict[str, float]:
    """Dollars that the watcher adds per million tasks; a run of it takes as long as a GET."""
    looks = -(-task_seconds // LOOK_SECONDS)
    runs = 2 + looks
    run_ms = billed_ms(cpu_ms["get"], 1, WATCHER_GB)
    # A message is sent once, and received with each look; in the end it is deleted.
    messages = watched.operations.count("SendMessage") + looks + 1
    parts = {
        "Lambda": runs * (LAMBDA_REQUEST + run_ms / 1_000 * WATCHER_GB * GB_SECOND["x86_64"]),
        "SQS": messages * SQS_REQUEST,
        "EventBridge": watched.operations.count("PutEvents") * EVENT,
        "DynamoDB": looks * watched.read * READ_UNIT,
    }
    return {name: value * 1e6 for name, value in parts.items()}


def billed_ms(cpu_ms: float, calls: int, gb: float) -> int:
    """Lambda's milliseconds for one invocation that waits for so many answers."""
    return math.ceil(cpu_ms * VCPU_GB / gb + calls * DYNAMODB_MS)


def measured_ms(subject: str) -> dict[str, float]:
    """A warm request's CPU milliseconds as ``python -m benchmarks`` measured them."""
    measured = json.loads(RESULT.read_text())
    return {
        operation: statistics.median(measured[f"warm {operation}"][subject]["cpu"]) * 1_000
        for operation in ("get", "post", "list")
    }


def told(parts: dict[str, float]) -> str:
    """A sum and its parts."""
    listed = ", ".join(f"{name} {value:.2f}" for name, value in parts.items())
    return f"${sum(parts.values()):,.2f} per million ({listed})"


def main() -> int:
    """Prints the counts and what they cost; returns the exit code."""
    os.environ |= CONFIGURATION | {"WATCH_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/1/watch"}
    meter = Meter()
    naive_names = ("benchmarks.peers.naive", "benchmarks.peers.naive_worker")
    valro_names = ("lambda_function", "worker_lambda")
    with redirect_stderr(io.StringIO()):  # the functions' logs
        valro = count(meter, *valro_names, TABLE_DEFINITION)
        naive = count(meter, *naive_names, BARE)
        reporting = count(meter, *valro_names, TABLE_DEFINITION, reports=True)
        watched = watch(meter)
    for name, counts in (("Valro", valro), ("naive", naive), ("Valro, reporting", reporting)):
        print(f"{name}: a {counts.size}-byte task takes {counts.life}")
        print(f"  a poll takes {counts.poll}; the last {counts.last_poll.read:g}")
        for tasks, page in counts.pages.items():
            print(f"  a page of 50 among {tasks} takes {page}")
    print(f"the watcher takes {watched} for a task")
    if not RESULT.is_file():
        print("What that costs depends on the CPU time: run python -m benchmarks first.")
        return 0
    cpu_ms = measured_ms("valro")
    print(f"\nValro: {told(dollars(valro, cpu_ms))}")
    print(f"naive: {told(dollars(naive, measured_ms('naive')))}")
    for worker_gb in (1.0, 0.25):
        for processor in GB_SECOND:
            waiting, reported = (
                sum(dollars(each, cpu_ms, processor=processor, worker_gb=worker_gb).values())
                for each in (valro, reporting)
            )
            print(
                f"  {processor:6} {worker_gb * 1_024:5.0f} MB: waiting ${waiting:8,.2f}, "
                f"reporting ${reported:7,.2f}, {reported / waiting:.2f} of it"
            )
    for name, seconds in (("a minute", 60), ("10 minutes", 600), ("8 hours", 8 * 3_600)):
        print(f"the watcher, tasks of {name}: {told(watching_dollars(watched, cpu_ms, seconds))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
