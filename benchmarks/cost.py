"""What a task costs: requests, units and dollars, for the project and for the naive way.

    python -m benchmarks.cost

The real zips are run against a DynamoDB (moto) behind a ledger that sees every request, with the
item before and after it, and bills it by ``dynamodb_cost``. Prices are AWS's list prices for
us-east-1; Lambda's time is what ``python -m benchmarks`` measured here, by the share of a vCPU that
512 MB have, and the time DynamoDB takes to answer.
"""

from __future__ import annotations

import copy
import json
import re
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import botocore.session
from botocore.exceptions import ClientError
from moto import mock_aws

from benchmarks.data import DESCRIPTION, make_task, to_item
from benchmarks.dynamodb_cost import PAGE_BYTES, Bill, Item, Meter, item_size, read_units
from benchmarks.measure import child, result_of
from benchmarks.servers import AGENT_ANSWER
from benchmarks.subjects import ROOT, SUBJECTS, Subject, environment, event, prepare
from valro.dynamodb_items import TABLE_DEFINITION

BUILD = ROOT / "build/bench"
BY_NAME = {subject.name: subject for subject in SUBJECTS}
TABLE = "valro-tasks"

# Prices in dollars, us-east-1, x86, on demand.
WRITE_UNIT = 0.625e-6
READ_UNIT = 0.125e-6
GB_SECOND = 16.6667e-6
LAMBDA_REQUEST = 0.20e-6
HTTP_REQUEST = 1.00e-6

# The polling rate: what Retry-After asks for, for an agent that takes a minute. A page of the list
# is looked at once per task.
AGENT_SECONDS = 60
POLLS = 10 // 1 + 50 // 2
API_GB, WORKER_GB = 512 / 1_024, 1.0
VCPU_SHARE = 512 / 1_769
DYNAMODB_MS = 5.0

# A table with nothing but its key has no index; one index with everything in it is the usual next step.
BARE = {
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "BillingMode": "PAY_PER_REQUEST",
}


def with_whole_index(definition: dict[str, Any]) -> dict[str, Any]:
    """The same table with an index that holds whole items."""
    indexes = [
        index | {"Projection": {"ProjectionType": "ALL"}}
        for index in definition["GlobalSecondaryIndexes"]
    ]
    return definition | {"GlobalSecondaryIndexes": indexes}


WHOLE = with_whole_index(TABLE_DEFINITION)
VALRO = BY_NAME["valro"], BY_NAME["valro_worker"]
NAIVE = BY_NAME["naive"], BY_NAME["naive_worker"]
WAYS: dict[str, tuple[Subject, Subject, dict[str, Any]]] = {
    "Valro": (*VALRO, TABLE_DEFINITION),
    "Valro, index of whole items": (*VALRO, WHOLE),
    "naive, no index": (*NAIVE, BARE),
    "naive, index of whole items": (*NAIVE, WHOLE),
}


