"""The reporting route's double: an HTTP server on 127.0.0.1 that keeps the protocol, and breaks it.

It answers as docs/agents.md says, and judges reports by openapi.yaml. ``faults`` says what goes
wrong with the next requests, one each.
"""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any

from tests.api.contract import reference, validator
from tests.servers import Quiet, serving
from valro.tasks import dumps

MAX_BYTES = 4 * 1024 * 1024
TOKEN = "the-token-of-this-task-only-Zm9vYmFy"
REPORT = validator(reference("Report"))


@dataclass
class Task:
    """The task that is reported on."""

    cancelled: bool = False
    status: str = "processing"
    lines: list[str] = field(default_factory=list)
    answer: Any = None
    error: str = ""
    report_ids: set[str] = field(default_factory=set)


class ReportApi(ThreadingHTTPServer):
    """One task's route, and what was sent to it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.task = Task()
        self.token = TOKEN
        self.faults: list[Fault] = []
        self.received: list[dict[str, Any]] = []  # repeated ones too
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/tasks/t-1/reports"

    @property
    def payload(self) -> dict[str, Any]:
        """What the agent is invoked with."""
        report = {"url": self.url, "token": TOKEN}
        return {"prompt": "Find me a painter in Austin", "task_id": "t-1", "report": report}

    def receive(self, authorization: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Judges one report in the order of the real route: token, size, body, task."""
        task = self.task
        if authorization != f"Bearer {self.token}":
            return 401, {
                "error": "This token does not belong to this task.",
                "code": "invalid_token",
            }
        if len(body) > MAX_BYTES:
            return 413, {"error": "A report has 4 MB at most.", "code": "body_too_large"}
        report = json.loads(body)
        if not REPORT.is_valid(report):
            return 400, {"error": "This is no report.", "code": "invalid_report"}
        self.received.append(report)
        if task.status == "processing" and report["report_id"] not in task.report_ids:
            task.report_ids.add(report["report_id"])
            task.lines += report.get("messages", [])
            if "answer" in report:
                task.status, task.answer = "completed", report["answer"]
            elif "error" in report:
                task.status, task.error = "error", report["error"]
        going_on = task.status == "processing" and not task.cancelled
        return 200, {"status": task.status, "continue": going_on}


class Exchange(Quiet):
    """One request; a fault is a method that is given the exchange instead of the usual answer."""

    server: ReportApi
    sent = b""

    def reply(self) -> None:
        self.sent = self.body()
        with self.server.lock:
            fault = self.server.faults.pop(0) if self.server.faults else Exchange.usual
        fault(self)

    def usual(self) -> None:
        self.answer(*self.received())

    def received(self) -> tuple[int, dict[str, Any]]:
        with self.server.lock:
            return self.server.receive(self.headers.get("Authorization", ""), self.sent)

    def answer(self, status: int, answer: Any, **headers: str) -> None:
        body = answer if isinstance(answer, bytes) else dumps(answer).encode()
        self.send(status, body, Content_Type="application/json", **headers)

    def reset(self) -> None:
        """Drops the connection with a reset instead of an answer."""
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()


Fault = Callable[[Exchange], None]
lost_before = Exchange.reset


def lost_after(exchange: Exchange) -> None:
    """The report arrives, and the answer to it is lost."""
    exchange.received()
    exchange.reset()


def cut(exchange: Exchange) -> None:
    """The report arrives, and its answer breaks off."""
    exchange.received()
    exchange.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    exchange.close_connection = True


def garbled(exchange: Exchange) -> None:
    """Somebody else answers, with something else."""
    exchange.answer(200, b"<html>Welcome to our network</html>")


def refused(
    status: int, is_refused: Callable[[bytes], bool] = lambda _: True, **headers: str
) -> Fault:
    """A gateway answers in the API's place, if it dislikes what was sent."""

    def fault(exchange: Exchange) -> None:
        if is_refused(exchange.sent):
            exchange.answer(status, {"message": "Refused"}, **headers)
        else:
            exchange.usual()

    return fault


@contextmanager
def report_api() -> Iterator[ReportApi]:
    """Serves the route of one task until the block ends."""
    server = ReportApi()
    with serving(server):
        yield server
