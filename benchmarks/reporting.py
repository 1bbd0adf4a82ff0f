"""What an agent that reports costs, beside one that is waited for: dollars and tasks a second.

    python -m benchmarks.reporting

A task of a minute with eight lines, each of which is a report of its own, and a final report. Its
requests and units are counted as in ``cost``, the API's time is the CPU time measured here. The
agent accepts after a second, which is what the worker is billed for.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from moto import mock_aws

from benchmarks import cost
from benchmarks.data import DESCRIPTION, make_task
from benchmarks.dynamodb_cost import Bill
from benchmarks.scale import CONCURRENCY, NEW_SESSIONS_PER_SECOND, SESSIONS
from benchmarks.servers import AGENT_ANSWER
from benchmarks.subjects import event, prepare
from valro.dynamodb_items import TABLE_DEFINITION

ACCEPT_SECONDS = 1.0
WORKER_OWN_SECONDS = 0.03
ARM_SHARE = 0.8  # of x86_64's price for a GB-second
BASE_URL = "https://abcdef1234.execute-api.us-east-1.amazonaws.com"
# As many as the task of the benchmark has, and two more.
LINES = [event["message"] for event in make_task(0)["events"][3:-1]]
LINES += ["Two have answered", "The third has answered"]


class ReportingLedger(cost.Ledger):
    """One whose agent accepts, and keeps where to report."""

    report: dict[str, str]

    def answer(self, path: str, headers: Message, body: bytes) -> tuple[int, bytes]:
        """Answers one request and bills it."""
        if path.startswith("/runtimes/"):
            self.report = json.loads(body)["report"]
            return 200, b'{"accepted": true}'
        return super().answer(path, headers, body)


@dataclass
class Reporting:
    """What one task of the reporting kind takes."""

    bill: Bill  # of its life, without polls
    reports: int
    report_ms: float  # CPU time of one


def count() -> Reporting:
    """Takes a task through its life, in processes as Lambda's."""
    api, worker = cost.VALRO
    folders = prepare(cost.BUILD, {api, worker})
    with (
        mock_aws(),
        tempfile.TemporaryDirectory(dir=cost.BUILD) as work,
    ):
        ledger = ReportingLedger(TABLE_DEFINITION)
        with cost.serving(ledger) as port:

            def run(subject: Any, *events: dict[str, Any], **variables: str) -> dict[str, Any]:
                folder = folders[subject.name]
                return cost.run_child(subject, folder, events, port, Path(work), **variables)

            created = run(api, event(api, "post", "", DESCRIPTION))["answers"][0]
            task_id = json.loads(created["body"])["id"]
            accepted = run(worker, ledger.invoked[0], REPORTS_BASE_URL=BASE_URL)["answers"][0]
            if accepted["outcome"] != "accepted":
                raise RuntimeError(f"The worker says {accepted}.")
            answer = AGENT_ANSWER | {"response": AGENT_ANSWER["response"] + "." * 700}
            reports: list[dict[str, Any]] = [{"messages": [line]} for line in LINES]
            reports.append({"messages": [], "answer": answer})
            events = [
                reported(task_id, ledger.report["token"], report | {"report_id": str(number)})
                for number, report in enumerate(reports)
            ]
            done = run(api, *events)
            statuses = [json.loads(answer["body"])["status"] for answer in done["answers"]]
            if statuses != ["processing"] * len(LINES) + ["completed"]:
                raise RuntimeError(f"The reports were answered with {statuses}.")
            ms = done["others"]["cpu"] / done["others"]["calls"] * 1_000
            return Reporting(ledger.take_bill(), len(reports), ms)


def reported(task_id: str, token: str, report: dict[str, Any]) -> dict[str, Any]:
    """The event of one report."""
    sent = event(cost.VALRO[0], "post", "", DESCRIPTION)
    path = f"/tasks/{task_id}/reports"
    sent["headers"] = sent["headers"] | {"authorization": f"Bearer {token}"}
    sent["requestContext"]["http"]["path"] = path
    return sent | {
        "routeKey": "POST /tasks/{id}/reports",
        "rawPath": path,
        "body": json.dumps(report),
    }


def dollars(
    told: Reporting, waiting: dict[str, float], worker_gb: float, gb_second: float
) -> float:
    """Dollars per million tasks that are reported on; ``waiting`` is the other kind's bill."""
    report_ms = cost.billed(told.report_ms, 2)
    parts = (
        told.bill.all_writes * cost.WRITE_UNIT,
        told.bill.read * cost.READ_UNIT,
        told.reports * (cost.HTTP_REQUEST + cost.LAMBDA_REQUEST),
        told.reports * report_ms / 1_000 * cost.API_GB * gb_second,
        (ACCEPT_SECONDS + WORKER_OWN_SECONDS) * worker_gb * gb_second + cost.LAMBDA_REQUEST,
    )
    others = sum(waiting[name] for name in ("polls", "page", "gateway", "API Lambda"))
    return sum(parts) * 1e6 + others


def waiting_dollars(parts: dict[str, float], worker_gb: float, gb_second: float) -> float:
    """Dollars per million tasks whose worker waits for a minute."""
    worker = (cost.AGENT_SECONDS + WORKER_OWN_SECONDS) * worker_gb * gb_second + cost.LAMBDA_REQUEST
    return sum(parts.values()) - parts["worker Lambda"] + worker * 1e6


def limits() -> list[tuple[float, str]]:
    """Tasks a second at which each limit is met, for agents of a minute that report."""
    api_seconds = (37 + len(LINES) + 1) * 0.02
    busy = ACCEPT_SECONDS + WORKER_OWN_SECONDS + api_seconds
    return sorted(
        [
            (CONCURRENCY / busy, "Lambda: 1,000 at once, a worker for a second"),
            (NEW_SESSIONS_PER_SECOND, "AgentCore: 25 new sessions a second"),
            (SESSIONS / cost.AGENT_SECONDS, "AgentCore: 5,000 sessions that end with their task"),
        ]
    )


def main() -> int:
    """Prints the two kinds side by side; returns the exit code."""
    told = count()
    print(
        f"a reporting task: {told.bill.requests} requests to DynamoDB, {told.bill.all_writes:g} "
        f"write and {told.bill.read:g} read units, {told.reports} reports of "
        f"{told.report_ms:.2f} ms CPU time ({' '.join(told.bill.operations)})"
    )
    counts = cost.all_counts(["Valro"])["Valro"]
    parts = cost.dollars(counts, cost.measured_ms("valro"), 1_000)
    for worker_gb in (1.0, 0.25):
        for name, share in (("x86_64", 1.0), ("arm64", ARM_SHARE)):
            waiting = waiting_dollars(parts, worker_gb, cost.GB_SECOND * share)
            reporting = dollars(told, parts, worker_gb, cost.GB_SECOND * share)
            print(
                f"  {name:6} {worker_gb * 1_024:5.0f} MB: waiting "
                f"${waiting:8,.2f}, reporting ${reporting:7,.2f} per million, "
                f"{reporting / waiting:.3f} of it"
            )
    for rate, limit in limits():
        print(f"  {rate:6.1f} tasks a second: {limit}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