class Ledger:
    """A DynamoDB, a Lambda and an agent that bill what they are asked."""

    def __init__(self, definition: dict[str, Any], tasks: int = 0) -> None:
        self.meter = Meter.of(definition)
        self.lock = threading.Lock()
        self.invoked: list[dict[str, Any]] = []
        self.session = botocore.session.get_session()
        self.session.set_credentials("bench", "bench")
        self.client = self.session.create_client("dynamodb", region_name="us-east-1")
        self.client.create_table(TableName=TABLE, **definition)
        self.items: dict[str, Item] = {}
        for number in range(tasks):
            item = to_item(make_task(number))
            self.client.put_item(TableName=TABLE, Item=item)
            self.items[item["id"]["S"]] = item

    def take_bill(self) -> Bill:
        """The bill so far; begins a new one."""
        bill, self.meter.bill = self.meter.bill, Bill()
        return bill

    def item(self, key: Item) -> Item:
        """An item as it is, unbilled, and without asking: who waits for 3 s asks again."""
        return self.items.get(key["id"]["S"], {})

    def answer(self, path: str, headers: Message, body: bytes) -> tuple[int, bytes]:
        """Answers one request and bills it, once: a busy machine makes botocore send it again."""
        if path.startswith("/runtimes/"):
            # So long that the task has the 3.3 KB of the benchmark's.
            answer = AGENT_ANSWER | {"response": AGENT_ANSWER["response"] + "." * 700}
            return 200, json.dumps(answer).encode()
        if path.endswith("/invocations"):
            self.invoked.append(json.loads(body))
            return 202, b""
        operation = headers["X-Amz-Target"].partition(".")[2]
        with self.lock:
            bill = copy.deepcopy(self.meter.bill)
            priced = self._dynamodb(operation, json.loads(body))
            if not headers.get("amz-sdk-request", "attempt=1").startswith("attempt=1"):
                self.meter.bill = bill
            return priced

    def _dynamodb(self, operation: str, request: dict[str, Any]) -> tuple[int, bytes]:
        key = {"id": request["Item"]["id"]} if "Item" in request else request.get("Key")
        before = self.item(key) if key else {}
        method = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).lower()
        try:
            response = getattr(self.client, method)(**request)
            status = 200
        except ClientError as error:
            told = error.response["Error"]
            response, status = {"__type": told["Code"], "message": told["Message"]}, 400
        response.pop("ResponseMetadata", None)
        if key and operation in ("PutItem", "UpdateItem"):
            found = self.client.get_item(TableName=TABLE, Key=key, ConsistentRead=True)
            self.items[key["id"]["S"]] = found.get("Item", {})
        self._bill(operation, request, response, before, self.item(key) if key else {})
        return status, json.dumps(response).encode()

    def _bill(
        self,
        operation: str,
        request: dict[str, Any],
        response: dict[str, Any],
        before: Item,
        after: Item,
    ) -> None:
        consistent = request.get("ConsistentRead", False)
        match operation:
            case "PutItem" | "UpdateItem":
                self.meter.wrote(operation, before, after)
            case "GetItem":
                self.meter.got(operation, [before], consistent=consistent)
            case "BatchGetItem":
                asked = request["RequestItems"][TABLE]
                items = [self.item(each) for each in asked["Keys"]]
                self.meter.got(operation, items, consistent=asked.get("ConsistentRead", False))
            case "Query" | "Scan":
                items = response["Items"]
                if "IndexName" in request or "ProjectionExpression" in request:
                    items = [self.item(each) for each in items]
                self.meter.paged(operation, items, request.get("IndexName"), consistent=consistent)
            case _:
                raise ValueError(f"No price is known for {operation}.")


@contextmanager
def serving(ledger: Ledger) -> Iterator[int]:
    """Serves a ledger on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, answer = ledger.answer(self.path.partition("?")[0], self.headers, body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Counts:
    """The bills of one way to do it."""

    lifecycle: Bill
    poll_running: Bill
    poll_done: Bill
    page: dict[int, Bill]
    size: int


def count(
    api: Subject, worker: Subject, folders: dict[str, Path], definition: dict[str, Any], work: Path
) -> Counts:
    """Takes a task through its life, polls it and lists pages, in processes as Lambda's."""
    with mock_aws():
        ledger = Ledger(definition)
        with serving(ledger) as port:

            def run(subject: Subject, *events: dict[str, Any]) -> list[dict[str, Any]]:
                return call(subject, folders[subject.name], events, port, work)

            (created,) = run(api, event(api, "post", "", DESCRIPTION))
            task_id = json.loads(created["body"])["id"]
            lifecycle = ledger.take_bill()
            poll = event(api, "get", task_id, DESCRIPTION)
            run(api, poll)
            poll_running = ledger.take_bill()
            run(worker, ledger.invoked[0])
            worked = ledger.take_bill()
            lifecycle.requests += worked.requests
            lifecycle.write += worked.write
            lifecycle.index_write += worked.index_write
            lifecycle.operations += worked.operations
            run(api, poll)
            poll_done = ledger.take_bill()
            size = item_size(ledger.item({"id": {"S": task_id}}))
    pages = {}
    for tasks in (100, 1_000):
        with mock_aws():
            ledger = Ledger(definition, tasks)
            with serving(ledger) as port:
                page = event(api, "list", "", DESCRIPTION)
                page = page | {"queryStringParameters": {"limit": "50"}}
                call(api, folders[api.name], [page], port, work)
                pages[tasks] = ledger.take_bill()
    return Counts(lifecycle, poll_running, poll_done, pages, size)


def call(
    subject: Subject, folder: Path, events: Any, port: int, work: Path
) -> list[dict[str, Any]]:
    """Runs a subject's handler on some events; returns its answers."""
    answers: list[dict[str, Any]] = run_child(subject, folder, events, port, work)["answers"]
    return answers


def run_child(
    subject: Subject, folder: Path, events: Any, port: int, work: Path, **variables: str
) -> dict[str, Any]:
    """Runs a subject's handler on some events; returns its answers and what they took."""
    settings = environment({"http": port}, "http", work) | variables
    with child(subject, folder, events, settings) as process:
        return result_of(process, subject)


def scan_of(tasks: int, size: int) -> tuple[int, float]:
    """Requests and units of reading a whole table, eventually consistently."""
    per_page = PAGE_BYTES // size
    pages = -(-tasks // per_page)
    return pages, pages * read_units(per_page * size, consistent=False)


def dollars(counts: Counts, api_ms: dict[str, float], page_tasks: int) -> dict[str, float]:
    """Dollars per million tasks, at the polling rate above."""
    polls = (POLLS * counts.poll_running.read + counts.poll_done.read) * READ_UNIT
    requests = POLLS + 3  # the polls, the last one, the POST and a page
    lambda_ms = (
        (POLLS + 1) * billed(api_ms["get"], 1)
        + billed(api_ms["post"], 2)
        + billed(api_ms["list"] / 2, counts.page[page_tasks].requests)
    )
    worker = (AGENT_SECONDS + 0.03) * WORKER_GB * GB_SECOND
    parts = {
        "writes": counts.lifecycle.all_writes * WRITE_UNIT,
        "polls": polls,
        "page": counts.page[page_tasks].read * READ_UNIT,
        "gateway": requests * HTTP_REQUEST,
        "API Lambda": lambda_ms / 1_000 * API_GB * GB_SECOND + requests * LAMBDA_REQUEST,
        "worker Lambda": worker + LAMBDA_REQUEST,
    }
    return {name: value * 1e6 for name, value in parts.items()}


def billed(cpu_ms: float, calls: int) -> int:
    """Lambda's milliseconds for one invocation that waits for so many answers."""
    return -int(-(cpu_ms / VCPU_SHARE + calls * DYNAMODB_MS) // 1)


def measured_ms(subject: str) -> dict[str, float]:
    """A warm request's CPU milliseconds as ``python -m benchmarks`` measured them; or nothing."""
    result = BUILD / "result.json"
    if not result.is_file():
        return {}
    series = json.loads(result.read_text())["series"]
    kinds = {"get": "warm get http", "post": "warm post https", "list": "warm list http"}
    return {
        kind: statistics.median(series[key][subject]["cpu"]) * 1_000 for kind, key in kinds.items()
    }


def all_counts(chosen: Iterable[str] = WAYS) -> dict[str, Counts]:
    """The counts of the chosen ways."""
    ways = {name: WAYS[name] for name in chosen}
    folders = prepare(BUILD, {subject for way in ways.values() for subject in way[:2]})
    with tempfile.TemporaryDirectory(dir=BUILD) as work:
        return {
            name: count(api, worker, folders, definition, Path(work))
            for name, (api, worker, definition) in ways.items()
        }


def main() -> int:
    """Prints the counts; returns the exit code."""
    print("requests and units: writes of table + index; reads")
    counted = all_counts()
    for name, counts in counted.items():
        life = counts.lifecycle
        print(
            f"  {name:28} a {counts.size}-byte task: {life.requests} writes, "
            f"{life.write:g} + {life.index_write:g} units ({' '.join(life.operations)}); "
            f"a poll {counts.poll_running.read:g}, of a completed task {counts.poll_done.read:g}"
        )
        for tasks, page in counts.page.items():
            print(f"    a page of {tasks} tasks: {page.requests} requests, {page.read:g} units")
    size = counted["Valro"].size
    for tasks in (10_000, 10_000_000):
        pages, units = scan_of(tasks, size)
        print(f"  a Scan of {tasks:,} such tasks: {pages:,} requests, {units:,.0f} units")
    for name, subject in (("Valro", "valro"), ("naive, no index", "naive")):
        if api_ms := measured_ms(subject):
            parts = dollars(counted[name], api_ms, 1_000)
            told = ", ".join(f"{part} {value:.2f}" for part, value in parts.items())
            print(f"  {name}: ${sum(parts.values()):,.2f} per million tasks: {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
